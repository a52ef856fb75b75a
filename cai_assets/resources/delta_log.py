"""The Delta log of a table: which files count at which version, and the transaction that changes it.

This module is the only one that knows Delta's library: it makes the table, adds columns, reads which files
count and what a version changed, tries one transaction, shortens the log and removes what no longer counts.
What is put into it, and how often that is tried, is `storage`'s; files that do not count yet are `staging`'s;
where the bytes are is `object_store`'s.

The log declares every column as nullable, because a column that is added later is null in the older files;
that no null stands where the declaration allows none is held by the writer.
"""

import contextlib
import itertools
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions

from cai_assets.failures import PermanentError
from cai_assets.resources.log_entries import Change, change_of, entry_path
from cai_assets.resources.log_memory import State, recall, remember
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.parquet_spec import WHOLE
from cai_assets.resources.staging import DataFile, Parts, Plan
from cai_assets.schemas.base import Table

# Whoever opens a table reads every entry since the last checkpoint, on S3 by a request each.
_CHECKPOINT_EVERY: Final = 20
# Delta's own defaults: of removed files in the log, and of the log's entries.
_DEFAULT_RETENTION: Final = timedelta(days=7)
_LOG_RETENTION: Final = timedelta(days=30)
_OF_THE_LOG = re.compile(
    r"_delta_log/(\d{20}(\.\d{20}\.compacted)?\.json|\d{20}\.checkpoint[\w.-]*\.parquet|\d{20}\.crc"
    r"|_last_checkpoint|_sidecars/.*)"
)


@dataclass(frozen=True)
class Snapshot(State):
    """A state on top of which a transaction can be made.

    Attributes:
        delta: the table as Delta's library has it.
    """

    delta: DeltaTable


