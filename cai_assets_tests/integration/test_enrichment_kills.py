"""Runs that are killed, and runs that are cancelled: nothing is paid for twice, nothing is left running."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from cai_assets.resources.dify import DifyClient
from cai_assets.resources.mongo import MongoStore
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.enrichment import DAY, conversation, insert, message, stored
from cai_assets_tests.fixtures.sandbox import write_small_folder

# Numbers of three digits are lawfully left out of a translation, and make every text one of its own.
TEXTS = [f"Ich warte seit {number} Tagen auf meine Bestellung." for number in range(100, 900)]

# Imports once and forks for each run, as the imports take longer than the runs.
WORKER = """
import logging, os, sys
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.dify_http import Timeouts
from cai_assets.resources.enrichment import translate_partitions
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings
for line in sys.stdin:
    child = os.fork()
    if not child:
        settings = Settings()
        times = Timeouts(queue=3, idle=3, total=10, grace=0.3, stopped=1, poll=0.02)
        client = DifyClient(settings.dify_base_url, settings.dify_translation_api_key, timeouts=times)
        with MongoStore.from_settings(settings) as mongo:
            translate_partitions(mongo, [sys.argv[1]], settings, line.strip(), logging.getLogger("w"), client)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """A sandbox that answers after 20 ms and has each of `TEXTS` translated."""
    folder = write_small_folder(tmp_path_factory.mktemp("kills"), conversations=2)
    parallel = {
        "message_id": [f"m{number}" for number in range(len(TEXTS))],
        "source_language": ["de"] * len(TEXTS),
        "target_language": ["en"] * len(TEXTS),
        "source_text": TEXTS,
        "target_text": [f"I have been waiting for {n + 100} days." for n in range(len(TEXTS))],
        "kind": ["human"] * len(TEXTS),
    }
    pq.write_table(pa.table(parallel), folder / "translations_gold.parquet")
    with SandboxProcess.start(folder, latency=0.02) as running:
        yield running


def runs(sandbox: SandboxProcess) -> dict[str, int]:
    """Runs of the translation workflow by how they ended."""
    found: dict[str, int] = sandbox.info()["dify"]["apps"]["translation"]["runs"]
    return found


def log_of(sandbox: SandboxProcess) -> dict[str, int | None]:
    """Tokens of every run in Dify's log."""
    variables = sandbox.environment()
    key = SecretStr(variables["DIFY_TRANSLATION_API_KEY"])
    found: dict[str, int | None] = {}
    with DifyClient(variables["DIFY_BASE_URL"], key) as client:
        for page in itertools.count(1):
            entries, total = client.logs(page=page, limit=100)
            found |= {entry.workflow_run_id: entry.tokens for entry in entries}
            if len(found) >= total:
                return found
    raise AssertionError("unreachable")


def put_texts(mongo: MongoStore, texts: list[str]) -> None:
    insert(mongo, "conversations", [conversation()])
    told = {"language_detected": "de", "language_confidence": 1.0}
    insert(mongo, "messages", (message(f"m{n}", text, **told) for n, text in enumerate(texts)))


