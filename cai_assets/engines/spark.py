"""Spark: a model's plan as one statement, run by a cluster (Spark Connect) or a Spark of this process.

The statement is `spark_sql`'s; here are sessions, files and results. Spark writes results, sorted, into a
folder that both sides see, where they are read in batches: none has to fit into the driver's memory.
"""

import contextlib
import os
import re
import shutil
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cai_assets.engines.base import (
    EngineError,
    EngineName,
    Exchange,
    Files,
    Place,
    cast_batch,
    complete,
    sort_columns,
    without_nulls,
)
from cai_assets.engines.models import Model, TablePath
from cai_assets.engines.portable.kinds import kind_of
from cai_assets.engines.portable.reading import read_model
from cai_assets.engines.spark_sql import SparkStatement, quoted, spark_type
from cai_assets.failures import CaiError, PermanentError, TransientError
from cai_assets.reaching import reach
from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

EXTRA: Final = "pip install 'cai_assets[spark]'"
_SESSION: Final = {
    "spark.sql.session.timeZone": "UTC",  # instants are UTC; `from_utc_timestamp` counts on it
    "spark.sql.ansi.enabled": "true",  # overflow and wrong casts fail, instead of turning to NULL
}
# Of a Spark inside this process: nothing listens beyond loopback, nothing is drawn into logs.
_LOCAL: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
}
_CONNECT_TIMEOUT_S: Final = 10
_GLOB: Final = re.compile(r"([\\{}\[\]*?])")


