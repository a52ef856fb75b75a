"""LOG_LEVEL and LOG_FILE: what is written, from which level on, by whom."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cai_assets.failures import PermanentError
from cai_assets.logs import LOGGERS, SettingsHandler, follow_settings
from cai_assets.settings import Settings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    level = logging.getLogger("cai_assets").level
    yield
    follow_settings(Settings())
    logging.getLogger("cai_assets").setLevel(level)


@pytest.mark.parametrize(("level", "lines"), [("DEBUG", 4), ("INFO", 3), ("WARNING", 2), ("ERROR", 1)])
def test_the_file_gets_what_is_of_the_level_or_above(tmp_path: Path, level: str, lines: int) -> None:
    file = tmp_path / "new folder" / "cai.log"
    follow_settings(Settings(log_file=file, log_level=level))  # type: ignore[arg-type]
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("cai_assets.somewhere").log(number, "grüße")
    written = file.read_text(encoding="utf-8").splitlines()
    assert len(written) == lines
    assert all("cai_assets.somewhere: grüße" in line for line in written)


def test_what_dagster_logs_is_there_too(tmp_path: Path) -> None:
    follow_settings(Settings(log_file=tmp_path / "cai.log"))
    logging.getLogger("dagster.daemon").warning("late")
    assert "WARNING" in (tmp_path / "cai.log").read_text(encoding="utf-8")


def test_newer_settings_take_the_place_of_older_ones(tmp_path: Path) -> None:
    follow_settings(Settings(log_file=tmp_path / "one"))
    follow_settings(Settings(log_file=tmp_path / "two"))
    logging.getLogger("cai_assets").error("once")
    assert (tmp_path / "one").read_text(encoding="utf-8") == ""
    assert len((tmp_path / "two").read_text(encoding="utf-8").splitlines()) == 1
    follow_settings(Settings())
    ours = [one for name in LOGGERS for one in logging.getLogger(name).handlers]
    assert not any(isinstance(one, SettingsHandler) for one in ours)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match="LOG_FILE=.*cannot be written"):
        follow_settings(Settings(log_file=tmp_path / "file" / "log"))
