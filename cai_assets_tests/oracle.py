"""What the numbers must be: every metric computed a second time, in plain Python, row by row.

Here belong the definitions of the metrics written as loops over rows, with neither SQL nor data frames, so that
the SQL models can be held against something that shares no code and no idiom with them. What does not belong
here: reading from the platform, and tests (they are in `unit/test_oracle.py` and beside the models).

Rows are dicts. `conversations` have `conversation_id, user_id, status, started_at, ended_at, status_events,
traffic_class, channel, language, csat_score …`; `messages` have `message_id, conversation_id, seq, sender_type,
sender_id, created_at, updated_at, private, deleted_at`. Optional keys may be missing. Instants are `datetime`s
with a time zone; durations are float seconds; `status_events` is a list or JSON text of `{from, to, at, actor}`
(`from_status`/`to_status` and `is_private`, the lake's spellings, are understood too).

How to use it::

    conversations, messages = load(folder)                  # conversations.parquet, messages.parquet
    facts = all_facts(conversations, messages)              # {conversation_id: ConversationFacts}
    waits = all_waits(conversations, messages)              # [Wait], one per user turn, in order
    golden(conversations, messages)                         # the 25 summary values of a data set
    sessions(...), user_days(...), users(...), hourly_traffic(...), daily_volume(...), outcomes(...)

Rules that hold everywhere:

* A message given several times counts once, its version with the greatest `updated_at` (one without it is the
  oldest). Deleted messages, private notes and messages of the `system` do not count: they start and stop no
  clock. What is left is called *counted*.
* The order inside a conversation is `(created_at, seq, message_id)`.
* A *turn* is a run of counted messages of one side; sides are the user and the staff (bots and agents).
* A duration whose end lies before its start, or has no end, is None; never 0, never negative.
* Percentiles are interpolated linearly between the closest ranks (SQL's `percentile_cont`).
* A local day or hour is that of the instant in the IANA zone at that instant.
* Test and internal traffic is *not* left out here: hand in `live(conversations)` where only users count.
  Messages of conversations that were not handed in are ignored.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

Row = Mapping[str, Any]

IDLE_CAP = timedelta(seconds=300)
REOPEN_WINDOW = timedelta(days=7)
SESSION_GAP = timedelta(minutes=30)
SIDES = {"user": "user", "bot": "staff", "agent": "staff"}
OUTCOMES = ("empty", "unanswered", "contained", "agent_resolved", "abandoned", "agent_open", "bot_open")


@dataclass(frozen=True)
class Resolution:
    """When and how often a conversation was resolved.

    Attributes:
        first_at: Instant of the first resolve, None if there was none.
        last_at: Instant of the last resolve.
        resolves: Number of resolves.
        reopens: Number of transitions resolved → open at most 7 days after the resolve they undo.
        episodes: 1 and one more for each transition resolved → open that came later than that.
    """

    first_at: datetime | None
    last_at: datetime | None
    resolves: int
    reopens: int
    episodes: int


@dataclass(frozen=True)
class ConversationFacts:
    """What one conversation tells by itself. Counts are of counted messages; `_s` are seconds.

    Attributes:
        first_message_at: First counted message; None in an empty conversation, as is last_message_at.
        user_turns: Runs of user messages, which is the number of waits.
        agents: Distinct agents who wrote.
        first_user_at: First message of the user.
        first_any_at: First instant at or after first_user_at at which a bot or an agent wrote.
        first_human_at: The same for agents alone.
        handoff_at: Last instant at or before first_human_at at which a bot wrote (it may lie before
            first_user_at); first_user_at if no bot had; None without first_human_at.
        first_response_s: From first_user_at to first_any_at.
        first_human_response_s: From first_user_at to first_human_at.
        human_response_after_handoff_s: From handoff_at to first_human_at.
        resolution_first_s: From first_message_at to the first resolve (`Resolution`).
        resolution_last_s: From first_message_at to the last resolve.
        touches: Staff turns in which an agent wrote and that began no later than the last resolve;
            None where nothing was resolved or nothing was written.
        active_s: Sum of the gaps between successive counted messages, each capped at 300 s; None if empty.
        outcome: One of `OUTCOMES`; the first that holds, in this order: empty, no counted message;
            unanswered, the user wrote and no one else; contained, finally resolved, a bot and the user
            wrote, no agent did; agent_resolved, finally resolved; abandoned; agent_open, an agent wrote;
            bot_open, a bot wrote. (A conversation that is not empty always meets one of them.)
        bot_only: Bots wrote, agents did not.
        contained: bot_only and finally resolved; unlike the outcome, also where the user wrote nothing.
        unanswered: The user wrote, nobody answered.
        empty: No counted message.
    """

    conversation_id: str
    first_message_at: datetime | None
    last_message_at: datetime | None
    messages: int
    user_messages: int
    bot_messages: int
    agent_messages: int
    user_turns: int
    agents: int
    first_user_at: datetime | None
    first_any_at: datetime | None
    first_human_at: datetime | None
    handoff_at: datetime | None
    first_response_s: float | None
    first_human_response_s: float | None
    human_response_after_handoff_s: float | None
    resolved_first_at: datetime | None
    resolved_last_at: datetime | None
    resolution_first_s: float | None
    resolution_last_s: float | None
    resolves: int
    reopens: int
    episodes: int
    touches: int | None
    active_s: float | None
    outcome: str
    bot_only: bool
    contained: bool
    unanswered: bool
    empty: bool


@dataclass(frozen=True)
class Wait:
    """One user turn and the answer it got.

    Attributes:
        turn_no: 1, 2, … over the user turns of the conversation.
        waiting_since: First message of the user turn.
        replied_at: First message of the staff turn that follows, None while the wait is open.
        replier_id: Who wrote it.
        replier_type: `bot` or `agent`.
        reply_s: From waiting_since to replied_at.
        human_reply_s: From waiting_since to the first message of an agent within that same staff turn;
            None if only bots wrote in it.
    """

    conversation_id: str
    turn_no: int
    waiting_since: datetime
    replied_at: datetime | None
    replier_id: str | None
    replier_type: str | None
    reply_s: float | None
    human_reply_s: float | None


@dataclass(frozen=True)
class Session:
    """A stretch of one user's own messages, over all conversations, no gap longer than the session gap.

    It belongs to the local day of `started_at`. A gap of exactly the session gap does not split.
    """

    user_id: str
    started_at: datetime
    ended_at: datetime
    messages: int

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message; 0 for a single one."""
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class UserDay:
    """One user on one local day on which the user wrote.

    Attributes:
        conversations: Distinct conversations in which the user wrote that day.
        messages: Messages the user wrote that day.
        sessions: Sessions that started that day (0 if the only one began the day before).
    """

    user_id: str
    day: date
    conversations: int
    messages: int
    sessions: int