class SparkEngine:
    """Runs models in one session, opened at the first call and stopped by `close`; threads may call."""

    def __init__(
        self,
        place: Place,
        *,
        remote: str | None = None,
        threads: int | None = None,
        batch_rows: int = 10_000,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """An engine; nothing is opened before the first call.

        Args:
            place: where the files are, and where results are exchanged.
            remote: address of Spark Connect, as sc://host:15002; a Spark of this process where there is none.
            threads: of that local Spark; all cores if not given.
            batch_rows: rows of an Arrow batch of the result.
            options: further settings of a local session.
        """
        self.remote = remote
        self._place = place
        self._threads = threads
        self._batch_rows = batch_rows
        self._options = dict(options or {})
        self._lock = threading.Lock()
        self._session: Any = None
        self._is_ours = False

    @classmethod
    def from_settings(cls, settings: Settings, place: Place) -> Self:
        """An engine at SPARK_REMOTE, or with PROCESSING_THREADS, and CHUNK_SIZE."""
        threads = settings.processing_threads if settings.enable_multithreading else 1
        return cls(place, remote=settings.spark_remote, threads=threads, batch_rows=settings.chunk_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the session, if this engine opened one."""
        with self._lock:
            session, self._session = self._session, None
            if session is not None and self._is_ours:
                session.stop()

    @property
    def name(self) -> EngineName:
        """Which engine it is."""
        return "spark"

    def about(self) -> dict[str, str]:
        """What ran, for metadata."""
        return {"engine": "spark", "device": self.remote or f"local[{self._threads or '*'}]"}

    def run(
        self, model: Model, inputs: Files, parameters: Mapping[str, Any], *, table: Table
    ) -> pa.RecordBatchReader:
        """Run a model over files, in the declared order and schema of its table.

        Spark is done when it returns.

        Args:
            model: the model.
            inputs: files of each of `model.inputs`.
            parameters: a value for each of `model.parameters`; further ones are ignored.
            table: declaration of the result.

        Raises:
            NotPortable: the model is outside the portable part of SQL.
            EngineError: an input or parameter is missing, or Spark failed, in its own words.
            TransientError: Spark cannot be reached, or lost its workers.
        """
        complete(model.file, model.inputs, inputs, model.parameters, parameters)
        plan = read_model(model, table)
        session = self._opened()
        run = uuid.uuid4().hex
        views = {path: f"cai_{run}_{path[0]}_{path[1]}" for path in model.inputs}
        statement = SparkStatement(views.__getitem__, parameters).write(plan, sort_columns(table))
        with contextlib.ExitStack() as stack:
            exchange = stack.enter_context(self._place.exchange())
            with self._explained(model.file):
                for path, view in views.items():
                    self._show(session, view, path, inputs[path])
                    stack.callback(session.catalog.dropTempView, view)
                session.sql(statement).write.parquet(f"{_address(exchange.address)}/rows")
            closing = stack.pop_all()
        batches = self._read(exchange, model.file, table, closing)
        next(batches)
        return pa.RecordBatchReader.from_batches(
            table.arrow_schema, without_nulls(batches, model.file, table)
        )

    def _read(
        self, exchange: Exchange, what: str, table: Table, closing: contextlib.ExitStack
    ) -> Iterator[pa.RecordBatch]:
        """Nothing, then the rows that Spark wrote; its files stand in the order of their names.

        One that was begun cleans up also if no row is ever asked for.
        """
        selector = pafs.FileSelector(f"{exchange.path}/rows")
        with closing:
            yield pa.RecordBatch.from_pylist([], schema=table.arrow_schema)
            found = [info.path for info in exchange.filesystem.get_file_info(selector) if info.is_file]
            for path in sorted(one for one in found if one.endswith(".parquet")):
                with exchange.filesystem.open_input_file(path) as file:
                    try:
                        for batch in pq.ParquetFile(file).iter_batches(self._batch_rows):
                            yield cast_batch(batch, table)
                    except pa.ArrowException as error:
                        raise EngineError(f"{what}: a value does not fit the declaration: {error}") from error

    @staticmethod
    def _show(session: Any, view: str, path: TablePath, files: Sequence[str]) -> None:
        columns = TABLES[path].columns
        if files:
            schema = ", ".join(f"{quoted(column.name)} {_stored_type(column)}" for column in columns)
            frame = session.read.schema(schema).parquet(*(_address(_GLOB.sub(r"\\\1", f)) for f in files))
        else:
            nulls = ", ".join(f"cast(null as {_stored_type(c)}) as {quoted(c.name)}" for c in columns)
            frame = session.sql(f"select {nulls} where false")
        frame.createOrReplaceTempView(view)

    # -- the session

    def _opened(self) -> Any:
        with self._lock:
            if self._session is None:
                with self._explained("Spark"), warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # of pandas 3, which is not used here
                    self._session = self._connect() if self.remote else self._start()
            return self._session

    def _connect(self) -> Any:
        builder = _builder()
        reach(self.remote or "", "SPARK_REMOTE", _CONNECT_TIMEOUT_S)
        self._is_ours = True
        session = builder.remote(self.remote).getOrCreate()
        for name, value in _SESSION.items():
            session.conf.set(name, value)
        return session

    def _start(self) -> Any:
        if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
            raise PermanentError(
                "ENGINE=spark without SPARK_REMOTE runs Spark in this process and needs Java 17, which is "
                "not there: install it (Debian: apt install openjdk-17-jre-headless), or set SPARK_REMOTE"
            )
        builder = _builder().master(f"local[{self._threads or '*'}]").appName("cai_assets")
        cores = self._threads or len(os.sched_getaffinity(0))
        settings = {**_SESSION, **_LOCAL, "spark.sql.shuffle.partitions": str(2 * cores), **self._options}
        for name, value in settings.items():
            builder = builder.config(name, value)
        from pyspark.sql import SparkSession

        self._is_ours = SparkSession.getActiveSession() is None
        return builder.getOrCreate()

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except CaiError:
            raise
        except Exception as error:
            kind, text = _told(error)
            raise kind(f"{what}: Spark says: {text}") from error


def _builder() -> Any:
    """Spark's builder of sessions.

    Raises:
        PermanentError: Spark is not installed.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise PermanentError(f"ENGINE=spark needs PySpark, which is not installed: {EXTRA}") from error
    return SparkSession.builder


def _stored_type(column: Column) -> str:
    """The type as the files have it: Spark reads no narrow integer as a wide one everywhere."""
    return "int" if column.type == pa.int32() else spark_type(kind_of(column.type))


def _address(location: str) -> str:
    """A location as Spark names it; local files by scheme, as a cluster's default may be another."""
    if location.startswith("s3://"):
        return "s3a://" + location.removeprefix("s3://")
    return f"file:{location}" if Path(location).is_absolute() else location


def _told(error: Exception) -> tuple[type[CaiError], str]:
    """Whether trying again may help, and what Spark says in a few lines, without Java's stack."""
    text = str(error)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    short = "\n".join(lines[:8])[:2000]
    passing = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ExecutorLostFailure", "Connection refused")
    if any(word in text for word in passing):
        return TransientError, short
    return EngineError, short
