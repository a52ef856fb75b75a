"""How close the enrichment comes to what Dify allows, what memory it takes, and what a cached day costs.

    .venv/bin/python benchmarks/dify.py [throughput] [memory] [cached] [--texts N]

Everything runs on loopback: the sandbox's Dify, the embedded document server, and the enrichment in a process
of its own. Each part prints one line with a ratio against a limit of the same run:

* throughput: a server of 200 ms latency and a limit of 32 runs at once answers 160 texts a second at best
  (limit / latency). The rate is that of the middle of the run, from the first tenth of the texts to the last.
  Beside it, what 32 threads reach that do nothing but post: on a busy machine they do not reach 160 either.
* memory: resident memory of the enrichment while 100,000 distinct texts of one day are translated, against
  that after the first tenth of them.
* cached: materialising a day of 100,000 messages again, of which every one that needs a translation has it,
  against merely reading its documents.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import requests
from pymongo import InsertOne, MongoClient

from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.secantus import SecantusProcess
from cai_assets.sandbox.process import SandboxProcess

DAY = "2024-05-03"
LATENCY_S, LIMIT = 0.2, 32
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word(number: int) -> str:
    """A word of its own for each number: digits would be looked for in the answer."""
    found = ""
    for _ in range(5):
        number, rest = divmod(number, len(LETTERS))
        found += LETTERS[rest]
    return found


def source_text(number: int) -> str:
    """A text that is nobody else's."""
    return f"Ich warte schon lange auf meine Bestellung {word(number)} und bitte um eine Antwort."


def target_text(number: int) -> str:
    """Its translation."""
    return f"I have been waiting for my order {word(number)} for a long time and ask for an answer."


def text_hash(text: str) -> str:
    """As the documents have it."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def messages(number: int) -> Iterator[dict[str, Any]]:
    """A day of so many messages to translate, all of them different, twenty a conversation."""
    for n in range(number):
        text = source_text(n)
        yield {
            "_id": f"message-{n:08d}",
            "conversation_id": f"conversation-{n // 20:06d}",
            "partition": DAY,
            "seq": n % 20,
            "sender_type": "user",
            "sender_id": f"user-{n // 100}",
            "private": False,
            "text": text,
            "text_hash": text_hash(text),
            "content_hash": text_hash(text),
            "language": "de",
            "language_detected": "de",
            "language_confidence": 0.99,
            "created_us": 1_714_694_400_000_000 + n,
            "updated_us": None,
            "source_updated_us": 1_714_694_400_000_000 + n,
            "source_id": n,
            "schema_version": 1,
            "run_id": "benchmark",
            "deleted_at": None,
        }


def write_folder(folder: Path, number: int) -> None:
    """The data of a sandbox that knows the translation of each text."""
    started = pa.array([0], pa.timestamp("us", tz="UTC"))
    one = {"conversation_id": ["c"], "user_id": ["u"], "status": ["open"], "started_at": started}
    pq.write_table(pa.table(one), folder / "conversations.parquet")
    said = {
        "message_id": ["m"],
        "conversation_id": ["c"],
        "sender_type": ["user"],
        "text": ["t"],
        "created_at": started,
    }
    pq.write_table(pa.table(said), folder / "messages.parquet")
    parallel = {
        "source_language": ["de"] * number,
        "target_language": ["en"] * number,
        "source_text": [source_text(n) for n in range(number)],
        "target_text": [target_text(n) for n in range(number)],
    }
    pq.write_table(pa.table(parallel), folder / "translations_gold.parquet")


@contextmanager
def stack(number: int, latency: float, limit: int) -> Iterator[dict[str, str]]:
    """Servers with a day of messages, and the settings that point at them."""
    with tempfile.TemporaryDirectory(prefix="cai-benchmark-") as name:
        folder = Path(name)
        write_folder(folder, number)
        with (
            SecantusProcess(folder / "mongo") as mongo,
            SandboxProcess.start(folder, latency=latency, concurrency_limit=limit) as sandbox,
        ):
            database = f"benchmark_{uuid.uuid4().hex[:8]}"
            with MongoStore(MongoClient(mongo.uri), database) as store:
                store.ensure_indexes()
                store.write("messages", (InsertOne(one) for one in messages(number))).raise_failures()
            yield {
                **sandbox.environment(),
                "MONGODB_URI": mongo.uri,
                "MONGODB_DATABASE": database,
                "IO_THREADS": str(LIMIT),
            }


# The process that is measured: the enrichment of the day and nothing else. It says every half second how far
# it is, and what memory it holds.
MEASURED = """
import json, logging, sys, threading, time
from cai_assets.resources.enrichment import translate_partitions
from cai_assets.resources.enrichment_summary import EnrichmentSummary
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings
summaries = []
made = EnrichmentSummary.__init__
def noted(self, *given, **named):
    made(self, *given, **named)
    summaries.append(self)
EnrichmentSummary.__init__ = noted
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
def say():
    while True:
        time.sleep(0.5)
        done = summaries[0].total.done if summaries else 0
        print(json.dumps([time.monotonic(), done, resident(), time.process_time()]), flush=True)
settings = Settings()
with MongoStore.from_settings(settings) as mongo:
    threading.Thread(target=say, daemon=True).start()
    began, cpu = time.monotonic(), time.process_time()
    summary = translate_partitions(mongo, [sys.argv[1]], settings, "benchmark", logging.getLogger("b"))
    seconds = time.monotonic() - began
    cpu = time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, **summary.metadata(), "resident": resident()}), flush=True)
