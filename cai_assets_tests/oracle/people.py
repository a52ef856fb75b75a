"""What the marts about people must hold: agents, satisfaction, sessions, active users, retention.

Keys are those of `cai_assets.schemas.marts_people`; values are dicts of the columns beside key and month.
Hand in live conversations.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from cai_assets_tests.oracle import activity
from cai_assets_tests.oracle.conversations import IDLE_CAP, all_facts, conversation_waits, status_events
from cai_assets_tests.oracle.marts import Table, dimensions, was_undone
from cai_assets_tests.oracle.rows import Row, by_conversation, local_day, quantile

EPOCH = date(1970, 1, 1)
MONDAY = date(1970, 1, 5)


def week_of(day: date) -> date:
    """The Monday of the day's ISO week."""
    return day - timedelta(days=(day - MONDAY).days % 7)


def writer(message: Row) -> tuple[str, str]:
    """Kind and name of the member of staff who wrote it."""
    return message["sender_type"], message.get("sender_id") or "unknown"


def agents(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By local day, kind and name of the member of staff.

    Args:
        conversations: live ones.
        messages: their messages.
        timezone: IANA zone.
    """
    zone = ZoneInfo(timezone)
    grouped = by_conversation(conversations, messages)
    facts = all_facts([c for c, _ in grouped.values()], [m for _, own in grouped.values() for m in own])
    names = {
        kind: {writer(m)[1] for _, own in grouped.values() for m in own if m["sender_type"] == kind}
        for kind in ("agent", "bot")
    }
    names["agent"] |= {c["agent_id"] for c, _ in grouped.values() if c.get("agent_id")}
    rows: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(
        lambda: (
            dict.fromkeys(_AGENT_COUNTS, 0)
            | {"replies": [], "spans": [], "share": Fraction(), "users": set()}
        )
    )
    for key, (conversation, own) in grouped.items():
        _add_writing(rows, own, zone)
        for wait in conversation_waits(key, own):
            if wait.replied_at is not None:
                row = rows[
                    local_day(wait.waiting_since, zone), wait.replier_type, wait.replier_id or "unknown"
                ]
                row["waits_answered"] += 1
                row["replies"].append(wait.reply_s)
        if not own:
            continue
        day = local_day(own[0]["created_at"], zone)
        last = {m["sender_type"]: writer(m) for m in own}
        credited = last.get("agent") or last.get("bot") or ("other", "other")
        if facts[key].resolves:
            # a source without events tells of one resolve, and not by whom
            told = [e["actor"] for e in status_events(conversation) if e["to"] == "resolved"]
            actors = [credited if actor is None else _staff(actor, names) for actor in told or [None]]
            for actor in actors:
                rows[day, *actor]["resolution_events"] += 1
            row = rows[day, *actors[-1]]
            row["resolutions"] += 1
            row["users"].add(conversation["user_id"])
            row["undone"] += was_undone(conversation)
        if (score := conversation.get("csat_score")) is not None:
            rows[day, *credited]["csat_answered"] += 1
            rows[day, *credited]["csat_positive"] += score >= 4
    return {key: _agent_row(row) for key, row in rows.items()}


_AGENT_COUNTS = (
    *("conversations", "conversations_active", "messages", "waits_answered", "transfers_in"),
    *("transfers_out", "resolution_events", "resolutions", "undone", "csat_answered", "csat_positive"),
    "active_s",
)


def _staff(actor: str, names: Mapping[str, set[str]]) -> tuple[str, str]:
    kind = next((kind for kind in ("agent", "bot") if actor in names[kind]), None)
    return (kind, actor) if kind else ("other", "other")


def _add_writing(rows: Any, own: list[Row], zone: ZoneInfo) -> None:
    spans: dict[tuple[Any, ...], list[datetime]] = defaultdict(list)
    team: dict[tuple[str, str], date] = {}
    last_agent = None
    for place, message in enumerate(own):
        if message["sender_type"] == "user":
            continue
        who, at = writer(message), message["created_at"]
        day = local_day(at, zone)
        row = rows[day, *who]
        row["messages"] += 1
        if place:
            row["active_s"] += min(at - own[place - 1]["created_at"], IDLE_CAP).total_seconds()
        team.setdefault(who, day)
        spans[day, *who].append(at)
        if who[0] == "agent":
            if last_agent not in (None, who):
                row["transfers_in"] += 1
                rows[day, *last_agent]["transfers_out"] += 1
            last_agent = who
    for who, day in team.items():
        rows[day, *who]["conversations"] += 1
        rows[day, *who]["share"] += Fraction(1, sum(kind == who[0] for kind, _ in team))
    for key, instants in spans.items():
        rows[key]["conversations_active"] += 1
        rows[key]["spans"].append((instants[0], instants[-1]))


def _agent_row(row: dict[str, Any]) -> dict[str, Any]:
    replies, spans, share, users = (row.pop(name) for name in ("replies", "spans", "share", "users"))
    known = [seconds for seconds in replies if seconds is not None]
    return {
        **row,
        "conversation_share": float(share),
        "resolution_users": len(users),
        "reply_sum_s": sum(known) if known else None,
        "reply_p50_s": quantile(known, 0.5),
        "reply_p90_s": quantile(known, 0.9),
        # the most that any one instant lies in; it is reached where one of them opens
        "concurrent_max": max(
            (sum(start <= at <= end for start, end in spans) for at, _ in spans), default=0
        ),
    }


def csat(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By day of the first counted message, channel, language and credited side."""
    zone = ZoneInfo(timezone)
    groups: dict[tuple[Any, ...], list[float | None]] = defaultdict(list)
    for conversation, own in by_conversation(conversations, messages).values():
        if own:
            kinds = {m["sender_type"] for m in own}
            side = "agent" if "agent" in kinds else "bot" if "bot" in kinds else "nobody"
            key = local_day(own[0]["created_at"], zone), *dimensions(conversation, own), side
            groups[key].append(conversation.get("csat_score"))
    found: Table = {}
    for key, scores in groups.items():
        given = [score for score in scores if score is not None]
        found[key] = {
            "conversations": len(scores),
            "answered": len(given),
            "positive": sum(score >= 4 for score in given),
            "negative": sum(score <= 2 for score in given),
            "score_sum": math.fsum(given) if given else None,
        }
    return found


def sessions(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By user and place among the user's sessions."""
    zone = ZoneInfo(timezone)
    found: Table = {}
    seen: dict[str, int] = defaultdict(int)
    for session in activity.sessions(conversations, messages):
        seen[session.user_id] += 1
        found[session.user_id, seen[session.user_id]] = {
            "report_date": local_day(session.started_at, zone),
            "duration_s": session.duration_s,
            "messages": session.messages,
        }
    return found


def _periods(day: date) -> dict[str, date]:
    return {"day": day, "week": week_of(day), "month": day.replace(day=1)}


def _days(conversations: list[Row], messages: list[Row], timezone: str) -> dict[str, set[date]]:
    """Local days on which each user wrote."""
    days: dict[str, set[date]] = defaultdict(set)
    for user_id, day in activity.user_days(conversations, messages, timezone):
        days[user_id].add(day)
    return days


def _every_day(days: Mapping[str, set[date]]) -> list[date]:
    written = set().union(*days.values())
    if not written:
        return []
    first = min(written)
    return [first + timedelta(days=n) for n in range((max(written) - first).days + 1)]


def active_users(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By grain and first day of the period."""
    conversations, messages = list(conversations), list(messages)
    zone = ZoneInfo(timezone)
    days = _days(conversations, messages, timezone)
    begun = [local_day(s.started_at, zone) for s in activity.sessions(conversations, messages)]
    found: Table = {}
    for grain in ("day", "week", "month"):
        for period in {_periods(day)[grain] for day in _every_day(days)}:
            users = {u for u, own in days.items() if any(_periods(day)[grain] == period for day in own)}
            new = {u for u in users if _periods(min(days[u]))[grain] == period}
            found[grain, period] = {
                "users": len(users),
                "new_users": len(new),
                "returning_users": len(users - new),
                "sessions": sum(_periods(day)[grain] == period for day in begun),
            }
    return found


def retention(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By grain, first day of the cohort's period and periods since."""
    days = _days(list(conversations), list(messages), timezone)
    found: Table = {}
    for grain in ("week", "month"):
        periods = sorted({_periods(day)[grain] for day in _every_day(days)})
        cohorts: dict[date, list[set[date]]] = defaultdict(list)
        for own in days.values():
            cohorts[_periods(min(own))[grain]].append({_periods(day)[grain] for day in own})
        for cohort, members in cohorts.items():
            for k, period in enumerate(periods[periods.index(cohort) :]):
                found[grain, cohort, k] = {
                    "users": len(members),
                    "retained": sum(period in own for own in members),
                    "is_settled": period != periods[-1],
                }
    return found