class Worker:
    """A process that runs the enrichment of a day in a child, as often as it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._tell, self._hear = process.stdin, process.stdout

    def start(self, run_id: str) -> int:
        """Start a run; its process id."""
        print(run_id, file=self._tell, flush=True)
        return int(self._hear.readline())

    def ended(self) -> int:
        """The status that the run ended with, as `waitpid` gives it."""
        return int(self._hear.readline())


@contextmanager
def worker(mongo_uri: str, mongo_database: str, sandbox: SandboxProcess) -> Iterator[Worker]:
    own = {"MONGODB_URI": mongo_uri, "MONGODB_DATABASE": mongo_database, "IO_THREADS": "4"}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WORKER, DAY],
        env={**os.environ, **sandbox.environment(), **own},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Worker(process)
        assert process.stdin is not None
        process.stdin.close()


def kill_often(
    number: int,
    texts: list[str],
    mongo: MongoStore,
    mongo_uri: str,
    mongo_database: str,
    sandbox: SandboxProcess,
) -> None:
    """Kill runs over one day again and again, let the last one end, and look at all that was paid for."""
    put_texts(mongo, texts)
    paid_before = runs(sandbox).get("succeeded", 0)

    def remembered() -> dict[str, str]:
        return {one["_id"]: one["workflow_run_id"] for one in mongo.collection("translation_memory").find()}

    acknowledged: dict[str, str] = {}
    killed = 0
    with worker(mongo_uri, mongo_database, sandbox) as work:
        for turn in range(number):
            child = work.start(f"r{turn}")
            until = time.monotonic() + 60
            while time.monotonic() < until and len(remembered()) < len(acknowledged) + 3:
                time.sleep(0.002)
            time.sleep(random.Random(turn).uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            killed += work.ended() == signal.SIGKILL
            now = remembered()
            # What was remembered keeps its run: nobody asked for it again.
            assert acknowledged.items() <= now.items()
            acknowledged = now
        work.start("last")
        assert work.ended() == 0
    assert killed >= number - 1
    assert 0 < len(acknowledged) < len(texts)
    assert acknowledged.items() <= remembered().items()
    rows = stored(mongo, "llm_calls")
    # Every answer has its row, and every row its answer.
    assert sorted(row["workflow_run_id"] for row in rows) == sorted(remembered().values())
    assert [one["status"] for one in stored(mongo, "translations")] == ["ok"] * len(texts)
    # What a killed run had asked was taken over by the next: Dify was paid once for each text.
    paid = runs(sandbox)["succeeded"] - paid_before
    # The ledger's tokens are those of Dify's own log.
    logged = log_of(sandbox)
    assert {row["workflow_run_id"]: row["tokens"] for row in rows}.items() <= logged.items()
    print(f"{killed} kills, {len(texts)} texts, {paid} paid runs")
    assert paid == len(texts)
    assert mongo.collection("llm_claims").count_documents({"_id": {"$not": {"$regex": "^holder/"}}}) == 0


def test_killed_runs_pay_for_no_text_twice(
    mongo_store: MongoStore, mongo_uri: str, mongo_database: str, sandbox: SandboxProcess
) -> None:
    kill_often(4, TEXTS[:60], mongo_store, mongo_uri, mongo_database, sandbox)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_fifty_killed_runs_pay_for_no_text_twice(
    mongo_store: MongoStore, mongo_uri: str, mongo_database: str, sandbox: SandboxProcess
) -> None:
    kill_often(50, TEXTS, mongo_store, mongo_uri, mongo_database, sandbox)


CANCELLED = """
import sys
import dagster as dg
from cai_assets.assets.enrichment import translations
from cai_assets.definitions import build_resources
from cai_assets.settings import Settings
made = build_resources(Settings())
resources = {name: made[name] for name in ("settings", "mongo", "documents")}
with dg.DagsterInstance.ephemeral() as instance:
    print("going", flush=True)
    dg.materialize([translations], partition_key=sys.argv[1], resources=resources, instance=instance)
"""


def test_cancelled_run_stops_its_runs_at_dify(
    mongo_store: MongoStore, mongo_uri: str, mongo_database: str, tmp_path: Path
) -> None:
    texts = TEXTS[:40]
    put_texts(mongo_store, texts)
    variables = {"MONGODB_URI": mongo_uri, "MONGODB_DATABASE": mongo_database, "IO_THREADS": "6"}
    folder = write_small_folder(tmp_path, conversations=2)
    with SandboxProcess.start(folder, latency=60) as slow:
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CANCELLED, DAY],
            env={**os.environ, **slow.environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            until = time.monotonic() + 60
            while slow.info()["dify"]["apps"]["translation"]["under_way"] < 6:
                assert time.monotonic() < until
                time.sleep(0.05)
            asked = time.monotonic()
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        assert process.returncode != 0
        assert "answers that came are written" in output
        assert time.monotonic() - asked < 20
        app = slow.info()["dify"]["apps"]["translation"]
    assert (app["runs"], app["under_way"]) == ({"stopped": 6}, 0)
    assert not stored(mongo_store, "translations")
    # The next run knows what was asked: it will look at these runs before it asks anew. Beside the claims may
    # stand the name of their holder, which a process that is interrupted leaves to its term.
    claims = [one for one in stored(mongo_store, "llm_claims") if not one["_id"].startswith("holder/")]
    assert len([one for one in claims if one["lost"]]) >= 6
