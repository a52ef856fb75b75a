"""The generated sample: always the same, sound, whole in every language, with every case of the metrics."""

import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cai_assets.failures import PermanentError
from cai_assets.sandbox.dice import Dice
from cai_assets.sandbox.phrases import load_phrases
from cai_assets.sandbox.sample import SampleData, generate, generate_days
from cai_assets.schemas.lake import SENDER_TYPES, STATUSES, TRAFFIC_CLASSES
from cai_assets_tests import oracle

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = timedelta(days=7)
Row = dict[str, Any]

# Numbers, dates, amounts and reference numbers: what a translation must leave as it is.
_FACTS = re.compile(
    r"[A-Z]+-[\d-]+\d|\bJD\w+|\bB\d{5}X|\d{4}-\d\d-\d\d|\d+\.\d\d EUR|\d+(?:[.:]\d+)?", re.ASCII
)


@dataclass(frozen=True)
class World:
    """The sample as rows, with the oracle's view of it."""

    data: SampleData

    @cached_property
    def conversations(self) -> list[Row]:
        rows: list[Row] = self.data.conversations.to_pylist()
        return rows

    @cached_property
    def messages(self) -> list[Row]:
        rows: list[Row] = self.data.messages.to_pylist()
        return rows

    @cached_property
    def said(self) -> dict[str, list[Row]]:
        """Messages of each conversation by seq."""
        grouped: dict[str, list[Row]] = defaultdict(list)
        for message in sorted(self.messages, key=lambda m: m["seq"]):
            grouped[message["conversation_id"]].append(message)
        return grouped

    @cached_property
    def facts(self) -> dict[str, oracle.ConversationFacts]:
        return oracle.all_facts(self.conversations, self.messages)

    def senders(self, conversation: Row) -> list[str]:
        return [m["sender_type"] for m in self.said[conversation["conversation_id"]] if not m["private"]]


@pytest.fixture(scope="module")
def world(sample_data: SampleData) -> World:
    return World(sample_data)


def local_day(at: datetime) -> date:
    return at.astimezone(BERLIN).date()


# -- always the same


def test_the_same_arguments_give_the_same_bytes(sample_data: SampleData, tmp_path: Path) -> None:
    again = generate()
    sample_data.write(tmp_path / "a")
    again.write(tmp_path / "b")
    names = {"conversations.parquet", "messages.parquet", "translations_gold.parquet"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_another_process_gives_the_same_rows(sample_data: SampleData, tmp_path: Path) -> None:
    # Another hash seed and another zone of the machine: what an order of a set or local time would give away.
    command = "import sys; from cai_assets.sandbox.sample import generate; generate().write(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", command, str(tmp_path / "theirs")],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "4711", "TZ": "Pacific/Auckland"},
    )
    sample_data.write(tmp_path / "ours")
    for ours in sorted((tmp_path / "ours").iterdir()):
        assert ours.read_bytes() == (tmp_path / "theirs" / ours.name).read_bytes()


def test_the_dice_fall_the_same_on_every_python() -> None:
    dice = Dice("pinned")
    assert [dice.below(1_000_000) for _ in range(3)] == [362_885, 902_622, 592_396]
    assert [dice.quantile((0, 10, 1000)) for _ in range(3)] == [405, 57, 3]


def test_a_day_does_not_depend_on_the_range_it_is_made_in(world: World) -> None:
    by_day: dict[date, list[Row]] = defaultdict(list)
    for conversation in world.conversations:
        by_day[local_day(conversation["started_at"])].append(conversation)
    for day in (date(2025, 3, 21), date(2025, 3, 30), date(2025, 4, 4)):
        alone = generate(days=1, start=day)
        assert alone.conversations.to_pylist() == by_day[day]
        ids = {c["conversation_id"] for c in by_day[day]}
        assert alone.messages.to_pylist() == [m for m in world.messages if m["conversation_id"] in ids]
    days = dict(generate_days(days=3, start="2025-03-19"))
    assert days[date(2025, 3, 21)].conversations.to_pylist() == by_day[date(2025, 3, 21)]


def test_seeds_and_zones_differ(sample_data: SampleData) -> None:
    assert generate(seed=8).messages != sample_data.messages
    assert generate(timezone="Asia/Tokyo").messages != sample_data.messages


