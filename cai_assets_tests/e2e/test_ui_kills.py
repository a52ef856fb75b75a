"""Processes of a running `cai up` are killed (-9) in the middle of a backfill; it ends all the same."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.sandbox.sample import generate
from cai_assets.schemas.tables import TABLES
from cai_assets_tests.fixtures.ui import BACKFILL, FINISHED, LAUNCH, NODES, UserInterface, started
from cai_assets_tests.fixtures.ui import DAYS as ALL_DAYS

DAYS = ALL_DAYS[:4]
PATIENCE = 900
pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def processes(ui: UserInterface) -> list[psutil.Process]:
    """Everything that Dagster started under this home."""
    found = []
    for one in psutil.process_iter(["environ", "cmdline"]):
        environment = one.info["environ"] or {}
        if environment.get("DAGSTER_HOME") == str(ui.home / "dagster") and one.info["cmdline"]:
            found.append(one)
    return found


def named(ui: UserInterface, *words: str) -> list[psutil.Process]:
    return [one for one in processes(ui) if all(word in " ".join(one.info["cmdline"]) for word in words)]


def workers(ui: UserInterface) -> list[psutil.Process]:
    """Processes of runs: what the code server spawned."""
    return named(ui, "multiprocessing.spawn")


def until(what: str, found: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.5)


def kill(ui: UserInterface, what: str, find: Callable[[UserInterface], list[psutil.Process]]) -> None:
    until(what, lambda: find(ui))
    for one in find(ui):
        os.kill(one.pid, signal.SIGKILL)
        print(f"killed {what}: {one.pid}")


def launch(ui: UserInterface, days: list[str]) -> str:
    nodes = ui.graphql(NODES)["assetNodes"]
    selection = [{"path": node["assetKey"]["path"]} for node in nodes if node["isMaterializable"]]
    params = {"assetSelection": selection, "partitionNames": days, "fromFailure": False}
    launched = ui.graphql(LAUNCH, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return str(launched["backfillId"])


def state(ui: UserInterface, backfill: str) -> dict[str, object]:
    return dict(ui.graphql(BACKFILL, id=backfill)["partitionBackfillOrError"])


def facts_in_part(ui: UserInterface) -> bool:
    """Whether a run is in the middle: documents were begun, marts are not there yet."""
    lake = ui.home / "lake"
    return (lake / "raw" / "messages").exists() and not (lake / "marts" / "volume").exists()


@pytest.mark.parametrize("victim", ["run", "code server", "daemon"])
def test_a_backfill_in_which_a_process_is_killed_ends_complete(tmp_path: Path, victim: str) -> None:
    folder, data = tmp_path, tmp_path / "few"
    data.mkdir()
    sample = generate(days=len(DAYS), start=DAYS[0], conversations_per_day=4)
    sample.write(data)
    finders = {
        "run": workers,
        "code server": lambda ui: named(ui, "api", "grpc"),
        "daemon": lambda ui: named(ui, "dagster._daemon", "run"),
    }
    log = folder / "up.log"
    with started(folder, data) as ui:
        backfill = launch(ui, DAYS)
        until("a run in the middle", lambda: facts_in_part(ui))
        kill(ui, victim, finders[victim])
        if victim != "daemon":
            until("the end of the backfill", lambda: state(ui, backfill)["status"] in FINISHED)
            complete(ui, backfill, sample, DAYS)
            return
        # Without its daemon `cai up` ends, and says so.
        until("the end of `cai up`", lambda: "Dagster ended by itself" in log.read_text(encoding="utf-8"))
    with started(folder, data) as ui:
        until("the end of the backfill", lambda: state(ui, backfill)["status"] in FINISHED)
        complete(ui, backfill, sample, DAYS)


def complete(ui: UserInterface, backfill: str, sample: object, days: list[str]) -> None:
    found = state(ui, backfill)
    assert found["status"] == "COMPLETED_SUCCESS", found
    lake = ParquetIOManager.from_settings(ui.settings())
    rows = {name: getattr(sample, name).num_rows for name in ("conversations", "messages")}
    for name, count in rows.items():
        for layer in ("raw", "lake"):
            table = lake.table((layer, name))
            assert sum(table.row_counts().values()) == count, (layer, name)
            assert set(table.partitions()) == set(days), (layer, name)
    assert sum(lake.row_counts(("facts", "stg_messages")).values()) == rows["messages"]
    assert sum(lake.row_counts(("facts", "fct_conversation")).values()) == rows["conversations"]
    for path in TABLES:
        if path[0] == "marts":
            assert lake.table(path).exists(), path
