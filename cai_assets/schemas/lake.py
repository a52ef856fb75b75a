"""The lake layer: live documents as Parquet.

User ids are keyed hashes here and texts are masked; raw and documents keep the originals.
"""

import pyarrow as pa

from cai_assets.schemas.base import MONEY, TIMESTAMP, Column, Table, partition_column

STATUSES = ("open", "pending", "resolved", "abandoned", "unattended")
SENDER_TYPES = ("user", "agent", "bot", "system")
TRAFFIC_CLASSES = ("live", "test", "internal")

STATUS_EVENT = pa.struct(
    [
        pa.field("from_status", pa.string()),
        pa.field("to_status", pa.string()),
        pa.field("at", TIMESTAMP),
        pa.field("actor", pa.string()),
    ]
)

CONVERSATIONS = Table(
    layer="lake",
    name="conversations",
    description="One row per live conversation.",
    columns=(
        partition_column(),
        Column("conversation_id", pa.string(), "Business key of the conversation."),
        Column("user_id", pa.string(), "Keyed hash of the user's id (PSEUDONYM_KEY)."),
        Column("agent_id", pa.string(), "Agent the conversation is assigned to.", nullable=True),
        Column("channel", pa.string(), "Where it took place, as the source names it.", nullable=True),
        Column("language", pa.string(), "Declared language, BCP 47.", nullable=True),
        Column("status", pa.string(), "Status at the last update.", values=STATUSES),
        Column("traffic_class", pa.string(), "Whether it counts: only `live` does.", values=TRAFFIC_CLASSES),
        Column("started_at", TIMESTAMP, "Start; its local day is the partition."),
        Column("ended_at", TIMESTAMP, "End, where the source gives one.", nullable=True),
        Column("updated_at", TIMESTAMP, "Last change by the source's own account.", nullable=True),
        Column("status_events", pa.list_(STATUS_EVENT), "Changes of status in order of time.", nullable=True),
        Column("tags", pa.list_(pa.string()), "Free labels.", nullable=True),
        Column(
            "csat_score", pa.float64(), "Answer to the satisfaction survey, 1 to 5.", "points", nullable=True
        ),
        Column("csat_at", TIMESTAMP, "When the survey was answered.", nullable=True),
        Column("source_updated_at", TIMESTAMP, "When the source row was last written."),
        Column("content_hash", pa.string(), "Keyed hash of the business fields."),
    ),
    key=("conversation_id",),
)

MESSAGES = Table(
    layer="lake",
    name="messages",
    description="One row per live message, its last version.",
    columns=(
        partition_column(),
        Column("conversation_id", pa.string(), "The conversation it belongs to."),
        Column("message_id", pa.string(), "Business key of the message."),
        Column("seq", pa.int32(), "Place within the conversation, as the source counts.", nullable=True),
        Column("sender_type", pa.string(), "Who wrote it.", values=SENDER_TYPES),
        Column("sender_id", pa.string(), "Who exactly; a keyed hash where no staff wrote.", nullable=True),
        Column("is_private", pa.bool_(), "Internal note, never seen by the user."),
        Column("text", pa.string(), "What was written, masked (REDACT_TEXT).", nullable=True),
        Column("text_hash", pa.string(), "Keyed hash of the text; equal texts have equal ones."),
        Column("language", pa.string(), "Declared language, BCP 47.", nullable=True),
        Column(
            "language_detected",
            pa.string(),
            "Detected language; `und` where it cannot be told.",
            nullable=True,
        ),
        Column("language_confidence", pa.float64(), "Confidence of the detection, 0 to 1.", nullable=True),
        Column("created_at", TIMESTAMP, "When it was written."),
        Column("updated_at", TIMESTAMP, "When it was last edited.", nullable=True),
        Column("source_updated_at", TIMESTAMP, "When the source row was last written."),
        Column("content_hash", pa.string(), "Keyed hash of the business fields."),
    ),
    key=("conversation_id", "created_at", "seq", "message_id"),
)

TRANSLATIONS = Table(
    layer="lake",
    name="translations",
    description="One row per message that needs a translation, target language and prompt version.",
    columns=(
        partition_column(),
        Column("conversation_id", pa.string(), "The message's conversation."),
        Column("message_id", pa.string(), "The message."),
        Column("text_hash", pa.string(), "Keyed hash of the text that was translated."),
        Column("source_language", pa.string(), "Language translated from."),
        Column("target_language", pa.string(), "Language translated to."),
        Column("prompt_version", pa.string(), "DIFY_PROMPT_VERSION at the time."),
        Column(
            "status",
            pa.string(),
            "ok; failed (asked, no usable answer); skipped (not asked: no key, or the budget was spent).",
            values=("ok", "failed", "skipped"),
        ),
        Column("text", pa.string(), "The translation, masked (REDACT_TEXT).", nullable=True),
        Column("error", pa.string(), "Why there is none.", nullable=True),
    ),
    key=("conversation_id", "message_id", "target_language", "prompt_version"),
)

CATEGORIES = Table(
    layer="lake",
    name="categories",
    description="One row per conversation and taxonomy version.",
    columns=(
        partition_column(),
        Column("conversation_id", pa.string(), "The conversation."),
        Column("taxonomy_version", pa.string(), "Version of the list of categories."),
        Column("prompt_version", pa.string(), "DIFY_PROMPT_VERSION at the time."),
        Column(
            "category", pa.string(), "What the conversation is about; `unknown` where it could not be told."
        ),
        Column("confidence", pa.float64(), "Confidence, 0 to 1.", nullable=True),
        Column("source", pa.string(), "Who decided.", values=("llm", "rule", "human")),
        Column("error", pa.string(), "Why the workflow did not decide.", nullable=True),
    ),
    key=("conversation_id", "taxonomy_version"),
)

LLM_CALLS = Table(
    layer="lake",
    name="llm_calls",
    description=(
        "The ledger: one row per text and call of a workflow, also failed ones and answers from the memory. "
        "A call about several texts is shared among them, to the last token."
    ),
    columns=(
        partition_column("Day of the conversation for which the call was made."),
        Column("call_id", pa.string(), "Key of the call."),
        Column("purpose", pa.string(), "What for.", values=("translation", "category")),
        Column("status", pa.string(), "How it ended.", values=("ok", "failed", "cached")),
        Column("conversation_id", pa.string(), "The conversation it was made for."),
        Column("message_id", pa.string(), "The message it was made for.", nullable=True),
        Column("workflow_run_id", pa.string(), "Dify's id of the run.", nullable=True),
        Column("model", pa.string(), "Language model; NULL where Dify did not say.", nullable=True),
        Column("tokens", pa.int64(), "Tokens used; NULL where Dify did not say.", "tokens", nullable=True),
        Column("price", MONEY, "Price; NULL where Dify did not say.", "currency", nullable=True),
        Column("currency", pa.string(), "Currency of the price.", nullable=True),
        Column("latency_ms", pa.int64(), "From the question to the last event.", "ms", nullable=True),
        Column(
            "attempts", pa.int32(), "Requests sent for it; 0 for the further texts of a call.", "requests"
        ),
        Column("error", pa.string(), "Why it failed.", nullable=True),
        Column("created_at", TIMESTAMP, "When the call was made."),
    ),
    key=("call_id",),
)

TABLES = (CONVERSATIONS, MESSAGES, TRANSLATIONS, CATEGORIES, LLM_CALLS)