# -- sound


def test_ids_are_unique_and_messages_have_their_conversation(world: World) -> None:
    ids = [c["conversation_id"] for c in world.conversations]
    assert len(set(ids)) == len(ids)
    message_ids = [m["message_id"] for m in world.messages]
    assert len(set(message_ids)) == len(message_ids)
    assert {m["conversation_id"] for m in world.messages} == set(ids)
    for said in world.said.values():
        assert [m["seq"] for m in said] == list(range(1, len(said) + 1))


def test_time_runs_forward(world: World) -> None:
    for conversation in world.conversations:
        said = world.said[conversation["conversation_id"]]
        start, end, updated = (conversation[f"{name}_at"] for name in ("started", "ended", "updated"))
        assert start <= said[0]["created_at"]
        assert all(a["created_at"] <= b["created_at"] for a, b in pairwise(said))
        assert end is None or start <= end <= updated
        assert all(m["created_at"] <= (m["updated_at"] or m["created_at"]) <= updated for m in said)
        instants = [at for row in (conversation, *said) for at in row.values() if isinstance(at, datetime)]
        assert all(at.microsecond == 0 and at.utcoffset() == timedelta() for at in instants)


def test_status_events_lead_to_the_final_status(world: World) -> None:
    for conversation in world.conversations:
        events = oracle.status_events(conversation)
        assert all(a["to"] == b["from"] and a["at"] <= b["at"] for a, b in pairwise(events))
        assert all(e["from"] != e["to"] and conversation["started_at"] <= e["at"] for e in events)
        if events:
            assert events[-1]["to"] == conversation["status"]
            assert {e["to"] for e in events} <= set(STATUSES)
        if conversation["csat_score"] is not None:
            assert conversation["csat_score"] in range(1, 6)
            assert conversation["csat_at"] >= conversation["started_at"]


def test_values_are_those_the_platform_knows(world: World) -> None:
    topics = {topic.name for topic in load_phrases().topics}
    for conversation in world.conversations:
        assert conversation["status"] in STATUSES
        assert conversation["traffic_class"] in TRAFFIC_CLASSES
        assert isinstance(json.loads(conversation["tags"] or "[]"), list)
        assert conversation["category_gold"] in topics | {None}
    assert {m["sender_type"] for m in world.messages} == set(SENDER_TYPES)
    assert all((m["sender_id"] is None) == (m["sender_type"] == "system") for m in world.messages)
    assert not any("{" in m["text"] for m in world.messages)


