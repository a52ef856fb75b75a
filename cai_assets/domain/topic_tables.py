"""Topics as rows of the tables `marts.topic`, `marts.topic_conversation` and `marts.topic_week`. Pure.

How topics are found belongs to `domain.topics`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa

from cai_assets.domain.topics import NO_TOPIC, Topics
from cai_assets.schemas.base import Table
from cai_assets.schemas.content import TOPIC, TOPIC_CONVERSATION, TOPIC_WEEK

LABEL_TERMS = 3
WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Placed:
    """One conversation and its topic.

    Attributes:
        partition: day it is kept under.
        conversation_id: which one.
        report_date: local day of its first counted message.
        topic: its topic, `NO_TOPIC` without one.
        weight: nearness to the topic; None without one.
    """

    partition: str
    conversation_id: str
    report_date: date
    topic: int
    weight: float | None


def label(topics: Topics, topic: int) -> str:
    """What people call a topic: its first terms."""
    if topic == NO_TOPIC:
        return "no terms"
    return ", ".join(term for term, _ in topics.terms[topic - 1][:LABEL_TERMS])


def tables(topics: Topics, placed: Sequence[Placed]) -> dict[tuple[str, str], pa.Table]:
    """The three tables by their paths."""
    return {
        TOPIC.path: topic_table(topics, placed),
        TOPIC_CONVERSATION.path: conversation_table(placed),
        TOPIC_WEEK.path: week_table(topics, placed),
    }


def topic_table(topics: Topics, placed: Sequence[Placed]) -> pa.Table:
    """One row per topic and term."""
    sizes = Counter(one.topic for one in placed)
    return _table(
        TOPIC,
        [
            (topic, place, label(topics, topic), term, weight, sizes[topic])
            for topic, named in enumerate(topics.terms, 1)
            for place, (term, weight) in enumerate(named, 1)
        ],
    )


def conversation_table(placed: Sequence[Placed]) -> pa.Table:
    """One row per conversation."""
    nearest_first = sorted(
        placed, key=lambda one: (one.topic, -(one.weight or 0.0), one.conversation_id, one.partition)
    )
    seen: Counter[int] = Counter()
    rows = []
    for one in nearest_first:
        seen[one.topic] += 1
        month, place = f"{one.report_date:%Y-%m}", seen[one.topic]
        rows.append(
            (month, one.report_date, one.partition, one.conversation_id, one.topic, place, one.weight)
        )
    rows.sort(key=lambda row: (row[0], row[2], row[3]))
    return _table(TOPIC_CONVERSATION, rows)


def week_table(topics: Topics, placed: Sequence[Placed]) -> pa.Table:
    """One row per week and topic, of every week between the first and the last."""
    numbers = Counter((_monday(one.report_date), one.topic) for one in placed)
    of_week = Counter(_monday(one.report_date) for one in placed)
    told = sorted({one.topic for one in placed} | set(range(1, len(topics.terms) + 1)))
    return _table(
        TOPIC_WEEK,
        [
            (f"{week:%Y-%m}", week, topic, label(topics, topic), numbers[week, topic], of_week[week])
            for week in _weeks(of_week)
            for topic in told
        ],
    )


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _weeks(found: Counter[date]) -> Iterator[date]:
    if found:
        week, last = min(found), max(found)
        while week <= last:
            yield week
            week += WEEK


def _table(table: Table, rows: Sequence[tuple[object, ...]]) -> pa.Table:
    schema = table.arrow_schema
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = [pa.array(list(values), field.type) for field, values in zip(schema, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
