"""The marts layer: what reports show, summed over facts; whole tables, rewritten by month.

Only declarations belong here; the tables are made by `dbt_like_sql/marts`. Rules that hold for all of them:

* Only live traffic counts (`fct_conversation.is_counted`); in `cost` all of it does, as all is paid for.
* `report_date` is the local day (REPORT_TIMEZONE) on which the thing that is measured began, so a late reply
  changes an old day. `month` is its `YYYY-MM`.
* A ratio is two columns, numerator and denominator; sums of both over any rows give the ratio of these rows.
  Percentiles are exact for their row, interpolated linearly; they must not be averaged.
* Nothing that happened is NULL and counted, never 0 seconds.
* Decisions that need time to pass (settled, overdue) are taken at `as_of`, the latest change of the source.
"""

import pyarrow as pa

from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.facts import COUNT, DATE, FLAG, OUTCOMES, TEXT, count, seconds
from cai_assets.schemas.mart_columns import CHANNEL as _CHANNEL
from cai_assets.schemas.mart_columns import LANGUAGE as _LANGUAGE
from cai_assets.schemas.mart_columns import MONTH as _MONTH
from cai_assets.schemas.mart_columns import conversations as _conversations
from cai_assets.schemas.mart_columns import price as _price
from cai_assets.schemas.mart_columns import report_date as _date
from cai_assets.schemas.mart_columns import tokens as _tokens

CLOCKS = ("first", "first_human", "after_handoff", "reply")
SEGMENTS = ("champion", "loyal", "promising", "new", "at_risk", "hibernating")

VOLUME = Table(
    layer="marts",
    name="volume",
    description=(
        "Traffic per local day, channel and language; a row of zeros for every day between the first and the "
        "last with traffic and every pair of channel and language that ever occurs."
    ),
    columns=(
        _MONTH,
        _date("Local day of the messages."),
        _CHANNEL,
        _LANGUAGE,
        _conversations(
            "conversations_started", "Conversations whose first counted message falls on the day."
        ),
        _conversations("conversations_active", "Conversations with a counted message on the day."),
        count("messages", "Counted messages, all senders."),
        count("user_messages", "Messages of users."),
        count("bot_messages", "Messages of bots."),
        count("agent_messages", "Messages of agents."),
        count("waits", "User turns that began on the day.", "turns"),
    ),
    key=("report_date", "channel", "language"),
    partition_by="month",
)


def _targets() -> tuple[Column, ...]:
    columns = []
    for n in (1, 2, 3):
        columns += [
            count(
                f"within_target_{n}", f"Answered within RESPONSE_TARGETS number {n}: the numerator.", "waits"
            ),
            count(
                f"decided_{n}",
                f"Answered, or open for longer than target {n} at as_of: the denominator.",
                "waits",
            ),
        ]
    return tuple(columns)


RESPONSE = Table(
    layer="marts",
    name="response",
    description="Response times per local day on which the clock started, channel, language and clock.",
    columns=(
        _MONTH,
        _date("Local day on which the clock started."),
        _CHANNEL,
        _LANGUAGE,
        Column(
            "clock",
            TEXT,
            "first: the user's first message to the first answer of bot or agent; first_human: to the first "
            "of an agent; after_handoff: hand-off to the first of an agent; reply: every user turn to its "
            "answer.",
            values=CLOCKS,
        ),
        count("n", "Clocks that stopped.", "waits"),
        count(
            "n_open",
            "Clocks still running: nobody answered. For first_human those that no bot answered either; for "
            "after_handoff always 0, as a hand-off is only seen when an agent answers.",
            "waits",
        ),
        seconds("sum_s", "Sum of the durations; with n, the mean of any rows."),
        seconds("avg_s", "Mean."),
        seconds("p50_s", "Median."),
        seconds("p90_s", "90th percentile."),
        seconds("p95_s", "95th percentile."),
        seconds("p99_s", "99th percentile."),
        seconds("max_s", "Longest."),
        *_targets(),
    ),
    key=("report_date", "channel", "language", "clock"),
    partition_by="month",
)

