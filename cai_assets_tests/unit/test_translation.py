"""Which texts need a translation, and which answers are one."""

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.translation import (
    answer_in,
    has_words,
    listed_texts,
    memory_key,
    needs_translation,
    packed,
    refusal,
    translation_id,
)
from cai_assets_tests.conftest import shared_data


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "  \n",
        "42",
        "12.345,00 €",
        "...!?",
        "👍",
        "https://a.example/b",
        "a@b.example",
        "#NAME#",
        "{id}",
    ],
)
def test_bare_tokens_need_none(text: str | None) -> None:
    assert not has_words(text)


@pytest.mark.parametrize("text", ["ok", "3 Karten", "siehe https://a.example", "你好", "#NAME# bitte"])
def test_words_are_words(text: str) -> None:
    assert has_words(text)


def test_other_languages_and_unknown_ones_need_a_translation() -> None:
    assert needs_translation("Danke", "de", "en-GB")
    assert needs_translation("Danke", "und", "en")
    assert not needs_translation("Thanks", "en", "en-GB")


def test_keys_tell_everything_apart_that_is_asked_differently() -> None:
    keys = {
        memory_key("h", "de", "en", "1"),
        memory_key("h", "de", "en", "2"),
        memory_key("h", "de", "fr", "1"),
        memory_key("h", "nl", "en", "1"),
        memory_key("g", "de", "en", "1"),
        memory_key("h", "d", "een", "1"),
    }
    assert len(keys) == 6
    assert translation_id("m", "en", "1") == "m|en|1"


GERMAN = "Ich warte jetzt schon seit drei Wochen auf meine Bestellung."


@pytest.mark.parametrize(
    ("answer", "target", "reason"),
    [
        # Near languages are taken for each other, and a target may be none that can be told.
        ("Ovo je prijevod onoga što nam je kupac jučer napisao o svojoj narudžbi.", "sr", None),
        ("Ĉi tio estas la traduko de tio, kion la kliento skribis al ni hieraŭ.", "eo", None),
        (GERMAN, "eo", "is in de, not in eo"),
    ],
)
def test_language_of_an_answer_is_judged_where_it_can_be_told(
    answer: str, target: str, reason: str | None
) -> None:
    problem = refusal(GERMAN, answer, "de", target)
    assert (problem is None) if reason is None else (reason in (problem or ""))


@given(st.lists(st.text(max_size=30)), st.integers(1, 5), st.integers(0, 60))
def test_texts_are_packed_in_order_and_within_bounds(texts: list[str], most: int, characters: int) -> None:
    calls = list(packed(texts, most, characters))
    assert [place for places in calls for place in places] == list(range(len(texts)))
    for places in calls:
        assert 1 <= len(places) <= most
        assert len(places) == 1 or len(listed_texts([texts[place] for place in places])) <= characters


@pytest.mark.parametrize(
    ("outputs", "place", "of", "answer"),
    [
        ({"text": "a"}, 0, 1, "a"),
        ({"texts": ["a", "b"]}, 1, 2, "b"),
        ({"texts": '["a", "b"]'}, 0, 2, "a"),
        ({"texts": ["a"]}, 0, 1, "a"),
        ({}, 0, 1, None),
    ],
)
def test_answer_is_found_by_its_place(
    outputs: dict[str, object], place: int, of: int, answer: object
) -> None:
    assert answer_in(outputs, place, of) == answer


@pytest.mark.parametrize(
    "outputs", [{"text": "a"}, {"texts": ["a"]}, {"texts": ["a", "b", "c"]}, {"texts": "a, b"}, {"texts": 5}]
)
def test_answers_that_cannot_be_told_apart_are_none(outputs: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="the answer"):
        answer_in(outputs, 0, 2)


@pytest.mark.parametrize(
    ("text", "answer", "reason"),
    [
        ("Hallo", "Hello", None),
        ("Hallo", None, "NoneType, not text"),
        ("Hallo", "", "empty"),
        ("Hallo", "\ud800", "lone surrogate"),
        ("Hallo", "x" * 300, "300 characters long"),
        ("Bestellung 123456", "order 123456", None),
        ("Bestellung 123456", "order 12345", "1 of the text's numbers"),
        ("Am 24.12.2024", "On 12/24/2024", None),
        ("1.234,56 Euro", "1,234.56 euros", None),
        ("Telefon 030 123 4567", "Phone 0301234567", None),
        ("um 21:00 Uhr", "at 9:00 p.m.", None),
        ("zwei von 3", "two of three", None),
        ("Hallo {name}, %s", "Hello {name}, %s", None),
        ("Hallo {name}", "Hello name", "1 of the text's placeholders"),
        ("Hallo #NAME#", "Hello", "1 of the text's placeholders"),
        ("Wort " * 200, "Words.", "only 6 characters long"),
        (GERMAN, GERMAN, "is in de, not in en"),
        (GERMAN, "Voici la traduction de ce que le client nous a écrit hier.", "is in fr, not in en"),
        (GERMAN, "I have been waiting for my order for three weeks now.", None),
        ("Frappuccino Grande", "Frappuccino Grande", None),
    ],
)
def test_answers_are_judged(text: str, answer: object, reason: str | None) -> None:
    problem = refusal(text, answer, "de", "en")
    assert (problem is None) if reason is None else (reason in (problem or ""))


@given(st.text(), st.text())
def test_reason_repeats_neither_text(text: str, answer: str) -> None:
    problem = refusal("Geheimnis" + text, answer + "Vertraulich" * 200, "de", "en")
    assert problem is None or ("Geheimnis" not in problem and "Vertraulich" not in problem)


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip))
def test_text_itself_is_always_an_answer(text: str) -> None:
    # Where the languages are near, or the target is none that can be told, a text may stay as it is.
    assert refusal(text, text, "und", "eo") is None


def test_human_translations_are_never_refused() -> None:
    rows = pq.read_table(shared_data("bcontrast") / "translations_gold.parquet").to_pylist()
    judged = [
        refusal(row["source_text"], row["target_text"], row["source_language"], row["target_language"])
        for row in rows
        if has_words(row["source_text"])
    ]
    assert len(judged) > 17_000
    assert set(judged) == {None}
