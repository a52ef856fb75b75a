"""The stack's folders: which home, whose home, how much room, and what a crash left behind."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cai_assets.processes import Process, end, started_at
from cai_assets.settings import Settings, load_settings
from cai_assets.stack import (
    EmbeddedStack,
    Home,
    StackError,
    activate,
    check_disk,
    choose_home,
    kept_here,
    needs_servers,
    pseudonym_key,
    running_stack,
)


def folder_of_conversations(path: Path) -> Path:
    path.mkdir(parents=True)
    for name in ("conversations.parquet", "messages.parquet"):
        (path / name).touch()
    return path


def own_settings(**values: object) -> Settings:
    """Settings that need no server: everything is the user's own."""
    return Settings(mongodb_uri="mongodb://localhost:1", source="files", source_dir="/tmp", **values)  # type: ignore[arg-type]  # noqa: S108


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)


# -- which home


def test_each_set_of_conversations_has_a_home_of_its_own(tmp_path: Path) -> None:
    star = folder_of_conversations(tmp_path / "exports" / "star")
    assert choose_home(Settings()).path == tmp_path / ".cai" / "sample"
    assert choose_home(Settings(), star).path == tmp_path / ".cai" / "star"
    assert choose_home(own_settings()).path == tmp_path / ".cai" / "own"


@pytest.mark.parametrize("name", ["sample", "own"])
def test_a_folder_never_gets_the_home_of_the_sample_or_of_ones_own(tmp_path: Path, name: str) -> None:
    assert choose_home(Settings(), folder_of_conversations(tmp_path / name)).path.name == f"data-{name}"


def test_cai_home_says_where_homes_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_HOME", str(tmp_path / "elsewhere"))
    assert choose_home(Settings()).path == tmp_path / "elsewhere" / "sample"


def test_a_folder_without_conversations_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"no conversations\.parquet and no messages\.parquet"):
        choose_home(Settings(), tmp_path)


def test_data_for_the_sandbox_and_a_source_of_ones_own_exclude_each_other(tmp_path: Path) -> None:
    data = folder_of_conversations(tmp_path / "star")
    with pytest.raises(StackError, match="SOURCE=files is set"):
        choose_home(own_settings(), data)
    with pytest.raises(StackError, match="NOCODB_BASE_URL is set"):
        choose_home(Settings(nocodb_base_url="http://localhost"), data)


# -- what is started, and what is offered


def test_servers_are_needed_unless_both_are_named() -> None:
    assert needs_servers(Settings())
    assert needs_servers(Settings(nocodb_base_url="http://localhost"))
    assert needs_servers(Settings(mongodb_uri="mongodb://localhost"))  # type: ignore[arg-type]
    assert not needs_servers(own_settings())


def test_sample_data_gets_places_of_its_own_in_servers_of_ones_own(tmp_path: Path) -> None:
    settings = Settings(mongodb_uri="mongodb://localhost", s3_enabled=True, s3_bucket="b")  # type: ignore[arg-type]
    offered = kept_here(Home(tmp_path / "sample"), settings)
    assert offered["MONGODB_DATABASE"] == "cai_sample"
    assert offered["S3_PREFIX"] == "cai/sample"


def test_what_is_set_by_hand_is_not_offered(tmp_path: Path) -> None:
    settings = Settings(parquet_base_dir=tmp_path / "mine", pseudonym_key="k" * 32)  # type: ignore[arg-type]
    assert set(kept_here(Home(tmp_path / "sample"), settings)) == {"DAGSTER_HOME"}


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    key = pseudonym_key(home)
    assert len(key) == 64
    assert pseudonym_key(home) == key
    assert stat.S_IMODE(home.key_file.stat().st_mode) == 0o600


def test_the_environment_is_as_before_when_the_stack_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "mine"))
    stack = EmbeddedStack(Home(tmp_path / "own"), own_settings(), "test")
    with stack:
        assert load_settings().pseudonym_key is not None
        assert not (tmp_path / "mine").exists()
    assert load_settings().pseudonym_key is None
    assert os.environ["DAGSTER_HOME"] == str(tmp_path / "mine")


