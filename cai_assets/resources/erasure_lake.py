"""Taking a person out of the lake's files: raw rows by filtering, old versions by removing their files.

The tables above raw are made again from what is left (`erasing` asks for that); here is what no asset does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from cai_assets.domain.erasure import ROWS_OF_SOURCE, Person, holds_persons
from cai_assets.resources.erasure_scope import holds
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.storage import LakeTable

_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Rewritten:
    """What rewriting raw rows did: partitions and files written, rows removed."""

    partitions: int = 0
    files: int = 0
    rows: int = 0


def filter_raw(table: LakeTable, days: list[str], person: Person) -> Rewritten:
    """Replace days of a raw table by themselves without the person's rows, in one transaction.

    Args:
        table: raw conversations or messages.
        days: days to look through; those without a row of the person's keep their files.
        person: whose rows go.

    Raises:
        PermanentError, TransientError: as `LakeTable.replace`.
    """
    days = sorted(set(days) - set(table.missing(days))) if table.exists() else []
    if not days:
        return Rewritten()
    selected = table.select(days)
    before = sum(selected.rows.values())
    commit = table.replace(
        days,
        _others(selected, days, person),
        metadata={"asset": "/".join(table.table.path), "reason": "erasure"},
    )
    return Rewritten(len(commit.changed), commit.files, before - commit.row_count)


def _others(selected: LakeFiles, days: list[str], person: Person) -> Iterator[pa.RecordBatch]:
    names = selected.table.arrow_schema.names
    for day in days:
        for batch in selected.narrowed([day]).batches(names, _BATCH_ROWS):
            kept = [
                not person.is_json_row(selected.table.name, row) for row in batch.column("row").to_pylist()
            ]
            yield batch if all(kept) else batch.filter(pa.array(kept, pa.bool_()))


def remove_old_files(
    table: LakeTable, person: Person, tell: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Delete files that do not count any more, or never did, and hold a row of the person's.

    Versions of the table before stay readable but for these files. Files that cannot be read as Parquet, and
    do not count, are halves of a writer that was killed, and go too.

    Args:
        table: a table of the lake.
        person: whose rows are looked for.
        tell: called with each file that is looked at.

    Returns:
        The files deleted, below the table's folder.
    """
    if not holds_persons(table.table):
        return []
    live = {file.path for files in table.log.live().values() for file in files}
    gone = []
    for file in table.store.list_files(*table.table.path):
        if file.path in live or not file.path.endswith(".parquet") or file.path.startswith("_delta_log/"):
            continue
        tell(file.path)
        if _holds(table, file.path, person):
            table.store.delete(*table.table.path, file.path)
            gone.append(file.path)
    return gone


def _holds(table: LakeTable, path: str, person: Person) -> bool:
    import pyarrow.parquet as pq

    store = table.store
    location = store.native_path(store.location(*table.table.path, path))
    try:
        file = pq.ParquetFile(location, filesystem=store.filesystem())
    except pa.ArrowInvalid:
        return True
    with file:
        for batch in file.iter_batches(_BATCH_ROWS):
            if table.table.path in ROWS_OF_SOURCE:
                rows = batch.column("row").to_pylist()
                if any(person.is_json_row(table.table.name, row) for row in rows):
                    return True
            elif holds(batch, person).true_count:
                return True
    return False