"""


def measured(environment: dict[str, str]) -> tuple[list[list[float]], dict[str, Any]]:
    """Run the enrichment of the day; what it said on the way, and at its end."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, DAY],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    end = next(line for line in lines if isinstance(line, dict))
    return [line for line in lines if isinstance(line, list)], end


def rate(said: list[list[float]], texts: int) -> float:
    """Texts a second between the first tenth and the last."""
    middle = [line for line in said if texts / 10 <= line[1] <= texts * 9 / 10]
    return (middle[-1][1] - middle[0][1]) / (middle[-1][0] - middle[0][0])


def bare(environment: dict[str, str], texts: int) -> float:
    """Texts a second of as many threads that post in blocking mode and do nothing else."""
    url = f"{environment['DIFY_BASE_URL']}/workflows/run"
    headers = {"Authorization": f"Bearer {environment['DIFY_TRANSLATION_API_KEY']}"}
    sessions = threading.local()

    def post(number: int) -> float:
        if not hasattr(sessions, "own"):
            sessions.own = requests.Session()
            sessions.own.trust_env = False
        inputs = {"text": source_text(number), "source_language": "de", "target_language": "en"}
        body = {"inputs": inputs, "response_mode": "blocking", "user": f"bare-{number}"}
        answer = sessions.own.post(url, json=body, headers=headers, timeout=60).json()
        assert answer["data"]["outputs"]["text"] == target_text(number), answer
        return time.monotonic()

    with ThreadPoolExecutor(LIMIT) as threads:
        ends = sorted(threads.map(post, range(texts)))
    first, last = texts // 10, texts * 9 // 10
    return (last - first) / (ends[last] - ends[first])


def throughput(texts: int) -> None:
    """Print how many texts a second are translated, against limit / latency."""
    with stack(texts, LATENCY_S, LIMIT) as environment:
        peer = bare(environment, texts // 2)
        said, end = measured(environment)
    ideal = LIMIT / LATENCY_S
    reached = rate(said, texts)
    print(
        f"throughput: {reached:.1f} texts/s of {ideal:.0f} ideal = {reached / ideal:.1%}, "
        f"{reached / peer:.1%} of threads that only post ({peer:.1f}/s) "
        f"({texts} texts in {end['seconds']:.1f} s, whole run {texts / end['seconds'] / ideal:.1%}; "
        f"p50 {end['latency_p50_ms']} ms, p95 {end['latency_p95_ms']} ms, left {end['left']}, "
        f"{end['cpu'] / texts * 1000:.2f} ms CPU a text)"
    )


def memory(texts: int) -> None:
    """Print what memory a day of many texts takes, against a tenth of them."""
    with stack(texts, 0.0, 0) as environment:
        said, end = measured(environment)
    shares = (0.1, 0.25, 0.5, 0.75)
    at = {share: next(line[2] for line in said if line[1] >= texts * share) for share in shares}
    at[1.0] = end["resident"]
    peak = max(line[2] for line in said)
    steps = ", ".join(f"{texts * share:,.0f}: {resident:.0f}" for share, resident in at.items())
    print(
        f"memory: peak {peak:.0f} MiB = {peak / at[0.1]:.2f} of that after a tenth of {texts:,} texts "
        f"(MiB after {steps}; {texts / end['seconds']:.0f} texts/s without latency)"
    )


def cached(texts: int) -> None:
    """Print what a day costs that is translated already, against the time allowed."""
    with stack(1, 0.0, 0) as environment:
        with MongoStore(MongoClient(environment["MONGODB_URI"]), environment["MONGODB_DATABASE"]) as store:
            store.collection("messages").delete_many({})
            store.write("messages", (InsertOne(one) for one in messages(texts))).raise_failures()
            store.write("translations", (InsertOne(one) for one in translations(texts))).raise_failures()
            began = time.monotonic()
            for name in ("messages", "translations"):
                sum(1 for _ in store.collection(name).find({"partition": DAY}))
            reading = time.monotonic() - began
        _, end = measured(environment)
    assert (end["needing"], end["left"], end["asked"]) == (texts, 0, 0), end
    share = end["seconds"] / 2 * 100_000 / texts
    print(
        f"cached: {end['seconds']:.2f} s for {texts:,} messages = {share:.0%} of the "
        f"2 s allowed for 100,000 ({end['seconds'] / reading:.2f} of merely reading the documents; "
        f"{end['cpu']:.2f} s CPU)"
    )


def translations(number: int) -> Iterator[dict[str, Any]]:
    """The translation of each of `messages`."""
    for one in messages(number):
        yield {
            "_id": f"{one['_id']}|en|1",
            "partition": DAY,
            "conversation_id": one["conversation_id"],
            "message_id": one["_id"],
            "text_hash": one["text_hash"],
            "source_language": "de",
            "target_language": "en",
            "prompt_version": "1",
            "status": "ok",
            "text": target_text(one["source_id"]),
            "error": None,
            "run_id": "benchmark",
        }


PARTS = {"throughput": (throughput, 8000), "memory": (memory, 100_000), "cached": (cached, 100_000)}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    parser.add_argument("--texts", type=int, help="instead of the part's own number")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    for part in given.parts or PARTS:
        function, texts = PARTS[part]
        function(given.texts or texts)


if __name__ == "__main__":
    main()