def test_activate_tells_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    before = activate({"LOG_LEVEL": "DEBUG", "BATCH_SIZE": "7"})
    assert (load_settings().log_level, load_settings().batch_size) == ("DEBUG", 7)
    activate(before)
    assert (load_settings().log_level, load_settings().batch_size) == ("ERROR", 1000)


# -- whose home


def test_a_home_keeps_to_its_conversations(tmp_path: Path) -> None:
    settings = own_settings()
    with EmbeddedStack(Home(tmp_path / "h", tmp_path / "star"), settings, "test"):
        pass
    other = EmbeddedStack(Home(tmp_path / "h", tmp_path / "other" / "star"), settings, "test")
    with pytest.raises(StackError, match=r"was made with conversations of .*star, not .*other.star"):
        other.start()


def test_a_home_keeps_to_its_time_zone(tmp_path: Path) -> None:
    with EmbeddedStack(Home(tmp_path / "h"), own_settings(), "test"):
        pass
    other = EmbeddedStack(Home(tmp_path / "h"), own_settings(report_timezone="Asia/Tokyo"), "test")
    with pytest.raises(StackError, match="REPORT_TIMEZONE UTC, not Asia/Tokyo"):
        other.start()


def test_two_stacks_over_one_home_are_refused_naming_the_process(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    with EmbeddedStack(home, own_settings(), "cai up", exclusive=True):
        second = EmbeddedStack(home, own_settings(), "cai up", exclusive=True)
        with pytest.raises(StackError, match=rf"cai up \(process {os.getpid()}\) already runs"):
            second.start()
        assert running_stack(home) is not None
    assert running_stack(home) is None


# -- what a crash leaves behind


def leave_behind(home: Home, owner: Process, *children: Process) -> None:
    home.path.mkdir(parents=True)
    state = {
        "owner": vars(owner),
        "environment": {},
        "children": [vars(child) for child in children],
        "ui": None,
    }
    home.state_file.write_text(json.dumps(state), encoding="utf-8")


def test_processes_of_a_stack_that_died_are_ended_at_the_next_start(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    orphan = sleeper()
    leave_behind(home, Process("cai up", 2**22, "1"), Process.of("sandbox", orphan.pid))
    assert running_stack(home) is None
    with EmbeddedStack(home, own_settings(), "test", exclusive=True):
        assert orphan.wait(5) is not None
        assert running_stack(home) is not None


def test_a_later_process_with_a_noted_id_is_left_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    stranger = sleeper()
    try:
        leave_behind(home, Process("cai up", 2**22, "1"), Process("sandbox", stranger.pid, "another moment"))
        with EmbeddedStack(home, own_settings(), "test", exclusive=True):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"owner": 1}'])
def test_a_damaged_note_is_no_obstacle(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path / "h")
    home.path.mkdir()
    home.state_file.write_text(text, encoding="utf-8")
    with EmbeddedStack(home, own_settings(), "test", exclusive=True):
        assert running_stack(home) is not None
    assert not home.state_file.exists()


# -- processes


def test_a_process_that_ignores_the_request_is_killed() -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    stubborn = f"import signal, time; {ignore}; print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    process = Process.of("stubborn", child.pid)
    assert end([process], grace_s=0.3) == [process]
    child.stdout.close()
    child.wait(5)
    assert not process.alive


def test_a_group_is_ended_with_its_leader() -> None:
    leader = (
        "import subprocess, sys; c = subprocess.Popen(['sleep', '60']); print(c.pid, flush=True); c.wait()"
    )
    child = subprocess.Popen([sys.executable, "-c", leader], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    assert started_at(grandchild) is not None
    end([Process.of("leader", child.pid)])
    child.stdout.close()
    child.wait(5)
    deadline = time.monotonic() + 5
    while started_at(grandchild) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert started_at(grandchild) is None


def test_a_process_that_is_gone_cannot_be_noted() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(ProcessLookupError, match="ended as soon as"):
        Process.of("short", child.pid)


# -- room


def test_a_full_disk_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"free on the disk of .*, at least .* is needed"):
        check_disk(tmp_path / "new", needed=2**62)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"cannot write in .*file.*set CAI_HOME"):
        check_disk(tmp_path / "file" / "home")
