"""Keeping a table of the lake small and quick to open: files merged, log short, nothing left that is dead.

What it is given is a table of `storage`; the log's own part of the work is in `delta_log`. When it is done is
for `cai compact` and whoever runs that.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cai_assets.resources.staging import DataFile
from cai_assets.resources.storage import LakeTable


@dataclass(frozen=True)
class Merged:
    """What merging did.

    Attributes:
        partitions: how many were written anew.
        files_before: files of these partitions before.
        files_after: files of these partitions now.
        version: version of the table that holds them; None where nothing had to be done.
    """

    partitions: int = 0
    files_before: int = 0
    files_after: int = 0
    version: int | None = None


def compact(table: LakeTable) -> Merged:
    """Write partitions anew that lie in more files than PARQUET_* ask for; no row changes.

    It happens where these settings were smaller once. One transaction for all; a partition that somebody
    replaces meanwhile is left to them.

    Raises:
        PermanentError, TransientError: as `LakeTable.replace`.
    """
    scattered = {partition: files for partition, files in table.log.live().items() if _too_many(table, files)}
    if not scattered:
        return Merged()
    rows = table.select(sorted(scattered)).dataset().scanner(
        batch_size=table.spec.batch_rows, batch_readahead=1, fragment_readahead=1, use_threads=False
    )  # fmt: skip
    staged = table.stage(sorted(scattered), rows.to_reader(), live=scattered)
    commit = table.commit(staged, metadata={"asset": "/".join(table.table.path)}, merged_from=scattered)
    return Merged(
        partitions=len(commit.changed),
        files_before=sum(len(scattered[partition]) for partition in commit.changed),
        files_after=sum(len(staged.parts[partition]) for partition in commit.changed),
        version=commit.version if commit.changed else None,
    )


@dataclass(frozen=True)
class Tidied:
    """What tidying a table did.

    Attributes:
        merged: what was merged.
        vacuumed: the files that were removed, below the table's folder.
        files: files that count now.
        bytes: their size.
    """

    merged: Merged
    vacuumed: tuple[str, ...]
    files: int
    bytes: int


def tidy(table: LakeTable, retention: timedelta) -> Tidied:
    """Merge, remove files that have not counted for so long, write a checkpoint, drop old log entries.

    Args:
        table: one that was committed to.
        retention: at least as long as any reader or writer takes.

    Raises:
        PermanentError, TransientError: as `LakeTable.replace`.
    """
    merged = compact(table)
    vacuumed = table.log.vacuum(retention)
    table.log.checkpoint()
    files = [file for part in table.log.live().values() for file in part]
    return Tidied(merged, tuple(vacuumed), len(files), sum(file.size for file in files))


def tidy_all(tables: Iterable[LakeTable], retention: timedelta) -> Iterator[tuple[LakeTable, Tidied]]:
    """Tidy tables one after the other, those that were never committed to left out; then their store.

    Args:
        tables: of one store.
        retention: as for `tidy`.

    Raises:
        PermanentError, TransientError: as `tidy`.
    """
    store = None
    for table in tables:
        store = table.store
        if table.exists():
            yield table, tidy(table, retention)
    if store is not None:
        store.sweep(datetime.now(UTC) - retention)


def _too_many(table: LakeTable, files: tuple[DataFile, ...]) -> bool:
    rows, size = sum(file.rows for file in files), sum(file.size for file in files)
    return len(files) > table.spec.fewest_files(rows, size)
