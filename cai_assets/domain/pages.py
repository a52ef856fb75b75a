"""Reports as self-contained HTML pages: numbers and charts in, one text out. No file, no network, no query.

Charts are specifications of `charts.py`. A page that is read in a browser draws them with the Vega bundle it
carries; a page that is one of many (a day's report) carries drawings instead, a hundredth of the size.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
import vl_convert

from cai_assets.domain import formats
from cai_assets.domain.formats import duration, number, share
from cai_assets.schemas.metrics import metric

__all__ = ["daily_page", "dashboard_page", "duration", "number", "script_safe", "share", "svg"]

Rows = Sequence[Mapping[str, Any]]


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cai_assets", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=duration,
        number=number,
        label=formats.label,
        long_day=formats.long_day,
        weekday=formats.weekday,
        local_time=formats.local_time,
    )
    environment.globals.update(share=share, metric=metric)
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
    withheld: int = 0,
    least: int = 1,
) -> str:
    """The dashboard over all days.

    Args:
        headline: the row of `headline.sql`.
        tables: rows of report queries by name.
        charts: specifications by the id of the element they are drawn in; one without rows is not drawn,
            the page says that there is nothing yet.
        first_day: first local day with traffic, or None where there is none.
        last_day: last such day.
        zone: IANA name of the days' zone.
        targets: RESPONSE_TARGETS, seconds.
        as_of: latest change of the source, UTC.
        withheld: rows that are left out, as they are about too few.
        least: MIN_GROUP_SIZE.
    """
    drawn = {name: spec for name, spec in charts.items() if spec["data"]["values"]}
    return (
        _templates()
        .get_template("dashboard.html.j2")
        .render(
            headline=headline,
            tables=tables,
            clocks=sorted(tables["targets"], key=lambda row: list(formats.CLOCKS).index(row["clock"])),
            drawn=drawn,
            specs=script_safe(drawn),
            vega=_vega_bundle(),
            first_day=first_day,
            last_day=last_day,
            zone=zone,
            targets=targets,
            as_of=as_of,
            withheld=withheld,
            least=least,
        )
    )


@cache
def _vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script (0.9 MB), so that the page needs no network."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace(
        "</script", "<\\/script"
    )


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
    least: int = 1,
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
        least: MIN_GROUP_SIZE; where it is more than 1 the page lists no single conversations.
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
            least=least,
        )
    )


def withheld_page(title: str, least: int) -> str:
    """A page whose figures are about too few users.

    Args:
        title: what it would have shown.
        least: MIN_GROUP_SIZE.
    """
    return _templates().get_template("withheld.html.j2").render(title=title, least=least)
