"""Budgets by run and by day: not passed, whoever asks, and what is left is done later."""

import threading
from decimal import Decimal

from cai_assets.resources.mongo import MongoStore
from cai_assets_tests.fixtures.enrichment import DAY, NEXT_DAY, FakeDify, insert, message, translate

DAY_US = 86_400_000_000


def test_budget_is_not_passed_says_what_is_left_and_is_finished_later(mongo_store: MongoStore) -> None:
    texts = [f"Nachricht Nummer {number} wartet auf eine Antwort." for number in range(60)]
    insert(mongo_store, "messages", (message(f"m{n}", text) for n, text in enumerate(texts)))
    limited = FakeDify(tokens=100, seconds=0.002)
    summary = translate(mongo_store, limited, dify_budget_tokens=3000)
    assert 0 < len(limited.calls) * 100 <= 3000
    assert summary.total.left == summary.total.skipped == 60 - len(limited.calls)
    assert summary.reason == "budget reached: DIFY_BUDGET_TOKENS=3000"
    # The same run again, as after a crash: what it spent before counts.
    again = FakeDify(tokens=100)
    translate(mongo_store, again, dify_budget_tokens=3000)
    assert (len(limited.calls) + len(again.calls)) * 100 <= 3000
    rest = FakeDify(tokens=100)
    assert translate(mongo_store, rest).total.left == 0
    assert len(limited.calls) + len(again.calls) + len(rest.calls) == 60


def test_budget_of_money_is_not_passed(mongo_store: MongoStore) -> None:
    insert(
        mongo_store, "messages", (message(f"m{n}", f"Das ist die Nachricht Nummer {n}.") for n in range(40))
    )
    dify = FakeDify(tokens=100, seconds=0.002)
    summary = translate(mongo_store, dify, dify_budget_price="0.002")
    assert 0 < len(dify.calls) * Decimal("0.0001") <= Decimal("0.002")
    assert summary.total.skipped == 40 - len(dify.calls)


def test_day_budget_counts_other_runs_and_says_which_limit_was_reached(mongo_store: MongoStore) -> None:
    texts = [f"Nachricht Nummer {number} wartet auf eine Antwort." for number in range(60)]
    insert(mongo_store, "messages", (message(f"m{n}", text) for n, text in enumerate(texts)))
    asked = 0
    for run in ("first", "second", "third"):
        dify = FakeDify(tokens=100, seconds=0.001)
        summary = translate(mongo_store, dify, run_id=run, dify_budget_tokens_per_day=3000)
        asked += len(dify.calls)
        assert summary.reason == "budget reached: DIFY_BUDGET_TOKENS_PER_DAY=3000"
    assert 0 < asked * 100 <= 3000
    # What was asked on other days does not count.
    earlier = {"created_us": {"$add": ["$created_us", -2 * DAY_US]}}
    mongo_store.collection("llm_calls").update_many({}, [{"$set": earlier}])
    dify = FakeDify(tokens=100)
    translate(mongo_store, dify, run_id="next day", dify_budget_tokens_per_day=3000)
    assert 0 < len(dify.calls) * 100 <= 3000


def test_runs_at_once_do_not_pass_the_day_budget_together(mongo_store: MongoStore) -> None:
    for day in (DAY, NEXT_DAY):
        texts = [f"Nachricht Nummer {number} vom {day} wartet." for number in range(40)]
        insert(
            mongo_store,
            "messages",
            (message(f"{day}-{n}", text, partition=day) for n, text in enumerate(texts)),
        )
    dify = FakeDify(tokens=100, seconds=0.002)
    options = {"dify_budget_tokens_per_day": 3000}
    threads = [
        threading.Thread(target=translate, args=(mongo_store, dify, day), kwargs={"run_id": day, **options})
        for day in (DAY, NEXT_DAY)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < len(dify.calls) * 100 <= 3000
