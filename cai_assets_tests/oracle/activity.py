"""When users and staff were active: sessions, users by day, and counted messages by local day and hour."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cai_assets_tests.oracle.rows import Row, by_conversation, counted, local_day

SESSION_GAP = timedelta(minutes=30)


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
            by_day[local_day(message["created_at"], zone)].append(message)
        started = Counter(local_day(s.started_at, zone) for s in _split(user_id, written, gap))
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
            days_active=len({local_day(m["created_at"], zone) for m in written}),
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
        days = [local_day(m["created_at"], zone) for m in ordered]
        for day, message in zip(days, ordered, strict=True):
            volume[day][message["sender_type"]] += 1
        for day in set(days):
            volume[day]["active"] += 1
        if days:
            volume[days[0]]["started"] += 1
    return dict(volume)
