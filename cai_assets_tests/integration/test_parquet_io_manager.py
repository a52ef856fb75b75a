"""Assets keep and load tables by partition: a day, a range, everything."""

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from cai_assets.failures import TransientError
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.object_store import LocalStore, ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.base import Column, Table, partition_column
from cai_assets_tests.fixtures.lake import EVENTS, MONTHS, days, events

COUNTS = Table(
    layer="facts",
    name="counts",
    description="Events by day.",
    columns=(partition_column(), Column("events", pa.int64(), "Number.")),
    key=("partition",),
)
DAILY = dg.DailyPartitionsDefinition("2024-05-01", end_date="2024-06-01")
RANGED: dict[str, Any] = {
    "partitions_def": DAILY,
    "backfill_policy": dg.BackfillPolicy.single_run(),
    "io_manager_key": "parquet",
}


def count(data: pa.Table, wanted: Sequence[str]) -> pa.Table:
    found = dict(
        zip(*data.group_by("partition").aggregate([([], "count_all")]).to_pydict().values(), strict=True)
    )
    return pa.table({"partition": list(wanted), "events": [found.get(day, 0) for day in wanted]})


@dg.asset(key=["lake", "events"], **RANGED)
def lake_events(context: dg.AssetExecutionContext) -> pa.RecordBatchReader:
    return events({day: int(day[-2:]) for day in context.partition_keys}).to_reader(max_chunksize=3)


@dg.asset(key=["facts", "counts"], ins={"lake": dg.AssetIn(["lake", "events"])}, **RANGED)
def counts(context: dg.AssetExecutionContext, lake: LakeFiles) -> pa.Table:
    assert lake.partitions == tuple(context.partition_keys)
    return count(lake.to_table(), context.partition_keys)


@dg.asset(key=["marts", "months"], ins={"facts": dg.AssetIn(["facts", "counts"])}, io_manager_key="parquet")
def months(facts: pa.Table) -> list[pa.Table]:
    total = sum(facts["events"].to_pylist())
    return [pa.table({"month": ["2024-05"], "total": [total]})]


ASSETS = [lake_events, counts, months]


@pytest.fixture
def manager(lake_store: ObjectStore) -> ParquetIOManager:
    return ParquetIOManager(lake_store, [EVENTS, COUNTS, MONTHS], ParquetSpec(row_group_rows=1_000))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(
    instance: dg.DagsterInstance,
    manager: ParquetIOManager,
    assets: list[dg.AssetsDefinition],
    *chosen: dg.AssetsDefinition,
    wanted: Sequence[str] = (),
    raise_on_error: bool = True,
) -> dg.ExecuteInProcessResult:
    """One run of some assets over a range of days, the way a backfill makes it."""
    tags = {}
    if wanted:
        tags = {
            "dagster/asset_partition_range_start": wanted[0],
            "dagster/asset_partition_range_end": wanted[-1],
        }
    return dg.materialize(
        assets,
        selection=list(chosen),
        instance=instance,
        resources={"parquet": manager},
        tags=tags,
        raise_on_error=raise_on_error,
    )


def noted(result: dg.ExecuteInProcessResult, key: list[str]) -> dict[str | None, dict[str, Any]]:
    """What the UI shows of an asset's materialisations, by partition."""
    return {
        event.partition: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(key)
    }


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The message with which the run's only failed step ended."""
    (event,) = result.get_step_failure_events()
    return str(event.step_failure_data.error)


