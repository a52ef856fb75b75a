"""A range of days over the whole graph, from the UI's own API and from the command line; then the sensor.

Switched on in the UI, it brings what is written late to the dashboard without a hand.
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
import requests

from cai_assets.assets.raw import ALL_READ
from cai_assets.conditions import ALL_DAYS, NEWEST_DAY
from cai_assets.definitions import build_definitions
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.partitions import RANGE_START
from cai_assets_tests.fixtures.browser import NEEDS_BROWSER, WAIT_MS, OpenPage, Watched, playwright
from cai_assets_tests.fixtures.ui import COMMAND_DAYS, UI_DAYS, Backfill, UserInterface, readable

A_HANDFUL = 8

# A quiet machine of two cores takes about a minute; one on which all else runs as well, several times that.
ARRIVAL_SECONDS = 420
LATE_DAY = "2025-05-01"
LATE_TEXT = "I forgot to say thank you."
FOLLOWING = "__ASSET_JOB"
SENSORS = "locations/__repository__@cai_assets.definitions/sensors"
ASSETS = """query Assets($days: [String!]) { assetNodes {
    assetKey { path } isMaterializable isPartitioned
    assetMaterializations(limit: 1) { runId }
    latestMaterializationByPartition(partitions: $days) { partition }
    assetChecksOrError { __typename ... on AssetChecks { checks {
      name executionForLatestMaterialization { status }
    } } }
} }"""


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
    ui.at_rest()  # tables that follow are made once more by themselves, and their checks with them
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


@pytest.fixture(scope="module")
def command_backfill(ui: UserInterface, ui_backfill: Backfill) -> "subprocess.CompletedProcess[str]":
    """The days that were left, by `cai backfill`; all days of the source are there then."""
    return ui.cai("backfill", "--from", COMMAND_DAYS[0], "--to", COMMAND_DAYS[-1])


def test_a_backfill_from_the_command_line_is_one_run_beside_the_ui(
    ui: UserInterface, command_backfill: "subprocess.CompletedProcess[str]", record_property: Any
) -> None:
    done = command_backfill
    assert done.returncode == 0, done.stdout + done.stderr
    print(readable(done.stdout).strip().splitlines()[-1])
    runs = ui.runs(tags=[{"key": "cai/command", "value": "backfill"}])
    record_property("runs", len(runs))
    assert [run["status"] for run in runs] == ["SUCCESS"]
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


# -- the sensor switched on


@pytest.mark.browser
@NEEDS_BROWSER[1]
@pytest.mark.timeout(1200)
def test_a_late_message_reaches_the_dashboard_without_a_hand(
    ui: UserInterface,
    command_backfill: "subprocess.CompletedProcess[str]",
    open_page: OpenPage,
    record_property: Any,
) -> None:
    assert command_backfill.returncode == 0, command_backfill.stdout + command_backfill.stderr
    assert "running" in ui.sensor("tables_follow")["status"].lower(), "on by default"
    ui.at_rest()
    before = runs_of(ui, FOLLOWING)
    page = open_page(dashboard_file(ui).as_uri())
    messages = messages_shown(page)
    assert not late_row(page).count()
    switch(open_page, ui, on=True)
    try:
        day, message_id = write_late(ui)
        begun = time.monotonic()
        assert day == UI_DAYS[0], "an old day, not the latest"

        def waited(what: str, arrived: Callable[[], bool]) -> int:
            while not arrived():
                assert time.monotonic() < begun + ARRIVAL_SECONDS, (
                    what,
                    ui.sensor("nocodb_changes"),
                    all_runs(ui),
                )
                time.sleep(0.5)
            return round(time.monotonic() - begun)

        in_facts = waited("not in the facts", lambda: message_id in staged(ui, day))
        on_dashboard = waited("not on the dashboard", lambda: shown_anew(page))
    finally:
        switch(open_page, ui, on=False)
    print(f"late message: in the facts after {in_facts} s, on the dashboard after {on_dashboard} s")
    record_property("seconds to the facts", in_facts)
    record_property("seconds to the dashboard", on_dashboard)
    assert messages_shown(page) == messages + 1
    page.shoot("dashboard_late_message")
    report = open_page((dashboard_file(ui).parent / "daily_report" / f"{day}.html").as_uri())
    assert LATE_TEXT in report.page.content()
    looks = {tick["status"] for tick in ui.sensor("nocodb_changes")["ticks"]}
    assert looks <= {"SUCCESS", "SKIPPED", "STARTED"}
    assert [one for one in runs_of(ui, "refresh_days") if one[1] == day] == [("SUCCESS", day)]
    waited(
        "a run that followed has not ended", lambda: all(s == "SUCCESS" for s, _ in runs_of(ui, FOLLOWING))
    )
    ui.at_rest()
    after = runs_of(ui, FOLLOWING)
    made = [
        sorted("/".join(key["path"]) for key in run["assetSelection"])
        for run in ui.runs(pipelineName=FOLLOWING)[: len(after) - len(before)]
    ]
    assert len(made) == 1, f"tables are made once for a change, not as {made}"


def dashboard_file(ui: UserInterface) -> Path:
    return ui.home / "lake" / "reports" / "dashboard.html"


def drawn(page: Watched) -> None:
    page.page.wait_for_selector("body[data-drawn=yes]", timeout=WAIT_MS)


def messages_shown(page: Watched) -> int:
    """All messages, as the headline of the dashboard tells."""
    drawn(page)
    return int(page.page.locator("#figure-messages").get_attribute("data-v"))


def late_row(page: Watched) -> Any:
    """The late message's day in the table of days."""
    return page.page.locator(f'#t-volume tr[data-key="{LATE_DAY}"]')


