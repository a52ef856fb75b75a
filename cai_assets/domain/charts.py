"""Charts as Vega-Lite specifications, from rows of the report queries. Pages and texts belong to `pages.py`.

Colours are those of Okabe and Ito, told apart by people with any kind of colour vision.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

SENDERS = {"user_messages": "users", "bot_messages": "bots", "agent_messages": "agents"}
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
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _chart(rows: Rows, mark: Any, encoding: Mapping[str, Any], **more: Any) -> Spec:
    """A specification with the settings that all charts share; `width: container` makes it follow its box."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": [{key: _plain(value) for key, value in row.items()} for row in rows]},
        "mark": mark,
        "encoding": dict(encoding),
        "width": "container",
        "height": 240,
        "config": {
            "font": "system-ui, sans-serif",
            "view": {"stroke": None},
            "axis": {"labelColor": "#444", "titleColor": "#444", "gridColor": "#e4e4e4"},
            "range": {"category": PALETTE},
        },
        **more,
    }


def _day(title: str = "") -> Spec:
    return {"field": "report_date", "type": "temporal", "title": title, "axis": {"format": "%d %b"}}


def _count(field: str, title: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "axis": {"tickMinStep": 1}}


def volume(rows: Rows) -> Spec:
    """Conversations started per day by channel. Rows: report_date, channel, conversations_started."""
    return _chart(
        rows,
        {"type": "bar", "tooltip": True},
        {
            "x": {**_day(), "timeUnit": "yearmonthdate"},
            "y": _count("conversations_started", "conversations"),
            "color": {"field": "channel", "type": "nominal", "title": "Channel"},
        },
    )


def messages(rows: Rows) -> Spec:
    """Messages per day by sender. Rows: report_date and one column per sender."""
    return _chart(
        rows,
        {"type": "line", "point": True, "tooltip": True},
        {
            "x": _day(),
            "y": _count("messages", "messages"),
            "color": {"field": "sender", "type": "nominal", "title": "Written by"},
        },
        transform=[{"calculate": f"datum.{column}", "as": label} for column, label in SENDERS.items()]
        + [{"fold": list(SENDERS.values()), "as": ["sender", "messages"]}],
    )


def replies(rows: Rows) -> Spec:
    """Median and 90th percentile of the reply time per day. Rows: report_date, p50_s, p90_s; seconds."""
    return _chart(
        rows,
        {"type": "line", "point": True, "tooltip": True},
        {
            "x": _day(),
            "y": {"field": "seconds", "type": "quantitative", "title": "seconds"},
            "color": {"field": "percentile", "type": "nominal", "title": "Reply time"},
        },
        transform=[
            {"calculate": "datum.p50_s", "as": "median"},
            {"calculate": "datum.p90_s", "as": "90th percentile"},
            {"fold": ["median", "90th percentile"], "as": ["percentile", "seconds"]},
        ],
    )


def outcomes(rows: Rows) -> Spec:
    """How conversations ended, per day, stacked. Rows: report_date, outcome, conversations."""
    return _chart(
        rows,
        {"type": "bar", "tooltip": True},
        {
            "x": {**_day(), "timeUnit": "yearmonthdate"},
            "y": _count("conversations", "conversations"),
            "color": {
                "field": "outcome",
                "type": "nominal",
                "title": "Outcome",
                "scale": {"domain": list(OUTCOMES), "range": list(OUTCOMES.values())},
            },
        },
    )


def languages(rows: Rows) -> Spec:
    """Messages by language. Rows: language, messages."""
    return _chart(
        rows,
        {"type": "bar", "tooltip": True},
        {
            "y": {"field": "language", "type": "nominal", "sort": "-x", "title": ""},
            "x": _count("messages", "messages"),
        },
    )


def categories(rows: Rows) -> Spec:
    """Conversations by category. Rows: category, conversations."""
    return _chart(
        rows,
        {"type": "bar", "tooltip": True},
        {
            "y": {"field": "category", "type": "nominal", "sort": "-x", "title": ""},
            "x": _count("conversations", "conversations"),
        },
    )


def heatmap(rows: Rows) -> Spec:
    """Users' messages by local weekday and hour. Rows: local_isodow, local_hour, user_messages."""
    named = [{**row, "weekday": WEEKDAYS[row["local_isodow"] - 1]} for row in rows]
    return _chart(
        named,
        {"type": "rect", "tooltip": True},
        {
            "x": {"field": "local_hour", "type": "ordinal", "title": "hour", "axis": {"labelAngle": 0}},
            "y": {"field": "weekday", "type": "ordinal", "sort": WEEKDAYS, "title": ""},
            "color": {
                "field": "user_messages",
                "type": "quantitative",
                "title": "messages",
                "scale": {"scheme": "viridis"},
            },
        },
    )


def hours(rows: Rows) -> Spec:
    """Messages of one day by local hour and sender. Rows: local_hour and one column per sender."""
    long = [
        {"hour": row["local_hour"], "sender": label, "messages": row[column]}
        for row in rows
        for column, label in SENDERS.items()
    ]
    return _chart(
        long,
        {"type": "bar", "tooltip": True},
        {
            "x": {
                "field": "hour",
                "type": "ordinal",
                "title": "hour",
                "axis": {"labelAngle": 0},
                "scale": {"domain": list(range(24))},
            },
            "y": _count("messages", "messages"),
            "color": {"field": "sender", "type": "nominal", "title": "Written by"},
        },
        width=760,
    )