@pytest.mark.parametrize("timezone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_conversations_start_on_their_local_day(timezone: str) -> None:
    # New York's and Lord Howe's clocks change on other days, Lord Howe's by half an hour.
    for first in (date(2025, 3, 8), date(2025, 3, 30), date(2025, 4, 5), date(2025, 10, 26)):
        for day, data in generate_days(days=2, start=first, timezone=timezone, conversations_per_day=40):
            starts = data.conversations["started_at"].to_pylist()
            assert {at.astimezone(ZoneInfo(timezone)).date() for at in starts} <= {day}


# -- every case of the metrics


def _with_outcome(world: World, outcome: str) -> int:
    return sum(f.outcome == outcome for f in world.facts.values())


def _reopened(world: World, *, late: bool) -> int:
    return sum(f.episodes > 1 if late else f.reopens > 0 for f in world.facts.values())


def _returned_within_minutes(world: World) -> int:
    by_user: dict[str, list[Row]] = defaultdict(list)
    for conversation in world.conversations:
        by_user[conversation["user_id"]].append(conversation)
    found = 0
    for own in by_user.values():
        ordered = sorted(own, key=lambda c: c["started_at"])
        last = [world.said[c["conversation_id"]][-1]["created_at"] for c in ordered]
        found += sum(
            timedelta() < after["started_at"] - ended <= timedelta(minutes=30)
            for ended, after in zip(last, ordered[1:], strict=False)
        )
    return found


def _bot_greets_first(world: World) -> int:
    return sum([s for s in world.senders(c) if s != "system"][:1] == ["bot"] for c in world.conversations)


def _late_message(world: World) -> int:
    return sum(
        c["ended_at"] is not None
        and world.facts[c["conversation_id"]].reopens == 0
        and any(m["created_at"] > c["ended_at"] + timedelta(days=1) for m in world.said[c["conversation_id"]])
        for c in world.conversations
    )


def _same_second(world: World) -> int:
    return sum(
        a["created_at"] == b["created_at"] and (a["sender_type"], b["sender_type"]) == ("user", "bot")
        for said in world.said.values()
        for a, b in pairwise(said)
    )


def _over_midnight(world: World) -> int:
    return sum(
        local_day(said[0]["created_at"]) != local_day(said[-1]["created_at"]) for said in world.said.values()
    )


def _english_answers(world: World) -> int:
    return sum(
        c["language"] not in ("en", None)
        and any(
            m["language"] == "en" and m["sender_type"] == "agent" and not m["private"]
            for m in world.said[c["conversation_id"]]
        )
        for c in world.conversations
    )


CASES: dict[str, Callable[[World], int]] = {
    **{f"outcome {outcome}": partial(_with_outcome, outcome=outcome) for outcome in oracle.OUTCOMES},
    "bot, then an agent": lambda w: sum(f.bot_messages > 0 < f.agent_messages for f in w.facts.values()),
    "an agent begins": lambda w: sum(
        [s for s in w.senders(c) if s != "system"][:1] == ["agent"] for c in w.conversations
    ),
    "a bot greets before the user writes": _bot_greets_first,
    "reopened within a week": lambda w: _reopened(w, late=False),
    "reopened after more than a week": lambda w: _reopened(w, late=True),
    "reopened and not resolved again": lambda w: sum(
        w.facts[c["conversation_id"]].resolves > 0 and c["status"] == "open" for c in w.conversations
    ),
    "a message days after the end": _late_message,
    "a conversation that goes on after midnight": _over_midnight,
    "an edited message": lambda w: sum(m["updated_at"] is not None for m in w.messages),
    "a private note": lambda w: sum(m["private"] for m in w.messages),
    "several agents": lambda w: sum(f.agents > 1 for f in w.facts.values()),
    "a survey answered": lambda w: sum(c["csat_score"] is not None for c in w.conversations),
    "test traffic": lambda w: sum(c["traffic_class"] == "test" for c in w.conversations),
    "a user who returns within half an hour": _returned_within_minutes,
    "user and bot in the same second": _same_second,
    "no log of statuses": lambda w: sum(c["status_events"] is None for c in w.conversations),
    "resolved without an end": lambda w: sum(
        c["status"] == "resolved" and c["ended_at"] is None for c in w.conversations
    ),
    "an open wait": lambda w: sum(
        x.replied_at is None for x in oracle.all_waits(w.conversations, w.messages)
    ),
    "an undeclared language": lambda w: sum(c["language"] is None for c in w.conversations),
    "an agent who answers in English": _english_answers,
    "emoji": lambda w: sum("👍" in m["text"] or "👋" in m["text"] for m in w.messages),
}


@pytest.mark.parametrize("case", CASES)
def test_the_sample_holds(case: str, world: World) -> None:
    assert CASES[case](world) >= 1


def test_one_day_is_silent_and_another_has_23_hours(world: World) -> None:
    days = {local_day(c["started_at"]) for c in world.conversations}
    wanted = {date(2025, 3, 20) + timedelta(days=i) for i in range(16)}
    assert wanted - days == {date(2025, 3, 27)}
    assert date(2025, 3, 30) in days
    for start in range(20):
        silent = generate(days=10, start=date(2025, 6, 1) + timedelta(days=start), conversations_per_day=1)
        assert len({local_day(at) for at in silent.conversations["started_at"].to_pylist()}) < 10


def test_nights_and_weekends_are_quiet() -> None:
    data = generate(days=14, start="2025-06-02", conversations_per_day=120)
    starts = [at.astimezone(BERLIN) for at in data.conversations["started_at"].to_pylist()]
    by_hour = Counter(at.hour for at in starts)
    assert sum(by_hour[h] for h in range(9, 13)) > 10 * sum(by_hour[h] for h in range(4))
    by_day = Counter(at.date() for at in starts)
    weekend = [count for day, count in by_day.items() if day.weekday() >= 5]
    assert max(weekend) < min(count for day, count in by_day.items() if day.weekday() < 5)


def test_few_users_come_often(world: World) -> None:
    counts = sorted(Counter(c["user_id"] for c in world.conversations).values(), reverse=True)
    tenth = len(counts) // 10
    assert sum(counts[:tenth]) > 0.25 * sum(counts)
    assert counts.count(1) > tenth


# -- whole in every language


def test_every_phrase_is_whole_in_every_language_and_means_one_thing() -> None:
    book = load_phrases()
    assert set(book.languages) >= {"en", "de", "fr", "es", "ja", "ar", "pt"}
    assert book.languages[0] == "en"
    meaning: dict[str, int] = {}
    for phrase in book:
        assert tuple(phrase.texts) == book.languages
        slots = {language: sorted(re.findall(r"{(\w+)}", text)) for language, text in phrase.texts.items()}
        assert len({tuple(found) for found in slots.values()}) == 1, phrase.texts["en"]
        assert phrase.has_slots == bool(slots["en"])
        for text in phrase.texts.values():
            assert text.strip() == text != ""
            assert meaning.setdefault(text, id(phrase)) == id(phrase), text
        if any(c.isalpha() for c in phrase.texts["en"]):
            assert re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", phrase.texts["ja"]), phrase.texts["ja"]
            assert re.search(r"[\u0600-\u06ff]", phrase.texts["ar"]), phrase.texts["ar"]
    for topic in book.topics:
        assert len(topic.fits) == len(topic.parts["problem"])
        used = {place for fits in topic.fits for place in fits}
        assert used == set(range(len(topic.parts["answer"])))


def test_every_text_has_its_true_translation(world: World) -> None:
    rows = world.data.parallel.to_pylist()
    text_of = {m["message_id"]: m["text"] for m in world.messages}
    languages = set(load_phrases().languages)
    targets: dict[str, set[str]] = defaultdict(set)
    translation: dict[tuple[str, str], str] = {}
    for row in rows:
        assert row["kind"] == "human"
        assert row["source_text"] == text_of[row["message_id"]]
        source, target = (Counter(_FACTS.findall(row[f"{side}_text"])) for side in ("source", "target"))
        english, other = (source, target) if row["source_language"] == "en" else (target, source)
        assert english <= other, row  # Japanese writes a figure where English has "two"
        key = (row["source_text"], row["target_language"])
        assert translation.setdefault(key, row["target_text"]) == row["target_text"]
        targets[row["source_text"]].add(row["target_language"])
    to_english = {r["message_id"] for r in rows if r["target_language"] == "en"}
    for message in world.messages:
        if message["language"] == "en":
            assert targets[message["text"]] >= languages - {"en"}
        elif message["language"] is not None:
            assert message["message_id"] in to_english
        else:
            assert targets[message["text"]] in ({"en"}, languages - {"en"}, languages)


def test_texts_repeat_as_they_do_in_life(world: World) -> None:
    foreign = [(m["language"], m["text"]) for m in world.messages if m["language"] not in ("en", None)]
    assert 0.5 < len(foreign) / len(world.messages) < 0.8
    assert 0.4 < len(set(foreign)) / len(foreign) < 0.6
    assert Counter(foreign).most_common(1)[0][1] >= 10


# -- arguments


def test_no_days_and_no_conversations_give_empty_tables(tmp_path: Path, sample_data: SampleData) -> None:
    for empty in (generate(days=0), generate(days=3, conversations_per_day=0)):
        assert empty.conversations.num_rows == empty.messages.num_rows == empty.parallel.num_rows == 0
        assert empty.messages.schema == sample_data.messages.schema
        empty.write(tmp_path)
    assert oracle.load(tmp_path) == ([], [])


def test_a_day_can_have_one_conversation_or_ten_thousand() -> None:
    assert generate(days=1, conversations_per_day=1).conversations.num_rows == 1
    many = generate(days=1, conversations_per_day=10_000)
    assert many.conversations.num_rows == 11_500  # a Thursday
    assert len(many.messages["message_id"].unique()) == many.messages.num_rows


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"days": -1}, "-1"),
        ({"conversations_per_day": -5}, "-5"),
        ({"start": "yesterday"}, "yesterday"),
        ({"timezone": "Mars/Olympus"}, "Mars/Olympus"),
    ],
)
def test_arguments_that_make_no_sense_are_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(PermanentError, match=named):
        generate(**arguments)
