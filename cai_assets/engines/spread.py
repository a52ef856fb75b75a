"""Spreading the days of a range over workers: a Dask cluster, processes or threads of this machine, or none.

What a worker does for its days is handed in as a function; which workers there are, and what becomes of one
that is lost, belong here.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar

from cai_assets.failures import CaiError, PermanentError, TransientError
from cai_assets.settings import Settings

T = TypeVar("T")

# Fewer rows than these are done sooner than they are divided: a group costs some 100 ms of its own, and one
# group alone has all threads in DuckDB (months of 140,000 rows: 31 s a year in one group, 38 s in two).
ROWS_WORTH_A_THREAD: Final = 200_000
# Groups for each thread: the last to finish keeps the others waiting for a fourth of its share at most.
_GROUPS_PER_THREAD: Final = 4
_CONNECT_TIMEOUT_S: Final = 10
_LOOK_AGAIN_S: Final = 2.0


@dataclass(frozen=True)
class Done(Generic[T]):
    """One task that has come to its end.

    Attributes:
        index: its place among the tasks.
        result: what it returned.
    """

    index: int
    result: T


class Spread:
    """Workers for tasks that do not depend on each other; started when first needed, kept until `close`.

    A worker of a cluster that is lost has its tasks done again by the others: a task must be such that doing
    it twice does no harm.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        processes: int = 1,
        threads: int = 1,
        cores: int | None = None,
        workerless_s: float = 60.0,
    ) -> None:
        """Name the workers; nothing is started yet.

        Args:
            address: of a Dask scheduler, as tcp://host:8786.
            processes: worker processes of this machine, where there is no address; 1 means none.
            threads: threads of this process, where there are neither address nor processes.
            cores: threads that all tasks of a machine may use together; as many as threads if not given.
            workerless_s: seconds for which a cluster may be without any worker.
        """
        self.address = address
        self.processes = 1 if address else processes
        self.threads = threads
        self.cores = cores or threads
        self._workerless_s = workerless_s
        self._client: Any = None
        self._cluster: Any = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The workers of DASK_SCHEDULER_ADDRESS, else MAX_WORKERS, else PROCESSING_THREADS.

        ENABLE_MULTITHREADING=false leaves one thread, whatever else is set.
        """
        if not settings.enable_multithreading:
            return cls()
        cores = settings.processing_threads or len(os.sched_getaffinity(0))
        if settings.dask_scheduler_address:
            return cls(address=settings.dask_scheduler_address, cores=settings.processing_threads)
        if settings.max_workers is None:
            return cls(threads=cores)
        return cls(processes=settings.max_workers, cores=cores)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the cluster, and stop the processes that were started."""
        client, cluster, self._client, self._cluster = self._client, self._cluster, None, None
        if client is not None:
            client.close()
        if cluster is not None:
            cluster.close()

    def __str__(self) -> str:
        """The workers, for people."""
        if self.address:
            return f"Dask at {self.address}"
        if self.processes > 1:
            return f"{self.processes} processes"
        return f"{self.threads} threads" if self.threads > 1 else "one thread"

    @property
    def is_distributed(self) -> bool:
        """Whether tasks run in other processes, and so have to be sent there."""
        return self.address is not None or self.processes > 1

    def worker_count(self) -> int:
        """How many workers there are now; a cluster is asked.

        Raises:
            TransientError: the cluster cannot be reached.
        """
        if not self.is_distributed:
            return self.threads
        return len(self._connected().scheduler_info(n_workers=-1)["workers"])

    def groups(self, days: Sequence[str], rows: Mapping[str, int]) -> list[tuple[str, ...]]:
        """The days as tasks: one each for other processes, few and of like size for threads.

        Args:
            days: in rising order.
            rows: how many rows there are to work on, by day.
        """
        if self.is_distributed:
            return [(day,) for day in days]
        total = sum(rows.get(day, 0) for day in days)
        number = min(self.threads * _GROUPS_PER_THREAD, total // ROWS_WORTH_A_THREAD, len(days))
        if self.threads == 1 or number < 2:
            return [tuple(days)] if days else []
        groups: list[list[str]] = [[]]
        taken = 0
        for day in days:
            if groups[-1] and taken >= total * len(groups) / number:
                groups.append([])
            groups[-1].append(day)
            taken += rows.get(day, 0)
        return [tuple(group) for group in groups]

    def at_once(self, tasks: int) -> int:
        """How many of so many tasks share this machine at a time; 1 where a cluster does them."""
        return max(1, min(tasks, self.processes if self.processes > 1 else self.threads))

    def run(self, tasks: Sequence[Callable[[], T]]) -> Iterator[Done[T]]:
        """Do the tasks, and give each as it comes to its end.

        The first failure is raised once nothing is under way here any more.

        Args:
            tasks: picklable where they go to other processes.

        Raises:
            TransientError: the cluster cannot be reached, was lost, or has no workers.
            PermanentError: a task cost several workers their lives, or the workers lack the package.
            Whatever else a task raises.
        """
        if self.is_distributed:
            yield from self._on_dask(tasks)
        elif self.threads == 1 or len(tasks) < 2:
            for index, task in enumerate(tasks):
                yield Done(index, task())
        else:
            yield from self._in_threads(tasks)

    def _in_threads(self, tasks: Sequence[Callable[[], T]]) -> Iterator[Done[T]]:
        with ThreadPoolExecutor(self.threads, thread_name_prefix="days") as pool:
            futures = {pool.submit(task): index for index, task in enumerate(tasks)}
            try:
                for future in as_completed(futures):
                    yield Done(futures[future], future.result())
            finally:
                for future in futures:
                    future.cancel()

    # -- Dask

    def _on_dask(self, tasks: Sequence[Callable[[], T]]) -> Iterator[Done[T]]:
        from distributed import wait

        client = self._connected()
        run = uuid.uuid4().hex[:8]
        pending = {
            client.submit(task, pure=False, key=f"days-{run}-{index}"): index
            for index, task in enumerate(tasks)
        }
        try:
            alone_since: float | None = None
            while pending:
                try:
                    with client.as_current():
                        done = wait(list(pending), timeout=_LOOK_AGAIN_S, return_when="FIRST_COMPLETED").done
                except TimeoutError:
                    alone_since = self._without_workers(client, alone_since)
                    continue
                alone_since = None
                for future in done:
                    yield Done(pending.pop(future), self._result(future))
        finally:
            client.cancel(list(pending), force=True)

    def _connected(self) -> Any:
        if self._client is None:
            from distributed import Client, LocalCluster

            if self.address is None:
                self._cluster = LocalCluster(
                    n_workers=self.processes,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs="ERROR",
                )
            try:
                self._client = Client(
                    self._cluster or self.address, timeout=_CONNECT_TIMEOUT_S, set_as_default=False
                )
            except (OSError, TimeoutError) as error:
                raise TransientError(
                    f"no Dask scheduler answers at {self.address} (DASK_SCHEDULER_ADDRESS): {error}"
                ) from error
        return self._client

    def _without_workers(self, client: Any, since: float | None) -> float | None:
        """Since when the cluster has been without workers; None while it has some."""
        if client.status != "running":
            raise TransientError(f"{self}: the connection to the scheduler was lost")
        if client.scheduler_info(n_workers=-1)["workers"]:
            return None
        since = since or time.monotonic()
        if time.monotonic() - since > self._workerless_s:
            raise TransientError(f"{self}: no worker is there; start some, or unset DASK_SCHEDULER_ADDRESS")
        return since

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            return future.result()
        except CaiError:
            raise
        except KilledWorker as error:
            raise PermanentError(
                f"{self}: several workers were lost over the same days; if they ran out of memory, give each "
                f"more, or lower DUCKDB_MEMORY_LIMIT: {error}"
            ) from error
        except (FutureCancelledError, CancelledError) as error:
            raise TransientError(f"{self}: the scheduler let go of the work: {error}") from error
        except ModuleNotFoundError as error:
            raise PermanentError(
                f"{self}: its workers lack what the platform is made of ({error}); install the same version "
                "of cai_assets there"
            ) from error
