"""Limits of tokens and money: never passed, learnt from what calls cost, begun anew with a day."""

import threading
from datetime import date
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.budget import DAY, RUN, Budget, Limit
from cai_assets.domain.ledger import UNKNOWN, Usage


def run(tokens: int | None, price: Decimal | None = None) -> Limit:
    return Limit(RUN, tokens, price)


def test_no_limit_reserves_nothing() -> None:
    budget = Budget([run(None, None)])
    assert budget.reserve(10**9) == -1
    budget.settle(-1, 10, UNKNOWN)
    assert not budget.exhausted


CALLS = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3)), min_size=1, max_size=60)


@given(st.integers(350, 20_000), st.integers(20, 2000), st.floats(0, 2.5), CALLS)
def test_budget_is_never_passed_after_the_first_call(
    limit: int, prompt: int, per_character: float, calls: list[tuple[int, int]]
) -> None:
    budget = Budget([run(limit)])
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
    budget = Budget([run(10_000)])
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
    budget = Budget([run(2000)])
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
    budget = Budget([run(None, Decimal("0.01"))])
    asked = 0
    while (reservation := budget.reserve(20)) is not None and asked < 1000:
        asked += 1
        usage = Usage(100, Decimal("0.001"), "USD") if asked == 1 else UNKNOWN
        budget.settle(reservation, 20, usage)
    assert 2 <= asked <= 10


def test_call_that_never_ran_costs_nothing() -> None:
    budget = Budget([run(400)])
    for _ in range(50):
        reservation = budget.reserve(20)
        assert reservation is not None
        budget.settle(reservation, 20, UNKNOWN, asked=False)


def test_spent_before_counts() -> None:
    assert Budget([Limit(RUN, 1000, None, Usage(900))]).reserve(20) is None


def test_every_limit_holds_and_the_one_that_is_reached_is_named() -> None:
    by_day = Limit(DAY, 500, None, Usage(250), lambda: date(2024, 5, 3))
    budget = Budget([run(10_000), by_day])
    asked = 0
    while (reservation := budget.reserve(0)) is not None:
        asked += 1
        budget.settle(reservation, 0, Usage(100))
    assert budget.reason == "budget reached: DIFY_BUDGET_TOKENS_PER_DAY=500"
    # 300 tokens are the guess before any call, which does not fit beside the 250 spent before.
    assert asked == 0


def test_a_new_day_begins_with_a_whole_budget() -> None:
    days = iter([date(2024, 5, 3)] * 6 + [date(2024, 5, 4)] * 100)
    budget = Budget([Limit(DAY, 1000, None, Usage(600), lambda: next(days))])
    asked = 0
    while (reservation := budget.reserve(0)) is not None:
        asked += 1
        budget.settle(reservation, 0, Usage(100))
    assert asked > 10


def test_money_that_nobody_tells_is_no_money_saved() -> None:
    budget = Budget([run(None, Decimal(1))])
    asked = 0
    while (reservation := budget.reserve(20)) is not None and asked < 100:
        asked += 1
        budget.settle(reservation, 20, Usage(100))
    assert asked == 3
    assert "Dify tells no price" in budget.reason
