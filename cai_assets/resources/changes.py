"""Looking for changes: rows of the source compared with what became of them, and the poll for new ones.

What the comparison means is `domain.changes`'; deletions, which no row tells of, are found by `sweep`.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import bson
from pydantic import BaseModel
from pymongo import DeleteOne, ReplaceOne
from pymongo.errors import PyMongoError

from cai_assets.domain.changes import Found, KnownRow, SeenRow, differences
from cai_assets.domain.documents import SourceTableName, parse_row, source_updated_us
from cai_assets.domain.erasure import Erased
from cai_assets.domain.parsing import microseconds
from cai_assets.domain.rows import conversation_of, marked, row_text, start_day
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.mongo_documents import KEPT_OF_LARGE, LARGEST_ROW
from cai_assets.resources.mongo_writes import Document, Operation
from cai_assets.resources.source import CONVERSATIONS, MESSAGES, TABLES, Source, SourceRow, SourceTable

WITHOUT_START = "its started_at is no instant, so it belongs to no day; correct it in the source"
WITHOUT_CONVERSATION = (
    "orphan: the source has no conversation of its conversation_id; it is adopted when that appears"
)


class Cursor(BaseModel, frozen=True):
    """Where a poll goes on; as JSON it is the sensor's cursor.

    Attributes:
        since: rows written at this time or later are looked at, UTC.
        begun: the source's time when the present round began; the next one begins there. None between rounds.
        table: the table being read.
        after_id: row number behind which it is read.
    """

    since: datetime
    begun: datetime | None = None
    table: SourceTableName = "conversations"
    after_id: int = 0


@dataclass
class Looked:
    """What a look at the source found.

    Attributes:
        found: the days that are not up to date, and why.
        rows: rows looked at, by table.
        without_day: of these, rows that belong to no day.
    """

    found: Found = field(default_factory=Found)
    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    without_day: int = 0


class Comparison:
    """Compares rows of the source with the documents, and keeps those that belong to no day."""

    def __init__(
        self, source: Source, store: MongoStore, zone: ZoneInfo, erased: Erased | None = None
    ) -> None:
        """Make a comparison.

        Args:
            source: asked for conversations that no document knows.
            store: the documents.
            zone: whose days are the partitions.
            erased: whose rows are passed over, as they become nothing; None where nobody was erased.
        """
        self._source = source
        self._store = store
        self._zone = zone
        self._erased = erased
        self._owners_erased: set[str] = set()

    def look(self, table: SourceTable, rows: Sequence[SourceRow], into: Looked) -> None:
        """Compare some whole rows, and note what they make dirty.

        Args:
            table: theirs.
            rows: with all columns.
            into: gets what was found.

        Raises:
            SourceError, TransientError, PermanentError: source or MongoDB do not answer as they should.
        """
        rows = [row for row in rows if not self._is_erased(table, row)]
        days = self.days_of(table, rows)
        rows = [row for row in rows if conversation_of(row.values) not in self._owners_erased]
        known = known_rows(self._store, table.name, [row.id for row in rows])
        homeless = []
        for row in rows:
            seen = _seen(table, row, days[row.id])
            into.found.add(differences(seen, known.get(row.id, ())), f"{table.name}:{seen.version}")
            if not seen.days:
                homeless.append((row, seen))
        into.rows[table.name] += len(rows)
        into.without_day += len(homeless)
        self._keep(table, rows, homeless)

    def _is_erased(self, table: SourceTable, row: SourceRow) -> bool:
        return self._erased is not None and self._erased.row(table.name, row.values)

    def days_of(self, table: SourceTable, rows: Sequence[SourceRow]) -> dict[int, frozenset[str]]:
        """By row number, the days under which each row is read."""
        if table is CONVERSATIONS:
            return {row.id: _as_set(start_day(row.values, self._zone)) for row in rows}
        owners = {row.id: conversation_of(row.values) for row in rows}
        days = self.days_of_conversations({one for one in owners.values() if one is not None})
        return {
            number: frozenset(days.get(owner, ())) if owner is not None else frozenset()
            for number, owner in owners.items()
        }

    def days_of_conversations(self, ids: Iterable[str]) -> dict[str, set[str]]:
        """The days of all rows of these conversations: by the documents, else by the source.

        One that neither knows is not in the answer.
        """
        wanted = sorted(set(ids))
        days: dict[str, set[str]] = defaultdict(set)
        # No document has half a character in its id.
        for part in _parts([one for one in wanted if marked(one) == one], self._store.batch_size):
            for one in self._find(
                "conversations", {"_id": {"$in": part}}, "partition", "deleted_at", "superseded"
            ):
                if one["deleted_at"] is None:
                    days[one["_id"]].add(one["partition"])
                days[one["_id"]] |= {entry["partition"] for entry in one.get("superseded") or ()}
            waiting = {"table": "conversations", "business_id": {"$in": part}}
            for one in self._find("quarantine", waiting, "business_id", "partition"):
                days[one["business_id"]].add(one["partition"])
        unknown = [one for one in wanted if not days.get(one)]
        for row in self._source.conversations_by_id(unknown) if unknown else ():
            owner, day = conversation_of(row.values), start_day(row.values, self._zone)
            if owner is not None and self._is_erased(CONVERSATIONS, row):
                self._owners_erased.add(owner)
            elif owner is not None and day is not None:
                days[owner].add(day)
        return {one: found for one, found in days.items() if found}

    def _find(self, name: str, query: Document, *fields: str) -> Iterable[Document]:
        return self._store.collection(name).find(query, dict.fromkeys(fields, 1))

    def _keep(
        self, table: SourceTable, rows: Sequence[SourceRow], homeless: Sequence[tuple[SourceRow, SeenRow]]
    ) -> None:
        """Keep rows without a day, and let go of those that have one now."""
        operations: list[Operation] = []
        kept = set()
        for row, seen in homeless:
            entry = _kept(table, row, seen)
            kept.add(entry["_id"])
            operations.append(ReplaceOne({"_id": entry["_id"]}, entry, upsert=True))
        known = self._store.collection("without_day")
        keys = [_key(table, row.id) for row in rows if _key(table, row.id) not in kept]
        gone = {
            one["_id"]
            for part in _parts(keys, 1000)
            for one in known.find({"_id": {"$in": part}}, {"_id": 1})
        }
        if table is CONVERSATIONS:
            # Their messages have a home now: the conversation's day is dirty, and reading it brings them.
            ids = {conversation_of(row.values) for row in rows if _key(table, row.id) not in kept}
            for part in _parts(sorted(marked(one) for one in ids if one), 1000):
                orphans = {"table": MESSAGES.name, "conversation_id": {"$in": part}}
                gone |= {one["_id"] for one in known.find(orphans, {"_id": 1})}
        operations += [DeleteOne({"_id": key}) for key in sorted(gone)]
        self._store.write("without_day", operations).raise_failures()


def known_rows(
    store: MongoStore, table: SourceTableName, numbers: Sequence[int]
) -> dict[int, list[KnownRow]]:
    """What became of these rows of the source when their days were last refreshed, by row number.

    Raises:
        TransientError, PermanentError: MongoDB does not answer, or refuses.
    """
    wanted = sorted(set(numbers))
    known: dict[int, list[KnownRow]] = defaultdict(list)
    try:
        for part in _parts(wanted, 1000):
            for one in documented_rows(store, table, {"$in": part}):
                known[one.id].append(one)
            query = {"table": table, "source_id": {"$in": part}}
            for entry in store.collection("quarantine").find(query):
                known[entry["source_id"]].append(_quarantined(entry))
    except PyMongoError as error:
        raise store.explain(error) from error
    return known


def documented_rows(store: MongoStore, table: SourceTableName, numbers: Document) -> Iterable[KnownRow]:
    """Live and superseded versions of rows whose number meets a condition of MongoDB's."""
    fields = ("source_id", "partition", "source_updated_us", "content_hash")
    collection = store.collection(table)
    # One query for each index: the embedded server reads the whole collection for one with `$or`.
    for one in collection.find({"source_id": numbers}, dict.fromkeys((*fields, "deleted_at"), 1)):
        if one["deleted_at"] is None:
            yield KnownRow(*(one[name] for name in fields))
    for one in collection.find({"superseded.source_id": numbers}, {"superseded": 1}):
        for entry in one["superseded"]:
            yield KnownRow(*(entry[name] for name in fields))


