"""Translations over a real document server: asked once, kept, replaced when the message changes."""

import logging
import threading
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cai_assets.failures import PermanentError, TransientError
from cai_assets.resources import dify_errors as errors
from cai_assets.resources.enrichment import detect_languages, translate_partitions
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.enrichment import (
    DAY,
    LOG,
    NEXT_DAY,
    FakeDify,
    conversation,
    english,
    insert,
    message,
    put,
    stored,
    translate,
)

TEXTS = {
    "m1": "Wo ist mein Paket geblieben?",
    "m2": "Ich warte schon seit drei Tagen.",
    "m3": "Wo ist mein Paket geblieben?",
}


@pytest.fixture
def three(mongo_store: MongoStore) -> MongoStore:
    """Three German messages, two of them the same, and what needs nothing."""
    put(mongo_store, "conversations", conversation())
    put(mongo_store, "messages", *(message(one, text) for one, text in TEXTS.items()))
    put(
        mongo_store,
        "messages",
        message("m4", "Where has my parcel gone, please?", None),
        message("m5", "12.345,00 €"),
        message("m6", "https://example.org/track?id=1 👍"),
        message("m7", None),
        message("m8", "Das wurde inzwischen wieder gelöscht.", deleted_at="2024-05-05"),
    )
    return mongo_store


def test_every_text_is_asked_once_and_every_message_has_its_translation(three: MongoStore) -> None:
    dify = FakeDify()
    summary = translate(three, dify)
    assert dify.texts == {TEXTS["m1"]: 1, TEXTS["m2"]: 1}
    assert dify.calls[0]["source_language"] == "de"
    assert {one["message_id"]: (one["status"], one["text"]) for one in stored(three, "translations")} == {
        key: ("ok", english(text)) for key, text in TEXTS.items()
    }
    total = summary.total
    assert (total.needing, total.done, total.cached, total.left, summary.asked) == (3, 3, 1, 0, 2)
    assert (summary.usage.tokens, summary.usage.price) == (20, Decimal("0.00002"))


def test_ledger_has_a_row_for_each_call_and_each_message_served(three: MongoStore) -> None:
    translate(three, FakeDify())
    rows = three.read_arrow("llm_calls", [DAY]).to_pylist()
    assert sorted((row["status"], row["tokens"], row["price"], row["attempts"]) for row in rows) == [
        ("cached", None, None, 0),
        ("ok", 10, Decimal("0.00001"), 1),
        ("ok", 10, Decimal("0.00001"), 1),
    ]
    assert {row["purpose"] for row in rows} == {"translation"}


def test_doing_it_again_asks_writes_and_adds_nothing(three: MongoStore) -> None:
    translate(three, FakeDify(), run_id="first")
    before = [list(three.collection(name).find()) for name in ("translations", "llm_calls")]
    dify = FakeDify()
    summary = translate(three, dify, run_id="second")
    assert not dify.calls
    assert summary.total.done == 3
    assert [list(three.collection(name).find()) for name in ("translations", "llm_calls")] == before


def test_memory_serves_other_days_and_later_runs(three: MongoStore) -> None:
    translate(three, FakeDify())
    put(three, "messages", message("m9", TEXTS["m2"], partition=NEXT_DAY, conversation_id="c2"))
    dify = FakeDify()
    for run in ("second", "third"):
        translate(three, dify, DAY, NEXT_DAY, run_id=run)
    assert not dify.calls
    assert three.collection("llm_calls").count_documents({"status": "cached"}) == 2


def versions(mongo: MongoStore) -> dict[str, set[tuple[str, str]]]:
    """Prompt version and status of each message's documents."""
    found: dict[str, set[tuple[str, str]]] = {}
    for one in stored(mongo, "translations"):
        found.setdefault(one["message_id"], set()).add((one["prompt_version"], one["status"]))
    return found


def test_other_prompt_version_is_used_for_what_is_new_and_for_the_rest_where_asked(three: MongoStore) -> None:
    translate(three, FakeDify())
    put(three, "messages", message("m1", "Mein Paket ist jetzt doch angekommen."))
    dify = FakeDify()
    summary = translate(three, dify, dify_prompt_version="2")
    assert dify.texts == {"Mein Paket ist jetzt doch angekommen.": 1}
    assert (summary.total.needing, summary.total.left) == (3, 0)
    assert versions(three) == {"m1": {("2", "ok")}, "m2": {("1", "ok")}, "m3": {("1", "ok")}}
    anew = FakeDify()
    translate(three, anew, dify_prompt_version="2", retranslate=True)
    assert anew.texts == {TEXTS["m2"]: 1, TEXTS["m3"]: 1}
    assert versions(three) == {key: {("2", "ok")} for key in TEXTS}
    back = FakeDify()
    translate(three, back, retranslate=True)
    assert back.texts == {"Mein Paket ist jetzt doch angekommen.": 1}