class DeltaLog:
    """The log of one table; nothing is kept open between calls, and its newest state is known again."""

    def __init__(self, store: ObjectStore, table: Table) -> None:
        """Name the table; nothing is touched yet.

        Args:
            store: where the table lives.
            table: its declaration.
        """
        self._store = store
        self._table = table
        self._title = f"{table.layer}.{table.name}"
        self._schema = pa.schema([f.with_nullable(True) for f in table.arrow_schema])

    @property
    def uri(self) -> str:
        """Address of the table's folder: file:// or s3://."""
        return self._store.uri(self._table.layer, self._table.name)

    # -- reading

    def snapshot(self, version: int | None = None) -> Snapshot | None:
        """The state of the table at a version (None: the newest); None if it was never committed to.

        Raises:
            PermanentError: the log does not hold that version, or no longer.
        """
        delta = self._open(version)
        if delta is None:
            return None
        # Reads what Delta's library has not read yet; its own changes would, under the interpreter's lock.
        return Snapshot(int(delta.version()), self._parts(delta), None, delta)

    def _parts(self, delta: DeltaTable) -> Parts:
        actions = pa.table(delta.get_add_actions(flatten=True))
        column = self._table.partition_by
        parts: dict[str, list[DataFile]] = {}
        if actions.num_rows:
            rows = zip(
                actions.column("path").to_pylist(),
                actions.column("num_records").to_pylist(),
                actions.column("size_bytes").to_pylist(),
                actions.column(f"partition.{column}").to_pylist() if column else [WHOLE] * actions.num_rows,
                strict=True,
            )
            for path, count, size, partition in rows:
                parts.setdefault(partition, []).append(DataFile(path, count, size))
        return {key: tuple(sorted(files, key=lambda f: f.path)) for key, files in parts.items()}

    def state(self) -> State | None:
        """The newest state; None if the table was never committed to."""
        state = recall(self._store, self._table.path) or self.snapshot()
        if state is not None:
            self.seen(state)
        return state

    def live(self) -> Parts:
        """What the table holds now; nothing if it was never committed to."""
        state = self.state()
        return {} if state is None else state.parts

    def version_of(self, commit_id: str, *, since: int) -> int | None:
        """The version after `since` that carries a commit's id; None if none does."""
        # DeltaTable.history would do, but it holds the interpreter's lock while it waits for the store.
        for version in itertools.count(since + 1):
            said = self._store.read(*self._table.path, entry_path(version))
            if said is None:
                return None
            if commit_id.encode() in said:
                return version
        return None

    def changes(self) -> Iterator[Change]:
        """What the versions changed, the newest first, back to where the log was cleaned up."""
        delta = self._open()
        if delta is None:
            return
        for version in range(int(delta.version()), -1, -1):
            said = self._store.read(*self._table.path, entry_path(version))
            if said is None:
                return
            yield change_of(version, said, self._table.partition_by)

    def _open(self, version: int | None = None) -> DeltaTable | None:
        with self._store.errors(f"reading {self._title}"):
            try:
                return DeltaTable(self.uri, version=version, storage_options=self._store.storage_options())
            except TableNotFoundError:
                return None
            except DeltaError as error:
                if version is None:
                    raise
                raise PermanentError(f"table {self._title} has no version {version} (any more)") from error

    # -- writing

    def prepared(self, replaced: Collection[str], *, whole: bool) -> State:
        """The newest state of a table that has the declared columns; makes the table or adds columns.

        Args:
            replaced: partitions that are about to be replaced.
            whole: whether all others go away.

        Raises:
            PermanentError: the declaration does not fit the table.
        """
        known = recall(self._store, self._table.path)
        if known is not None and known.fits is self._table:
            return known
        snapshot = self.snapshot()
        if snapshot is None:
            with contextlib.suppress(DeltaError):  # another may make it at the same moment: looked at next
                self._create()
            snapshot = self.snapshot()
            if snapshot is None:
                self._create()  # it was no race: let the error through
                snapshot = self._required()
        added = self._added_columns(snapshot.delta)
        if added:
            if not whole:
                self._refuse_holes([column.name for column in added], snapshot, replaced)
            snapshot.delta.alter.add_columns(added)
            snapshot = self._required()
        return replace(snapshot, fits=self._table)

    def transact(
        self,
        state: State,
        plan: Plan,
        parts: Parts,
        properties: Mapping[str, str],
        *,
        whole: bool,
        data_change: bool = True,
    ) -> bool:
        """Put the parts of a plan into the log, on top of the state that the plan was made for.

        Args:
            state: that state.
            plan: which partitions change or go away.
            parts: the new files of those that change.
            properties: kept with the commit.
            whole: whether the whole table is replaced.
            data_change: False where the new files hold the rows of the old.

        Returns:
            whether it is in the log; False where another commit came first: plan anew.
        """
        column = self._table.partition_by
        now = int(time.time() * 1000)
        adds = [
            AddAction(
                path=file.path,
                size=file.size,
                partition_values={column: partition} if column else {},
                modification_time=now,
                data_change=data_change,
                stats=json.dumps({"numRecords": file.rows}),
            )
            for partition in plan.changed
            for file in parts[partition]
        ]
        # Delta's own check notices a commit in between that removed files, but not one that only added
        # some. Such a one matters where this adds the same new partition, or replaces the whole table.
        alone = whole or any(partition not in state.parts for partition in plan.changed)
        delta = state.delta if isinstance(state, Snapshot) else self._open(state.version)
        if delta is None:
            raise self._vanished()
        try:
            delta.create_write_transaction(
                adds,
                "overwrite",
                Schema.from_arrow(self._schema),
                [column] if column else [],
                [(column, "in", list(plan.touched))] if column else None,
                commit_properties=CommitProperties(
                    custom_metadata=dict(properties), max_commit_retries=0 if alone else None
                ),
            )
        except CommitFailedError:
            return False
        return True

    def committed(self, state: State, version: int, plan: Plan, parts: Parts) -> None:
        """Note what a transaction made of a state, where no other came between."""
        if version == state.version + 1:
            kept = {key: files for key, files in state.parts.items() if key not in plan.touched}
            changed = {key: parts[key] for key in plan.changed}
            self._remember(State(version, {**kept, **changed}, state.fits))

    def seen(self, state: State) -> None:
        """Note the newest state, where it was read from the log; one that was known is noted already.

        Not between it and a transaction: others would come first the more often.
        """
        if isinstance(state, Snapshot):
            self._remember(State(state.version, state.parts, state.fits))

    def _remember(self, state: State) -> None:
        remember(self._store, self._table.path, state)

    def flush(self, version: int) -> None:
        """Return when the entry of a version survives a loss of power."""
        self._store.flush(*self._table.path, entry_path(version))

    # -- keeping it small

    def checkpoint(self) -> None:
        """Write all that counts into one file, so that readers need no entry before it; drop old entries.

        Entries stay for 30 days after a checkpoint: that far `changes` looks back.
        """
        with self._store.errors(f"writing a checkpoint of {self._title}"):
            delta = self._required().delta
            delta.create_checkpoint()
            delta.cleanup_metadata()

    def vacuum(self, retention: timedelta) -> list[str]:
        """Remove files that have not counted for so long, and those that never came to count.

        A file that was never committed is judged by its own age: it may belong to a writer who is about to.

        Args:
            retention: at least as long as any reader or writer takes.

        Returns:
            the files removed, below the table's folder.
        """
        snapshot = self.snapshot()
        if snapshot is None:
            return []
        with self._store.errors(f"vacuuming {self._title}"):
            delta = self._retaining(snapshot.delta, retention)
            options: dict[str, Any] = {
                "retention_hours": int(retention.total_seconds() // 3600),
                "enforce_retention_duration": False,
                "full": True,
            }
            there = self._store.list_files(*self._table.path)
            # The log remembers removed files for longer than they stay; without any there is nothing to log.
            removed = sorted({file.path for file in there} & set(delta.vacuum(dry_run=True, **options)))
            if removed:
                delta.vacuum(dry_run=False, **options)
        before = datetime.now(UTC) - retention
        for file in there:
            # Delta's own vacuum leaves its log alone, also entries that were half written.
            if (
                file.path.startswith("_delta_log/")
                and not _OF_THE_LOG.fullmatch(file.path)
                and file.written_at <= before
            ):
                self._store.delete(*self._table.path, file.path)
                removed.append(file.path)
        return sorted(removed)

    def _retaining(self, delta: DeltaTable, retention: timedelta) -> DeltaTable:
        """The table, once its log remembers removed files for as long as they stay."""
        wanted = _properties(retention)
        there = _properties(_DEFAULT_RETENTION) | delta.metadata().configuration
        if all(there[name] == value for name, value in wanted.items()):
            return delta
        delta.alter.set_table_properties(wanted)
        return self._required().delta

    def _required(self) -> Snapshot:
        snapshot = self.snapshot()
        if snapshot is None:
            raise self._vanished()
        return snapshot

    def _vanished(self) -> PermanentError:
        return PermanentError(f"table {self._title}: {self.uri} vanished while it was written")

    def _create(self) -> None:
        column = self._table.partition_by
        create_table_with_add_actions(
            self.uri,
            Schema.from_arrow(self._schema),
            [],
            mode="error",
            partition_by=[column] if column else [],
            name=self._title,
            description=self._table.description,
            configuration={"delta.checkpointInterval": str(_CHECKPOINT_EVERY)},
            storage_options=self._store.storage_options(),
        )

    def _added_columns(self, delta: DeltaTable) -> list[Any]:
        there = {f.name: f for f in delta.schema().fields}
        declared = {f.name: f for f in Schema.from_arrow(self._schema).fields}
        problems = [
            f"{name} is {there[name].type}, declared as {column.type}"
            for name, column in declared.items()
            if name in there and there[name].type != column.type
        ]
        problems += [f"{name} is there but no longer declared" for name in there if name not in declared]
        if problems:
            raise PermanentError(
                f"table {self._title}: the declaration does not fit the table at {self.uri}: "
                f"{'; '.join(problems)}. Only adding columns is safe; else declare the column under a new "
                "name, or move the folder away and materialise the table again"
            )
        by = [self._table.partition_by] if self._table.partition_by else []
        if delta.metadata().partition_columns != by:
            raise PermanentError(
                f"table {self._title}: it is partitioned by {delta.metadata().partition_columns}, declared "
                f"as {by}; move {self.uri} away and materialise the table again"
            )
        return [column for name, column in declared.items() if name not in there]

    def _refuse_holes(self, added: list[str], snapshot: Snapshot, replaced: Collection[str]) -> None:
        required = [name for name in added if not self._table.by_name[name].nullable]
        older = [
            partition
            for partition, files in sorted(snapshot.parts.items())
            if partition not in replaced and any(file.rows for file in files)
        ]
        if required and older:
            raise PermanentError(
                f"table {self._title}: {', '.join(required)} may not be null, but {len(older)} partitions "
                f"({older[0]} to {older[-1]}) were written without; declare it nullable, or move "
                f"{self.uri} away and materialise the table again"
            )


def _properties(retention: timedelta) -> dict[str, str]:
    hours = int(retention.total_seconds() // 3600)
    log_hours = max(hours, int(_LOG_RETENTION.total_seconds() // 3600))
    return {
        "delta.deletedFileRetentionDuration": f"interval {hours} hours",
        "delta.logRetentionDuration": f"interval {log_hours} hours",
    }
