"""What the tables of terms must hold, from the texts: character by character, without regular expressions.

Keys are those of `cai_assets.schemas.content`; values are dicts of the columns beside key and month. Hand in
live conversations.
"""

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

from cai_assets_tests.oracle.marts import Table, message_language
from cai_assets_tests.oracle.people import week_of
from cai_assets_tests.oracle.rows import Row, by_conversation, local_day

PAIRED = ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC ITERATION", "HIRAGANA", "KATAKANA")
PAIRED += ("HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
JOINERS = "\u200c\u200d"
MASKS = ("[email]", "[phone]", "[card]", "[iban]", "[token]", "[number]")


def terms(text: str) -> list[str]:
    """The terms of a text, in any order, repeated ones repeatedly."""
    found = []
    for chunk in _readable(text.lower()).split():
        for kind, run in _runs(unicodedata.normalize("NFC", chunk).replace("’", "'")):
            if any(unicodedata.category(c)[0] == "N" or c == "_" for c in run):
                continue
            if kind == "paired" and len(run) > 1:
                found += [run[n : n + 2] for n in range(len(run) - 1)]
            elif len(run) <= 40:
                found.append(run)
    return found


def _readable(text: str) -> str:
    """Without links, addresses and masks."""
    for mask in MASKS:
        text = text.replace(mask, " ")
    kept = []
    for chunk in text.split():
        if "@" in chunk[1:-1]:
            continue
        for beginning in ("http://", "https://", "www."):
            chunk = chunk.split(beginning)[0] if beginning in chunk else chunk
        kept.append(_without_hashes(chunk))
    return " ".join(kept)


def _without_hashes(chunk: str) -> str:
    parts = chunk.split("#")
    out, place = parts[0], 1
    while place < len(parts):
        name = parts[place]
        if (
            place + 1 < len(parts)
            and name
            and all(c in "abcdefghijklmnopqrstuvwxyz0123456789_" for c in name)
        ):
            out += " " + parts[place + 1]
            place += 2
        else:
            out += " " + name
            place += 1
    return out


def _kind(character: str) -> str | None:
    if character in JOINERS:
        return "word"
    if unicodedata.category(character)[0] in "LMN" or character == "_":
        paired = unicodedata.name(character, "").startswith(PAIRED) and character not in "・゠"
        return "paired" if paired or character == "ー" else "word"
    return None


def _runs(chunk: str) -> Iterator[tuple[str, str]]:
    """Runs of characters of one kind; an apostrophe between two characters of words belongs to the word."""
    run, kind = "", ""
    for place, character in enumerate(chunk):
        own = _kind(character)
        if (
            character == "'"
            and kind == "word"
            and place + 1 < len(chunk)
            and _kind(chunk[place + 1]) == "word"
        ):
            own = "word"
        if own != kind and run:
            yield kind, run
            run = ""
        kind = own or ""
        run += character if own else ""
    if run:
        yield kind, run


def daily_terms(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By local day, channel, language of the message and term."""
    zone = ZoneInfo(timezone)
    found: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    for conversation, ordered in by_conversation(conversations, messages).values():
        for message in ordered:
            if message["sender_type"] != "user":
                continue
            key = (
                local_day(message["created_at"], zone),
                conversation.get("channel") or "unknown",
                message_language(message, conversation),
            )
            for term, n in Counter(terms(message.get("text") or "")).items():
                found[*key, term][0] += 1
                found[*key, term][1] += n
    return {key: {"messages": m, "occurrences": n} for key, (m, n) in found.items()}


def weekly_terms(conversations: Iterable[Row], messages: Iterable[Row], timezone: str) -> Table:
    """By Monday, channel, language and place."""
    weeks: dict[tuple[str, str], dict[Any, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for (day, channel, language, term), row in daily_terms(conversations, messages, timezone).items():
        weeks[channel, language][week_of(day)][term] += row["occurrences"]
    found: Table = {}
    for pair, by_week in weeks.items():
        everything = sum(by_week.values(), Counter())
        for week, own in by_week.items():
            for place, (term, row) in enumerate(_apart(own, everything)[:50], 1):
                found[week, *pair, place] = {"term": term, **row}
    return found


def _apart(own: Counter[str], everything: Counter[str]) -> list[tuple[str, dict[str, Any]]]:
    n_own, n_all = own.total(), everything.total()
    n_other = n_all - n_own
    if not n_other:
        return []
    scored = []
    for term, n in everything.items():
        if n < 20 or n == n_all:
            continue
        here, there, weight = own[term], n - own[term], 500 * n / n_all
        odds = (here + weight) / (n_own + 500 - here - weight)
        other_odds = (there + weight) / (n_other + 500 - there - weight)
        error = math.sqrt(1 / (here + weight) + 1 / (there + weight))
        row = {"n_window": here, "n_ref": there, "window_total": n_own, "ref_total": n_other}
        scored.append((term, {**row, "z": (math.log(odds) - math.log(other_odds)) / error}))
    return sorted(scored, key=lambda one: (-abs(one[1]["z"]), one[0]))
