"""Assets store documents and load them as Arrow, one day or a range in one run."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from cai_assets.domain.documents import documents_from_raw
from cai_assets.io_managers.mongo import MongoIOManager
from cai_assets.resources.mongo import MongoStore
from cai_assets.schemas import lake
from cai_assets_tests.raw_data import conversation, raw_rows

DAILY = dg.DailyPartitionsDefinition(start_date="2024-05-01", end_date="2024-05-05")
RANGE = dg.BackfillPolicy.single_run()
DAYS = ["2024-05-01", "2024-05-02", "2024-05-03"]
ROWS: list[Any] = [
    (day, place * 10 + n, 1, conversation(conversation_id=f"{day}-{n}"))
    for place, day in enumerate(DAYS)
    for n in range(place + 1)
] + [(DAYS[1], 99, 1, "{broken")]


def _run(
    store: MongoStore,
    first: str,
    last: str,
    rows: list[Any] = ROWS,
    metadata: Mapping[str, Any] | None = None,
) -> tuple[dg.ExecuteInProcessResult, list[pa.Table]]:
    loaded: list[pa.Table] = []

    @dg.asset(
        key=["documents", "conversations"],
        partitions_def=DAILY,
        backfill_policy=RANGE,
        io_manager_key="mongo",
    )
    def documents(context: dg.AssetExecutionContext) -> Any:
        days = context.partition_keys
        return documents_from_raw(
            raw_rows([row for row in rows if row[0] in days]), "conversations", partitions=days
        )

    @dg.asset(
        partitions_def=DAILY,
        backfill_policy=RANGE,
        ins={"found": dg.AssetIn(["documents", "conversations"], metadata=metadata)},
    )
    def reader(found: pa.Table) -> None:
        loaded.append(found)

    result = dg.materialize(
        [documents, reader],
        resources={"mongo": MongoIOManager(store)},
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
    )
    return result, loaded


def _metadata(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """By day."""
    events = result.asset_materializations_for_node("documents__conversations")
    return {
        str(event.partition): {name: value.value for name, value in event.metadata.items()}
        for event in events
    }


def test_one_day_is_stored_and_loaded(mongo_store: MongoStore) -> None:
    result, (table,) = _run(mongo_store, DAYS[0], DAYS[0])
    assert table["conversation_id"].to_pylist() == [f"{DAYS[0]}-0"]
    assert table.schema.types == lake.CONVERSATIONS.arrow_schema.types
    shown = _metadata(result)[DAYS[0]]
    assert (shown["dagster/partition_row_count"], shown["inserted"], shown["quarantined"]) == (1, 1, 0)
    (document,) = mongo_store.collection("conversations").find()
    assert document["run_id"] == result.run_id


def test_a_range_is_one_run_with_counts_by_day(mongo_store: MongoStore) -> None:
    result, (table,) = _run(mongo_store, DAYS[0], DAYS[2])
    assert sorted(table["partition"].to_pylist()) == sorted([DAYS[0], *[DAYS[1]] * 2, *[DAYS[2]] * 3])
    names = ("raw_rows", "dagster/partition_row_count", "inserted", "quarantined")
    assert {day: tuple(shown[name] for name in names) for day, shown in _metadata(result).items()} == {
        DAYS[0]: (1, 1, 1, 0),
        DAYS[1]: (3, 2, 2, 1),
        DAYS[2]: (3, 3, 3, 0),
    }
    again, (same,) = _run(mongo_store, DAYS[0], DAYS[2])
    assert same.sort_by("conversation_id").equals(table.sort_by("conversation_id"))
    assert [(one["unchanged"], one["inserted"]) for one in _metadata(again).values()] == [
        (1, 0),
        (2, 0),
        (3, 0),
    ]


def test_days_that_newer_rows_made_stale_are_named(mongo_store: MongoStore) -> None:
    _run(mongo_store, DAYS[0], DAYS[0])
    moved = [(DAYS[1], 0, 5, conversation(conversation_id=f"{DAYS[0]}-0"))]
    result, _ = _run(mongo_store, DAYS[1], DAYS[1], moved)
    assert _metadata(result)[DAYS[1]]["stale_days"] == [DAYS[0]]


def test_an_input_may_name_another_collection(mongo_store: MongoStore) -> None:
    _, (table,) = _run(mongo_store, DAYS[0], DAYS[0], metadata={"collection": "llm_calls"})
    assert table.column_names == [column.name for column in lake.LLM_CALLS.columns]


def test_what_is_no_batch_of_the_runs_own_days_is_refused(mongo_store: MongoStore) -> None:
    manager = MongoIOManager(mongo_store)
    context = dg.build_output_context(
        asset_key=["documents", "messages"], partition_key=DAYS[0], asset_partitions_def=DAILY, run_id="r"
    )
    with pytest.raises(dg.Failure, match="documents/messages gave a list"):
        manager.handle_output(context, [])
    batch = documents_from_raw(raw_rows([]), "messages", partitions=DAYS[1:2])
    with pytest.raises(dg.Failure, match=r"gave the days \['2024-05-02'\]"):
        manager.handle_output(context, batch)
