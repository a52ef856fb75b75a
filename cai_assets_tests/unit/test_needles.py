"""The search for many texts at once finds what plain searching finds, and nothing else."""

import html
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.domain.needles import LEAST_TEXT, Needle, Needles

WORDS = st.text('abcß"<&\n 1', min_size=0, max_size=60)


@given(st.lists(WORDS, max_size=8), st.lists(WORDS, max_size=12), st.data())
@settings(max_examples=200, deadline=None)
def test_it_finds_what_plain_search_finds(values: list[str], hay: list[str], data: st.DataObject) -> None:
    text = "|".join([*hay, *data.draw(st.lists(st.sampled_from(values or ["x"]), max_size=4))])
    needles = Needles.of(Needle("text", one) for one in values)
    found = {needle.value for needle, _ in needles.inside(text.encode())}
    spelled = {
        one: {one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1], html.escape(one)}
        for one in values
    }
    assert found == {
        one
        for one in values
        if len(one.encode()) >= LEAST_TEXT and any(form in text for form in spelled[one] if len(form) >= 8)
    }


def test_places_are_those_of_the_needle_over_blocks() -> None:
    needle = Needle("text", "a text that is long enough to be found")
    data = b"x" * ((1 << 22) - 20) + needle.value.encode() + b"y" * 100
    assert list(Needles.of([needle]).inside(data)) == [(needle, (1 << 22) - 20)]


def test_an_id_is_found_as_a_whole_word_alone() -> None:
    needles = Needles.of([Needle("user", "user-0012")])
    for text, count in (
        ("user-0012", 1),
        ("(user-0012)", 1),
        ("user-00123", 0),
        ("äuser-0012", 0),
        ("xuser-0012", 0),
    ):
        assert len(list(needles.inside(text.encode()))) == count, text


def test_json_and_html_spellings_are_found() -> None:
    value = 'she said "good \u00e4 morning" & left <soon>'
    needles = Needles.of([Needle("text", value)])
    for text in (
        json.dumps({"a": value}),
        json.dumps([value], ensure_ascii=False),
        f"<p>{html.escape(value)}</p>",
    ):
        assert [needle.value for needle, _ in needles.inside(text.encode())] == [value]


def test_short_values_are_only_compared_whole() -> None:
    needles = Needles.of([Needle("text", "thanks"), Needle("user", "u1")])
    assert not list(needles.inside(b"thanks u1"))
    assert set(needles.whole) == {"thanks", "u1"}
