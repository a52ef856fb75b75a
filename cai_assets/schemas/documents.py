"""The documents layer: collections of MongoDB, their source columns, typed fields and indexes.

One declaration per collection. From it come the validation of source rows (`domain.documents`), the indexes
(`resources.mongo`) and the Arrow reading (`resources.mongo_arrow`). The lake's columns: `schemas.lake`.

Instants: BSON keeps milliseconds only, so every business instant `x_at` has a companion `x_us`, the exact
count of microseconds since 1970-01-01 UTC; `x_at` is for people and queries, `x_us` is what the lake reads.
"""

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from cai_assets.schemas.base import TIMESTAMP, Column, Table, partition_column
from cai_assets.schemas.lake import SENDER_TYPES, STATUS_EVENT, STATUSES, TRAFFIC_CLASSES

SCHEMA_VERSION = 1
"""Of the documents; raised when their shape changes, which makes every document be written again."""

Kind = Literal["id", "text", "enum", "instant", "bool", "int32", "number", "tags", "status_events", "attrs"]


@dataclass(frozen=True)
class SourceField:
    """One business field, under the name of the source column and of the document.

    Attributes:
        name: column of the source (after NOCODB_FIELD_MAP) and field of the document; the business key is
            stored as `_id`.
        kind: how it is read (see `domain.parsing`).
        description: meaning.
        required: the source must have the column.
        nullable: a row may have no value in it; unset, what is required is not nullable.
        values: the only texts allowed (`enum`); compared without case, stored as written here.
        default: stored where the source has no value.
    """

    name: str
    kind: Kind
    description: str
    required: bool = False
    values: tuple[str, ...] | None = None
    default: str | bool | None = None
    nullable: bool | None = None

    @property
    def may_be_null(self) -> bool:
        """Whether a row without a value here is a document."""
        return not self.required if self.nullable is None else self.nullable

    @property
    def us_name(self) -> str:
        """The companion of an instant: `started_at` → `started_us`."""
        return f"{self.name.removesuffix('_at')}_us"


@dataclass(frozen=True)
class Index:
    """One index: field names in order, ascending; `sparse` leaves out documents without the fields."""

    fields: tuple[str, ...]
    unique: bool = False
    sparse: bool = False