@dataclass(frozen=True)
class User:
    """One user who wrote at least once.

    Attributes:
        first_seen: First message of the user.
        last_seen: Last one.
        days_active: Local days on which the user wrote.
        conversations: Distinct conversations in which the user wrote.
        messages: Messages the user wrote.
        sessions: Number of sessions.
        avg_session_s: Mean of their durations.
    """

    user_id: str
    first_seen: datetime
    last_seen: datetime
    days_active: int
    conversations: int
    messages: int
    sessions: int
    avg_session_s: float


def load(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read `conversations.parquet` and `messages.parquet` of a folder as rows."""
    # ParquetFile, not read_table: the latter would take a folder named `a=b` for a partition.
    conversations, messages = (
        pq.ParquetFile(folder / f"{name}.parquet").read().to_pylist()
        for name in ("conversations", "messages")
    )
    return conversations, messages


def live(conversations: Iterable[Row]) -> list[Row]:
    """Conversations of real traffic; a missing `traffic_class` is `live`."""
    return [c for c in conversations if (c.get("traffic_class") or "live") == "live"]


def seconds(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from start to end; None if one is missing or the end lies before the start."""
    if start is None or end is None or end < start:
        return None
    return (end - start) / timedelta(seconds=1)


def quantile(values: Iterable[float | None], q: float) -> float | None:
    """The q-quantile of the values that are not None, linear between the closest ranks; None if there are none."""
    known = sorted(v for v in values if v is not None)
    if not known:
        return None
    position = q * (len(known) - 1)
    below = int(position)
    above = min(below + 1, len(known) - 1)
    return known[below] + (known[above] - known[below]) * (position - below)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def counted(messages: Iterable[Row]) -> list[Row]:
    """The messages that count, each once, in order. They may belong to several conversations."""
    latest: dict[str, Row] = {}
    for message in messages:
        known = latest.get(message["message_id"])
        if known is None or _version(message) >= _version(known):
            latest[message["message_id"]] = message
    return sorted(
        (
            m
            for m in latest.values()
            if m["sender_type"] in SIDES
            and m.get("deleted_at") is None
            and not (m.get("private") or m.get("is_private"))
        ),
        key=lambda m: (m["created_at"], _seq(m), m["message_id"]),
    )


def _version(message: Row) -> datetime:
    return message.get("updated_at") or datetime.min.replace(tzinfo=UTC)


def _seq(message: Row) -> float:
    # A message without a place comes after those that have one, as NULL does in SQL.
    return float("inf") if message.get("seq") is None else message["seq"]


def by_conversation(
    conversations: Iterable[Row], messages: Iterable[Row]
) -> dict[str, tuple[Row, list[Row]]]:
    """Each conversation with its counted messages in order."""
    grouped: dict[str, tuple[Row, list[Row]]] = {c["conversation_id"]: (c, []) for c in conversations}
    for message in counted(messages):
        if message["conversation_id"] in grouped:
            grouped[message["conversation_id"]][1].append(message)
    return grouped


def turns(ordered: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Counted messages of one conversation as runs of one side: `("user" | "staff", messages)`."""
    runs: list[tuple[str, list[Row]]] = []
    for message in ordered:
        side = SIDES[message["sender_type"]]
        if runs and runs[-1][0] == side:
            runs[-1][1].append(message)
        else:
            runs.append((side, [message]))
    return runs


def status_events(conversation: Row) -> list[dict[str, Any]]:
    """The conversation's changes of status, `{from, to, at, actor}`, by their instant; [] if it has none."""
    given = conversation.get("status_events")
    if isinstance(given, str):
        given = json.loads(given) if given.strip() else []
    events = []
    for event in given or ():
        at = event["at"]
        if isinstance(at, str):
            at = datetime.fromisoformat(at)
        events.append(
            {
                "from": event.get("from", event.get("from_status")),
                "to": event.get("to", event.get("to_status")),
                "at": at,
                "actor": event.get("actor"),
            }
        )
    return sorted(events, key=lambda e: e["at"])  # stable: equal instants stay in the order given


def resolution(conversation: Row, last_message_at: datetime | None) -> Resolution:
    """Resolves and reopenings of a conversation.

    With status events they alone tell: a resolve is an event to `resolved`; a reopening is an event from
    `resolved` to `open`, within 7 days (inclusive) of the last resolve before it. Without any, a final status
    `resolved` is one resolve, at `ended_at` or else at the last counted message.
    """
    events = status_events(conversation)
    if not events:
        if conversation["status"] != "resolved":
            return Resolution(None, None, 0, 0, 1)
        at = conversation.get("ended_at") or last_message_at
        return Resolution(at, at, 1, 0, 1)
    resolved: list[datetime] = []
    reopens, episodes = 0, 1
    for event in events:
        if event["to"] == "resolved":
            resolved.append(event["at"])
        elif event["from"] == "resolved" and event["to"] == "open" and resolved:
            if event["at"] - resolved[-1] <= REOPEN_WINDOW:
                reopens += 1
            else:
                episodes += 1
    if not resolved:
        return Resolution(None, None, 0, reopens, episodes)
    return Resolution(resolved[0], resolved[-1], len(resolved), reopens, episodes)


def conversation_facts(conversation: Row, messages: Iterable[Row]) -> ConversationFacts:
    """The facts of one conversation from its messages, counted or not."""
    ordered = [m for m in counted(messages) if m["conversation_id"] == conversation["conversation_id"]]
    return _facts(conversation, ordered)


def _facts(conversation: Row, ordered: list[Row]) -> ConversationFacts:
    written = Counter(m["sender_type"] for m in ordered)
    user, bot, agent = written["user"], written["bot"], written["agent"]
    first = ordered[0]["created_at"] if ordered else None
    last = ordered[-1]["created_at"] if ordered else None

    first_user = _first(m["created_at"] for m in ordered if m["sender_type"] == "user")
    first_any = first_human = handoff = None
    if first_user is not None:
        after = [m for m in ordered if m["created_at"] >= first_user]
        first_any = _first(m["created_at"] for m in after if m["sender_type"] != "user")
        first_human = _first(m["created_at"] for m in after if m["sender_type"] == "agent")
    if first_human is not None:
        bots = [
            m["created_at"] for m in ordered if m["sender_type"] == "bot" and m["created_at"] <= first_human
        ]
        handoff = bots[-1] if bots else first_user

    runs = turns(ordered)
    resolved = resolution(conversation, last)
    touches = None
    if ordered and resolved.last_at is not None:
        touches = sum(
            1
            for side, run in runs
            if side == "staff"
            and any(m["sender_type"] == "agent" for m in run)
            and run[0]["created_at"] <= resolved.last_at
        )
    instants = [m["created_at"] for m in ordered]
    gaps = [min(b - a, IDLE_CAP) for a, b in zip(instants, instants[1:], strict=False)]
    return ConversationFacts(
        conversation_id=conversation["conversation_id"],
        first_message_at=first,
        last_message_at=last,
        messages=len(ordered),
        user_messages=user,
        bot_messages=bot,
        agent_messages=agent,
        user_turns=sum(1 for side, _ in runs if side == "user"),
        agents=len({m["sender_id"] for m in ordered if m["sender_type"] == "agent"} - {None}),
        first_user_at=first_user,
        first_any_at=first_any,
        first_human_at=first_human,
        handoff_at=handoff,
        first_response_s=seconds(first_user, first_any),
        first_human_response_s=seconds(first_user, first_human),
        human_response_after_handoff_s=seconds(handoff, first_human),
        resolved_first_at=resolved.first_at,
        resolved_last_at=resolved.last_at,
        resolution_first_s=seconds(first, resolved.first_at),
        resolution_last_s=seconds(first, resolved.last_at),
        resolves=resolved.resolves,
        reopens=resolved.reopens,
        episodes=resolved.episodes,
        touches=touches,
        active_s=sum(gaps, timedelta()) / timedelta(seconds=1) if ordered else None,
        outcome=_outcome(conversation["status"], user, bot, agent),
        bot_only=bot > 0 and agent == 0,
        contained=bot > 0 and agent == 0 and conversation["status"] == "resolved",
        unanswered=user > 0 and bot + agent == 0,
        empty=not ordered,
    )


def _first(instants: Iterable[datetime]) -> datetime | None:
    return next(iter(instants), None)


def _outcome(status: str, user: int, bot: int, agent: int) -> str:
    if user + bot + agent == 0:
        return "empty"
    if bot + agent == 0:
        return "unanswered"
    if status == "resolved":
        return "contained" if bot and user and not agent else "agent_resolved"
    if status == "abandoned":
        return "abandoned"
    return "agent_open" if agent else "bot_open"


def conversation_waits(conversation_id: str, messages: Iterable[Row]) -> list[Wait]:
    """The waits of one conversation from its messages, counted or not."""
    return _waits(conversation_id, [m for m in counted(messages) if m["conversation_id"] == conversation_id])


def _waits(conversation_id: str, ordered: list[Row]) -> list[Wait]:
    runs = turns(ordered)
    found = []
    for i, (side, run) in enumerate(runs):
        if side != "user":
            continue
        since = run[0]["created_at"]
        answer = runs[i + 1][1] if i + 1 < len(runs) else []
        reply = answer[0] if answer else None
        human = _first(m["created_at"] for m in answer if m["sender_type"] == "agent")
        found.append(
            Wait(
                conversation_id=conversation_id,
                turn_no=len(found) + 1,
                waiting_since=since,
                replied_at=reply["created_at"] if reply else None,
                replier_id=reply.get("sender_id") if reply else None,
                replier_type=reply["sender_type"] if reply else None,
                reply_s=seconds(since, reply["created_at"]) if reply else None,
                human_reply_s=seconds(since, human),
            )
        )
    return found


def all_facts(conversations: Iterable[Row], messages: Iterable[Row]) -> dict[str, ConversationFacts]:
    """The facts of every conversation, by its id."""
    return {key: _facts(c, ordered) for key, (c, ordered) in by_conversation(conversations, messages).items()}


def all_waits(conversations: Iterable[Row], messages: Iterable[Row]) -> list[Wait]:
    """The waits of every conversation, conversations as given, turns in order."""
    grouped = by_conversation(conversations, messages)
    return [wait for key, (_, ordered) in grouped.items() for wait in _waits(key, ordered)]


def outcomes(conversations: Iterable[Row], messages: Iterable[Row]) -> Counter[str]:
    """How many conversations had each outcome; they sum to the conversations."""
    return Counter(facts.outcome for facts in all_facts(conversations, messages).values())


def _user_messages(conversations: Iterable[Row], messages: Iterable[Row]) -> dict[str, list[Row]]:
    """Counted messages written by the user, in order, by the conversation's user."""
    owner = {c["conversation_id"]: c["user_id"] for c in conversations}
    written: dict[str, list[Row]] = defaultdict(list)
    for message in counted(messages):
        if message["sender_type"] == "user" and message["conversation_id"] in owner:
            written[owner[message["conversation_id"]]].append(message)
    return written


def _split(user_id: str, written: Sequence[Row], gap: timedelta) -> list[Session]:
    stretches: list[list[datetime]] = []
    for message in written:
        at = message["created_at"]
        if stretches and at - stretches[-1][-1] <= gap:
            stretches[-1].append(at)
        else:
            stretches.append([at])
    return [Session(user_id, s[0], s[-1], len(s)) for s in stretches]


def sessions(
    conversations: Iterable[Row], messages: Iterable[Row], *, gap: timedelta = SESSION_GAP
) -> list[Session]:
    """Sessions of every user, users in order of their id, sessions in order of time."""
    written = _user_messages(conversations, messages)
    return [session for user_id in sorted(written) for session in _split(user_id, written[user_id], gap)]


def user_days(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    *,
    gap: timedelta = SESSION_GAP,
) -> dict[tuple[str, date], UserDay]:
    """What each user did on each local day, by `(user_id, day)`."""
    zone = ZoneInfo(timezone)
    figures: dict[tuple[str, date], UserDay] = {}
    for user_id, written in _user_messages(conversations, messages).items():
        by_day: dict[date, list[Row]] = defaultdict(list)
        for message in written:
            by_day[_day(message["created_at"], zone)].append(message)
        started = Counter(_day(s.started_at, zone) for s in _split(user_id, written, gap))
        for day, of_day in by_day.items():
            touched = len({m["conversation_id"] for m in of_day})
            figures[user_id, day] = UserDay(user_id, day, touched, len(of_day), started[day])
    return figures


def users(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    *,
    gap: timedelta = SESSION_GAP,
) -> dict[str, User]:
    """Figures of every user who wrote, by `user_id`."""
    zone = ZoneInfo(timezone)
    figures = {}
    for user_id, written in _user_messages(conversations, messages).items():
        own = _split(user_id, written, gap)
        figures[user_id] = User(
            user_id=user_id,
            first_seen=written[0]["created_at"],
            last_seen=written[-1]["created_at"],
            days_active=len({_day(m["created_at"], zone) for m in written}),
            conversations=len({m["conversation_id"] for m in written}),
            messages=len(written),
            sessions=len(own),
            avg_session_s=sum(s.duration_s for s in own) / len(own),
        )
    return figures


def hourly_traffic(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str,
    *,
    dimensions: Sequence[str] = (),
) -> Counter[tuple[Any, ...]]:
    """Counted messages by `(local day, local hour, sender_type, *dimensions)`.

    Args:
        conversations: Conversations whose messages count.
        messages: Their messages.
        timezone: IANA zone. An hour that a change of the clocks repeats is one key.
        dimensions: Names of columns of the conversation to split by, as `("channel", "language")`.
    """
    zone = ZoneInfo(timezone)
    traffic: Counter[tuple[Any, ...]] = Counter()
    for conversation, ordered in by_conversation(conversations, messages).values():
        split = tuple(conversation.get(name) for name in dimensions)
        for message in ordered:
            local = message["created_at"].astimezone(zone)
            traffic[(local.date(), local.hour, message["sender_type"], *split)] += 1
    return traffic


def daily_volume(
    conversations: Iterable[Row], messages: Iterable[Row], timezone: str
) -> dict[date, Counter[str]]:
    """Per local day: `started`, `active`, and messages by `user`, `bot`, `agent`.

    `started` are conversations whose first counted message falls on the day (empty ones nowhere); `active`
    are conversations with a counted message that day. Days without any are missing.
    """
    zone = ZoneInfo(timezone)
    volume: dict[date, Counter[str]] = defaultdict(Counter)
    for _, ordered in by_conversation(conversations, messages).values():
        days = [_day(m["created_at"], zone) for m in ordered]
        for day, message in zip(days, ordered, strict=True):
            volume[day][message["sender_type"]] += 1
        for day in set(days):
            volume[day]["active"] += 1
        if days:
            volume[days[0]]["started"] += 1
    return dict(volume)


def _day(at: datetime, zone: ZoneInfo) -> date:
    return at.astimezone(zone).date()


def golden(
    conversations: Iterable[Row], messages: Iterable[Row], *, timezone: str = "UTC"
) -> dict[str, int | float | None]:
    """The summary of a data set: counts as int, seconds as float.

    `conversation_days` sums the active conversations of the days, `active_days` counts the days that had any.
    `resolution_*` is from the first message to the last resolve. `waits_unanswered` are waits still open.
    """
    conversations, messages = list(conversations), list(messages)
    facts = list(all_facts(conversations, messages).values())
    waits = all_waits(conversations, messages)
    volume = daily_volume(conversations, messages, timezone)
    response = [f.first_response_s for f in facts]
    human = [f.first_human_response_s for f in facts]
    handoff = [f.human_response_after_handoff_s for f in facts]
    reply = [w.reply_s for w in waits]
    resolved = [f.resolution_last_s for f in facts]
    return {
        "conversations": len(facts),
        "empty_conversations": sum(f.empty for f in facts),
        "conversation_days": sum(day["active"] for day in volume.values()),
        "active_days": len(volume),
        "bot_only": sum(f.bot_only for f in facts),
        "contained": sum(f.contained for f in facts),
        "unanswered": sum(f.unanswered for f in facts),
        "frt_n": _known(response),
        "frt_p50": quantile(response, 0.5),
        "frt_p90": quantile(response, 0.9),
        "frt_avg": mean(response),
        "human_frt_n": _known(human),
        "human_frt_p50": quantile(human, 0.5),
        "human_frt_p90": quantile(human, 0.9),
        "handoff_p50": quantile(handoff, 0.5),
        "handoff_p90": quantile(handoff, 0.9),
        "reply_n": _known(reply),
        "reply_p50": quantile(reply, 0.5),
        "reply_p90": quantile(reply, 0.9),
        "reply_avg": mean(reply),
        "waits_unanswered": sum(w.replied_at is None for w in waits),
        "resolution_n": _known(resolved),
        "resolution_p50": quantile(resolved, 0.5),
        "resolution_p90": quantile(resolved, 0.9),
        "resolution_avg": mean(resolved),
    }


def _known(values: Iterable[float | None]) -> int:
    return sum(v is not None for v in values)
