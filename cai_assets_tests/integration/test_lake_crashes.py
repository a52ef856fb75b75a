"""Writers and servers killed at any moment, and many writers at once: whole versions, and nothing lost."""

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from cai_assets.failures import CaiError, call_with_retries
from cai_assets.resources.object_store import LocalStore, ObjectStore
from cai_assets.resources.storage import LakeTable
from cai_assets.resources.upkeep import tidy_all
from cai_assets_tests.fixtures.lake import EVENTS, days, events
from cai_assets_tests.fixtures.weed import Weed

DAYS = days(4)
ROOT = str(Path(__file__).parents[2])

# Writes version after version of some days, and says each that is committed. A version's number is the value
# of all its rows, and tells how many rows each day has.
WRITER = """
import itertools, pickle, sys
from cai_assets.resources.storage import LakeTable
from cai_assets_tests.fixtures.lake import EVENTS, events
store, days = pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[4].split(",")
table = LakeTable(store, EVENTS)
for mark in itertools.islice(itertools.count(int(sys.argv[2])), int(sys.argv[3]) or None):
    table.replace(days, events(dict.fromkeys(days, 10 + mark % 50), mark=mark))
    print(mark, flush=True)
"""


def writer(
    store: ObjectStore, spool: Path, first: int, count: int, wanted: list[str]
) -> subprocess.Popen[str]:
    """A process that writes so many versions (0: without end) from `first` on."""
    spool.mkdir(exist_ok=True)
    arguments = [pickle.dumps(store).hex(), str(first), str(count), ",".join(wanted)]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT, "TMPDIR": str(spool)},
    )


def first_said(process: "subprocess.Popen[str]") -> int:
    """The first version that a writer says it has committed."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the writer ended with {process.wait()}; what it says of it is in the captured output"
    return int(line)


def said_since(process: "subprocess.Popen[str]") -> list[int]:
    """The versions that a writer said after the first, to its end.

    Not by `communicate`, which passes by what `readline` has read ahead.
    """
    assert process.stdout is not None
    with process.stdout:
        lines = process.stdout.read().splitlines(keepends=True)
    process.wait()
    return [int(line) for line in lines if line.endswith("\n")]


def one_whole_version(data: pa.Table) -> int:
    """All days hold all rows of one version; which."""
    marks = set(data["value"].to_pylist())
    assert len(marks) == 1, f"a mixture of {marks}"
    (mark,) = marks
    counts = data.group_by("partition").aggregate([("value", "count")])["value_count"].to_pylist()
    assert counts == [10 + mark % 50] * len(DAYS), f"version {mark} has {counts} rows"
    return int(mark)


@contextmanager
def polling(table: LakeTable, readers: int = 2) -> Iterator[list[int]]:
    """Readers who look without pause; the versions they saw. What they find wrong is raised at the end."""
    seen: list[int] = []
    wrong: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(one_whole_version(table.select().to_table()))
            except BaseException as error:  # noqa: BLE001  raised at the end
                wrong.append(error)
                return

    threads = [threading.Thread(target=read, name=f"reader-{n}") for n in range(readers)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong
    assert len(set(seen)) > 1, "the readers saw nothing happen"


def assert_no_stray_file(table: LakeTable, spool: Path) -> None:
    """After a vacuum, the store holds the files that count, the log, and nothing else."""
    for base in (spool, getattr(table.store, "base", spool) / ".spool"):
        for folder in base.glob("cai-spool-*/*" if base == spool else "*"):
            os.utime(folder, (0, 0))  # as after the time that a new owner has to lock it
    list(tidy_all([table], timedelta(0)))
    table.store.sweep(datetime.now(UTC))
    live = {file.path for files in table.log.live().values() for file in files}
    stored = {file.path for file in table.store.list_files(*EVENTS.path)}
    log = {path for path in stored if path.startswith("_delta_log/")}
    assert stored - log == live
    assert [
        path for path in log if not path.endswith((".json", ".checkpoint.parquet", "_last_checkpoint"))
    ] == []
    if isinstance(table.store, LocalStore):
        everything = {
            str(path.relative_to(table.store.base)) for path in table.store.base.rglob("*") if path.is_file()
        }
        assert everything == {f"lake/events/{path}" for path in stored}


def crash_loop(store: ObjectStore, spool: Path, kills: int) -> None:
    """Kill a writer at a random moment of its work, so many times, while readers look on."""
    table = LakeTable(store, EVENTS)
    table.replace(DAYS, events(dict.fromkeys(DAYS, 10)))
    commits = 0
    with polling(table) as seen:
        for kill in range(kills):
            process = writer(store, spool, 1_000 * kill + 1, 0, DAYS)
            said = [first_said(process)]
            time.sleep(random.uniform(0.0, 0.4))
            process.send_signal(signal.SIGKILL)
            said += said_since(process)
            acknowledged = said[-1]
            commits += len(said)
            found = one_whole_version(table.select().to_table())
            assert acknowledged <= found <= acknowledged + 1, "an acknowledged commit was lost"
    stray = len(table.store.list_files(*EVENTS.path))
    assert_no_stray_file(table, spool)
    print(
        f"{kills} kills, {commits} commits, {len(seen)} reads of {len(set(seen))} versions, none mixed; "
        f"{stray} files before the vacuum, {len(table.store.list_files(*EVENTS.path))} after it"
    )


@pytest.fixture(params=["local", "weed"])
def durable_store(request: pytest.FixtureRequest, no_aws_account: None) -> ObjectStore:
    """A store that keeps what it said: on disk, on SeaweedFS."""
    if request.param == "local":
        return request.getfixturevalue("local_store")
    weed = request.getfixturevalue("weed")
    return weed.store(weed.bucket())


def test_writers_killed_at_any_moment_leave_whole_versions(
    durable_store: ObjectStore, tmp_path: Path
) -> None:
    crash_loop(durable_store, tmp_path / "spool", 3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_writers_killed_leave_whole_versions(durable_store: ObjectStore, tmp_path: Path) -> None:
    crash_loop(durable_store, tmp_path / "spool", 100)


def server_loop(weed: Weed, spool: Path, kills: int) -> None:
    """Kill the server while a writer commits, start it again, and look for what was acknowledged."""
    store = weed.server.store(weed.server.bucket())
    table = LakeTable(store, EVENTS)
    table.replace(DAYS, events(dict.fromkeys(DAYS, 10)))
    for kill in range(kills):
        process = writer(store, spool, 1_000 * kill + 1, 0, DAYS)
        said = [first_said(process)]
        time.sleep(random.uniform(0.0, 0.3))
        weed.kill()
        process.send_signal(signal.SIGKILL)
        said += said_since(process)
        weed.start()
        # It answers before it has opened its volumes, and says 500 until then.
        found = call_with_retries(10, 0.5, lambda: one_whole_version(table.select().to_table()))
        assert said[-1] <= found <= said[-1] + 1, "an acknowledged commit was lost"
    table.replace(DAYS, events(dict.fromkeys(DAYS, 10)))
    assert_no_stray_file(table, spool)
    print(f"the server was killed {kills} times, and every acknowledged commit was there")


@pytest.fixture
def own_weed(tmp_path: Path, no_aws_account: None) -> Iterator[Weed]:
    """A server of the test's own, to be killed."""
    one = Weed.started(tmp_path / "weed")
    yield one
    one.kill()


