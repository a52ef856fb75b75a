"""Opening hours as instants: how many microseconds of business lie before an instant, and the table of days.

The calendar that was valid *then* counts. All arithmetic is on integers of microseconds since 1970-01-01 UTC.
What BUSINESS_HOURS may hold is `opening_hours`'; the SQL models see nothing but the table.

An office opens when the clock on its wall first shows the opening time, or jumps over it, and closes when it
first shows the closing time, or jumps over that. So "00:00-24:00" has 23 or 25 hours when clocks change, and
an hour that the clock repeats inside opening hours counts twice.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa

from cai_assets.failures import PermanentError
from cai_assets.opening_hours import MOST_SPANS, Calendar, fingerprint
from cai_assets.schemas.settings import BUSINESS_DAY

Span = tuple[int, int]
"""First open instant, and first closed one after it."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  both sides of differences of wall time
_DAY: Final = timedelta(days=1)
_MINUTE_US: Final = 60_000_000
# Instants of the years 1900 to 2199 pass validation (`domain.parsing`); local days reach a day further.
_FIRST, _LAST = date(1899, 12, 30), date(2200, 1, 3)


class BusinessHoursError(PermanentError):
    """BUSINESS_HOURS make a day that the table of business days cannot hold; the message names the day."""


@dataclass(frozen=True)
class Day:
    """A local day of the reports.

    Attributes:
        local_date: the day.
        cum_before_us: open microseconds from the begin of the first calendar to the day's first instant.
        spans: what is open on the day.
    """

    local_date: date
    cum_before_us: int
    spans: tuple[Span, ...]


class OpenHours:
    """The open stretches of a history of calendars, in order of time.

    Attributes:
        begin_us: from here on the hours are known.
        end_us: up to here.
    """

    def __init__(self, calendars: Sequence[Calendar], report_timezone: str) -> None:
        """Work out all stretches: some 0.3 s for a calendar without holidays, so keep it.

        Args:
            calendars: the history, the oldest first.
            report_timezone: IANA zone of the reports' days, and of calendars that name none.

        Raises:
            BusinessHoursError: a calendar begins no later than the one before it, as zones differ.
        """
        self._zone = ZoneInfo(report_timezone)
        zones = [ZoneInfo(calendar.timezone or report_timezone) for calendar in calendars]
        begins = [
            _us(_FIRST)
            if calendar.valid_from is None
            else first_reading(zone, _midnight(calendar.valid_from))
            for calendar, zone in zip(calendars, zones, strict=True)
        ]
        bounds = [*begins, _us(_LAST)]
        self.begin_us, self.end_us = bounds[0], bounds[-1]
        self._opens: list[int] = []
        self._closes: list[int] = []
        for calendar, zone, since, until in zip(calendars, zones, begins, bounds[1:], strict=True):
            if until <= since:
                raise BusinessHoursError(
                    f"BUSINESS_HOURS: the calendar valid from {calendar.valid_from} ({zone.key}) is over "
                    "before it begins; leave it out, or let the next one begin later"
                )
            self._add(calendar, zone, since, until)
        self._before: list[int] = []
        total = 0
        for opened, closed in zip(self._opens, self._closes, strict=True):
            self._before.append(total)
            total += closed - opened

    def _add(self, calendar: Calendar, zone: ZoneInfo, since: int, until: int) -> None:
        """The stretches of one calendar, cut to the time in which it holds; touching ones become one."""
        holidays = dict(calendar.holidays)
        for day in _days_around(since, until):
            hours = holidays.get(day, calendar.week[day.weekday()])
            if not hours:
                continue
            midnight = _steady_midnight(zone, day)
            for opening, closing in hours:
                if midnight is not None:
                    opened, closed = midnight + opening * _MINUTE_US, midnight + closing * _MINUTE_US
                else:
                    opened, closed = (
                        first_reading(zone, _midnight(day) + timedelta(minutes=minutes))
                        for minutes in (opening, closing)
                    )
                opened, closed = max(opened, since), min(closed, until)
                if closed <= opened:
                    continue
                if self._closes and opened <= self._closes[-1]:
                    self._closes[-1] = max(self._closes[-1], closed)
                else:
                    self._opens.append(opened)
                    self._closes.append(closed)

    def business_us(self, at_us: int) -> int:
        """Open microseconds before an instant, counted from `begin_us`; they stand still while closed."""
        place = bisect_right(self._opens, at_us) - 1
        if place < 0:
            return 0
        return self._before[place] + min(at_us, self._closes[place]) - self._opens[place]

    def days(self) -> Iterator[Day]:
        """The reports' local days from the first that is known as a whole.

        A day holds all instants that the clock on the wall calls by its date, also where the clock is put
        back over midnight and days overlap.

        Raises:
            BusinessHoursError: a day has more than four stretches, as can be where zones differ.
        """
        for day in _days_around(self.begin_us, self.end_us):
            begin = _steady_midnight(self._zone, day)
            if begin is not None:
                end = begin + 1440 * _MINUTE_US
            else:
                begin = first_reading(self._zone, _midnight(day))
                end = _last_reading(self._zone, _midnight(day + _DAY))
            if not self.begin_us <= begin < self.end_us:
                continue
            spans = tuple(self._spans(begin, end))
            if len(spans) > MOST_SPANS:
                raise BusinessHoursError(
                    f"BUSINESS_HOURS: {day} in {self._zone.key} has {len(spans)} stretches of hours, and "
                    f"{MOST_SPANS} is the most; leave out short breaks"
                )
            yield Day(day, self.business_us(begin), spans)

    def _spans(self, begin: int, end: int) -> Iterator[Span]:
        place = max(bisect_right(self._opens, begin) - 1, 0)
        while place < len(self._opens) and self._opens[place] < end:
            opened, closed = max(self._opens[place], begin), min(self._closes[place], end)
            if opened < closed:
                yield opened, closed
            place += 1


