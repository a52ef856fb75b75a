"""The embedded stack with its real servers: it answers, and nothing of it is left, whichever way it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pymongo
import pytest
import requests

from cai_assets.processes import started_at
from cai_assets.settings import Settings, load_settings
from cai_assets.stack import EmbeddedStack, Home, StackError, running_stack

OWNER = """
import signal, sys, time
from cai_assets.commands.common import ending_signals
from cai_assets.settings import Settings
from cai_assets.stack import EmbeddedStack, Home
from pathlib import Path
try:
    with ending_signals(), EmbeddedStack(Home(Path(sys.argv[1])), Settings(), "owner"):
        print("ready", flush=True)
        time.sleep(120)
except KeyboardInterrupt:
    sys.exit(130)
"""


def owner_of(home: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-c", OWNER, str(home)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def gone(pids: list[int], within_s: float = 15) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(started_at(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_a_started_stack_answers_as_the_settings_say_and_leaves_nothing_running(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with EmbeddedStack(home, Settings(), "test") as stack:
        settings = load_settings()
        assert settings.mongodb_uri is not None
        with pymongo.MongoClient(settings.mongodb_uri.get_secret_value()) as client:
            assert client.admin.command("ping")["ok"] == 1
        assert settings.nocodb_api_token is not None
        token = {"xc-token": settings.nocodb_api_token.get_secret_value()}
        tables = requests.get(
            f"{settings.nocodb_base_url}/api/v2/meta/bases/{settings.nocodb_project_id}/tables",
            headers=token,
            timeout=10,
        )
        assert tables.ok
        assert settings.dify_base_url is not None
        assert settings.parquet_base_dir == home.lake
        assert (home.dagster / "dagster.yaml").is_file()
        running = running_stack(home)
        assert running is not None
        assert {child.name for child in running.children} == {"SecantusDB", "sandbox"}
        assert stack.started == ["SecantusDB", "the sandbox's NocoDB and Dify"]
        assert home.state_file.stat().st_mode & 0o077 == 0
    assert gone([child.pid for child in running.children])
    assert not home.state_file.exists()


def test_a_second_start_names_the_first(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    child = owner_of(home.path)
    try:
        with pytest.raises(StackError, match=rf"owner \(process {child.pid}\) already runs the stack"):
            EmbeddedStack(home, Settings(), "second").start()
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_outlives_its_owner_whichever_way_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    home = Home(tmp_path / "home")
    child = owner_of(home.path)
    state = json.loads(home.state_file.read_text(encoding="utf-8"))
    pids = [entry["pid"] for entry in state["children"]]
    assert len(pids) == 2
    child.send_signal(number)
    child.communicate(timeout=30)
    assert gone(pids)
    if number == signal.SIGKILL:
        assert home.state_file.exists()
        with EmbeddedStack(home, Settings(), "next"):
            assert running_stack(home) is not None
    else:
        assert child.returncode == 130
    assert not home.state_file.exists()


def children_of(pid: int) -> list[int]:
    told = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in told.stdout.split()]


# The watchdog, then the database, then the sandbox, which takes a second until it answers.
@pytest.mark.parametrize(("children", "seconds"), [(2, 0.05), (3, 0.3)])
def test_nothing_outlives_an_owner_that_is_killed_while_it_starts(
    tmp_path: Path, children: int, seconds: float
) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "home")], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(started := children_of(owner.pid)) < children:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(seconds)
        started = children_of(owner.pid)
    finally:
        owner.kill()
        owner.wait()
    assert gone(started)
    with EmbeddedStack(Home(tmp_path / "home"), Settings(), "next") as stack:
        assert stack.started


def test_what_was_started_is_stopped_when_a_later_server_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home", tmp_path / "damaged")
    assert home.data is not None
    home.data.mkdir()
    for name in ("conversations.parquet", "messages.parquet"):
        (home.data / name).write_bytes(b"no parquet")
    stack = EmbeddedStack(home, Settings(), "test")
    with pytest.raises(Exception, match="sandbox"):
        stack.start()
    record = home.mongo / "server.json"
    assert not record.exists()
    assert "MONGODB_URI" not in os.environ
    with EmbeddedStack(home, Settings(source="files", source_dir=tmp_path), "the database alone") as again:
        assert again.started == ["SecantusDB"]
