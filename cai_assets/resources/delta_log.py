"""The Delta log of a table: which files count at which version, and the transaction that changes it.

This module is the only one that knows Delta's library: it makes the table, adds columns, reads which files
count, and tries one transaction. What is put into it, and how often that is tried, is `storage`'s; files that
do not count yet are `staging`'s; where the bytes are is `object_store`'s.

The log declares every column as nullable, because a column that is added later is null in the older files;
that no null stands where the declaration allows none is held by the writer.
"""

import contextlib
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions

from cai_assets.failures import PermanentError
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.parquet_writer import WHOLE
from cai_assets.resources.staging import DataFile, Parts, Plan
from cai_assets.schemas.base import Table


@dataclass(frozen=True)
class Snapshot:
    """A table at one version.

    Attributes:
        delta: the table as Delta's library has it.
        parts: the files that count, by partition; the key is `WHOLE` for a table without partitions.
    """

    delta: DeltaTable
    parts: Parts

    @property
    def version(self) -> int:
        """The version, counting from 0."""
        return int(self.delta.version())


class DeltaLog:
    """The log of one table; nothing is kept open between calls."""

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

    def snapshot(self) -> Snapshot | None:
        """The newest state of the table; None if it was never committed to."""
        delta = self._open()
        if delta is None:
            return None
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
        return Snapshot(
            delta, {key: tuple(sorted(files, key=lambda f: f.path)) for key, files in parts.items()}
        )

    def live(self) -> Parts:
        """What the table holds now; nothing if it was never committed to."""
        snapshot = self.snapshot()
        return {} if snapshot is None else snapshot.parts

    def version_of(self, commit_id: str, *, since: int) -> int | None:
        """The version after `since` that carries a commit's id; None if none does."""
        # DeltaTable.history would do, but it holds the interpreter's lock while it waits for the store.
        for version in itertools.count(since + 1):
            entry = self._store.read(*self._table.path, _entry(version))
            if entry is None:
                return None
            if commit_id.encode() in entry:
                return version
        return None

    def _open(self) -> DeltaTable | None:
        with self._store.errors(f"reading {self._title}"):
            try:
                return DeltaTable(self.uri, storage_options=self._store.storage_options())
            except TableNotFoundError:
                return None

    # -- writing

    def prepared(self) -> Snapshot:
        """The newest state of a table that has the declared columns; makes the table or adds columns."""
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
            snapshot.delta.alter.add_columns(added)
            snapshot = self._required()
        return snapshot

    def transact(
        self,
        snapshot: Snapshot,
        plan: Plan,
        parts: Parts,
        properties: Mapping[str, str],
        *,
        whole: bool,
    ) -> bool:
        """Put the parts of a plan into the log, on top of the state that the plan was made for.

        Args:
            snapshot: that state.
            plan: which partitions change or go away.
            parts: the new files of those that change.
            properties: kept with the commit.
            whole: whether the whole table is replaced.

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
                data_change=True,
                stats=json.dumps({"numRecords": file.rows}),
            )
            for partition in plan.changed
            for file in parts[partition]
        ]
        # Delta's own check notices a commit in between that removed files, but not one that only added
        # some. Such a one matters where this adds the same new partition, or replaces the whole table.
        alone = whole or any(partition not in snapshot.parts for partition in plan.changed)
        try:
            snapshot.delta.create_write_transaction(
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

    def flush(self, version: int) -> None:
        """Return when the entry of a version survives a loss of power."""
        self._store.flush(*self._table.path, _entry(version))

    def _required(self) -> Snapshot:
        snapshot = self.snapshot()
        if snapshot is None:
            raise PermanentError(f"table {self._title}: {self.uri} vanished while it was written")
        return snapshot

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


def _entry(version: int) -> str:
    return f"_delta_log/{version:020}.json"
