"""Claims over a real document server: one asks at a time, what the dead asked for is not lost sight of."""

import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from cai_assets.resources.enrichment_claims import Claims, Question
from cai_assets.resources.mongo import MongoStore

LOG = logging.getLogger("test")
ASKED = Question("cai-t-x", 0, 1, datetime(2024, 5, 3, 12, tzinfo=UTC))


def claims(mongo: MongoStore, lease: float = 30.0) -> Claims:
    return Claims(mongo, "translation/", LOG, lease)


def test_one_holder_at_a_time_and_the_next_after_it(mongo_store: MongoStore) -> None:
    first, second = claims(mongo_store), claims(mongo_store)
    assert set(first.take(["a", "b", "a"])) == {"a", "b"}
    assert set(first.take(["a"])) == {"a"}
    assert second.take(["a", "b", "c"]) == {"c": ()}
    mongo_store.collection("llm_claims").bulk_write([first.released("a")])
    assert second.take(["a", "b"]) == {"a": ()}
    first.close()
    assert second.take(["b"]) == {"b": ()}
    second.close()


def test_threads_never_hold_the_same_claim(mongo_store: MongoStore) -> None:
    def take(number: int) -> tuple[Claims, set[str]]:
        mine = claims(mongo_store)
        return mine, set(mine.take([f"k{n}" for n in range(40)]))

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(8)))
    assert sum(len(keys) for _, keys in taken) == 40
    for one, _ in taken:
        one.close()
    assert not list(mongo_store.collection("llm_claims").find({"_id": {"$regex": "^holder/"}}))


def test_questions_of_a_holder_that_went_go_with_the_claim(mongo_store: MongoStore) -> None:
    first, second = claims(mongo_store), claims(mongo_store)
    first.take(["a", "b"])
    first.note({"a": ASKED})
    first.close()
    assert second.take(["a", "b"]) == {"a": (ASKED,), "b": ()}
    known = Question("cai-t-x:1", 0, 1, ASKED.asked_at, "run")
    mongo_store.collection("llm_claims").bulk_write([second.lost("a", known), second.lost("b")])
    third = claims(mongo_store)
    assert third.take(["a", "b"]) == {"a": (known,), "b": ()}
    second.close()
    third.close()


def test_holders_that_were_killed_long_ago_are_forgotten(mongo_store: MongoStore) -> None:
    collection = mongo_store.collection("llm_claims")
    collection.insert_one({"_id": "holder/old", "beats": 7, "born_at": datetime(2024, 1, 1, tzinfo=UTC)})
    collection.insert_one({"_id": "translation/a", "holder": "old", "lost": [ASKED.document()]})
    mine = claims(mongo_store)
    assert mine.take(["a"]) == {"a": (ASKED,)}
    assert collection.find_one({"_id": "holder/old"}) is None
    mine.close()


def test_purposes_do_not_meet(mongo_store: MongoStore) -> None:
    one, other = claims(mongo_store), Claims(mongo_store, "category/", LOG)
    assert one.take(["a"])
    assert other.take(["a"])
    one.close()
    other.close()


HOLDER = """
import logging, sys, time
from pymongo import MongoClient
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.enrichment_claims import Claims
with MongoStore(MongoClient(sys.argv[1]), sys.argv[2]) as mongo:
    Claims(mongo, "translation/", logging.getLogger("h"), float(sys.argv[3])).take(["a"])
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_claim_of_a_process_that_died_or_froze_is_taken_over(
    way: str, mongo_store: MongoStore, mongo_uri: str, mongo_database: str
) -> None:
    lease = 3.0
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLDER, mongo_uri, mongo_database, str(lease)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    mine = claims(mongo_store, lease)
    try:
        assert process.stdout.readline() == "held\n"
        # It is alive, for as long as it beats.
        until = time.monotonic() + 1.5 * lease
        while time.monotonic() < until:
            assert mine.take(["a"]) == {}
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL if way == "killed" else signal.SIGSTOP)
        if way == "killed":
            process.wait()
            assert mine.take(["a"]) == {"a": ()}  # at once: its process is seen to be gone
        else:
            since = time.monotonic()
            while not mine.take(["a"]):
                assert time.monotonic() - since < 5 * lease
                time.sleep(0.1)
            assert time.monotonic() - since > lease / 2
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        mine.close()
