"""DuckDB: the default engine. It runs a model's text as it is, in memory, over Parquet files, into Arrow.

How a connection is set up, how files become tables and how a result becomes the declared schema belong here.
Which files those are, where they lie and what becomes of the result are the callers' matter: a store that
needs more than paths (S3) hands in a `prepare` hook.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import duckdb
import pyarrow as pa

from cai_assets.engines.base import EngineError, EngineName, Files, complete, without_nulls
from cai_assets.engines.duckdb_database import FILES_DIFFER, Database, Keeper, files_worth_keeping
from cai_assets.engines.duckdb_text import duckdb_type, order, quoted
from cai_assets.engines.models import Model, TablePath
from cai_assets.failures import CaiError, TransientError
from cai_assets.memory import UNSET, in_bytes
from cai_assets.schemas.base import Table
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

T = TypeVar("T")

Prepare = Callable[[duckdb.DuckDBPyConnection], None]
"""Makes a fresh connection able to open the files, as `ObjectStore.duckdb_setup` does."""

BATCH_ROWS = 131_072
# Result batches of DuckDB are built from vectors of 2048 rows; smaller ones would only cost calls.
_SMALLEST_BATCH = 2048
SORT_MEMORY = "512MB"
"""Of a sort, where no limit is set: more only moves where rows wait, as what is sorted is read once."""


class DuckDBEngine:
    """Runs models and queries, each in an in-memory database of its own: threads may call at once.

    Within `with engine:` a database is kept for the next call, with what it knows of the files' footers and
    no view; what calls share besides is the spill folder. A connection loads no extension by itself, and once
    it is prepared its configuration is locked, so no SQL text can change it.
    """

    def __init__(
        self,
        *,
        memory_limit: str | None = None,
        threads: int | None = None,
        temp_directory: Path | None = None,
        prepare: Prepare | None = None,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        """An engine; nothing is opened before the first call.

        Args:
            memory_limit: as `4GB` or `80%`; default DuckDB's own, 80 % of the machine. Beyond it, it spills.
            threads: default all cores.
            temp_directory: where it spills; default a folder of this process in the system's folder for
                temporary files, made only when something spills, and emptied by DuckDB.
            prepare: called with each new connection before the first query.
            batch_rows: rows of an Arrow batch of the result.
        """
        self.memory_limit = memory_limit
        self.threads = threads
        self.temp_directory = temp_directory or Path(tempfile.gettempdir()) / f"cai-duckdb-{os.getpid()}"
        self.batch_rows = max(batch_rows, _SMALLEST_BATCH)
        self._prepare = prepare
        self._keeper = Keeper(self._connection, files_worth_keeping(memory_limit))
        self._known: dict[Hashable, Mapping[str, str]] = {}
        self._mixed: set[TablePath] = set()

    @classmethod
    def from_settings(cls, settings: Settings, *, prepare: Prepare | None = None) -> Self:
        """An engine with DUCKDB_MEMORY_LIMIT, PROCESSING_THREADS, ENABLE_MULTITHREADING and CHUNK_SIZE."""
        return cls(
            memory_limit=settings.duckdb_memory_limit,
            threads=settings.processing_threads if settings.enable_multithreading else 1,
            prepare=prepare,
            batch_rows=settings.chunk_size,
        )

    def __enter__(self) -> Self:
        """Keep a database from call to call, until the block ends."""
        self._keeper.keep()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the database that was kept, and remove the spill folder, if it is empty."""
        self._keeper.close()
        with contextlib.suppress(OSError):  # it may never have been made, or others may still spill there
            self.temp_directory.rmdir()

    @property
    def name(self) -> EngineName:
        """Which engine it is."""
        return "duckdb"

    def about(self) -> dict[str, str]:
        """What ran, for metadata."""
        return {"engine": "duckdb", "device": "cpu"}

    def run(
        self, model: Model, inputs: Files, parameters: Mapping[str, Any], *, table: Table
    ) -> pa.RecordBatchReader:
        """Run a model over files, in the declared order and schema of its table.

        The query starts at once, so a refused text is told here; rows are computed as they are read. The
        connection is closed when the reader is read to its end or is given up.

        Args:
            model: the model.
            inputs: files of each of `model.inputs`.
            parameters: a value for each of `model.parameters`; further ones are ignored.
            table: declaration of the result.

        Returns:
            rows in order of the table's partition column, then its key.

        Raises:
            EngineError: an input or parameter is missing, DuckDB refuses the text, or the columns are not the
                declared ones; while reading also for rows that break the declaration.
            TransientError: the server that holds the files failed.
        """
        complete(model.file, model.inputs, inputs, model.parameters, parameters)
        values = {name: parameters[name] for name in model.parameters}
        with contextlib.ExitStack() as stack:
            database = stack.enter_context(self._keeper.database())
            with self._explained(model.file):

                def start() -> pa.RecordBatchReader:
                    sql = _shaped(model, self._columns(database, model, inputs, values), table)
                    # All rows are sorted before the first is given, so every file has been opened by then.
                    return database.connection.execute(sql, values).to_arrow_reader(self.batch_rows)

                batches = self._over(database, {path: inputs[path] for path in model.inputs}, TABLES, start)
            closing = stack.pop_all()
        return pa.RecordBatchReader.from_batches(
            table.arrow_schema, self._checked(batches, model.file, table, closing)
        )

    def query(
        self,
        sql: str,
        inputs: Files | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        tables: Mapping[TablePath, Table] = TABLES,
    ) -> pa.Table:
        """Run one query over files and return all its rows, with the types DuckDB gives them.

        Args:
            sql: a query that names its inputs as `layer.name` and its parameters as `$name`.
            inputs: files of each input.
            parameters: a value for each parameter, and no others.
            tables: declarations of the inputs.

        Raises:
            EngineError: DuckDB refuses it, in DuckDB's own words.
            TransientError: the server that holds the files failed.
        """
        with self._keeper.database() as database, self._explained("query"):
            return self._over(
                database,
                inputs or {},
                tables,
                lambda: database.connection.execute(sql, dict(parameters or {})).to_arrow_table(),
            )

    def _over(
        self, database: Database, inputs: Files, tables: Mapping[TablePath, Table], ask: Callable[[], T]
    ) -> T:
        """Ask over views of the inputs; once more, looking into each file, where their columns differ.

        Looking into each of a year's files costs as much as a small query itself (19 marts: 7 s with, 5 s
        without), and they differ only from when a column is declared until its older days are made again.
        """
        try:
            database.register(inputs, tables, self._mixed)
            return ask()
        except duckdb.InvalidInputException as error:
            if FILES_DIFFER not in str(error) or self._mixed.issuperset(inputs):
                raise
        self._mixed.update(inputs)
        database.empty()
        database.register(inputs, tables, self._mixed)
        return ask()

    def _connection(self, memory_limit: str | None = None) -> duckdb.DuckDBPyConnection:
        config: dict[str, Any] = {
            "temp_directory": str(self.temp_directory),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if limit := memory_limit or self.memory_limit:
            config["memory_limit"] = f"{in_bytes(limit)}B"
        if self.threads:
            config["threads"] = self.threads
        try:
            connection = duckdb.connect(":memory:", config=config)
        except duckdb.Error as error:
            raise EngineError(f"DuckDB refuses its configuration {config}: {error}") from error
        try:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("set enable_progress_bar = false")  # it would be drawn into logs
            # A view reads the files' footers when it is made and again when it is used; they never change.
            connection.execute("set parquet_metadata_cache = true")
            if self._prepare:
                self._prepare(connection)
            connection.execute("set lock_configuration = true")
        except BaseException:
            connection.close()
            raise
        return connection

    def sort(self, rows: pa.RecordBatchReader, table: Table) -> pa.RecordBatchReader:
        """Rows in order of the table's partition column, then its key, nulls last: the order of its files.

        What does not fit into the memory limit is sorted on disk, so memory does not grow with the rows.

        Args:
            rows: of the declared schema; they are read when the result is.
            table: the declaration.

        Returns:
            the same rows; the connection is closed when they are read to their end or given up.

        Raises:
            EngineError: while reading: neither memory nor disk suffices.
        """
        what = f"sorting {table.layer}.{table.name}"
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(
                contextlib.closing(self._connection(self.memory_limit or SORT_MEMORY))
            )
            with self._explained(what):
                connection.register("unsorted", rows)
                result = connection.execute(f"from unsorted order by {order(table)}")
                batches = result.to_arrow_reader(self.batch_rows)
            closing = stack.pop_all()
        return pa.RecordBatchReader.from_batches(
            table.arrow_schema, self._checked(batches, what, table, closing)
        )

    def _columns(
        self, database: Database, model: Model, inputs: Files, values: Mapping[str, Any]
    ) -> Mapping[str, str]:
        """Name and DuckDB type of each column the model gives; asked once for the same kinds of inputs.

        The types of a table's files are those of its declaration, so what differs is which inputs have some.
        """
        there = tuple(bool(inputs[path]) for path in model.inputs)
        key = (model.file, model.sql, there, *(type(value) for value in values.values()))
        if key not in self._known:
            described = database.connection.execute(f"describe {model.sql}", dict(values)).fetchall()
            self._known[key] = {name: kind for name, kind, *_ in described}
        return self._known[key]

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except CaiError:
            raise
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # While rows are streamed DuckDB's errors arrive as OSError, their text unchanged.
            text = str(error)
            if isinstance(error, duckdb.OutOfMemoryException) or text.startswith("Out of Memory Error"):
                raise EngineError(
                    f"{what}: out of memory at DUCKDB_MEMORY_LIMIT={self.memory_limit or UNSET}, spilling to "
                    f"{self.temp_directory}; raise the limit, lower PROCESSING_THREADS or take fewer days at "
                    f"once: {text}"
                ) from error
            # A server's refusal (4xx) stays one; a server in trouble may recover.
            if (isinstance(error, duckdb.HTTPException) or text.startswith("HTTP Error")) and not re.search(
                r"\b(HTTP|code:?|error)\W*4\d\d\b", text
            ):
                raise TransientError(f"{what}: DuckDB says: {text}") from error
            raise EngineError(f"{what}: DuckDB says: {text}") from error

    def _checked(
        self,
        batches: pa.RecordBatchReader,
        what: str,
        table: Table,
        closing: contextlib.ExitStack,
    ) -> Iterator[pa.RecordBatch]:
        with closing, self._explained(what):
            yield from without_nulls(batches, what, table)


_INTEGERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)


