"""Source rows → typed documents or rejects with a reason; hashing. Pure: no database, no network.

What one value means is `domain.parsing`'s; which of several versions lives is `domain.versions`'.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PlainValidator, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from cai_assets.domain.parsing import microseconds, parse_id, parser_of
from cai_assets.failures import PermanentError
from cai_assets.schemas.documents import SCHEMA_VERSION, SOURCE_COLLECTIONS, Collection

SourceTableName: TypeAlias = Literal["conversations", "messages"]

MAX_REASON = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Version:
    """One valid source row as a document; several may compete for one business id.

    Attributes:
        id: business id, `_id` of the document.
        partition: day under which the row was extracted.
        source_id: the source's own row number.
        source_updated_us: when the source last wrote the row, microseconds since 1970 UTC.
        content_hash: of the business fields.
        fields: business fields of the document, without `_id`; instants twice (`x_at` and `x_us`).
        row: the row's JSON text, verbatim, for the case that the database refuses it.
    """

    id: str
    partition: str
    source_id: int
    source_updated_us: int
    content_hash: str
    fields: dict[str, Any]
    row: str

    @property
    def rank(self) -> tuple[int, int, str]:
        """The greater lives: the later written, then the later numbered, then the later day."""
        return (self.source_updated_us, self.source_id, self.partition)


@dataclass(frozen=True, slots=True)
class Reject:
    """One source row that became no document.

    Attributes:
        partition: day under which the row was extracted.
        source_id: the source's own row number.
        source_updated_us: when the source last wrote the row, microseconds since 1970 UTC; None where the
            source does not tell.
        business_id: what would be `_id` of its document; None where it cannot be read.
        reason: what is wrong, naming the fields.
        row: the row's JSON text, verbatim.
    """

    partition: str
    source_id: int
    source_updated_us: int | None
    business_id: str | None
    reason: str
    row: str


@dataclass(frozen=True, slots=True)
class PartitionDocuments:
    """All rows of one partition, judged: `len(versions) + len(rejects)` is the number of raw rows."""

    partition: str
    versions: list[Version]
    rejects: list[Reject]


@dataclass(frozen=True)
class DocumentBatch:
    """The documents of whole partitions, made from raw rows one partition at a time.

    Attributes:
        table: "conversations" or "messages".
        partitions: days that are replaced, also those without any row.
        rows: raw rows of these days (`schemas.raw`).
        live_conversations: conversation_id → day it lives on, for messages; None leaves orphans unjudged.
    """

    table: SourceTableName
    partitions: tuple[str, ...]
    rows: pa.Table = field(repr=False)
    live_conversations: Mapping[str, str] | None = field(default=None, repr=False)

    def parts(self) -> Iterator[PartitionDocuments]:
        """Each partition in turn, typed when it is asked for: a range needs the memory of its largest day.

        Raises:
            PermanentError: the raw rows hold one row number twice in a day, or days that were not announced.
        """
        days = self.rows.column("partition")
        unknown = set(pc.unique(days).to_pylist()) - set(self.partitions)
        if unknown:
            raise PermanentError(
                f"raw/{self.table}: rows of {sorted(unknown)[:5]}, which are not replaced now"
            )
        for partition in self.partitions:
            part = self.rows.filter(pc.equal(days, partition))
            yield _judge(self.table, partition, part, self.live_conversations)


def documents_from_raw(
    rows: pa.Table,
    table: SourceTableName,
    *,
    partitions: Sequence[str],
    live_conversations: Mapping[str, str] | None = None,
) -> DocumentBatch:
    """Raw rows as what replaces the documents of their partitions.

    Args:
        rows: raw rows (`schemas.raw`) of exactly these partitions.
        table: "conversations" or "messages".
        partitions: days to replace; a day without rows loses its documents.
        live_conversations: for messages: conversation_id → day it lives on. A message whose conversation does
            not live on the message's own partition is rejected as an orphan, and comes back with it.

    Returns:
        A batch for `MongoStore.replace_partitions`; rows are typed when it is read.
    """
    return DocumentBatch(table, tuple(dict.fromkeys(partitions)), rows, live_conversations)


def parse_row(table: SourceTableName, row: str) -> tuple[str, dict[str, Any], str]:
    """Type one row.

    Args:
        table: "conversations" or "messages".
        row: JSON text of an object with the source's columns under the platform's names.

    Returns:
        Business id, fields of the document without `_id`, content hash.

    Raises:
        ValueError: naming every field that is wrong, and how.
    """
    shape = _shape(table)
    try:
        values = json.loads(row)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"row: no JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError("row: no JSON object")  # noqa: TRY004  a refusal as any other
    try:
        typed: dict[str, Any] = shape.adapter.validate_python({**shape.absent, **values})
    except ValidationError as error:
        raise ValueError(_reason(error)) from None
    exact = dict(typed)
    fields: dict[str, Any] = {}
    for name, value in typed.items():
        fields[name] = value
        if (us_name := shape.instants.get(name)) is not None:
            fields[us_name] = exact[name] = None if value is None else microseconds(value)
    digest = content_hash(exact)
    if table == "messages":
        fields["text_hash"] = text_hash(typed["text"])
    return fields.pop(shape.key), fields, digest


def source_updated_us(
    table: SourceTableName, row_written_us: int | None, fields: Mapping[str, Any] | None
) -> int | None:
    """When the source last wrote a row, by which versions of it are told apart: the one place that decides.

    Args:
        table: "conversations" or "messages".
        row_written_us: the row's own `updated_at`, or else its `created_at` (NocoDB's UpdatedAt is null until
            the first update), in microseconds since 1970 UTC; None where the source has neither.
        fields: what `parse_row` made of the row; None where it could not.

    Returns:
        That time; without one what the row says of itself (its last change, else its start); else None.
    """
    if row_written_us is not None or fields is None:
        return row_written_us
    own: int = fields["updated_us"] or fields["started_us" if table == "conversations" else "created_us"]
    return own


def business_id(table: SourceTableName, row: str) -> str | None:
    """The business id of a row that may be wrong in every other field; None where it cannot be read."""
    try:
        return parse_id(json.loads(row)[SOURCE_COLLECTIONS[table].key.name])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def content_hash(fields: Mapping[str, Any]) -> str:
    """blake2b-128, in hex, of business fields as canonical JSON (sorted keys, no blanks, ASCII).

    Args:
        fields: values that JSON knows, instants as microseconds since 1970; dates inside are left out of what
            is compared, as their `*_us` companions say the same exactly.
    """
    text = json.dumps(
        fields,
        sort_keys=True,
        separators=(",", ":"),
        default=_no_date,
        ensure_ascii=True,
        check_circular=False,
    )
    return blake2b(f"{SCHEMA_VERSION}:{text}".encode(), digest_size=16).hexdigest()


def text_hash(text: str | None) -> str:
    """blake2b-128, in hex, of a text in Unicode's normal form NFC; no text hashes as the empty one."""
    text = text or ""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def instant_of(microseconds_since_1970: int) -> datetime:
    """The instant in UTC, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds_since_1970)


@dataclass(frozen=True)
class _Shape:
    """What `parse_row` needs of a declaration, made once."""

    adapter: TypeAdapter[Any]
    absent: dict[str, None]
    instants: dict[str, str]
    key: str


@cache
def _shape(table: str) -> _Shape:
    declared: Collection = SOURCE_COLLECTIONS[table]
    types = {one.name: Annotated[Any, PlainValidator(parser_of(one))] for one in declared.fields}
    return _Shape(
        adapter=TypeAdapter(TypedDict(table, types)),  # type: ignore[operator]  # made at run time
        absent=dict.fromkeys(types),
        instants={one.name: one.us_name for one in declared.fields if one.kind == "instant"},
        key=declared.key.name,
    )


def _judge(
    table: SourceTableName, partition: str, rows: pa.Table, live_conversations: Mapping[str, str] | None
) -> PartitionDocuments:
    ids = rows.column("id").to_pylist()
    if len(set(ids)) != len(ids):
        twice = sorted({one for one in ids if ids.count(one) > 1})[:5]
        raise PermanentError(
            f"raw/{table} of {partition} holds the row numbers {twice} more than once: "
            f"materialise raw/{table} again"
        )
    written = pc.coalesce(rows.column("updated_at"), rows.column("created_at")).cast(pa.int64()).to_pylist()
    versions: list[Version] = []
    rejects: list[Reject] = []
    for source_id, written_us, row in zip(ids, written, rows.column("row").to_pylist(), strict=True):
        fields: dict[str, Any] | None = None
        try:
            key, fields, digest = parse_row(table, row)
            if live_conversations is not None:
                _check_adopted(fields["conversation_id"], partition, live_conversations)
        except ValueError as error:
            updated_us = source_updated_us(table, written_us, fields)
            reason = clean_reason(str(error))
            rejects.append(Reject(partition, source_id, updated_us, business_id(table, row), reason, row))
            continue
        updated_us = source_updated_us(table, written_us, fields)
        assert updated_us is not None  # noqa: S101  a valid row has a start
        versions.append(Version(key, partition, source_id, updated_us, digest, fields, row))
    return PartitionDocuments(partition, versions, rejects)


def _check_adopted(conversation_id: str, partition: str, live_conversations: Mapping[str, str]) -> None:
    if live_conversations.get(conversation_id) != partition:
        # Which of the three it is depends on the days that a run covers; the reason must not.
        raise ValueError(
            f"orphan: its conversation {conversation_id!r} does not live on {partition}: it is unknown, in "
            "quarantine, or started on another day"
        )


def _reason(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    )


def clean_reason(reason: str) -> str:
    """A reason that every store can hold: valid UTF-8, at most 1000 characters."""
    text = reason.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"


def _no_date(value: Any) -> None:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} has no place in a document")
