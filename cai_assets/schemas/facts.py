"""The facts layer: what each conversation tells by itself, typed and without text, one table per grain.

Only declarations belong here (those of waits, clocks and events are in `times`); the tables are made by
`dbt_like_sql/staging` and `dbt_like_sql/facts`. Rules that hold for all of them:

* `partition` is the local day on which the conversation started. A row depends on rows of its own partition
  alone, and never on the clock.
* `_us` are instants in microseconds since 1970-01-01 UTC; `local_*` are the same instants in
  REPORT_TIMEZONE; `_s` are seconds.
* `business_us` are open microseconds (BUSINESS_HOURS) before an instant, so that a difference of two is the
  business time between them; `_bh_s` are seconds of it. Both are NULL where no hours are set, or none were
  known yet.
* A message is *counted* unless a system wrote it or it is a private note; only counted messages start or stop
  a clock. Order inside a conversation is `(created_at, seq, message_id)`, a missing `seq` last.
* A *turn* is a run of counted messages of one side, the user or the staff (bots and agents).
"""

import pyarrow as pa

from cai_assets.schemas.base import MONEY, Column, Table, partition_column
from cai_assets.schemas.columns import (
    CHANNEL,
    COUNT,
    DATE,
    FLAG,
    LANGUAGE,
    TEXT,
    TRAFFIC,
    business,
    business_seconds,
    count,
    instant,
    seconds,
)
from cai_assets.schemas.lake import SENDER_TYPES, STATUSES
from cai_assets.schemas.times import FCT_RESPONSE, FCT_STATUS_EVENT, FCT_WAIT

OUTCOMES = ("empty", "unanswered", "contained", "agent_resolved", "abandoned", "agent_open", "bot_open")

STG_MESSAGES = Table(
    layer="facts",
    name="stg_messages",
    description="One row per message of the lake, typed, zones applied, without its text.",
    columns=(
        partition_column(),
        Column("conversation_id", TEXT, "The conversation it belongs to."),
        count("message_no", "Place among all messages of the conversation, from 1.", unit="place"),
        Column("message_id", TEXT, "Business key of the message."),
        Column("seq", pa.int32(), "Place as the source counts.", nullable=True),
        Column("sender_type", TEXT, "Who wrote it.", values=SENDER_TYPES),
        Column("sender_id", TEXT, "Who exactly; a keyed hash where a user wrote.", nullable=True),
        Column(
            "side", TEXT, "Side of the talk; NULL for the system.", nullable=True, values=("user", "staff")
        ),
        Column("is_private", FLAG, "Internal note, never seen by the user."),
        Column("is_counted", FLAG, "Neither private nor written by the system."),
        count(
            "turn_no",
            "Place of its turn among those of both sides, from 1; NULL if not counted.",
            "place",
            nullable=True,
        ),
        Column("opens_turn", FLAG, "The first counted message of its turn."),
        instant("created_us", "When it was written."),
        business("business_us", "The same in business time."),
        Column("local_date", DATE, "Local day on which it was written."),
        Column("local_hour", COUNT, "Local hour, 0 to 23.", "h"),
        Column("local_isodow", COUNT, "Local day of the week, 1 (Monday) to 7.", "weekday"),
        Column(
            "language",
            TEXT,
            "Language that counts: detected (unless `und`), else declared, else the "
            "conversation's, else `und`.",
        ),
        Column("language_declared", TEXT, "Language the source gives, BCP 47.", nullable=True),
        Column("language_detected", TEXT, "Language detected; `und` where it cannot be told.", nullable=True),
        Column(
            "detection_agrees",
            FLAG,
            "Declared and detected language are the same, regions apart; NULL where one is missing or `und`.",
            nullable=True,
        ),
        Column("text_chars", COUNT, "Length of the text.", "characters"),
        Column("needs_translation", FLAG, "The lake has a translation row for it, made or not."),
        Column("is_translated", FLAG, "One of these rows is ok."),
        Column(
            "translation_status",
            TEXT,
            "Best status of these rows: ok, else failed, else skipped; NULL where it needs none.",
            nullable=True,
            values=("ok", "failed", "skipped"),
        ),
        CHANNEL,
        Column("user_id", TEXT, "User of the conversation (keyed hash)."),
        TRAFFIC,
        instant("source_updated_us", "When the source row was last written."),
    ),
    key=("conversation_id", "message_no"),
)

