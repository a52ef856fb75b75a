"""Metrics of the course of conversations: when they come, how far they get, what they are like."""

from cai_assets.schemas.metrics.declaring import (
    NUMBER,
    Metric,
    conversations,
    quantile,
    ratio,
    statistic,
    total,
)

_TALKS = "facts.fct_conversation where is_counted and not is_empty"


def _step(name: str, title: str, definition: str) -> Metric:
    return conversations(f"funnel_{name}", title, definition, mart="funnel", column=name)


_FUNNEL = (
    _step(
        "bot_answered",
        "Answered by a bot",
        "Conversations in which a bot wrote at or after the user's first message; those with the entry "
        "direct pass.",
    ),
    _step(
        "handed_off",
        "Handed to people",
        "Of those answered by a bot: a status event from pending to open, or an agent answered after the "
        "bot; those with the entry direct pass.",
    ),
    _step(
        "agent_answered",
        "Answered by people",
        "Of those handed to people: an agent wrote at or after the user's first message.",
    ),
    _step("resolved", "Resolved by people", "Of those answered by people: resolved at least once."),
    _step(
        "durable",
        "Durably resolved by people",
        "Of those resolved by people: the last resolve has stood for 7 days at as_of.",
    ),
    _step("csat_answered", "Durable and rated", "Of those durably resolved by people: rated by the user."),
    _step(
        "undecided",
        "Not yet durable",
        "Resolved by people or contained, and the last resolve stands, though not yet for 7 days at as_of.",
    ),
    _step(
        "contained",
        "Contained by bots",
        "Of those answered by a bot: resolved, and neither handed over nor answered by an agent.",
    ),
    _step(
        "contained_durable",
        "Durably contained",
        "Of those contained by bots: the last resolve has stood for 7 days at as_of.",
    ),
    _step(
        "contained_csat_answered",
        "Durably contained and rated",
        "Of those durably contained: rated by the user.",
    ),
)

METRICS = (
    *_FUNNEL,
    total(
        "local_hour_s",
        "Length of the hour",
        "Time for which the clocks of REPORT_TIMEZONE showed the hour: 3,600 s, but for changes of the "
        "clocks.",
        unit="s",
        sql="select sum(seconds) from marts.local_hour",
    ),
    Metric(
        name="hours_shown",
        title="Hours of the kind",
        definition=(
            "Hours of that day of the week and hour that the clocks of REPORT_TIMEZONE showed in the month, "
            "from the first day with traffic to the last. The same for every channel and language, so it "
            "adds up over hours and months alone."
        ),
        unit="h",
        sql="select sum(seconds) / 3600 from marts.local_hour",
        type=NUMBER,
        additive=False,
        heading="Hours",
    ),
    Metric(
        name="messages_per_hour",
        title="Messages to expect",
        definition="Messages over the hours of the kind that there were: what to expect of one of them.",
        unit="messages/h",
        sql=(
            "select sum(m.messages) / max(h.hours) from marts.heatmap as m "
            "cross join (select sum(seconds) / 3600 as hours from marts.local_hour) as h"
        ),
        type=NUMBER,
        nullable=True,
        additive=False,
        numerator="messages",
        denominator="hours_shown",
    ),
    total(
        "active_sum_s",
        "Handling time",
        "Sum of the gaps between the counted messages of the conversations, each at most 300 s.",
        unit="s",
        sql="select sum(active_sum_s) from marts.handling",
        facts=f"select sum(active_s) from {_TALKS}",
        type=NUMBER,
    ),
    *(
        statistic(
            f"active_p{q}_s",
            f"Handling time, {name.lower()}",
            f"{name} of the conversations' handling time: the gaps between counted messages, each at most "
            f"300 s.",
            sql=quantile("active_s", q / 100, _TALKS),
            nullable=False,
        )
        for q, name in ((50, "Median"), (90, "90th percentile"))
    ),
    *(
        statistic(
            f"conversation_messages_p{q}",
            f"Depth, {name.lower()}",
            f"{name} of the counted messages of a conversation.",
            sql=quantile("messages", q / 100, _TALKS),
            unit="messages",
            nullable=False,
        )
        for q, name in ((50, "Median"), (90, "90th percentile"))
    ),
    conversations(
        "several_agents",
        "With several agents",
        "Conversations in which more than one agent wrote.",
        mart="handling",
        facts=f"select count(*) from {_TALKS} and agents > 1",
    ),
    conversations(
        "language_known",
        "Language known",
        "Conversations with a message of the user whose language is known.",
        mart="handling",
        facts=f"select count(*) from {_TALKS} and languages > 0",
    ),
    conversations(
        "language_mixed",
        "Languages mixed",
        "Conversations whose user wrote in more than one language.",
        mart="handling",
        facts=f"select count(*) from {_TALKS} and languages > 1",
    ),
    ratio(
        "language_mix_rate",
        "Languages mixed, share",
        "Share of the conversations in a known language whose user wrote in more than one.",
        numerator="language_mixed",
        denominator="language_known",
        mart="handling",
    ),
)
