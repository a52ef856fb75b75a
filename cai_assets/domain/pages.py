"""Reports as self-contained HTML pages: numbers and charts in, one text out. No file, no network, no query.

The dashboard draws its charts in the browser, with the Vega bundle and the data it carries. A page that is
one
of many (a day's report) carries drawings instead, a hundredth of the size; they are specifications of
`charts.py`.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
import vl_convert

from cai_assets.domain import formats, packing
from cai_assets.domain.formats import duration, number, share
from cai_assets.schemas.metrics import METRICS, metric

__all__ = [
    "conversations_page",
    "daily_page",
    "dashboard_page",
    "duration",
    "message_page",
    "number",
    "png",
    "script_safe",
    "share",
    "svg",
]

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


def png(spec: Mapping[str, Any]) -> bytes:
    """The drawing of a chart as a picture, for what cannot show SVG."""
    return bytes(vl_convert.vegalite_to_png(dict(spec)))


def dashboard_page(
    *,
    header: Mapping[str, Any],
    cube: bytes,
    carried: Rows,
    first_day: date | None,
    last_day: date | None,
    left_out: bool,
    most: int,
    days: Sequence[str],
    zone: str,
    targets: Sequence[int],
    as_of: datetime | None,
    withheld: int = 0,
    least: int = 1,
) -> str:
    """The dashboard over all days: a page that computes its numbers in the browser, from what it carries.

    Args:
        header: of the cube: its dimensions, days, tables, exact percentiles, users.
        cube: its columns, compressed.
        carried: the newest conversations, each with `followed` and `transcript`, as `engines.following` gives
            them.
        first_day: first local day of the cube, or None where there is nothing.
        last_day: the last.
        left_out: whether there are earlier days that the cube does not hold.
        most: conversations of which the cube holds at most the newest.
        days: those that have a report of their own.
        zone: IANA name of the days' zone.
        targets: RESPONSE_TARGETS, seconds.
        as_of: latest change of the source, UTC.
        withheld: rows that are left out, as they are about too few.
        least: MIN_GROUP_SIZE.
    """
    meta = {
        "zone": zone,
        "targets": list(targets),
        "metrics": {
            name: {"title": one.title, "heading": one.heading, "definition": one.definition}
            for name, one in METRICS.items()
        },
        "folded": [name for name, values in header["dimensions"].items() if len(values) > FOLDED_FROM],
    }
    vega, script = _vega_bundle(), _dashboard_script()
    return (
        _templates()
        .get_template("dashboard.html.j2")
        .render(
            meta=script_safe(meta),
            header=packing.compressed_json(header),
            cube=packing.text_of(cube),
            carried=packing.compressed_json([_listed(row) for row in carried]),
            vega=vega,
            script=script,
            policy=_policy(vega, script),
            first_day=first_day,
            last_day=last_day,
            left_out=left_out,
            most=most,
            days=list(days),
            zone=zone,
            as_of=as_of,
            withheld=withheld,
            least=least,
        )
    )


# A dimension of as many values as the cube tells apart has a place for the rest.
FOLDED_FROM = 23


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation as the page reads it: instants as microseconds, messages as lists."""
    said = [
        [int(m["created_at"].timestamp() * 1_000_000), m["sender_type"], m["text"], m["translation"]]
        for m in row["transcript"]
    ]
    names = ("channel", "language", "category", "outcome", "started_us", "messages", "first_response_s")
    return {
        "id": row["conversation_id"],
        "user": row["user_id"],
        **{name: row[name] for name in names},
        "followed": row["followed"],
        "transcript": said,
    }


def _policy(*scripts: str) -> str:
    """A content policy under which these scripts run, and nothing is ever asked of a network."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script (0.9 MB), so that the page needs no network."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace(
        "</script", "<\\/script"
    )


@cache
def _dashboard_script() -> str:
    """The page's own script, whose names stay its own: Vega's bundle has hundreds at the top."""
    folder = resources.files("cai_assets") / "templates"
    parts = [(folder / name).read_text("utf-8") for name in ("dashboard_data.js", "dashboard.js")]
    return f"(() => {{\n{''.join(parts)}}})();"


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


def conversations_page(
    *,
    view: Any,
    total: int,
    conversations: Rows,
    transcripts: Mapping[str, Rows],
    page: int,
    last: int,
    address: Callable[[int], str],
    back: str,
    zone: ZoneInfo,
) -> str:
    """A page of the conversations behind a number.

    Args:
        view: what they are of: what, detail, first_day, last_day, chosen.
        total: how many there are.
        conversations: those of this page, rows of `listed.sql`.
        transcripts: rows of `transcripts.sql` by conversation.
        page: which this is, from 1.
        last: the last.
        address: of another page.
        back: of the dashboard, in the same view.
        zone: zone of the instants.
    """
    return (
        _templates()
        .get_template("conversations.html.j2")
        .render(
            view=view,
            total=total,
            conversations=conversations,
            transcripts=transcripts,
            page=page,
            last=last,
            address=address,
            back=back,
            zone=zone,
        )
    )


def message_page(*, title: str, text: str) -> str:
    """A page that says one thing, as that there is none."""
    return _templates().get_template("message.html.j2").render(title=title, text=text)


def withheld_page(title: str, least: int) -> str:
    """A page whose figures are about too few users.

    Args:
        title: what it would have shown.
        least: MIN_GROUP_SIZE.
    """
    return _templates().get_template("withheld.html.j2").render(title=title, least=least)
