"""Runs whose process is gone are found: by their own process, or by what their code server knows."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from cai_assets.launcher import MISSES, PROCESS, WatchedRunLauncher, end_lost_runs, note_process
from cai_assets.records import BATCH_VARIABLE
from cai_assets_tests.conftest import REPOSITORY


@dg.job
def nothing() -> None:
    """A job without steps."""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance as `cai` makes it."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv(BATCH_VARIABLE, "0")  # put back after the test, as the event log sets it
    template = REPOSITORY / "cai_assets" / "templates" / "dagster.yaml"
    (tmp_path / "dagster.yaml").write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        assert isinstance(made.run_launcher, WatchedRunLauncher)
        assert made.run_launcher.supports_check_run_worker_health
        yield made


def under_way(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    run = instance.create_run_for_job(nothing, tags=tags, status=dg.DagsterRunStatus.STARTED)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def health(instance: dg.DagsterInstance, run_id: str) -> WorkerStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return instance.run_launcher.check_run_worker_health(run).status


def test_a_run_notes_its_process_and_is_found_when_that_is_killed(instance: dg.DagsterInstance) -> None:
    run = under_way(instance)
    assert health(instance, run.run_id) == WorkerStatus.RUNNING, "nothing is known of it"
    code = (
        "import sys, dagster as dg\n"
        "from cai_assets.launcher import note_process\n"
        "with dg.DagsterInstance.from_config(sys.argv[1]) as instance:\n"
        "    note_process(instance, sys.argv[2])\n"
        "    print('noted', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, instance.root_directory, run.run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "noted\n"
        assert health(instance, run.run_id) == WorkerStatus.RUNNING
        child.kill()
    assert health(instance, run.run_id) == WorkerStatus.FAILED


def test_the_process_of_another_machine_is_not_looked_for_here(instance: dg.DagsterInstance) -> None:
    run = under_way(instance)
    instance.add_run_tags(run.run_id, {PROCESS: f"{run.run_id} another-host 1 2"})
    assert health(instance, run.run_id) == WorkerStatus.RUNNING


def test_a_run_that_was_started_again_is_not_taken_for_the_one_before(instance: dg.DagsterInstance) -> None:
    here = socket.gethostname()
    run = under_way(instance, **{PROCESS: f"the-one-before {here} 1 2"})
    assert health(instance, run.run_id) == WorkerStatus.RUNNING
    instance.add_run_tags(run.run_id, {PROCESS: f"{run.run_id} {here} 1 2"})
    assert health(instance, run.run_id) == WorkerStatus.FAILED


def test_of_runs_under_way_those_whose_process_is_gone_have_failed(instance: dg.DagsterInstance) -> None:
    here = socket.gethostname()
    lost, mine, unknown, elsewhere = (under_way(instance) for _ in range(4))
    instance.add_run_tags(lost.run_id, {PROCESS: f"{lost.run_id} {here} 1 2"})
    note_process(instance, mine.run_id)
    instance.add_run_tags(elsewhere.run_id, {PROCESS: f"{elsewhere.run_id} another-host 1 2"})
    busy = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    left = {run.run_id for run in end_lost_runs(instance, instance.get_runs(busy))}
    assert left == {mine.run_id, unknown.run_id, elsewhere.run_id}
    assert {run.run_id for run in instance.get_runs(busy)} == left
    ended = instance.get_run_by_id(lost.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE


def test_a_code_server_that_is_gone_is_asked_once_more(instance: dg.DagsterInstance) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = under_way(instance, **{GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", "port": port})})
    found = [health(instance, run.run_id) for _ in range(MISSES)]
    assert found == [WorkerStatus.RUNNING] * (MISSES - 1) + [WorkerStatus.FAILED]


def test_a_run_of_the_platform_notes_its_process(tmp_path: Path) -> None:
    from cai_assets.definitions import build_resources
    from cai_assets.settings import Settings

    @dg.op(required_resource_keys={"settings"})
    def look(context: dg.OpExecutionContext) -> None:
        assert context.resources.settings.mongodb_database == "cai"

    @dg.job(resource_defs={"settings": build_resources(Settings(_env_file=None))["settings"]})
    def looking() -> None:
        look()

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        done = looking.execute_in_process(instance=instance)
        run = instance.get_run_by_id(done.run_id)
        assert run is not None
        noted = run.tags[PROCESS]
        assert noted.startswith(f"{run.run_id} {socket.gethostname()} ")
        note_process(instance, done.run_id)
        again = instance.get_run_by_id(done.run_id)
        assert again is not None
        assert again.tags[PROCESS] == noted, "it is this process"
