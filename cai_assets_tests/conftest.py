"""What every test may use: the real data sets, and settings that come from the test alone."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from cai_assets.settings import Settings, load_settings

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURES = Path(__file__).with_name("fixtures")

pytest_plugins = [f"cai_assets_tests.fixtures.{path.stem}" for path in sorted(FIXTURES.glob("[!_]*.py"))]

# Started in the background (nohup, a job of a script), a process ignores Ctrl-C and hang-ups; so would the
# processes that the tests start and stop by these signals.
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)


def shared_path(*parts: str) -> Path:
    """A file of the shared folder beside the checkout; skips the test, saying so, where it is not there."""
    path = REPOSITORY.parent.joinpath("shared", *parts)
    if not path.exists():
        pytest.skip(f"needs {path.relative_to(REPOSITORY.parent)} beside the checkout")
    return path


def shared_data(name: str) -> Path:
    """Folder of a real data set (`star`, `bcontrast`); skips the test where it is not there."""
    return shared_path("data", name)


SHARE_THE_UI = {"test_browser.py", "test_ui_backfill.py"}


class _ByServers(LoadScopeScheduling):
    """Gives a process whole files, as the tests of a file share servers, and all that share one `cai up`."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ui" if file.rpartition("/")[2] in SHARE_THE_UI else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """What decides which process runs which tests; `--dist loadgroup` of pytest-xdist 3.8 does not group."""
    return _ByServers(config, log)


@pytest.fixture(autouse=True)
def _environment_of_the_test_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of the machine and no `.env` reaches a test; heavy caches are emptied around it."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name in list(os.environ):
        if name.startswith(("AWS_", "DAGSTER_", "CAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()
