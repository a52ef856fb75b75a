"""Several texts a call, where the workflow declares that it takes a list."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from cai_assets.resources import dify_errors as errors
from cai_assets.resources.mongo import MongoStore
from cai_assets_tests.fixtures.enrichment import (
    DAY,
    FakeDify,
    answered,
    english,
    insert,
    message,
    put,
    stored,
    translate,
)

LISTED = ("texts", "source_language", "target_language")


def test_workflow_that_takes_a_list_gets_several_texts_a_call(mongo_store: MongoStore) -> None:
    texts = [f"Das ist die Nachricht Nummer {number} von heute." for number in range(50)]
    insert(mongo_store, "messages", (message(f"m{n}", text) for n, text in enumerate(texts)))
    put(mongo_store, "messages", message("f1", "Où est passée ma commande de hier ?", "fr"))
    dify = FakeDify(inputs=LISTED)
    summary = translate(mongo_store, dify, io_threads=2, dify_texts_per_call=7)
    asked = [json.loads(call["texts"]) for call in dify.calls]
    assert sorted(text for several in asked for text in several) == sorted(
        [*texts, "Où est passée ma commande de hier ?"]
    )
    assert max(map(len, asked)) == 7
    assert len(asked) <= 11
    assert {call["source_language"] for call in dify.calls if len(json.loads(call["texts"])) > 1} == {"de"}
    assert summary.total.left == 0
    assert {one["text"] for one in stored(mongo_store, "translations") if one["source_language"] == "de"} == {
        english(text) for text in texts
    }
    # A row for each text, whose parts add up to what the calls used.
    rows = mongo_store.read_arrow("llm_calls", [DAY]).to_pylist()
    assert len(rows) == 51
    assert sum(row["tokens"] for row in rows) == summary.usage.tokens == 10 * len(dify.calls)
    assert sum(row["price"] for row in rows) == summary.usage.price
    assert sum(row["attempts"] for row in rows) == summary.asked == len(dify.calls)
    assert {row["message_id"] for row in rows} == {f"m{n}" for n in range(50)} | {"f1"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answers: answers[:-1],
        lambda answers: [*answers, "one more"],
        lambda answers: "no list",
        lambda answers: None,
    ],
)
def test_list_of_another_length_is_asked_for_one_by_one(spoil: Any, mongo_store: MongoStore) -> None:
    def careless(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        answers = answered(inputs)["texts"]
        return {"texts": spoil(answers) if len(answers) > 1 else answers}

    texts = [f"Das ist die Nachricht Nummer {number} von heute." for number in range(9)]
    insert(mongo_store, "messages", (message(f"m{n}", text) for n, text in enumerate(texts)))
    dify = FakeDify(inputs=LISTED, answer=careless)
    summary = translate(mongo_store, dify)
    assert (summary.total.left, len(dify.calls)) == (0, 10)
    rows = mongo_store.read_arrow("llm_calls", [DAY]).to_pylist()
    assert Counter(row["status"] for row in rows) == {"failed": 9, "ok": 9}
    assert sum(row["tokens"] for row in rows) == 100


def test_one_text_of_a_list_may_fail_alone(mongo_store: MongoStore) -> None:
    def refuse_one(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        texts = json.loads(inputs["texts"])
        if any("giftig" in text for text in texts):
            raise errors.WorkflowFailedError("Dify: workflow run failed: content filter")
        answers = [english(text) for text in texts]
        return {
            "texts": ["" if "leer" in text else answer for text, answer in zip(texts, answers, strict=True)]
        }

    texts = ["Das ist ganz normal so.", "Das ist giftig für alle.", "Das hier bleibt leer.", "Noch ein Text."]
    insert(mongo_store, "messages", (message(f"m{n}", text) for n, text in enumerate(texts)))
    summary = translate(mongo_store, FakeDify(inputs=LISTED, answer=refuse_one))
    assert (summary.total.done, summary.total.failed) == (2, 2)
    reasons = {one["message_id"]: one["error"] for one in stored(mongo_store, "translations")}
    assert reasons["m0"] is reasons["m3"] is None
    assert "content filter" in str(reasons["m1"])
    assert reasons["m2"] == "the answer is empty"


def test_long_texts_go_alone_and_within_the_form(mongo_store: MongoStore) -> None:
    long = "Das ist ein sehr langer Text. " * 250
    insert(
        mongo_store,
        "messages",
        [message("m1", long), message("m2", "Kurz und gut."), message("m3", "Noch was.")],
    )
    dify = FakeDify(inputs=LISTED)
    translate(mongo_store, dify)
    assert sorted(len(json.loads(call["texts"])) for call in dify.calls) == [1, 2]