@dataclass(frozen=True)
class Collection:
    """One collection.

    Attributes:
        name: the platform's name of it; the database's name comes from the settings (`MONGODB_*_COLLECTION`).
        description: grain and key.
        indexes: beside the one on `_id`.
        fields: business fields, for collections that hold source rows.
    """

    name: str
    description: str
    indexes: tuple[Index, ...] = ()
    fields: tuple[SourceField, ...] = ()
    by_name: dict[str, SourceField] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {one.name: one for one in self.fields})

    @property
    def key(self) -> SourceField:
        """The business key: the first field of a collection of source rows."""
        return self.fields[0]

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that the source must have."""
        return tuple(one.name for one in self.fields if one.required)

    @property
    def optional(self) -> tuple[str, ...]:
        """Columns that are read where the source has them."""
        return tuple(one.name for one in self.fields if not one.required)


# Reading one partition is one range over this index; it is the shard key too.
_BY_PARTITION = Index(("partition", "_id"))
_SUPERSEDED = Index(("superseded.partition",), sparse=True)
# What became of a source row, asked by whoever looks for changes: the row lives, is superseded, or waits.
_BY_SOURCE_ROW = Index(("source_id",))
_SUPERSEDED_ROW = Index(("superseded.source_id",), sparse=True)

_CONVERSATIONS = Collection(
    name="conversations",
    description="One document per conversation; `_id` = conversation_id.",
    indexes=(_BY_PARTITION, _SUPERSEDED, _BY_SOURCE_ROW, _SUPERSEDED_ROW, Index(("user_id", "_id"))),
    fields=(
        SourceField("conversation_id", "id", "Business key of the conversation.", required=True),
        SourceField("user_id", "id", "The user's id, as the source has it.", required=True),
        SourceField("status", "enum", "Status at the last update.", required=True, values=STATUSES),
        SourceField("started_at", "instant", "Start; its local day is the partition.", required=True),
        SourceField("agent_id", "text", "Agent the conversation is assigned to."),
        SourceField("channel", "text", "Where it took place."),
        SourceField("language", "text", "Declared language, BCP 47."),
        SourceField("ended_at", "instant", "End, where the source gives one."),
        SourceField("updated_at", "instant", "Last change by the source's own account."),
        SourceField("traffic_class", "enum", "Only `live` counts.", values=TRAFFIC_CLASSES, default="live"),
        SourceField("status_events", "status_events", "Changes of status in order of time."),
        SourceField("tags", "tags", "Free labels."),
        SourceField("csat_score", "number", "Answer to the satisfaction survey, 1 to 5 points."),
        SourceField("csat_at", "instant", "When the survey was answered."),
        SourceField("csat_comment", "text", "Comment given with the survey."),
        SourceField("attrs", "attrs", "Anything else the source keeps, as it is."),
    ),
)

_MESSAGES = Collection(
    name="messages",
    description="One document per message; `_id` = message_id.",
    indexes=(_BY_PARTITION, _SUPERSEDED, _BY_SOURCE_ROW, _SUPERSEDED_ROW, Index(("conversation_id", "_id"))),
    fields=(
        SourceField("message_id", "id", "Business key of the message.", required=True),
        SourceField("conversation_id", "id", "The conversation it belongs to.", required=True),
        SourceField("sender_type", "enum", "Who wrote it.", required=True, values=SENDER_TYPES),
        SourceField("text", "text", "What was written.", required=True, nullable=True),
        SourceField("created_at", "instant", "When it was written.", required=True),
        SourceField("seq", "int32", "Place within the conversation, as the source counts."),
        SourceField("sender_id", "text", "Who exactly."),
        SourceField("language", "text", "Declared language, BCP 47."),
        SourceField("updated_at", "instant", "When it was last edited."),
        SourceField("private", "bool", "Internal note, never seen by the user.", default=False),
        SourceField("attrs", "attrs", "Anything else the source keeps, as it is."),
    ),
)

_TRANSLATIONS = Collection(
    name="translations",
    description="One per message that needs a translation; `_id` = message_id|target|prompt_version.",
    indexes=(_BY_PARTITION, Index(("message_id",)), Index(("conversation_id",))),
)

_CATEGORIES = Collection(
    name="categories",
    description="One document per conversation and taxonomy; `_id` = conversation_id|taxonomy_version.",
    indexes=(_BY_PARTITION, Index(("conversation_id",))),
)

_TRANSLATION_MEMORY = Collection(
    name="translation_memory",
    description="One per answered text; `_id` = hash of text_hash, source, target and prompt version.",
)

_LLM_CALLS = Collection(
    name="llm_calls",
    description="The ledger, one document per call; `_id` = call_id.",
    indexes=(_BY_PARTITION, Index(("conversation_id",)), Index(("run_id",)), Index(("created_us",))),
)

_LLM_CLAIMS = Collection(
    name="llm_claims",
    description="Who asks Dify for what now: claims by purpose and key, and their holders.",
    # Holders alone have a birth, by which those that are long gone are found.
    indexes=(Index(("born_at",), sparse=True),),
)

_QUARANTINE = Collection(
    name="quarantine",
    description="Rows that could not become documents, verbatim; `_id` = table:partition:source_id.",
    indexes=(
        Index(("table", "partition", "_id")),
        Index(("table", "source_id")),
        Index(("table", "business_id")),
    ),
)

_WITHOUT_DAY = Collection(
    name="without_day",
    description="Rows that belong to no day, verbatim: conversations without a readable start, messages "
    "whose conversation the source does not have; `_id` = table:source_id.",
    indexes=(Index(("table", "conversation_id")),),
)

_DIRTY_DAYS = Collection(
    name="dirty_days",
    description="Days whose documents are not what the source holds now; `_id` = day. Gone when refreshed.",
)

_ANALYTICS_REPORTS = Collection(
    name="analytics_reports",
    description="Published reports, one document per report and grain.",
    indexes=(Index(("report", "date")),),
)

_USER_ANALYTICS = Collection(
    name="user_analytics", description="One document per user; `_id` = hashed user id."
)

_STATE = Collection(
    name="state", description="What parts of the platform remember between runs (watermarks)."
)

_ERASURES = Collection(
    name="erasures",
    description="Who was erased, as keyed hashes; receipts; raw rows that were dropped for it, by day.",
    indexes=(Index(("kind",)), Index(("kind", "table"))),
)

SOURCE_COLLECTIONS = {"conversations": _CONVERSATIONS, "messages": _MESSAGES}
"""Collections whose documents are source rows."""
COLLECTIONS = {
    one.name: one
    for one in (
        _CONVERSATIONS,
        _MESSAGES,
        _TRANSLATIONS,
        _CATEGORIES,
        _TRANSLATION_MEMORY,
        _LLM_CALLS,
        _LLM_CLAIMS,
        _QUARANTINE,
        _WITHOUT_DAY,
        _DIRTY_DAYS,
        _ANALYTICS_REPORTS,
        _USER_ANALYTICS,
        _STATE,
        _ERASURES,
    )
}
"""Every collection by the platform's name of it."""

LAKE_FIELDS: dict[str, dict[str, str]] = {
    "conversations": {"conversation_id": "_id"},
    "messages": {"message_id": "_id", "is_private": "private"},
    "translations": {},
    "categories": {},
    "llm_calls": {"call_id": "_id"},
}
"""The fields behind the lake's columns, where they have other names. Instants come from `*_us`."""

_ARROW_TYPES: dict[Kind, pa.DataType] = {
    "id": pa.string(),
    "text": pa.string(),
    "enum": pa.string(),
    "instant": TIMESTAMP,
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "number": pa.float64(),
    "tags": pa.list_(pa.string()),
    "status_events": pa.list_(STATUS_EVENT),
    "attrs": pa.string(),
}


def _table(collection: Collection) -> Table:
    columns = [
        Column(
            "_id" if one is collection.key else one.name,
            _ARROW_TYPES[one.kind],
            one.description,
            nullable=one.may_be_null and one.default is None,
            values=one.values,
        )
        for one in collection.fields
    ]
    stamps = [
        Column("content_hash", pa.string(), "blake2b-128 of the business fields."),
        Column("source_id", pa.int64(), "The source's own row number."),
        Column("source_updated_at", TIMESTAMP, "When the source row was last written."),
        Column("ingested_at", TIMESTAMP, "When the document was first written."),
        Column("changed_at", TIMESTAMP, "When the document was last changed."),
        Column("run_id", pa.string(), "The run that changed it last."),
        Column("schema_version", pa.int32(), "Version of the documents' shape."),
        Column("deleted_at", TIMESTAMP, "When its row was gone from the source.", nullable=True),
    ]
    if collection.name == "messages":
        stamps.append(Column("text_hash", pa.string(), "blake2b-128 of the NFC text."))
    return Table(
        layer="documents",
        name=collection.name,
        description=collection.description,
        columns=(partition_column(), *columns, *stamps),
        key=("_id",),
    )


CONVERSATIONS = _table(_CONVERSATIONS)
MESSAGES = _table(_MESSAGES)
TABLES = (CONVERSATIONS, MESSAGES)
"""The collections of source rows as tables, for the UI and the data dictionary."""
