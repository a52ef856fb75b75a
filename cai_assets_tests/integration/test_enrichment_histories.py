"""Random histories of an unreliable Dify: whatever breaks, every text ends, once stored and once paid."""

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cai_assets.failures import TransientError
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.dify_http import Timeouts
from cai_assets.resources.enrichment import translate_partitions
from cai_assets.resources.mongo import MongoStore
from cai_assets.sandbox.config import TRANSLATION_KEY, TRANSLATION_LIST_KEY
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.enrichment import DAY, LOG, NEXT_DAY, insert, message, stored
from cai_assets_tests.fixtures.sandbox import write_small_folder

DAYS = (DAY, NEXT_DAY)
GOLD = {
    f"Ich warte seit {number} Wochen auf mein Paket.": f"I have been waiting {number} weeks for my parcel."
    for number in range(2, 16)
}
# Each text twice on one day and once on another, so that two runs want the same.
MESSAGES = [(day, text) for text in GOLD for day in (DAY, DAY, NEXT_DAY)]
TIMES = Timeouts(queue=0.8, idle=0.8, total=2.5, grace=0.3, stopped=1.0, poll=0.03)
KINDS = (
    *("cut_before", "cut_after", "cut_late", "gateway", "too_many", "failed", "stopped", "paused"),
    *("hang", "duplicate_events", "status", "silence", "cut", "slow"),
)
# What all histories of this process came to, for people.
TALLY: Counter[str] = Counter()
APPS = {TRANSLATION_KEY: "translation", TRANSLATION_LIST_KEY: "translation_list"}


@dataclass(frozen=True)
class Step:
    """One run over the days, and what breaks meanwhile.

    Attributes:
        faults: kind and probability of each.
        mode: of the answers.
        runs: runs at once.
        restart: seconds from the start until Dify restarts, if it does.
        down: how long it is away then.
        interrupted: seconds from the start until the run is broken off, if it is.
        seed: of the faults.
    """

    faults: tuple[tuple[str, float], ...]
    mode: Literal["streaming", "blocking"]
    runs: int
    restart: float | None
    down: float
    interrupted: float | None
    seed: int


STEPS = st.builds(
    Step,
    faults=st.lists(
        st.tuples(st.sampled_from(KINDS), st.sampled_from([0.05, 0.15, 0.4])),
        min_size=1,
        max_size=5,
        unique_by=lambda f: f[0],
    ).map(tuple),
    mode=st.sampled_from(["streaming", "streaming", "blocking"]),
    runs=st.sampled_from([1, 1, 2]),
    restart=st.none() | st.floats(0.02, 0.4),
    down=st.sampled_from([0.0, 0.1, 0.5]),
    interrupted=st.none() | st.none() | st.floats(0.02, 0.4),
    seed=st.integers(0, 10**6),
)
# One text a call, or several: a workflow stays the same, as another one knows nothing of its runs.
KEYS = st.sampled_from([TRANSLATION_KEY, TRANSLATION_KEY, TRANSLATION_LIST_KEY])


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """A Dify of three workers, so that streams queue, and of at most eight runs at once."""
    folder = write_small_folder(tmp_path_factory.mktemp("histories"), conversations=2)
    parallel = {
        "message_id": [f"m{number}" for number in range(len(GOLD))],
        "source_language": ["de"] * len(GOLD),
        "target_language": ["en"] * len(GOLD),
        "source_text": list(GOLD),
        "target_text": list(GOLD.values()),
        "kind": ["human"] * len(GOLD),
    }
    pq.write_table(pa.table(parallel), folder / "translations_gold.parquet")
    with SandboxProcess.start(
        folder, latency=0.03, workers=3, concurrency_limit=8, hang_seconds=0.5, ping_seconds=0.2
    ) as running:
        yield running
    print(f"histories: {dict(TALLY)}")


def client_of(sandbox: SandboxProcess, key: str, mode: Literal["streaming", "blocking"]) -> DifyClient:
    options = settings_of(sandbox, key, mode)
    assert options.dify_base_url is not None
    assert options.dify_translation_api_key is not None
    return DifyClient(
        options.dify_base_url,
        options.dify_translation_api_key,
        response_mode=mode,
        timeouts=TIMES,
        max_retries=2,
        retry_delay=0.01,
    )


def settings_of(sandbox: SandboxProcess, key: str, mode: str) -> Settings:
    return Settings(
        dify_base_url=sandbox.environment()["DIFY_BASE_URL"],
        dify_translation_api_key=key,
        dify_response_mode=mode,
        dify_texts_per_call=4,
        io_threads=6,
        max_retries=2,
        retry_delay=0.01,
    )


def counts(sandbox: SandboxProcess) -> Counter[str]:
    """Runs of both translation workflows by how they ended, and texts paid for; waits until none runs."""
    until = time.monotonic() + 30
    while True:
        apps = sandbox.info()["dify"]["apps"]
        if not any(apps[name]["under_way"] for name in APPS.values()):
            found: Counter[str] = Counter()
            for name in APPS.values():
                found.update(apps[name]["runs"])
                found.update(apps[name]["answers"])
            return found
        assert time.monotonic() < until, "the sandbox's runs do not end"
        time.sleep(0.02)