def test_a_range_is_one_commit_with_each_days_rows(
    instance: dg.DagsterInstance, manager: ParquetIOManager
) -> None:
    wanted = days(3, 2)
    result = run(instance, manager, ASSETS, lake_events, counts, wanted=wanted)
    table = LakeTable(manager.store, EVENTS)
    assert table.version() == 1
    seen = noted(result, ["lake", "events"])
    assert {day: values["dagster/partition_row_count"] for day, values in seen.items()} == {
        day: int(day[-2:]) for day in wanted
    }
    shown = seen[wanted[0]]
    assert shown["dagster/uri"] == table.uri
    assert (shown["delta_version"], shown["files"], shown["partitions_changed"]) == (1, 3, 3)
    again = noted(run(instance, manager, ASSETS, lake_events, wanted=wanted), ["lake", "events"])[wanted[0]]
    assert (again["delta_version"], again["partitions_changed"], again["partitions_unchanged"]) == (1, 0, 3)
    assert manager.row_counts(("facts", "counts")) == dict.fromkeys(wanted, 1)
    assert manager.files(("lake", "events"), wanted[:1]) == table.files(wanted[:1])


def test_one_day_replaces_that_day_alone(instance: dg.DagsterInstance, manager: ParquetIOManager) -> None:
    run(instance, manager, ASSETS, lake_events, wanted=days(3))
    before = manager.files(("lake", "events"))
    dg.materialize(
        [lake_events], instance=instance, resources={"parquet": manager}, partition_key=days(1, 4)[0]
    )
    assert set(before) < set(manager.files(("lake", "events")))


def test_an_unpartitioned_asset_gets_all_days_there_are(
    instance: dg.DagsterInstance, manager: ParquetIOManager
) -> None:
    run(instance, manager, ASSETS, lake_events, counts, wanted=days(3))
    result = run(instance, manager, ASSETS, months)
    assert LakeTable(manager.store, MONTHS).dataset().to_table().to_pylist() == [
        {"month": "2024-05", "total": 6}
    ]
    assert noted(result, ["marts", "months"])[None]["dagster/row_count"] == 1


def test_a_missing_day_is_named_with_what_to_materialise(
    instance: dg.DagsterInstance, manager: ParquetIOManager
) -> None:
    run(instance, manager, ASSETS, lake_events, wanted=days(2))
    result = run(instance, manager, ASSETS, counts, wanted=days(4), raise_on_error=False)
    assert "lake/events lacks partitions 2024-05-03, 2024-05-04; materialise lake/events" in failure(result)
    result = run(instance, manager, ASSETS, months, raise_on_error=False)
    assert "facts/counts was never materialised" in failure(result)


def test_missing_days_are_empty_where_the_asset_says_so(
    instance: dg.DagsterInstance, manager: ParquetIOManager
) -> None:
    @dg.asset(
        key=["facts", "counts"],
        ins={"lake": dg.AssetIn(["lake", "events"], metadata={"allow_missing": True})},
        **RANGED,
    )
    def lenient(context: dg.AssetExecutionContext, lake: pa.Table) -> pa.Table:
        return count(lake, context.partition_keys)

    run(instance, manager, [lake_events, lenient], lake_events, wanted=days(1))
    run(instance, manager, [lake_events, lenient], lenient, wanted=days(2))
    assert LakeTable(manager.store, COUNTS).dataset().to_table()["events"].to_pylist() == [1, 0]


def as_table(got: Any) -> pa.Table:
    """What was loaded, read in one way."""
    match got:
        case LakeFiles():
            return got.to_table()
        case pads.Dataset():
            return got.to_table()
        case pl.LazyFrame():
            return got.collect().to_arrow().cast(EVENTS.arrow_schema)
    assert isinstance(got, pa.Table)
    return got


KINDS = [LakeFiles, pads.Dataset, pa.Table, pl.LazyFrame, pd.DataFrame, list[str], Any]