RESOLUTION = Table(
    layer="marts",
    name="resolution",
    description="Resolutions per local day of the conversation's first message, channel and language.",
    columns=(
        _MONTH,
        _date("Local day of the conversation's first counted message."),
        _CHANNEL,
        _LANGUAGE,
        _conversations("started", "Conversations that began on the day."),
        _conversations("resolved", "Those resolved at least once."),
        _conversations("reopened", "Those reopened within 7 days of a resolve at least once."),
        _conversations(
            "settled", "Resolved ones whose durability is decided: reopened, or 7 days passed at as_of."
        ),
        _conversations("durable", "Settled ones whose last resolve was not reopened within 7 days."),
        count("resolution_events", "Resolves.", "events"),
        count("resolution_users", "Distinct users with a resolved conversation; not additive.", "users"),
        _conversations(
            "resolution_n", "Conversations with a duration: a resolve not before the first message."
        ),
        seconds("first_p50_s", "Median from first message to first resolve."),
        seconds("first_p90_s", "90th percentile of the same."),
        seconds("last_p50_s", "Median from first message to last resolve."),
        seconds("last_p90_s", "90th percentile of the same."),
        seconds("last_sum_s", "Sum of the same; with resolution_n, the mean of any rows."),
        _conversations("zero_touch", "Resolved without an agent's turn."),
        _conversations("one_touch", "Resolved with one."),
        _conversations("two_touch", "Resolved with two."),
        _conversations("multi_touch", "Resolved with three or more."),
    ),
    key=("report_date", "channel", "language"),
    partition_by="month",
)

CONTAINMENT = Table(
    layer="marts",
    name="containment",
    description="Who dealt with the conversations, per local day on which they began and channel.",
    columns=(
        _MONTH,
        _date("Local day of the conversation's first counted message, else of its start."),
        _CHANNEL,
        _conversations("conversations", "All of them: the sum of the outcomes."),
        _conversations("started", "Those with a counted message: all but the empty ones."),
        _conversations("bot_conversations", "Those in which a bot and the user wrote: the denominator."),
        _conversations("contained", "Of these, resolved and no agent wrote."),
        _conversations("handed_off", "Of these, an agent wrote after a bot."),
        _conversations(
            "contained_settled",
            "Contained ones whose 24 hours are decided: the user came back, or 24 hours passed at as_of.",
        ),
        _conversations(
            "contained_no_return_24h",
            "Settled ones whose user started nothing else from the start of the conversation to 24 hours "
            "after its end.",
        ),
        _conversations("abandoned", "Those that ended as `abandoned`."),
        *(
            _conversations(f"outcome_{outcome}", f"Those with the outcome `{outcome}`.")
            for outcome in OUTCOMES
        ),
    ),
    key=("report_date", "channel"),
    partition_by="month",
)

LANGUAGE = Table(
    layer="marts",
    name="language",
    description="Messages per local day and language of the message; coverage of translation and detection.",
    columns=(
        _MONTH,
        _date("Local day of the messages."),
        Column("language", TEXT, "Language of the message (stg_messages.language)."),
        count("messages", "Counted messages."),
        count("user_messages", "Those of users."),
        count("users", "Distinct users who wrote them; not additive.", "users"),
        _conversations(
            "conversations", "Distinct conversations with such a message; not additive over languages."
        ),
        count("needing_translation", "Messages with a translation row: the denominator of coverage."),
        count("translated", "Those that are translated: the numerator."),
        count("cached", "Of these, those whose translation another message had been paid for."),
        count("failed", "Those that were asked for in vain."),
        count("skipped", "Those not asked for: no key, or the budget was spent."),
        _tokens("Tokens of all tries, by the ledger"),
        _price("Price of all tries, by the ledger"),
        seconds("lag_p50_s", "Median from the message to its translation, by the ledger."),
        seconds("lag_p95_s", "95th percentile of the same."),
        count("detection_compared", "Messages whose language is both declared and detected (not `und`)."),
        count("detection_agreeing", "Those where both name the same language, regions apart."),
    ),
    key=("report_date", "language"),
    partition_by="month",
)

CATEGORY = Table(
    layer="marts",
    name="category",
    description=(
        "Conversations per ISO week, taxonomy version and category; a row of zeros for every week of the "
        "version and category it ever gave. Versions stand side by side and must not be added."
    ),
    columns=(
        _MONTH,
        _date("Monday of the week of the conversation's first counted message."),
        Column("taxonomy_version", TEXT, "Version of the list of categories."),
        Column("category", TEXT, "What the conversations are about; `unknown` where it could not be told."),
        _conversations("conversations", "Conversations of the category: the numerator of its share."),
        _conversations("of_week", "All categorised ones of the week and version: the denominator."),
        _conversations("by_llm", "Those that the workflow decided."),
        _conversations("by_rule", "Those that keywords decided."),
        _conversations("by_human", "Those that a person decided."),
        Column(
            "wow_z",
            pa.float64(),
            "z score of the share against that of the week before; NULL without one, or where all or none "
            "of both weeks are of the category.",
            nullable=True,
        ),
        _conversations("resolved", "Those resolved at least once."),
        _conversations("bot_conversations", "Those in which a bot and the user wrote."),
        _conversations("contained", "Of these, resolved and no agent wrote."),
        seconds("resolution_p50_s", "Median from first message to last resolve."),
        _conversations("csat_answered", "Those whose satisfaction survey was answered."),
        _conversations("csat_positive", "Of these, with 4 or 5 points."),
        _tokens("Tokens of all calls for the conversations"),
        _price("Price of all calls for the conversations"),
    ),
    key=("report_date", "taxonomy_version", "category"),
    partition_by="month",
)