def run(mongo: MongoStore, sandbox: SandboxProcess, key: str, step: Step, days: Sequence[str]) -> None:
    """One run over the days; Dify may be found to be down, and the run may be broken off."""

    def partitions() -> Iterator[str]:
        yield from days
        if step.interrupted is not None:
            time.sleep(step.interrupted)
            raise KeyboardInterrupt

    options = settings_of(sandbox, key, step.mode)
    with client_of(sandbox, key, step.mode) as client, suppress(TransientError, KeyboardInterrupt):
        translate_partitions(mongo, partitions(), options, uuid.uuid4().hex, LOG, client)


def play(mongo: MongoStore, sandbox: SandboxProcess, key: str, step: Step) -> None:
    """All runs of a step, at once, with what breaks."""
    rules: list[dict[str, Any]] = [
        {"service": "dify", "kind": kind, "probability": share, "seconds": 0.3, "code": 504}
        | ({"path": "/workflows/run"} if kind == "silence" else {})
        for kind, share in step.faults
    ]
    sandbox.faults(*rules, seed=step.seed)
    orders = itertools.islice(itertools.cycle([DAYS, DAYS[::-1]]), step.runs)
    threads = [threading.Thread(target=run, args=(mongo, sandbox, key, step, days)) for days in orders]
    for thread in threads:
        thread.start()
    if step.restart is not None:
        time.sleep(step.restart)
        sandbox.restart_dify(step.down)
    for thread in threads:
        thread.join()
    time.sleep(step.down if step.restart is not None else 0)
    sandbox.faults()


def check_stored(mongo: MongoStore) -> None:
    """What is stored is whole and there once, at any time."""
    translations = stored(mongo, "translations")
    assert len({one["message_id"] for one in translations}) == len(translations)
    texts = {one["_id"]: one["text"] for one in mongo.collection("messages").find()}
    for one in translations:
        if one["status"] == "ok":
            assert one["text"] == GOLD[texts[one["message_id"]]]
        else:
            assert (one["status"], one["text"]) == ("failed", None)
            assert one["error"]
    memory = stored(mongo, "translation_memory")
    assert len({one["text_hash"] for one in memory}) == len(memory)
    runs = [
        row["_id"] for row in stored(mongo, "llm_calls") if row["workflow_run_id"] and row["status"] == "ok"
    ]
    assert len(set(runs)) == len(runs) <= len(GOLD)


def check_ledger(mongo: MongoStore, sandbox: SandboxProcess) -> None:
    """The ledger's tokens are those of Dify's log, but for runs whose end the server hid."""
    rows = [row for row in stored(mongo, "llm_calls") if row["workflow_run_id"]]
    ours: Counter[str] = Counter()
    for row in rows:
        ours[row["workflow_run_id"]] += row["tokens"] or 0
    for key in APPS:
        with client_of(sandbox, key, "streaming") as client:
            for run_id in ours:
                entries, total = client.logs(keyword=run_id)
                if total:
                    assert ours[run_id] == (entries[0].tokens or 0), entries[0]


def check_history(mongo: MongoStore, sandbox: SandboxProcess, key: str, steps: Sequence[Step]) -> None:
    """Play a history from nothing to its end, and look at what is stored and what was paid."""
    for name in ("messages", "translations", "translation_memory", "llm_calls", "llm_claims"):
        mongo.collection(name).delete_many({})
    told = {"language_detected": "de", "language_confidence": 1.0}
    insert(
        mongo,
        "messages",
        (message(f"m{n}", text, partition=day, **told) for n, (day, text) in enumerate(MESSAGES)),
    )
    before = counts(sandbox)
    for step in steps:
        play(mongo, sandbox, key, step)
        check_stored(mongo)
    # Dify is well again: each text ends, the lost ones once their time is up.
    calm = Step((), "streaming", 1, None, 0.0, None, 0)
    until = time.monotonic() + 20
    while mongo.collection("translations").count_documents({"status": "ok"}) < len(MESSAGES):
        assert time.monotonic() < until, stored(mongo, "translations")
        play(mongo, sandbox, key, calm)
        check_stored(mongo)
    ended = counts(sandbox)
    ended.subtract(before)
    # Each text is paid for once, but for runs that were queued when the server said that it knew of none.
    assert len(GOLD) <= ended["paid"] <= len(GOLD) + ended["hidden"], ended
    TALLY.update(ended)
    TALLY.update({"histories": 1, "texts": len(GOLD)})
    check_ledger(mongo, sandbox)
    assert not mongo.collection("llm_claims").count_documents({})


def histories(number: int) -> Any:
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


@histories(10)
@given(key=KEYS, steps=st.lists(STEPS, min_size=2, max_size=2))
def test_histories(key: str, steps: list[Step], mongo_store: MongoStore, sandbox: SandboxProcess) -> None:
    check_history(mongo_store, sandbox, key, steps)


@pytest.mark.soak
@pytest.mark.timeout(5400)
@histories(300)
@given(key=KEYS, steps=st.lists(STEPS, min_size=1, max_size=3))
def test_three_hundred_histories(
    key: str, steps: list[Step], mongo_store: MongoStore, sandbox: SandboxProcess
) -> None:
    check_history(mongo_store, sandbox, key, steps)
