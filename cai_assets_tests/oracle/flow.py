"""What the marts about the course of things must hold: clock hours, heatmap, funnel, handling.

Keys are those of `cai_assets.schemas.marts_traffic`; values are dicts of the columns beside key and month.
Hand in live conversations.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cai_assets_tests.oracle.conversations import (
    REOPEN_WINDOW,
    ConversationFacts,
    all_facts,
    conversation_waits,
    status_events,
)
from cai_assets_tests.oracle.marts import Table, dimensions, message_language, month, was_undone
from cai_assets_tests.oracle.people import week_of
from cai_assets_tests.oracle.rows import Row, by_conversation, local_day, quantile


def local_hours(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By local day, hour and weekday: for how many seconds the clock showed it while there was traffic."""
    zone = ZoneInfo(timezone)
    days = {
        local_day(m["created_at"], zone)
        for _, own in by_conversation(conversations, messages).values()
        for m in own
    }
    if not days:
        return {}
    first, last = min(days), max(days)
    minutes: Counter[tuple[date, int]] = Counter()
    at = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=2)
    while local_day(at, zone) <= last:
        if local_day(at, zone) >= first:
            minutes[local_day(at, zone), at.astimezone(zone).hour] += 5
        at += timedelta(minutes=5)
    return {
        (day, hour, day.isoweekday()): {"seconds": 60 * passed} for (day, hour), passed in minutes.items()
    }


def heatmap(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By month, day of the week, hour, channel and language."""
    zone = ZoneInfo(timezone)
    conversations, messages = list(conversations), list(messages)
    hours: dict[tuple[Any, ...], float] = defaultdict(float)
    for (day, hour, isodow), row in local_hours(conversations, messages, timezone).items():
        hours[month(day), isodow, hour] += row["seconds"] / 3600
    counts: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    replies: dict[tuple[Any, ...], list[float]] = defaultdict(list)

    def cell(at: datetime, dims: tuple[str, str]) -> tuple[Any, ...]:
        local = at.astimezone(zone)
        return month(local.date()), local.isoweekday(), local.hour, *dims

    pairs = set()
    for key, (conversation, own) in by_conversation(conversations, messages).items():
        dims = dimensions(conversation, own)
        for place, message in enumerate(own):
            pairs.add(dims)
            row = counts[cell(message["created_at"], dims)]
            row["messages"] += 1
            row["user_messages"] += message["sender_type"] == "user"
            row["conversations"] += place == 0
        for wait in conversation_waits(key, own):
            counts[cell(wait.waiting_since, dims)]["waits"] += 1
            if wait.reply_s is not None:
                replies[cell(wait.waiting_since, dims)].append(wait.reply_s)
    found: Table = {}
    for kind, shown in hours.items():
        for dims in pairs:
            key = (*kind, *dims)
            answered = replies.get(key, [])
            found[key] = {
                "hours": shown,
                **{
                    name: counts[key][name] if key in counts else 0
                    for name in ("messages", "user_messages", "conversations", "waits")
                },
                "reply_n": len(answered),
                "reply_sum_s": sum(answered) if answered else None,
                "reply_p50_s": quantile(answered, 0.5),
                "reply_p90_s": quantile(answered, 0.9),
            }
    return found


STEPS = (
    *("started", "bot_answered", "handed_off", "agent_answered", "resolved", "durable", "csat_answered"),
    *("undecided", "contained", "contained_durable", "contained_csat_answered"),
)


def funnel(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    as_of: datetime,
    categories: dict[str, str],
) -> Table:
    """By Monday of the first counted message, channel, language, category and entry.

    Args:
        conversations: live ones.
        messages: their messages.
        timezone: IANA zone.
        as_of: the latest change of the source.
        categories: the latest category by conversation_id.
    """
    zone = ZoneInfo(timezone)
    conversations, messages = list(conversations), list(messages)
    facts = all_facts(conversations, messages)
    found: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for key, (conversation, own) in by_conversation(conversations, messages).items():
        if not own:
            continue
        entry, passed = _steps(conversation, own, facts[key], as_of)
        monday = week_of(local_day(own[0]["created_at"], zone))
        category = categories.get(key, "uncategorised")
        row = found[monday, *dimensions(conversation, own), category, entry]
        row.update(passed)
    return {key: {step: row[step] for step in STEPS} for key, row in found.items()}


def _steps(
    conversation: Row, own: list[Row], fact: ConversationFacts, as_of: datetime
) -> tuple[str, list[str]]:
    """The entry, and the names of the steps that the conversation took."""
    answers = [
        m["sender_type"]
        for m in own
        if fact.first_user_at is not None
        and m["created_at"] >= fact.first_user_at
        and m["sender_type"] != "user"
    ]
    to_people = any((e["from"], e["to"]) == ("pending", "open") for e in status_events(conversation))
    with_bot = any(m["sender_type"] == "bot" for m in own) and (
        "agent" not in answers or "bot" in answers[: answers.index("agent")]
    )
    passed = ["started"]
    if with_bot:
        if "bot" not in answers:
            return "bot", passed
        passed.append("bot_answered")
        if "agent" not in answers and not to_people:
            return "bot", passed + _ending(conversation, fact, as_of, "contained", "contained_")
    else:
        passed.append("bot_answered")
    passed.append("handed_off")
    if "agent" in answers:
        passed += ["agent_answered", *_ending(conversation, fact, as_of, "resolved", "")]
    return ("bot" if with_bot else "direct"), passed


def _ending(
    conversation: Row, fact: ConversationFacts, as_of: datetime, resolved: str, prefix: str
) -> list[str]:
    if not fact.resolves:
        return []
    if was_undone(conversation):
        return [resolved]
    if fact.resolved_last_at is None or as_of - fact.resolved_last_at <= REOPEN_WINDOW:
        return [resolved, "undecided"]
    rated = [f"{prefix}csat_answered"] if conversation.get("csat_score") is not None else []
    return [resolved, f"{prefix}durable", *rated]


def handling(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By day of the first counted message, channel and language."""
    zone = ZoneInfo(timezone)
    conversations, messages = list(conversations), list(messages)
    facts = all_facts(conversations, messages)
    groups: dict[tuple[Any, ...], list[tuple[ConversationFacts, int]]] = defaultdict(list)
    for key, (conversation, own) in by_conversation(conversations, messages).items():
        if own:
            spoken = {message_language(m, conversation) for m in own if m["sender_type"] == "user"} - {"und"}
            day = local_day(own[0]["created_at"], zone)
            groups[day, *dimensions(conversation, own)].append((facts[key], len(spoken)))
    found: Table = {}
    for dims, group in groups.items():
        active = [fact.active_s or 0.0 for fact, _ in group]
        depth = [fact.messages for fact, _ in group]
        found[dims] = {
            "conversations": len(group),
            "active_sum_s": math.fsum(active),
            "active_p50_s": quantile(active, 0.5),
            "active_p90_s": quantile(active, 0.9),
            "messages": sum(depth),
            "messages_p50": quantile(depth, 0.5),
            "messages_p90": quantile(depth, 0.9),
            "user_turns": sum(fact.user_turns for fact, _ in group),
            "several_agents": sum(fact.agents > 1 for fact, _ in group),
            "language_known": sum(n > 0 for _, n in group),
            "language_mixed": sum(n > 1 for _, n in group),
        }
    return found
