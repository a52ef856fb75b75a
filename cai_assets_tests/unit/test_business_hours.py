"""Business hours: what the setting may hold, and that its instants are those of a clock on the wall."""

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.domain.business_hours import BusinessHoursError, OpenHours, business_days, first_reading
from cai_assets.opening_hours import fingerprint, read_calendars
from cai_assets.resources.business_days import NO_HOURS, keep_business_days
from cai_assets.resources.object_store import LocalStore
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.settings import BUSINESS_DAY
from cai_assets.settings import Settings, SettingsError, load_settings
from cai_assets_tests.oracle.hours import OpenMinutes

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri")
NINE_TO_FIVE = {day: ["09:00-17:00"] for day in WEEKDAYS}
EVERY_DAY = {day: ["00:00-24:00"] for day in (*WEEKDAYS, "sat", "sun")}


def us(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def hours(*calendars: dict[str, Any], zone: str = "UTC") -> OpenHours:
    return OpenHours(read_calendars(json.dumps(calendars)), zone)


def business_s(open_hours: OpenHours, start: str, end: str) -> float:
    first, last = (us(datetime.fromisoformat(text)) for text in (start, end))
    return (open_hours.business_us(last) - open_hours.business_us(first)) / 1e6


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2024-03-08 16:00:00-05:00", "2024-03-11 10:00:00-04:00", 7200),
        ("2024-11-01 16:00:00-04:00", "2024-11-04 10:00:00-05:00", 7200),
        ("2024-06-01 03:00:00-04:00", "2024-06-02 20:00:00-04:00", 0),
        ("2024-06-03 12:00:00-04:00", "2024-06-03 12:30:00-04:00", 1800),
        ("2024-06-03 07:00:00-04:00", "2024-06-04 23:00:00-04:00", 57600),
    ],
)
def test_the_probes_of_an_american_office(start: str, end: str, expected: float) -> None:
    office = hours({"timezone": "America/New_York", "week": NINE_TO_FIVE})
    assert business_s(office, start, end) == expected


@pytest.mark.parametrize(
    ("zone", "day", "length"),
    [
        ("Europe/Berlin", "2024-03-31", 23),
        ("Europe/Berlin", "2024-10-27", 25),
        ("America/New_York", "2024-03-10", 23),
        ("America/New_York", "2024-11-03", 25),
        ("Australia/Lord_Howe", "2024-04-07", 24.5),
        ("America/Havana", "2024-03-10", 23),  # midnight does not exist
        ("America/Havana", "2024-11-03", 25),  # midnight comes twice
        ("America/Sao_Paulo", "2018-02-17", 25),  # the day's last hour comes twice
        ("Pacific/Apia", "2011-12-30", 0),  # a day that was left out
        ("UTC", "2024-03-31", 24),
    ],
)
def test_a_day_that_is_open_all_day_is_as_long_as_the_day(zone: str, day: str, length: float) -> None:
    always = hours({"week": EVERY_DAY}, zone=zone)
    found = {row.local_date.isoformat(): row for row in always.days()}[day]
    assert sum(closed - opened for opened, closed in found.spans) == length * 3_600_000_000


@pytest.mark.parametrize(
    ("span", "minutes_on"),
    [
        ("02:15-02:45", {"2024-03-31": 0, "2024-10-27": 30}),  # jumped over; the first of two
        ("01:30-02:15", {"2024-03-31": 30, "2024-10-27": 45}),
        ("02:30-03:30", {"2024-03-31": 30, "2024-10-27": 120}),  # the repeated hour lies within
    ],
)
def test_hours_that_touch_the_change_of_clocks(span: str, minutes_on: dict[str, int]) -> None:
    odd = hours({"week": {"sun": [span]}}, zone="Europe/Berlin")
    days = {row.local_date.isoformat(): row for row in odd.days()}
    assert {
        day: sum(closed - opened for opened, closed in days[day].spans) // 60_000_000 for day in minutes_on
    } == minutes_on


