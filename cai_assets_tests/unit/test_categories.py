"""The taxonomy, transcripts, and what counts as a category."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.categories import (
    TRANSCRIPT_CHARACTERS,
    Decision,
    Line,
    decide,
    decide_by_rule,
    input_hash,
    load_taxonomy,
    parse_taxonomy,
    transcript,
)

TAXONOMY = load_taxonomy()
LINES = st.lists(
    st.builds(Line, st.sampled_from(["user", "agent", "bot", "system"]), st.text(max_size=900)), max_size=40
)


def test_taxonomy_of_the_package_has_a_version_and_distinct_names() -> None:
    assert TAXONOMY.version
    assert len(set(TAXONOMY.names)) == len(TAXONOMY.names) > 10


@pytest.mark.parametrize(
    "names", [[], ["a", "a"], ["unknown"]], ids=["no category", "a name twice", "the name that is taken"]
)
def test_taxonomy_that_cannot_work_is_refused(names: list[str]) -> None:
    categories = [{"name": name, "description": "", "keywords": []} for name in names]
    with pytest.raises(ValueError, match="taxonomy"):
        parse_taxonomy(json.dumps({"version": "1", "categories": categories}))


def test_transcript_names_sides_and_leaves_out_the_system() -> None:
    lines = [Line("user", " Hi\nthere "), Line("system", "x"), Line("bot", "Hello"), Line("agent", "  ")]
    assert transcript(lines) == "user: Hi there\nstaff: Hello"


@given(LINES)
def test_transcript_keeps_its_bound_and_its_ends(lines: list[Line]) -> None:
    made = transcript(lines)
    assert len(made) <= TRANSCRIPT_CHARACTERS
    said = [" ".join(line.text.split()) for line in lines if line.sender_type != "system"]
    said = [text for text in said if text]
    if said and len(said[0]) < 600:
        assert made.split("\n")[0].endswith(said[0])


def test_long_transcript_loses_its_middle() -> None:
    made = transcript([Line("user", f"message number {n} " + "x" * 80) for n in range(200)])
    assert "message number 0 " in made
    assert "[...]" in made
    assert "message number 199 " in made


def test_hash_changes_with_all_that_is_asked() -> None:
    other = parse_taxonomy(
        json.dumps({"version": "2", "categories": [{"name": "a", "description": "", "keywords": []}]})
    )
    hashes = {
        input_hash("t", TAXONOMY, "1"),
        input_hash("u", TAXONOMY, "1"),
        input_hash("t", TAXONOMY, "2"),
        input_hash("t", other, "1"),
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("category", "confidence", "decision"),
    [
        (" Billing ", 0.7, Decision("billing", 0.7)),
        ("billing", "0.5", Decision("billing", 0.5)),
        ("billing", 7, Decision("billing", None)),
        ("billing", True, Decision("billing", None)),
        ("billing", float("nan"), Decision("billing", None)),
        ("unknown", None, Decision("unknown", None)),
    ],
)
def test_answers_of_the_taxonomy_are_decisions(category: str, confidence: object, decision: Decision) -> None:
    assert decide(category, confidence, TAXONOMY) == decision


@pytest.mark.parametrize("category", [None, 3, "", "my private words"])
def test_other_answers_are_reasons_that_quote_nothing(category: object) -> None:
    reason = decide(category, 1, TAXONOMY)
    assert isinstance(reason, str)
    assert "private" not in reason


def test_words_decide_and_are_never_sure() -> None:
    assert (
        decide_by_rule("user: my invoice was charged twice, the payment is wrong", TAXONOMY).category
        == "billing"
    )
    assert decide_by_rule("user: Meine Rechnung ist falsch", TAXONOMY).category == "billing"
    assert decide_by_rule("user: hm", TAXONOMY) == Decision("unknown", None)
    assert (decide_by_rule("user: invoice", TAXONOMY).confidence or 0) <= 0.5
