"""Instants are read as sources write them, and nothing else is."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.timestamps import TimestampError, parse_timestamp, timestamp_or_none


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-01-02 11:56:00+00:00", datetime(2025, 1, 2, 11, 56, tzinfo=UTC)),
        ("2025-01-02T11:56:00Z", datetime(2025, 1, 2, 11, 56, tzinfo=UTC)),
        ("2025-01-02T11:56:00.029+02:00", datetime(2025, 1, 2, 9, 56, 0, 29000, tzinfo=UTC)),
        ("2025-01-02T11:56:00.123456789Z", datetime(2025, 1, 2, 11, 56, 0, 123456, tzinfo=UTC)),
        ("2025-01-02 11:56", datetime(2025, 1, 2, 11, 56, tzinfo=UTC)),
        ("2025-01-02 11:56:00 +0530", datetime(2025, 1, 2, 6, 26, tzinfo=UTC)),
        ("2025-01-02", datetime(2025, 1, 2, tzinfo=UTC)),
        ("  ", None),
        (None, None),
    ],
)
def test_iso_texts_become_instants_in_utc(text, expected):
    assert parse_timestamp(text) == expected


@pytest.mark.parametrize(
    "value",
    ["Invalid Date", "2025-13-01", "2025-02-30 10:00", "20250102", "now", 1735819200, True, "2025-W01-1"],
)
def test_what_is_no_iso_time_is_refused(value):
    with pytest.raises(TimestampError):
        parse_timestamp(value)
    assert timestamp_or_none(value) is None


@given(st.datetimes(), st.integers(-720, 720))
def test_an_instant_survives_being_written(moment, minutes):
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    try:
        expected = zoned.astimezone(UTC)
    except OverflowError:
        with pytest.raises(TimestampError):
            parse_timestamp(zoned.isoformat())
        return
    assert parse_timestamp(zoned.isoformat()) == expected == parse_timestamp(zoned)
    assert parse_timestamp(moment.isoformat(" ")) == moment.replace(tzinfo=UTC)