def test_the_calendar_that_was_valid_then_counts() -> None:
    history = hours(
        {"valid_from": "2024-01-01", "week": NINE_TO_FIVE},
        {"valid_from": "2024-06-05", "week": {"wed": ["10:00-11:00"]}, "holidays": {"2024-06-12": []}},
    )
    assert business_s(history, "2024-06-04 00:00+00:00", "2024-06-05 00:00+00:00") == 8 * 3600
    assert business_s(history, "2024-06-05 00:00+00:00", "2024-06-06 00:00+00:00") == 3600
    assert business_s(history, "2024-06-06 00:00+00:00", "2024-06-19 00:00+00:00") == 0
    first = next(history.days())
    assert (first.local_date, first.cum_before_us) == (date(2024, 1, 1), 0)


def test_a_calendar_of_another_zone_cuts_the_one_before_it() -> None:
    moved = hours(
        {"timezone": "America/New_York", "week": EVERY_DAY},
        {"valid_from": "2024-06-05", "timezone": "Asia/Tokyo", "week": {"wed": ["00:00-01:00"]}},
    )
    # Tokyo's midnight is 15:00 UTC of the day before.
    assert business_s(moved, "2024-06-04 14:00+00:00", "2024-06-05 15:00+00:00") == 2 * 3600


def test_shortened_holidays_have_their_own_hours() -> None:
    week = {"week": NINE_TO_FIVE, "holidays": {"2024-12-24": ["09:00-12:00"], "2024-12-25": []}}
    assert business_s(hours(week), "2024-12-23 16:00+00:00", "2024-12-26 10:00+00:00") == 5 * 3600


def test_a_day_with_more_stretches_than_the_table_holds_is_named() -> None:
    breaks = ["00:00-01:00", "02:00-03:00", "20:00-21:00", "22:00-23:00"]
    torn = dict.fromkeys(EVERY_DAY, breaks)
    assert len(business_days(read_calendars(json.dumps({"week": torn})), "UTC")) > 47_000
    shifted = hours({"timezone": "Asia/Kolkata", "week": {**torn, "tue": ["00:00-01:00"], "wed": []}})
    assert max(len(day.spans) for day in shifted.days()) == 4
    overfull = hours({"timezone": "Asia/Tokyo", "week": {**torn, "mon": ["09:30-10:00", *breaks[2:]]}})
    with pytest.raises(BusinessHoursError, match=r"BUSINESS_HOURS: \d{4}-\d\d-\d\d in UTC has 5 stretches"):
        list(overfull.days())


def test_a_calendar_that_zones_leave_no_time_is_refused() -> None:
    with pytest.raises(BusinessHoursError, match=r"from 2024-06-05 \(Pacific/Pago_Pago\) is over before"):
        hours(
            {"week": EVERY_DAY},
            {"valid_from": "2024-06-05", "timezone": "Pacific/Pago_Pago", "week": EVERY_DAY},
            {"valid_from": "2024-06-06", "timezone": "Pacific/Kiritimati", "week": EVERY_DAY},
        )


# -- any calendars, against a walk through the minutes

START, SPAN = datetime(2024, 3, 8, tzinfo=UTC), timedelta(days=11)
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu"]
)
CLOCK = st.sampled_from([0, 30, 60, 90, 120, 150, 180, 210, 540, 720, 1020, 1439, 1440])


@st.composite
def days_hours(draw: Any) -> list[str]:
    times = sorted(draw(st.sets(CLOCK, max_size=4)))
    pairs = zip(times[::2], times[1::2], strict=False)
    return [f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}" for a, b in pairs]


