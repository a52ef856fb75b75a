"""What must hold of facts and marts whatever the conversations are: order, repetition, days, zones, totals.

Each property runs over a few drawn sets of conversations here, near the nights on which clocks change, and
over many in the long trials. Values themselves are held against the oracle in `test_analytics`; that of a
message's versions the last one counts is the affair of the documents (`test_versions`).
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import TablePath, load_models
from cai_assets_tests.lake_data import Row, Rows, Warehouse
from cai_assets_tests.unit.test_analytics import Sample, check_invariants, conversation_sets

Property = Callable[[Sample, random.Random], None]
FACTS = [path for path in load_models() if path[0] == "facts"]
# Columns of marts that add up over days, whichever days there are.
ADDITIVE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "volume": (
        ("channel", "language"),
        ("conversations_started", "messages", "user_messages", "bot_messages", "agent_messages", "waits"),
    ),
    "response": (
        ("channel", "language", "clock", "hours"),
        ("n", "n_open", "within_target_1", "within_target_2", "within_target_3", "decided_1", "decided_3"),
    ),
    "response_histogram": (("channel", "language", "clock", "hours", "bucket"), ("n",)),
    "resolution": (
        ("channel", "language"),
        ("started", "resolved", "reopened", "settled", "durable", "resolution_events", "resolution_n"),
    ),
    "containment": (
        ("channel", "bot"),
        ("conversations", "started", "bot_conversations", "contained", "handed_off", "contained_settled"),
    ),
    "agent": (
        ("agent_type", "agent_id"),
        ("messages", "waits_answered", "transfers_in", "resolution_events", "resolutions", "undone"),
    ),
    "language": (("language",), ("messages", "user_messages", "needing_translation", "translated")),
}


def made(
    sample: Sample,
    folder: str,
    *,
    rows: Rows | None = None,
    layers: Iterable[str] = ("facts", "marts"),
    timezone: str | None = None,
) -> Warehouse:
    """The models run over the sample, or over other rows of the lake."""
    warehouse = Warehouse(
        Path(folder) / f"{random.random()}",
        DuckDBEngine(threads=1),  # nothing here is worth a second thread
        report_timezone=timezone or sample.timezone,
        business_hours=sample.hours,
    )
    warehouse.load(sample.rows if rows is None else rows)
    warehouse.run(layers)
    return warehouse


def assert_same(
    found: Warehouse, expected: Warehouse, paths: Iterable[TablePath] = tuple(load_models())
) -> None:
    for path in paths:
        assert found.read(*path).equals(expected.read(*path)), path


def again_of(sample: Sample, messages: list[Row]) -> Sample:
    """The same conversations with other messages."""
    return Sample(sample.conversations, messages, sample.timezone, sample.hours)


# -- the properties


def order_and_repetition_change_nothing(sample: Sample, chance: random.Random) -> None:
    """Rows of the lake in any order, run twice."""
    with TemporaryDirectory() as folder:
        once = made(sample, folder)
        shuffled = {name: chance.sample(rows, len(rows)) for name, rows in sample.rows.items()}
        other = made(sample, folder, rows=shuffled)
        assert_same(other, once)
        other.run()
        assert_same(other, once)


def days_by_themselves_equal_the_whole(sample: Sample, chance: random.Random) -> None:
    """The facts of each day from that day's rows alone, in any order; marts of these files together."""
    days = sorted({row["partition"] for row in sample.rows["conversations"]})
    with TemporaryDirectory() as folder:
        whole = made(sample, folder)
        by_day = {
            day: made(sample, folder, rows=_of_days(sample, {day}), layers=["facts"])
            for day in chance.sample(days, len(days))
        }
        together = made(sample, folder, layers=[])
        for path in FACTS:
            parts = [by_day[day].read(*path) for day in days]
            if parts:
                assert pa.concat_tables(parts).equals(whole.read(*path)), path
            together.files[path] = [file for day in days for file in by_day[day].files[path]]
        together.run(["marts"])
        assert_same(together, whole)


def another_message_changes_its_own_day_alone(sample: Sample, chance: random.Random) -> None:
    """A further message of one conversation leaves the facts of all other days as they are."""
    talk = chance.choice(sample.conversations)
    late = {
        "message_id": "one more",
        "conversation_id": talk["conversation_id"],
        "seq": None,
        "sender_type": chance.choice(["user", "bot", "agent", "system"]),
        "sender_id": "z",
        "text": "noch etwas",
        "language": "en",
        "created_at": talk["started_at"] + timedelta(minutes=chance.randrange(5000)),
    }
    with TemporaryDirectory() as folder:
        before = made(sample, folder, layers=["facts"])
        after = made(again_of(sample, [*sample.messages, late]), folder, layers=["facts"])
        staged = after.read("facts", "stg_messages")
        own = staged.filter(pc.equal(staged["message_id"], "one more"))["partition"][0]
        for path in FACTS:
            if path[1] == "fct_llm_call":  # the sample makes up calls for every message in turn
                continue
            earlier, later = (_without_ledger(w.read(*path)) for w in (before, after))
            rest = [table.filter(pc.not_equal(table["partition"], own)) for table in (earlier, later)]
            assert rest[0].equals(rest[1]), path


