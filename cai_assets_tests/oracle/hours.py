"""Business time by walking through the minutes with an eye on the wall clock: no arithmetic of intervals.

Hours are given as the JSON of BUSINESS_HOURS, parsed. They begin and end on whole minutes, and so do the
changes of clocks since 1972; so a minute is open or it is not.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class OpenMinutes:
    """Which minutes of a stretch of time are open.

    An office opens when the clock on its wall has once shown the opening time, and closes when it has once
    shown the closing time: what counts is the latest time that the clock has shown so far. A calendar holds
    from the first midnight of its `valid_from`, by its own clock, until the next one does.
    """

    def __init__(
        self, calendars: Sequence[Mapping[str, Any]], report_timezone: str, first: datetime, last: datetime
    ) -> None:
        """Walk from two days before `first` to `last`."""
        self._zone = ZoneInfo(report_timezone)
        self._start = (first.astimezone(UTC) - timedelta(days=2)).replace(second=0, microsecond=0)
        self._open_before = [0]
        self._open: list[bool] = []
        self._known_since: dict[date, bool] = {}
        zones = [ZoneInfo(c.get("timezone") or report_timezone) for c in calendars]
        shown = [self._start.astimezone(zone).replace(tzinfo=None) for zone in zones]
        minute = self._start
        while minute <= last:
            holding = None
            for n, calendar in enumerate(calendars):
                shown[n] = max(shown[n], minute.astimezone(zones[n]).replace(tzinfo=None))
                since = calendar.get("valid_from")
                if since is None or shown[n].date().isoformat() >= since:
                    holding = n
            self._known_since.setdefault(minute.astimezone(self._zone).date(), holding is not None)
            is_open = holding is not None and _is_open(calendars[holding], shown[holding])
            self._open.append(is_open)
            self._open_before.append(self._open_before[-1] + is_open)
            minute += MINUTE

    def known(self, at: datetime) -> bool:
        """Whether the hours were known when the local day of an instant began."""
        return self._known_since[at.astimezone(self._zone).date()]

    def between(self, start: datetime | None, end: datetime | None) -> float | None:
        """Open seconds between two instants; None if one is missing, unknown, or the end lies before."""
        if start is None or end is None or end < start or not (self.known(start) and self.known(end)):
            return None
        return (self._time(end) - self._time(start)).total_seconds()

    def _time(self, at: datetime) -> timedelta:
        """Open time before an instant: exact, as differences of large floats are not."""
        whole, rest = divmod(at - self._start, MINUTE)
        return self._open_before[whole] * MINUTE + (rest if self._open[whole] else timedelta())


def _is_open(calendar: Mapping[str, Any], shown: datetime) -> bool:
    holidays = calendar.get("holidays", {})
    day = shown.date().isoformat()
    if day in holidays:
        spans = holidays[day] if isinstance(holidays, Mapping) else []
    else:
        spans = calendar["week"].get(DAYS[shown.weekday()], [])
    return any(span.split("-")[0] <= f"{shown:%H:%M}" < span.split("-")[1] for span in spans)
