"""Charts as Vega-Lite specifications, from rows of the report queries. Pages and texts belong to `pages.py`.

Colours are those of Okabe and Ito, told apart by people with any kind of colour vision. Rows are prepared
here, so that a specification holds what is shown and nothing else: every day of the range, also the empty
ones, and names as words.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from cai_assets.domain.formats import duration, label, number
from cai_assets.schemas.metrics import metric

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

SENDERS = {"user_messages": "users", "bot_messages": "bots", "agent_messages": "agents"}
SENDER_COLOURS = {"users": "#0072B2", "bots": "#009E73", "agents": "#D55E00"}
OUTCOMES = {
    "contained": "#009E73",
    "agent_resolved": "#0072B2",
    "agent_open": "#56B4E9",
    "bot_open": "#F0E442",
    "abandoned": "#E69F00",
    "unanswered": "#D55E00",
    "empty": "#999999",
}
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"]
ACCENT = PALETTE[0]
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
# Up to here each day gets a band with room for its label; more are drawn along a scale of time.
DAYS_AS_BANDS = 62
LISTED_BARS = 12
# Where the axis of durations may have a line: they span from below a second to weeks.
DURATION_TICKS = (0, 1, 10, 60, 600, 3600, 21_600, 86_400, 604_800, 2_592_000)


def _chart(rows: Iterable[Mapping[str, Any]], **more: Any) -> Spec:
    """A specification with the settings that all charts share; `width: container` makes it follow its box."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": [dict(row) for row in rows]},
        "width": "container",
        "height": 230,
        "padding": {
            "left": 0,
            "top": 4,
            "right": 16,
            "bottom": 4,
        },  # the last day's label is wider than its bar
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": {
            "font": "system-ui, sans-serif",
            "view": {"stroke": None},
            "axis": {
                "labelColor": "#444",
                "labelFontSize": 11,
                "titleColor": "#5b6875",
                "titleFontWeight": "normal",
                "gridColor": "#e8ebef",
                "domainColor": "#b8c0c9",
                "tickColor": "#b8c0c9",
            },
            "legend": {"labelColor": "#444", "labelFontSize": 11, "symbolType": "square", "rowPadding": 3},
            "range": {"category": PALETTE},
        },
        **more,
    }


def _days(rows: Rows) -> list[str]:
    """Every day from the first of the rows to the last, also those without a row."""
    found = [row["report_date"] for row in rows]
    if not found:
        return []
    first, last = min(found), max(found)
    return [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


def _day_axis(days: Sequence[str], **scale: Any) -> Spec:
    """The axis of days. A day is a name and no instant: it is the same wherever the page is read."""
    if len(days) > DAYS_AS_BANDS:
        return {
            "field": "day",
            "type": "temporal",
            "timeUnit": "utcyearmonthdate",
            "title": None,
            "axis": {"format": "%-d %b %y", "labelOverlap": "greedy", "grid": False},
        }
    return {
        "field": "day",
        "type": "ordinal",
        "sort": None,
        "title": None,
        "scale": {"domain": list(days), **scale},
        "axis": {
            "labelExpr": "utcFormat(toDate(datum.value), '%-d %b')",
            "labelAngle": 0,
            "labelOverlap": "greedy",
            "labelPadding": 6,
            "labelSeparation": 6,
            "ticks": False,
        },
    }


def _count(field: str, title: str) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "axis": {
            "tickMinStep": 1,
            "tickCount": 5,
            # As `formats.number` writes them.
            "labelExpr": "replace(format(datum.value, ',d'), /,/g, '\u2009')",
            "domain": False,
            "ticks": False,
        },
    }


def _colour(field: str, title: str, colours: Mapping[str, str] | None = None) -> Spec:
    """Colour by a column, its legend above the chart, in as many columns as there is room for."""
    scale = {"scale": {"domain": list(colours), "range": list(colours.values())}} if colours else {}
    legend = {"orient": "top", "title": None, "columns": {"expr": "max(2, floor(width / 95))"}}
    return {"field": field, "type": "nominal", "title": title, "legend": legend, **scale}


