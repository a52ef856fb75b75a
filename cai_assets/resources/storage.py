"""Which files hold these partitions of a table, and: from now on, these files do.

Every Parquet table is a Delta table in the store, `<base>/<layer>/<name>`. Here its files are listed for
whoever reads, and replaced by whole partitions: staged, then committed in one transaction, tried again where
another writer came first. What a transaction is, and all else of Delta, is `delta_log`'s; how bytes get to a
disk or a bucket is in `object_store` and `s3`, how they are written in `parquet_writer`.
"""

import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from cai_assets.failures import PermanentError, TransientError
from cai_assets.resources.arrow import ArrowData, batches_of, grouped_by
from cai_assets.resources.delta_log import DeltaLog
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.object_store import LocalStore, ObjectStore
from cai_assets.resources.parquet_spec import WHOLE, ParquetSpec
from cai_assets.resources.parquet_writer import write_empty_part, write_parts
from cai_assets.resources.staging import DataFile, Parts, Plan, Publisher, Staged, discard
from cai_assets.schemas.base import Table

if TYPE_CHECKING:
    import pyarrow.dataset as pads

__all__ = ["WHOLE", "Commit", "DataFile", "LakeFiles", "LakeTable", "LocalStore", "ObjectStore", "Staged"]

# Writers of one day, or of days that are new to the table, are told to look again; each round one of them
# gets through, so this many rounds serve as many writers even without luck.
_COMMIT_ATTEMPTS: Final = 25
_LONGEST_PAUSE_S: Final = 1.5
# Threads that write a table's partitions. A small one costs 3 ms whatever is in it (measured: 3,285 of them).
_WRITERS: Final = 2


@dataclass(frozen=True)
class Commit:
    """What a replacement did.

    Attributes:
        version: the table's version that holds it; the one that was there if nothing had to change.
        rows: rows by partition, 0 for one that is there but empty; the key is `WHOLE` (empty text) for a
            table without partitions.
        changed: partitions whose files are new.
        unchanged: partitions whose files were byte for byte the same already.
        removed: partitions that are gone (only when the whole table is replaced).
        files: files of the partitions named, after the commit.
        bytes: size of these files.
    """

    version: int
    rows: Mapping[str, int]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    files: int
    bytes: int

    @property
    def row_count(self) -> int:
        """Rows of all partitions named."""
        return sum(self.rows.values())


