"""Holding an engine against DuckDB: random conversations, many small sets in one lake, and equal results.

What the numbers must be is in `oracle`, which DuckDB is held against; here engines only have to agree.
"""

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from cai_assets.engines.base import Engine
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import DUCKDB_ALONE, TablePath, load_models
from cai_assets.schemas.tables import TABLES
from cai_assets_tests.lake_data import Row, Warehouse
from cai_assets_tests.unit.test_analytics import Sample

START = datetime(2024, 3, 28, 22, tzinfo=UTC)  # Europe's clocks change two nights later
GAPS = (0, 0, 1, 5, 29, 30, 31, 119, 600, 1440, 10_080, 10_081)
BUSINESS_HOURS = (
    '{"week": {"mon": ["09:00-12:00", "13:00-17:30"], "tue": ["09:00-17:00"], "sat": ["10:00-13:00"]}}'
)
CHANGES = (("open", "resolved"), ("resolved", "open"), ("pending", "open"), (None, "resolved"))


def sets_of_conversations(numbers: Iterable[int], timezone: str) -> Sample:
    """A set of up to five conversations of two users for each number, all in one lake.

    Instants collide, places are missing, events come in odd orders, values are NULL; some sets are empty, and
    some days have none.
    """
    conversations: list[Row] = []
    messages: list[Row] = []
    for number in numbers:
        for conversation, own in _set(Random(number), number):
            conversations.append(conversation)
            messages += own
    Random(len(messages)).shuffle(messages)
    return Sample(conversations, messages, timezone)


def _set(chance: Random, number: int) -> Iterator[tuple[Row, list[Row]]]:
    first = START + timedelta(days=chance.randrange(0, 40), minutes=chance.randrange(0, 1440))
    for place in range(chance.choice((0, 1, 1, 2, 3, 5))):
        started = first + timedelta(minutes=chance.choice((0, 0, 20, 700, 1440, 2900)))
        at, events = started, []
        for _ in range(chance.choice((0, 0, 1, 2, 4))):
            at += timedelta(minutes=chance.choice(GAPS))
            before, after = chance.choice(CHANGES)
            events.append({"from": before, "to": after, "at": at, "actor": chance.choice(("a", None))})
        chance.shuffle(events)
        key = f"{number}-{place}"
        conversation = {
            "conversation_id": key,
            "user_id": f"u{number // 3}-{chance.randrange(2)}",
            "agent_id": chance.choice(("x", None)),
            "status": chance.choice(("open", "pending", "resolved", "resolved", "abandoned")),
            "channel": chance.choice(("web", "phone", None)),
            "language": chance.choice(("de", None, None)),
            "traffic_class": chance.choice(("live", "live", "live", "test")),
            "csat_score": chance.choice((None, None, 1.0, 4.0, 4.5)),
            "started_at": started,
            "ended_at": chance.choice((None, started, started + timedelta(hours=5))),
            "status_events": events,
        }
        yield conversation, list(_messages(chance, key, started))


def _messages(chance: Random, key: str, started: datetime) -> Iterator[Row]:
    at = started
    for place in range(chance.choice((0, 1, 2, 3, 5, 9))):
        at += timedelta(minutes=chance.choice(GAPS), microseconds=chance.choice((0, 0, 1, 999_999)))
        yield {
            "message_id": f"{key}-{chance.randrange(10)}{place}",
            "conversation_id": key,
            "seq": chance.choice((place, place, 1, None)),
            "sender_type": chance.choice(("user", "user", "bot", "agent", "system")),
            "sender_id": chance.choice(("x", "y", None)),
            "private": chance.random() < 0.2,
            "text": chance.choice(("ja", None, "", "おはよう", "naïve – 😀")),
            "language": chance.choice(("de", "de-AT", "DE", "en", "und", "", None)),
            "created_at": at,
        }


def warehouse(folder: Path, sample: Sample) -> Warehouse:
    """A lake of the sample with all models run by DuckDB."""
    engine = DuckDBEngine(threads=1, temp_directory=folder / "spill")
    made = Warehouse(folder, engine, business_hours=BUSINESS_HOURS, report_timezone=sample.timezone)
    made.load(sample.rows)
    made.run()
    return made


def assert_engine_agrees(warehouse: Warehouse, engine: Engine, paths: Iterable[TablePath] = ()) -> None:
    """Run models with the engine over the inputs that DuckDB had, and hold each result against DuckDB's.

    Args:
        warehouse: with all models run.
        engine: the other engine.
        paths: the tables; if none is given, all but those that are DuckDB's alone.
    """
    models = load_models()
    for path in paths or [path for path in models if path not in DUCKDB_ALONE]:
        model = models[path]
        inputs = {key: warehouse.files[key] for key in model.inputs}
        values = warehouse.values(model.parameters)
        found = engine.run(model, inputs, values, table=TABLES[path]).read_all()
        difference = different(found, warehouse.read(*path))
        assert difference is None, f"{'.'.join(path)} on {engine.about()}: {difference}"


def different(found: pa.Table, expected: pa.Table) -> str | None:
    """The first place where two tables differ (floats by more than 1e-9 of their value), or None."""
    if not found.schema.equals(expected.schema):
        return f"schema {found.schema} instead of {expected.schema}"
    if found.num_rows != expected.num_rows:
        return f"{found.num_rows} rows instead of {expected.num_rows}"
    for name in expected.column_names:
        if found[name].equals(expected[name]):
            continue
        pairs = zip(found[name].to_pylist(), expected[name].to_pylist(), strict=True)
        is_float = pt.is_floating(expected.schema.field(name).type)
        for number, (one, other) in enumerate(pairs):
            if one != other and not (is_float and _close(one, other)):
                row = expected.slice(number, 1).to_pylist()[0]
                return f"{name} of row {number} is {one!r} instead of {other!r}: {row}"
    return None


def _close(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return False
    return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
