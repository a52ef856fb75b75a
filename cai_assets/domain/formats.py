"""Values as people read them: durations, shares, numbers, days, names. No page and no chart is made here."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

# The clocks of marts.response, by the names that `reports/response_clocks.sql` gives them.
CLOCKS = {
    "first": "First response",
    "first_human": "First human response",
    "after_handoff": "Human response after hand-off",
    "reply": "Reply to a user turn",
}


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `48 s`, `5 min`, `6 min 34 s`, `3 h 05 min`, `2 d 4 h`; `–` for None."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds == int(seconds) or seconds >= 10 else f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    minutes, left = divmod(rest, 60)
    if whole.days:
        return f"{whole.days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if left else f"{minutes} min"


def share(part: float | None, whole: float | None) -> str:
    """A ratio in per cent; `–` where there is nothing to divide by."""
    return f"{100 * part / whole:.1f} %" if part is not None and whole else "–"


def number(value: float | None) -> str:
    """A number with thin spaces between thousands; `–` for None."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
    return text.replace(",", "\u2009")


def label(name: str) -> str:
    """A name of the data as words: `agent_resolved` is read `agent resolved`."""
    return CLOCKS.get(name, name.replace("_", " "))


def long_day(day: date | str) -> str:
    """A day in full, `21 March 2025`."""
    day = date.fromisoformat(day) if isinstance(day, str) else day
    return f"{day.day} {day:%B %Y}"


def weekday(day: date | str) -> str:
    """Its weekday, `Friday`."""
    return f"{date.fromisoformat(day) if isinstance(day, str) else day:%A}"


def local_time(instant: datetime | int | None, zone: ZoneInfo, day: str | None = None) -> str:
    """An instant (UTC datetime, or microseconds since the epoch) as local `HH:MM:SS`.

    With `day` (ISO), instants of other local days have their date before the time: `22 Mar 09:00:00`.
    """
    if instant is None:
        return "–"
    if isinstance(instant, int):
        instant = datetime.fromtimestamp(instant // 1_000_000, UTC)
    local = instant.astimezone(zone)
    other_day = day is not None and local.date().isoformat() != day
    return f"{local.day} {local:%b %H:%M:%S}" if other_day else f"{local:%H:%M:%S}"
