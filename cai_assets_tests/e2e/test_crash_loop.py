"""Runs killed at random moments, each followed by another: in the end all is as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from cai_assets.resources import scratch
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.schemas.tables import TABLES
from cai_assets_tests.conftest import REPOSITORY
from cai_assets_tests.fixtures.platform import SAMPLE_DAYS, Platform, PlatformFactory

SELECTION = "group:raw or group:documents or group:lake or group:facts"
COLLECTIONS = ("conversations", "messages", "quarantine")
# Small batches: a kill then falls between many writes.
SIZES = {"batch_size": 20, "chunk_size": 50, "nocodb_max_requests_per_second": 1000}
STAMPS = {"ingested_at", "changed_at", "run_id", "at", "revision"}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of all runs of the test, also killed ones."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(scratch, "GRACE_S", 0.0)
    return folder


@pytest.mark.parametrize(
    "trials",
    [
        pytest.param(3, id="few"),
        pytest.param(50, id="many", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_a_run_killed_at_any_moment_leaves_nothing_but_work_to_be_done_again(
    trials: int,
    six_days_sandbox: SandboxProcess,
    make_platform: PlatformFactory,
    tmp_path: Path,
    temporary: Path,
) -> None:
    undisturbed = make_platform(six_days_sandbox, **SIZES)
    seconds = run_in_a_process(undisturbed, tmp_path, kill_after=None)
    expected = state(undisturbed)
    assert sum(map(len, expected.values())) > 1000
    chance = random.Random(trials)
    killed = 0
    while killed < trials:
        platform = make_platform(six_days_sandbox, **SIZES)
        # Now and then the run that is to mend it is killed as well.
        for _ in range(chance.choice((1, 1, 2))):
            moment = chance.uniform(0.0, 0.95) * seconds
            if run_in_a_process(platform, tmp_path, kill_after=moment) >= 0:
                seconds *= 0.9  # it was done before: the machine is faster now
            else:
                killed += 1
        platform.run(*SAMPLE_DAYS, select=SELECTION)
        found = state(platform)
        for name, rows in expected.items():
            assert found[name] == rows, f"{name} differs after {killed} kills, the last at {moment:.2f} s"
        assert all(one.passed for one in platform.check(*SAMPLE_DAYS) if is_ours(one))
        assert_nothing_lies_about(platform, temporary)


def is_ours(evaluation: Any) -> bool:
    """Whether a check is of a layer that was materialised."""
    return evaluation.asset_key.path[0] in ("raw", "documents", "lake", "facts")


def run_in_a_process(platform: Platform, folder: Path, *, kill_after: float | None) -> float:
    """Materialise in a process of its own; kill it so many seconds after the run began.

    Returns:
        Seconds the run took, -1 if it was killed.
    """
    told = platform.settings.model_dump(mode="python")
    environment = {
        **os.environ,
        **{
            name.upper(): plain(value)
            for name, value in told.items()
            if name in platform.settings.model_fields_set
        },
        "DAGSTER_HOME": "",
    }
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "cai_assets_tests.e2e.materialise",
        *SAMPLE_DAYS,
        SELECTION,
    ]
    with (folder / "run.log").open("w") as log:
        process = subprocess.Popen(
            [*command, str(folder)],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", (folder / "run.log").read_text()[-3000:]
            started = time.monotonic()
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
            if process.wait() == -signal.SIGKILL:
                return -1.0
            # else it ended in the moment between
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    assert process.returncode == 0, (folder / "run.log").read_text()[-3000:]
    return time.monotonic() - started


def plain(value: Any) -> str:
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


def state(platform: Platform) -> dict[str, Any]:
    """All documents and all rows of all tables, without what differs from run to run."""
    with platform.mongo() as store:
        documents = {
            name: sorted(
                (
                    {key: value for key, value in one.items() if key not in STAMPS}
                    for one in store.collection(name).find()
                ),
                key=lambda one: one["_id"],
            )
            for name in COLLECTIONS
        }
    tables = {"/".join(path): rows for path, rows in platform.values().items()}
    return {**documents, **tables}


def assert_nothing_lies_about(platform: Platform, temporary: Path) -> None:
    """No temporary file, no folder of a dead run, and every file of the lake counts or can be vacuumed."""
    base = platform.settings.parquet_base_dir
    left = [path for path in temporary.rglob("*") if path.is_file()]
    assert left == []
    assert list((base / ".spool").rglob("*")) == []
    for path in TABLES:
        folder = base.joinpath(*path)
        if not (folder / "_delta_log").exists():
            continue
        table = DeltaTable(str(folder))
        counting = {Path(uri.removeprefix("file://")) for uri in table.file_uris()}
        vacuumed = table.vacuum(0, dry_run=True, enforce_retention_duration=False, full=True)
        dead = {folder / one for one in vacuumed}
        there = {file for file in folder.rglob("*") if file.is_file() and "_delta_log" not in file.parts}
        assert there <= counting | dead, "a file that no vacuum would find"
        assert not list((folder / "_delta_log").glob("*.tmp*"))
