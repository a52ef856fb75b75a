"""The sweep: all row numbers of the source beside all in the documents, to find what a poll cannot see.

Deletions show nowhere in the source; neither do writes behind NocoDB's back, nor what was there before
anybody looked. The sweep reads numbers, days and times of all rows, not their contents, into a temporary
DuckDB database that spills to disk, so that its memory does not grow with the tables.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
from pymongo.errors import PyMongoError

from cai_assets.domain.changes import Found
from cai_assets.domain.erasure import Erased
from cai_assets.domain.rows import conversation_of, marked, start_day
from cai_assets.resources.changes import Comparison, Looked, documented_rows, written_us
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.source import CONVERSATIONS, TABLES, Source, SourceRow, SourceTable

logger = logging.getLogger(__name__)

MEMORY_LIMIT = "512MB"
"""Of the database; a million rows take about 60 MB."""
CHUNK_ROWS = 10_000
PAGE_ROWS = 1000

_KNOWN_ROWS = pa.schema(
    [("table_name", pa.string()), ("id", pa.int64()), ("day", pa.string()), ("updated_us", pa.int64())]
)
_SCHEMAS = {
    "source_rows": _KNOWN_ROWS.append(pa.field("conversation_id", pa.string())),
    "known_rows": _KNOWN_ROWS,
}
_TABLES = """
    create table known_rows (table_name text, id bigint, day text, updated_us bigint);
    create table source_rows (table_name text, id bigint, day text, updated_us bigint, conversation_id text)
"""
_HOMELESS = """
    select id from source_rows
    where table_name = $1 and (
        day is null and table_name = 'conversations'
        or table_name = 'messages' and coalesce(conversation_id, '') not in (
            select conversation_id from source_rows
            where table_name = 'conversations' and conversation_id is not null and day is not null
        )
    )
    order by id
