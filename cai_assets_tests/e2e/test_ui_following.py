"""The sensor switched on in the UI: what is written late reaches the facts without a hand."""

import time
from typing import Any

import pyarrow.parquet as pq
import requests

from cai_assets_tests.fixtures.ui import Backfill, UserInterface

ARRIVAL_SECONDS = 300

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
RUNS = """query Runs($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 100) {
    ... on Runs { results { runId status tags { key value } } } } }"""


def test_a_late_message_reaches_the_facts_without_a_hand(ui: UserInterface, ui_backfill: Backfill) -> None:
    assert ui_backfill.status == "COMPLETED_SUCCESS"
    started = ui.graphql(START, sensor=SENSOR)["startSensor"]
    assert started["__typename"] == "Sensor", started
    try:
        day, message_id = write_late(ui)
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while message_id not in staged(ui, day):
            assert time.monotonic() < deadline, f"not in the facts of {day}: {ticks(ui)}"
            time.sleep(2)
    finally:
        ui.graphql(STOP, id=started["id"])
    assert {tick["status"] for tick in ticks(ui)} <= {"SUCCESS", "SKIPPED", "STARTED"}
    runs = ui.graphql(RUNS, filter={"pipelineName": "refresh_days"})["runsOrError"]["results"]
    ranges = {
        tag["value"]
        for run in runs
        for tag in run["tags"]
        if tag["key"] == "dagster/asset_partition_range_start"
    }
    assert day in ranges


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
        "created_at": "2025-05-01 12:00:00+00:00",
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
