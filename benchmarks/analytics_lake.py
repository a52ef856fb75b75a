"""A lake of made-up conversations for `analytics.py`: any number of messages, the same every time.

What is made is what the models look at: runs of turns between user, bots and agents, hand-offs, gaps from
seconds to hours, notes and system messages, empty conversations, resolves and reopenings, surveys, languages
declared and detected, translations, categories and the ledger. Texts are drawn from 20,000. Numbers come from
numpy, one seed a day; nothing here is part of the platform.
"""

import json
import re
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cai_assets.resources.object_store import LocalStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.staging import Staged
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas import lake
from cai_assets.schemas.base import MONEY, Table

FIRST = date(2024, 1, 1)
DAYS = 365
ZONE = "Europe/Berlin"
MESSAGES_A_CONVERSATION = 9
DAYS_AT_ONCE = 31
SECOND = 1_000_000
CHANNELS = np.array(["web_chat", "whatsapp", "email", "voice"])
LANGUAGES = np.array(["en", "de", "es", "fr", "pt-BR", "hi"])
CATEGORIES = np.array(
    ["order", "refund", "delivery", "account", "invoice", "product", "complaint", "unknown"]
)
WORDS = np.array(
    re.findall(
        r"\w+",
        "The order is late, please help with my account refund. Where can I find it? Thanks for your reply. "
        "We will look into this at once and write again tomorrow. Hello, the delivery address and the "
        "invoice number changed.",
    )
)
TEXTS = 20_000


def day_names(days: int) -> list[str]:
    """So many days, from the first."""
    return [(FIRST + timedelta(days=n)).isoformat() for n in range(days)]


def quotas(messages: int, days: int) -> list[int]:
    """Messages of each day: less at weekends, growing over the year, in all exactly as many as asked."""
    weights = np.array(
        [
            (0.45 if (FIRST + timedelta(days=n)).weekday() >= 5 else 1.0) * (1 + 0.3 * n / days)
            for n in range(days)
        ]
    )
    ends = np.floor(np.cumsum(weights) / weights.sum() * messages + 0.5).astype(int)
    return np.diff(ends, prepend=0).tolist()