class LakeTable:
    """One table of the lake: its files, and their replacement.

    Readers see the table before or after a replacement, never between; a crash leaves it before. Writers of
    different partitions do not wait for each other, and of several of one partition the last to commit wins
    whole. Nothing is kept open between calls.

    Attributes:
        store: where the table lives.
        table: its declaration.
        spec: how files are written.
        title: its name in messages, as "lake.messages".
        log: its Delta log.
    """

    def __init__(self, store: ObjectStore, table: Table, spec: ParquetSpec | None = None) -> None:
        """Name the table; nothing is touched yet.

        Args:
            store: where the table lives.
            table: its declaration.
            spec: how files are written; the settings' defaults if not given.
        """
        self.store = store
        self.table = table
        self.spec = spec or ParquetSpec()
        self.title = f"{table.layer}.{table.name}"
        self.log = DeltaLog(store, table)

    @property
    def uri(self) -> str:
        """Address of the table's folder: file:// or s3://."""
        return self.log.uri

    # -- reading

    def exists(self) -> bool:
        """Whether the table was ever committed to."""
        return self.log.state() is not None

    def version(self) -> int | None:
        """Version of the table, counting from 0; None before the first commit."""
        state = self.log.state()
        return None if state is None else state.version

    def partitions(self) -> list[str]:
        """The partitions that are there, also empty ones, in rising order."""
        return sorted(self.log.live())

    def missing(self, partitions: Sequence[str]) -> list[str]:
        """Those of `partitions` that were never materialised; an empty one is not missing."""
        live = self.log.live()
        return [partition for partition in partitions if partition not in live]

    def row_counts(self, partitions: Sequence[str] | None = None) -> dict[str, int]:
        """Rows by partition, from the log alone; a missing partition has no entry.

        Args:
            partitions: those wanted; None for all.
        """
        return {
            partition: sum(file.rows for file in files)
            for partition, files in sorted(self.log.live().items())
            if partitions is None or partition in set(partitions)
        }

    def files(self, partitions: Sequence[str] | None = None) -> list[str]:
        """Absolute paths or s3:// addresses of the files of these partitions (None: of all)."""
        return list(self.select(partitions).files)

    def dataset(self, partitions: Sequence[str] | None = None) -> "pads.Dataset":
        """These partitions (None: all) as a pyarrow dataset with the declared schema."""
        return self.select(partitions).dataset()

    def select(self, partitions: Sequence[str] | None = None, *, version: int | None = None) -> LakeFiles:
        """The files of these partitions (None: of all) at a version (None: the newest).

        A partition that is missing adds no file; `missing` names such.

        Raises:
            PermanentError: there is no such version, or no longer.
        """
        state = self.log.state() if version is None else self.log.snapshot(version)
        live = {} if state is None else state.parts
        wanted = sorted(live) if partitions is None else sorted(set(partitions))
        found = {partition: live[partition] for partition in wanted if partition in live}
        return LakeFiles(
            table=self.table,
            parts={partition: self.locations(files) for partition, files in found.items()},
            partitions=None if partitions is None else tuple(wanted),
            store=self.store,
            version=None if state is None else state.version,
            rows={partition: sum(file.rows for file in files) for partition, files in found.items()},
        )

    def locations(self, files: Sequence[DataFile]) -> tuple[str, ...]:
        """Absolute paths or s3:// addresses of some of the table's files."""
        return tuple(self.store.location(*self.table.path, file.path) for file in files)

    # -- writing

    def replace(
        self,
        partitions: Sequence[str] | None,
        data: ArrowData,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> Commit:
        """Replace whole partitions by the rows of `data`, in one transaction.

        A partition named without a row in `data` is there and empty afterwards. One whose new files are byte
        for byte the old ones is left alone, and when that is true of all there is no commit.

        Args:
            partitions: the partitions to replace. None: the whole table, so that partitions without rows
                in `data` go away; also for a table without partition column.
            data: rows of these partitions and no other. A table is grouped by partition here; a stream
                must come so. Within a partition the order is kept: sort by the table's key.
            metadata: kept with the commit in the table's history (run id, asset).

        Returns:
            what changed.

        Raises:
            PermanentError: the data does not fit the declaration, rows belong to other partitions, the
                declaration does not fit the table, or the store refuses.
            TransientError: the store fails in a way that may pass, or too many others commit.
        """
        return self.commit(self.stage(partitions, data), metadata=metadata)

    def stage(
        self, partitions: Sequence[str] | None, data: ArrowData, *, live: Parts | None = None
    ) -> Staged:
        """Write files that do not count yet; arguments and errors are those of `replace`.

        Args:
            partitions: as for `replace`.
            data: as for `replace`.
            live: what the table holds, for those who stage many parts and look once; looked up if not given.
        """
        if self.table.partition_by is None:
            if partitions:
                raise PermanentError(f"table {self.title} has no partitions, so {list(partitions)} cannot be")
            partitions = [WHOLE]
        elif isinstance(data, pa.Table):
            data = grouped_by(data, self.table.partition_by)
        wanted = None if partitions is None else set(partitions)
        for partition in wanted or ():
            self.spec.folder(self.table, partition)  # refuses what cannot be a partition
        live = self.log.live() if live is None else live
        with self.store.spool() as folder, Publisher(self.store, self.table, self.spec, live) as publisher:
            strangers: dict[str, int] = {}
            written: set[str] = set()
            # Of a table in memory a batch is but a view: row groups at once need not be put together again.
            rows = self.spec.row_group_rows if isinstance(data, pa.Table) else self.spec.batch_rows
            batches = batches_of(data, rows)
            with self.store.errors(f"writing {self.title}"):
                for part in write_parts(
                    batches, self.table, self.spec, folder, writers=min(_WRITERS, self.store.workers)
                ):
                    written.add(part.partition)
                    if wanted is not None and part.partition not in wanted:
                        strangers[part.partition] = sum(file.rows for file in part.files)
                    if strangers:  # nothing will be kept: go on only to count
                        discard(part)
                    else:
                        publisher.publish(part)
                if strangers:
                    raise PermanentError(_strangers_message(self.title, strangers, wanted or set()))
                for partition in sorted((wanted or set()) - written):
                    publisher.publish(write_empty_part(self.table, self.spec, folder, partition))
            return Staged(publisher.finish(), partitions is None, tuple(publisher.sent))

    def drop(self, partitions: Sequence[str], *, metadata: Mapping[str, str] | None = None) -> list[str]:
        """Take partitions out of the table, in one transaction: they are missing afterwards, not empty.

        Args:
            partitions: which; those that are not there are passed over.
            metadata: kept with the commit.

        Returns:
            The partitions that went, in rising order.

        Raises:
            PermanentError, TransientError: as `replace`.
        """
        properties = {"commit_id": uuid.uuid4().hex, "table": self.title, **(metadata or {})}
        gone: set[str] = set()
        with self.store.errors(f"dropping partitions of {self.title}"):
            for attempt in range(_COMMIT_ATTEMPTS):
                if attempt:
                    time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.02 * 2**attempt)))  # noqa: S311
                snapshot = self.log.snapshot()
                there = sorted(set(partitions) & snapshot.parts.keys()) if snapshot is not None else []
                if snapshot is None or not there:
                    return sorted(gone)
                gone.update(there)
                plan = Plan(changed=(), unchanged=(), removed=tuple(there))
                self.log.transact(snapshot, plan, {}, properties, whole=False)
        raise TransientError(f"table {self.title}: other writers kept writing {sorted(gone)[:5]}")

    def discard(self, *staged: Staged) -> None:
        """Remove the files of what was staged and will not be committed."""
        for path in (path for one in staged for path in one.sent):
            self.store.delete(*self.table.path, path)

    def commit(
        self,
        *staged: Staged,
        metadata: Mapping[str, str] | None = None,
        merged_from: Parts | None = None,
    ) -> Commit:
        """Make staged files count, all in one transaction, in place of all that their partitions held.

        Args:
            staged: what `stage` gave; no partition twice.
            metadata: kept with the commit.
            merged_from: the files whose rows the staged ones hold, where nothing else has changed. A
                partition that meanwhile holds others is left as it is.

        Raises:
            PermanentError, TransientError: as `replace`.
        """
        parts: dict[str, tuple[DataFile, ...]] = {}
        for one in staged:
            if twice := sorted(parts.keys() & one.parts.keys()):
                raise PermanentError(f"table {self.title}: partitions were staged twice: {twice}")
            parts |= one.parts
        whole = any(one.whole for one in staged)
        commit_id = uuid.uuid4().hex
        properties = {"commit_id": commit_id, "table": self.title, **(metadata or {})}
        with self.store.errors(f"committing {self.title}"):
            tried: tuple[int, Plan] | None = None
            for attempt in range(_COMMIT_ATTEMPTS):
                if attempt:
                    pause = min(_LONGEST_PAUSE_S, 0.02 * 2**attempt)
                    time.sleep(random.uniform(0, pause))  # noqa: S311  jitter, not a secret
                state = self.log.prepared(parts, whole=whole)
                if tried is not None:
                    version = self.log.version_of(commit_id, since=tried[0])
                    if version is not None:  # it had gone through, but the answer was lost
                        return _summary(version, parts, tried[1])
                if merged_from is not None:
                    parts = {
                        key: files
                        for key, files in parts.items()
                        if key in state.parts and state.parts[key] == merged_from[key]
                    }
                plan = Plan.of(state.parts, parts, whole=whole)
                if not plan.touched:
                    self.log.seen(state)
                    return _summary(state.version, parts, plan)
                tried = (state.version, plan)
                if not self.log.transact(
                    state, plan, parts, properties, whole=whole, data_change=merged_from is None
                ):
                    continue
                version = self.log.version_of(commit_id, since=state.version)
                if version is None:
                    raise PermanentError(
                        f"table {self.title}: a commit was accepted but is not in the log; does "
                        f"something else write to {self.uri}?"
                    )
                self.log.flush(version)
                self.log.committed(state, version, plan, parts)
                return _summary(version, parts, plan)
        raise TransientError(
            f"table {self.title}: other writers of the same partitions committed first, "
            f"{_COMMIT_ATTEMPTS} times over"
        )


def _summary(version: int, parts: Parts, plan: Plan) -> Commit:
    sizes = [file.size for files in parts.values() for file in files]
    return Commit(
        version=version,
        rows={partition: sum(file.rows for file in group) for partition, group in sorted(parts.items())},
        changed=plan.changed,
        unchanged=plan.unchanged,
        removed=plan.removed,
        files=len(sizes),
        bytes=sum(sizes),
    )


def _strangers_message(title: str, strangers: Mapping[str, int], wanted: set[str]) -> str:
    named = ", ".join(f"{partition} ({rows} rows)" for partition, rows in sorted(strangers.items())[:5])
    more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
    expected = f"{min(wanted)} to {max(wanted)}" if wanted else "none"
    return (
        f"table {title}: the data holds rows of partitions that are not being replaced: {named}{more}; "
        f"expected {expected}"
    )
