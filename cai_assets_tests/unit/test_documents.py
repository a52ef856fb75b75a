"""Source rows become documents or rejects, and their hashes tell what changed."""

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.documents import (
    DocumentBatch,
    content_hash,
    documents_from_raw,
    instant_of,
    parse_row,
    text_hash,
)
from cai_assets.domain.parsing import microseconds
from cai_assets.failures import PermanentError
from cai_assets.schemas.documents import SOURCE_COLLECTIONS
from cai_assets_tests.raw_data import conversation, message, raw_rows

DAY = "2024-05-01"


def _digest(values: dict[str, Any]) -> str:
    return parse_row("conversations" if "message_id" not in values else "messages", json.dumps(values))[2]


def test_every_declared_field_is_in_the_document() -> None:
    for name, row in (("conversations", conversation()), ("messages", message())):
        key, fields, _ = parse_row(name, json.dumps(row))  # type: ignore[arg-type]
        declared = SOURCE_COLLECTIONS[name]
        assert key == row[declared.key.name]
        instants = {one.us_name for one in declared.fields if one.kind == "instant"}
        extra = {"text_hash"} if name == "messages" else set()
        assert set(fields) == {one.name for one in declared.fields[1:]} | instants | extra


def test_equal_values_in_other_spellings_have_one_hash() -> None:
    events = [{"from": "open", "to": "resolved", "at": "2024-05-01T11:00:00Z", "actor": "a"}]
    plain = conversation(status_events=events, tags=["a", "b"], csat_score=4, attrs={"x": 1, "y": [None]})
    other = conversation(
        status="OPEN",
        started_at="2024-05-01T12:00:00.000000+02:00",
        status_events=json.dumps(events),
        tags="a,b",
        csat_score="4.0",
        attrs='{"y":[null],"x":1}',
        traffic_class="LIVE",
        agent_id=None,
        not_ours="ignored",
    )
    assert _digest(plain) == _digest(other)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "resolved"},
        {"user_id": "u2"},
        {"started_at": "2024-05-01 10:00:00.000001+00:00"},
        {"tags": ["a"]},
        {"csat_score": 1},
        {"attrs": {"a": 1}},
        {"channel": ""},
        {"status_events": [{"to": "open", "at": "2024-05-01", "actor": None}]},
    ],
)
def test_every_change_of_value_changes_the_hash(change: dict[str, Any]) -> None:
    assert _digest(conversation()) != _digest(conversation(**change))


def test_a_microsecond_of_an_event_changes_the_hash() -> None:
    first, second = (
        conversation(status_events=[{"to": "open", "at": f"2024-05-01T00:00:00.00000{digit}Z"}])
        for digit in "12"
    )
    assert _digest(first) != _digest(second)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none()))
def test_hash_does_not_depend_on_the_order_of_keys(attrs: dict[str, Any]) -> None:
    turned = dict(reversed(attrs.items()))
    assert content_hash({"attrs": attrs}) == content_hash({"attrs": turned})


@given(st.text(st.characters(codec="utf-8")))
def test_texts_that_look_the_same_have_one_text_hash(text: str) -> None:
    assert text_hash(text) == text_hash(unicodedata.normalize("NFD", text)) or unicodedata.normalize(
        "NFC", text
    ) != unicodedata.normalize("NFC", unicodedata.normalize("NFD", text))


def test_blank_text_stays_and_missing_text_is_null() -> None:
    assert parse_row("messages", json.dumps(message(text="")))[1]["text"] == ""
    _, fields, _ = parse_row("messages", json.dumps(message(text=None)))
    assert fields["text"] is None
    assert fields["text_hash"] == text_hash("")


def test_a_reason_names_every_wrong_field() -> None:
    row = message(created_at="Invalid Date", sender_type="robot", conversation_id="")
    with pytest.raises(
        ValueError, match=r"conversation_id: empty; sender_type: .*; created_at: 'Invalid Date'"
    ):
        parse_row("messages", json.dumps(row))


@pytest.mark.parametrize("row", ["", "[]", "null", "{", '{"a": ' + "9" * 5000 + "}", "[" * 100_000])
def test_what_is_no_row_is_refused(row: str) -> None:
    with pytest.raises(ValueError, match="row: no JSON"):
        parse_row("conversations", row)


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match="user_id: missing; status: missing; started_at: missing"):
        parse_row("conversations", '{"conversation_id": "c1"}')


