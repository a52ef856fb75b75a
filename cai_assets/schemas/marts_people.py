"""Marts about people: who of the staff did what, and which users came and came back.

Only declarations belong here; the rules of `schemas.marts` hold. Ids of users are keyed hashes, those of the
staff are as the source gives them.
"""

import pyarrow as pa

from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.facts import COUNT, DATE, FLAG, TEXT, count, instant, seconds
from cai_assets.schemas.mart_columns import CHANNEL, LANGUAGE, MONTH, conversations, report_date

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
        conversations("conversations", "Conversations whose first message of this one falls on the day."),
        Column(
            "conversation_share",
            pa.float64(),
            "The same, each as 1 / the agents (bots) who wrote in it: sums to the conversations with an "
            "agent (a bot). Exact for up to 16.",
            "conversations",
        ),
        conversations(
            "conversations_active",
            "Conversations in which this one wrote on the day; not additive over days.",
        ),
        count("messages", "Counted messages written on the day."),
        count("waits_answered", "User turns that this one answered first, whoever was assigned.", "waits"),
        count("reply_n", "Those of them with a duration.", "waits"),
        seconds("reply_sum_s", "Sum of the durations; with reply_n, the mean of any rows."),
        seconds("reply_p50_s", "Median from the start of the user's turn to the answer."),
        seconds("reply_p90_s", "90th percentile of the same."),
        count("transfers_in", "Conversations taken over: the agent before was another one.", "transfers"),
        count("transfers_out", "Conversations that another agent took over on the day.", "transfers"),
        conversations(
            "resolutions",
            "Resolved conversations, credited to the actor of the last resolve; where no event names one, to "
            "the last agent who wrote, else the last bot.",
        ),
        conversations("reopened", "Of these, reopened within 7 days: the numerator of the reopen share."),
        conversations(
            "csat_answered", "Rated conversations, credited to the last agent who wrote, else the last bot."
        ),
        conversations("csat_positive", "Of these, with 4 or 5 points."),
        conversations(
            "concurrent_max",
            "Most conversations open at once; one is open from this one's first to last message of the day "
            "in it. Not additive.",
        ),
        Column(
            "active_s",
            pa.float64(),
            "Time at work: gaps before this one's messages, each at most 300 s.",
            "s",
        ),
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
        conversations("conversations", "All but empty ones: the denominator of the response rate."),
        conversations("answered", "Those rated: its numerator, and the denominator of satisfaction."),
        conversations("positive", "Of these, with 4 or 5 points: the numerator of satisfaction."),
        conversations("negative", "Of these, with 1 or 2 points."),
        Column(
            "score_sum",
            pa.float64(),
            "Sum of the points; with answered, the mean of any rows. NULL where nobody answered.",
            "points",
            nullable=True,
        ),
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
        Column("duration_s", pa.float64(), "From the first message to the last; 0 for a single one.", "s"),
        count("messages", "Counted messages the user wrote."),
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
        count("users", "Distinct users who wrote in it.", "users"),
        count("new_users", "Those whose first message of all falls into it.", "users"),
        count("returning_users", "The others.", "users"),
        count("sessions", "Sessions that began in it.", "sessions"),
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
        count("users", "Users of the cohort: the denominator.", "users"),
        count("retained", "Those who wrote in the k-th period: the numerator.", "users"),
        Column("is_settled", FLAG, "The k-th period is over: a later one has a message."),
    ),
    key=("grain", "cohort_date", "k"),
    partition_by=None,
)

TABLES = (AGENT, CSAT, SESSION, ACTIVE_USERS, RETENTION)
