"""Source rows as the raw layer keeps them: verbatim, as JSON text. Which rows are read belongs to the source.

Rows pass in batches of CHUNK_SIZE and lie on disk meanwhile, so that a range of days needs the memory of one.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import repeat

import pyarrow as pa

from cai_assets.domain.rows import conversation_of, row_text
from cai_assets.resources.partition_spool import BATCH_BYTES, PartitionSpool
from cai_assets.resources.source import SourceRow
from cai_assets.schemas.base import Table


def spooled(table: Table, rows: Iterable[tuple[str, SourceRow]], batch_rows: int) -> PartitionSpool:
    """All rows with their partitions, on disk; the caller closes what comes back.

    Args:
        table: a table of the raw layer.
        rows: partition and row, in any order; taken one by one.
        batch_rows: most rows in memory.
    """
    extracted_at = datetime.now(UTC)
    spool = PartitionSpool(table, batch_rows=batch_rows)
    try:
        for batch in _batches(table, rows, extracted_at, batch_rows):
            spool.append(batch)
    except BaseException:
        spool.close()
        raise
    return spool


def conversation_days(batches: Iterable[pa.RecordBatch]) -> dict[str, tuple[str, ...]]:
    """Which days each conversation's rows belong to; more than one only where the source repeats an id.

    Args:
        batches: columns `partition` and `row` of raw conversations.

    Returns:
        Days by conversation id, the ids in the order of the rows; some hundred bytes a conversation.
    """
    days: dict[str, tuple[str, ...]] = {}
    alone: dict[str, tuple[str, ...]] = {}  # one tuple a day, shared by all its conversations
    for batch in batches:
        for day, row in zip(
            batch.column("partition").to_pylist(), batch.column("row").to_pylist(), strict=True
        ):
            key = conversation_of(json.loads(row))
            if key is None:
                continue
            known = days.setdefault(key, alone.setdefault(day, (day,)))
            if day not in known:
                days[key] = (*known, day)
    return days


def _batches(
    table: Table, rows: Iterable[tuple[str, SourceRow]], extracted_at: datetime, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    waiting: list[tuple[str, int, datetime | None, datetime | None, str]] = []
    letters = 0
    for day, row in rows:
        text = row_text(row.values)
        waiting.append((day, row.id, row.created_at, row.updated_at, text))
        letters += len(text)
        if len(waiting) >= batch_rows or letters >= BATCH_BYTES // 4:  # UTF-8 takes up to 4 bytes a letter
            yield _batch(table, waiting, extracted_at)
            waiting, letters = [], 0
    if waiting:
        yield _batch(table, waiting, extracted_at)


def _batch(
    table: Table,
    rows: list[tuple[str, int, datetime | None, datetime | None, str]],
    extracted_at: datetime,
) -> pa.RecordBatch:
    partition, ids, created_at, updated_at, texts = zip(*rows, strict=True)
    columns = {
        "partition": partition,
        "id": ids,
        "created_at": created_at,
        "updated_at": updated_at,
        "extracted_at": tuple(repeat(extracted_at, len(rows))),
        "row": texts,
    }
    return pa.RecordBatch.from_pydict(columns, schema=table.arrow_schema)