def poll(
    source: Source,
    store: MongoStore,
    cursor: Cursor,
    zone: ZoneInfo,
    *,
    until: float,
    clock: Callable[[], float] = time.monotonic,
    erased: Erased | None = None,
) -> tuple[Cursor, Looked]:
    """Look at what was written since the last look, until all is seen or the time is up.

    Args:
        source: what is looked at.
        store: the documents to compare with.
        cursor: where to begin.
        zone: whose days are the partitions.
        until: when to stop, on `clock`; one page is read at least.
        clock: seconds.
        erased: whose rows are passed over.

    Returns:
        Where to go on, and what was found. A round that was cut off goes on where it stopped; after a whole
        round the next begins at the time when this one began, less the source's overlap.
    """
    comparison = Comparison(source, store, zone, erased)
    looked = Looked()
    begun = cursor.begun or source.now()
    tables = {table.name: table for table in TABLES}
    names = [table.name for table in TABLES]
    for name in names[names.index(cursor.table) :]:
        after_id = cursor.after_id if name == cursor.table else 0
        for page in source.changes(tables[name], cursor.since, after_id):
            comparison.look(tables[name], page.rows, looked)
            if not page.last and clock() >= until:
                at = Cursor(since=cursor.since, begun=begun, table=name, after_id=page.last_id)
                return at, looked
    return Cursor(since=begun - source.overlap), looked