def consumer(number: int, kind: Any, loaded: dict[int, Any]) -> dg.AssetsDefinition:
    """An asset whose input is annotated so, and which keeps what it was given."""

    @dg.asset(
        name=f"consumer_{number}",
        ins={"lake": dg.AssetIn(["lake", "events"])},
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def consume(lake: kind) -> None:
        loaded[number] = lake

    return consume


def test_inputs_are_what_their_annotations_ask_for(
    instance: dg.DagsterInstance, manager: ParquetIOManager
) -> None:
    loaded: dict[int, Any] = {}
    assets = [lake_events, *(consumer(number, kind, loaded) for number, kind in enumerate(KINDS))]
    run(instance, manager, assets, *assets, wanted=days(2))
    expected = events({day: int(day[-2:]) for day in days(2)})
    assert len(loaded) == len(KINDS)
    for kind, got in zip(KINDS, (loaded[number] for number in range(len(KINDS))), strict=True):
        if kind == list[str]:
            assert got == manager.files(("lake", "events"), days(2))
            continue
        assert isinstance(got, LakeFiles if kind is Any else kind)
        if kind is pd.DataFrame:
            pd.testing.assert_frame_equal(got, expected.to_pandas())
        else:
            assert as_table(got).equals(expected)


def test_an_annotation_that_cannot_be_is_refused_with_those_that_can(
    instance: dg.DagsterInstance, local_store: LocalStore
) -> None:
    manager = ParquetIOManager(local_store, [EVENTS])
    assets = [lake_events, consumer(0, dict, {})]
    told = failure(run(instance, manager, assets, *assets, wanted=days(1), raise_on_error=False))
    assert "input lake: cannot load a table as" in told
    assert "annotate it as LakeFiles, list[str], pyarrow.dataset.Dataset" in told


def refused(manager: ParquetIOManager, instance: dg.DagsterInstance, output: Any) -> str:
    @dg.asset(key=["lake", "events"], **RANGED)
    def wrong() -> Any:
        return output

    return failure(run(instance, manager, [wrong], wrong, wanted=days(1), raise_on_error=False))


def test_what_is_no_table_of_these_days_is_refused(
    instance: dg.DagsterInstance, local_store: LocalStore
) -> None:
    manager = ParquetIOManager(local_store, [EVENTS])
    assert "lake/events returned None" in refused(manager, instance, None)
    assert "dict is no Arrow data" in refused(manager, instance, {"a": [1]})
    assert "rows of partitions that are not being replaced: 2024-05-02 (4 rows)" in refused(
        manager, instance, events({"2024-05-01": 1, "2024-05-02": 4})
    )
    assert "asset lake/events: no Parquet table is declared" in refused(
        ParquetIOManager(local_store, [MONTHS]), instance, events({})
    )
    assert not LakeTable(local_store, EVENTS).exists()


def test_staged_files_are_committed_for_exactly_the_runs_days(
    instance: dg.DagsterInstance, local_store: LocalStore
) -> None:
    manager = ParquetIOManager(local_store, [EVENTS])

    @dg.asset(key=["lake", "events"], **RANGED)
    def spread(context: dg.AssetExecutionContext) -> Any:
        staged = LakeTable(local_store, EVENTS).stage(days(2), events(dict.fromkeys(days(2), 3)))
        return pickle.loads(pickle.dumps(staged))  # noqa: S301  as it comes from another process

    run(instance, manager, [spread], spread, wanted=days(2))
    assert manager.row_counts(("lake", "events")) == dict.fromkeys(days(2), 3)
    result = run(instance, manager, [spread], spread, wanted=days(3), raise_on_error=False)
    assert "staged files and the run differ in partitions ['2024-05-03']" in failure(result)


def test_a_passing_failure_of_a_lazy_source_has_the_step_tried_again(
    instance: dg.DagsterInstance, local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai_assets.io_managers.failing.STEP_RETRY_SECONDS", 0)
    manager = ParquetIOManager(local_store, [EVENTS])
    attempts: list[int] = []

    def stream() -> Iterator[pa.RecordBatch]:
        attempts.append(len(attempts))
        yield from events({days(1)[0]: 2}).to_batches()
        if len(attempts) == 1:
            raise TransientError("the connection was cut")

    @dg.asset(key=["lake", "events"], **RANGED)
    def lazy() -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(EVENTS.arrow_schema, stream())

    assert run(instance, manager, [lazy], lazy, wanted=days(1)).success
    assert attempts == [0, 1]
    assert manager.row_counts(("lake", "events")) == {days(1)[0]: 2}
