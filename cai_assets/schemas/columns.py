"""Columns that tables of facts and marts have in common, and the kinds that they are made of."""

import pyarrow as pa

from cai_assets.schemas.base import Column
from cai_assets.schemas.lake import TRAFFIC_CLASSES

TEXT, COUNT, SECONDS, FLAG, DATE, INSTANT = (
    pa.string(),
    pa.int64(),
    pa.float64(),
    pa.bool_(),
    pa.date32(),
    pa.int64(),
)


def instant(name: str, description: str, *, nullable: bool = False) -> Column:
    """An instant as an integer of microseconds since the epoch, UTC."""
    return Column(name, INSTANT, description, "us", nullable)


def seconds(name: str, description: str) -> Column:
    """A duration; NULL where it has no end, no start, or would be negative."""
    return Column(name, SECONDS, description, "s", nullable=True)


def business(name: str, description: str) -> Column:
    """An instant as open microseconds before it."""
    return Column(name, INSTANT, description, "us", nullable=True)


def business_seconds(name: str, description: str) -> Column:
    """A duration in business time; 0 where all of it lay outside opening hours."""
    return Column(name, SECONDS, description, "s", nullable=True)


def count(name: str, description: str, unit: str = "messages", *, nullable: bool = False) -> Column:
    """A whole number of things."""
    return Column(name, COUNT, description, unit, nullable)


CHANNEL = Column("channel", TEXT, "Channel of the conversation; `unknown` where the source names none.")
LANGUAGE = Column(
    "language",
    TEXT,
    "Language of the conversation: declared, else that of most of its user's messages (of equals the "
    "alphabetically first), else `und`.",
)
TRAFFIC = Column("traffic_class", TEXT, "Whether it counts: only `live` does.", values=TRAFFIC_CLASSES)
