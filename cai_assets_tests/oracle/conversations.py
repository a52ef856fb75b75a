"""What each conversation tells by itself: its facts, its resolution, and one wait for each user turn."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from cai_assets_tests.oracle.rows import SIDES, Row, by_conversation, counted, seconds

IDLE_CAP = timedelta(seconds=300)
REOPEN_WINDOW = timedelta(days=7)
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
    gaps = [min(b - a, IDLE_CAP) for a, b in pairwise(instants)]
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
    found: list[Wait] = []
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
