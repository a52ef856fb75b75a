"""A day is a local day, 23 or 25 hours long where clocks change, and ranges are as few as can be."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import PartitionLoadingContext
from dagster._core.definitions.temporal_context import TemporalContext
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.partitions import _end_offset, contiguous_ranges, day_bounds, day_of, days_between

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "America/Santiago")
days = st.dates(date(2020, 1, 1), date(2030, 12, 31)).map(date.isoformat)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2025-03-30", 23),
        ("Europe/Berlin", "2025-10-26", 25),
        ("America/New_York", "2025-03-09", 23),
        ("America/New_York", "2025-11-02", 25),
        ("UTC", "2025-03-30", 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_says(zone: str, day: str, hours: int) -> None:
    start, end = day_bounds(day, ZoneInfo(zone))
    assert end - start == timedelta(hours=hours)
    assert start.tzinfo is UTC


@given(zone=st.sampled_from(ZONES), seconds=st.integers(0, 10 * 366 * 86_400))
def test_every_instant_lies_within_the_bounds_of_its_day(zone: str, seconds: int) -> None:
    at = datetime(2020, 1, 2, tzinfo=UTC) + timedelta(seconds=seconds)
    start, end = day_bounds(day_of(at, ZoneInfo(zone)), ZoneInfo(zone))
    assert start <= at < end


@given(st.sets(days, max_size=40))
def test_ranges_hold_exactly_the_days_and_never_touch(chosen: set[str]) -> None:
    ranges = contiguous_ranges(chosen)
    assert [day for first, last in ranges for day in days_between(first, last)] == sorted(chosen)
    for (_, last), (first, _) in pairwise(ranges):
        assert len(days_between(last, first)) > 2


@pytest.mark.parametrize("last", [None, "2025-03-20", "2025-04-04", "2025-04-05", "2025-04-06", "2099-01-01"])
def test_the_last_day_is_the_set_one_or_today_also_for_the_query_of_the_uis_plots(last: str | None) -> None:
    today = "2025-04-05"
    daily = dg.DailyPartitionsDefinition("2025-03-20", end_offset=_end_offset(last, today))
    now = datetime(2025, 4, 5, 13, tzinfo=UTC)
    wanted = min(last or today, today)
    assert daily.get_partition_keys(current_time=now)[-1] == wanted
    context = PartitionLoadingContext(
        temporal_context=TemporalContext(effective_dt=now, last_event_id=None), dynamic_partitions_store=None
    )
    newest = daily.get_paginated_partition_keys(context, limit=120, ascending=False).results
    assert (newest[0], newest[-1]) == (wanted, "2025-03-20")
