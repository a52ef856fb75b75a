"""Keeping a table of the lake small and quick to open: files merged, log short, nothing left that is dead.

What it is given is a table of `storage`; the log's own part of the work is in `delta_log`. When it is done is
for `cai compact` and whoever runs that.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

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
        dropped: days that RAW_RETENTION_DAYS does not keep any more.
    """

    merged: Merged
    vacuumed: tuple[str, ...]
    files: int
    bytes: int
    dropped: tuple[str, ...] = ()


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


def expired(table: LakeTable, keep_days: int, today: date) -> list[str]:
    """Days of a raw table that RAW_RETENTION_DAYS does not keep any more, in rising order.

    Args:
        table: a table of the raw layer.
        keep_days: the day `today` and so many before it stay.
        today: the present local day.
    """
    first_kept = (today - timedelta(days=keep_days)).isoformat()
    return [day for day in table.partitions() if day < first_kept]


def drop_expired(table: LakeTable, keep_days: int, today: date) -> list[str]:
    """Drop these days, and delete their files at once: nobody is to read them any more.

    What was made of the rows stays: documents, lake, facts.

    Returns:
        The days that went.

    Raises:
        PermanentError, TransientError: as `LakeTable.replace`.
    """
    days = table.drop(
        expired(table, keep_days, today),
        metadata={"asset": "/".join(table.table.path), "reason": "RAW_RETENTION_DAYS"},
    )
    # Also what a killed drop left, and older versions of these days, whatever the log says.
    first_kept = (today - timedelta(days=keep_days)).isoformat()
    counted = {file.path for files in table.log.live().values() for file in files}
    for file in table.store.list_files(*table.table.path):
        if file.path in counted or not file.path.endswith(".parquet") or file.path.startswith("_delta_log/"):
            continue
        day = _day_of(table, file.path)
        if day is not None and day < first_kept:
            table.store.delete(*table.table.path, file.path)
    return days


_IN_PATH = re.compile(r"partition=(\d{4}-\d\d-\d\d)/")


def _day_of(table: LakeTable, path: str) -> str | None:
    """The day a file is of: by its folder, else by its rows, as a file holds one day; None without rows."""
    if found := _IN_PATH.search(path):
        return found[1]
    import pyarrow.parquet as pq

    location = table.store.native_path(table.store.location(*table.table.path, path))
    with (
        table.store.errors(f"reading {path}"),
        pq.ParquetFile(location, filesystem=table.store.filesystem()) as file,
    ):
        first = next(file.iter_batches(1, columns=["partition"]), None)
    return None if first is None or not first.num_rows else str(first.column(0)[0].as_py())


def tidy_all(
    tables: Iterable[LakeTable],
    retention: timedelta,
    *,
    raw_days: int | None = None,
    today: date | None = None,
) -> Iterator[tuple[LakeTable, Tidied]]:
    """Tidy tables one after the other, those that were never committed to left out; then their store.

    Args:
        tables: of one store.
        retention: as for `tidy`.
        raw_days: RAW_RETENTION_DAYS; older days of raw tables are dropped first. None keeps all.
        today: the present local day, by which they are old.

    Raises:
        PermanentError, TransientError: as `tidy`.
    """
    store = None
    for table in tables:
        store = table.store
        if not table.exists():
            continue
        dropped: list[str] = []
        if raw_days is not None and today is not None and table.table.layer == "raw":
            dropped = drop_expired(table, raw_days, today)
        yield table, replace(tidy(table, retention), dropped=tuple(dropped))
    if store is not None:
        store.sweep(datetime.now(UTC) - retention)


def _too_many(table: LakeTable, files: tuple[DataFile, ...]) -> bool:
    rows, size = sum(file.rows for file in files), sum(file.size for file in files)
    return len(files) > table.spec.fewest_files(rows, size)
