"""The event log that keeps its connections holds what Dagster's own holds, which reads its files."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from cai_assets.partitions import RANGE_END, RANGE_START
from cai_assets.records import BATCH_VARIABLE, QuickEventLog
from cai_assets_tests.conftest import REPOSITORY

DAYS = dg.DailyPartitionsDefinition("2024-05-01", end_date="2024-05-11")
KEYS = DAYS.get_partition_keys()
TEMPLATE = REPOSITORY / "cai_assets" / "templates" / "dagster.yaml"


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def rows(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """A table by day; each day tells its own rows."""
    for number, day in enumerate(context.partition_keys):
        context.add_asset_metadata({"dagster/partition_row_count": number}, partition_key=day)
    return dg.MaterializeResult(metadata={"bytes": 7})


@dg.asset(deps=[rows])
def total() -> None:
    """A table over all days."""


@dg.asset_check(asset=rows, blocking=True)
def holds() -> dg.AssetCheckResult:
    """A check."""
    return dg.AssetCheckResult(passed=True, metadata={"wrong_rows": 0})


DEFINITIONS = dg.Definitions([rows, total], asset_checks=[holds], executor=dg.in_process_executor)


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance as `cai` makes it."""
    home = tmp_path / "quick"
    home.mkdir()
    (home / "dagster.yaml").write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv(BATCH_VARIABLE, "1000")
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, QuickEventLog)
        yield instance


@pytest.fixture
def own(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance as Dagster makes it."""
    (tmp_path / "own").mkdir()
    with dg.DagsterInstance.from_config(str(tmp_path / "own")) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        yield instance


def run(instance: dg.DagsterInstance) -> str:
    result = DEFINITIONS.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, tags={RANGE_START: KEYS[0], RANGE_END: KEYS[-1]}
    )
    assert result.success
    return result.run_id


def told(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """What an instance tells of a run, without times and ids of rows; also what its tables by asset tell."""
    logged = []
    for entry in instance.all_logs(run_id):
        if entry.dagster_event is not None:
            event = entry.dagster_event
            key = event.asset_key.to_user_string() if event.asset_key else None
            logged.append((event.event_type_value, event.step_key, key, event.partition))
    by_day: dict[str, Any] = {}
    for record in instance.fetch_materializations(rows.key, limit=100).records:
        found = record.asset_materialization
        assert found is not None
        by_day[str(found.partition)] = {name: value.value for name, value in found.metadata.items()}
    latest = instance.get_latest_materialization_event(rows.key)
    tags = instance.get_event_tags_for_asset(rows.key)
    checks = instance.event_log_storage.get_asset_check_execution_history(holds.check_key, limit=10)
    return {
        "logged": sorted(logged, key=repr),
        "by_day": by_day,
        "latest": latest.asset_materialization.partition if latest and latest.asset_materialization else None,
        "materialised": sorted(instance.get_materialized_partitions(rows.key)),
        "tags": sorted({name for one in tags for name in one}),
        "checks": [(one.status.value, one.partition) for one in checks],
        "assets": sorted(key.to_user_string() for key in instance.all_asset_keys()),
    }


def test_what_is_kept_is_what_dagsters_own_log_keeps(
    quick: dg.DagsterInstance, own: dg.DagsterInstance
) -> None:
    expected = told(own, run(own))
    assert len(expected["by_day"]) == len(KEYS)
    assert expected["by_day"][KEYS[3]] == {"dagster/partition_row_count": 3, "bytes": 7}
    assert told(quick, run(quick)) == expected


def test_dagsters_own_log_reads_its_files(quick: dg.DagsterInstance, tmp_path: Path) -> None:
    run_id = run(quick)
    expected = told(quick, run_id)
    (tmp_path / "quick" / "dagster.yaml").unlink()
    with dg.DagsterInstance.from_config(str(tmp_path / "quick")) as back:
        assert type(back.event_log_storage) is SqliteEventLogStorage
        assert told(back, run_id) == expected


def test_the_days_of_a_range_are_one_write(
    quick: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: list[str] = []
    batches: list[int] = []
    store, batch = QuickEventLog.store_event, QuickEventLog._store_asset_events

    def counting(self: QuickEventLog, event: dg.EventLogEntry) -> None:
        alone.append(event.dagster_event.event_type_value if event.dagster_event else "")
        store(self, event)

    def counting_batch(self: QuickEventLog, events: Any) -> None:
        batches.append(len(events))
        batch(self, events)

    monkeypatch.setattr(QuickEventLog, "store_event", counting)
    monkeypatch.setattr(QuickEventLog, "_store_asset_events", counting_batch)
    run(quick)
    # The plan of both assets together, then the days of the one.
    assert batches == [len(KEYS) + 1, len(KEYS)]
    assert alone.count("ASSET_MATERIALIZATION") == 1


def test_the_web_server_sees_that_a_run_goes_on(quick: dg.DagsterInstance) -> None:
    log = quick.event_log_storage
    assert isinstance(log, QuickEventLog)
    run_id = run(quick)
    file = Path(log.path_for_shard(run_id))
    os.utime(file, (0, 0))
    log._touched.clear()
    entry = next(entry for entry in quick.all_logs(run_id) if entry.dagster_event is not None)
    heard = threading.Event()
    log.watch(run_id, None, lambda *_: heard.set())
    log.store_event(entry)
    assert file.stat().st_mtime > 0
    assert heard.wait(10), "nobody who watches the run was told"


def test_runs_that_another_process_removed_are_not_written_into_files_that_are_gone(
    quick: dg.DagsterInstance,
) -> None:
    log = quick.event_log_storage
    assert isinstance(log, QuickEventLog)
    run_id = run(quick)
    entry = next(entry for entry in quick.all_logs(run_id) if entry.dagster_event is not None)
    Path(log.path_for_shard(run_id)).unlink()
    log.store_event(entry)
    assert len(quick.all_logs(run_id)) == 1


def test_files_of_many_runs_are_not_all_kept_open(quick: dg.DagsterInstance) -> None:
    log = quick.event_log_storage
    assert isinstance(log, QuickEventLog)
    for number in range(30):
        assert log.get_logs_for_run(f"run-{number}") == []
    assert len(log._engines) <= 8
    names = [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    assert len([name for name in names if "run-" in name and name.endswith(".db")]) <= 8
