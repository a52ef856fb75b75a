"""Days are spread over workers as the settings say, and none is lost with a worker."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.engines.spread import ROWS_WORTH_A_THREAD, Spread
from cai_assets.failures import PermanentError, TransientError
from cai_assets.memory import share
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.lake import days


def spread(**variables: object) -> Spread:
    return Spread.from_settings(Settings.model_validate(variables))


def test_the_settings_choose_the_workers() -> None:
    assert str(spread(processing_threads=3)) == "3 threads"
    assert str(spread(processing_threads=1)) == "one thread"
    assert str(spread(max_workers=4)) == "4 processes"
    assert str(spread(max_workers=1)) == "one thread"
    address = "tcp://scheduler:8786"
    assert str(spread(max_workers=4, dask_scheduler_address=address)) == f"Dask at {address}"
    one = spread(max_workers=4, dask_scheduler_address=address, enable_multithreading=False)
    assert (str(one), one.cores) == ("one thread", 1)
    assert spread(max_workers=1, processing_threads=3).cores == 3, "one day at a time, on all threads"


def test_other_processes_get_a_day_each_and_threads_what_is_worth_it() -> None:
    many = days(12)
    assert Spread(processes=2).groups(many, {}) == [(day,) for day in many]
    assert Spread(address="tcp://x:1").groups(many, {}) == [(day,) for day in many]
    assert Spread(threads=1).groups(many, dict.fromkeys(many, 10**9)) == [tuple(many)]
    assert Spread(threads=2).groups(many, dict.fromkeys(many, 10)) == [tuple(many)]
    assert Spread(threads=2).groups([], {}) == []
    assert len(Spread(threads=2).groups(many, dict.fromkeys(many, ROWS_WORTH_A_THREAD))) == 8


@given(
    rows=st.lists(st.integers(0, 4 * ROWS_WORTH_A_THREAD), min_size=1, max_size=28),
    threads=st.integers(1, 8),
)
def test_groups_are_the_days_in_order_and_of_like_size(rows: list[int], threads: int) -> None:
    many = days(len(rows))
    groups = Spread(threads=threads).groups(many, dict(zip(many, rows, strict=True)))
    assert [day for group in groups for day in group] == many
    assert all(groups)
    assert len(groups) <= 4 * threads
    by_day = dict(zip(many, rows, strict=True))
    for group in groups[:-1] if len(groups) > 1 else []:
        assert sum(by_day[day] for day in group[:-1]) <= sum(rows) / len(groups) + max(rows)


def test_what_shares_a_machine_shares_its_memory() -> None:
    assert (share("4GB", 2), share("80%", 4), share("512 MB", 1)) == ("2GB", "20%", "512MB")
    assert (Spread(threads=2).at_once(8), Spread(threads=4).at_once(2)) == (2, 2)
    assert (Spread(processes=3).at_once(60), Spread(address="tcp://x:1").at_once(60)) == (3, 1)


def note(index: int) -> tuple[int, int, str]:
    time.sleep(0.02)
    return index, os.getpid(), threading.current_thread().name


TASKS: list[Callable[[], tuple[int, int, str]]] = [partial(note, index) for index in range(12)]


def test_threads_work_at_the_same_time_and_every_result_comes_once() -> None:
    with Spread(threads=3) as workers:
        done = list(workers.run(TASKS))
    assert sorted(one.index for one in done) == list(range(12))
    assert all(one.result[0] == one.index for one in done)
    assert {one.result[1] for one in done} == {os.getpid()}
    assert len({one.result[2] for one in done}) == 3


def test_one_thread_is_this_one() -> None:
    with Spread(threads=1) as workers:
        done = [one.result for one in workers.run(TASKS)]
    assert [index for index, _, _ in done] == list(range(12))
    assert {name for _, _, name in done} == {threading.current_thread().name}


def fail() -> None:
    raise TransientError("the source went away", retry_after=3)


@dataclass(frozen=True)
class Marked:
    """Leaves a mark when it runs."""

    path: Path

    def __call__(self) -> None:
        self.path.touch()
        time.sleep(0.05)


def test_the_first_failure_stops_what_has_not_begun(tmp_path: Path) -> None:
    tasks = [fail, *(Marked(tmp_path / str(n)) for n in range(50))]
    with Spread(threads=2) as workers, pytest.raises(TransientError, match="went away"):
        list(workers.run(tasks))
    assert len(list(tmp_path.iterdir())) < 10


# -- other processes


@pytest.fixture(scope="module")
def processes() -> Spread:
    """Two worker processes for all tests; to start them takes seconds."""
    with Spread(processes=2, workerless_s=1.0) as workers:
        yield workers


def test_processes_do_the_work_elsewhere(processes: Spread) -> None:
    done = list(processes.run(TASKS))
    assert sorted(one.result[0] for one in done) == list(range(12))
    found = {one.result[1] for one in done}
    assert len(found) == 2
    assert os.getpid() not in found


def test_a_failure_over_there_keeps_its_kind(processes: Spread) -> None:
    with pytest.raises(TransientError, match="the source went away"):
        list(processes.run([fail]))


@dataclass(frozen=True)
class Dying:
    """Takes its process along, so many times."""

    folder: Path
    times: int

    def __call__(self) -> str:
        done = len(list(self.folder.iterdir()))
        if done < self.times:
            (self.folder / str(done)).touch()
            os._exit(1)
        return "done"


@pytest.mark.filterwarnings("ignore")
def test_a_lost_workers_tasks_are_done_by_the_others(processes: Spread, tmp_path: Path) -> None:
    done = list(processes.run([Dying(tmp_path, 1), *TASKS]))
    assert len(done) == 13
    assert {one.index: one.result for one in done}[0] == "done"


@pytest.mark.filterwarnings("ignore")
def test_work_that_kills_every_worker_is_given_up_and_told(processes: Spread, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="several workers were lost over the same days"):
        list(processes.run([Dying(tmp_path, 100)]))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai_assets.engines.spread._CONNECT_TIMEOUT_S", 1)
    with Spread(address="tcp://127.0.0.1:1") as workers, pytest.raises(TransientError) as told:
        list(workers.run(TASKS))
    assert "no Dask scheduler answers at tcp://127.0.0.1:1 (DASK_SCHEDULER_ADDRESS)" in str(told.value)


def test_a_cluster_without_workers_is_not_waited_for_without_end() -> None:
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Spread(address=cluster.scheduler_address, workerless_s=1.0) as workers,
        pytest.raises(TransientError, match="no worker is there; start some"),
    ):
        list(workers.run(TASKS))
