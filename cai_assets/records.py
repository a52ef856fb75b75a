"""Dagster's event log in SQLite, at a bearable cost: connections are kept, and a range of days is one write.

`templates/dagster.yaml` names this class, so command line, code server, daemon and web server all use it. The
files and their tables are Dagster's own, which can be gone back to at any time. PostgreSQL has no need of it.

Dagster 1.13's own makes an engine and a connection for every event: SQLAlchemy then compiles each statement
anew, every commit waits for the disk (`synchronous=FULL`), and closing the last connection folds the
write-ahead log into the file. And it writes the events of a batch one by one. A month of days over the whole
graph has some 700 materialisations and as many plans; `benchmarks/backfill.py` tells what they cost.
"""

import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

# Files kept open at once: the index, the runs under way (two at most), and those that the UI looks at.
KEPT_OPEN = 8
BUSY_TIMEOUT_S = 30
# The web server learns of new events by watching the run's file, and in write-ahead mode these go to the one
# beside it: it is touched, at most so often.
TOUCH_SECONDS = 1.0
BATCH_VARIABLE, BATCH_SIZE = "DAGSTER_EVENT_BATCH_SIZE", "1000"


class QuickEventLog(SqliteEventLogStorage):
    """Dagster's event log of one machine, with connections that stay open and batches that are one write."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Open the log of a folder; it is made where it is not there."""
        # How many events Dagster hands over together; it looks at each event, and 0 is its default.
        os.environ.setdefault(BATCH_VARIABLE, BATCH_SIZE)
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._tables: set[str] = set()
        self._touched: dict[str, float] = {}
        self._tells_index_columns = False
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """`home`: Dagster's folder, DAGSTER_HOME; the files lie where Dagster's own log has them."""
        return {"home": dg.StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """As Dagster makes it from its settings."""
        return cls(str(Path(config_value["home"]) / "history" / "runs"), inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _engine(self, shard: str) -> Engine:
        """The engine of a file, with its one connection; the lock is held."""
        known = self._engines.pop(shard, None)
        if known is not None and not Path(self.path_for_shard(shard)).exists():  # wiped by another process
            known.dispose()
            self._initialized_dbs.discard(shard)
            known = None
        engine = known or create_engine(
            self.conn_string_for_shard(shard),
            poolclass=StaticPool,
            connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        )
        if known is None:
            event.listen(engine, "connect", _no_flush_per_commit)
        self._engines[shard] = engine
        while len(self._engines) > KEPT_OPEN:
            _, oldest = self._engines.popitem(last=False)
            oldest.dispose()
        return engine

    def has_table(self, table_name: str) -> bool:
        """Whether a table is there; one that was found stays."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _has_asset_key_index_cols_on_connection(self, conn: Connection) -> bool:
        if not self._tells_index_columns:
            self._tells_index_columns = super()._has_asset_key_index_cols_on_connection(conn)
        return self._tells_index_columns

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store one event, and let those who watch the run know."""
        super().store_event(event)
        self._touch(event.run_id)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events in two transactions, where they are of one run and about assets; others one by one."""
        about_assets = [one for one in events if one.dagster_event_type in ASSET_EVENTS]
        if len({one.run_id for one in about_assets}) == 1:
            self._store_asset_events(about_assets)
        else:
            about_assets = []
        known = set(map(id, about_assets))
        for one in events:
            if id(one) not in known:
                self.store_event(one)

    def _store_asset_events(self, events: Sequence[dg.EventLogEntry]) -> None:
        rows = [self._event_to_row(one) for one in events]
        insert = SqlEventLogStorageTable.insert()
        with self.run_connection(events[0].run_id) as connection:
            connection.execute(insert, rows)
        with self.index_connection() as connection:
            told = connection.execute(
                insert.returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True), rows
            )
            ids = [int(row[0]) for row in told]
            self._store_asset_event_tags(connection, events, ids)
            # Of an asset the table of assets keeps the last event.
            last = {
                one.get_dagster_event().asset_key: (one, number)
                for one, number in zip(events, ids, strict=True)
            }
            for one, number in last.values():
                self._store_asset_event(connection, one, number)
        self._touch(events[0].run_id)

    def _touch(self, run_id: str) -> None:
        now = time.monotonic()
        if run_id and now - self._touched.get(run_id, 0.0) >= TOUCH_SECONDS:
            self._touched = {run_id: now}
            os.utime(self.path_for_shard(run_id))

    def wipe(self) -> None:
        """Remove everything."""
        self._let_go()
        super().wipe()

    def dispose(self) -> None:
        """Close all files."""
        super().dispose()
        self._let_go()

    def _let_go(self) -> None:
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
            self._initialized_dbs.clear()


def _no_flush_per_commit(connection: sqlite3.Connection, _: object) -> None:
    # In write-ahead mode a crash of the program loses nothing with this; a power cut may lose the records'
    # last moments, never their consistency (sqlite.org/pragma.html#pragma_synchronous).
    connection.execute("pragma synchronous = normal")
