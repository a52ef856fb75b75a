"""A range of days of a table, made by many workers and committed once: what one worker does for its days.

It joins engines, documents and the lake, and knows no Dagster: workers of a cluster import it. Which workers
there are is `engines.spread`'s.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from cai_assets.domain.lake import to_lake
from cai_assets.domain.redaction import Redactor, redactor_of
from cai_assets.engines.base import Engine
from cai_assets.engines.duckdb import SORT_MEMORY, DuckDBEngine
from cai_assets.engines.models import Model, TablePath
from cai_assets.engines.spread import Spread
from cai_assets.failures import CaiError
from cai_assets.memory import UNSET, share
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.live_documents import LiveDocuments
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.staging import Parts, Staged
from cai_assets.resources.storage import LakeTable
from cai_assets.settings import Settings


@dataclass(frozen=True)
class Progress:
    """How far a range has come.

    Attributes:
        done: days that are done.
        days: all days.
        rows: rows made so far.
    """

    done: int
    days: int
    rows: int


Tell = Callable[[Progress], None]


class Work(Protocol):
    """What makes a table's rows of some days; it can be sent to another process."""

    def rows(self, days: Sequence[str]) -> pa.RecordBatchReader:
        """The rows of these days, sorted by partition and key."""

    def of(self, days: Sequence[str]) -> "Work":
        """The same with no more than these days need, to be sent."""

    def counts(self) -> Mapping[str, int]:
        """What was counted while rows were made, for the metadata."""


@dataclass(frozen=True)
class _Task:
    """Some days of a table: made, written, and not yet committed."""

    work: Work
    days: tuple[str, ...]
    target: LakeTable
    live: Parts
    finished: list[Staged]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "finished": []}

    def __call__(self) -> Staged:
        staged = self.target.stage(self.days, self.work.rows(self.days), live=self.live)
        staged = replace(staged, counts=self.work.counts())
        self.finished.append(staged)  # also where nobody waits for it any more, so that it can be taken back
        return staged


@dataclass(frozen=True)
class ModelWork:
    """A SQL model over the files of its inputs.

    Attributes:
        model: the model.
        inputs: files of its inputs.
        parameters: values of its parameters.
        target: the table it makes.
        memory_limit: of DuckDB.
        threads: of DuckDB.
        batch_rows: rows of an Arrow batch.
        engine: another engine than DuckDB, or None.
    """

    model: Model
    inputs: Mapping[TablePath, LakeFiles]
    parameters: Mapping[str, Any]
    target: LakeTable
    memory_limit: str | None
    threads: int | None
    batch_rows: int
    engine: Engine | None = None

    def rows(self, days: Sequence[str]) -> pa.RecordBatchReader:
        """The model's rows of these days; DuckDB computes them as they are read."""
        engine = self.engine or DuckDBEngine(
            memory_limit=self.memory_limit,
            threads=self.threads,
            prepare=self.target.store.duckdb_setup,
            batch_rows=self.batch_rows,
        )
        files = {path: found.of(days) for path, found in self.inputs.items()}
        return engine.run(self.model, files, self.parameters, table=self.target.table)

    def of(self, days: Sequence[str]) -> "ModelWork":
        """The same with the files of these days alone."""
        return replace(self, inputs={path: found.narrowed(days) for path, found in self.inputs.items()})

    def counts(self) -> Mapping[str, int]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class DocumentsWork:
    """Documents of MongoDB as rows of a lake table, streamed: a batch at a time, sorted on disk if need be.

    Attributes:
        name: the platform's name of the collection.
        settings: of the connection, of pseudonyms and of batches.
        target: the lake table.
        memory_limit: of the sort.
        threads: of the sort.
        store: the connection; in another process one of its own is made.
        redactor: masks texts, and counts what it masked.
    """

    name: str
    settings: Settings
    target: LakeTable
    memory_limit: str | None
    threads: int | None
    store: MongoStore | None = None
    redactor: Redactor = field(default_factory=Redactor)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "store": None}

    def rows(self, days: Sequence[str]) -> pa.RecordBatchReader:
        """The documents of these days as rows, sorted."""
        table = self.target.table
        engine = DuckDBEngine(
            memory_limit=self.memory_limit, threads=self.threads, batch_rows=self.settings.chunk_size
        )
        return engine.sort(pa.RecordBatchReader.from_batches(table.arrow_schema, self._rows(days)), table)

    def of(self, _: Sequence[str]) -> "DocumentsWork":
        """The same, with a count of its own."""
        return replace(self, redactor=redactor_of(self.settings))

    def counts(self) -> Mapping[str, int]:
        """Items masked, by kind."""
        return dict(self.redactor.found)

    def _rows(self, days: Sequence[str]) -> Iterator[pa.RecordBatch]:
        own = None if self.store is not None else MongoStore.from_settings(self.settings)
        store = self.store or own
        assert store is not None  # noqa: S101  one of the two is there
        with own or contextlib.nullcontext():
            for batch in store.read_batches(self.name, days, self.settings.chunk_size):
                yield to_lake(self.target.table, batch, self.settings.pseudonym_key, self.redactor)


