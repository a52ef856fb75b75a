"""Every row of a window and of its conversations comes once, counted by the server, over real connections."""

import json
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from cai_assets.domain.documents import parse_row
from cai_assets.domain.nocodb_filters import in_no_filter
from cai_assets.resources.nocodb import NocoDBSource
from cai_assets.resources.source import SourceAccessError, SourceError, SourceMissingError
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.fixtures.sandbox import NocoDBCalls
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

    def build(sandbox, *, page_rows=1000, batch_ids=400, window_rows=20_000, way=None, **changes):
        how = {"page_rows": page_rows, "batch_ids": batch_ids, "window_rows": window_rows, "way": way}
        made.append(NocoDBSource(nocodb_settings(sandbox, **changes), blocked_seconds=0.05, **how))
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
    assert len({row.id for rows in found for row in rows}) == 5 + len(ODD_IDS)


@pytest.mark.parametrize("way", ["batches", "scan"])
def test_messages_come_for_ids_of_any_spelling(tricky, opened, way):
    wanted = [one for one in ODD_IDS if way == "scan" or not in_no_filter([one])]
    stream = opened(tricky, batch_ids=3, way=way).messages(["first", *wanted, "", "  ", "nobody", "first"])
    rows = list(stream)
    assert Counter(ids_of(rows)) == dict.fromkeys(["first", *wanted], 2)
    assert stream.source_rows == len(rows)
    assert stream.plan["read_by"] == way


def test_an_id_that_stands_in_no_filter_is_found_by_a_scan(tricky, opened):
    (odd,) = in_no_filter(ODD_IDS)
    stream = opened(tricky, batch_ids=3).messages(["first", odd])
    assert ids_of(stream) == ["first", "first", odd, odd]
    assert (stream.source_rows, stream.plan["read_by"]) == (4, "scan")


def test_an_id_whose_part_is_everywhere_is_found_by_a_scan_after_all(tricky, opened):
    odd = ODD_IDS[-2]
    stream = opened(tricky, window_rows=1, way="batches").messages(["first", odd])
    assert ids_of(stream) == ["first", "first", odd, odd]
    assert stream.source_rows == 4


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 1.0])
def test_the_way_chosen_takes_about_the_fewest_requests(many, opened, caplog, share):
    caplog.set_level("INFO", logger="cai_assets")
    ids = [f"c{n:03d}" for n in range(round(60 * share))]
    streams = {
        way: opened(many, page_rows=20, batch_ids=2, io_threads=1, way=way).messages(ids)
        for way in ("batches", "scan", None)
    }
    rows = {way: {row.id for row in stream} for way, stream in streams.items()}
    assert rows["batches"] == rows["scan"] == rows[None]
    assert len(rows[None]) == 12 * len(ids)
    assert {stream.source_rows for stream in streams.values()} == {12 * len(ids)}
    spent = {way: stream.requests for way, stream in streams.items()}
    # The count of all conversations is one more; batches round up to pages, which no estimate knows.
    assert spent[None] <= min(spent["batches"], spent["scan"]) * 1.4 + 1
    plan = streams[None].plan
    assert f"read by {plan['read_by']}: a scan of 720 rows takes about 36 requests" in caplog.text


def test_a_scan_moves_over_gaps_in_the_ids(many_folder, opened, through):
    with SandboxProcess.start(many_folder) as sandbox:
        calls = NocoDBCalls(sandbox)
        gone = [{"Id": number} for number in range(13, 709)]  # c001 to c058
        for start in range(0, len(gone), 100):
            calls.write("DELETE", calls.messages, gone[start : start + 100]).raise_for_status()
        for workers in (1, 4):
            stream = opened(sandbox, window_rows=10, way="scan", io_threads=workers).messages(
                ["c000", "c059"]
            )
            assert Counter(ids_of(stream)) == {"c000": 12, "c059": 12}
            assert stream.source_rows == 24
            assert stream.requests < 15  # not the 72 windows of ten
        proxy = through(sandbox.base_url)
        source = opened(sandbox, nocodb_base_url=proxy.base_url, window_rows=10, way="scan", io_threads=1)
        source.check()
        left = [2]

        def empty_after_a_gap(exchange):
            if exchange.query.get("fields") == "Id" and exchange.query.get("sort") == "Id" and left[0]:
                left[0] -= 1
                exchange.answer = {**exchange.answer, "list": []}

        proxy.after = empty_after_a_gap
        assert Counter(ids_of(source.messages(["c000", "c059"]))) == {"c000": 12, "c059": 12}
        assert left == [0]


def test_both_dialects_spell_values_differently_and_give_equal_documents(tricky_folder, opened):
    typed = {}
    for dialect in ("postgres", "sqlite"):
        with SandboxProcess.start(tricky_folder, dialect=dialect) as sandbox:
            source = opened(sandbox)
            rows = {"conversations": list(source.conversations(DAY, NEXT))}
            rows["messages"] = list(source.messages(ids_of(rows["conversations"])))
        typed[dialect] = {
            (name, row.id): parse_row(name, json.dumps(row.values)) for name in rows for row in rows[name]
        }
    assert typed["postgres"] == typed["sqlite"]
    assert len(typed["sqlite"]) == 3 * (2 + len(ODD_IDS))


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
    assert [table.rows for table in report.tables] == [6 + len(ODD_IDS), 2 * (6 + len(ODD_IDS))]
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
