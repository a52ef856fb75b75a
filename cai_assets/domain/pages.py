"""Reports as self-contained HTML pages: numbers and charts in, one text out. No file, no network, no query.

Charts are specifications of `charts.py`. A page that is read in a browser draws them with the Vega bundle it
carries; a page that is one of many (a day's report) carries drawings instead, a hundredth of the size.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
import vl_convert

Rows = Sequence[Mapping[str, Any]]


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `48 s`, `6 min 34 s`, `3 h 05 min`, `2 d 4 h`; `–` for None."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds == int(seconds) or seconds >= 10 else f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    if whole.days:
        return f"{whole.days} d {hours} h"
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"


def share(part: float | None, whole: float | None) -> str:
    """A ratio in per cent; `–` where there is nothing to divide by."""
    return f"{100 * part / whole:.1f} %" if part is not None and whole else "–"


def number(value: float | None) -> str:
    """A number with thin spaces between thousands; `–` for None."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
    return text.replace(",", "\u2009")


def local_time(instant: datetime | int | None, zone: ZoneInfo) -> str:
    """An instant (UTC datetime, or microseconds since the epoch) as local `HH:MM:SS`."""
    if instant is None:
        return "–"
    if isinstance(instant, int):
        instant = datetime.fromtimestamp(instant // 1_000_000, UTC)
    return instant.astimezone(zone).strftime("%H:%M:%S")


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cai_assets", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, number=number, local_time=local_time)
    environment.globals["share"] = share
    return environment


def script_safe(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
    )


def svg(spec: Mapping[str, Any]) -> str:
    """The drawing of a chart."""
    return str(vl_convert.vegalite_to_svg(dict(spec)))


def dashboard_page(
    *,
    headline: Mapping[str, Any],
    tables: Mapping[str, Rows],
    charts: Mapping[str, Mapping[str, Any]],
    first_day: date | None,
    last_day: date | None,
    zone: str,
    targets: Sequence[int],
    as_of: datetime | None,
) -> str:
    """The dashboard over all days.

    Args:
        headline: the row of `headline.sql`.
        tables: rows of report queries by name.
        charts: specifications by the id of the element they are drawn in.
        first_day: first local day with traffic, or None where there is none.
        last_day: last such day.
        zone: IANA name of the days' zone.
        targets: RESPONSE_TARGETS, seconds.
        as_of: latest change of the source, UTC.
    """
    return (
        _templates()
        .get_template("dashboard.html.j2")
        .render(
            headline=headline,
            tables=tables,
            chart_ids=list(charts),
            specs=script_safe(charts),
            vega=_vega_bundle(),
            first_day=first_day,
            last_day=last_day,
            zone=zone,
            targets=targets,
            as_of=as_of,
        )
    )


@cache
def _vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script (0.9 MB), so that the page needs no network."""
    return str(vl_convert.javascript_bundle(None)).replace("</script", "<\\/script")


def daily_page(
    *,
    day: str,
    headline: Mapping[str, Any],
    clocks: Rows,
    hours_svg: str,
    conversations: Rows,
    transcripts: Mapping[str, Rows],
    shown: int,
    zone: ZoneInfo,
) -> str:
    """The report of one day: its conversations, whenever their messages were written.

    Args:
        day: the partition.
        headline: the row of `headline.sql` over the day's facts.
        clocks: rows of `response_clocks.sql` over the same.
        hours_svg: drawing of the messages by hour.
        conversations: rows of `conversations.sql`.
        transcripts: rows of `transcripts.sql` by conversation.
        shown: how many conversations the page lists; more are counted, not listed.
        zone: zone of the day.
    """
    return (
        _templates()
        .get_template("daily_report.html.j2")
        .render(
            day=day,
            headline=headline,
            clocks=clocks,
            hours_svg=hours_svg,
            conversations=conversations[:shown],
            left_out=max(0, len(conversations) - shown),
            transcripts=transcripts,
            zone=zone,
        )
    )
