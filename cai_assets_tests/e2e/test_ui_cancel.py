"""A backfill of many runs is cancelled in the UI and gone on with: nothing is lost or paid for twice."""

from pathlib import Path
from typing import Any

import pytest

from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.partitions import DAYS_PER_RUN, days_between
from cai_assets.sandbox.sample import generate
from cai_assets_tests.e2e.test_ui_kills import complete, launch, state, until
from cai_assets_tests.fixtures.ui import FINISHED, UserInterface, started

DAYS = days_between("2025-01-01", "2025-06-30")
RUNS = -(-len(DAYS) // DAYS_PER_RUN)
CANCEL = """mutation Cancel($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"""
GO_ON = """mutation GoOn($params: ReexecutionParams!) {
  reexecutePartitionBackfill(reexecutionParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  } }"""
PROGRESS = """query Progress($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
    assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
      assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsInProgress
    } } } } } }"""
pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def progress(ui: UserInterface, backfill: str, *key: str) -> dict[str, int]:
    """What the UI's page of a backfill tells of an asset."""
    found = ui.graphql(PROGRESS, id=backfill)["partitionBackfillOrError"]["assetBackfillData"]
    statuses = found["assetBackfillStatuses"] if found else []
    return next((one for one in statuses if one and one["assetKey"]["path"] == list(key)), {})


def runs(ui: UserInterface, backfill: str) -> list[dict[str, Any]]:
    return list(state(ui, backfill)["runs"])  # type: ignore[call-overload]


def asked(ui: UserInterface) -> int:
    """Translations that Dify was asked for, by the ledger."""
    rows = ParquetIOManager.from_settings(ui.settings()).table(("lake", "llm_calls")).select().to_table()
    calls = rows.select(["purpose", "message_id", "status"]).to_pylist()
    paid = [one["message_id"] for one in calls if (one["purpose"], one["status"]) == ("translation", "ok")]
    assert len(paid) == len(set(paid)) > 0, "a text was paid for twice"
    return len(paid)


def test_a_cancelled_backfill_is_gone_on_with_from_where_it_stopped(tmp_path: Path) -> None:
    data = tmp_path / "few"
    data.mkdir()
    sample = generate(days=len(DAYS), start=DAYS[0], conversations_per_day=5)
    sample.write(data)
    with started(tmp_path, data) as ui:
        first = launch(ui, DAYS)

        def one_month_is_done() -> bool:
            done = [run for run in runs(ui, first) if run["status"] == "SUCCESS"]
            return (
                bool(done) and progress(ui, first, "raw", "messages").get("numPartitionsMaterialized", 0) > 0
            )

        until("the first month", one_month_is_done)
        seen = progress(ui, first, "raw", "messages")
        print(f"while it runs, the UI tells of raw/messages: {seen}")
        assert seen["numPartitionsTargeted"] == len(DAYS)
        ui.graphql(CANCEL, id=first)
        until("the end of the cancelled backfill", lambda: state(ui, first)["status"] in FINISHED)
        assert state(ui, first)["status"] == "CANCELED"
        done = progress(ui, first, "facts", "fct_conversation")["numPartitionsMaterialized"]
        print(f"cancelled with {done} of {len(DAYS)} days of facts")
        assert 0 < done < len(DAYS)
        params = {"parentRunId": first, "strategy": "FROM_FAILURE"}
        answer = ui.graphql(GO_ON, params=params)["reexecutePartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        second = answer["backfillId"]
        until("the end of the backfill", lambda: state(ui, second)["status"] in FINISHED)
        complete(ui, second, sample, DAYS)
        print(
            f"{len(runs(ui, first))} runs before, {len(runs(ui, second))} after; {asked(ui)} texts asked for"
        )
        # What a cancelled run had begun may be taken up by one run more.
        assert len(runs(ui, first)) + len(runs(ui, second)) <= 2 * RUNS + 2
