"""Usage that is not known, money that is decimal, budgets that are not passed."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.ledger import (
    UNKNOWN,
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


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_quantiles_are_by_nearest_rank(values: list[int]) -> None:
    latencies = Latencies()
    latencies.add(values)
    median = latencies.quantile(0.5)
    assert median in values
    assert sum(value <= median for value in values) * 2 >= len(values)
    assert latencies.quantile(1.0) == max(values)
    assert Latencies().quantile(0.5) is None


@given(
    st.none() | st.integers(0, 10**7),
    st.none() | st.decimals(0, 1000, places=8),
    st.integers(1, 40),
)
def test_shares_of_a_call_add_up_to_it(tokens: int | None, price: Decimal | None, of: int) -> None:
    whole = Usage(tokens, price, "USD", "m")
    shares = [whole.share(place, of) for place in range(of)]
    total = sum(shares, UNKNOWN)
    assert (total.tokens, total.price) == (tokens, price)
    if tokens is not None:
        assert max(one.tokens or 0 for one in shares) - min(one.tokens or 0 for one in shares) <= 1
