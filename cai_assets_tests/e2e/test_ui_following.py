"""The sensor switched on in the UI: what is written late reaches the dashboard without a hand."""

import time
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

from cai_assets.conditions import ALL_DAYS
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.partitions import RANGE_START
from cai_assets_tests.fixtures.ui import UI_DAYS, Backfill, UserInterface

ARRIVAL_SECONDS = 600

SENSOR = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "cai_assets.definitions",
    "sensorName": "nocodb_changes",
}
START = """mutation Start($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) {
    __typename ... on Sensor { id sensorState { id status } } ... on PythonError { message } } }"""
STOP = """mutation Stop($id: String!) { stopSensor(id: $id) {
    __typename ... on PythonError { message } } }"""
TICKS = """query Ticks($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) {
    ... on Sensor { sensorState { ticks(limit: 20) { status error { message } } } } } }"""
STATE = """query State($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) {
    ... on Sensor { sensorState { status } } } }"""
RUNS = """query Runs($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 100) {
    ... on Runs { results { runId status tags { key value } } } } }"""


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_late_message_reaches_the_dashboard_without_a_hand(
    ui: UserInterface, ui_backfill: Backfill, record_property: Any
) -> None:
    assert ui_backfill.status == "COMPLETED_SUCCESS"
    assert "running" in state_of(ui, "tables_follow").lower(), "on by default"
    # What the backfill made was made by it; nothing follows it, and nothing is under way.
    before = {name: runs_of(ui, name) for name in ("refresh_days", FOLLOWING)}
    assert before[FOLLOWING] == [], "the backfill made facts and tables: there was nothing to follow"
    started = ui.graphql(START, sensor=SENSOR)["startSensor"]
    assert started["__typename"] == "Sensor", started
    try:
        day, message_id = write_late(ui)
        begun = time.monotonic()
        assert day == UI_DAYS[0], "an old day, not the latest"
        assert LATE_DAY not in dashboard(ui)
        deadline = begun + ARRIVAL_SECONDS
        while message_id not in staged(ui, day):
            assert time.monotonic() < deadline, f"not in the facts of {day}: {ticks(ui)}"
            time.sleep(1)
        in_facts = time.monotonic() - begun
        while LATE_DAY not in dashboard(ui):
            assert time.monotonic() < deadline, f"not on the dashboard: {runs_of(ui, FOLLOWING)}"
            time.sleep(1)
        on_dashboard = time.monotonic() - begun
    finally:
        ui.graphql(STOP, id=started["id"])
    print(f"late message: in the facts after {in_facts:.0f} s, on the dashboard after {on_dashboard:.0f} s")
    record_property("seconds to the facts", round(in_facts))
    record_property("seconds to the dashboard", round(on_dashboard))
    assert {tick["status"] for tick in ticks(ui)} <= {"SUCCESS", "SKIPPED", "STARTED"}
    refreshes = runs_of(ui, "refresh_days")
    assert day in {first for _, first in refreshes}
    volume = ParquetIOManager.from_settings(ui.settings()).table(("marts", "volume")).select().to_table()
    assert LATE_DAY in {one.isoformat() for one in volume["report_date"].to_pylist()}
    following = settled(ui)
    assert {status for status, _ in following} == {"SUCCESS"}
    assert len(following) <= len(refreshes), "tables are made once for a change, and not by every run"


LATE_DAY = "2025-05-01"
FOLLOWING = "__ASSET_JOB"


def dashboard(ui: UserInterface) -> str:
    """The page, as a reader opens it."""
    return (ui.home / "lake" / "reports" / "dashboard.html").read_text(encoding="utf-8")


def state_of(ui: UserInterface, sensor: str) -> str:
    answer = ui.graphql(STATE, sensor={**SENSOR, "sensorName": sensor})["sensorOrError"]
    return str(answer["sensorState"]["status"])


def runs_of(ui: UserInterface, job: str) -> list[tuple[str, str]]:
    """Status and first day of every run of a job; of the implicit job those that the sensor started."""
    wanted: dict[str, Any] = {"pipelineName": job}
    if job == FOLLOWING:
        wanted["tags"] = [{"key": key, "value": value} for key, value in ALL_DAYS.items()]
    found = ui.graphql(RUNS, filter=wanted)["runsOrError"]["results"]
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in found]
    return [(run["status"], tag.get(RANGE_START, "")) for run, tag in zip(found, tags, strict=True)]


def settled(ui: UserInterface) -> list[tuple[str, str]]:
    """The runs that followed, once none of them is under way."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while any(status not in {"SUCCESS", "FAILURE", "CANCELED"} for status, _ in runs_of(ui, FOLLOWING)):
        assert time.monotonic() < deadline, runs_of(ui, FOLLOWING)
        time.sleep(1)
    return runs_of(ui, FOLLOWING)


def write_late(ui: UserInterface) -> tuple[str, str]:
    """A message of April in a conversation of the first day; that day, and the message's id."""
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
        "text": "I forgot to say thank you.",
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


def ticks(ui: UserInterface) -> list[dict[str, Any]]:
    state = ui.graphql(TICKS, sensor=SENSOR)["sensorOrError"]["sensorState"]
    return list(state["ticks"])
