"""What the marts must hold, from conversations and messages, in plain Python.

Keys are those of `cai_assets.schemas.marts`; values are dicts of the columns beside key and month. Hand in
live conversations; what a clock or an outcome is, is told by `conversations` and `activity`.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from cai_assets_tests.oracle.activity import sessions
from cai_assets_tests.oracle.conversations import (
    OUTCOMES,
    REOPEN_WINDOW,
    all_facts,
    conversation_waits,
    status_events,
)
from cai_assets_tests.oracle.enrichment import translation_cost, usage
from cai_assets_tests.oracle.hours import OpenMinutes
from cai_assets_tests.oracle.rows import Row, by_conversation, local_day, mean, quantile

Table = dict[tuple[Any, ...], dict[str, Any]]
DAY = timedelta(days=1)
CLOSED = ("resolved", "abandoned")


def message_language(message: Row, conversation: Row) -> str:
    """Detected, unless it could not be told; else declared; else the conversation's; else `und`."""
    detected = message.get("language_detected")
    if detected and detected != "und":
        return str(detected)
    return message.get("language") or conversation.get("language") or "und"


def dimensions(conversation: Row, ordered: Iterable[Row]) -> tuple[str, str]:
    """Channel and language by which a conversation is counted."""
    spoken = Counter(
        language
        for m in ordered
        if m["sender_type"] == "user" and (language := message_language(m, conversation)) != "und"
    )
    most = min(spoken, key=lambda language: (-spoken[language], language)) if spoken else "und"
    return conversation.get("channel") or "unknown", conversation.get("language") or most


