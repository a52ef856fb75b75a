"""Every row of a window and of its conversations comes once, counted by the server, over real connections."""

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from cai_assets.resources.nocodb import NocoDBSource
from cai_assets.resources.source import SourceAccessError, SourceError, SourceMissingError
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.fixtures.sources import DAY, ODD_IDS, nocodb_settings

NEXT = DAY + timedelta(days=1)


@pytest.fixture(scope="module", params=["postgres", "sqlite"])
def tricky(request, tricky_folder):
    with SandboxProcess.start(tricky_folder, dialect=request.param) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def many(many_folder):
    with SandboxProcess.start(many_folder) as sandbox:
        yield sandbox


@pytest.fixture
def opened():
    """Make a source over a sandbox; it is closed after the test."""
    made = []

    def build(sandbox, *, page_rows=1000, batch_ids=400, window_rows=20_000, **changes):
        sizes = {"page_rows": page_rows, "batch_ids": batch_ids, "window_rows": window_rows}
        made.append(NocoDBSource(nocodb_settings(sandbox, **changes), blocked_seconds=0.05, **sizes))
        return made[-1]

    yield build
    for source in made:
        source.close()


def ids_of(rows):
    return [row.values["conversation_id"] for row in rows]


def test_a_day_holds_exactly_the_conversations_that_started_on_it_in_both_dialects(tricky, opened):
    stream = opened(tricky).conversations(DAY, NEXT)
    rows = list(stream)
    assert set(ids_of(rows)) == {"first", "last", *ODD_IDS}
    assert stream.source_rows == len(rows) == 2 + len(ODD_IDS)


def test_days_side_by_side_hold_each_dated_conversation_once(tricky, opened):
    source = opened(tricky)
    days = [DAY + timedelta(days=n) for n in (-1, 0, 1)]
    streams = [source.conversations(day, day + timedelta(days=1)) for day in days]
    found = [list(stream) for stream in streams]
    assert [stream.source_rows for stream in streams] == list(map(len, found)) == [1, 2 + len(ODD_IDS), 2]
    assert len({row.id for rows in found for row in rows}) == 14


def test_messages_come_for_ids_of_any_spelling(tricky, opened):
    stream = opened(tricky, batch_ids=3).messages(["first", *ODD_IDS, "", "  ", "nobody", "first"])
    rows = list(stream)
    assert Counter(ids_of(rows)) == dict.fromkeys(["first", *ODD_IDS], 2)
    assert stream.source_rows == len(rows)


def test_an_empty_window_and_no_ids_give_nothing(tricky, opened):
    source = opened(tricky)
    for stream in (source.conversations(DAY, DAY), source.messages([]), source.messages(["", "nobody"])):
        assert list(stream) == []
        assert stream.source_rows == 0


def test_values_are_the_servers_own(tricky, opened):
    source = opened(tricky)
    first = next(row for row in source.conversations(DAY, NEXT) if row.values["conversation_id"] == "first")
    sqlite = tricky.info()["dialect"] == "sqlite"
    assert first.values["started_at"] == "2024-05-01 00:00:00+00:00"
    assert first.started_at == first.created_at == DAY
    assert first.updated_at is None
    assert first.values["tags"] in ('["x", "y"]' if sqlite else ["x", "y"], ["x", "y"], '["x","y"]')
    messages = list(source.messages(["first"]))
    assert [row.values["private"] for row in messages] == ([0, 1] if sqlite else [False, True])
    assert [row.values["text"] for row in messages] == ['Grüße, "alle"\nzusammen', ""]


def test_a_check_reports_counts_and_conversations_without_a_day(tricky, opened):
    report = opened(tricky, partition_start_date="2024-05-01").check()
    assert [table.rows for table in report.tables] == [15, 30]
    assert (report.undated, report.before_first_day) == (1, 1)
    assert "1 conversation(s) have no readable started_at" in report.warnings[0]
    assert "PARTITION_START_DATE=2024-05-01" in report.warnings[1]
    assert report.details == {"base": "pcaisandbox0001", "api": "v1"}


