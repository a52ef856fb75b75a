"""Local days as text, `YYYY-MM-DD`: their bounds, ranges of them. Dagster's partitions: `partitions`."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

DAYS_PER_RUN = 31
"""Most days of one run; a longer range becomes several runs.

A month, so that what a run reads fits into memory, and a failure, a budget or a cancelled run leaves whole
months done.
"""


def day_bounds(day: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """First instant of a local day and of the next, in UTC; 23 or 25 hours apart where clocks change."""
    first = date.fromisoformat(day)
    return tuple(  # type: ignore[return-value]
        datetime.combine(d, time(), tzinfo=zone).astimezone(UTC) for d in (first, first + timedelta(days=1))
    )


def day_of(instant: datetime, zone: ZoneInfo) -> str:
    """The partition an instant belongs to, `YYYY-MM-DD`."""
    return instant.astimezone(zone).date().isoformat()


def days_between(first: str, last: str) -> list[str]:
    """All days from `first` to `last`, both included."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]


def contiguous_ranges(days: Iterable[str]) -> list[tuple[str, str]]:
    """The days as the fewest ranges `(first, last)`, in order: one range is one run."""
    ordered: Sequence[str] = sorted(set(days))
    if not ordered:
        return []
    breaks = [(a, b) for a, b in pairwise(ordered) if days_between(a, b)[1] != b]
    firsts = [ordered[0], *(b for _, b in breaks)]
    lasts = [*(a for a, _ in breaks), ordered[-1]]
    return list(zip(firsts, lasts, strict=True))