def stage_model(
    spread: Spread,
    model: Model,
    inputs: Mapping[TablePath, LakeFiles],
    parameters: Mapping[str, Any],
    target: LakeTable,
    settings: Settings,
    days: Sequence[str],
    tell: Tell = lambda _: None,
    engine: Engine | None = None,
) -> Staged:
    """Make the files of a model's table for some days, wherever there are workers; commit is the caller's.

    Args:
        spread: the workers.
        model: the model; it groups within the partition, so days are independent.
        inputs: files of its inputs, of these days at least.
        parameters: values of its parameters.
        target: the table it makes.
        settings: memory limit and batches.
        days: in rising order.
        tell: called as days come to their end.
        engine: what runs the model; DuckDB if not given. DuckDB's days are divided among all workers. cuDF
            and Polars use a whole machine by themselves: their days go to the machines of a cluster, or are
            done at once. Spark divides them by itself.

    Raises:
        CaiError: what the model, the store or the cluster fails with; nothing is left behind then.
    """
    if engine is not None and engine.name != "duckdb" and (engine.name == "spark" or spread.address is None):
        spread = Spread()
    rows = {day: sum(found.rows.get(day, 0) for found in inputs.values()) for day in days}
    groups = spread.groups(days, rows)
    at_once = spread.at_once(len(groups))
    if engine is not None and engine.name == "duckdb" and (at_once > 1 or spread.is_distributed):
        engine = None  # one with its share of memory and threads is made for each worker
    work = ModelWork(
        model=model,
        inputs=inputs,
        parameters=parameters,
        target=target,
        memory_limit=share(settings.duckdb_memory_limit or UNSET, at_once),
        threads=max(1, spread.cores // at_once),
        batch_rows=settings.chunk_size,
        engine=engine,
    )
    return _stage(spread, work, groups, target, tell)


def stage_documents(
    spread: Spread,
    documents: LiveDocuments,
    target: LakeTable,
    settings: Settings,
    days: Sequence[str],
    tell: Tell = lambda _: None,
) -> Staged:
    """Make the files of a lake table for some days out of MongoDB; as `stage_model`.

    Memory is bounded by CHUNK_SIZE and the sort's limit, not by the number of documents.

    Args:
        spread: the workers.
        documents: live documents.
        target: the lake table.
        settings: connection, key of pseudonyms, memory limit and batches.
        days: in rising order.
        tell: called as days come to their end.

    Raises:
        CaiError: as `stage_model`; also for documents that do not fit the declaration.
    """
    groups = spread.groups(days, {} if spread.is_distributed else documents.counts())
    at_once = spread.at_once(len(groups))
    work = DocumentsWork(
        name=documents.name,
        settings=settings,
        target=target,
        memory_limit=share(settings.duckdb_memory_limit or SORT_MEMORY, at_once),
        threads=max(1, spread.cores // at_once),
        store=documents.store,
    )
    return _stage(spread, work, groups, target, tell)


def _stage(
    spread: Spread, work: Work, groups: Sequence[tuple[str, ...]], target: LakeTable, tell: Tell
) -> Staged:
    live = target.log.live()
    here: list[Staged] = []
    tasks = [
        _Task(work.of(days), days, target, {day: live[day] for day in days if day in live}, here)
        for days in groups
    ]
    total = sum(len(days) for days in groups)
    finished: list[Staged] = []
    try:
        for done in spread.run(tasks):
            finished.append(done.result)
            parts = [part for one in finished for part in one.parts.values()]
            tell(Progress(len(parts), total, sum(file.rows for part in parts for file in part)))
    except BaseException:
        with contextlib.suppress(CaiError):  # the first error matters; vacuum takes what is left
            target.discard(*finished, *here)
        raise
    counts: Counter[str] = Counter()
    for one in finished:
        counts.update(one.counts)
    return Staged(
        parts={day: files for one in finished for day, files in one.parts.items()},
        sent=tuple(path for one in finished for path in one.sent),
        counts=counts,
    )