@pytest.mark.parametrize("workers", [1, 4])
def test_small_pages_batches_and_windows_change_nothing(many, opened, workers):
    def read(**sizes):
        source = opened(many, io_threads=workers, **sizes)
        conversations = source.conversations(DAY, NEXT)
        found = list(conversations)
        messages = source.messages(ids_of(found))
        spoken = list(messages)
        assert conversations.source_rows == len(found) == 60
        assert messages.source_rows == len(spoken) == 720
        return found, spoken, messages.requests

    large, small = read(), read(page_rows=7, batch_ids=5, window_rows=11)
    assert large[:2] == small[:2]
    assert small[2] > 12 * 8


def test_titles_serve_as_well_as_ids(many, opened):
    source = opened(
        many,
        nocodb_project_id="conversations",
        nocodb_conversation_table="conversations",
        nocodb_messages_table="messages",
    )
    assert [table.rows for table in source.check().tables] == [60, 720]


def test_columns_of_other_names_are_read_through_the_map(many, opened):
    source = opened(
        many, nocodb_field_map={"conversations": {"channel": "status", "user_id": "conversation_id"}}
    )
    row = next(iter(source.conversations(DAY, NEXT)))
    assert row.values == {
        "conversation_id": "c000",
        "user_id": "c000",
        "status": "resolved",
        "started_at": "2024-05-01 00:00:00+00:00",
        "channel": "resolved",
    }


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"nocodb_api_token": "wrong"}, SourceAccessError, "NOCODB_API_TOKEN is wrong"),
        (
            {"nocodb_project_id": "Conversations"},
            SourceMissingError,
            r"NOCODB_PROJECT_ID=Conversations: .*case-sensitive.* It has: 'conversations' \(pcai",
        ),
        (
            {"nocodb_messages_table": "mails"},
            SourceMissingError,
            r"NOCODB_MESSAGES_TABLE=mails: .*'conversations' \(mconversations1\), 'messages' \(mme",
        ),
        (
            {"nocodb_field_map": {"conversations": {"user_id": "Kunde"}}},
            SourceMissingError,
            r"\(mconversations1\) lacks the column\(s\) Kunde \(for user_id\); it has Id, CreatedAt",
        ),
        (
            {"nocodb_field_map": {"conversations": {"started_at": "status"}}},
            SourceError,
            "'status' .started_at. is SingleLineText, and days can only be selected by a DateTime",
        ),
        (
            {"nocodb_base_url": "http://127.0.0.1:9"},
            Exception,
            "connection refused from NocoDB at http://127.0.0.1:9",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(many, opened, changes, error, message):
    source = opened(many, **changes)
    for call in (source.check, lambda: list(source.conversations(DAY, NEXT))):
        with pytest.raises(error, match=message) as caught:
            call()
        assert "wrong" not in str(caught.value).replace("is wrong", "")


@pytest.mark.parametrize("name", ["star", "bcontrast"])
def test_real_conversations_come_whole(name, opened):
    folder = shared_data(name)
    expected = {t: pq.read_table(folder / f"{t}.parquet") for t in ("conversations", "messages")}
    with SandboxProcess.start(folder) as sandbox:
        source = opened(sandbox)
        conversations = source.conversations(
            datetime(2020, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
        )
        found = list(conversations)
        with closing(opened(sandbox, io_threads=1)) as one_thread:
            messages = one_thread.messages(ids_of(found[:50]))
            alone = [row.id for row in messages]
        spoken = source.messages(ids_of(found))
        texts = {row.values["message_id"]: row.values["text"] for row in spoken}
        assert [row.id for row in source.messages(ids_of(found[:50]))] == alone
    assert sorted(ids_of(found)) == sorted(expected["conversations"]["conversation_id"].to_pylist())
    assert conversations.source_rows == len(found)
    assert spoken.source_rows == len(texts) == expected["messages"].num_rows
    assert texts == dict(
        zip(*(expected["messages"][c].to_pylist() for c in ("message_id", "text")), strict=True)
    )
