"""Usage that is not known, money that is decimal, budgets that are not passed."""

import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.ledger import (
    UNKNOWN,
    Budget,
    Call,
    Latencies,
    Usage,
    cached_call_id,
    microseconds,
    money,
    usage_of,
)
from cai_assets.schemas.lake import LLM_CALLS


@pytest.mark.parametrize(
    ("account", "usage"),
    [
        (
            {"total_tokens": 27, "total_price": "0.0000072", "currency": "USD"},
            Usage(27, Decimal("0.00000720"), "USD"),
        ),
        ({"total_tokens": 27}, Usage(27)),
        ({"total_tokens": 27, "total_price": "free", "currency": "USD"}, Usage(27)),
        ({"total_tokens": 0, "total_price": "0", "currency": "USD"}, UNKNOWN),
        ({"total_tokens": None}, UNKNOWN),
        ({"total_tokens": True}, UNKNOWN),
        ("27", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_usage_is_read_and_nothing_is_not_zero(account: object, usage: Usage) -> None:
    assert usage_of(account) == usage


def test_sums_keep_what_is_known() -> None:
    assert Usage(5, Decimal(1), "USD") + UNKNOWN == Usage(5, Decimal(1), "USD")
    assert Usage(5) + Usage(6, Decimal(2), "EUR") == Usage(11, Decimal(2), "EUR")
    assert UNKNOWN + UNKNOWN == UNKNOWN
    assert Usage(5).or_else(Usage(9, Decimal(1), "USD")) == Usage(5, Decimal(1), "USD")


@pytest.mark.parametrize("value", [None, True, "x", float("inf"), "NaN", "-1", "1e30"])
def test_what_is_no_price_is_unknown(value: object) -> None:
    assert money(value) is None


def test_prices_have_eight_places() -> None:
    assert str(money(0.1)) == "0.10000000"
    assert money("0.000000005") == 0
    assert money("0.000000015") == Decimal("0.00000002")


def test_row_has_the_columns_of_the_lake() -> None:
    call = Call(
        call_id="c",
        partition="2024-05-03",
        purpose="translation",
        status="ok",
        conversation_id="c1",
        message_id=None,
        run_id="r",
        created_at=datetime(2024, 5, 3, 1, 2, 3, 456789, tzinfo=UTC),
    )
    fields = call.fields()
    assert set(LLM_CALLS.by_name) <= set(fields)
    assert fields["created_us"] == microseconds(call.created_at) == 1714698123456789


def test_cached_rows_have_one_id_for_a_message_and_a_text() -> None:
    assert cached_call_id("m", "k") == cached_call_id("m", "k")
    assert len({cached_call_id("m", "k"), cached_call_id("m", "l"), cached_call_id("mk", "")}) == 3


def test_no_limit_reserves_nothing() -> None:
    budget = Budget(None, None)
    assert budget.reserve(10**9) == -1
    budget.settle(-1, 10, UNKNOWN)
    assert not budget.exhausted


CALLS = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3)), min_size=1, max_size=60)


@given(st.integers(350, 20_000), st.integers(20, 2000), st.floats(0, 2.5), CALLS)
def test_budget_is_never_passed_after_the_first_call(
    limit: int, prompt: int, per_character: float, calls: list[tuple[int, int]]
) -> None:
    budget = Budget(limit, None)
    used, asked = 0, 0
    for characters, _ in calls:
        reservation = budget.reserve(characters)
        if reservation is None:
            break
        tokens = prompt + int(per_character * characters)
        used, asked = used + tokens, asked + 1
        budget.settle(reservation, characters, Usage(tokens))
    assert asked <= 1 or used <= limit


@given(st.lists(st.sampled_from([30, 40, 900]), min_size=2, max_size=40))
def test_budget_learns_from_dear_calls(costs: list[int]) -> None:
    budget = Budget(10_000, None)
    used = 0
    for cost in costs:
        reservation = budget.reserve(20)
        if reservation is None:
            break
        used += cost
        budget.settle(reservation, 20, Usage(cost))
    # One surprise may come on top of what was estimated, never two.
    assert used <= 10_000 + 900


def test_threads_do_not_pass_a_budget_together() -> None:
    budget = Budget(2000, None)
    asked = []

    def work() -> None:
        while (reservation := budget.reserve(20)) is not None:
            asked.append(1)
            budget.settle(reservation, 20, Usage(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1500 < len(asked) * 50 <= 2000
    assert budget.exhausted


def test_budget_of_money_and_unknown_usage() -> None:
    budget = Budget(None, Decimal("0.01"))
    asked = 0
    while (reservation := budget.reserve(20)) is not None and asked < 1000:
        asked += 1
        usage = Usage(100, Decimal("0.001"), "USD") if asked == 1 else UNKNOWN
        budget.settle(reservation, 20, usage)
    assert 2 <= asked <= 10


def test_call_that_never_ran_costs_nothing() -> None:
    budget = Budget(400, None)
    for _ in range(50):
        reservation = budget.reserve(20)
        assert reservation is not None
        budget.settle(reservation, 20, UNKNOWN, asked=False)


def test_spent_before_counts() -> None:
    assert Budget(1000, None, Usage(900)).reserve(20) is None


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_quantiles_are_by_nearest_rank(values: list[int]) -> None:
    latencies = Latencies()
    latencies.add(values)
    median = latencies.quantile(0.5)
    assert median in values
    assert sum(value <= median for value in values) * 2 >= len(values)
    assert latencies.quantile(1.0) == max(values)
    assert Latencies().quantile(0.5) is None
