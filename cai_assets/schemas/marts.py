"""The marts layer: what reports show, summed over facts; whole tables, rewritten by month.

Only declarations belong here; the tables are made by `dbt_like_sql/marts`. Rules that hold for all of them:

* Only live traffic counts (`fct_conversation.is_counted`); in `cost` all of it does, as all is paid for.
* `report_date` is the local day (REPORT_TIMEZONE) on which the thing that is measured began, so a late reply
  changes an old day. `month` is its `YYYY-MM`.
* A column that measures is made of its metric (`schemas.metrics`); dimensions are declared here.
* A ratio is two columns, numerator and denominator; sums of both over any rows give the ratio of these rows.
  Percentiles are exact for their row, interpolated linearly; they must not be averaged.
* Nothing that happened is NULL and counted, never 0 seconds.
* Decisions that need time to pass (settled, overdue) are taken at `as_of`, the latest change of the source.
"""

from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.columns import COUNT, DATE, FLAG, TEXT
from cai_assets.schemas.facts import OUTCOMES
from cai_assets.schemas.mart_columns import CHANNEL as _CHANNEL
from cai_assets.schemas.mart_columns import LANGUAGE as _LANGUAGE
from cai_assets.schemas.mart_columns import MONTH as _MONTH
from cai_assets.schemas.mart_columns import report_date as _date
from cai_assets.schemas.metrics import measure
from cai_assets.schemas.times import CLOCKS, HOURS

SEGMENTS = ("champion", "loyal", "promising", "new", "at_risk", "hibernating")

_CLOCK = Column(
    "clock",
    TEXT,
    "first: the user's first message to the first answer of bot or agent; first_human: to the first of an "
    "agent; after_handoff: hand-off to the first of an agent; reply: every user turn to its answer.",
    values=CLOCKS,
)
_HOURS = Column(
    "hours",
    TEXT,
    "calendar: all time counts; business: only time within BUSINESS_HOURS, so that an answer outside them "
    "may have taken 0 s.",
    values=HOURS,
)


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
        measure("conversations_started"),
        measure("conversations_active"),
        measure("messages"),
        measure("user_messages"),
        measure("bot_messages"),
        measure("agent_messages"),
        measure("waits"),
        measure("backlog_open"),
    ),
    key=("report_date", "channel", "language"),
    partition_by="month",
)


RESPONSE = Table(
    layer="marts",
    name="response",
    description=(
        "Response times per local day on which the clock started, channel, language, clock and hours. Rows "
        "of business hours are there where BUSINESS_HOURS were known when the clock started."
    ),
    columns=(
        _MONTH,
        _date("Local day on which the clock started."),
        _CHANNEL,
        _LANGUAGE,
        _CLOCK,
        _HOURS,
        measure("response_n", "n"),
        measure("response_n_open", "n_open"),
        measure("response_sum_s", "sum_s"),
        measure("response_avg_s", "avg_s"),
        measure("response_p50_s", "p50_s"),
        measure("response_p90_s", "p90_s"),
        measure("response_p95_s", "p95_s"),
        measure("response_p99_s", "p99_s"),
        measure("response_max_s", "max_s"),
        measure("within_target_1"),
        measure("decided_1"),
        measure("within_target_2"),
        measure("decided_2"),
        measure("within_target_3"),
        measure("decided_3"),
    ),
    key=("report_date", "channel", "language", "clock", "hours"),
    partition_by="month",
)

RESPONSE_HISTOGRAM = Table(
    layer="marts",
    name="response_histogram",
    description=(
        "The durations of response in logarithmic buckets, additive: percentiles over any rows come from the "
        "sum of their buckets within 1 % (`domain.histograms`)."
    ),
    columns=(
        _MONTH,
        _date("Local day on which the clock started."),
        _CHANNEL,
        _LANGUAGE,
        _CLOCK,
        _HOURS,
        Column(
            "bucket",
            COUNT,
            "floor(ln(s) / ln(1.02)): durations from 1.02^bucket up to 1.02^(bucket + 1) seconds; -1047 for "
            "0 s.",
            "bucket",
        ),
        measure("response_n", "n", note="Those of the bucket."),
    ),
    key=("report_date", "channel", "language", "clock", "hours", "bucket"),
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
        measure("conversations_started", "started"),
        measure("resolved"),
        measure("reopened"),
        measure("settled"),
        measure("durable"),
        measure("resolution_events"),
        measure("resolution_users"),
        measure("resolution_n"),
        measure("resolution_first_p50_s", "first_p50_s"),
        measure("resolution_first_p90_s", "first_p90_s"),
        measure("resolution_last_p50_s", "last_p50_s"),
        measure("resolution_last_p90_s", "last_p90_s"),
        measure("resolution_last_sum_s", "last_sum_s"),
        measure("resolution_durable_p50_s", "durable_p50_s"),
        measure("resolution_durable_p90_s", "durable_p90_s"),
        measure("resolution_first_bh_p50_s", "first_bh_p50_s"),
        measure("resolution_first_bh_p90_s", "first_bh_p90_s"),
        measure("resolution_last_bh_p50_s", "last_bh_p50_s"),
        measure("resolution_last_bh_p90_s", "last_bh_p90_s"),
        measure("zero_touch"),
        measure("one_touch"),
        measure("two_touch"),
        measure("multi_touch"),
    ),
    key=("report_date", "channel", "language"),
    partition_by="month",
)

