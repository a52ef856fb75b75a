"""The days by which every layer down to the facts is partitioned. Months of marts are plain columns."""

import dagster as dg

from cai_assets.domain.days import DAYS_PER_RUN, contiguous_ranges, day_bounds, day_of, days_between
from cai_assets.settings import load_settings

__all__ = [
    "DAILY",
    "DAYS_PER_RUN",
    "RANGE_END",
    "RANGE_START",
    "contiguous_ranges",
    "day_bounds",
    "day_of",
    "days_between",
]

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
"""Tags of a run that name its first and its last day."""

# The start is a setting read once and never a moving date: a moving one renumbers partitions and breaks
# backfills. `end_offset=1` makes today a partition too, so that the current day can be refreshed.
DAILY = dg.DailyPartitionsDefinition(
    start_date=load_settings().partition_start_date,
    timezone=load_settings().report_timezone,
    end_offset=1,
)