def shown_anew(page: Watched) -> bool:
    """Whether the page, opened again as a reader does, shows the late message's day."""
    page.page.reload(wait_until="domcontentloaded")
    drawn(page)
    return bool(late_row(page).count())


def switch(open_page: OpenPage, ui: UserInterface, *, on: bool) -> None:
    """Click the sensor's switch in the UI, and wait until it stands as wanted."""
    watched = open_page(f"{ui.address}/{SENSORS}/nocodb_changes")
    box = watched.page.get_by_role("row").filter(has_text="Running").get_by_role("checkbox")
    expect = playwright().expect
    expect(box).to_be_checked(checked=not on, timeout=WAIT_MS)
    box.locator("xpath=..").click()
    expect(box).to_be_checked(checked=on, timeout=WAIT_MS)
    watched.shoot(f"sensor_{'on' if on else 'off'}")


def runs_of(ui: UserInterface, job: str) -> list[tuple[str, str]]:
    """Status and first day of every run of a job; of the implicit job those that `tables_follow` started."""
    wanted: dict[str, Any] = {"pipelineName": job}
    if job == FOLLOWING:
        wanted["tags"] = [{"key": key, "value": value} for key, value in ALL_DAYS.items()]
    found = ui.runs(**wanted)
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in found]
    return [(run["status"], tag.get(RANGE_START, "")) for run, tag in zip(found, tags, strict=True)]


def all_runs(ui: UserInterface) -> dict[str, list[tuple[str, str]]]:
    return {name: runs_of(ui, name) for name in ("sweep_source", "refresh_days", FOLLOWING)}


def write_late(ui: UserInterface) -> tuple[str, str]:
    """A message of May in a conversation of the first day; that day, and the message's id."""
    settings = ui.settings()
    assert settings.nocodb_api_token is not None
    headers = {"xc-token": settings.nocodb_api_token.get_secret_value()}
    tables = f"{settings.nocodb_base_url}/api/v2/tables"
    rows = requests.get(
        f"{tables}/{settings.nocodb_conversation_table}/records",
        params={"limit": 1, "sort": "started_at"},
        headers=headers,
        timeout=30,
    ).json()["list"]
    message: dict[str, Any] = {
        "message_id": "written late",
        "conversation_id": rows[0]["conversation_id"],
        "sender_type": "user",
        "text": LATE_TEXT,
        "created_at": f"{LATE_DAY} 12:00:00+00:00",
    }
    answer = requests.post(
        f"{tables}/{settings.nocodb_messages_table}/records", json=[message], headers=headers, timeout=30
    )
    answer.raise_for_status()
    return str(rows[0]["started_at"][:10]), str(message["message_id"])


def staged(ui: UserInterface, day: str) -> set[str]:
    """Messages of a day in the facts, as a reader of Parquet finds them."""
    files = [file for file in ui.files(("facts", "stg_messages")) if f"partition={day}" in file]
    return {
        one for file in files for one in pq.read_table(file, columns=["message_id"])["message_id"].to_pylist()
    }
