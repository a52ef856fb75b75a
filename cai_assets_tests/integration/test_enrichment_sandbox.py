"""The enrichment against the sandbox's Dify over HTTP: with faults, with kills, with real conversations."""

import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai_assets.resources.dify import DifyClient
from cai_assets.resources.dify_http import Timeouts
from cai_assets.resources.enrichment import categorise_partitions, detect_languages, translate_partitions
from cai_assets.resources.mongo import MongoStore
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.settings import Settings
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.fixtures.enrichment import DAY, conversation, insert, message, stored, text_hash
from cai_assets_tests.fixtures.sandbox import write_small_folder

LOG = logging.getLogger("test")
# Different words, so that each is a text of its own to translate.
TEXTS = [f"Ich warte seit {number} Wochen auf meine Bestellung." for number in range(2, 82)]


def environment(sandbox: SandboxProcess) -> dict[str, str]:
    return {name: value for name, value in sandbox.environment().items() if name.startswith("DIFY_")}


def settings_of(sandbox: SandboxProcess, **options: Any) -> Settings:
    named = {name.lower(): value for name, value in environment(sandbox).items()}
    return Settings(**({"io_threads": 6, "max_retries": 4, "retry_delay": 0.01} | named | options))


def client_of(sandbox: SandboxProcess, settings: Settings) -> DifyClient:
    assert settings.dify_base_url is not None
    assert settings.dify_translation_api_key is not None
    return DifyClient(
        settings.dify_base_url,
        settings.dify_translation_api_key,
        response_mode=settings.dify_response_mode,
        timeouts=Timeouts(queue=3, idle=3, total=10, grace=0.3, stopped=1, poll=0.05),
        max_retries=settings.max_retries,
        retry_delay=settings.retry_delay,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sandbox's data in which each of `TEXTS` has its translation."""
    made = write_small_folder(tmp_path_factory.mktemp("parallel"), conversations=2)
    parallel = {
        "message_id": [f"m{number}" for number in range(len(TEXTS))],
        "source_language": ["de"] * len(TEXTS),
        "target_language": ["en"] * len(TEXTS),
        "source_text": TEXTS,
        "target_text": [f"I have been waiting for my order for {n + 2} weeks." for n in range(len(TEXTS))],
        "kind": ["human"] * len(TEXTS),
    }
    pq.write_table(pa.table(parallel), made / "translations_gold.parquet")
    return made


@pytest.fixture(scope="module")
def _sandbox(folder: Path) -> Iterator[SandboxProcess]:
    with SandboxProcess.start(folder, latency=0.02, hang_seconds=1) as running:
        yield running


@pytest.fixture
def sandbox(_sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    """A sandbox that answers after 20 ms; without faults before and after."""
    _sandbox.faults()
    yield _sandbox
    _sandbox.faults()


@pytest.fixture
def waiting(mongo_store: MongoStore) -> MongoStore:
    """One day of German messages."""
    insert(mongo_store, "conversations", [conversation()])
    told = {"language_detected": "de", "language_confidence": 1.0}
    insert(mongo_store, "messages", (message(f"m{n}", text, **told) for n, text in enumerate(TEXTS)))
    return mongo_store


@pytest.mark.parametrize("mode", ["streaming", "blocking"])
def test_both_modes_give_the_same_and_account_for_every_token(
    mode: str, waiting: MongoStore, sandbox: SandboxProcess
) -> None:
    settings = settings_of(sandbox, dify_response_mode=mode)
    summary = translate_partitions(waiting, [DAY], settings, "r", LOG)
    assert (summary.total.done, summary.asked, summary.unknown_usage) == (len(TEXTS), len(TEXTS), 0)
    rows = waiting.read_arrow("llm_calls", [DAY]).to_pylist()
    with client_of(sandbox, settings) as client:
        for row in random.Random(1).sample(rows, 5):
            state = client.run_detail(row["workflow_run_id"])
            assert (state.usage.tokens, state.status) == (row["tokens"], "succeeded")
    assert summary.usage.price == sum(row["price"] for row in rows)


FAULTS = ["too_many", "cut_before", "cut_after", "cut_late", "stopped", "failed", "duplicate_events"]


@pytest.mark.parametrize("mode", ["streaming", "blocking"])
def test_with_faults_every_text_ends_and_is_paid_once_unless_the_server_hid_it(
    mode: str, waiting: MongoStore, sandbox: SandboxProcess
) -> None:
    kinds = FAULTS if mode == "streaming" else ["too_many", "stopped", "failed"]
    rules = [{"service": "dify", "kind": kind, "probability": 0.06} for kind in kinds]
    rules.append({"service": "dify", "kind": "status", "code": 504, "probability": 0.03})
    sandbox.faults(*rules, seed=5)
    settings = settings_of(sandbox, dify_response_mode=mode)
    with client_of(sandbox, settings) as client:
        summary = translate_partitions(waiting, [DAY], settings, "r", LOG, client)
        sandbox.faults()
        translate_partitions(waiting, [DAY], settings, "r", LOG, client)
    assert summary.total.needing == len(TEXTS)
    translations = stored(waiting, "translations")
    assert {one["status"] for one in translations} == {"ok"}
    assert len(translations) == len(TEXTS)
    ledger = Counter(row["status"] for row in stored(waiting, "llm_calls"))
    # Each text has exactly one answered run; the others in the ledger are runs that Dify itself let fail.
    assert ledger["ok"] == len(TEXTS)
    runs = [row["workflow_run_id"] for row in stored(waiting, "llm_calls") if row["workflow_run_id"]]
    assert len(runs) == len(set(runs))


def test_unreachable_dify_is_told_clearly(waiting: MongoStore, sandbox: SandboxProcess) -> None:
    settings = settings_of(sandbox, dify_base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(Exception, match="is DIFY_BASE_URL right, and is Dify started") as caught:
        translate_partitions(waiting, [DAY], settings, "r", LOG)
    assert type(caught.value).__name__ == "ConnectionLostError"
    wrong = settings_of(sandbox, dify_translation_api_key="app-wrong")
    with pytest.raises(Exception, match="check the DIFY_") as refused:
        translate_partitions(waiting, [DAY], wrong, "r", LOG)
    assert "app-wrong" not in str(refused.value)


def test_real_conversations_are_covered_and_the_memory_saves_the_repeated_texts(
    mongo_store: MongoStore,
) -> None:
    folder = shared_data("bcontrast")
    conversations = pq.read_table(folder / "conversations.parquet").slice(0, 50).to_pylist()
    days = {one["conversation_id"]: one["started_at"].date().isoformat() for one in conversations}
    messages = [
        one
        for one in pq.read_table(folder / "messages.parquet").to_pylist()
        if one["conversation_id"] in days
    ]
    insert(mongo_store, "conversations", (conversation(key, day, language="de") for key, day in days.items()))
    insert(
        mongo_store,
        "messages",
        (
            message(one["message_id"], one["text"], one["language"])
            | {
                "conversation_id": one["conversation_id"],
                "partition": days[one["conversation_id"]],
                "sender_type": one["sender_type"],
                "created_us": round(one["created_at"].timestamp() * 1e6),
            }
            for one in messages
        ),
    )
    gold = {
        one["source_text"]: one["target_text"]
        for one in pq.read_table(folder / "translations_gold.parquet").to_pylist()
        if one["target_language"] == "en"
    }
    partitions = sorted(set(days.values()))
    with SandboxProcess.start(folder) as sandbox:
        settings = settings_of(sandbox)
        languages = detect_languages(mongo_store, partitions, settings, LOG)
        summary = translate_partitions(mongo_store, partitions, settings, "r", LOG)
        categories = categorise_partitions(mongo_store, partitions, settings, "r", LOG)
    assert languages.agreeing / (languages.agreeing + languages.disagreeing) > 0.999
    assert summary.metadata()["coverage"] == 1.0
    translated = stored(mongo_store, "translations")
    distinct = {(one["text_hash"], one["source_language"]) for one in translated}
    assert (summary.asked, summary.total.cached) == (len(distinct), len(translated) - len(distinct))
    texts = {text_hash(one["text"]): one["text"] for one in messages if one["text"]}
    agreeing = sum(one["text"] == gold.get(texts[one["text_hash"]]) for one in translated)
    assert agreeing / len(translated) > 0.95
    assert categories.total.done == len(conversations)