COST = Table(
    layer="marts",
    name="cost",
    description=(
        "Calls of language models per local day of the call, purpose, model and currency, test traffic "
        "included. Totals are those of the ledger, to the last token."
    ),
    columns=(
        _MONTH,
        _date("Local day of the calls."),
        Column("purpose", TEXT, "What for.", values=("translation", "category")),
        Column("model", TEXT, "Language model; `unknown` where Dify did not say, or nothing was asked."),
        Column("currency", TEXT, "Currency of the price; `unknown` where there is none."),
        count("calls", "Runs of workflows.", "calls"),
        count("requests", "Requests sent, refused ones included.", "requests"),
        count("ok", "Texts (or conversations) that were answered.", "answers"),
        count("failed", "Tries that gave no usable answer.", "answers"),
        count("cached", "Texts served from the memory, which costs nothing.", "answers"),
        count("unknown_usage", "Answers and failures whose tokens Dify did not say.", "answers"),
        _tokens("Tokens"),
        _price("Price"),
        Column("latency_p50_ms", pa.float64(), "Median latency of the calls.", "ms", nullable=True),
        Column("latency_p95_ms", pa.float64(), "95th percentile of the same.", "ms", nullable=True),
        _conversations("conversations", "Conversations for which there was a call; not additive."),
        _conversations("resolved_conversations", "Those of them resolved at least once; not additive."),
    ),
    key=("report_date", "purpose", "model", "currency"),
    partition_by="month",
)

USER = Table(
    layer="marts",
    name="user",
    description="One row per user who wrote at least one counted message.",
    columns=(
        Column("user_id", TEXT, "The user (keyed hash)."),
        Column("first_seen", DATE, "Local day of the first message."),
        Column("last_seen", DATE, "Local day of the last message."),
        count("days_active", "Local days on which the user wrote.", "days"),
        count("conversations", "Conversations in which the user wrote.", "conversations"),
        count("messages", "Messages the user wrote."),
        count(
            "sessions", "Stretches of messages no silence longer than SESSION_GAP_MINUTES apart.", "sessions"
        ),
        Column("avg_session_s", pa.float64(), "Mean from first to last message of a session.", "s"),
        Column("preferred_language", TEXT, "Language of most of the messages, the first by name of equals."),
        *(
            Column(
                f"category_{n}",
                TEXT,
                f"Category of {which} of the user's conversations, the first by name of equals; NULL where "
                "there are fewer.",
                nullable=True,
            )
            for n, which in enumerate(("most", "second most", "third most"), 1)
        ),
        count("recency_days", "Whole days from the last message to as_of, at least 0.", "days"),
        count(
            "frequency_90d",
            "Conversations the user first wrote in within 90 days before as_of.",
            "conversations",
        ),
        count("monetary", "What the user is worth to the service, in messages."),
        Column("r", COUNT, "Quintile of recency, 5 for the most recent; ties by user_id.", "quintile"),
        Column("f", COUNT, "Quintile of frequency_90d, 5 for the most frequent.", "quintile"),
        Column("m", COUNT, "Quintile of monetary, 5 for the greatest.", "quintile"),
        Column(
            "segment",
            TEXT,
            "champion (r and f at least 4), loyal (both at least 3), new (r at least 4 and one "
            "conversation), promising (r at least 3), at_risk (f at least 3), hibernating; the "
            "first that holds.",
            values=SEGMENTS,
        ),
        Column(
            "gap_p90_days",
            pa.float64(),
            "90th percentile of the days between one local day on which the user wrote and the next, linear; "
            "NULL for those who wrote on one day.",
            "days",
            nullable=True,
        ),
        Column(
            "churn_risk",
            FLAG,
            "Silent for longer than usual: recency_days above gap_p90_days; NULL for those who wrote on one "
            "day, as nothing is usual yet.",
            nullable=True,
        ),
        _conversations("csat_answered", "Conversations the user wrote in and rated."),
        _conversations("csat_positive", "Of these, with 4 or 5 points."),
        _tokens("Tokens of all calls for the user's conversations"),
        _price("Price of all calls for the user's conversations"),
    ),
    key=("user_id",),
    partition_by=None,
)

TABLES = (VOLUME, RESPONSE, RESOLUTION, CONTAINMENT, LANGUAGE, CATEGORY, COST, USER)
