"""The wheel as users install it: into an empty environment, used from an empty folder, far from the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cai_assets_tests.conftest import REPOSITORY

pytestmark = pytest.mark.soak  # two minutes: an environment is filled, and the demo runs in it

UV = Path(sys.executable).with_name("uv")


def run(folder: Path, *command: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with no variable of this process but where programs, caches and package indexes are."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "XDG_", "SSL_"))}
    home = os.environ.get("HOME", str(folder))
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, **kept, **variables},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands of an environment that holds the wheel and what it declares."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run(folder, UV, "build", "--wheel", "--quiet", "--out-dir", folder / "dist", REPOSITORY)
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    for command in (
        ("venv", "--quiet", "--python", sys.executable, folder / "env"),
        ("pip", "install", "--quiet", "--python", folder / "env/bin/python", f"{wheel}[embedded]"),
    ):
        done = run(folder, UV, *command)
        assert done.returncode == 0, done.stderr
    return folder / "env" / "bin"


def test_the_package_that_runs_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    done = run(tmp_path, installed / "python", "-c", "import cai_assets; print(cai_assets.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(installed.parent)
    assert "demo" in run(tmp_path, installed / "cai", "--help").stdout


def test_the_doctor_says_what_is_not_set(installed: Path, tmp_path: Path) -> None:
    done = run(tmp_path, installed / "cai", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "none set" in done.stdout
    for name in ("MONGODB_URI", "NOCODB_BASE_URL", "ALERT_WEBHOOK_URL"):
        assert name in done.stdout
    broken = run(tmp_path, installed / "cai", "doctor", NOCODB_BASE_URL="http://127.0.0.1:9", BATCH_SIZE="0")
    assert broken.returncode == 1
    assert "BATCH_SIZE" in broken.stderr


def test_the_demo_and_the_definitions_need_nothing_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    done = run(tmp_path, installed / "cai", "demo", "--days", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / ".cai/sample/lake/reports/dashboard.html").stat().st_size > 100_000
    status = json.loads(run(tmp_path, installed / "cai", "status", "--json").stdout)
    assert status["failing_checks"] == []
    assert str(REPOSITORY) not in done.stdout + done.stderr
    valid = run(tmp_path, installed / "dagster", "definitions", "validate", "-m", "cai_assets.definitions")
    assert valid.returncode == 0, valid.stdout + valid.stderr