def _stacked(
    rows: Rows,
    days: Sequence[str],
    *,
    value: str,
    by: str,
    shows: str,
    colours: Mapping[str, str] | None = None,
    x: Mapping[str, Any] | None = None,
    **more: Any,
) -> Spec:
    """Stacked bars: rows of `day`, `by` and `value`, which is the metric `shows`."""
    order = {name: place for place, name in enumerate(colours or {})}
    return _chart(
        [{**row, "place": order.get(row[by], 0)} for row in rows],
        mark={"type": "bar", "tooltip": True},
        encoding={
            "x": x or _day_axis(days, paddingInner=0.15),
            "y": _count(value, metric(shows).unit),
            "color": _colour(by, by, colours),
            "order": {"field": "place", "type": "quantitative"},
            "tooltip": [
                {"field": (x or {"field": "day"})["field"], "type": "nominal"},
                {"field": by, "type": "nominal"},
                {"field": value, "type": "quantitative", "title": metric(shows).title},
            ],
        },
        **more,
    )


def volume(rows: Rows) -> Spec:
    """Conversations started per day by channel. Rows: report_date, channel, conversations_started."""
    shown = [
        {
            "day": row["report_date"].isoformat(),
            "channel": label(row["channel"]),
            "conversations": row["conversations_started"],
        }
        for row in rows
        if row["conversations_started"]
    ]
    started = [row for row in rows if row["conversations_started"]]
    return _stacked(shown, _days(started), value="conversations", by="channel", shows="conversations_started")


def messages(rows: Rows) -> Spec:
    """Messages per day by sender. Rows: report_date and one column per sender."""
    shown = [
        {"day": row["report_date"].isoformat(), "sender": sender, "messages": row[column]}
        for row in rows
        for column, sender in SENDERS.items()
        if row[column]
    ]
    return _stacked(
        shown, _days(rows), value="messages", by="sender", shows="messages", colours=SENDER_COLOURS
    )


def _duration_axis(longest: float) -> Spec:
    """A scale on which seconds and days can both be read: logarithmic, yet with a place for 0."""
    end = next((tick for tick in DURATION_TICKS[1:] if tick >= longest), DURATION_TICKS[-1])
    return {
        "field": "seconds",
        "type": "quantitative",
        "title": None,
        "scale": {"type": "symlog", "constant": 1, "domainMin": 0, "domainMax": max(end, longest)},
        "axis": {
            "values": [tick for tick in DURATION_TICKS if tick <= end],
            "labelExpr": "datum.value < 60 ? datum.value + ' s'"
            " : datum.value < 3600 ? datum.value / 60 + ' min'"
            " : datum.value < 86400 ? datum.value / 3600 + ' h' : datum.value / 86400 + ' d'",
            "domain": False,
            "ticks": False,
        },
    }


def replies(rows: Rows) -> Spec:
    """Median and 90th percentile of the reply time per day. Rows: report_date, p50_s, p90_s; seconds."""
    by_day = {row["report_date"].isoformat(): row for row in rows}
    names = {column: metric(f"response_{column}").heading for column in ("p50_s", "p90_s")}
    days = _days(rows)
    # A day on which nobody waited keeps its place and breaks the line: nothing is made up for it.
    found: list[tuple[str, str, float | None]] = [
        (day, name, by_day[day][column] if day in by_day else None)
        for day in days
        for column, name in names.items()
    ]
    measured = [seconds for _, _, seconds in found if seconds is not None]
    shown = [
        {"day": day, "percentile": name, "seconds": seconds, "time": duration(seconds)}
        for day, name, seconds in found
    ]
    return _chart(
        shown if measured else [],
        mark={"type": "line", "point": True, "tooltip": True},
        encoding={
            "x": _day_axis(days, padding=0.5),
            "y": _duration_axis(max(measured, default=1)),
            "color": _colour("percentile", "percentile", dict(zip(names.values(), PALETTE, strict=False))),
            "tooltip": [
                {"field": "day", "type": "nominal"},
                {"field": "percentile", "type": "nominal"},
                {"field": "time", "type": "nominal", "title": "Reply time"},
            ],
        },
    )