FCT_CONVERSATION = Table(
    layer="facts",
    name="fct_conversation",
    description="One row per conversation of the lake, also empty ones and test traffic.",
    columns=(
        partition_column(),
        Column("conversation_id", TEXT, "Business key of the conversation."),
        Column("user_id", TEXT, "The user (keyed hash)."),
        Column("agent_id", TEXT, "Agent it is assigned to, by the source's account.", nullable=True),
        CHANNEL,
        LANGUAGE,
        Column("status", TEXT, "Status at the last update.", values=STATUSES),
        TRAFFIC,
        Column("is_counted", FLAG, "Live traffic: the only one that marts count."),
        Column(
            "category",
            TEXT,
            "What it is about, by its latest taxonomy version; NULL if not categorised.",
            nullable=True,
        ),
        Column(
            "taxonomy_version",
            TEXT,
            "Greatest version that categorised it: of equal length as text, else the longer.",
            nullable=True,
        ),
        instant("started_us", "Start of the conversation by the source's account."),
        instant("ended_us", "End of it, where the source gives one.", nullable=True),
        instant("first_message_at_us", "First counted message.", nullable=True),
        instant("last_message_at_us", "Last counted message.", nullable=True),
        Column("first_message_date", DATE, "Local day of the first counted message, else of started_us."),
        count("messages", "Counted messages."),
        count("user_messages", "Counted messages of the user."),
        count("bot_messages", "Counted messages of bots."),
        count("agent_messages", "Counted messages of agents."),
        count("system_messages", "Messages of the system, not counted."),
        count("private_messages", "Private notes, not counted."),
        count("user_turns", "Runs of user messages, which is the number of waits.", "turns"),
        count("agents", "Distinct agents who wrote.", "agents"),
        Column("first_bot_id", TEXT, "First bot that wrote.", nullable=True),
        Column("last_agent_id", TEXT, "Last agent who wrote.", nullable=True),
        count("languages", "Distinct languages of the user's messages, `und` apart.", "languages"),
        instant(
            "first_user_at_us", "First message of the user: every response clock starts here.", nullable=True
        ),
        Column("first_user_date", DATE, "Its local day.", nullable=True),
        instant(
            "first_any_at_us",
            "First message of a bot or an agent at or after first_user_at_us.",
            nullable=True,
        ),
        instant("first_human_at_us", "The same of agents alone.", nullable=True),
        instant(
            "handoff_at_us",
            "Last bot message at or before first_human_at_us (it may lie before the user's first), else "
            "first_user_at_us; NULL where no agent answered.",
            nullable=True,
        ),
        Column("handoff_date", DATE, "Its local day.", nullable=True),
        business("first_user_business_us", "first_user_at_us in business time."),
        business("first_any_business_us", "first_any_at_us in business time."),
        business("first_human_business_us", "first_human_at_us in business time."),
        business("handoff_business_us", "handoff_at_us in business time."),
        seconds("first_response_s", "From the user's first message to first_any_at_us."),
        seconds("first_human_response_s", "From the user's first message to first_human_at_us."),
        seconds("human_response_after_handoff_s", "From handoff_at_us to first_human_at_us."),
        business_seconds("first_response_bh_s", "first_response_s in business time."),
        business_seconds("first_human_response_bh_s", "first_human_response_s in business time."),
        business_seconds(
            "human_response_after_handoff_bh_s", "human_response_after_handoff_s in business time."
        ),
        instant(
            "first_resolved_us",
            "First resolve: first status event to `resolved`; without any events, `ended_at` (else the last "
            "counted message) of a conversation whose status is resolved.",
            nullable=True,
        ),
        instant("last_resolved_us", "Last resolve.", nullable=True),
        Column(
            "last_resolved_by", TEXT, "Actor of the last resolve, where an event names one.", nullable=True
        ),
        Column(
            "closed_date",
            DATE,
            "Where no status event tells: local day on which one that is resolved or abandoned was closed, "
            "that of ended_us, else of the last counted message.",
            nullable=True,
        ),
        seconds("resolution_first_s", "From the first counted message to the first resolve."),
        seconds("resolution_last_s", "From the first counted message to the last resolve."),
        business_seconds("resolution_first_bh_s", "resolution_first_s in business time."),
        business_seconds("resolution_last_bh_s", "resolution_last_s in business time."),
        count("resolves", "Resolves.", "events"),
        count(
            "reopens", "Transitions resolved to open at most 7 days after the resolve they undo.", "events"
        ),
        Column("is_undone", FLAG, "The last resolve was reopened within 7 days."),
        count(
            "episodes", "1, and one more for each transition resolved to open that came later.", "episodes"
        ),
        count(
            "touches",
            "Staff turns in which an agent wrote and that began no later than the last resolve; NULL where "
            "nothing was resolved or nothing written.",
            "turns",
            nullable=True,
        ),
        seconds("active_s", "Sum of the gaps between counted messages, each at most 300 s; NULL if empty."),
        Column(
            "csat_score", pa.float64(), "Answer to the satisfaction survey, 1 to 5.", "points", nullable=True
        ),
        Column(
            "outcome",
            TEXT,
            "The first that holds: empty (no counted message); unanswered (only the user wrote); contained "
            "(resolved, a bot and the user wrote, no agent did); agent_resolved (resolved otherwise); "
            "abandoned; agent_open (an agent wrote); bot_open.",
            values=OUTCOMES,
        ),
        Column("bot_only", FLAG, "Bots wrote, agents did not."),
        Column("contained", FLAG, "bot_only and finally resolved, also where the user wrote nothing."),
        Column("unanswered", FLAG, "The user wrote, no bot and no agent did."),
        Column("is_empty", FLAG, "No counted message."),
        Column("handed_off", FLAG, "An agent wrote after a bot had."),
        count("needing_translation", "Messages with a translation row, made or not."),
        count("translated_messages", "Those of them that are translated."),
        Column(
            "llm_cost",
            MONEY,
            "Price of all calls made for it, failed ones too; NULL where Dify never said, or in several "
            "currencies.",
            "currency",
            nullable=True,
        ),
        Column("llm_currency", TEXT, "Currency of llm_cost, or `several`.", nullable=True),
        count("tokens", "Tokens of these calls; NULL where Dify never said.", "tokens", nullable=True),
        instant(
            "source_updated_us", "Latest change of its source rows: the conversation's and its messages'."
        ),
    ),
    key=("conversation_id",),
)

