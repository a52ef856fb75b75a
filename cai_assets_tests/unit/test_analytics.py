"""Facts and marts against the oracle: the generator's conversations, and small awkward random ones."""

import functools
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import load_models, load_tests
from cai_assets.sandbox.sample import generate
from cai_assets.schemas.content import TOPIC
from cai_assets.schemas.tables import TABLES
from cai_assets_tests import oracle
from cai_assets_tests.lake_data import Row, Rows, Warehouse, lake_rows
from cai_assets_tests.oracle import content, enrichment, flow, marts, people
from cai_assets_tests.oracle.hours import OpenMinutes

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def us(instant: datetime | None) -> int | None:
    return None if instant is None else (instant - EPOCH) // MICROSECOND


def same(found: Any, expected: Any) -> bool:
    """Equal; numbers that are not whole to nine digits, as a sum has another order in each engine."""
    if isinstance(found, float) and isinstance(expected, int | float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    return bool(found == expected)


def assert_rows(found: list[dict[str, Any]], key: tuple[str, ...], expected: Mapping[Any, Row]) -> None:
    """Every expected row is there with its values, and no other row."""
    by_key = {tuple(row[name] for name in key): row for row in found}
    assert len(by_key) == len(found), "a key is repeated"
    assert set(by_key) == set(expected)
    for values, row in expected.items():
        wrong = {
            name: (by_key[values][name], value)
            for name, value in row.items()
            if not same(by_key[values][name], value)
        }
        assert not wrong, f"{dict(zip(key, values, strict=True))}: found and expected {wrong}"


class Sample:
    """Conversations with everything that belongs to them, as rows of the oracle and of the lake."""

    def __init__(
        self, conversations: list[Row], messages: list[Row], timezone: str, hours: str | None = None
    ) -> None:
        self.conversations = conversations
        self.timezone = timezone
        self.hours = hours
        self.live = oracle.live(conversations)
        self.messages = [self._detected(m) for m in messages]
        self.translations: dict[str, set[str]] = defaultdict(set)
        self.categories: dict[str, str] = {}
        self.decisions = list(self._categories())
        self.calls = list(self._calls())
        self.rows = lake_rows(
            conversations,
            self.messages,
            timezone,
            translations=list(self._translations()),
            categories=self.decisions,
            llm_calls=self.calls,
        )

    @staticmethod
    def _detected(message: Row) -> Row:
        # Detection disagrees with the declaration now and then, and cannot tell short texts.
        letters = sum(map(ord, message["message_id"]))
        detected = ("und", "fr", None)[letters % 3] if letters % 5 == 0 else message.get("language")
        return {**message, "language_detected": detected}

    def _translations(self) -> Any:
        for m in lake_rows(self.conversations, self.messages)["messages"]:
            letters = sum(map(ord, m["message_id"]))
            statuses = [("ok", "failed", "skipped")[letters % 3], "skipped"][: letters % 4]
            for version, status in enumerate(statuses):
                self.translations[m["message_id"]].add(status)
                yield {
                    "conversation_id": m["conversation_id"],
                    "message_id": m["message_id"],
                    "text_hash": "",
                    "source_language": "de",
                    "target_language": "en",
                    "prompt_version": str(version),
                    "status": status,
                }

    def _categories(self) -> Any:
        for n, c in enumerate(self.conversations):
            # Versions are numbers: 10 is later than 9.
            for version in range(9, 9 + n % 3):
                self.categories[c["conversation_id"]] = f"{n % 4}/{version}"
                yield {
                    "conversation_id": c["conversation_id"],
                    "taxonomy_version": str(version),
                    "prompt_version": "1",
                    "category": f"{n % 4}/{version}",
                    "source": ("rule", "llm", "human")[n % 5 % 3],
                }

    def _calls(self) -> Any:
        for n, c in enumerate(self.conversations):
            for status in ("failed", "ok")[n % 2 :]:
                known = n % 3 > 0 or status == "ok"
                yield {
                    "call_id": f"call-{n}-{status}",
                    "purpose": "category",
                    "status": status,
                    "conversation_id": c["conversation_id"],
                    "workflow_run_id": f"run-{n}-{status}" if n % 4 else None,
                    "model": ("small", "large", None)[n % 3],
                    "tokens": n if known else None,
                    "price": Decimal(n) / 10**8 if known else None,
                    "currency": ("USD", None)[n % 7 // 6],
                    "latency_ms": 10 * n,
                    "attempts": 1 + n % 2,
                    "created_at": c["started_at"],
                }
        yield from self._translation_calls()

    def _translation_calls(self) -> Any:
        """Texts asked about three at a time, or served from the memory; some before they were written."""
        kept = lake_rows(self.conversations, self.messages)["messages"]
        for n, m in enumerate(kept):
            status = ("ok", "cached", "failed", "ok")[n % 4]
            asked = status != "cached"
            yield {
                "call_id": f"translation-{n}",
                "purpose": "translation",
                "status": status,
                "conversation_id": m["conversation_id"],
                "message_id": m["message_id"],
                "workflow_run_id": f"run-of-three-{n // 3}" if asked else None,
                "model": "small" if asked else None,
                "tokens": n % 11 or None if asked else None,
                "price": Decimal(n % 11) / 10**8 if asked and n % 11 else None,
                "currency": "USD" if asked and n % 11 else None,
                "latency_ms": 100 + n if asked else None,
                "attempts": int(asked and n % 3 == 0),
                "created_at": m["created_at"] + timedelta(seconds=(n % 5 - 1) * 600),
            }

    @functools.cached_property
    def open_minutes(self) -> OpenMinutes | None:
        """Business time, over all instants that there are."""
        if self.hours is None:
            return None
        instants = [self.as_of]
        for row in (*self.conversations, *self.messages):
            instants += [row[name] for name in ("started_at", "ended_at", "created_at") if row.get(name)]
        for conversation in self.conversations:
            instants += [event["at"] for event in oracle.status_events(conversation)]
        calendars = json.loads(self.hours)
        calendars = calendars if isinstance(calendars, list) else [calendars]
        return OpenMinutes(calendars, self.timezone, min(instants), max(instants))

    def business_s(self, start: datetime | None, end: datetime | None) -> float | None:
        return None if self.open_minutes is None else self.open_minutes.between(start, end)

    @property
    def as_of(self) -> datetime:
        """The latest change of the source, of test traffic too."""
        changes = [
            row["source_updated_at"] for name in ("conversations", "messages") for row in self.rows[name]
        ]
        return max(changes, default=EPOCH)

    def day(self, instant: datetime) -> date:
        return instant.astimezone(ZoneInfo(self.timezone)).date()


def check_facts(warehouse: Warehouse, sample: Sample) -> None:
    """Hold every fact against the oracle."""
    grouped = oracle.by_conversation(sample.conversations, sample.messages)
    facts = oracle.all_facts(sample.conversations, sample.messages)
    expected = {}
    for key, fact in facts.items():
        conversation, ordered = grouped[key]
        channel, language = marts.dimensions(conversation, ordered)
        last_agent = [m for m in ordered if m["sender_type"] == "agent"][-1:]
        expected[(key,)] = {
            "channel": channel,
            "language": language,
            "category": sample.categories.get(key),
            "first_message_at_us": us(fact.first_message_at),
            "last_message_at_us": us(fact.last_message_at),
            "first_message_date": sample.day(fact.first_message_at or conversation["started_at"]),
            "messages": fact.messages,
            "user_messages": fact.user_messages,
            "bot_messages": fact.bot_messages,
            "agent_messages": fact.agent_messages,
            "user_turns": fact.user_turns,
            "agents": fact.agents,
            "last_agent_id": last_agent[0].get("sender_id") if last_agent else None,
            "first_bot_id": next((m.get("sender_id") for m in ordered if m["sender_type"] == "bot"), None),
            "first_user_at_us": us(fact.first_user_at),
            "first_user_date": sample.day(fact.first_user_at) if fact.first_user_at else None,
            "first_any_at_us": us(fact.first_any_at),
            "first_human_at_us": us(fact.first_human_at),
            "handoff_at_us": us(fact.handoff_at),
            "handoff_date": sample.day(fact.handoff_at) if fact.handoff_at else None,
            "first_response_s": fact.first_response_s,
            "first_human_response_s": fact.first_human_response_s,
            "human_response_after_handoff_s": fact.human_response_after_handoff_s,
            "first_response_bh_s": sample.business_s(fact.first_user_at, fact.first_any_at),
            "first_human_response_bh_s": sample.business_s(fact.first_user_at, fact.first_human_at),
            "human_response_after_handoff_bh_s": sample.business_s(fact.handoff_at, fact.first_human_at),
            "resolution_first_bh_s": sample.business_s(fact.first_message_at, fact.resolved_first_at),
            "resolution_last_bh_s": sample.business_s(fact.first_message_at, fact.resolved_last_at),
            **enrichment.spent([call for call in sample.calls if call["conversation_id"] == key]),
            "first_resolved_us": us(fact.resolved_first_at),
            "last_resolved_us": us(fact.resolved_last_at),
            "resolution_first_s": fact.resolution_first_s,
            "resolution_last_s": fact.resolution_last_s,
            "resolves": fact.resolves,
            "reopens": fact.reopens,
            "is_undone": marts.was_undone(conversation),
            "episodes": fact.episodes,
            "touches": fact.touches,
            "active_s": fact.active_s,
            "outcome": fact.outcome,
            "bot_only": fact.bot_only,
            "contained": fact.contained,
            "unanswered": fact.unanswered,
            "is_empty": fact.empty,
            "is_counted": (conversation.get("traffic_class") or "live") == "live",
        }
    assert_rows(warehouse.rows("facts", "fct_conversation"), ("conversation_id",), expected)

    assert_rows(
        warehouse.rows("facts", "fct_wait"),
        ("conversation_id", "turn_no"),
        {
            (w.conversation_id, w.turn_no): {
                "waiting_since_us": us(w.waiting_since),
                "local_date": sample.day(w.waiting_since),
                "local_hour": w.waiting_since.astimezone(ZoneInfo(sample.timezone)).hour,
                "local_isodow": sample.day(w.waiting_since).isoweekday(),
                "replied_at_us": us(w.replied_at),
                "replier_id": w.replier_id,
                "replier_type": w.replier_type,
                "reply_s": w.reply_s,
                "reply_bh_s": sample.business_s(w.waiting_since, w.replied_at),
                "human_reply_s": w.human_reply_s,
            }
            for w in oracle.all_waits(sample.conversations, sample.messages)
        },
    )

    check_turns_and_events(warehouse, sample)

    hourly: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in warehouse.rows("facts", "fct_traffic"):
        for sender in ("user", "bot", "agent"):
            hourly[row["local_date"], row["local_hour"], sender] += row[f"{sender}_messages"]
        assert row["local_date"].isoweekday() == row["local_isodow"]
    traffic = oracle.hourly_traffic(sample.live, sample.messages, sample.timezone)
    assert {key: n for key, n in hourly.items() if n} == dict(traffic)

    daily: dict[tuple[str, date], list[int]] = defaultdict(lambda: [0, 0])
    for row in warehouse.rows("facts", "user_day"):
        daily[row["user_id"], row["local_date"]][0] += row["messages"]
        daily[row["user_id"], row["local_date"]][1] += row["conversations"]
        assert row["started_us"] <= row["ended_us"]
    days = oracle.user_days(sample.live, sample.messages, sample.timezone)
    assert dict(daily) == {key: [day.messages, day.conversations] for key, day in days.items()}


def check_turns_and_events(warehouse: Warehouse, sample: Sample) -> None:
    """Hold the turns of messages, the changes of status and the clocks against the oracle."""
    grouped = oracle.by_conversation(sample.conversations, sample.messages)
    turns = {
        message["message_id"]: {"turn_no": number, "opens_turn": message is run[0]}
        for _, ordered in grouped.values()
        for number, (_, run) in enumerate(oracle.turns(ordered), 1)
        for message in run
    }
    staged = warehouse.rows("facts", "stg_messages")
    assert_rows([row for row in staged if row["is_counted"]], ("message_id",), _by_single(turns))
    assert not [row for row in staged if not row["is_counted"] and (row["turn_no"] or row["opens_turn"])]

    events: dict[Any, Row] = {}
    for conversation in sample.conversations:
        resolves = 0
        for number, one in enumerate(oracle.status_events(conversation), 1):
            resolves += one["to"] == "resolved"
            events[conversation["conversation_id"], number] = {
                "at_us": us(one["at"]),
                "local_date": sample.day(one["at"]),
                "from_status": one["from"],
                "to_status": one["to"],
                "actor": one["actor"],
                "resolve_no": resolves,
            }
    assert_rows(warehouse.rows("facts", "fct_status_event"), ("conversation_id", "event_no"), events)

    clocks = marts.clocks(sample.conversations, sample.messages)
    found = warehouse.rows("facts", "fct_response")
    assert_rows(
        found,
        ("conversation_id", "clock", "turn_no"),
        {
            key: {
                "report_date": sample.day(since),
                "since_us": us(since),
                "stopped_us": us(stopped),
            }
            for key, (since, stopped) in clocks.items()
        },
    )
    for row in found:
        since, stopped = clocks[row["conversation_id"], row["clock"], row["turn_no"]]
        took = row["stopped_business_us"], row["since_business_us"]
        seconds = None if None in took else (took[0] - took[1]) / 1e6
        assert same(seconds, sample.business_s(since, stopped)), row


def _by_single(rows: Mapping[str, Row]) -> dict[Any, Row]:
    return {(key,): row for key, row in rows.items()}


def check_terms(warehouse: Warehouse, sample: Sample) -> None:
    """Hold the terms of all partitions together against the oracle."""
    found = warehouse.query(
        "select local_date, channel, language, term, sum(messages)::bigint as messages, "
        "sum(occurrences)::bigint as occurrences from facts.fct_term group by all"
    )
    expected = content.daily_terms(sample.live, sample.messages, sample.timezone)
    assert_rows(found, TABLES["facts", "fct_term"].key, expected)


def check_marts(warehouse: Warehouse, sample: Sample) -> None:
    """Hold every mart against the oracle."""
    live = (sample.live, sample.messages, sample.timezone)
    expected = {
        "volume": marts.volume(*live),
        "response": marts.response(*live, sample.as_of, sample.open_minutes),
        "response_histogram": marts.histogram(*live, sample.open_minutes),
        "resolution": marts.resolutions(*live, sample.as_of, sample.open_minutes),
        "containment": marts.containment(*live, sample.as_of),
        "language": marts.languages(*live, sample.translations, sample.calls),
        "category": enrichment.categories(*live, sample.decisions, sample.calls),
        "cost": enrichment.costs(sample.conversations, sample.messages, sample.timezone, sample.calls),
        "user": marts.users(*live, sample.as_of, sample.categories, sample.calls),
        "agent": people.agents(*live),
        "csat": people.csat(*live),
        "session": people.sessions(*live),
        "active_users": people.active_users(*live),
        "retention": people.retention(*live),
        "local_hour": flow.local_hours(*live),
        "heatmap": flow.heatmap(*live),
        "funnel": flow.funnel(*live, sample.as_of, sample.categories),
        "handling": flow.handling(*live),
        "terms": content.weekly_terms(*live),
    }
    assert set(expected) == {name for layer, name in load_models() if layer == "marts"}
    for name, rows in expected.items():
        found = warehouse.rows("marts", name)
        assert_rows(found, TABLES["marts", name].key, rows)
        for row in found:
            if "report_date" in row:
                assert row["month"] == marts.month(row["report_date"])


def check_invariants(warehouse: Warehouse) -> None:
    """Run every SQL test, all in one query; none may return a row. Those of topics where there are some."""
    there = TOPIC.path in warehouse.files
    tests = [test for test in load_tests() if there or TOPIC.path not in test.inputs]
    counts = [f"select '{test.name}' as test, count(*) as wrong from (\n{test.sql}\n)" for test in tests]
    values = {name: warehouse.parameters[name] for test in tests for name in test.parameters}
    found = warehouse.query(" union all ".join(counts), **values)
    assert len(found) == len(tests)
    assert not [row for row in found if row["wrong"]]


# Hours with a break, hours to midnight, and a history: all of them meet a night on which clocks change.
OFFICE = json.dumps(
    {
        "valid_from": "2024-01-01",
        "week": {day: ["09:00-12:30", "13:30-18:00"] for day in ("mon", "tue", "wed", "thu", "fri")},
        "holidays": {"2024-03-29": [], "2024-05-06": ["10:00-12:00"]},
    }
)
LATE = json.dumps(
    [
        {
            "timezone": "America/New_York",
            "week": {"sat": ["00:00-03:30", "20:00-24:00"], "sun": ["00:00-24:00"]},
        },
        {
            "valid_from": "2024-04-02",
            "timezone": "Europe/London",
            "week": {day: ["00:00-24:00"] for day in ("mon", "tue", "thu", "fri")},
            "holidays": ["2024-04-05"],
        },
    ]
)
RECENT = json.dumps(
    [{"valid_from": "2024-03-31", "timezone": "Pacific/Auckland", "week": {"sun": ["01:30-02:30"]}}]
)
HOURS_OF_ZONE = {"UTC": None, "Europe/Berlin": OFFICE, "America/New_York": LATE}


@pytest.fixture(scope="module", params=["UTC", "Europe/Berlin", "America/New_York"])
def generated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Warehouse, Sample]:
    """The generator's conversations, over the night on which Europe's clocks change, with all models run."""
    data = generate(days=16, conversations_per_day=24)
    conversations = data.conversations.to_pylist()
    for c in conversations:
        c["status_events"] = json.loads(c["status_events"]) if c["status_events"] else None
    hours = HOURS_OF_ZONE[request.param]
    sample = Sample(conversations, data.messages.to_pylist(), request.param, hours)
    folder = tmp_path_factory.mktemp("lake")
    warehouse = Warehouse(folder, report_timezone=request.param, business_hours=hours)
    warehouse.load(sample.rows)
    warehouse.run()
    return warehouse, sample


def test_the_sample_holds_the_cases_that_matter(generated):
    warehouse, _ = generated
    query = (
        "select count(distinct outcome) as outcomes, max(reopens) as reopens, max(episodes) as episodes, "
        "count(distinct traffic_class) as classes, bool_or(private_messages > 0) as notes, "
        "bool_or(is_undone) as undone, max(agents) as agents from facts.fct_conversation"
    )
    row = warehouse.query(query)[0]
    assert row["outcomes"] == len(oracle.OUTCOMES)
    assert row["reopens"] >= 1
    assert row["episodes"] >= 2
    assert row["classes"] == 2
    assert row["notes"]
    assert row["agents"] >= 2


def test_the_sample_holds_the_cases_that_matter_to_the_marts(generated):
    warehouse, sample = generated
    queries = {
        "agent": "sum(transfers_in) > 0 and sum(undone) > 0 and max(concurrent_max) > 1 "
        "and bool_or(resolution_events > 0 and resolutions = 0) "
        "and bool_or(conversation_share < conversations)",
        "csat": "count(distinct credited) = 3 and sum(positive) > 0 and sum(negative) > 0",
        "funnel": "count(distinct entry) = 2 and sum(contained) > 0 and sum(undecided) > 0 "
        "and sum(resolved) > sum(durable) and sum(durable) > sum(csat_answered)",
        "handling": "sum(several_agents) > 0 and sum(language_mixed) > 0",
        "terms": "count(*) > 50 and bool_or(z > 1) and bool_or(z < -1)",
        "retention": "bool_or(k = 2 and retained > 0) and bool_or(k > 0 and retained < users)",
        "user": "bool_or(churn_risk) and not bool_and(churn_risk) and count(category_3) > 0",
    }
    for mart, holds in queries.items():
        found = warehouse.query(f"select {holds} as holds from marts.{mart}")[0]["holds"]
        assert found, f"{mart}: {holds}"
    skipped = "report_date = date '2025-03-30' and local_hour = 2"
    found = warehouse.query(f"select count(*) as hours from marts.local_hour where {skipped}")[0]["hours"]
    assert found == (0 if sample.timezone == "Europe/Berlin" else 1)


def test_facts_equal_the_oracle(generated):
    check_facts(*generated)
    check_terms(*generated)


def test_marts_equal_the_oracle(generated):
    check_marts(*generated)


def test_the_invariants_hold(generated):
    check_invariants(generated[0])


def test_staging_keeps_every_message_and_no_text(generated):
    warehouse, sample = generated
    staged = warehouse.read("facts", "stg_messages")
    assert staged.num_rows == len(sample.rows["messages"])
    assert "text" not in staged.column_names
    expected = {m["message_id"]: len(m["text"] or "") for m in sample.rows["messages"]}
    assert (
        dict(zip(staged["message_id"].to_pylist(), staged["text_chars"].to_pylist(), strict=True)) == expected
    )


def test_money_stays_exact(generated):
    warehouse, sample = generated
    found = warehouse.query("select sum(price) as price, sum(tokens) as tokens from facts.fct_llm_call")[0]
    for name in ("price", "tokens"):
        assert found[name] == sum(row[name] or 0 for row in sample.rows["llm_calls"])
    found = warehouse.query("select sum(price) as price, sum(tokens) as tokens from marts.cost")[0]
    for name in ("price", "tokens"):
        assert found[name] == sum(row[name] or 0 for row in sample.rows["llm_calls"])


def run_by_day(sample: Sample, days: list[str], folder: Path) -> dict[str, pa.Table]:
    """The facts of each day computed from that day's rows alone, put together again in order of the days."""
    parts: dict[str, dict[str, pa.Table]] = defaultdict(dict)
    for day in days:
        rows: Rows = {name: [r for r in all_ if r["partition"] == day] for name, all_ in sample.rows.items()}
        warehouse = Warehouse(folder / day, report_timezone=sample.timezone, business_hours=sample.hours)
        warehouse.load(rows)
        warehouse.run(["facts"])
        for layer, name in load_models():
            if layer == "facts":
                parts[name][day] = warehouse.read(layer, name)
    return {name: pa.concat_tables([by_day[d] for d in sorted(by_day)]) for name, by_day in parts.items()}


def test_days_one_by_one_in_any_order_equal_the_whole_range(generated, tmp_path):
    warehouse, sample = generated
    days = random.Random(5).sample(sorted({row["partition"] for row in sample.rows["conversations"]}), 4)
    for name, table in run_by_day(sample, days, tmp_path).items():
        whole = warehouse.read("facts", name)
        assert table.equals(whole.filter(pc.is_in(whole["partition"], pa.array(days)))), name


def test_the_order_of_rows_and_the_number_of_threads_change_no_value(generated, tmp_path):
    warehouse, sample = generated
    shuffled = {name: random.Random(3).sample(rows, len(rows)) for name, rows in sample.rows.items()}
    other = Warehouse(tmp_path, report_timezone=sample.timezone, business_hours=sample.hours)
    other.load(shuffled)
    other.run()
    for path in load_models():
        assert other.read(*path).equals(warehouse.read(*path)), path


# -- values on the very edge of a definition

EDGE = datetime(2024, 5, 3, 12, tzinfo=UTC)
WEEK, DAY, HALF_HOUR = timedelta(days=7), timedelta(days=1), timedelta(minutes=30)


def talk(
    key: str, *spoken: tuple[str, timedelta], since: datetime = EDGE, **given: Any
) -> tuple[Row, list[Row]]:
    """A conversation and its messages: `(sender_type, time after the start)`, further values as given."""
    conversation = {
        "conversation_id": key,
        "user_id": f"user of {key}",
        "status": "open",
        "channel": "web",
        "started_at": since,
        **given,
    }
    messages = [
        {
            "message_id": f"{key}-{place}",
            "conversation_id": key,
            "seq": place,
            "sender_type": sender,
            "sender_id": f"the {sender}",
            "text": "ja",
            "language": "de",
            "created_at": since + after,
        }
        for place, (sender, after) in enumerate(spoken)
    ]
    return conversation, messages


def event(before: str, after: str, at: datetime) -> Row:
    return {"from": before, "to": after, "at": at, "actor": "someone"}


def edges() -> list[tuple[Row, list[Row]]]:
    zero, minute = timedelta(), timedelta(minutes=1)
    resolved = event("open", "resolved", EDGE)
    contained = (("user", zero), ("bot", minute))
    unplaced = talk("unplaced", ("user", zero), ("bot", zero), ("agent", minute))
    unplaced[1][0]["seq"] = None  # so the bot comes first
    tied = talk("languages tie", ("user", zero), ("user", minute))
    tied[1][1]["language"] = "af"
    switched = talk("one session in two languages", ("user", zero), ("user", HALF_HOUR))
    switched[1][1]["language"] = "af"
    late = EDGE + timedelta(hours=9, minutes=50)
    return [
        unplaced,
        tied,
        talk(
            "reopened at 7 days",
            ("user", zero),
            status_events=[resolved, event("resolved", "open", EDGE + WEEK)],
        ),
        talk(
            "reopened after 7 days",
            ("user", zero),
            status_events=[resolved, event("resolved", "open", EDGE + WEEK + MICROSECOND)],
        ),
        talk(
            "events of one instant stay as given",
            ("user", zero),
            status_events=[resolved, event("resolved", "open", EDGE), event("open", "resolved", EDGE)],
        ),
        talk("bot and agent at one instant", ("user", zero), ("bot", minute), ("agent", minute)),
        talk("answered on target", ("user", zero), ("bot", timedelta(seconds=300))),
        talk("one session", ("user", zero), ("user", HALF_HOUR)),
        talk("two sessions", ("user", zero), ("user", HALF_HOUR + MICROSECOND)),
        switched,
        # From 23:50 in Berlin every 20 minutes to 01:50, and two others of the next day's partition: the
        # second is near the end of the long stretch, though far from the end of the one before it.
        talk("long", *(("user", n * 20 * minute) for n in range(7)), since=late, user_id="u"),
        talk("short", ("user", zero), since=late + 40 * minute, user_id="u"),
        talk("later", ("user", zero), since=late + 150 * minute, user_id="u"),
        # back 24 hours after the end, one microsecond later, and in a conversation without a word
        *(
            part
            for name, after in {"back in time": DAY, "back too late": DAY + MICROSECOND}.items()
            for part in (
                talk(name, *contained, status="resolved", ended_at=EDGE, user_id=name),
                talk(f"{name}, again", ("user", zero), since=EDGE + after, user_id=name),
            )
        ),
        talk("not really back", *contained, status="resolved", user_id="silent"),
        talk("not a word", since=EDGE + HALF_HOUR, user_id="silent"),
        # a bot that nobody talked to, one whose users met nobody after it, and one that a person overtook
        talk("greeted in vain", ("bot", zero)),
        talk(
            "handed over in vain",
            ("user", zero),
            ("bot", minute),
            status_events=[event("pending", "open", EDGE + minute)],
        ),
        talk("greeted by a bot, answered by a person", ("bot", zero), ("user", zero), ("agent", minute)),
        talk("a bot after the person", ("user", zero), ("agent", minute), ("bot", 2 * minute)),
        # one person in two conversations, of which one ends in the instant in which the other begins
        *(
            talk(f"touching {n}", *(("agent", m * minute) for m in own), since=EDGE + 2 * DAY)
            for n, own in enumerate([(0, 1, 2), (2, 3)])
        ),
        # as_of is the update of the last one: 7 days after a resolve, 24 hours after an end, 5 minutes open
        talk("undecided week", ("user", zero), status_events=[event("open", "resolved", EDGE + 3 * WEEK)]),
        talk(
            "undecided day",
            *contained,
            since=EDGE + 4 * WEEK - DAY - HALF_HOUR,
            status="resolved",
            ended_at=EDGE + 4 * WEEK - DAY,
        ),
        talk("undecided wait", ("user", zero), since=EDGE + 4 * WEEK - 5 * minute),
        talk("watermark", source_updated_at=EDGE + 4 * WEEK),
    ]


def test_values_on_the_edge_of_a_definition(tmp_path):
    parts = edges()
    sample = Sample([c for c, _ in parts], [m for _, own in parts for m in own], "Europe/Berlin", OFFICE)
    assert sample.as_of == EDGE + 4 * WEEK
    warehouse = Warehouse(tmp_path, report_timezone=sample.timezone, business_hours=sample.hours)
    warehouse.load(sample.rows)
    warehouse.run()
    check_facts(warehouse, sample)
    check_marts(warehouse, sample)
    check_invariants(warehouse)
    steps = "sum(started) > sum(bot_answered) and sum(handed_off) > sum(agent_answered)"
    assert warehouse.query(f"select {steps} as holds from marts.funnel where entry = 'bot'")[0]["holds"]
    agents = {(row["report_date"], row["agent_type"]): row for row in warehouse.rows("marts", "agent")}
    assert agents[date(2024, 5, 5), "agent"]["concurrent_max"] == 2
    assert agents[date(2024, 5, 3), "other"]["resolutions"] > 0
    stretches = Counter(row["user_id"] for row in warehouse.rows("facts", "user_day"))
    assert stretches["user of one session"] == 1
    assert stretches["user of two sessions"] == 2


def handled(key: str, *resolvers: str | None, **given: Any) -> tuple[Row, list[Row]]:
    """A conversation in which the agents A and then B wrote, resolved by each in turn, reopened between."""
    minute = timedelta(minutes=1)
    steps = [("open", "resolved", actor) for actor in resolvers]
    told = [step for one in steps for step in (one, ("resolved", "open", "the user"))][:-1]
    events = [
        {"from": before, "to": after, "at": EDGE + (n + 5) * minute, "actor": actor}
        for n, (before, after, actor) in enumerate(told)
    ]
    said = (("user", 0 * minute), ("agent", minute), ("agent", 2 * minute), ("bot", 3 * minute))
    conversation, messages = talk(key, *said, **{"user_id": "u", "status_events": events, **given})
    for message, name in zip(messages[1:3], "AB", strict=True):
        message["sender_id"] = name
    return conversation, messages


CREDIT: dict[str, tuple[list[tuple[Row, list[Row]]], dict[tuple[str, str], tuple[int, int, int]]]] = {
    "resolved by A, reopened, resolved by B": (
        [handled("c", "A", "B")],
        {("agent", "A"): (1, 0, 0), ("agent", "B"): (1, 1, 1)},
    ),
    "twice by the same": ([handled("c", "A", "A")], {("agent", "A"): (2, 1, 1)}),
    "no name: the last agent who wrote": (
        [handled("c", None, "A")],
        {("agent", "A"): (1, 1, 1), ("agent", "B"): (1, 0, 0)},
    ),
    "no name and no agent: the last bot": (
        [
            talk(
                "c",
                ("user", timedelta()),
                ("bot", timedelta()),
                status_events=handled("", None)[0]["status_events"],
            )
        ],
        {("bot", "the bot"): (1, 1, 1)},
    ),
    "two conversations of one user": (
        [handled("c", "A", "B"), handled("d", "B")],
        {("agent", "A"): (1, 0, 0), ("agent", "B"): (2, 2, 1)},
    ),
    "two users": (
        [handled("c", "A", "B"), handled("d", "B", user_id="v")],
        {("agent", "A"): (1, 0, 0), ("agent", "B"): (2, 2, 2)},
    ),
    "no events, only a status": (
        [handled("c", status="resolved", status_events=None)],
        {("agent", "B"): (1, 1, 1)},
    ),
    "by a bot, then by the system": (
        [handled("c", "the bot", "cron")],
        {("bot", "the bot"): (1, 0, 0), ("other", "other"): (1, 1, 1)},
    ),
    "test traffic": ([handled("c", "A", "B", traffic_class="test")], {}),
    "empty": ([talk("c", status_events=handled("", "A")[0]["status_events"], agent_id="A")], {}),
}


@pytest.mark.parametrize("name", CREDIT)
def test_a_resolve_is_credited_to_its_own_actor_and_the_conversation_to_the_last(name, tmp_path):
    parts, expected = CREDIT[name]
    sample = Sample([c for c, _ in parts], [m for _, own in parts for m in own], "UTC")
    warehouse = Warehouse(tmp_path, DuckDBEngine(threads=1), report_timezone="UTC")
    warehouse.load(sample.rows)
    warehouse.run()
    counts = ("resolution_events", "resolutions", "resolution_users")
    found = {
        (row["agent_type"], row["agent_id"]): tuple(row[count] for count in counts)
        for row in warehouse.rows("marts", "agent")
        if any(row[count] for count in counts)
    }
    assert found == expected
    check_marts(warehouse, sample)
    check_invariants(warehouse)


# -- small conversations, built so that instants collide, places are missing and events come in odd orders

# Nights on which clocks change: in Berlin to summer and back, in Havana and New York to summer and back, in
# Auckland back from summer.
STARTS = st.sampled_from(
    [
        datetime(2024, month, day, hour, tzinfo=UTC)
        for month, day, hour in ((3, 30, 22), (10, 26, 22), (3, 10, 3), (11, 3, 3), (4, 6, 12))
    ]
)
MINUTES = st.sampled_from([0, 0, 1, 5, 29, 30, 31, 119, 600, 1440, 10_080, 10_081])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Pacific/Auckland"])
HOURS = st.sampled_from([None, OFFICE, LATE, RECENT])


@st.composite
def conversation_sets(draw: Callable[..., Any]) -> Sample:
    """Up to five conversations of two users, with up to nine messages each."""
    conversations, messages = [], []
    begin = draw(STARTS)
    for n in range(draw(st.integers(0, 5))):
        started = begin + timedelta(minutes=draw(st.integers(0, 3000)))
        at, events = started, []
        for _ in range(draw(st.integers(0, 4))):
            at += timedelta(minutes=draw(MINUTES))
            before, after = draw(
                st.sampled_from(
                    [("open", "resolved"), ("resolved", "open"), ("pending", "open"), (None, "resolved")]
                )
            )
            events.append(
                {"from": before, "to": after, "at": at, "actor": draw(st.sampled_from(["a", "x", None]))}
            )
        conversations.append(
            {
                "conversation_id": f"c{n}",
                "user_id": draw(st.sampled_from(["u1", "u2"])),
                "status": draw(st.sampled_from(["open", "pending", "resolved", "abandoned"])),
                "channel": draw(st.sampled_from(["web", None])),
                "language": draw(st.sampled_from(["de", None, None])),
                "traffic_class": draw(st.sampled_from(["live", "live", "live", "test"])),
                "started_at": started,
                "ended_at": draw(st.sampled_from([None, started, started + timedelta(hours=5)])),
                "status_events": draw(st.permutations(events)),
                "agent_id": draw(st.sampled_from([None, None, "a"])),
                "csat_score": draw(st.sampled_from([None, 1.0, 3.0, 4.5])),
            }
        )
        at = started
        for place in range(draw(st.integers(0, 9))):
            at += timedelta(minutes=draw(MINUTES))
            messages.append(
                {
                    "message_id": f"c{n}-{draw(st.integers(0, 9))}{place}",
                    "conversation_id": f"c{n}",
                    "seq": draw(st.sampled_from([place, place, 1, None])),
                    "sender_type": draw(st.sampled_from(["user", "user", "bot", "agent", "system"])),
                    "sender_id": draw(st.sampled_from(["x", "y", None])),
                    "private": draw(st.sampled_from([False, False, False, True])),
                    "text": draw(st.sampled_from(["ja", None, "おはよう"])),
                    "language": draw(st.sampled_from(["de", "de-AT", "en", "und", None])),
                    "created_at": at,
                }
            )
    return Sample(conversations, draw(st.permutations(messages)), draw(ZONES), draw(HOURS))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(conversation_sets())
def test_any_conversations_equal_the_oracle(sample):
    with TemporaryDirectory() as folder:
        # Nothing here is worth a second thread.
        warehouse = Warehouse(
            Path(folder),
            DuckDBEngine(threads=1),
            report_timezone=sample.timezone,
            business_hours=sample.hours,
        )
        warehouse.load(sample.rows)
        warehouse.run()
        check_facts(warehouse, sample)
        check_terms(warehouse, sample)
        check_marts(warehouse, sample)
        check_invariants(warehouse)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(conversation_sets(), st.randoms(use_true_random=False))
def test_any_days_in_any_order_equal_the_whole_range(sample, chance):
    days = sorted({row["partition"] for row in sample.rows["conversations"]})
    chance.shuffle(days)
    with TemporaryDirectory() as folder:
        whole = Warehouse(
            Path(folder) / "whole", report_timezone=sample.timezone, business_hours=sample.hours
        )
        whole.load(sample.rows)
        whole.run(["facts"])
        for name, table in run_by_day(sample, days, Path(folder)).items():
            assert table.equals(whole.read("facts", name)), name
