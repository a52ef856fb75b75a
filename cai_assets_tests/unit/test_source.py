"""What all sources share: columns matched by name, rows read once, and settings asked for together."""

from datetime import UTC, datetime

import pytest

from cai_assets.resources.files import FilesSource
from cai_assets.resources.source import (
    CONVERSATIONS,
    MESSAGES,
    RowStream,
    SourceError,
    SourceMissingError,
    SourceRow,
    map_columns,
    open_source,
)
from cai_assets.settings import Settings


def settings(**changes):
    return Settings(_env_file=None, **changes)


def test_columns_are_matched_by_the_map_and_else_by_name():
    existing = ["Gespräch", "user_id", "status", "started_at", "tags", "other"]
    mapped = map_columns(CONVERSATIONS, {"conversation_id": "Gespräch"}, existing, "T")
    assert mapped == {
        "conversation_id": "Gespräch",
        "user_id": "user_id",
        "status": "status",
        "started_at": "started_at",
        "tags": "tags",
    }


def test_missing_required_columns_are_named_beside_those_that_exist():
    with pytest.raises(
        SourceMissingError, match=r"T lacks the column\(s\) text, created_at; it has message_id"
    ):
        map_columns(MESSAGES, {}, ["message_id", "conversation_id", "sender_type"], "T")


def test_an_optional_column_that_the_map_names_must_exist():
    existing = list(CONVERSATIONS.required)
    with pytest.raises(SourceMissingError, match=r"Sprache \(for language\)"):
        map_columns(CONVERSATIONS, {"language": "Sprache"}, existing, "T")


def test_a_slip_in_the_map_is_told_with_our_names():
    with pytest.raises(SourceMissingError, match=r"startet_at; ours are conversation_id, .*csat_score"):
        map_columns(CONVERSATIONS, {"startet_at": "Start"}, list(CONVERSATIONS.columns), "T")


def test_a_stream_is_read_once():
    stream = RowStream(lambda stream: iter([]))
    assert list(stream) == []
    with pytest.raises(RuntimeError, match="read once"):
        list(stream)


def test_a_row_knows_its_start_or_says_which_row_has_none():
    row = SourceRow(7, None, None, {"started_at": "2024-05-01 10:00:00+00:00"})
    assert row.started_at == datetime(2024, 5, 1, 10, tzinfo=UTC)
    for value in (None, "Invalid Date"):
        with pytest.raises(SourceError, match="row 7"):
            _ = SourceRow(7, None, None, {"started_at": value}).started_at


def test_all_missing_settings_of_a_server_are_told_at_once():
    with pytest.raises(SourceError, match="NOCODB_BASE_URL, NOCODB_API_TOKEN, NOCODB_PROJECT_ID"):
        open_source(settings())


def test_the_setting_chooses_the_source(tmp_path):
    source = open_source(settings(source="files", source_dir=tmp_path))
    assert isinstance(source, FilesSource)
    source.close()
