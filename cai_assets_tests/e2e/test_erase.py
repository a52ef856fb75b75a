"""`cai erase` as people use it: asked, killed, gone on with, with a receipt; nothing is left on the disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cai_assets_tests.e2e.test_command_line import cai, environment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo ran."""
    made = tmp_path_factory.mktemp("erase")
    done = cai(made, "demo", "--days", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def raw_rows(folder: Path, name: str) -> list[dict[str, object]]:
    lake = folder / ".cai" / "sample" / "lake" / "raw" / name
    files = [path for path in lake.rglob("*.parquet") if "_delta_log" not in path.parts]
    return [json.loads(row) for path in files for row in pq.ParquetFile(path).read()["row"].to_pylist()]


def users(folder: Path) -> list[str]:
    """Users by their conversations, the most first."""
    found: dict[str, int] = {}
    for row in raw_rows(folder, "conversations"):
        user = str(row["user_id"])
        found[user] = found.get(user, 0) + 1
    return sorted(found, key=lambda one: (-found[one], one))


def bytes_of(folder: Path, but: str) -> bytes:
    """All that lies on the disk but one folder; Parquet as its rows."""
    return b"\n".join(
        repr(pq.ParquetFile(path).read().to_pylist()).encode()
        if path.suffix == ".parquet"
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and but not in path.parts
    )


def test_a_person_is_counted_then_erased_with_a_receipt(folder: Path) -> None:
    user = users(folder)[0]
    mine = {r["conversation_id"] for r in raw_rows(folder, "conversations") if r["user_id"] == user}
    spoken = {
        str(r["text"]) for r in raw_rows(folder, "messages") if r["conversation_id"] in mine and r["text"]
    }
    others = {str(r["text"]) for r in raw_rows(folder, "messages") if r["conversation_id"] not in mine}
    own = {one for one in spoken if len(one) > 30 and not any(one in other for other in others)}
    assert own
    dry = cai(folder, "erase", user, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stdout + dry.stderr
    found = json.loads(dry.stdout)
    assert found["found"]["mongodb/conversations"] == len(mine)
    refused = cai(folder, "erase", user)
    assert refused.returncode == 1
    assert "Aborted" in refused.stderr
    done = cai(folder, "erase", user, "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    receipt = json.loads(done.stdout)
    assert receipt["removed"]["raw/conversations"] == len(mine)
    assert receipt["proof"]["left"] == {}
    assert len(receipt["source"]["conversations"]) == len(mine)
    # The database's own files hold freed pages (docs/privacy.md); all else is read here, Dagster's too.
    left = bytes_of(folder / ".cai", but="mongo")
    assert found["pseudonym"].encode() not in left
    for text in (*own, *map(str, mine)):
        assert text.encode() not in left, text
    listed = cai(folder, "erase", "--receipts", "--json")
    assert json.loads(listed.stdout)[0]["state"] == "done"
    assert user not in listed.stdout


@pytest.mark.soak
def test_killed_it_goes_on_and_ends(folder: Path) -> None:
    kills(folder, users(folder)[1], delays=(9.0,))


@pytest.mark.soak
@pytest.mark.timeout(2400)  # 50 kills, ten minutes of waiting for their moments alone
def test_killed_many_times_it_goes_on_and_ends(folder: Path) -> None:
    for number, user in enumerate(users(folder)[2:7]):
        kills(folder, user, delays=tuple(2.0 + 1.7 * step + 0.3 * number for step in range(10)))


def kills(folder: Path, user: str, delays: tuple[float, ...]) -> None:
    """Kill the command after each of some seconds, then let it end."""
    mine = {str(r["conversation_id"]) for r in raw_rows(folder, "conversations") if r["user_id"] == user}
    for delay in delays:
        process = subprocess.Popen(
            [sys.executable, "-m", "cai_assets.cli", "erase", user, "--yes"],
            cwd=folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(2)  # the watchdog ends what the killed one had started
    done = cai(folder, "erase", user, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing of the person is left" in done.stdout
    left = bytes_of(folder / ".cai", but="mongo")
    assert not [one for one in mine if one.encode() in left]
