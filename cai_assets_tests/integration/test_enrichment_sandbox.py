"""The enrichment against the sandbox's Dify over HTTP: with faults, with kills, with real conversations."""

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai_assets.commands import checkup_servers
from cai_assets.domain.redaction import redactor_of
from cai_assets.partitions import days_between
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.dify_http import Timeouts
from cai_assets.resources.enrichment import categorise_partitions, detect_languages, translate_partitions
from cai_assets.resources.mongo import MongoStore
from cai_assets.sandbox.config import CATEGORY_KEY, TRANSLATION_LIST_KEY
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.settings import Settings
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.fixtures.enrichment import DAY, conversation, insert, message, stored
from cai_assets_tests.fixtures.platform import SAMPLE_DAYS, PlatformFactory
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


def test_doctor_tells_which_workflow_fits(sandbox: SandboxProcess) -> None:
    listed = settings_of(sandbox, dify_translation_api_key=TRANSLATION_LIST_KEY)
    translation, category = checkup_servers.dify(listed, sandbox=False)
    assert (translation.status, category.status) == ("ok", "ok")
    assert "texts" in translation.text
    swapped = settings_of(
        sandbox, dify_translation_api_key=CATEGORY_KEY, dify_category_api_key=TRANSLATION_LIST_KEY
    )
    translation, category = checkup_servers.dify(swapped, sandbox=False)
    assert (translation.status, category.status) == ("fail", "fail")
    assert "requires transcript, categories, which it will not get" in translation.text
    assert "does not declare transcript, categories" in category.text


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


def read_bcontrast(mongo: MongoStore, number: int | None) -> tuple[list[str], dict[str, str]]:
    """Put real conversations, the first `number` or all, into the documents.

    Returns:
        Their days, and the texts of the messages by message_id.
    """
    folder = shared_data("bcontrast")
    conversations = pq.read_table(folder / "conversations.parquet").to_pylist()[:number]
    days = {one["conversation_id"]: one["started_at"].date().isoformat() for one in conversations}
    messages = [
        one
        for one in pq.read_table(folder / "messages.parquet").to_pylist()
        if one["conversation_id"] in days
    ]
    insert(mongo, "conversations", (conversation(key, day, language="de") for key, day in days.items()))
    insert(
        mongo,
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
    return sorted(set(days.values())), {one["message_id"]: one["text"] for one in messages if one["text"]}


def check_bcontrast(mongo: MongoStore, number: int | None) -> str:
    """Translate and categorise real conversations; what came of it, for people."""
    partitions, texts = read_bcontrast(mongo, number)
    folder = shared_data("bcontrast")
    gold: dict[str, set[str]] = {}
    for one in pq.read_table(folder / "translations_gold.parquet").to_pylist():
        if one["target_language"] == "en":
            gold.setdefault(one["source_text"], set()).add(one["target_text"])
    with SandboxProcess.start(folder) as sandbox:
        settings = settings_of(sandbox)
        languages = detect_languages(mongo, partitions, settings, LOG)
        summary = translate_partitions(mongo, partitions, settings, "r", LOG)
        categories = categorise_partitions(mongo, partitions, settings, "r", LOG)
        paid = sandbox.info()["dify"]["apps"]["translation"]["answers"]["paid"]
    assert summary.metadata()["coverage"] == 1.0
    translated = stored(mongo, "translations")
    distinct = {(one["text_hash"], one["source_language"]) for one in translated}
    # The memory serves exactly the repeated texts.
    repeated = 1 - len(distinct) / len(translated)
    assert (summary.asked, summary.total.cached) == (len(distinct), len(translated) - len(distinct))
    assert paid == len(distinct)
    agreement = languages.agreeing / (languages.agreeing + languages.disagreeing)
    assert agreement > 0.999
    of_gold = [one for one in translated if texts[one["message_id"]] in gold]
    mask = redactor_of(settings).text  # Dify was sent masked texts
    agreeing = sum(
        one["text"] in {mask(known) for known in gold[texts[one["message_id"]]]} for one in of_gold
    )
    assert agreeing / len(of_gold) > 0.99
    assert categories.metadata()["coverage"] == 1.0
    rows = mongo.read_arrow("llm_calls", partitions).to_pylist()
    assert sum(row["tokens"] or 0 for row in rows) == (summary.usage.tokens or 0) + (
        categories.usage.tokens or 0
    )
    return (
        f"{languages.messages} messages on {len(partitions)} days; languages agree with the declared ones in "
        f"{agreement:.2%}; {len(translated)} need a translation, coverage 100 %, memory hit rate "
        f"{summary.total.cached / len(translated):.2%} = share of repeated texts {repeated:.2%}; "
        f"{agreeing / len(of_gold):.2%} of {len(of_gold)} equal a human translation; {paid} texts paid"
    )


def test_real_conversations_are_covered_and_the_memory_saves_the_repeated_texts(
    mongo_store: MongoStore, record_property: Callable[[str, object], None]
) -> None:
    record_property("bcontrast", check_bcontrast(mongo_store, 50))


@pytest.mark.soak
def test_all_real_conversations_are_covered(mongo_store: MongoStore) -> None:
    print(check_bcontrast(mongo_store, None))


def test_each_day_says_how_far_it_is(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    platform = make_platform(six_days_sandbox, dify_budget_tokens=4000)
    layers = "group:raw or group:documents or group:enrichment"
    first = by_day(platform.run(*SAMPLE_DAYS, select=layers))
    assert set(first) == set(days_between(*SAMPLE_DAYS))
    assert {told["complete"] for told in first.values()} == {True, False}
    for told in first.values():
        assert told["done"] + told["left"] == told["needing"]
        assert told["complete"] == (told["left"] == 0)
    # Run after run takes up what is left, and asks nothing twice.
    left = sum(told["left"] for told in first.values())
    while left:
        told = by_day(platform.run(*SAMPLE_DAYS, select="enrichment/translations"))
        assert sum(one["left"] for one in told.values()) < left
        left = sum(one["left"] for one in told.values())
    with platform.mongo() as mongo:
        rows = [row for row in stored(mongo, "llm_calls") if row["purpose"] == "translation"]
        asked = [row["workflow_run_id"] for row in rows if row["status"] == "ok"]
        assert len(asked) == len(set(asked)) == mongo.collection("translation_memory").count_documents({})


def by_day(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """What each day of the translations says of itself."""
    return {
        str(event.partition): {name: one.value for name, one in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key.path == ["enrichment", "translations"]
    }
