"""The additive histogram: every percentile within 1 % of the exact one, however the rows were added up."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.histograms import BASE, ZERO_BUCKET, bucket, merged, percentile
from cai_assets_tests import oracle

MICROSECONDS = st.one_of(st.just(0), st.integers(1, 3_000_000), st.integers(1, 10**13))


@given(st.lists(MICROSECONDS, min_size=1, max_size=60), st.floats(0, 1))
def test_a_percentile_is_within_one_per_cent(durations: list[int], q: float) -> None:
    seconds = [us / 1e6 for us in durations]
    found = percentile(Counter(bucket(s) for s in seconds), q)
    assert found == pytest.approx(oracle.quantile(seconds, q), rel=0.01, abs=1e-12)


@given(st.lists(st.lists(st.tuples(st.integers(-700, 900), st.integers(1, 9)), max_size=9), max_size=5))
def test_buckets_of_any_days_add_up_in_any_order(days: list[list[tuple[int, int]]]) -> None:
    rows = [row for day in days for row in day]
    total = merged(rows)
    assert total == merged(reversed(rows))
    assert total == merged(row for day in days for row in merged(day).items())
    assert sum(total.values()) == sum(n for _, n in rows)


@pytest.mark.parametrize(
    ("seconds", "place"),
    [
        (0.0, ZERO_BUCKET),
        (1e-6, -698),
        (1.0, 0),
        (1.02, 1),
        (1.0404, 2),
        (1.061208, 3),
        (1.019999, 0),
        (0.999999, -1),
    ],
)
def test_durations_on_the_edge_of_a_bucket_are_in_the_upper_one(seconds: float, place: int) -> None:
    assert bucket(seconds) == place
    if seconds:
        assert BASE**place * (1 - 1e-9) <= seconds < BASE ** (place + 1)


def test_zero_seconds_stay_zero_and_nothing_has_no_percentile() -> None:
    assert percentile({ZERO_BUCKET: 3, 0: 1}, 0.5) == 0.0
    assert percentile({ZERO_BUCKET: 1, 0: 1}, 0.5) == pytest.approx(math.sqrt(BASE) / 2)
    assert percentile({}, 0.5) is None


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 s has no bucket"):
        bucket(-1)
    with pytest.raises(ValueError, match="between 0 and 1, not at 90"):
        percentile({0: 1}, 90)