def volume(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By day, channel and language; days without traffic between the first and the last are zeros."""
    zone = ZoneInfo(timezone)
    conversations, messages = list(conversations), list(messages)
    names = ("conversations_started", "conversations_active", "waits")
    found: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for conversation, ordered in by_conversation(conversations, messages).values():
        dims = dimensions(conversation, ordered)
        days = [local_day(m["created_at"], zone) for m in ordered]
        for day, message in zip(days, ordered, strict=True):
            found[day, *dims]["messages"] += 1
            found[day, *dims][f"{message['sender_type']}_messages"] += 1
        for day in set(days):
            found[day, *dims]["conversations_active"] += 1
        if days:
            found[days[0], *dims]["conversations_started"] += 1
        for wait in conversation_waits(conversation["conversation_id"], ordered):
            found[local_day(wait.waiting_since, zone), *dims]["waits"] += 1
    if not found:
        return {}
    first, last = min(key[0] for key in found), max(key[0] for key in found)
    every = [first + n * DAY for n in range((last - first).days + 1)]
    for conversation, ordered in by_conversation(conversations, messages).values():
        if ordered:
            began = local_day(ordered[0]["created_at"], zone)
            dims = dimensions(conversation, ordered)
            for day in every:
                if day >= began and _stands_open(conversation, ordered, day, zone):
                    found[day, *dims]["backlog_open"] += 1
    columns = (*names, "backlog_open", "messages", "user_messages", "bot_messages", "agent_messages")
    return {
        (day, *dims): {
            column: found[day, *dims][column] if (day, *dims) in found else 0 for column in columns
        }
        for day in every
        for dims in {key[1:] for key in found}
    }


def _stands_open(conversation: Row, ordered: list[Row], day: date, zone: ZoneInfo) -> bool:
    """Whether a conversation that has begun is open at the end of a local day."""
    events = status_events(conversation)
    if events:
        past = [event["to"] for event in events if local_day(event["at"], zone) <= day]
        return not past or past[-1] not in CLOSED
    end = conversation.get("ended_at") or ordered[-1]["created_at"]
    return conversation["status"] not in CLOSED or local_day(end, zone) > day


def clocks(
    conversations: Iterable[Row], messages: Iterable[Row]
) -> dict[tuple[str, str, int], tuple[datetime, datetime | None]]:
    """When each response clock started and stopped, by conversation, clock and user turn (else 1)."""
    conversations, messages = list(conversations), list(messages)
    found: dict[tuple[str, str, int], tuple[datetime, datetime | None]] = {}
    facts = all_facts(conversations, messages)
    for key, (_, ordered) in by_conversation(conversations, messages).items():
        fact = facts[key]
        if fact.first_user_at is not None:
            found[key, "first", 1] = fact.first_user_at, fact.first_any_at
            if fact.first_human_at is not None or fact.first_any_at is None:
                found[key, "first_human", 1] = fact.first_user_at, fact.first_human_at
        if fact.handoff_at is not None:
            found[key, "after_handoff", 1] = fact.handoff_at, fact.first_human_at
        for wait in conversation_waits(key, ordered):
            found[key, "reply", wait.turn_no] = wait.waiting_since, wait.replied_at
    return found


def response(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    as_of: datetime,
    hours: OpenMinutes | None = None,
    targets: tuple[float, float, float] = (60, 300, 900),
) -> Table:
    """By day on which the clock started, channel, language, clock and hours.

    Args:
        conversations: live ones.
        messages: their messages.
        timezone: IANA zone.
        as_of: when open clocks are looked at.
        hours: business hours; without them there are no rows of them.
        targets: seconds.
    """
    readings = _readings(conversations, messages, timezone, as_of, hours)
    return {key: _response_row(*group, targets) for key, group in readings.items()}


def histogram(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    hours: OpenMinutes | None = None,
) -> Table:
    """As `response`, and by bucket: found by climbing from 1 s, a step of 2 % at a time."""
    edges = [1.02**step for step in range(-800, 1200)]
    found: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for key, (stopped, _) in _readings(conversations, messages, timezone, None, hours).items():
        for seconds in stopped:
            step = bisect_right(edges, seconds * (1 + 1e-11)) - 801 if seconds else -1047
            found[*key, step]["n"] += 1
    return {key: dict(row) for key, row in found.items()}


def _readings(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    as_of: datetime | None,
    hours: OpenMinutes | None,
) -> dict[tuple[Any, ...], tuple[list[float], list[float]]]:
    """Seconds of the clocks that stopped, and those for which others have run at as_of."""
    zone = ZoneInfo(timezone)
    conversations, messages = list(conversations), list(messages)
    dims = {key: dimensions(*group) for key, group in by_conversation(conversations, messages).items()}
    found: dict[tuple[Any, ...], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for (key, clock, _), (since, stopped) in clocks(conversations, messages).items():
        end = stopped or as_of
        row = local_day(since, zone), *dims[key], clock
        if end is None:
            continue
        taken = {"calendar": (end - since).total_seconds()}
        if hours is not None and hours.known(since):
            taken["business"] = hours.between(since, end) or 0.0
        for kind, seconds in taken.items():
            found[*row, kind][0 if stopped else 1].append(seconds)
    return found


def _response_row(
    stopped: list[float], open_for: list[float], targets: tuple[float, float, float]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "n": len(stopped),
        "n_open": len(open_for),
        "sum_s": sum(stopped) if stopped else None,
        "avg_s": mean(stopped),
        "max_s": max(stopped, default=None),
    }
    row |= {f"p{q}_s": quantile(stopped, q / 100) for q in (50, 90, 95, 99)}
    for n, target in enumerate(targets, 1):
        row[f"within_target_{n}"] = sum(s <= target for s in stopped)
        row[f"decided_{n}"] = len(stopped) + sum(s > target for s in open_for)
    return row


def resolutions(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    as_of: datetime,
    hours: OpenMinutes | None = None,
) -> Table:
    """By day of the first counted message, channel and language; empty conversations are left out."""
    zone = ZoneInfo(timezone)
    conversations, messages = list(conversations), list(messages)
    facts = all_facts(conversations, messages)
    groups: dict[tuple[Any, ...], list[tuple[Row, Any]]] = defaultdict(list)
    for key, (conversation, ordered) in by_conversation(conversations, messages).items():
        if ordered:
            day = local_day(ordered[0]["created_at"], zone)
            groups[day, *dimensions(conversation, ordered)].append((conversation, facts[key]))
    found: Table = {}
    for key, group in groups.items():
        resolved = [(c, f) for c, f in group if f.resolves]
        undone = [was_undone(c) for c, _ in resolved]
        settled = [
            u or (f.resolved_last_at is not None and as_of - f.resolved_last_at > REOPEN_WINDOW)
            for u, (_, f) in zip(undone, resolved, strict=True)
        ]
        last = [f.resolution_last_s for _, f in group]
        touches = Counter(min(f.touches, 3) for _, f in resolved if f.touches is not None)
        found[key] = {
            "started": len(group),
            "resolved": len(resolved),
            "reopened": sum(f.reopens > 0 for _, f in group),
            "settled": sum(settled),
            "durable": sum(s and not u for s, u in zip(settled, undone, strict=True)),
            "resolution_events": sum(f.resolves for _, f in group),
            "resolution_users": len({c["user_id"] for c, _ in resolved}),
            "resolution_n": sum(s is not None for s in last),
            "first_p50_s": quantile([f.resolution_first_s for _, f in group], 0.5),
            "first_p90_s": quantile([f.resolution_first_s for _, f in group], 0.9),
            "last_p50_s": quantile(last, 0.5),
            "last_p90_s": quantile(last, 0.9),
            "last_sum_s": sum(s for s in last if s is not None) if any(s is not None for s in last) else None,
            **_durable_percentiles(resolved, settled, undone),
            **_business_percentiles([f for _, f in group], hours),
            "zero_touch": touches[0],
            "one_touch": touches[1],
            "two_touch": touches[2],
            "multi_touch": touches[3],
        }
    return found


def _durable_percentiles(
    resolved: list[tuple[Row, Any]], settled: list[bool], undone: list[bool]
) -> dict[str, float | None]:
    lasting = [
        fact.resolution_last_s
        for (_, fact), s, u in zip(resolved, settled, undone, strict=True)
        if s and not u
    ]
    return {f"durable_p{q}_s": quantile(lasting, q / 100) for q in (50, 90)}


def _business_percentiles(facts: list[Any], hours: OpenMinutes | None) -> dict[str, float | None]:
    found = {}
    for which in ("first", "last"):
        taken = [
            hours.between(fact.first_message_at, getattr(fact, f"resolved_{which}_at")) if hours else None
            for fact in facts
        ]
        found |= {f"{which}_bh_p{q}_s": quantile(taken, q / 100) for q in (50, 90)}
    return found


def was_undone(conversation: Row) -> bool:
    """Whether the last resolve was followed by a reopening within 7 days."""
    last: datetime | None = None
    undone = False
    for event in status_events(conversation):
        if event["to"] == "resolved":
            last, undone = event["at"], False
        elif event["from"] == "resolved" and event["to"] == "open" and last is not None:
            undone = undone or event["at"] - last <= REOPEN_WINDOW
    return undone


def containment(
    conversations: Iterable[Row], messages: Iterable[Row], timezone: str, as_of: datetime
) -> Table:
    """By day of the first counted message (else of the start), channel and first bot."""
    zone = ZoneInfo(timezone)
    conversations, messages = list(conversations), list(messages)
    grouped = by_conversation(conversations, messages)
    facts = all_facts(conversations, messages)
    starts: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for key, (conversation, ordered) in grouped.items():
        if ordered:
            starts[conversation["user_id"]].append((conversation["started_at"], key))
    found: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for key, (conversation, ordered) in grouped.items():
        fact = facts[key]
        began = ordered[0]["created_at"] if ordered else conversation["started_at"]
        bots = [m.get("sender_id") or "unknown" for m in ordered if m["sender_type"] == "bot"]
        bot = bots[0] if bots else "none"
        row = found[local_day(began, zone), conversation.get("channel") or "unknown", bot]
        row["conversations"] += 1
        row["started"] += bool(ordered)
        row[f"outcome_{fact.outcome}"] += 1
        row["abandoned"] += fact.outcome == "abandoned"
        if not (fact.bot_messages and fact.user_messages):
            continue
        row["bot_conversations"] += 1
        kinds = [m["sender_type"] for m in ordered]
        row["handed_off"] += "agent" in kinds[kinds.index("bot") :]
        if fact.outcome != "contained":
            continue
        row["contained"] += 1
        end = conversation.get("ended_at") or fact.last_message_at
        mine = (conversation["started_at"], key)
        following = min((start for start in starts[conversation["user_id"]] if start > mine), default=None)
        returned = following is not None and following[0] - end <= DAY
        past = as_of - end > DAY
        row["contained_settled"] += returned or past
        row["contained_no_return_24h"] += past and not returned
    columns = (
        *("conversations", "started", "bot_conversations", "contained", "handed_off", "contained_settled"),
        *("contained_no_return_24h", "abandoned", *(f"outcome_{outcome}" for outcome in OUTCOMES)),
    )
    return {key: {column: row[column] for column in columns} for key, row in found.items()}


def languages(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    translations: Mapping[str, set[str]],
    calls: Iterable[Row] = (),
) -> Table:
    """By day and language of the message.

    Args:
        conversations: live ones.
        messages: their messages.
        timezone: IANA zone.
        translations: the statuses of each message that needs one, by message_id.
        calls: rows of the ledger.
    """
    zone = ZoneInfo(timezone)
    asked: dict[str, list[Row]] = defaultdict(list)
    for call in calls:
        if call["purpose"] == "translation" and call.get("message_id") is not None:
            asked[call["message_id"]].append(call)
    groups: dict[tuple[Any, ...], list[tuple[Row, Row]]] = defaultdict(list)
    for conversation, ordered in by_conversation(conversations, messages).values():
        for message in ordered:
            key = local_day(message["created_at"], zone), message_language(message, conversation)
            groups[key].append((message, conversation))
    found: Table = {}
    for key, group in groups.items():
        best = Counter(
            next(s for s in ("ok", "failed", "skipped") if s in translations[m["message_id"]])
            for m, _ in group
            if m["message_id"] in translations
        )
        pairs = [(m.get("language"), m.get("language_detected")) for m, _ in group]
        known = [(a, b) for a, b in pairs if a and b and "und" not in (a, b)]
        found[key] = {
            "messages": len(group),
            "user_messages": sum(m["sender_type"] == "user" for m, _ in group),
            "users": len({c["user_id"] for m, c in group if m["sender_type"] == "user"}),
            "conversations": len({c["conversation_id"] for _, c in group}),
            "needing_translation": sum(best.values()),
            "translated": best["ok"],
            "failed": best["failed"],
            "skipped": best["skipped"],
            **translation_cost([m for m, _ in group], translations, asked),
            "detection_compared": len(known),
            "detection_agreeing": sum(a.lower().split("-")[0] == b.lower().split("-")[0] for a, b in known),
        }
    return found


def users(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    as_of: datetime,
    categories: Mapping[str, str],
    calls: Iterable[Row],
) -> Table:
    """By user who wrote.

    Args:
        conversations: live ones.
        messages: their messages.
        timezone: IANA zone.
        as_of: the latest change of the source.
        categories: the latest category by conversation_id.
        calls: rows of the ledger.
    """
    zone = ZoneInfo(timezone)
    spent: dict[str, list[Row]] = defaultdict(list)
    for call in calls:
        spent[call["conversation_id"]].append(call)
    conversations, messages = list(conversations), list(messages)
    written: dict[str, list[tuple[Row, Row]]] = defaultdict(list)
    for conversation, ordered in by_conversation(conversations, messages).values():
        for message in ordered:
            if message["sender_type"] == "user":
                written[conversation["user_id"]].append((message, conversation))
    own_sessions = defaultdict(list)
    for session in sessions(conversations, messages):
        own_sessions[session.user_id].append(session)
    rows: dict[str, dict[str, Any]] = {}
    last: dict[str, datetime] = {}
    for user_id, own in written.items():
        days = {local_day(m["created_at"], zone) for m, _ in own}
        spoken = Counter(message_language(m, c) for m, c in own)
        first_of: dict[str, datetime] = {}
        for m, c in own:
            known = first_of.get(c["conversation_id"], m["created_at"])
            first_of[c["conversation_id"]] = min(known, m["created_at"])
        last[user_id] = max(m["created_at"] for m, _ in own)
        recency = max((as_of - last[user_id]) // DAY, 0)
        usual = quantile([(b - a).days for a, b in pairwise(sorted(days))], 0.9)
        about = Counter(categories[key] for key in first_of if key in categories)
        favourites = sorted(about, key=lambda category: (-about[category], category))
        scores = [c.get("csat_score") for c in {c["conversation_id"]: c for _, c in own}.values()]
        rows[user_id] = {
            "first_seen": min(days),
            "last_seen": max(days),
            "days_active": len(days),
            "conversations": len(first_of),
            "messages": len(own),
            "sessions": len(own_sessions[user_id]),
            "avg_session_s": mean([s.duration_s for s in own_sessions[user_id]]),
            "preferred_language": min(spoken, key=lambda language: (-spoken[language], language)),
            **{f"category_{n}": favourites[n - 1] if n <= len(favourites) else None for n in range(1, 4)},
            "recency_days": recency,
            "gap_p90_days": usual,
            "churn_risk": None if usual is None else recency > usual,
            "csat_answered": sum(score is not None for score in scores),
            "csat_positive": sum(score is not None and score >= 4 for score in scores),
            **usage(call for key in first_of for call in spent[key]),
            "frequency_90d": sum(as_of - first < 90 * DAY for first in first_of.values()),
            "monetary": len(own),
        }
    quintiles = {
        "r": _quintiles({user_id: last[user_id] for user_id in rows}),
        "f": _quintiles({user_id: row["frequency_90d"] for user_id, row in rows.items()}),
        "m": _quintiles({user_id: row["monetary"] for user_id, row in rows.items()}),
    }
    for user_id, row in rows.items():
        row |= {name: quintile[user_id] for name, quintile in quintiles.items()}
        row["segment"] = _segment(row)
    return {(user_id,): row for user_id, row in rows.items()}


def _quintiles(values: Mapping[str, Any]) -> dict[str, int]:
    """1 to 5 by rank; where the users do not divide by five, the lower fifths have one more."""
    ranked = sorted(values, key=lambda user_id: (values[user_id], user_id))
    size, more = divmod(len(ranked), 5)
    fifths = [n for n in range(1, 6) for _ in range(size + (n <= more))]
    return dict(zip(ranked, fifths, strict=True))


def _segment(row: Mapping[str, Any]) -> str:
    recent, frequent = row["r"], row["f"]
    if recent >= 4 and frequent >= 4:
        return "champion"
    if recent >= 3 and frequent >= 3:
        return "loyal"
    if recent >= 4 and row["conversations"] == 1:
        return "new"
    if recent >= 3:
        return "promising"
    return "at_risk" if frequent >= 3 else "hibernating"


def month(day: date) -> str:
    """The month that a mart's row of that day belongs to."""
    return f"{day:%Y-%m}"