FCT_TRAFFIC = Table(
    layer="facts",
    name="fct_traffic",
    description=(
        "Live traffic by local hour, additive: sums over hours, partitions and dimensions are true. Counted "
        "messages only. An hour that a change of the clocks repeats is one row."
    ),
    columns=(
        partition_column(),
        Column("local_date", DATE, "Local day of the messages."),
        Column("local_hour", COUNT, "Local hour, 0 to 23.", "h"),
        Column("local_isodow", COUNT, "Local day of the week, 1 (Monday) to 7.", "weekday"),
        CHANNEL,
        LANGUAGE,
        count("user_messages", "Messages of users."),
        count("bot_messages", "Messages of bots."),
        count("agent_messages", "Messages of agents."),
        count("conversations_started", "Conversations whose first message falls here.", "conversations"),
        count(
            "conversations_active",
            "Conversations whose first message of that local day falls here: over the hours of a day, its "
            "distinct conversations; over several days, conversation-days.",
            "conversations",
        ),
        count("waits", "User turns that began here.", "turns"),
    ),
    key=("local_date", "local_hour", "channel", "language"),
)

FCT_LLM_CALL = Table(
    layer="facts",
    name="fct_llm_call",
    description="One row per call of a Dify workflow, also failed ones and answers from the memory.",
    columns=(
        partition_column("Day of the conversation for which the call was made."),
        Column("call_id", TEXT, "Key of the call."),
        Column("purpose", TEXT, "What for.", values=("translation", "category")),
        Column("status", TEXT, "How it ended.", values=("ok", "failed", "cached")),
        Column("conversation_id", TEXT, "The conversation it was made for."),
        Column("message_id", TEXT, "The message it was made for.", nullable=True),
        Column("workflow_run_id", TEXT, "Dify's id of the run.", nullable=True),
        Column("model", TEXT, "Language model; NULL where Dify did not say.", nullable=True),
        Column("tokens", pa.int64(), "Tokens used; NULL where Dify did not say.", "tokens", nullable=True),
        Column("price", MONEY, "Price; NULL where Dify did not say.", "currency", nullable=True),
        Column("currency", TEXT, "Currency of the price.", nullable=True),
        Column("latency_ms", pa.int64(), "From the question to the last event.", "ms", nullable=True),
        count("attempts", "Requests sent for it; 0 for the further texts of a call.", "requests"),
        instant("created_us", "When the call was made."),
        Column("local_date", DATE, "Its local day."),
    ),
    key=("call_id",),
)

USER_DAY = Table(
    layer="facts",
    name="user_day",
    description=(
        "Stretches of a user's own live messages inside the partition: cut at a silence longer than "
        "SESSION_GAP_MINUTES, at local midnight and where the language changes. Joined across partitions, "
        "stretches less than the gap apart make the user's sessions."
    ),
    columns=(
        partition_column(),
        Column("user_id", TEXT, "The user (keyed hash)."),
        Column("local_date", DATE, "Local day of the stretch."),
        count("stretch_no", "Place among the user's stretches of partition and day, from 1.", "place"),
        Column("language", TEXT, "Language of its messages (stg_messages.language)."),
        instant("started_us", "First message."),
        instant("ended_us", "Last message."),
        count("messages", "Counted messages the user wrote."),
        count(
            "conversations",
            "Conversations in which the user's first message of that local day falls here: over the "
            "stretches of a day, distinct conversations.",
            "conversations",
        ),
    ),
    key=("user_id", "local_date", "stretch_no"),
)

TABLES = (
    STG_MESSAGES,
    FCT_STATUS_EVENT,
    FCT_CONVERSATION,
    FCT_WAIT,
    FCT_RESPONSE,
    FCT_TRAFFIC,
    FCT_LLM_CALL,
    USER_DAY,
)
