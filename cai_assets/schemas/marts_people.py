"""Marts about people: who of the staff did what, and which users came and came back.

Only declarations belong here; the rules of `schemas.marts` hold. Ids of users are keyed hashes, those of the
staff are as the source gives them.
"""

from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.columns import COUNT, DATE, FLAG, TEXT, count, instant
from cai_assets.schemas.mart_columns import CHANNEL, LANGUAGE, MONTH, report_date
from cai_assets.schemas.metrics import measure

AGENT_TYPES = ("agent", "bot", "other")
CREDITED = ("agent", "bot", "nobody")
GRAINS = ("day", "week", "month")
COHORTS = ("week", "month")

AGENT = Table(
    layer="marts",
    name="agent",
    description="What each agent and each bot did, per local day.",
    columns=(
        MONTH,
        report_date(
            "Local day: of messages, transfers and time, when they happened; of waits, when they began; of "
            "conversations, that of this one's first message in it; of resolutions and satisfaction, that of "
            "the conversation's first message."
        ),
        Column(
            "agent_type",
            TEXT,
            "agent: a person; bot; other: resolved by someone who is no staff, as the system or the user.",
            values=AGENT_TYPES,
        ),
        Column(
            "agent_id",
            TEXT,
            "Who; `unknown` where the source does not name the writer, `other` where it is no staff.",
        ),
        measure("agent_conversations", "conversations"),
        measure("agent_conversation_share", "conversation_share"),
        measure("agent_conversations_active", "conversations_active"),
        measure("messages", note="Here those this one wrote."),
        measure(
            "response_n", "waits_answered", note="Here those this one answered first, whoever was assigned."
        ),
        measure("response_sum_s", "reply_sum_s"),
        measure("reply_p50_s"),
        measure("reply_p90_s"),
        measure("transfers_in"),
        measure("transfers_out"),
        measure(
            "resolution_events",
            note=(
                "Each credited to the actor of its own event; where it names none, to the last agent who "
                "wrote, else the last bot."
            ),
        ),
        measure(
            "resolved",
            "resolutions",
            note=(
                "Credited to the actor of the last resolve alone; where no event names one, to the last "
                "agent who wrote, else the last bot."
            ),
        ),
        measure("resolution_users", note="Here those of the conversations in `resolutions`."),
        measure("undone"),
        measure("csat_answered", note="Credited to the last agent who wrote, else the last bot."),
        measure("csat_positive"),
        measure("concurrent_max"),
        measure("agent_active_s", "active_s"),
    ),
    key=("report_date", "agent_type", "agent_id"),
    partition_by="month",
)

CSAT = Table(
    layer="marts",
    name="csat",
    description=(
        "Answers to the satisfaction survey per local day of the conversation's first message, channel, "
        "language and credited side."
    ),
    columns=(
        MONTH,
        report_date("Local day of the conversation's first counted message."),
        CHANNEL,
        LANGUAGE,
        Column(
            "credited",
            TEXT,
            "agent where one wrote, else bot where one wrote, else nobody.",
            values=CREDITED,
        ),
        measure("conversations_started", "conversations"),
        measure("csat_answered", "answered"),
        measure("csat_positive", "positive"),
        measure("csat_negative", "negative"),
        measure("csat_score_sum", "score_sum"),
    ),
    key=("report_date", "channel", "language", "credited"),
    partition_by="month",
)

SESSION = Table(
    layer="marts",
    name="session",
    description="One row per session: a user's own messages, no silence longer than SESSION_GAP_MINUTES.",
    columns=(
        MONTH,
        report_date("Local day on which it began, also where it crosses midnight."),
        Column("user_id", TEXT, "The user (keyed hash)."),
        count("session_no", "Place among the user's sessions, from 1.", "place"),
        instant("started_us", "First message."),
        instant("ended_us", "Last message."),
        measure("session_s", "duration_s"),
        measure("user_messages", "messages"),
    ),
    key=("user_id", "session_no"),
    partition_by="month",
)

ACTIVE_USERS = Table(
    layer="marts",
    name="active_users",
    description=(
        "Distinct users who wrote, per local day, ISO week and month; zeros where nobody did. Distinct users "
        "of a period are not the sum of its days', so each length has rows of its own."
    ),
    columns=(
        MONTH,
        Column("grain", TEXT, "Length of the period.", values=GRAINS),
        report_date("First local day of the period; of a week its Monday."),
        measure("users_writing", "users"),
        measure("new_users"),
        measure("returning_users"),
        measure("sessions", note="Here those that began in the period."),
    ),
    key=("grain", "report_date"),
    partition_by="month",
)

RETENTION = Table(
    layer="marts",
    name="retention",
    description=(
        "How many users of a cohort wrote again k weeks (or months) later. A triangle: a row for every k up "
        "to the last period with a message."
    ),
    columns=(
        Column("grain", TEXT, "Length of the periods.", values=COHORTS),
        Column(
            "cohort_date",
            DATE,
            "First local day of the period that the user first wrote in; Monday of a week.",
        ),
        Column("k", COUNT, "Periods since then; 0 is the cohort's own.", "periods"),
        measure("cohort_users", "users"),
        measure("retained_users", "retained"),
        Column("is_settled", FLAG, "The k-th period is over: a later one has a message."),
    ),
    key=("grain", "cohort_date", "k"),
    partition_by=None,
)

TABLES = (AGENT, CSAT, SESSION, ACTIVE_USERS, RETENTION)
