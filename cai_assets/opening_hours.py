"""What BUSINESS_HOURS may hold: a history of opening hours, read and refused here.

Only the declaration belongs here. Which instants it leaves open is worked out by `domain.business_hours`.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import available_timezones

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_SPANS: Final = 4
"""Stretches of opening hours that one day may have: the table of business days has columns for so many."""

Hours = tuple[tuple[int, int], ...]
"""Opening and closing times of a day in minutes after midnight by the clock on the wall, 1440 for 24:00."""

_SPAN = re.compile(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)", re.ASCII)
_EXAMPLE = '{"week": {"mon": ["09:00-17:00"]}}'


@dataclass(frozen=True)
class Calendar:
    """Opening hours from one day on.

    Attributes:
        valid_from: first local day of the zone on which they hold; None for the first of a history that has
            always held.
        timezone: IANA zone; None for REPORT_TIMEZONE.
        week: hours of the seven days, Monday first.
        holidays: days with hours of their own, none at all for most.
    """

    valid_from: date | None
    timezone: str | None
    week: tuple[Hours, ...]
    holidays: tuple[tuple[date, Hours], ...]


def read_calendars(value: str) -> tuple[Calendar, ...]:
    """Read BUSINESS_HOURS.

    Args:
        value: JSON text, or the path of a file that holds it: one calendar or a list of them, the oldest
            first.

    Raises:
        ValueError: it is no such thing; the message names the calendar, the day and the mend.
    """
    text = value.strip()
    if not text.startswith(("{", "[")):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"is neither JSON, as {_EXAMPLE}, nor a file that can be read: {error}"
            ) from None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON, as {_EXAMPLE}: {error}") from None
    calendars = tuple(
        _calendar(one, f"calendar {number}")
        for number, one in enumerate(found if isinstance(found, list) else [found], 1)
    )
    if not calendars:
        raise ValueError(f"holds no calendar; write one, as {_EXAMPLE}, or leave the variable unset")
    for number, (before, after) in enumerate(pairwise(calendars), 2):
        if after.valid_from is None:
            raise ValueError(f"calendar {number} needs valid_from: only the first can do without")
        if before.valid_from is not None and before.valid_from >= after.valid_from:
            raise ValueError(
                f"calendar {number} is valid from {after.valid_from}, which is not after calendar "
                f"{number - 1} ({before.valid_from}); put the oldest first"
            )
    return calendars


def fingerprint(calendars: tuple[Calendar, ...], report_timezone: str) -> str:
    """A hash that changes when the hours do.

    Args:
        calendars: the history.
        report_timezone: the zone of calendars that name none.
    """
    told = repr((calendars, report_timezone))
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _calendar(given: Any, place: str) -> Calendar:
    if not isinstance(given, Mapping):
        raise ValueError(f"{place} is {json.dumps(given)}, not an object, as {_EXAMPLE}")  # noqa: TRY004
    _known(given, ("valid_from", "timezone", "week", "holidays"), place)
    timezone, valid_from = given.get("timezone"), given.get("valid_from")
    if timezone is not None and timezone not in available_timezones():
        raise ValueError(f"{place}: {timezone!r} is no IANA time zone; write one like 'Europe/Berlin'")
    week = given.get("week")
    if not isinstance(week, Mapping):
        raise ValueError(f"{place} needs a week, as {_EXAMPLE}")  # noqa: TRY004
    _known(week, WEEKDAYS, f"{place}, week")
    return Calendar(
        valid_from=None if valid_from is None else _day(valid_from, f"{place}, valid_from"),
        timezone=timezone,
        week=tuple(_hours(week.get(day, []), f"{place}, {day}") for day in WEEKDAYS),
        holidays=_holidays(given.get("holidays", {}), f"{place}, holidays"),
    )


def _holidays(given: Any, place: str) -> tuple[tuple[date, Hours], ...]:
    """Closed days as a list, or an object that gives the hours of each day."""
    if isinstance(given, list):
        given = {_text(day, place): [] for day in given}
    if not isinstance(given, Mapping):
        raise ValueError(  # noqa: TRY004
            f'{place}: write a list of days, as ["2024-12-25"], or hours by day, as '
            '{"2024-12-25": [], "2024-12-24": ["09:00-12:00"]}'
        )
    return tuple(sorted((_day(day, place), _hours(hours, f"{place}, {day}")) for day, hours in given.items()))


def _hours(given: Any, place: str) -> Hours:
    if not isinstance(given, list):
        raise ValueError(f'{place}: write a list of hours, as ["09:00-12:00", "13:00-17:00"]')  # noqa: TRY004
    spans: list[tuple[int, int]] = []
    for text in given:
        match = _SPAN.fullmatch(_text(text, place).strip())
        if match is None:
            raise ValueError(f"{place}: {text!r} are no hours, as 09:00-17:00")
        opening, closing = (_minutes(match[n], match[n + 1], text, place) for n in (1, 3))
        if closing <= opening:
            raise ValueError(
                f"{place}: {text!r} ends before it begins; hours over midnight are two, one to 24:00 and one "
                "from 00:00 on the next day"
            )
        if spans and opening < spans[-1][1]:
            raise ValueError(f"{place}: {text!r} begins before the hours ahead of it end")
        spans.append((opening, closing))
    if len(spans) > MOST_SPANS:
        raise ValueError(f"{place} has {len(spans)} stretches of hours; a day may have {MOST_SPANS}")
    return tuple(spans)


def _minutes(hours: str, minutes: str, text: str, place: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > 24 * 60:
        raise ValueError(f"{place}: {text!r} names a time that no clock shows; 24:00 is the last")
    return total


def _day(given: Any, place: str) -> date:
    try:
        return date.fromisoformat(_text(given, place))
    except ValueError:
        raise ValueError(f"{place}: {given!r} is no day, as 2024-12-25") from None


def _text(given: Any, place: str) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{place}: {json.dumps(given)} is no text")  # noqa: TRY004
    return given


def _known(given: Mapping[str, Any], names: tuple[str, ...], place: str) -> None:
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"{place}: {unknown[0]!r} is not known; there are {', '.join(names)}")
