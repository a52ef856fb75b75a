"""The days by which every layer down to the facts is partitioned. Months of marts are plain columns."""

from datetime import UTC, date, datetime

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


def _end_offset(last: str | None, today: str) -> int:
    """How many days behind yesterday the partitions end: 1 is today, the last day where none is set.

    Not Dagster's `end_date`: the query by which the UI plots the newest 120 partitions overlooks it, so that
    the plots of an archive would be those of today's empty days.
    """
    if last is None:
        return 1
    return min(1, (date.fromisoformat(last) - date.fromisoformat(today)).days + 1)


# The start is a setting read once and never a moving date: a moving one renumbers partitions and breaks
# backfills. Today is a partition too, so that the current day can be refreshed.
_SETTINGS = load_settings()
DAILY = dg.DailyPartitionsDefinition(
    start_date=_SETTINGS.partition_start_date,
    timezone=_SETTINGS.report_timezone,
    end_offset=_end_offset(_SETTINGS.partition_end_date, day_of(datetime.now(UTC), _SETTINGS.timezone)),
)