@st.composite
def calendars(draw: Any) -> list[dict[str, Any]]:
    found = []
    since = START.date() + timedelta(days=draw(st.integers(-3, 3)))
    for place in range(draw(st.integers(1, 3))):
        # Two days apart at least: more than zones can differ.
        since += timedelta(days=draw(st.integers(2, 5)))
        held = {"valid_from": since.isoformat()} if place or draw(st.booleans()) else {}
        spans = draw(st.lists(days_hours(), min_size=3, max_size=3))
        found.append(
            {
                **held,
                "timezone": draw(st.one_of(st.none(), ZONES)),
                "week": {day: spans[n % 3] for n, day in enumerate(EVERY_DAY)},
                "holidays": {(START.date() + timedelta(days=n)).isoformat(): spans[n % 3] for n in (2, 4, 9)},
            }
        )
    return found


@settings(max_examples=12, deadline=None)
@given(
    calendars(),
    ZONES,
    st.lists(st.integers(0, SPAN // timedelta(microseconds=1)), min_size=2, max_size=12),
)
def test_any_calendars_equal_a_walk_through_the_minutes(
    given_calendars: list[dict[str, Any]], zone: str, places: list[int]
) -> None:
    found = OpenHours(read_calendars(json.dumps(given_calendars)), zone)
    walk = OpenMinutes(given_calendars, zone, START, START + SPAN)
    instants = [START + timedelta(microseconds=place) for place in sorted(places)]
    table = {day.local_date: day for day in _few_days(found, zone)}
    for start, end in pairwise(instants):
        expected = walk.between(start, end)
        if expected is None:
            assert start.astimezone(ZoneInfo(zone)).date() not in table
            continue
        assert (found.business_us(us(end)) - found.business_us(us(start))) / 1e6 == expected
        # what the models do with the table is the same
        assert _by_day(table, end, zone) - _by_day(table, start, zone) == found.business_us(
            us(end)
        ) - found.business_us(us(start))


def _few_days(found: OpenHours, zone: str) -> Any:
    for day in found.days():
        if day.local_date > START.date() + SPAN + timedelta(days=2):
            return
        yield day


def _by_day(table: dict[date, Any], at: datetime, zone: str) -> int:
    day = table[at.astimezone(ZoneInfo(zone)).date()]
    inside = sum(min(max(us(at), opened), closed) - opened for opened, closed in day.spans)
    return int(day.cum_before_us + inside)


@pytest.mark.parametrize(
    ("zone", "wall", "expected"),
    [
        ("Europe/Berlin", "2024-03-31T02:30", "2024-03-31T01:00+00:00"),
        ("Europe/Berlin", "2024-10-27T02:30", "2024-10-27T00:30+00:00"),
        ("America/Havana", "2024-03-10T00:00", "2024-03-10T05:00+00:00"),
        ("America/St_Johns", "2006-10-29T00:00", "2006-10-29T02:30+00:00"),
    ],
)
def test_the_first_time_that_a_clock_shows_a_time_or_jumps_over_it(
    zone: str, wall: str, expected: str
) -> None:
    assert first_reading(ZoneInfo(zone), datetime.fromisoformat(wall)) == us(datetime.fromisoformat(expected))


def test_days_that_overlap_where_the_clock_went_back_over_midnight_are_both_whole() -> None:
    # In St John's 2006-10-29 began, went back to 23:01 of the day before after a minute, and began again.
    office = hours({"week": EVERY_DAY}, zone="America/St_Johns")
    days = {day.local_date: day for day in office.days()}
    before, after = days[date(2006, 10, 28)], days[date(2006, 10, 29)]
    assert before.spans[-1][1] > after.spans[0][0]
    for minute in range(-90, 90):
        at = datetime(2006, 10, 29, 2, 31, tzinfo=UTC) + timedelta(minutes=minute)
        assert _by_day(days, at, "America/St_Johns") == office.business_us(us(at))


# -- the setting


def test_a_file_holds_the_same_as_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = json.dumps({"week": NINE_TO_FIVE, "holidays": ["2024-12-25"]})
    (tmp_path / "hours.json").write_text(text, encoding="utf-8")
    monkeypatch.setenv("BUSINESS_HOURS", text)
    given_as_text = load_settings().business_hours
    load_settings.cache_clear()
    monkeypatch.setenv("BUSINESS_HOURS", str(tmp_path / "hours.json"))
    assert load_settings().business_hours == given_as_text
    assert given_as_text is not None
    assert given_as_text[0].week[0] == ((540, 1020),)
    assert given_as_text[0].holidays == ((date(2024, 12, 25), ()),)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hours.json", "neither JSON.*nor a file that can be read"),
        ("{", "is no JSON"),
        ("[]", "holds no calendar"),
        ("[1]", "calendar 1 is 1, not an object"),
        ('{"hours": {}}', "calendar 1: 'hours' is not known; there are valid_from, timezone"),
        ('{"valid_from": "2024-01-01"}', "calendar 1 needs a week"),
        ('{"week": {"monday": []}}', "calendar 1, week: 'monday' is not known; there are mon, tue"),
        ('{"week": {"mon": "09:00-17:00"}}', "calendar 1, mon: write a list of hours"),
        ('{"week": {"mon": ["9-17"]}}', "calendar 1, mon: '9-17' are no hours"),
        ('{"week": {"mon": ["09:00-24:30"]}}', "names a time that no clock shows"),
        ('{"week": {"mon": ["09:60-17:00"]}}', "names a time that no clock shows"),
        ('{"week": {"mon": ["22:00-06:00"]}}', "one to 24:00 and one from 00:00 on the next day"),
        ('{"week": {"mon": ["09:00-12:00", "11:00-17:00"]}}', "'11:00-17:00' begins before the hours ahead"),
        (
            json.dumps({"week": {"mon": [f"{h:02}:00-{h:02}:30" for h in range(5)]}}),
            "calendar 1, mon has 5 stretches of hours; a day may have 4",
        ),
        ('{"week": {}, "timezone": "Mars"}', "'Mars' is no IANA time zone"),
        ('{"week": {}, "holidays": ["25.12.2024"]}', "'25.12.2024' is no day, as 2024-12-25"),
        ('{"week": {}, "holidays": "2024-12-25"}', "holidays: write a list of days"),
        ('[{"week": {}}, {"week": {}}]', "calendar 2 needs valid_from"),
        (
            '[{"week": {}, "valid_from": "2024-02-01"}, {"week": {}, "valid_from": "2024-01-01"}]',
            "calendar 2 is valid from 2024-01-01, which is not after calendar 1",
        ),
    ],
)
def test_wrong_hours_are_refused_with_the_place_and_the_mend(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setenv("BUSINESS_HOURS", value)
    with pytest.raises(SettingsError, match=f"BUSINESS_HOURS: .*{message}"):
        load_settings()


# -- the table in the lake


def test_the_table_follows_the_setting_and_nothing_is_written_while_it_stands(tmp_path: Path) -> None:
    table = LakeTable(LocalStore(tmp_path), BUSINESS_DAY)

    def kept(value: str | None, zone: str = "UTC") -> tuple[bool, str, int | None]:
        found = keep_business_days(
            table, Settings(_env_file=None, business_hours=value, report_timezone=zone)
        )
        return found.changed, found.version, found.files.version

    assert kept(None) == (False, NO_HOURS, None)
    office = json.dumps({"week": NINE_TO_FIVE, "valid_from": "2090-01-01"})
    version = fingerprint(read_calendars(office), "UTC")
    assert kept(office) == (True, version, 1)
    assert kept(office) == (False, version, 1)
    assert kept(office, "Europe/Berlin")[0]
    assert kept(None)[:2] == (True, NO_HOURS)
    assert table.row_counts() == {"": 0}
    assert kept(None)[0] is False


def test_a_table_without_days_serves_every_day(tmp_path: Path) -> None:
    table = LakeTable(LocalStore(tmp_path), BUSINESS_DAY)
    office = json.dumps({"week": NINE_TO_FIVE, "valid_from": "2090-01-01"})
    found = keep_business_days(table, Settings(_env_file=None, business_hours=office)).files
    assert found.of(["2024-05-03"]) == found.files != ()
    assert found.narrowed(["2024-05-03"]).files == found.files