def outcomes(rows: Rows) -> Spec:
    """How conversations ended, per day, stacked. Rows: report_date, outcome, conversations."""
    shown = [
        {
            "day": row["report_date"].isoformat(),
            "outcome": label(row["outcome"]),
            "conversations": row["conversations"],
        }
        for row in rows
        if row["report_date"] is not None
    ]
    present = {row["outcome"] for row in shown}
    return _stacked(
        shown,
        _days([row for row in rows if row["report_date"] is not None]),
        value="conversations",
        by="outcome",
        shows="conversations",
        colours={label(name): colour for name, colour in OUTCOMES.items() if label(name) in present},
    )


def _bars(rows: Rows, *, by: str, value: str) -> Spec:
    """Lying bars, longest first, each with its number; the longest of them where there are many."""
    shown = [
        {by: label(row[by]), value: row[value], "shown": number(row[value])}
        for row in rows[:LISTED_BARS]
        if row[value]
    ]
    y = {
        "field": by,
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"domain": False, "ticks": False, "labelPadding": 6, "labelLimit": 150},
    }
    x = {
        "field": value,
        "type": "quantitative",
        "title": None,
        "axis": None,
        # Room for the number behind the longest bar.
        "scale": {"domainMax": max((row[value] for row in shown), default=1) * 1.12, "domainMin": 0},
    }
    return _chart(
        shown,
        height=26 * len(shown),
        layer=[
            {"mark": {"type": "bar", "color": ACCENT, "tooltip": True}, "encoding": {"y": y, "x": x}},
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "color": "#444"},
                "encoding": {
                    "y": y,
                    "x": x,
                    "text": {"field": "shown", "type": "nominal"},
                },
            },
        ],
    )


def languages(rows: Rows) -> Spec:
    """Messages by language. Rows: language, messages; most first."""
    return _bars(rows, by="language", value="messages")


def categories(rows: Rows) -> Spec:
    """Conversations by category. Rows: category, conversations; most first."""
    return _bars(rows, by="category", value="conversations")


def heatmap(rows: Rows) -> Spec:
    """Users' messages by local weekday and hour. Rows: local_isodow, local_hour, user_messages."""
    found = {(row["local_isodow"], row["local_hour"]): row["user_messages"] for row in rows}
    cells = [
        {"weekday": name, "hour": hour, "messages": found.get((number, hour), 0)}
        for number, name in enumerate(WEEKDAYS, 1)
        for hour in range(24)
    ]
    return _chart(
        cells if found else [],
        mark={"type": "rect", "tooltip": True, "stroke": "white", "strokeWidth": 1},
        encoding={
            "x": {
                "field": "hour",
                "type": "ordinal",
                "title": "local hour",
                "axis": {
                    "labelAngle": 0,
                    "labelOverlap": "greedy",
                    "labelSeparation": 4,
                    "domain": False,
                    "ticks": False,
                },
            },
            "y": {
                "field": "weekday",
                "type": "ordinal",
                "sort": WEEKDAYS,
                "title": None,
                "axis": {"domain": False, "ticks": False, "labelPadding": 6},
            },
            "color": {
                "field": "messages",
                "type": "quantitative",
                "title": metric("user_messages").title,
                "scale": {"range": ["#eef3f7", ACCENT], "domainMin": 0},
                "legend": {
                    "orient": "top",
                    "titleOrient": "left",
                    "titleFontWeight": "normal",
                    "gradientLength": 120,
                    "tickCount": 3,
                    "format": "d",
                },
            },
        },
    )


def hours(rows: Rows) -> Spec:
    """Messages of one day by local hour and sender. Rows: local_hour and one column per sender."""
    shown = [
        {"hour": row["local_hour"], "sender": sender, "messages": row[column]}
        for row in rows
        for column, sender in SENDERS.items()
        if row[column]
    ]
    x = {
        "field": "hour",
        "type": "ordinal",
        "title": "local hour",
        "axis": {"labelAngle": 0, "ticks": False},
        "scale": {"domain": list(range(24)), "paddingInner": 0.15},
    }
    return _stacked(
        shown,
        [],
        value="messages",
        by="sender",
        shows="messages",
        colours=SENDER_COLOURS,
        x=x,
        width=1000,
        height=200,
    )