def test_older_translation_serves_until_the_new_one_is_there(three: MongoStore) -> None:
    def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise errors.WorkflowFailedError("Dify: workflow run failed: boom")

    translate(three, FakeDify())
    failing = FakeDify(answer=refuse)
    summary = translate(three, failing, dify_prompt_version="2", retranslate=True)
    assert (summary.total.failed, summary.total.left) == (3, 3)
    assert versions(three) == {key: {("1", "ok"), ("2", "failed")} for key in TEXTS}
    assert translate(three, FakeDify(), dify_prompt_version="2").total.left == 0
    assert versions(three) == {key: {("1", "ok")} for key in TEXTS}
    assert translate(three, FakeDify(), dify_prompt_version="2", retranslate=True).total.left == 0
    assert versions(three) == {key: {("2", "ok")} for key in TEXTS}


def test_changed_and_deleted_messages_leave_what_a_rebuild_would(three: MongoStore) -> None:
    translate(three, FakeDify())
    put(
        three,
        "messages",
        message("m1", "Mein Paket ist jetzt doch angekommen."),
        message("m2", TEXTS["m2"], deleted_at="2024-05-06"),
        message("m3", TEXTS["m3"], partition=NEXT_DAY),
    )
    translate(three, FakeDify(), DAY, NEXT_DAY)
    refreshed = stored(three, "translations")
    assert [(one["message_id"], one["partition"]) for one in refreshed] == [("m1", DAY), ("m3", NEXT_DAY)]
    three.collection("translations").delete_many({})
    translate(three, FakeDify(), NEXT_DAY, DAY)
    assert stored(three, "translations") == refreshed


def test_message_without_words_of_its_own_takes_the_conversations_language(mongo_store: MongoStore) -> None:
    put(mongo_store, "conversations", conversation(language="fr-CA"))
    put(mongo_store, "messages", message("m1", "Merci", None), message("m2", "Danke", "de"))
    dify = FakeDify()
    translate(mongo_store, dify)
    assert {call["text"]: call["source_language"] for call in dify.calls} == {"Merci": "fr", "Danke": "de"}


def test_without_a_key_texts_are_skipped_and_done_once_there_is_one(three: MongoStore) -> None:
    summary = translate(three, None)
    assert (summary.total.skipped, summary.total.left) == (3, 3)
    rows = stored(three, "translations")
    assert {(one["status"], one["error"]) for one in rows} == {
        ("skipped", "DIFY_TRANSLATION_API_KEY is not set")
    }
    assert translate(three, FakeDify()).total.left == 0
    assert three.read_arrow("translations", [DAY])["status"].to_pylist() == ["ok"] * 3


def test_day_that_is_done_in_part_says_so(three: MongoStore, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        summary = translate(three, None)
    assert "2024-05-03 is done in part: 3 of 3 left" in caplog.text
    assert "3 left" in summary.progress()
    assert summary.by_partition[DAY].metadata() == {
        "needing": 3,
        "done": 0,
        "cached": 0,
        "failed": 0,
        "skipped": 3,
        "left": 3,
        "complete": False,
        "coverage": 0.0,
    }


def test_progress_tells_unknown_usage_apart_from_none(three: MongoStore) -> None:
    summary = translate(three, FakeDify(tokens=None))
    assert summary.metadata()["calls_of_unknown_usage"] == 2
    assert "tokens" not in summary.metadata()
    assert "unknown of 2 calls" in summary.progress()
    rows = three.read_arrow("llm_calls", [DAY]).to_pylist()
    assert {row["tokens"] for row in rows} == {None}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"text": "  "}, "the answer is empty"),
        ({"text": 5}, "the answer's text is int, not text"),
        ({}, "the answer's text is NoneType, not text"),
    ],
)
def test_unusable_answer_is_a_failure_with_its_reason_and_its_cost(
    answer: dict[str, Any], reason: str, three: MongoStore
) -> None:
    summary = translate(three, FakeDify(answer=lambda _: answer))
    assert {(one["status"], one["error"]) for one in stored(three, "translations")} == {("failed", reason)}
    assert (summary.total.failed, summary.usage.tokens) == (3, 20)
    rows = three.read_arrow("llm_calls", [DAY]).to_pylist()
    assert [(row["status"], row["error"], row["tokens"]) for row in rows] == [("failed", reason, 10)] * 2


def test_failed_texts_are_asked_again_by_the_next_run_and_by_no_other(three: MongoStore) -> None:
    def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise errors.WorkflowFailedError("Dify: workflow run failed: boom")

    broken = FakeDify(answer=refuse)
    summary = translate(three, broken)
    assert (len(broken.calls), summary.total.failed) == (2, 3)
    assert translate(three, FakeDify()).total.left == 0
    assert not three.collection("translations").count_documents({"status": "failed"})