"""


@dataclass
class Swept:
    """What a sweep found.

    Attributes:
        found: days that are not up to date, and why.
        source_rows: rows of the source, by table.
        known_rows: places of source rows in the documents, by table.
        without_day: rows of the source that belong to no day, by table.
    """

    found: Found = field(default_factory=Found)
    source_rows: dict[str, int] = field(default_factory=dict)
    known_rows: dict[str, int] = field(default_factory=dict)
    without_day: dict[str, int] = field(default_factory=dict)


def sweep(
    source: Source,
    store: MongoStore,
    zone: ZoneInfo,
    *,
    contents: bool = False,
    erased: Erased | None = None,
) -> Swept:
    """Compare all of the source with all documents.

    Args:
        source: what is swept.
        store: the documents to compare with; rows that belong to no day are kept there.
        zone: whose days are the partitions.
        contents: read whole rows and compare them too, so that also writes that left UpdatedAt alone are
            found; costs what reading the whole source costs.
        erased: whose rows are passed over, as they become nothing.

    Raises:
        SourceError, TransientError, PermanentError: source or MongoDB do not answer as they should.
    """
    swept = Swept()
    comparison = Comparison(source, store, zone, erased)
    passed_over = _PassedOver(erased)
    looked = Looked()
    with tempfile.TemporaryDirectory(prefix="cai-sweep-") as folder:
        config = {"temp_directory": folder, "memory_limit": MEMORY_LIMIT}
        with duckdb.connect(":memory:", config=config) as database:
            database.execute(_TABLES)
            for table in TABLES:
                rows = (
                    _scanned(source, table, comparison, looked)
                    if contents
                    else _numbers(source, table, erased)
                )
                described = (_described(table, row, zone) for row in passed_over.others(table, rows))
                swept.source_rows[table.name] = _fill(database, "source_rows", described)
            for table in TABLES:
                swept.known_rows[table.name] = _fill(database, "known_rows", _known(store, table))
            query = files("cai_assets.resources").joinpath("sweep.sql").read_text(encoding="utf-8")
            for day, new, edited, moved, deleted, version in database.execute(query).fetchall():
                counts = {"new": new, "edited": edited, "moved": moved, "deleted": deleted}
                swept.found.reasons[day].update({name: n for name, n in counts.items() if n})
                swept.found.versions[day].add(f"sweep:{version}")
            for table in TABLES:
                numbers = [number for (number,) in database.execute(_HOMELESS, [table.name]).fetchall()]
                swept.without_day[table.name] = len(numbers)
                _keep_homeless(source, store, comparison, table, numbers)
    for day, reasons in looked.found.reasons.items():  # contents that differ, beside numbers that do
        for reason, count in reasons.items():
            swept.found.reasons[day][reason] = max(swept.found.reasons[day].get(reason, 0), count)
        swept.found.versions[day] |= looked.found.versions[day]
    return swept


class _PassedOver:
    """Tells the rows of erased persons; conversations have to come before messages."""

    def __init__(self, erased: Erased | None) -> None:
        self._erased = erased
        self._conversations: set[str | None] = set()

    def others(self, table: SourceTable, rows: Iterable[SourceRow]) -> Iterator[SourceRow]:
        for row in rows:
            if self._erased is None:
                yield row
            elif self._erased.row(table.name, row.values):
                if table is CONVERSATIONS:
                    self._conversations.add(conversation_of(row.values))
            elif table is CONVERSATIONS or conversation_of(row.values) not in self._conversations:
                yield row


def _numbers(source: Source, table: SourceTable, erased: Erased | None) -> Iterator[SourceRow]:
    columns: tuple[str, ...] = ("conversation_id",)
    if table is CONVERSATIONS:
        columns += ("started_at",) if erased is None else ("started_at", "user_id")
    elif erased is not None:
        columns += ("sender_type", "sender_id")
    return iter(source.scan(table, columns))


def _scanned(
    source: Source, table: SourceTable, comparison: Comparison, looked: Looked
) -> Iterator[SourceRow]:
    rows = iter(source.scan(table, table.columns))
    while page := list(islice(rows, PAGE_ROWS)):
        comparison.look(table, page, looked)
        yield from page


def _described(table: SourceTable, row: SourceRow, zone: ZoneInfo) -> tuple[Any, ...]:
    day = start_day(row.values, zone) if table is CONVERSATIONS else None
    owner = conversation_of(row.values)
    return (table.name, row.id, day, written_us(row), None if owner is None else marked(owner))


def _known(store: MongoStore, table: SourceTable) -> Iterator[tuple[Any, ...]]:
    try:
        for one in documented_rows(store, table.name, {"$gte": -(2**63)}):
            yield (table.name, one.id, one.partition, one.updated_us)
        fields = dict.fromkeys(("source_id", "partition", "source_updated_us"), 1)
        for entry in store.collection("quarantine").find({"table": table.name}, fields):
            yield (table.name, entry["source_id"], entry["partition"], entry["source_updated_us"])
    except PyMongoError as error:
        raise store.explain(error) from error


def _fill(database: duckdb.DuckDBPyConnection, name: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """Append rows to one of the tables; how many they were."""
    schema = _SCHEMAS[name]
    iterator = iter(rows)
    count = 0
    while some := list(islice(iterator, CHUNK_ROWS)):
        columns = dict(zip(schema.names, map(list, zip(*some, strict=True)), strict=True))
        database.register("chunk", pa.table(columns, schema=schema))
        database.execute(f"insert into {name} from chunk")
        count += len(some)
    return count


def _keep_homeless(
    source: Source, store: MongoStore, comparison: Comparison, table: SourceTable, numbers: list[int]
) -> None:
    """Make what is kept of rows without a day equal to the source."""
    for start in range(0, len(numbers), PAGE_ROWS):
        rows = list(source.rows_by_number(table, numbers[start : start + PAGE_ROWS]))
        comparison.look(table, rows, Looked())
    kept = store.collection("without_day")
    still = set(numbers)
    try:
        gone = [
            entry["_id"]
            for entry in kept.find({"table": table.name}, {"source_id": 1})
            if entry["source_id"] not in still
        ]
        for start in range(0, len(gone), PAGE_ROWS):
            kept.delete_many({"_id": {"$in": gone[start : start + PAGE_ROWS]}})
    except PyMongoError as error:
        raise store.explain(error) from error
