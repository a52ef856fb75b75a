"""A real NocoDB over PostgreSQL, started by the shared tool, or the one that TEST_NOCODB_URL names."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cai_assets_tests.conftest import shared_path
from cai_assets_tests.fixtures.ui import free_port

HOME = Path.home() / ".local-nocodb"
"""Where it is installed (1.4 GB) and stays; NOCODB_HOME names another folder."""


@dataclass(frozen=True)
class LoadedNocoDB:
    """A NocoDB with a data set in it.

    Attributes:
        environment: the settings that lead to it.
        conversations: rows of the table.
        messages: rows of the table.
    """

    environment: dict[str, str]
    conversations: int
    messages: int


@pytest.fixture(scope="session")
def nocodb_url() -> Iterator[str]:
    """Address of the server; it is stopped afterwards where it was started here."""
    if given := os.environ.get("TEST_NOCODB_URL"):
        yield given
        return
    tool = shared_path("tools", "nocodb", "start.sh")
    if not shutil.which("npm") or not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("needs Node.js with npm and PostgreSQL: apt-get install npm postgresql")
    variables = {
        **os.environ,
        "NOCODB_HOME": os.environ.get("NOCODB_HOME", str(HOME)),
        "PORT": str(free_port()),
        "PG_PORT": str(free_port()),
    }
    started = subprocess.run(
        ["bash", tool], env=variables, capture_output=True, text=True, timeout=900, check=False
    )
    try:
        assert started.returncode == 0, (
            f"NocoDB did not start: {started.stdout[-2000:]}{started.stderr[-2000:]}"
        )
        yield f"http://127.0.0.1:{variables['PORT']}"
    finally:
        subprocess.run(["bash", tool, "stop"], env=variables, capture_output=True, timeout=120, check=False)


@pytest.fixture
def bcontrast_in_nocodb(nocodb_url: str, tmp_path: Path) -> LoadedNocoDB:
    """All of bcontrast in a base of its own."""
    data, tool = shared_path("data", "bcontrast"), shared_path("tools", "nocodb", "load.py")
    out = tmp_path / "nocodb.json"
    command = [sys.executable, tool, data, "--url", nocodb_url, "--out", out]
    subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    found = json.loads(out.read_text())
    environment = {name: value for name, value in found.items() if name.startswith("NOCODB_")}
    return LoadedNocoDB(environment, found["conversations"], found["messages"])
