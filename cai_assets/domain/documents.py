"""Source rows → typed documents or rejects with a reason; hashing. Pure: no database, no network.

What one value means is `domain.parsing`'s; which of several versions lives is `domain.versions`'.
"""

import json
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from cai_assets.domain.erasure import Erased
from cai_assets.domain.parsing import Parser, microseconds, parse_id, parser_of
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
    """All rows of one partition, judged: `len(versions) + len(rejects) + erased` is the number of raw rows.

    Attributes:
        partition: the day.
        versions: rows that may become documents.
        rejects: rows that became none.
        erased: rows of persons who were erased: they become nothing, and are counted.
        erased_conversations: marks of the conversations among them.
    """

    partition: str
    versions: list[Version]
    rejects: list[Reject]
    erased: int = 0
    erased_conversations: frozenset[str] = frozenset()


RowsOf: TypeAlias = Callable[[str], pa.Table]
LiveOn: TypeAlias = Callable[[str], Container[str]]


@dataclass(frozen=True)
class DocumentBatch:
    """The documents of whole partitions, made from raw rows one partition at a time.

    Attributes:
        table: "conversations" or "messages".
        partitions: days that are replaced, also those without any row.
        rows: gives the raw rows (`schemas.raw`) of one of these days.
        live_conversations: for messages, gives the ids of the conversations that live on a day; None leaves
            orphans unjudged.
        erased: whose rows must not become documents; None where nobody was erased.
    """

    table: SourceTableName
    partitions: tuple[str, ...]
    rows: RowsOf = field(repr=False)
    live_conversations: LiveOn | None = field(default=None, repr=False)
    erased: Erased | None = field(default=None, repr=False)

    def parts(self) -> Iterator[PartitionDocuments]:
        """Each partition in turn, read and typed when it is asked for: nothing of another is in memory.

        Raises:
            PermanentError: the raw rows hold one row number twice in a day, or rows of another day.
        """
        for partition in self.partitions:
            live = None if self.live_conversations is None else self.live_conversations(partition)
            yield _judge(self.table, partition, self.rows(partition), live, self.erased)


def documents_from_raw(
    rows: pa.Table,
    table: SourceTableName,
    *,
    partitions: Sequence[str],
    live_conversations: Mapping[str, str] | None = None,
    erased: Erased | None = None,
) -> DocumentBatch:
    """Raw rows that are in memory already as what replaces the documents of their partitions.

    Args:
        rows: raw rows (`schemas.raw`) of exactly these partitions.
        table: "conversations" or "messages".
        partitions: days to replace; a day without rows loses its documents.
        live_conversations: for messages: conversation_id → day it lives on. A message whose conversation does
            not live on the message's own partition is rejected as an orphan, and comes back with it.
        erased: whose rows must not become documents.

    Returns:
        A batch for `MongoStore.replace_partitions`; rows are typed when it is read.

    Raises:
        PermanentError: there are rows of days that are not among the partitions.
    """
    days = rows.column("partition")
    unknown = set(pc.unique(days).to_pylist()) - set(partitions)
    if unknown:
        raise PermanentError(f"raw/{table}: rows of {sorted(unknown)[:5]}, which are not replaced now")
    live: LiveOn | None = None
    if live_conversations is not None:
        by_day: dict[str, set[str]] = defaultdict(set)
        for conversation_id, day in live_conversations.items():
            by_day[day].add(conversation_id)
        live = by_day.__getitem__
    return DocumentBatch(
        table, tuple(dict.fromkeys(partitions)), lambda day: rows.filter(pc.equal(days, day)), live, erased
    )


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
    fields: dict[str, Any] = {}
    exact: dict[str, Any] = {}
    wrong: list[str] = []
    for name, us_name, parse in shape.fields:
        try:
            value = parse(values.get(name))
        except ValueError as error:
            wrong.append(f"{name}: {error}")
            continue
        fields[name] = exact[name] = value
        if us_name is not None:
            fields[us_name] = exact[name] = None if value is None else microseconds(value)
    if wrong:
        raise ValueError("; ".join(wrong))
    digest = content_hash(exact)
    if table == "messages":
        fields["text_hash"] = text_hash(fields["text"])
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
    text = _canonical(fields)
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

    fields: tuple[tuple[str, str | None, Parser], ...]
    key: str


@cache
def _shape(table: str) -> _Shape:
    declared: Collection = SOURCE_COLLECTIONS[table]
    return _Shape(
        tuple(
            (one.name, one.us_name if one.kind == "instant" else None, parser_of(one))
            for one in declared.fields
        ),
        declared.key.name,
    )


def _judge(
    table: SourceTableName,
    partition: str,
    rows: pa.Table,
    live_conversations: Container[str] | None,
    erased: Erased | None,
) -> PartitionDocuments:
    others = set(pc.unique(rows.column("partition")).to_pylist()) - {partition}
    if others:
        raise PermanentError(f"raw/{table}: rows of {sorted(others)[:5]} lie among those of {partition}")
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
    dropped = 0
    dropped_conversations: set[str] = set()
    for source_id, written_us, row in zip(ids, written, rows.column("row").to_pylist(), strict=True):
        if erased is not None and erased.json_row(table, row):
            dropped += 1
            if table == "conversations":
                dropped_conversations |= erased.marks_of(row)
            continue
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
    return PartitionDocuments(partition, versions, rejects, dropped, frozenset(dropped_conversations))


def _check_adopted(conversation_id: str, partition: str, live_conversations: Container[str]) -> None:
    if conversation_id not in live_conversations:
        # Which of the three it is depends on the days that a run covers; the reason must not.
        raise ValueError(
            f"orphan: its conversation {conversation_id!r} does not live on {partition}: it is unknown, in "
            "quarantine, or started on another day"
        )


def clean_reason(reason: str) -> str:
    """A reason that every store can hold: valid UTF-8, at most 1000 characters."""
    text = reason.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"


def _no_date(value: Any) -> None:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} has no place in a document")


# Made once: `json.dumps` with options makes an encoder for each row.
_canonical = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), default=_no_date, ensure_ascii=True, check_circular=False
).encode
