"""Which messages count, in which order, and the arithmetic of durations and quantiles."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

Row = Mapping[str, Any]

SIDES = {"user": "user", "bot": "staff", "agent": "staff"}


def load(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read `conversations.parquet` and `messages.parquet` of a folder as rows."""
    # ParquetFile, not read_table: the latter would take a folder named `a=b` for a partition.
    conversations, messages = (
        pq.ParquetFile(folder / f"{name}.parquet").read().to_pylist()
        for name in ("conversations", "messages")
    )
    return conversations, messages


def live(conversations: Iterable[Row]) -> list[Row]:
    """Conversations of real traffic; a missing `traffic_class` is `live`."""
    return [c for c in conversations if (c.get("traffic_class") or "live") == "live"]


def seconds(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from start to end; None if one is missing or the end lies before the start."""
    if start is None or end is None or end < start:
        return None
    return (end - start) / timedelta(seconds=1)


def quantile(values: Iterable[float | None], q: float) -> float | None:
    """The q-quantile of what is not None, linear between the closest ranks; None if there is nothing."""
    known = sorted(v for v in values if v is not None)
    if not known:
        return None
    position = q * (len(known) - 1)
    below = int(position)
    above = min(below + 1, len(known) - 1)
    return known[below] + (known[above] - known[below]) * (position - below)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def counted(messages: Iterable[Row]) -> list[Row]:
    """The messages that count, each once, in order. They may belong to several conversations."""
    latest: dict[str, Row] = {}
    for message in messages:
        known = latest.get(message["message_id"])
        if known is None or _version(message) >= _version(known):
            latest[message["message_id"]] = message
    return sorted(
        (
            m
            for m in latest.values()
            if m["sender_type"] in SIDES
            and m.get("deleted_at") is None
            and not (m.get("private") or m.get("is_private"))
        ),
        key=lambda m: (m["created_at"], _seq(m), m["message_id"]),
    )


def _version(message: Row) -> datetime:
    return message.get("updated_at") or datetime.min.replace(tzinfo=UTC)


def _seq(message: Row) -> float:
    # A message without a place comes after those that have one, as NULL does in SQL.
    return float("inf") if message.get("seq") is None else message["seq"]


def by_conversation(
    conversations: Iterable[Row], messages: Iterable[Row]
) -> dict[str, tuple[Row, list[Row]]]:
    """Each conversation with its counted messages in order."""
    grouped: dict[str, tuple[Row, list[Row]]] = {c["conversation_id"]: (c, []) for c in conversations}
    for message in counted(messages):
        if message["conversation_id"] in grouped:
            grouped[message["conversation_id"]][1].append(message)
    return grouped


def local_day(at: datetime, zone: ZoneInfo) -> date:
    """The day of the instant in the zone, by the clock that held there then."""
    return at.astimezone(zone).date()