def _fits(found: str, declared: str) -> bool:
    """Whether a cast to the declared type loses nothing or fails loudly: 2.7 must never become 3."""
    wanted = declared.upper()
    if found.replace(" ", "") == wanted.replace(" ", ""):
        return True
    if found == "TIMESTAMP WITH TIME ZONE":
        return wanted == "TIMESTAMPTZ"
    if found == '"NULL"' or found == "NULL":
        return True
    if wanted in _INTEGERS:
        return found in _INTEGERS
    if wanted == "DOUBLE":
        return found in (*_INTEGERS, "FLOAT")
    return wanted == "VARCHAR" and found.startswith("ENUM")


def _shaped(model: Model, found: Mapping[str, str], table: Table) -> str:
    """The model's text with the declared types, in the order of partition and key.

    Raises:
        EngineError: columns are missing, unknown, or of a type that does not fit.
    """
    declared = {column.name: duckdb_type(column.type) for column in table.columns}
    wrong = [f"{name} is missing" for name in declared if name not in found]
    wrong += [f"{name} is not declared" for name in found if name not in declared]
    wrong += [
        f"{name} is {kind} and declared {declared[name]}"
        for name, kind in found.items()
        if name in declared and not _fits(kind, declared[name])
    ]
    if wrong:
        raise EngineError(f"{model.file} does not make {table.layer}.{table.name}: {'; '.join(wrong)}")
    columns = ", ".join(
        f"cast({quoted(name)} as {kind}) as {quoted(name)}" for name, kind in declared.items()
    )
    return f"select {columns} from (\n{model.sql}\n) order by {order(table)}"  # noqa: S608  of the package
