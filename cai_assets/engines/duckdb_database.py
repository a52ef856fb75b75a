"""An in-memory database of DuckDB: views over the files of tables, and keeping it from one call to the next.

How it is configured and what runs in it is `duckdb`'s.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

import duckdb

from cai_assets.engines.base import EngineError, Files
from cai_assets.engines.duckdb_text import mixed_source, older_source, quoted, source
from cai_assets.engines.models import TablePath
from cai_assets.memory import UNSET, in_bytes
from cai_assets.schemas.base import Table

# A kept database remembers the footers of the files it has read, beside its memory limit: some 100 kB each.
_FOOTER_BYTES: Final = 100_000
_FOOTERS_SHARE: Final = 0.05
_FEWEST_FILES: Final = 500
_MOST_FILES: Final = 5000


def files_worth_keeping(memory_limit: str | None) -> int:
    """How many files' footers a database may remember: those of a twentieth of its memory limit.

    Between 500 (50 MB) and 5,000, which are the facts of a year and more.
    """
    room = in_bytes(memory_limit or UNSET) * _FOOTERS_SHARE
    return min(_MOST_FILES, max(_FEWEST_FILES, int(room / _FOOTER_BYTES)))


FILES_DIFFER: Final = "schema mismatch in glob"
"""In DuckDB's refusal of files that lack a column which the first of them has."""


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

    def register(
        self, inputs: Files, tables: Mapping[TablePath, Table], mixed: Collection[TablePath] = ()
    ) -> None:
        """Make a view `layer.name` over the files of each input.

        Args:
            inputs: files of each input.
            tables: their declarations.
            mixed: inputs of which some files are older than a column, so that each file is looked into.
                Where others are so too, DuckDB refuses the query: `FILES_DIFFER`.

        Raises:
            EngineError: an input is not declared.
        """
        for layer in sorted({layer for layer, _ in inputs}):
            self.connection.execute(f"create schema {quoted(layer)}")
            self._schemas.add(layer)
        for path, files in inputs.items():
            declared = tables.get(path)
            if declared is None:
                raise EngineError(f"{'.'.join(path)} is not declared in cai_assets/schemas")
            self._files.update(files)
            name = f"{quoted(path[0])}.{quoted(path[1])}"
            for rows in [mixed_source] if path in mixed else [source, mixed_source]:
                with contextlib.suppress(duckdb.BinderException):  # what it looked into lacks a column
                    self.connection.execute(f"create view {name} as {rows(declared, files)}")
                    break
            else:
                self.connection.execute(f"create view {name} as {older_source(declared, files)}")

    def empty(self) -> None:
        """Drop all views."""
        for layer in self._schemas:
            self.connection.execute(f"drop schema {quoted(layer)} cascade")
        self._schemas.clear()

    @property
    def files(self) -> int:
        """How many files it remembers."""
        return len(self._files)


class Keeper:
    """Gives out databases, each to one caller at a time, and keeps one of those that come back.

    Opening and closing a database costs some 25 ms, and reading footers again as much for every hundred
    files: half of what a month of a small table costs.
    """

    def __init__(self, opened: Callable[[], duckdb.DuckDBPyConnection], most_files: int) -> None:
        """Nothing is opened yet.

        Args:
            opened: makes a connection to a new database.
            most_files: a database that has read more is not kept.
        """
        self._opened = opened
        self._most_files = most_files
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

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """A database without any view. One whose caller failed or left early is closed."""
        database = self._take() or Database(self._opened())
        try:
            yield database
            database.empty()
        except BaseException:
            database.connection.close()
            raise
        with self._lock:
            if self._keeps and self._idle is None and database.files <= self._most_files:
                self._idle = database
                return
        database.connection.close()

    def _take(self) -> Database | None:
        with self._lock:
            taken, self._idle = self._idle, None
        return taken
