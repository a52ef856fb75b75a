"""What `cai status` tells of freshness, coverage and the budget."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from bson import Decimal128
from pymongo import MongoClient

from cai_assets.commands.enriched import Budget, budget
from cai_assets.commands.records import freshness_of
from cai_assets.conditions import FRESH
from cai_assets.settings import Settings


@pytest.mark.parametrize(
    ("age", "expected"),
    [(timedelta(hours=26), "fresh"), (timedelta(hours=27), "late"), (timedelta(hours=51), "overdue")],
)
def test_a_table_is_fresh_late_or_overdue_by_the_windows_of_its_policy(age: timedelta, expected: str) -> None:
    now = datetime(2025, 3, 30, 12, tzinfo=UTC)
    assert freshness_of(FRESH, now - age, now) == expected
    assert freshness_of(FRESH, None, now) is None
    assert freshness_of(None, now - age, now) is None


def test_the_budget_counts_todays_calls_of_all_runs_beside_the_limits(mongo_uri: str) -> None:
    settings = Settings(
        mongodb_uri=mongo_uri,
        mongodb_database="status_budget",
        dify_budget_tokens_per_day=1000,
        report_timezone="Pacific/Auckland",
    )
    now = datetime.now(UTC)
    calls = [
        {"created_us": int((now - age).timestamp() * 1e6), "tokens": tokens, "price": price}
        for age, tokens, price in (
            (timedelta(0), 30, Decimal128("0.00000002")),
            (timedelta(0), None, None),
            (timedelta(days=1), 500, Decimal128("1")),
        )
    ]
    with MongoClient(mongo_uri) as client:
        client.drop_database("status_budget")
        client["status_budget"]["llm_calls"].insert_many(calls)
        today = now.astimezone(settings.timezone).date().isoformat()
        assert budget(settings) == Budget(today, 30, Decimal("2E-8"), 1000, None)
        client.drop_database("status_budget")


def test_a_database_that_does_not_answer_is_told() -> None:
    settings = Settings(mongodb_uri="mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50", max_retries=0)
    found = budget(settings)
    assert (found.tokens, found.price) == (None, None)
    assert "127.0.0.1:9" in (found.unknown or "")


def test_a_database_that_did_not_answer_just_now_is_not_waited_for_again(mongo_uri: str) -> None:
    settings = Settings(mongodb_uri=mongo_uri, mongodb_database="status_budget")
    assert budget(settings, "no answer").unknown == "no answer"