def _parts(batch: DocumentBatch) -> tuple[list[str], dict[int, str]]:
    parts = list(batch.parts())
    return [one.id for part in parts for one in part.versions], {
        one.source_id: one.reason for part in parts for one in part.rejects
    }


def test_every_row_is_a_version_or_a_reject_with_its_row_verbatim() -> None:
    odd = json.dumps(conversation(conversation_id="c\ud800"))
    rows = raw_rows([(DAY, 1, None, conversation()), (DAY, 2, 3, odd), (DAY, 3, 4, "{broken")])
    batch = documents_from_raw(rows, "conversations", partitions=[DAY, "2024-05-02"])
    parts = list(batch.parts())
    assert [(part.partition, len(part.versions), len(part.rejects)) for part in parts] == [
        (DAY, 1, 2),
        ("2024-05-02", 0, 0),
    ]
    assert [reject.row for reject in parts[0].rejects] == [odd, "{broken"]
    assert [reject.business_id for reject in parts[0].rejects] == [None, None]
    assert "lone surrogate" in parts[0].rejects[0].reason
    parts[0].rejects[0].reason.encode()  # every store can hold it


def test_orphans_wait_for_their_conversation_on_their_own_day() -> None:
    rows = raw_rows(
        [
            (DAY, 1, None, message(message_id="m1", conversation_id="here")),
            (DAY, 2, None, message(message_id="m2", conversation_id="there")),
            (DAY, 3, None, message(message_id="m3", conversation_id="nowhere")),
        ]
    )
    live = {"here": DAY, "there": "2024-05-02"}
    ids, reasons = _parts(documents_from_raw(rows, "messages", partitions=[DAY], live_conversations=live))
    assert ids == ["m1"]
    assert reasons[2].startswith(f"orphan: its conversation 'there' does not live on {DAY}")
    assert reasons[3].startswith("orphan: its conversation 'nowhere' does not live")


def test_time_of_writing_is_the_sources_else_the_rows_own() -> None:
    rows = raw_rows([(DAY, 1, 5, conversation()), (DAY, 2, None, conversation())])
    none = rows.set_column(
        2, rows.schema.field("created_at"), pa.nulls(2, rows.schema.field("created_at").type)
    )
    batch = documents_from_raw(none, "conversations", partitions=[DAY])
    written = [one.source_updated_us for one in next(iter(batch.parts())).versions]
    assert [instant_of(one).isoformat() for one in written] == [
        "2024-01-01T00:05:00+00:00",
        "2024-05-01T10:00:00+00:00",
    ]


def test_rejects_keep_what_tells_them_from_a_later_version() -> None:
    wrong = conversation(conversation_id=17, status="?")
    rows = raw_rows([(DAY, 1, 5, wrong), (DAY, 2, None, message())])
    none = rows.set_column(
        2, rows.schema.field("created_at"), pa.nulls(2, rows.schema.field("created_at").type)
    )
    (judged,) = documents_from_raw(none.slice(0, 1), "conversations", partitions=[DAY]).parts()
    (orphan,) = documents_from_raw(none.slice(1), "messages", partitions=[DAY], live_conversations={}).parts()
    (unread,) = documents_from_raw(none.slice(1), "conversations", partitions=[DAY]).parts()
    kept = [(one.source_updated_us, one.business_id) for one in judged.rejects + orphan.rejects]
    assert kept == [
        (microseconds(datetime(2024, 1, 1, 0, 5, tzinfo=UTC)), "17"),
        (microseconds(datetime(2024, 5, 1, 10, 0, 1, tzinfo=UTC)), "m1"),  # valid but for its conversation
    ]
    assert [(one.source_updated_us, one.business_id) for one in unread.rejects] == [(None, "c1")]


def test_contradicting_raw_rows_are_named() -> None:
    twice = raw_rows([(DAY, 7, None, conversation()), (DAY, 7, None, conversation())])
    with pytest.raises(PermanentError, match=r"row numbers \[7\] more than once"):
        list(documents_from_raw(twice, "conversations", partitions=[DAY]).parts())
    with pytest.raises(PermanentError, match="not replaced now"):
        list(documents_from_raw(twice, "conversations", partitions=["2024-05-02"]).parts())
