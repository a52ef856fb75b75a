"""Marts about the course of things: when people write, how far conversations come, and what they are like.

Only declarations belong here; the rules of `schemas.marts` hold.
"""

import pyarrow as pa

from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.facts import COUNT, TEXT, count, seconds
from cai_assets.schemas.mart_columns import CHANNEL, LANGUAGE, MONTH, conversations, report_date

ENTRIES = ("bot", "direct")

LOCAL_HOUR = Table(
    layer="marts",
    name="local_hour",
    description=(
        "The hours that the clocks of REPORT_TIMEZONE showed, from the first day with traffic to the last: "
        "one that a change of the clocks skips has no row, one that it repeats is longer."
    ),
    columns=(
        MONTH,
        report_date("Local day."),
        Column("local_hour", COUNT, "Local hour, 0 to 23.", "h"),
        Column("local_isodow", COUNT, "Local day of the week, 1 (Monday) to 7.", "weekday"),
        Column("seconds", COUNT, "How long it lasted.", "s"),
    ),
    key=("report_date", "local_hour"),
    partition_by="month",
)

HEATMAP = Table(
    layer="marts",
    name="heatmap",
    description=(
        "Traffic by local day of the week and hour, per month, channel and language; a row of zeros for "
        "every hour of the week that occurred and every pair of channel and language that ever occurs."
    ),
    columns=(
        Column("month", TEXT, "Month of the messages' and waits' local day, as `YYYY-MM`."),
        Column("local_isodow", COUNT, "Local day of the week, 1 (Monday) to 7.", "weekday"),
        Column("local_hour", COUNT, "Local hour, 0 to 23.", "h"),
        CHANNEL,
        LANGUAGE,
        Column(
            "hours",
            pa.float64(),
            "Hours of that kind that the clocks showed in the month, between the first and the last day with "
            "traffic: the denominator of what to expect of one. The same for all channels and languages; "
            "not to be added over them.",
            "h",
        ),
        count("messages", "Counted messages, all senders."),
        count("user_messages", "Those of users."),
        conversations("conversations", "Conversations whose first counted message falls here."),
        count("waits", "User turns that began here.", "turns"),
        count("reply_n", "Those of them that were answered.", "waits"),
        seconds("reply_sum_s", "Sum of their durations; with reply_n, the mean of any rows."),
        seconds("reply_p50_s", "Median from the start of the turn to its answer."),
        seconds("reply_p90_s", "90th percentile of the same."),
    ),
    key=("month", "local_isodow", "local_hour", "channel", "language"),
    partition_by="month",
)

FUNNEL = Table(
    layer="marts",
    name="funnel",
    description=(
        "How far conversations came, per ISO week of the first message, channel, language, category and "
        "entry. Every step counts those of the step before that took this one too, so sums fall as well."
    ),
    columns=(
        MONTH,
        report_date("Monday of the week of the conversation's first counted message."),
        CHANNEL,
        LANGUAGE,
        Column(
            "category", TEXT, "fct_conversation.category; `uncategorised` where nothing decided about it yet."
        ),
        Column(
            "entry",
            TEXT,
            "bot: one wrote, and no agent answered the user before it did; direct: the others, which pass "
            "bot_answered and handed_off as there was no bot to pass.",
            values=ENTRIES,
        ),
        conversations("started", "Conversations with a counted message."),
        conversations("bot_answered", "A bot wrote at or after the user's first message; direct ones pass."),
        conversations(
            "handed_off",
            "Of these, handed over: a status event from pending to open, or an agent answered after the bot; "
            "direct ones pass.",
        ),
        conversations("agent_answered", "Of these, an agent wrote at or after the user's first message."),
        conversations("resolved", "Of these, resolved at least once."),
        conversations(
            "durable", "Of these, not reopened within 7 days of the last resolve, which are past at as_of."
        ),
        conversations("csat_answered", "Of these, rated."),
        conversations("undecided", "Resolved ones that stand, though not yet for 7 days at as_of."),
        conversations(
            "contained",
            "Those that a bot answered, nobody handed over or took, and were resolved: they leave the steps "
            "after bot_answered.",
        ),
        conversations("contained_durable", "Of these, durable."),
        conversations("contained_csat_answered", "Of these, rated."),
        conversations("contained_undecided", "Contained ones that stand, though not yet for 7 days."),
    ),
    key=("report_date", "channel", "language", "category", "entry"),
    partition_by="month",
)

HANDLING = Table(
    layer="marts",
    name="handling",
    description=(
        "What conversations were like, per local day of the first message, channel and language: time, "
        "depth, agents, mixed languages."
    ),
    columns=(
        MONTH,
        report_date("Local day of the conversation's first counted message."),
        CHANNEL,
        LANGUAGE,
        conversations("conversations", "All of them, empty ones apart: the denominator of means and shares."),
        Column(
            "active_sum_s",
            pa.float64(),
            "Sum of the gaps between counted messages, each at most 300 s (fct_conversation.active_s).",
            "s",
        ),
        Column("active_p50_s", pa.float64(), "Median of the same by conversation.", "s"),
        Column("active_p90_s", pa.float64(), "90th percentile of the same.", "s"),
        count("messages", "Counted messages of these conversations, on whatever day."),
        Column("messages_p50", pa.float64(), "Median of the messages of a conversation.", "messages"),
        Column("messages_p90", pa.float64(), "90th percentile of the same.", "messages"),
        count("user_turns", "Turns of users.", "turns"),
        conversations("several_agents", "Those in which more than one agent wrote."),
        conversations(
            "language_known", "Those with a user's message in a known language: the denominator of the next."
        ),
        conversations("language_mixed", "Those whose user wrote in more than one language."),
    ),
    key=("report_date", "channel", "language"),
    partition_by="month",
)

TABLES = (LOCAL_HOUR, HEATMAP, FUNNEL, HANDLING)
