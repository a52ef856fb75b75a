"""Marts about the course of things: when people write, how far conversations come, and what they are like.

Only declarations belong here; the rules of `schemas.marts` hold.
"""

from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.columns import COUNT, TEXT
from cai_assets.schemas.mart_columns import CHANNEL, LANGUAGE, MONTH, report_date
from cai_assets.schemas.metrics import measure

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
        measure("local_hour_s", "seconds"),
    ),
    key=("report_date", "local_hour", "local_isodow"),
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
        measure("hours_shown", "hours"),
        measure("messages"),
        measure("user_messages"),
        measure("conversations_started", "conversations"),
        measure("waits"),
        measure("response_n", "reply_n"),
        measure("response_sum_s", "reply_sum_s"),
        measure("reply_p50_s"),
        measure("reply_p90_s"),
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
        measure("conversations_started", "started"),
        *(
            measure(f"funnel_{step}", step)
            for step in (
                *("bot_answered", "handed_off", "agent_answered", "resolved", "durable", "csat_answered"),
                *("undecided", "contained", "contained_durable", "contained_csat_answered"),
            )
        ),
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
        measure("conversations_started", "conversations"),
        measure("active_sum_s"),
        measure("active_p50_s"),
        measure("active_p90_s"),
        measure("messages", note="Here of the row's conversations, on whatever day."),
        measure("conversation_messages_p50", "messages_p50"),
        measure("conversation_messages_p90", "messages_p90"),
        measure("waits", "user_turns", note="Here of the row's conversations, on whatever day."),
        measure("several_agents"),
        measure("language_known"),
        measure("language_mixed"),
    ),
    key=("report_date", "channel", "language"),
    partition_by="month",
)

TABLES = (LOCAL_HOUR, HEATMAP, FUNNEL, HANDLING)