def make(folder: Path, messages: int, days: int) -> None:
    """Write the lake's five tables as the platform keeps them: Delta, a folder a day.

    Args:
        folder: where; must not exist.
        messages: counted or not, in all.
        days: over which they begin.
    """
    store = LocalStore(folder, workers=4)
    wanted, parts = day_names(days), quotas(messages, days)
    staged: dict[str, list[Staged]] = {}
    for start in range(0, days, DAYS_AT_ONCE):
        chunk = range(start, min(start + DAYS_AT_ONCE, days))
        made = [one_day(wanted[n], parts[n], max(50, messages // 40)) for n in chunk]
        for table in lake.TABLES:
            rows = pa.concat_tables([tables[table.name] for tables in made])
            target = LakeTable(store, table, ParquetSpec())
            staged.setdefault(table.name, []).append(target.stage([wanted[n] for n in chunk], rows))
    for table in lake.TABLES:
        LakeTable(store, table, ParquetSpec()).commit(*staged[table.name])


def texts_of(prefix: str, numbers: np.ndarray, width: int) -> pa.Array:
    """`prefix00000012` of each number."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, digits, "")


@cache
def pool() -> tuple[pa.Array, pa.Array]:
    """The texts, and a hash of each."""
    chosen = np.random.default_rng(0).integers(0, len(WORDS), (TEXTS, 14))
    return pa.array([" ".join(line) for line in WORDS[chosen]]), texts_of("", np.arange(TEXTS), 32)


def one_day(day: str, quota: int, people: int) -> dict[str, pa.Table]:
    """The rows of one day by table, each sorted by its key.

    Args:
        day: local day on which the conversations start.
        quota: messages.
        people: users there are in all.
    """
    random = np.random.default_rng([7, *day.encode()])
    talks = _Talks(day, quota, people, random)
    said = _messages(talks, random)
    return {
        "messages": said,
        "conversations": _conversations(talks, random),
        **_enrichment(talks, said, random),
    }


class _Talks:
    """The conversations of a day and, for each message, which it belongs to, when and by whom."""

    def __init__(self, day: str, quota: int, people: int, random: np.random.Generator) -> None:
        self.day = day
        lengths = 1 + random.geometric(
            1 / (MESSAGES_A_CONVERSATION - 1), 2 * quota // MESSAGES_A_CONVERSATION + 30
        )
        lengths[random.random(len(lengths)) < 0.02] = 0
        count = int(np.searchsorted(np.cumsum(lengths), quota)) + 1
        lengths = lengths[:count]
        lengths[-1] -= lengths.sum() - quota
        self.lengths, self.count = lengths, count
        self.ids = texts_of(f"{day}-", np.arange(count), 8)
        self.of = np.repeat(np.arange(count), lengths)
        self.starts = np.cumsum(lengths) - lengths
        self.place = np.arange(quota) - self.starts[self.of]
        self.users = np.floor(people * random.random(count) ** 2).astype(int)
        self.channel = random.choice(4, count, p=[0.5, 0.3, 0.15, 0.05])
        self.language = (self.users * 7919 + random.integers(0, 20, count) // 19) % len(LANGUAGES)
        # 0 a bot alone, 1 a bot and then an agent, 2 an agent alone, 3 nobody answers
        self.kind = random.choice(4, count, p=[0.35, 0.33, 0.28, 0.04])
        self.agent = random.integers(0, 60, count)
        self._sides(random)
        self._times(random)

    def _sides(self, random: np.random.Generator) -> None:
        flips = random.random(len(self.of)) > 0.25
        flips[self.starts[self.lengths > 0]] = False
        flipped = np.cumsum(flips)
        first = flipped[np.minimum(self.starts, len(flipped) - 1)]
        begun_by_staff = random.random(self.count) < 0.06
        staff = (flipped - first[self.of] + begun_by_staff[self.of]) % 2 == 1
        kind = self.kind[self.of]
        staff &= kind != 3
        handoff = np.maximum(2, (self.lengths * random.uniform(0.2, 0.7, self.count)).astype(int))
        agents = (kind == 2) | ((kind == 1) & (self.place >= handoff[self.of]))
        self.sender = np.where(~staff, 0, np.where(agents, 2, 1))  # user, bot, agent
        self.system = random.random(len(self.of)) < 0.03
        self.private = ~self.system & (self.sender == 2) & (random.random(len(self.of)) < 0.04)

    def _times(self, random: np.random.Generator) -> None:
        rows = len(self.of)
        medians = np.array([45.0, 2.0, 75.0])[self.sender]
        gaps = medians * np.exp(random.normal(0, 1.0, rows))
        gaps[random.random(rows) < 0.004] *= 400
        gaps[self.starts[self.lengths > 0]] = 0
        passed = np.cumsum(gaps)
        begun = passed[np.minimum(self.starts, rows - 1)]
        zone = ZoneInfo(ZONE)
        midnight = datetime.combine(date.fromisoformat(self.day), datetime.min.time(), zone)
        length = (midnight + timedelta(days=1)).timestamp() - midnight.timestamp()
        hours = np.clip(random.normal(13.5, 4, self.count), 0, 23.99) / 24 * length
        self.started = (int(midnight.timestamp()) * SECOND + np.floor(hours * SECOND)).astype(np.int64)
        self.created = self.started[self.of] + np.floor((passed - begun[self.of]) * SECOND).astype(np.int64)
        last = np.maximum(self.starts + self.lengths - 1, 0)
        self.ended = np.where(self.lengths > 0, self.created[last], self.started)


def _stamps(instants: np.ndarray) -> pa.Array:
    return pa.array(instants, pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def _table(table: Table, rows: int, values: dict[str, Any]) -> pa.Table:
    columns = [
        values[field.name].cast(field.type) if field.name in values else pa.nulls(rows, field.type)
        for field in table.arrow_schema
    ]
    return pa.table(columns, schema=table.arrow_schema)


def _chosen(
    values: Sequence[str] | np.ndarray, places: np.ndarray, keep: np.ndarray | None = None
) -> pa.Array:
    """Values at places; NULL where `keep` is false."""
    indices = pa.array(places) if keep is None else pa.array(places, mask=~keep)
    return pa.array(list(values), pa.string()).take(indices)


def _same(value: Any, rows: int) -> pa.Array:
    return pa.array([value]).take(pa.array(np.zeros(rows, np.int64)))


def _hashes(random: np.random.Generator, rows: int) -> pa.Array:
    return pool()[1].take(pa.array(random.integers(0, TEXTS, rows)))


def _messages(talks: _Talks, random: np.random.Generator) -> pa.Table:
    rows = len(talks.of)
    drawn = random.integers(0, TEXTS, rows)
    texts, hashes = pool()
    declared = talks.language[talks.of]
    detected = np.where(random.random(rows) < 0.05, random.integers(0, len(LANGUAGES), rows), declared)
    undetermined = random.random(rows) < 0.08
    people = texts_of("user-", talks.users, 8)
    agents = texts_of("agent-", talks.agent, 3)
    staff = pa.array(["bot-1"] * 1)
    senders = pa.chunked_array([people, agents, staff]).combine_chunks()
    which = np.where(
        talks.sender == 0, talks.of, np.where(talks.sender == 2, talks.count + talks.of, 2 * talks.count)
    )
    edited = random.random(rows) < 0.01
    updated = np.where(edited, talks.created + 3600 * SECOND, talks.created)
    return _table(
        lake.MESSAGES,
        rows,
        {
            "partition": _same(talks.day, rows),
            "conversation_id": talks.ids.take(pa.array(talks.of)),
            "message_id": texts_of(f"{talks.day}-m", np.arange(rows), 9),
            "seq": pa.array((talks.place + 1).astype(np.int32)),
            "sender_type": _chosen(
                ["user", "bot", "agent", "system"], np.where(talks.system, 3, talks.sender)
            ),
            "sender_id": senders.take(pa.array(which, mask=talks.system)),
            "is_private": pa.array(talks.private),
            "text": texts.take(pa.array(drawn)),
            "text_hash": hashes.take(pa.array(drawn)),
            "language": _chosen(LANGUAGES, declared, random.random(rows) > 0.3),
            "language_detected": _chosen(
                [*LANGUAGES, "und"], np.where(undetermined, len(LANGUAGES), detected)
            ),
            "language_confidence": pa.array(random.random(rows)),
            "created_at": _stamps(talks.created),
            "updated_at": _stamps(updated),
            "source_updated_at": _stamps(updated),
            "content_hash": hashes.take(pa.array(drawn)),
        },
    )


def _conversations(talks: _Talks, random: np.random.Generator) -> pa.Table:
    rows = talks.count
    fate = random.random(rows)
    resolved = (fate < 0.72) & (talks.lengths > 0) & (talks.kind != 3)
    abandoned = ~resolved & (fate > 0.9)
    status = np.where(resolved, 0, np.where(abandoned, 1, 2))
    events, changed = _events(talks, resolved, random)
    answered = resolved & (random.random(rows) < 0.25)
    return _table(
        lake.CONVERSATIONS,
        rows,
        {
            "partition": _same(talks.day, rows),
            "conversation_id": talks.ids,
            "user_id": texts_of("user-", talks.users, 8),
            "agent_id": pa.array(texts_of("agent-", talks.agent, 3)).filter(pa.array(np.ones(rows, bool))),
            "channel": _chosen(CHANNELS, talks.channel, random.random(rows) > 0.01),
            "language": _chosen(LANGUAGES, talks.language, random.random(rows) > 0.25),
            "status": _chosen(["resolved", "abandoned", "open"], status),
            "traffic_class": _chosen(["live", "test"], (random.random(rows) < 0.02).astype(int)),
            "started_at": _stamps(talks.started),
            "ended_at": pa.array(_stamps(talks.ended)),
            "updated_at": _stamps(changed),
            "status_events": events,
            "csat_score": pa.array(
                random.choice([1.0, 2.0, 3.0, 4.0, 5.0], rows, p=[0.08, 0.07, 0.15, 0.3, 0.4]), mask=~answered
            ),
            "source_updated_at": _stamps(changed),
            "content_hash": _hashes(random, rows),
        },
    )


def _events(talks: _Talks, resolved: np.ndarray, random: np.random.Generator) -> tuple[pa.Array, np.ndarray]:
    """Status events, and when the last of them was: a resolve, and for some a reopening and another."""
    rows = talks.count
    reopened = resolved & (random.random(rows) < 0.12)
    first = talks.ended + np.floor(random.exponential(600, rows) * SECOND).astype(np.int64)
    # Some reopen within the 7 days that make it a reopening, some later.
    again = first + np.floor(random.uniform(0.02, 12, rows) * 86_400 * SECOND).astype(np.int64)
    last = again + np.floor(random.exponential(7200, rows) * SECOND).astype(np.int64)
    number = np.where(reopened, 3, np.where(resolved, 1, 0))
    ends = np.cumsum(number)
    of = np.repeat(np.arange(rows), number)
    nth = np.arange(ends[-1] if rows else 0) - (ends - number)[of]
    at = np.where(nth == 0, first[of], np.where(nth == 1, again[of], last[of]))
    back = nth == 1
    flat = pa.StructArray.from_arrays(
        [
            _chosen(["open", "resolved"], back.astype(int)),
            _chosen(["resolved", "open"], back.astype(int)),
            _stamps(at),
            texts_of("agent-", talks.agent, 3).take(pa.array(of)),
        ],
        fields=list(lake.STATUS_EVENT),
    )
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    changed = np.where(reopened, last, np.where(resolved, first, talks.ended))
    return pa.ListArray.from_arrays(offsets, flat), changed


def _enrichment(talks: _Talks, said: pa.Table, random: np.random.Generator) -> dict[str, pa.Table]:
    foreign = np.flatnonzero(talks.language[talks.of] != 0)
    rows = len(foreign)
    ids, hashes = said["message_id"].take(pa.array(foreign)), said["text_hash"].take(pa.array(foreign))
    status = random.choice(3, rows, p=[0.95, 0.02, 0.03])
    texts = pool()[0]
    translations = {
        "partition": _same(talks.day, rows),
        "conversation_id": said["conversation_id"].take(pa.array(foreign)),
        "message_id": ids,
        "text_hash": hashes,
        "source_language": _chosen(LANGUAGES, talks.language[talks.of][foreign]),
        "target_language": _same("en", rows),
        "prompt_version": _same("1", rows),
        "status": _chosen(["ok", "failed", "skipped"], status),
        "text": texts.take(pa.array(random.integers(0, TEXTS, rows), mask=status != 0)),
    }
    spoken = np.flatnonzero(talks.lengths > 0)
    decided = {
        "partition": _same(talks.day, len(spoken)),
        "conversation_id": talks.ids.take(pa.array(spoken)),
        "taxonomy_version": _same("1", len(spoken)),
        "prompt_version": _same("1", len(spoken)),
        "category": _chosen(CATEGORIES, random.integers(0, len(CATEGORIES), len(spoken))),
        "confidence": pa.array(random.random(len(spoken))),
        "source": _chosen(["llm", "rule", "human"], random.choice(3, len(spoken), p=[0.9, 0.07, 0.03])),
    }
    return {
        "translations": _table(lake.TRANSLATIONS, rows, translations),
        "categories": _table(lake.CATEGORIES, len(spoken), decided),
        "llm_calls": _calls(talks, foreign[status != 2], spoken, said, random),
    }


def _calls(
    talks: _Talks, asked: np.ndarray, spoken: np.ndarray, said: pa.Table, random: np.random.Generator
) -> pa.Table:
    """The ledger: a call about 20 texts has a row for each, and one in four is served from the memory."""
    texts, talks_asked = len(asked), len(spoken)
    rows = texts + talks_asked
    is_text = np.arange(rows) < texts
    cached = is_text & (random.random(rows) < 0.25)
    failed = ~cached & (random.random(rows) < 0.02)
    run = np.where(is_text, np.arange(rows) // 20, np.arange(rows))
    of = np.concatenate([talks.of[asked], spoken])
    tokens = random.integers(20, 400, rows)
    place = np.concatenate([asked, np.zeros(talks_asked, np.int64)])
    price = pa.array([Decimal(3 * n) / 10**6 for n in range(400)], MONEY).take(pa.array(tokens, mask=cached))
    created = talks.ended[of] + np.floor(random.exponential(900, rows) * SECOND).astype(np.int64)
    known = ~cached
    values = {
        "partition": _same(talks.day, rows),
        "call_id": texts_of(f"{talks.day}-c", np.arange(rows), 9),
        "purpose": _chosen(["translation", "category"], (~is_text).astype(int)),
        "status": _chosen(["ok", "failed", "cached"], np.where(cached, 2, np.where(failed, 1, 0))),
        "conversation_id": talks.ids.take(pa.array(of)),
        "message_id": said["message_id"].take(pa.array(place, mask=~is_text)),
        "workflow_run_id": texts_of(f"{talks.day}-run-", run, 8).take(pa.array(np.arange(rows), mask=cached)),
        "model": _chosen(["small", "large"], (run % 3 == 0).astype(int), known),
        "tokens": pa.array(tokens, mask=cached),
        "price": price,
        "currency": _chosen(["USD"], np.zeros(rows, int), known),
        "latency_ms": pa.array(np.floor(random.gamma(2, 600, rows)).astype(np.int64), mask=cached),
        "attempts": pa.array(
            np.where(cached, 0, np.where(is_text, (np.arange(rows) % 20 == 0) * 1, 1)).astype(np.int32)
        ),
        "created_at": _stamps(created),
    }
    return _table(lake.LLM_CALLS, rows, values)


if __name__ == "__main__":
    wish = json.loads(sys.argv[1])
    make(Path(wish["folder"]), wish["messages"], wish["days"])
