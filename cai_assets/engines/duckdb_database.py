"""An in-memory database of DuckDB: views over the files of tables, and keeping it from one call to the next.

How it is configured and what runs in it is `duckdb`'s.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import duckdb

from cai_assets.engines.base import EngineError, Files
from cai_assets.engines.duckdb_text import older_source, quoted, source
from cai_assets.engines.models import TablePath
from cai_assets.schemas.base import Table

# A kept database remembers the footers of the files it has read, some 130 kB each: these are 65 MB.
_MOST_FILES = 500


class Database:
    """One database and what is in it.

    Attributes:
        connection: the only one to it.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """A database that holds nothing yet."""
        self.connection = connection
        self._schemas: set[str] = set()
        self._files: set[str] = set()

    def register(self, inputs: Files, tables: Mapping[TablePath, Table]) -> bool:
        """Make a view `layer.name` over the files of each input.

        Returns:
            whether every input has files with all its declared columns, so that the views' types are theirs.

        Raises:
            EngineError: an input is not declared.
        """
        as_declared = True
        for layer in sorted({layer for layer, _ in inputs}):
            self.connection.execute(f"create schema {quoted(layer)}")
            self._schemas.add(layer)
        for path, files in inputs.items():
            declared = tables.get(path)
            if declared is None:
                raise EngineError(f"{'.'.join(path)} is not declared in cai_assets/schemas")
            name = f"{quoted(path[0])}.{quoted(path[1])}"
            self._files.update(files)
            as_declared = as_declared and bool(files)
            try:
                self.connection.execute(f"create view {name} as {source(declared, files)}")
            except (
                duckdb.BinderException
            ):  # a declared column is in none of the files: they are older than it
                self.connection.execute(f"create view {name} as {older_source(declared, files)}")
                as_declared = False
        return as_declared

    def empty(self) -> bool:
        """Drop all views; whether the database is worth keeping, as it remembers footers of few files."""
        for layer in self._schemas:
            self.connection.execute(f"drop schema {quoted(layer)} cascade")
        self._schemas.clear()
        return len(self._files) <= _MOST_FILES


class Keeper:
    """Gives out databases, each to one caller at a time, and keeps one of those that come back.

    Opening and closing a database costs some 25 ms, and reading footers again as much for every hundred
    files: half of what a month of a small table costs.
    """

    def __init__(self, opened: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        """Nothing is opened yet.

        Args:
            opened: makes a connection to a new database.
        """
        self._opened = opened
        self._lock = threading.Lock()
        self._keeps = False
        self._idle: Database | None = None

    def keep(self) -> None:
        """Keep from now on."""
        self._keeps = True

    def close(self) -> None:
        """Close what is kept, and keep nothing more."""
        self._keeps = False
        if idle := self._take():
            idle.connection.close()

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A database without any view. One whose caller failed or left early is closed."""
        database = self._take() or Database(self._opened())
        try:
            yield database
            worth_keeping = database.empty()
        except BaseException:
            database.connection.close()
            raise
        with self._lock:
            if self._keeps and worth_keeping and self._idle is None:
                self._idle = database
                return
        database.connection.close()

    def _take(self) -> Database | None:
        with self._lock:
            taken, self._idle = self._idle, None
        return taken
