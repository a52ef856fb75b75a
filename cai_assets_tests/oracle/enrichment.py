"""What language models decided and cost, row by row: the marts of categories and of cost, in plain Python.

Rows of the ledger and of decisions are those of `lake.llm_calls` and `lake.categories`.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cai_assets_tests.oracle.conversations import all_facts
from cai_assets_tests.oracle.rows import Row, by_conversation, local_day, quantile

Table = dict[tuple[Any, ...], dict[str, Any]]
DAY = timedelta(days=1)


def translation_cost(
    messages: Iterable[Row], translations: Mapping[str, set[str]], asked: Mapping[str, list[Row]]
) -> dict[str, Any]:
    """What the translations of some messages cost, and how long they took to come.

    Args:
        messages: of one row of the mart of languages.
        translations: the statuses of each message that needs one, by message_id.
        asked: rows of the ledger by message_id.
    """
    paid: list[Row] = []
    cached, lags = 0, []
    for message in messages:
        own = asked.get(message["message_id"], [])
        paid += own
        if "ok" not in translations.get(message["message_id"], ()):
            continue
        cached += any(call["status"] == "cached" for call in own)
        answers = [
            call["created_at"] + timedelta(milliseconds=call.get("latency_ms") or 0)
            for call in own
            if call["status"] != "failed"
        ]
        if answers and min(answers) >= message["created_at"]:
            lags.append((min(answers) - message["created_at"]).total_seconds())
    return {
        "cached": cached,
        **usage(paid),
        "lag_p50_s": quantile(lags, 0.5),
        "lag_p95_s": quantile(lags, 0.95),
    }


def usage(calls: Iterable[Row]) -> dict[str, Any]:
    """Tokens and price of rows of the ledger together; None where none of them tells."""
    rows = list(calls)
    known = {name: [c[name] for c in rows if c.get(name) is not None] for name in ("tokens", "price")}
    return {name: sum(values) if values else None for name, values in known.items()}


def spent(calls: Iterable[Row]) -> dict[str, Any]:
    """What a conversation cost: money of several currencies has no sum."""
    rows = list(calls)
    used, currencies = usage(rows), {c["currency"] for c in rows} - {None}
    return {
        "tokens": used["tokens"],
        "llm_cost": used["price"] if len(currencies) < 2 else None,
        "llm_currency": (*currencies, None)[0] if len(currencies) < 2 else "several",
    }


def categories(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    decisions: Iterable[Row],
    calls: Iterable[Row],
) -> Table:
    """By Monday of the week of the first counted message, taxonomy version and category.

    Args:
        conversations: live ones.
        messages: their messages.
        timezone: IANA zone.
        decisions: rows of `lake.categories`.
        calls: rows of the ledger.
    """
    zone = ZoneInfo(timezone)
    conversations, messages = list(conversations), list(messages)
    facts = all_facts(conversations, messages)
    grouped = by_conversation(conversations, messages)
    spent: dict[str, list[Row]] = defaultdict(list)
    for call in calls:
        spent[call["conversation_id"]].append(call)
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for decision in decisions:
        _, ordered = grouped.get(decision["conversation_id"], (None, []))
        if ordered:
            day = local_day(ordered[0]["created_at"], zone)
            monday = day - day.weekday() * DAY
            found[monday, decision["taxonomy_version"], decision["category"]].append(decision)
    table: Table = {}
    for version in {key[1] for key in found}:
        mondays = sorted(key[0] for key in found if key[1] == version)
        names = {key[2] for key in found if key[1] == version}
        weeks = (mondays[-1] - mondays[0]).days // 7 + 1
        before: dict[str, int] | None = None
        for monday in (mondays[0] + 7 * n * DAY for n in range(weeks)):
            here = {name: found.get((monday, version, name), []) for name in names}
            numbers = {name: len(decided) for name, decided in here.items()}
            for name, decided in here.items():
                table[monday, version, name] = {
                    "conversations": len(decided),
                    "of_week": sum(numbers.values()),
                    "wow_z": _z(numbers, before, name),
                    **_category_row(decided, grouped, facts, spent),
                }
            before = numbers
    return table


def _category_row(
    decided: list[Row],
    grouped: Mapping[str, tuple[Row, list[Row]]],
    facts: Mapping[str, Any],
    spent: Mapping[str, list[Row]],
) -> dict[str, Any]:
    own = [facts[one["conversation_id"]] for one in decided]
    scores = [grouped[one["conversation_id"]][0].get("csat_score") for one in decided]
    answered = [score for score in scores if score is not None]
    return {
        **{
            f"by_{source}": sum(one["source"] == source for one in decided)
            for source in ("llm", "rule", "human")
        },
        "resolved": sum(fact.resolves > 0 for fact in own),
        "bot_conversations": sum(bool(fact.bot_messages and fact.user_messages) for fact in own),
        "contained": sum(fact.outcome == "contained" for fact in own),
        "resolution_p50_s": quantile([fact.resolution_last_s for fact in own], 0.5),
        "csat_answered": len(answered),
        "csat_positive": sum(score >= 4 for score in answered),
        **usage(call for one in decided for call in spent[one["conversation_id"]]),
    }


def _z(now: Mapping[str, int], before: Mapping[str, int] | None, name: str) -> float | None:
    """Score of two proportions with their pooled variance."""
    if not before or not sum(now.values()) or not sum(before.values()):
        return None
    n, m = sum(now.values()), sum(before.values())
    pooled = (now[name] + before[name]) / (n + m)
    if pooled in (0, 1):
        return None
    return (now[name] / n - before[name] / m) / math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))


def costs(
    conversations: Iterable[Row], messages: Iterable[Row], timezone: str, calls: Iterable[Row]
) -> Table:
    """By local day of the call, purpose, model and currency. Hand in all conversations, also of tests."""
    zone = ZoneInfo(timezone)
    facts = all_facts(list(conversations), list(messages))
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for call in calls:
        model, currency = call.get("model") or "unknown", call.get("currency") or "unknown"
        groups[local_day(call["created_at"], zone), call["purpose"], model, currency].append(call)
    table: Table = {}
    for key, group in groups.items():
        asked = [call for call in group if call["status"] != "cached"]
        latencies = [call.get("latency_ms") for call in group if call["attempts"] > 0]
        ids = {call["conversation_id"] for call in group}
        table[key] = {
            "calls": len({call.get("workflow_run_id") or call["call_id"] for call in asked}),
            "requests": sum(call["attempts"] for call in group),
            **{status: sum(c["status"] == status for c in group) for status in ("ok", "failed", "cached")},
            "unknown_usage": sum(call.get("tokens") is None for call in asked),
            **usage(group),
            "latency_p50_ms": quantile(latencies, 0.5),
            "latency_p95_ms": quantile(latencies, 0.95),
            "conversations": len(ids),
            "resolved_conversations": sum(one in facts and facts[one].resolves > 0 for one in ids),
        }
    return table