def another_zone_moves_counts_and_keeps_totals(sample: Sample, chance: random.Random) -> None:
    """What the days are changes, how much there was does not."""
    zone = chance.choice(["UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland"])
    # hours by their own clock, so that they do not move with the zone; known at all times
    here = Sample(
        sample.conversations, sample.messages, sample.timezone, None if chance.random() < 0.3 else FIXED
    )
    with TemporaryDirectory() as folder:
        first = made(here, folder)
        moved = Sample(here.conversations, here.messages, zone, here.hours)
        second = made(moved, folder)
        for name, (by, columns) in ADDITIVE.items():
            assert totals(first, name, by, columns) == totals(second, name, by, columns), name


def totals_of_marts_are_counts_of_facts(sample: Sample, _: random.Random) -> None:
    """Over every dimension; waits are answered or open, outcomes sum to all."""
    with TemporaryDirectory() as folder:
        warehouse = made(sample, folder)
        check_invariants(warehouse)
        facts = [row for row in warehouse.rows("facts", "fct_conversation") if row["is_counted"]]
        waits = [row for row in warehouse.rows("facts", "fct_wait") if row["traffic_class"] == "live"]
        for by in ("channel", "language"):
            assert totals(warehouse, "volume", (by,), ("messages",)) == _sum(facts, by, "messages")
            assert totals(warehouse, "volume", (by,), ("waits",)) == Counter(
                {(row[by], "waits"): sum(w[by] == row[by] for w in waits) for row in waits}
            )
            assert totals(warehouse, "resolution", (by,), ("resolution_events",)) == _sum(
                [row for row in facts if not row["is_empty"]], by, "resolves", "resolution_events"
            )
        of_a_day = ("report_date",), ("resolution_events",)
        assert totals(warehouse, "agent", *of_a_day) == totals(warehouse, "resolution", *of_a_day)
        response = totals(warehouse, "response", ("clock", "hours"), ("n", "n_open"))
        assert response["reply", "calendar", "n"] + response["reply", "calendar", "n_open"] == len(waits)
        known = sum(row["waiting_since_business_us"] is not None for row in waits)
        assert response["reply", "business", "n"] + response["reply", "business", "n_open"] == known
        for row in warehouse.rows("marts", "containment"):
            outcomes = {name: n for name, n in row.items() if name.startswith("outcome_")}
            assert sum(outcomes.values()) == row["conversations"]
            assert sum(n / row["conversations"] for n in outcomes.values()) == pytest.approx(1)


FIXED = json.dumps(
    {
        "valid_from": "2024-01-01",
        "timezone": "Europe/Berlin",
        "week": {"sat": ["09:00-24:00"], "sun": ["00:00-12:00", "13:00-24:00"], "wed": ["00:00-24:00"]},
    }
)


def totals(
    warehouse: Warehouse, name: str, by: tuple[str, ...], columns: tuple[str, ...]
) -> Counter[tuple[Any, ...]]:
    """Sums of a mart's columns, by some of its dimensions and the column's name; zeros are left out."""
    found: Counter[tuple[Any, ...]] = Counter()
    for row in warehouse.rows("marts", name):
        for column in columns:
            found[(*(row[dimension] for dimension in by), column)] += row[column]
    return +found


def _sum(
    rows: list[Mapping[str, Any]], by: str, column: str, name: str | None = None
) -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        found[row[by], name or column] += row[column]
    return +found


def _of_days(sample: Sample, days: set[str]) -> Rows:
    return {name: [row for row in rows if row["partition"] in days] for name, rows in sample.rows.items()}


def _without_ledger(table: pa.Table) -> pa.Table:
    return table.drop_columns(
        [name for name in ("llm_cost", "llm_currency", "tokens") if name in table.column_names]
    )


PROPERTIES: list[Property] = [
    order_and_repetition_change_nothing,
    days_by_themselves_equal_the_whole,
    another_message_changes_its_own_day_alone,
    another_zone_moves_counts_and_keeps_totals,
    totals_of_marts_are_counts_of_facts,
]


def hold(held: Property, examples: int) -> None:
    """Hold a property over so many sets of conversations."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(conversation_sets(), st.randoms(use_true_random=False))
    def over_any_conversations(sample: Sample, chance: random.Random) -> None:
        assume(sample.conversations)
        held(sample, chance)

    over_any_conversations()


@pytest.mark.parametrize("held", PROPERTIES, ids=lambda held: held.__name__)
def test_whatever_the_conversations(held: Property) -> None:
    hold(held, 3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("held", PROPERTIES, ids=lambda held: held.__name__)
def test_whatever_many_conversations(held: Property) -> None:
    hold(held, 150)