@lru_cache(maxsize=4)
def open_hours(calendars: tuple[Calendar, ...], report_timezone: str) -> OpenHours:
    """The same as `OpenHours`, worked out once."""
    return OpenHours(calendars, report_timezone)


@lru_cache(maxsize=1)
def business_days(calendars: tuple[Calendar, ...] | None, report_timezone: str) -> pa.Table:
    """The rows of `settings/business_day`; none where no hours are set.

    Raises:
        BusinessHoursError: a day cannot be held.
    """
    schema = BUSINESS_DAY.arrow_schema
    if calendars is None:
        return schema.empty_table()
    days = list(open_hours(calendars, report_timezone).days())
    columns = {
        "local_date": [day.local_date for day in days],
        "cum_before_us": [day.cum_before_us for day in days],
        "calendar": [fingerprint(calendars, report_timezone)] * len(days),
    }
    for place in range(MOST_SPANS):
        spans = [day.spans[place] if place < len(day.spans) else (None, None) for day in days]
        columns[f"open_{place + 1}_us"] = [opened for opened, _ in spans]
        columns[f"close_{place + 1}_us"] = [closed for _, closed in spans]
    return pa.table(columns, schema=schema)


def first_reading(zone: ZoneInfo, wall: datetime) -> int:
    """The first instant at which the clock of a zone shows a time, or has jumped over it.

    Args:
        zone: the zone.
        wall: what the clock shows, without a zone.
    """
    earlier, later = _offsets(zone, wall)
    if earlier < later:
        return _jump(zone, _wall_us(wall - later), _wall_us(wall - earlier))
    return _wall_us(wall - earlier)


def _last_reading(zone: ZoneInfo, wall: datetime) -> int:
    """The same of the last one, where the clock shows it twice."""
    earlier, later = _offsets(zone, wall)
    return first_reading(zone, wall) if earlier <= later else _wall_us(wall - later)


def _offsets(zone: ZoneInfo, wall: datetime) -> tuple[timedelta, timedelta]:
    """Offsets from UTC by which the clock shows a time first and last; before and after a jump over it."""
    earlier, later = zone.utcoffset(wall), zone.utcoffset(wall.replace(fold=1))
    assert earlier is not None  # noqa: S101  of a wall time a zone always knows
    assert later is not None  # noqa: S101
    return earlier, later


def _jump(zone: ZoneInfo, before: int, after: int) -> int:
    """The instant between the two, to the second, at which the clock is put forward."""

    def offset(us: int) -> timedelta | None:
        return (_EPOCH + timedelta(microseconds=us)).replace(tzinfo=UTC).astimezone(zone).utcoffset()

    old, low, high = offset(before), before // 1_000_000, -(-after // 1_000_000)
    while high - low > 1:
        middle = (low + high) // 2
        if offset(middle * 1_000_000) == old:
            low = middle
        else:
            high = middle
    return high * 1_000_000


def _steady_midnight(zone: ZoneInfo, day: date) -> int | None:
    """The first instant of a day on which the clock runs evenly; None where it is put forward or back.

    All but two days of a year are such, and on them wall time is a plain sum, which is quicker.
    """
    midnight = _midnight(day)
    offset = zone.utcoffset(midnight)
    if offset is None or offset != zone.utcoffset((midnight + _DAY).replace(fold=1)):
        return None
    return _wall_us(midnight - offset)


def _days_around(since: int, until: int) -> Iterator[date]:
    """Days that may have to do with what lies between two instants, in any zone."""
    first, last = ((_EPOCH + timedelta(microseconds=us)).date() for us in (since, until))
    for ordinal in range(first.toordinal() - 2, last.toordinal() + 3):
        yield date.fromordinal(ordinal)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001  a time on the wall


def _us(day: date) -> int:
    return _wall_us(_midnight(day))


def _wall_us(wall: datetime) -> int:
    since = wall - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
