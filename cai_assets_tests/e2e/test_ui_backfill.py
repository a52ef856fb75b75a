"""A range of days over the whole graph, started once from the UI's own API and once from the command line."""

from pathlib import Path
from typing import Any

import dagster as dg

from cai_assets.assets.raw import ALL_READ
from cai_assets.conditions import NEWEST_DAY
from cai_assets.definitions import build_definitions
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets_tests.fixtures.ui import COMMAND_DAYS, UI_DAYS, Backfill, UserInterface, readable

A_HANDFUL = 8

ASSETS = """query Assets($days: [String!]) { assetNodes {
    assetKey { path } isMaterializable isPartitioned
    assetMaterializations(limit: 1) { runId }
    latestMaterializationByPartition(partitions: $days) { partition }
    assetChecksOrError { __typename ... on AssetChecks { checks {
      name executionForLatestMaterialization { status }
    } } }
} }"""
RUNS = """query Runs($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 100) {
    ... on Runs { results { runId status tags { key value } } } } }"""


def assets(ui: UserInterface, days: list[str]) -> dict[str, dict[str, Any]]:
    nodes = ui.graphql(ASSETS, days=days)["assetNodes"]
    return {"/".join(node["assetKey"]["path"]): node for node in nodes if node["isMaterializable"]}


def materialised_days(node: dict[str, Any]) -> set[str]:
    return {found["partition"] for found in node["latestMaterializationByPartition"] if found}


def checks(node: dict[str, Any]) -> dict[str, str]:
    """Status of the asset's checks, as the UI shows them beside its latest materialisation."""
    answer = node["assetChecksOrError"]
    assert answer["__typename"] == "AssetChecks", answer
    return {
        check["name"]: (check["executionForLatestMaterialization"] or {}).get("status", "NOT EXECUTED")
        for check in answer["checks"]
    }


def all_is_there(ui: UserInterface, days: list[str]) -> None:
    found = assets(ui, days)
    assert {name.partition("/")[0] for name in found} == {
        *("raw", "documents", "enrichment", "lake", "facts", "marts", "reports")
    }
    for name, node in found.items():
        assert node["assetMaterializations"], f"{name} was not materialised"
        if node["isPartitioned"]:
            assert materialised_days(node) == set(days), name
    results = {
        (name, check): status for name, node in found.items() for check, status in checks(node).items()
    }
    assert len(results) > 30
    assert {key: status for key, status in results.items() if status != "SUCCEEDED"} == {}


def test_a_backfill_from_the_ui_makes_every_day_of_every_asset_in_a_handful_of_runs(
    ui: UserInterface, ui_backfill: Backfill, record_property: Any
) -> None:
    print(f"{len(UI_DAYS)} days: {len(ui_backfill.runs)} runs in {ui_backfill.seconds:.0f} s")
    record_property("runs", len(ui_backfill.runs))
    record_property("seconds", round(ui_backfill.seconds))
    assert (ui_backfill.status, ui_backfill.error) == ("COMPLETED_SUCCESS", None)
    assert {status for status, _ in ui_backfill.runs} == {"SUCCESS"}
    assert 1 <= len(ui_backfill.runs) <= A_HANDFUL
    all_is_there(ui, UI_DAYS)


def test_a_backfill_from_the_command_line_is_one_run_beside_the_ui(
    ui: UserInterface, ui_backfill: Backfill, record_property: Any
) -> None:
    done = ui.cai("backfill", "--from", COMMAND_DAYS[0], "--to", COMMAND_DAYS[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    print(readable(done.stdout).strip().splitlines()[-1])
    runs = ui.graphql(RUNS, filter={"tags": [{"key": "cai/command", "value": "backfill"}]})["runsOrError"]
    record_property("runs", len(runs["results"]))
    assert [run["status"] for run in runs["results"]] == ["SUCCESS"]
    all_is_there(ui, COMMAND_DAYS)
    # The tables over all days now tell of both ranges.
    lake = ParquetIOManager.from_settings(ui.settings())
    started = lake.table(("marts", "volume")).select().to_table()["report_date"]
    assert {day.isoformat() for day in started.to_pylist()} & set(UI_DAYS)
    assert set(lake.table(("facts", "fct_conversation")).partitions()) == {*UI_DAYS, *COMMAND_DAYS}


def test_checks_executed_by_themselves_look_at_all_days(
    ui: UserInterface, ui_backfill: Backfill, tmp_path: Path
) -> None:
    definitions = build_definitions(ui.settings())
    graph = definitions.resolve_asset_graph()
    # How many rows the source counted is known to the run that read them alone; and the days after those
    # that were backfilled are missing.
    left_out = {ALL_READ, NEWEST_DAY.name}
    selection = dg.AssetSelection.checks(*(key for key in graph.asset_check_keys if key.name not in left_out))
    job = dg.define_asset_job("checks", selection=selection)
    both = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        result = both.resolve_job_def("checks").execute_in_process(instance=instance)
    found = {(*e.asset_key.path, e.check_name): e for e in result.get_asset_check_evaluations()}
    assert [key for key, evaluation in found.items() if not evaluation.passed] == []
    lake = ParquetIOManager.from_settings(ui.settings())
    counted = (
        found["lake", "messages", "live_documents_equal_lake_rows"].metadata["messages: lake rows"].value
    )
    assert counted == sum(lake.row_counts(("lake", "messages")).values()) > 0
