"""How a source's text becomes an instant, always UTC. Zones of reports and days do not belong here."""

import re
from datetime import UTC, datetime
from typing import Any

# ISO 8601 as NocoDB, exports and people write it: blank or T, a fraction of any length, an offset or none.
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?\s?(Z|[+-]\d\d(:?\d\d)?)?)?", re.ASCII)

# NocoDB's own spelling, which nearly every value has; what it gives is in UTC already.
_NOCODB = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\+00:00", re.ASCII)


class TimestampError(ValueError):
    """The value is no instant; the message says what was expected and repeats at most 40 characters of it."""


def parse_timestamp(value: Any) -> datetime | None:
    """Read an instant as the sources write it.

    Args:
        value: ISO 8601 text (`2025-01-02 11:56:00+00:00`, `2025-01-02T11:56:00.029Z`, `2025-01-02`), a
            `datetime`, or nothing (None, blank text). Without an offset UTC is assumed; digits after the
            sixth of a fraction are dropped.

    Returns:
        The instant in UTC with microseconds, or None where there is none.

    Raises:
        TimestampError: for everything else, as NocoDB's own `"Invalid Date"`.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if not isinstance(value, str):
        raise TimestampError(f"{str(value)[:40]!r} is no ISO 8601 text")
    if _NOCODB.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError as error:
            raise TimestampError(f"{value!r} is no time that exists: {error}") from None
    text = value.strip()
    if not text:
        return None
    if not _ISO.fullmatch(text):
        raise TimestampError(f"{text[:40]!r} is no ISO 8601 time, as 2025-01-02 11:56:00+00:00")
    try:
        instant = datetime.fromisoformat(text.replace(" Z", "Z").replace(" +", "+").replace(" -", "-"))
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise TimestampError(f"{text[:40]!r} is no time that exists: {error}") from None


def timestamp_or_none(value: Any) -> datetime | None:
    """As `parse_timestamp`, with None also for what is no instant: where a bad value is judged elsewhere."""
    try:
        return parse_timestamp(value)
    except TimestampError:
        return None
