"""`.env.example` names every variable there is, with the default it has; so neither drifts from the other."""

import re

import pytest
from pydantic_core import PydanticUndefined

from cai_assets.settings import Settings, load_settings
from cai_assets.stack import HomeSettings
from cai_assets_tests.conftest import REPOSITORY

LINE = re.compile(r"^#([A-Z][A-Z0-9_]*)=(.*)$")


def example() -> dict[str, str]:
    lines = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
    found = [match.groups() for line in lines if (match := LINE.match(line))]
    assert len(found) == len(dict(found)), "a variable stands there twice"
    return dict(found)


def fields() -> dict[str, object]:
    """Every variable, and its default."""
    return {
        name.upper(): field.get_default(call_default_factory=True, validated_data={})
        for settings in (Settings, HomeSettings)
        for name, field in settings.model_fields.items()
    }


def test_it_names_exactly_the_variables_that_are_read() -> None:
    assert set(example()) == set(fields())


def test_every_default_written_there_is_the_default() -> None:
    written = {name: value for name, value in example().items() if value}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in written.items():
            patch.setenv(name, value)
        read = {name.upper(): value for name, value in Settings().model_dump().items()}
        read |= {name.upper(): value for name, value in HomeSettings().model_dump().items()}
    defaults = fields()
    for name in written:
        assert read[name] == defaults[name], name


def test_a_variable_without_a_value_there_has_no_default() -> None:
    for name, value in example().items():
        if not value:
            assert fields()[name] in (None, PydanticUndefined), name


def test_the_file_taken_as_it_is_changes_nothing(tmp_path, monkeypatch) -> None:
    (tmp_path / ".env").write_text(
        (REPOSITORY / ".env.example").read_text(encoding="utf-8"), encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    load_settings.cache_clear()
    assert load_settings() == Settings(_env_file=None)
    assert not load_settings().model_fields_set


def test_every_variable_is_explained() -> None:
    """A comment stands above the variable, or above the group of lines it belongs to."""
    lines = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if LINE.match(line):
            above = number - 1
            while LINE.match(lines[above]):
                above -= 1
            assert lines[above].startswith("# "), line
