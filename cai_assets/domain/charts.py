"""Charts of a day's report as Vega-Lite specifications, from rows of the report queries.

Colours are those of Okabe and Ito, told apart by people with any kind of colour vision. The dashboard draws
its
charts itself, in the browser (`templates/dashboard.js`); pages and texts belong to `pages.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cai_assets.schemas.metrics import metric

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

SENDERS = {"user_messages": "users", "bot_messages": "bots", "agent_messages": "agents"}
SENDER_COLOURS = {"users": "#0072B2", "bots": "#009E73", "agents": "#D55E00"}
WIDTH, HEIGHT = 1000, 200  # pixels


def hours(rows: Rows) -> Spec:
    """Messages of one day by local hour and sender. Rows: local_hour and one column per sender."""
    shown = [
        {"hour": row["local_hour"], "sender": sender, "messages": row[column], "place": place}
        for row in rows
        for place, (column, sender) in enumerate(SENDERS.items())
        if row[column]
    ]
    counted = metric("messages")
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": shown},
        "width": WIDTH,
        "height": HEIGHT,
        "padding": {"left": 0, "top": 4, "right": 16, "bottom": 4},
        "config": {
            "font": "system-ui, sans-serif",
            "view": {"stroke": None},
            "axis": {
                "labelColor": "#444",
                "labelFontSize": 11,
                "titleColor": "#5b6875",
                "titleFontWeight": "normal",
                "gridColor": "#e8ebef",
                "domainColor": "#c9d1d9",
                "tickColor": "#c9d1d9",
            },
        },
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "x": {
                "field": "hour",
                "type": "ordinal",
                "title": "local hour",
                "axis": {"labelAngle": 0, "ticks": False},
                "scale": {"domain": list(range(24)), "paddingInner": 0.15},
            },
            "y": {
                "field": "messages",
                "type": "quantitative",
                "title": counted.unit,
                "axis": {"tickMinStep": 1, "tickCount": 5, "format": "d", "domain": False, "ticks": False},
            },
            "color": {
                "field": "sender",
                "type": "nominal",
                "title": "sender",
                "legend": {"orient": "top", "title": None},
                "scale": {"domain": list(SENDER_COLOURS), "range": list(SENDER_COLOURS.values())},
            },
            "order": {"field": "place", "type": "quantitative"},
            "tooltip": [
                {"field": "hour", "type": "nominal"},
                {"field": "sender", "type": "nominal"},
                {"field": "messages", "type": "quantitative", "title": counted.title},
            ],
        },
    }
