"""How values of source rows are read."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain import parsing
from cai_assets.schemas.documents import SOURCE_COLLECTIONS
from cai_assets.schemas.lake import SENDER_TYPES

FIRST, LAST = datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2199-12-31")
UNENCODABLE = "a\ud800b"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(SOURCE_COLLECTIONS)), st.data(), json_values)
def test_every_value_is_read_or_refused_with_words(table: str, data: st.DataObject, value: Any) -> None:
    field = data.draw(st.sampled_from(SOURCE_COLLECTIONS[table].fields))
    reason = parsed = None
    try:
        parsed = parsing.parser_of(field)(value)
    except ValueError as error:
        reason = str(error)
    assert reason or parsed is not None or field.may_be_null


@given(st.datetimes(FIRST, LAST, timezones=st.just(UTC)))
def test_every_spelling_of_an_instant_is_the_instant_to_the_microsecond(instant: datetime) -> None:
    iso = instant.isoformat(timespec="microseconds")
    plain = iso.removesuffix("+00:00")
    for text in (iso, plain, plain + "Z", plain.replace("T", " "), plain.replace("T", " ") + "+00:00"):
        assert parsing.parse_instant(text) == instant
    assert parsing.parse_instant("2024-05-01 10:00:00+02:00") == datetime(2024, 5, 1, 8, tzinfo=UTC)
    assert datetime.fromtimestamp(0, UTC) == parsing._EPOCH
    exact = parsing.microseconds(instant)
    assert instant == datetime.fromtimestamp(exact // 10**6, UTC).replace(microsecond=exact % 10**6)


@pytest.mark.parametrize(
    "value",
    [
        "Invalid Date",
        "0001-01-01 00:00:00",
        "9999-12-31T23:59:59Z",
        "2024-13-01",
        "tomorrow",
        1714557600,
        True,
    ],
)
def test_what_is_no_instant_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsing.parse_instant(value)


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "true", " TRUE "])
def test_spellings_of_true(value: Any) -> None:
    assert parsing.parse_bool(value) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, "0", "false", "False"])
def test_spellings_of_false(value: Any) -> None:
    assert parsing.parse_bool(value) is False


@pytest.mark.parametrize("value", [2, "yes", [], {}, float("nan")])
def test_what_is_no_truth_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        parsing.parse_bool(value)


def test_absent_truth_and_class_take_their_defaults() -> None:
    private = parsing.parser_of(SOURCE_COLLECTIONS["messages"].by_name["private"])
    traffic = parsing.parser_of(SOURCE_COLLECTIONS["conversations"].by_name["traffic_class"])
    assert [private(None), private(""), traffic(None), traffic(" "), traffic("TEST")] == [
        False,
        False,
        "live",
        "live",
        "test",
    ]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters=","), min_size=1).map(str.strip)))
def test_labels_read_the_same_from_a_list_its_json_and_commas(labels: list[str]) -> None:
    labels = [label for label in labels if label and not label.startswith("[")]
    assert parsing.parse_tags(labels) == labels
    assert parsing.parse_tags(json.dumps(labels)) == labels
    assert parsing.parse_tags(" , ".join(labels)) == labels


def test_labels_that_only_look_like_json_are_split_at_commas() -> None:
    assert parsing.parse_tags("[new], billing") == ["[new]", "billing"]
    assert parsing.parse_tags(None) is None
    assert parsing.parse_tags("") == []
    with pytest.raises(ValueError, match="no list of labels"):
        parsing.parse_tags({"a": 1})


@pytest.mark.parametrize(
    ("value", "number"), [(4, 4.0), ("4.5", 4.5), (" 3 ", 3.0), ("", None), (None, None)]
)
def test_numbers(value: Any, number: float | None) -> None:
    assert parsing.parse_number(value) == number


@pytest.mark.parametrize("value", ["4,5", "nan", "1_000", "five", True, [], float("inf")])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="no number"):
        parsing.parse_number(value)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 1.5, "1.5"])
def test_what_is_no_place_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        parsing.parse_int32(value)


def test_status_events_are_sorted_by_time_and_renamed() -> None:
    later = {"from": "OPEN", "to": "Resolved", "at": "2024-05-01T10:00:00.000002Z", "actor": "a1"}
    earlier = {"from_status": None, "to_status": "open", "at": "2024-05-01 10:00:00.000001", "actor": None}
    for events in ([later, earlier], json.dumps([later, earlier])):
        parsed = parsing.parse_status_events(events)
        assert parsed is not None
        assert [(one["from_status"], one["to_status"], one["actor"]) for one in parsed] == [
            (None, "open", None),
            ("open", "resolved", "a1"),
        ]
        assert parsed[1]["at_us"] - parsed[0]["at_us"] == 1


@pytest.mark.parametrize(
    "events",
    ["{}", "[1]", "no json", [{"to": "open"}], [{"at": "2024-05-01"}], [{"to": "a", "at": "Invalid Date"}]],
)
def test_status_events_that_are_none_are_refused(events: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsing.parse_status_events(events)


@pytest.mark.parametrize("value", [None, "", "  ", "x" * 1025, "é" * 513, UNENCODABLE, [], True, 1.5])
def test_what_is_no_id_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsing.parse_id(value)


@pytest.mark.parametrize("value", ["a/b", "'\"`$.", " a ", "\0", "x" * 1024, "日本"])
def test_odd_ids_are_kept_to_the_letter(value: str) -> None:
    assert parsing.parse_id(value) == value


def test_numbers_as_ids_become_their_digits() -> None:
    assert parsing.parse_id(7) == "7"


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ({"a\0b": 1}, "NUL"),
        ({"n": 2**63}, "64 bits|64 is the most"),
        ({"t": UNENCODABLE}, "lone surrogate"),
        ({UNENCODABLE: 1}, "lone surrogate"),
        ({"$ref": 1}, r"\$ref"),
        ([1], "no JSON object"),
        ("nonsense", "no JSON"),
    ],
)
def test_attrs_that_mongodb_cannot_hold_are_refused(attrs: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsing.parse_attrs(attrs)


def test_attrs_too_deep_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(95):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="deeper"):
        parsing.parse_attrs(deep)


@given(
    st.sampled_from(SENDER_TYPES),
    st.sampled_from([str.upper, str.title, str.lower, lambda word: f" {word} "]),
)
def test_few_words_are_known_in_any_case(word: str, change: Any) -> None:
    assert parsing.parse_enum(SENDER_TYPES)(change(word)) == word


def test_unknown_words_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'robot' is none of user, agent, bot, system"):
        parsing.parse_enum(SENDER_TYPES)("robot")