CONTAINMENT = Table(
    layer="marts",
    name="containment",
    description="Who dealt with the conversations, per local day on which they began, channel and bot.",
    columns=(
        _MONTH,
        _date("Local day of the conversation's first counted message, else of its start."),
        _CHANNEL,
        Column(
            "bot", TEXT, "First bot that wrote; `none` where none did, `unknown` where the source names none."
        ),
        measure("conversations"),
        measure("conversations_started", "started"),
        measure("bot_conversations"),
        measure("contained"),
        measure("handed_off"),
        measure("contained_settled"),
        measure("contained_no_return_24h"),
        measure("outcome_abandoned", "abandoned"),
        *(
            measure("contained" if outcome == "contained" else f"outcome_{outcome}", f"outcome_{outcome}")
            for outcome in OUTCOMES
        ),
    ),
    key=("report_date", "channel", "bot"),
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
        measure("messages"),
        measure("user_messages"),
        measure("users_writing", "users"),
        measure("conversations_active", "conversations", note="Not additive over languages."),
        measure("needing_translation"),
        measure("translated"),
        measure("translated_cached", "cached"),
        measure("translation_failed", "failed"),
        measure("translation_skipped", "skipped"),
        measure("tokens", note="Here of translations, by the day of the message."),
        measure("price", note="Here of translations, by the day of the message."),
        measure("translation_lag_p50_s", "lag_p50_s"),
        measure("translation_lag_p95_s", "lag_p95_s"),
        measure("detection_compared"),
        measure("detection_agreeing"),
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
        measure("categorised", "conversations"),
        measure("categorised_of_week", "of_week"),
        measure("categorised_by_llm", "by_llm"),
        measure("categorised_by_rule", "by_rule"),
        measure("categorised_by_human", "by_human"),
        measure("category_wow_z", "wow_z"),
        measure("resolved"),
        measure("bot_conversations"),
        measure("contained"),
        measure("resolution_last_p50_s", "resolution_p50_s"),
        measure("csat_answered"),
        measure("csat_positive"),
        measure("tokens", note="Here of all calls for the conversations."),
        measure("price", note="Here of all calls for the conversations."),
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
        measure("llm_calls", "calls"),
        measure("llm_requests", "requests"),
        measure("llm_answers", "ok"),
        measure("llm_failures", "failed"),
        measure("llm_cached", "cached"),
        measure("llm_unknown_usage", "unknown_usage"),
        measure("tokens"),
        measure("price"),
        measure("llm_latency_p50_ms", "latency_p50_ms"),
        measure("llm_latency_p95_ms", "latency_p95_ms"),
        measure("llm_conversations", "conversations"),
        measure("llm_resolved_conversations", "resolved_conversations"),
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
        measure("user_days_active", "days_active"),
        measure("user_conversations", "conversations"),
        measure("user_messages", "messages"),
        measure("sessions"),
        measure("avg_session_s"),
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
        measure("recency_days"),
        measure("frequency_90d"),
        measure("monetary"),
        measure("recency_quintile", "r"),
        measure("frequency_quintile", "f"),
        measure("monetary_quintile", "m"),
        Column(
            "segment",
            TEXT,
            "champion (r and f at least 4), loyal (both at least 3), new (r at least 4 and one "
            "conversation), promising (r at least 3), at_risk (f at least 3), hibernating; the "
            "first that holds.",
            values=SEGMENTS,
        ),
        measure("gap_p90_days"),
        Column(
            "churn_risk",
            FLAG,
            "Silent for longer than usual: recency_days above gap_p90_days; NULL for those who wrote on one "
            "day, as nothing is usual yet.",
            nullable=True,
        ),
        measure("csat_answered"),
        measure("csat_positive"),
        measure("tokens", note="Here of all calls for the user's conversations."),
        measure("price", note="Here of all calls for the user's conversations."),
    ),
    key=("user_id",),
    partition_by=None,
)

TABLES = (VOLUME, RESPONSE, RESPONSE_HISTOGRAM, RESOLUTION, CONTAINMENT, LANGUAGE, CATEGORY, COST, USER)