def test_a_server_killed_in_the_middle_of_commits_keeps_what_it_acknowledged(
    own_weed: Weed, tmp_path: Path
) -> None:
    server_loop(own_weed, tmp_path / "spool", 2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_server_killed_twenty_times_keeps_what_it_acknowledged(own_weed: Weed, tmp_path: Path) -> None:
    server_loop(own_weed, tmp_path / "spool", 20)


def test_a_server_that_goes_away_is_told_and_the_table_is_as_it_was(own_weed: Weed) -> None:
    table = LakeTable(own_weed.server.store(own_weed.server.bucket()), EVENTS)
    table.replace(DAYS, events(dict.fromkeys(DAYS, 10)))
    own_weed.kill()
    with pytest.raises(CaiError, match=r"no connection to http://127\.0\.0\.1:\d+ \(S3_ENDPOINT_URL\)"):
        table.replace(DAYS, events(dict.fromkeys(DAYS, 11), mark=1))
    own_weed.start()
    assert call_with_retries(10, 0.5, lambda: one_whole_version(table.select().to_table())) == 0
    table.replace(DAYS, events(dict.fromkeys(DAYS, 11), mark=1))
    assert one_whole_version(table.select().to_table()) == 1


# -- many writers


def finish(processes: list[subprocess.Popen[str]]) -> list[list[int]]:
    """What each said."""
    said = []
    for process in processes:
        said.append(said_since(process))
        assert process.returncode == 0
    return said


@pytest.mark.soak
def test_eight_writers_of_eight_days_lose_no_commit(durable_store: ObjectStore, tmp_path: Path) -> None:
    wanted, turns = days(8), 25
    table = LakeTable(durable_store, EVENTS)
    table.replace(wanted, events(dict.fromkeys(wanted, 10)))
    before = table.version()
    said = finish([writer(durable_store, tmp_path / "spool", 1, turns, [day]) for day in wanted])
    assert said == [list(range(1, turns + 1))] * len(wanted)
    assert table.version() == (before or 0) + turns * len(wanted), "a commit was lost"
    assert table.dataset().to_table().equals(events(dict.fromkeys(wanted, 10 + turns), mark=turns))
    print(f"{len(wanted)} writers of {len(wanted)} days, {turns} commits each: all there")


@pytest.mark.soak
def test_four_writers_of_one_day_never_mix(durable_store: ObjectStore, tmp_path: Path) -> None:
    turns = 25
    table = LakeTable(durable_store, EVENTS)
    table.replace(DAYS, events(dict.fromkeys(DAYS, 10)))
    before = table.version()
    with polling(table) as seen:
        said = finish(
            [writer(durable_store, tmp_path / "spool", 1_000 * n, turns, DAYS) for n in range(1, 5)]
        )
    assert said == [list(range(1_000 * n, 1_000 * n + turns)) for n in range(1, 5)]
    assert table.version() == (before or 0) + turns * len(said), "a commit was lost"
    assert one_whole_version(table.select().to_table()) in {marks[-1] for marks in said}
    print(f"4 writers of the same days, {turns} commits each: all there; {len(seen)} reads, none mixed")
