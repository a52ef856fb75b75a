"""The benchmarks are run by hand, so that a name which moved would be noticed late: each can be loaded."""

import subprocess
import sys

from cai_assets_tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"


def test_every_benchmark_can_be_loaded() -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert names
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import {', '.join(names)}"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
