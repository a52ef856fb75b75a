"""Categories over a real document server: asked when something changed, by rule without Dify."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from click.testing import CliRunner

from cai_assets.cli import main
from cai_assets.domain.categories import Taxonomy, load_taxonomy
from cai_assets.failures import PermanentError
from cai_assets.resources import dify_errors as errors
from cai_assets.resources.enrichment import categorise_partitions, decide_by_person, translate_partitions
from cai_assets.resources.enrichment_categories import Categories
from cai_assets.resources.enrichment_summary import EnrichmentSummary
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.enrichment import DAY, FakeDify, conversation, message, put, stored

LOG = logging.getLogger("test")
NEXT_DAY = "2024-05-04"
FIRST = load_taxonomy().names[0]


def categorise(
    mongo: MongoStore, client: FakeDify | None, *days: str, run_id: str = "r", **options: Any
) -> EnrichmentSummary:
    options = {"io_threads": 4} | options
    return categorise_partitions(mongo, days or (DAY,), Settings(**options), run_id, LOG, client)


def decided(mongo: MongoStore) -> dict[str, tuple[str, str, str | None]]:
    rows = mongo.read_arrow("categories", [DAY, NEXT_DAY]).to_pylist()
    return {row["conversation_id"]: (row["category"], row["source"], row["error"]) for row in rows}


@pytest.fixture
def two(mongo_store: MongoStore) -> MongoStore:
    """A conversation about an invoice, with a translation and a private note; and an empty one."""
    put(mongo_store, "conversations", conversation("c1"), conversation("c2"))
    put(
        mongo_store,
        "messages",
        message("m2", "Which invoice do you mean?", "en", sender_type="agent"),
        message("m1", "Meine Rechnung stimmt nicht.", "de"),
        message("m3", "He calls every week about his refund.", "en", sender_type="agent", private=True),
        message("m4", "conversation was assigned", "en", sender_type="system"),
    )
    translate_partitions(
        mongo_store,
        [DAY],
        Settings(io_threads=1),
        "r",
        LOG,
        FakeDify(answer=lambda _: {"text": "My invoice is wrong."}),
    )
    return mongo_store


def test_transcript_is_in_order_translated_and_without_private_notes(two: MongoStore) -> None:
    dify = FakeDify()
    summary = categorise(two, dify)
    assert [call["transcript"] for call in dify.calls] == [
        "user: My invoice is wrong.\nstaff: Which invoice do you mean?"
    ]
    assert json.loads(dify.calls[0]["categories"]) == list(load_taxonomy().names)
    assert decided(two) == {"c1": (FIRST, "llm", None), "c2": ("unknown", "rule", None)}
    assert (summary.total.needing, summary.total.done, summary.asked) == (2, 2, 1)
    row = two.read_arrow("llm_calls", [DAY]).filter(pc.field("purpose") == "category")
    assert row.select(["conversation_id", "message_id", "tokens", "status"]).to_pylist() == [
        {"conversation_id": "c1", "message_id": None, "tokens": 10, "status": "ok"}
    ]


def test_asked_again_only_when_what_is_asked_changed(two: MongoStore) -> None:
    categorise(two, FakeDify())
    before = list(two.collection("categories").find())
    same = FakeDify()
    categorise(two, same, run_id="second")
    assert not same.calls
    assert list(two.collection("categories").find()) == before
    put(two, "messages", message("m5", "It is the one of May.", "en"))
    changed = FakeDify()
    categorise(two, changed)
    assert len(changed.calls) == 1
    version = FakeDify()
    categorise(two, version, dify_prompt_version="2")
    assert len(version.calls) == 1


def test_words_decide_without_a_key_and_the_workflow_once_there_is_one(two: MongoStore) -> None:
    summary = categorise(two, None)
    assert decided(two)["c1"] == ("billing", "rule", "DIFY_CATEGORY_API_KEY is not set")
    assert (summary.total.skipped, summary.total.left) == (1, 1)
    categorise(two, FakeDify())
    assert decided(two)["c1"] == (FIRST, "llm", None)


@pytest.mark.parametrize("answer", [{"category": "nonsense"}, {"category": None}, {}])
def test_answer_outside_the_taxonomy_is_a_failure_and_words_decide(
    answer: dict[str, Any], two: MongoStore
) -> None:
    summary = categorise(two, FakeDify(answer=lambda _: answer))
    category, source, error = decided(two)["c1"]
    assert (category, source) == ("billing", "rule")
    assert error is not None
    assert "categor" in error
    assert (summary.total.failed, summary.usage.tokens) == (1, 10)


def test_failing_workflow_changes_nothing_the_second_time(two: MongoStore) -> None:
    def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise errors.WorkflowFailedError("Dify: boom")

    categorise(two, FakeDify(answer=refuse))
    before = list(two.collection("categories").find())
    categorise(two, FakeDify(answer=refuse), run_id="second")
    assert list(two.collection("categories").find()) == before


def test_persons_decision_stays(two: MongoStore) -> None:
    decide_by_person(two, Settings(), "c1", "Refund", "anna")
    dify = FakeDify()
    categorise(two, dify)
    put(two, "messages", message("m5", "And now about my parcel.", "en"))
    categorise(two, dify, dify_prompt_version="2")
    assert not dify.calls
    assert decided(two)["c1"] == ("refund", "human", None)
    with pytest.raises(PermanentError, match="is no category"):
        decide_by_person(two, Settings(), "c1", "nonsense", "anna")
    with pytest.raises(PermanentError, match="no conversation"):
        decide_by_person(two, Settings(), "c9", "refund", "anna")


def test_person_decides_on_the_command_line(
    two: MongoStore, mongo_uri: str, mongo_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"MONGODB_URI": mongo_uri, "MONGODB_DATABASE": mongo_database, "SOURCE": "files"}
    for name, value in {**own, "SOURCE_DIR": str(tmp_path), "CAI_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(main, ["categorise", "c1", "refund", "--by", "anna"])
    assert result.exit_code == 0, result.output
    assert f"cai backfill --from {DAY} --to {DAY}" in result.output
    assert decided(two)["c1"] == ("refund", "human", None)
    assert stored_by(two, "c1") == "anna"
    wrong = CliRunner().invoke(main, ["categorise", "c1", "nonsense"])
    assert wrong.exit_code == 1
    assert "is no category" in wrong.output


def stored_by(mongo: MongoStore, conversation_id: str) -> str:
    return str(mongo.collection("categories").find_one({"conversation_id": conversation_id})["decided_by"])


def test_persons_decision_outlives_the_taxonomy_as_long_as_its_category_does(two: MongoStore) -> None:
    decide_by_person(two, Settings(), "c1", "refund", "anna")
    taxonomy = load_taxonomy()
    newer = replace(taxonomy, version="99")
    dify = FakeDify()
    options = {"run_id": "r", "log": LOG, "client": dify}
    Categories(two, Settings(), taxonomy=newer, **options).run([DAY])
    assert not dify.calls
    documents = {one["_id"]: one for one in stored(two, "categories")}
    assert (documents["c1|99"]["source"], documents["c1|99"]["category"]) == ("human", "refund")
    without = Taxonomy("100", tuple(one for one in taxonomy.categories if one.name != "refund"))
    Categories(two, Settings(), taxonomy=without, **options).run([DAY])
    assert len(dify.calls) == 1
    documents = {one["_id"]: one for one in stored(two, "categories")}
    assert documents["c1|100"]["source"] == "llm"
    assert documents["c1|99"]["source"] == "human"


def test_person_who_decides_while_the_workflow_thinks_is_not_overruled(two: MongoStore) -> None:
    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        decide_by_person(two, Settings(), "c1", "refund", "anna")
        return {"category": FIRST, "confidence": 1}

    categorise(two, FakeDify(answer=slow))
    assert decided(two)["c1"] == ("refund", "human", None)


def test_deleted_and_moved_conversations_leave_what_a_rebuild_would(two: MongoStore) -> None:
    decide_by_person(two, Settings(), "c2", "refund", "anna")
    categorise(two, FakeDify())
    put(two, "conversations", conversation("c1", deleted_at="2024-05-09"), conversation("c2", NEXT_DAY))
    categorise(two, FakeDify(), DAY)
    assert decided(two) == {}
    categorise(two, FakeDify(), NEXT_DAY)
    assert decided(two) == {"c2": ("refund", "human", None)}
    put(two, "conversations", conversation("c1"))
    categorise(two, FakeDify(), DAY)
    refreshed = stored(two, "categories")
    two.collection("categories").delete_many({"source": {"$ne": "human"}})
    categorise(two, FakeDify(), NEXT_DAY, DAY)
    assert stored(two, "categories") == refreshed


def test_budget_counts_what_the_run_spent_on_translations(two: MongoStore) -> None:
    # The translation of the fixture used 10 tokens in this run; the transcript needs more than what is left.
    summary = categorise(two, FakeDify(), dify_budget_tokens=12)
    assert (summary.total.skipped, summary.asked) == (1, 0)
    assert decided(two)["c1"] == ("billing", "rule", "budget reached: DIFY_BUDGET_TOKENS=12")