def first_cursor(source: Source) -> Cursor:
    """Where to begin where nothing was looked at yet: now. What was before is a sweep's work."""
    return Cursor(since=source.now() - source.overlap)


def _seen(table: SourceTable, row: SourceRow, days: frozenset[str]) -> SeenRow:
    text = row_text(row.values)
    fields: dict[str, Any] | None = None
    digest: str | None = None
    try:
        _, fields, digest = parse_row(table.name, text)
    except ValueError:
        fields = None  # the reason is the documents' to tell; here only whether the row is the same counts
    return SeenRow(row.id, days, source_updated_us(table.name, written_us(row), fields), digest, text)


def written_us(row: SourceRow) -> int | None:
    """When the source last wrote the row by its own account, microseconds since 1970 UTC."""
    written = row.updated_at or row.created_at
    return None if written is None else microseconds(written)


def _quarantined(entry: Document) -> KnownRow:
    row = entry["row"]
    return KnownRow(
        entry["source_id"],
        entry["partition"],
        entry["source_updated_us"],
        row=row,
        cut=len(row) == KEPT_OF_LARGE,
    )


def _kept(table: SourceTable, row: SourceRow, seen: SeenRow) -> Document:
    reason = WITHOUT_START if table is CONVERSATIONS else WITHOUT_CONVERSATION
    owner = conversation_of(row.values)
    entry: Document = {
        "_id": _key(table, row.id),
        "table": table.name,
        "source_id": row.id,
        "conversation_id": None if owner is None else marked(owner),
        "source_updated_us": seen.updated_us,
        "reason": reason,
        "row": seen.row,
        "at": datetime.now(UTC),
    }
    if len(bson.encode(entry)) > LARGEST_ROW:
        entry |= {"row": seen.row[:KEPT_OF_LARGE], "reason": f"{reason} (the row is cut here to its start)"}
    return entry


def _key(table: SourceTable, number: int) -> str:
    return f"{table.name}:{number}"


def _as_set(day: str | None) -> frozenset[str]:
    return frozenset() if day is None else frozenset({day})


def _parts(values: Sequence[Any], size: int) -> Iterable[list[Any]]:
    return (list(values[start : start + size]) for start in range(0, len(values), size))