def test_wrong_key_ends_the_run_and_keeps_what_was_answered(three: MongoStore) -> None:
    def refuse_second(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if inputs["text"] == TEXTS["m2"]:
            raise errors.AuthenticationError("Dify: 401")
        return {"text": "ok"}

    with pytest.raises(PermanentError, match="401"):
        translate(three, FakeDify(answer=refuse_second), io_threads=1)
    dify = FakeDify()
    assert translate(three, dify).total.done == 3
    assert dify.texts == {TEXTS["m2"]: 1}


def test_dify_that_is_down_ends_the_run_as_transient(mongo_store: MongoStore) -> None:
    def down(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise errors.ConnectionLostError("Dify: no connection")

    insert(
        mongo_store, "messages", (message(f"m{n}", f"Das ist die Nachricht Nummer {n}.") for n in range(50))
    )
    dify = FakeDify(answer=down)
    with pytest.raises(TransientError, match="in a row"):
        translate(mongo_store, dify)
    assert len(dify.calls) < 20


def test_workflow_with_other_inputs_is_refused_before_anything_is_asked(three: MongoStore) -> None:
    dify = FakeDify(inputs=("message", "target_language"))
    with pytest.raises(errors.ConfigurationError, match="does not declare text, source_language"):
        translate(three, dify)
    assert not dify.calls


def test_run_whose_end_was_not_seen_is_looked_for_before_it_is_asked_again(three: MongoStore) -> None:
    def lost(_: Mapping[str, Any]) -> Mapping[str, Any]:
        error = errors.OutcomeUnknownError("Dify: workflow run did not end")
        error.workflow_run_id = "11111111-1111-1111-1111-111111111111"
        raise error

    three.collection("messages").delete_many({"_id": {"$ne": "m1"}})
    assert translate(three, FakeDify(answer=lost)).total.failed == 1
    later = FakeDify()
    assert translate(three, later).total.done == 1
    assert not later.calls
    assert later.waited_for[0][0] == "11111111-1111-1111-1111-111111111111"
    assert stored(three, "translations")[0]["text"] == english("late")


def test_interrupted_run_keeps_its_answers_and_stops_the_others(three: MongoStore) -> None:
    def days() -> Iterator[str]:
        yield DAY
        raise KeyboardInterrupt

    dify = FakeDify(seconds=0.1)
    with pytest.raises(KeyboardInterrupt):
        translate_partitions(three, days(), Settings(io_threads=4), "r", LOG, dify)
    assert dify.cancelled
    assert three.collection("translation_memory").count_documents({}) == 2
    later = FakeDify()
    assert translate(three, later).total.left == 0
    assert not later.calls


def test_thread_that_breaks_ends_the_run_and_says_why(three: MongoStore) -> None:
    def broken(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ZeroDivisionError("of all things")

    with pytest.raises(PermanentError, match="ZeroDivisionError"):
        translate(three, FakeDify(answer=broken))


def test_two_runs_at_once_share_their_answers(mongo_store: MongoStore) -> None:
    texts = [f"Das ist die Nachricht Nummer {number} von heute." for number in range(40)]
    insert(mongo_store, "messages", (message(f"m{n}", text) for n, text in enumerate(texts)))
    insert(
        mongo_store, "messages", (message(f"n{n}", text, partition=NEXT_DAY) for n, text in enumerate(texts))
    )
    dify = FakeDify(seconds=0.01)
    threads = [threading.Thread(target=translate, args=(mongo_store, dify, day)) for day in (DAY, NEXT_DAY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(dify.texts.values()) == {1}
    assert mongo_store.collection("translations").count_documents({"status": "ok"}) == 80


def test_threads_are_kept_busy_within_their_number(mongo_store: MongoStore) -> None:
    insert(
        mongo_store, "messages", (message(f"m{n}", f"Das ist die Nachricht Nummer {n}.") for n in range(60))
    )
    dify = FakeDify(seconds=0.02)
    translate(mongo_store, dify, io_threads=6)
    assert dify.most_at_once == 6
    alone = FakeDify(seconds=0.001)
    translate(mongo_store, alone, io_threads=6, enable_multithreading=False, dify_target_language="fr")
    assert alone.most_at_once == 1


MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([DAY, NEXT_DAY]),
        st.sampled_from(["Guten Morgen, wie geht es?", "Bis morgen dann, danke schön!", "ok", "42"]),
        st.booleans(),
    ),
    max_size=8,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(versions=st.lists(st.tuples(MESSAGES, st.permutations([DAY, NEXT_DAY])), min_size=1, max_size=3))
def test_refreshing_in_any_order_equals_a_rebuild(
    versions: list[tuple[list[tuple[int, str, str, bool]], list[str]]], mongo_store: MongoStore
) -> None:
    for name in ("messages", "translations", "translation_memory", "llm_calls"):
        mongo_store.collection(name).delete_many({})
    for messages, days in versions:
        for number, day, text, deleted in messages:
            when = "2024-05-09" if deleted else None
            put(mongo_store, "messages", message(f"m{number}", text, partition=day, deleted_at=when))
        for day in days:
            detect_languages(mongo_store, [day], Settings(), LOG)
            translate(mongo_store, FakeDify(), day)
    refreshed = stored(mongo_store, "translations")
    mongo_store.collection("translations").delete_many({})
    mongo_store.collection("translation_memory").delete_many({})
    translate(mongo_store, FakeDify(), DAY, NEXT_DAY)
    assert stored(mongo_store, "translations") == refreshed
