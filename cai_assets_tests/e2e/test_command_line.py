"""`cai` as people use it: a process in a folder of its own, from nothing to reports, records and the UI."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from cai_assets.processes import started_at
from cai_assets.settings import Settings

DAYS = 2


def environment() -> dict[str, str]:
    """This process's environment without any setting of the platform."""
    names = {name.upper() for name in Settings.model_fields} | {"CAI_HOME", "DAGSTER_HOME"}
    return {name: value for name, value in os.environ.items() if name not in names}


def cai(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cai_assets.cli", *arguments],
        cwd=folder,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """A folder in which the demo ran, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, cai(folder, "demo", "--days", str(DAYS))


def status(folder: Path) -> dict[str, Any]:
    done = cai(folder, "status", "--json")
    assert done.stderr == ""
    return dict(json.loads(done.stdout))


def test_the_demo_goes_from_nothing_to_reports(demo: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    folder, done = demo
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "✓ raw/conversations" in done.stdout
    assert "Volume per day" in done.stdout
    assert "Response times" in done.stdout
    assert "Languages and translation" in done.stdout
    found = re.search(r"Dashboard +(\S+)", done.stdout)
    assert found is not None
    assert (folder / found[1]).is_file()
    assert not (folder / ".cai" / "sample" / "stack.json").exists()


def test_status_knows_every_asset_afterwards(demo: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    found = status(demo[0])
    assert found["failing_checks"] == []
    assert found["checks_passing"] > 0
    for asset in found["assets"]:
        assert asset["last_run"], asset
        assert asset["days"] in (DAYS, None), asset
        assert asset["missing"] == [], asset
    rows = {f"{asset['layer']}/{asset['name']}": asset["rows"] for asset in found["assets"]}
    assert rows["raw/conversations"] == rows["documents/conversations"] == rows["facts/fct_conversation"]
    assert rows["raw/messages"] == rows["documents/messages"] == rows["facts/stg_messages"] > 0
    fresh = {f"{asset['layer']}/{asset['name']}": asset["freshness"] for asset in found["assets"]}
    assert (fresh["facts/fct_conversation"], fresh["reports/dashboard"]) == ("fresh", "fresh")
    covered = {one["what"]: one for one in found["coverage"]}
    assert covered["texts"]["done"] == covered["texts"]["needing"] > 0
    assert covered["conversations"]["needing"] == rows["lake/categories"]
    assert found["budget"]["unknown"] == "the database of the ledger is not running"


def test_the_report_of_all_days_is_the_sum_of_the_days(
    demo: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder = demo[0]
    whole = json.loads(cai(folder, "report", "--json").stdout)
    known = status(folder)
    days = [known["first_day"], known["last_day"]]
    exported = json.loads(cai(folder, "export", "--format", "csv", "-o", "tables", "--json").stdout)
    rows = {Path(file["path"]).stem: file["rows"] for file in exported}
    assert rows["conversations"] == whole["headline"][0]["conversations"]
    assert (folder / "tables/volume.csv").read_text("utf-8-sig").startswith('"Report date","Conversations"')
    parts = [json.loads(cai(folder, "report", "--json", "--from", day, "--to", day).stdout) for day in days]
    for name in ("conversations", "messages", "unanswered", "waits"):
        assert whole["headline"][0][name] == sum(part["headline"][0][name] for part in parts)
    assert [row["report_date"] for part in parts for row in part["volume_by_day"]] == days


def test_a_backfill_of_a_part_changes_no_value(demo: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    folder = demo[0]
    before, known = cai(folder, "report", "--json").stdout, status(folder)
    done = cai(
        folder,
        *("backfill", "--from", known["first_day"], "--to", known["last_day"]),
        *("--select", "facts,marts", "--days-per-run", "1"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "over all days:" in done.stdout
    assert "raw/conversations" not in done.stdout
    assert cai(folder, "report", "--json").stdout == before


def test_a_backfill_that_fails_says_which_step_and_ends_with_1(
    demo: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder = demo[0]
    lacking = cai(
        folder, "backfill", "--from", "2025-03-27", "--to", "2025-03-27", "--select", "lake/messages"
    )
    assert lacking.returncode == 0, lacking.stdout  # nobody wrote on that day: an empty day is no failure
    failing = cai(
        folder, "backfill", "--from", "2025-03-28", "--to", "2025-03-28", "--select", "facts/fct_wait"
    )
    assert failing.returncode == 1
    assert "Failed: facts/fct_wait" in failing.stdout
    assert "materialise" in failing.stdout


@pytest.mark.soak  # two minutes; `test_changes_sensor` holds the sweep itself
def test_a_sweep_marks_what_is_not_up_to_date_and_refreshes_it_where_asked(
    demo: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder = demo[0]
    made = status(folder)
    first, last = made["first_day"], made["last_day"]
    few = {"PARTITION_START_DATE": "2025-04-03"}  # two days of the sample; those before are not kept
    swept = cai(folder, "sweep", "--json", **few)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    found = json.loads(swept.stdout)
    waiting = [day["day"] for day in found["days"]]
    assert waiting == ["2025-04-03", "2025-04-04"]
    assert not set(waiting) & {first, last}
    assert all(day["reasons"].keys() == {"new"} for day in found["days"])
    assert "is not known: the embedded database runs only with" in cai(folder, "status").stdout
    refreshed = cai(folder, "sweep", "--refresh", **few)
    assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
    assert f"{len(waiting)} days wait to be refreshed" in refreshed.stdout
    again = cai(folder, "sweep", **few)
    assert "Every day is up to date." in again.stdout
    assert again.returncode == 0


def test_an_unknown_layer_is_named_with_those_there_are(
    demo: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    done = cai(demo[0], "backfill", "--from", "2025-03-20", "--to", "2025-03-20", "--select", "fact")
    assert done.returncode == 2
    assert "there is no layer or asset 'fact'; there are documents, enrichment, facts" in done.stderr


def test_the_ui_runs_over_what_the_demo_made_and_stops_with_everything(
    demo: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder = demo[0]
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "cai_assets.cli", "up", "--port", str(port)],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        said = ""
        while "Ctrl-C stops everything" not in said:
            line = child.stdout.readline()
            assert line, said
            said += line
        address = f"http://127.0.0.1:{port}"
        assert address in said
        assert "did not load" not in said
        query = {"query": "{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId } } }"}
        nodes = requests.post(f"{address}/graphql", json=query, timeout=60).json()["data"]["assetNodes"]
        made = {"/".join(node["assetKey"]["path"]) for node in nodes if node["assetMaterializations"]}
        assert {"raw/conversations", "marts/volume", "reports/dashboard"} <= made
        state = json.loads((folder / ".cai" / "sample" / "stack.json").read_text(encoding="utf-8"))
        assert state["ui"] == address
        # While it runs, other commands use its servers, and a second one is told where the UI is.
        assert status(folder)["ui"] == address
        second = cai(folder, "up", "--port", str(free_port()))
        assert second.returncode == 1
        assert f"its UI is at {address}" in second.stderr
    finally:
        child.send_signal(signal.SIGINT)
        rest, _ = child.communicate(timeout=120)
    assert child.returncode == 130
    assert "Stopping" in rest
    pids = [entry["pid"] for entry in state["children"]]
    deadline = time.monotonic() + 10
    while any(started_at(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(started_at(pid) for pid in pids)
    assert not (folder / ".cai" / "sample" / "stack.json").exists()


def test_the_doctor_finds_the_embedded_stack_well(
    demo: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    done = cai(demo[0], "doctor", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0, findings
    assert {"Source", "MongoDB", "Dify, translation", "Dify, categories", "Lake", "Dagster"} <= {
        finding["subject"] for finding in findings
    }


def test_the_doctor_names_what_does_not_answer(tmp_path: Path) -> None:
    port = free_port()
    done = cai(
        tmp_path,
        *("doctor", "--json"),
        NOCODB_BASE_URL=f"http://127.0.0.1:{port}",
        NOCODB_API_TOKEN="a-token-that-is-secret",
        NOCODB_PROJECT_ID="base",
        MONGODB_URI=f"mongodb://me:hidden-word@127.0.0.1:{port}",
        PSEUDONYM_KEY="x" * 40,
    )
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["Source"]["status"] == "fail"
    assert found["MongoDB"]["status"] == "fail"
    assert found["Dify, translation"]["status"] == "warn"
    assert found["Lake"]["status"] == "ok"
    assert "a-token-that-is-secret" not in done.stdout
    assert "hidden-word" not in done.stdout
