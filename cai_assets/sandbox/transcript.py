"""What a conversation of the sample is made of: who takes part, and the rows that what they say becomes.

Time, places in the conversation, languages, slots and translations are kept here. What is said when is
decided in `dialogue`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from cai_assets.sandbox.dice import Dice
from cai_assets.sandbox.phrases import Phrase, PhraseBook, Topic
from cai_assets.sandbox.sample_tables import Rows

Course = Literal[
    "contained",  # the bot answers, resolved without an agent
    "handover",  # the bot answers first, then an agent resolves
    "direct",  # an agent answers and resolves, no bot
    "proactive",  # an agent writes first
    "agent_open",  # with an agent, not resolved yet
    "bot_open",  # with the bot, not resolved yet
    "abandoned",  # the user stops answering
    "unanswered",  # nobody answers the user
    "empty",  # system messages only
]
Aftermath = Literal["none", "reopened", "reopened_later", "late_message"]

ENGLISH = "en"

# Quantiles of delays in seconds, from the quickest to the slowest.
BOT = (0, 1, 1, 2, 2, 3, 4, 6, 9, 15)
TYPING = (3, 8, 14, 22, 35, 50, 80, 130, 240, 900)
REPLY = (8, 15, 25, 35, 50, 75, 110, 180, 420, 1500)
BURST = (1, 2, 4, 6, 9, 14, 25)

_EMAIL_FACTOR = 12  # an e-mail is answered that many times later than a chat
_SCRAMBLE_STEP = 7919  # coprime to 1000: (seq * step) % 1000 never repeats below 1000 messages


@dataclass(frozen=True)
class Person:
    """A user, an agent or a bot, with the name used in conversations."""

    id: str
    name: str


SYSTEM = Person("system", "system")


@dataclass(frozen=True)
class Plan:
    """What is known of a conversation before its first message.

    Attributes:
        conversation_id: Its id.
        user: Who writes.
        agents: Two agents; the second takes over where the conversation is passed on.
        bot: The bot of the channel.
        channel: Where it takes place.
        language: What the user writes in.
        topic: What it is about.
        course: How it goes.
        aftermath: What follows a resolution.
        traffic_class: `live` or `test`.
        overnight: Whether it rests until the next morning.
        edited: Whether a message is edited afterwards.
        started_at: Start, in seconds since 1970.
        next_morning: An instant in the morning of the next local day.
        asleep: Whether it starts outside the agents' hours.
        day: The local day of the start.
    """

    conversation_id: str
    user: Person
    agents: tuple[Person, Person]
    bot: Person
    channel: str
    language: str
    topic: Topic
    course: Course
    aftermath: Aftermath
    traffic_class: str
    overnight: bool
    edited: bool
    started_at: int
    next_morning: int
    asleep: bool
    day: date


class Transcript:
    """Turns what is said into the day's rows. Time only moves on; `seq` tells apart what shares a second."""

    def __init__(self, plan: Plan, dice: Dice, book: PhraseBook, rows: Rows) -> None:
        self._plan, self._dice, self._book, self._rows = plan, dice, book, rows
        self._at = plan.started_at
        self._seq = 0
        self._agent = plan.agents[0]
        self._agent_spoke = False
        self._status = "open"
        self._events: list[dict[str, str]] = []
        self._ended_at: int | None = None
        self._updated_at = plan.started_at
        self._reopened = False
        self._first_row = len(rows.messages.values["seq"])
        self._pace = _EMAIL_FACTOR if plan.channel == "email" else 1
        self._declared = not dice.chance(0.05)
        self._staff_language = ENGLISH if dice.chance(0.08) else plan.language
        self._problem = dice.below(len(plan.topic.parts["problem"]))
        self._slots = self._fill_slots()

    def _turn(self, status: str, actor: Person) -> None:
        """Change the status, now."""
        if status == self._status:
            return
        self._events.append({"from": self._status, "to": status, "at": _iso(self._at), "actor": actor.id})
        self._status = status
        if status in ("resolved", "abandoned"):
            self._ended_at = self._at

    def _take(self, agent: Person) -> None:
        self._agent = agent
        self._slots["agent"] = agent.name

    def _user_says(self, what: str, delays: Sequence[int] = TYPING) -> None:
        pace = self._pace if delays is TYPING else 1
        phrase: Phrase | str = what
        if what == "problem":
            phrase = self._plan.topic.parts["problem"][self._problem]
        self._say("user", self._plan.user.id, phrase, self._dice.quantile(delays) * pace)
        if what in ("problem", "detail") and self._dice.chance(0.2):
            self._say("user", self._plan.user.id, "user_more", self._dice.quantile(BURST))

    def _bot_says(self, what: Phrase | str) -> None:
        self._say("bot", self._plan.bot.id, what, self._dice.quantile(BOT))

    def _agent_says(self, what: Phrase | str, delay: int | None = None) -> None:
        self._agent_spoke = True
        if delay is None:
            delay = self._dice.quantile(REPLY) * self._pace
        self._say("agent", self._agent.id, what, delay)

    def _say(
        self,
        sender_type: str,
        sender_id: str | None,
        what: Phrase | str,
        delay: int,
        *,
        private: bool = False,
    ) -> None:
        """Add a message `delay` seconds after what came before."""
        self._at += delay
        self._seq += 1
        plan = self._plan
        if isinstance(what, str):
            if what == "user_late":
                self._slots["recent"] = (plan.day + timedelta(days=1)).isoformat()
            what = self._dice.pick(plan.topic.parts.get(what) or self._book.common[what])
        if sender_type == "system" or private:
            language = ENGLISH  # what only the team reads
        else:
            language = plan.language if sender_type != "agent" else self._staff_language
        text = what.render(language, self._slots)
        message_id = f"{plan.conversation_id}-{self._seq * _SCRAMBLE_STEP % 1000:03d}"
        self._rows.messages.add(
            message_id,
            plan.conversation_id,
            self._seq,
            sender_type,
            sender_id,
            text,
            language if self._declared else None,
            self._at,
            None,
            private,
        )
        self._translate(message_id, what, language, text)

    def _translate(self, message_id: str, phrase: Phrase, language: str, text: str) -> None:
        add = self._rows.parallel.add
        if language != ENGLISH:
            add(message_id, language, ENGLISH, text, phrase.render(ENGLISH, self._slots), "human")
        elif text not in self._rows.translated:
            self._rows.translated.add(text)
            for other in self._book.languages:
                if other != ENGLISH:
                    add(message_id, ENGLISH, other, text, phrase.render(other, self._slots), "human")

    def _fill_slots(self) -> dict[str, str]:
        dice, day = self._dice, self._plan.day
        major, minor = dice.between(2, 5), dice.below(9)
        return {
            "agent": self._plan.agents[0].name,
            "colleague": self._plan.agents[1].name,
            "customer": self._plan.user.name,
            "order": f"{'ABCDFGHKMN'[dice.below(10)]}-{dice.between(10_000, 99_999)}",
            "invoice": f"INV-{day.year}-{dice.between(10_000, 99_999)}",
            "tracking": f"JD{dice.between(100_000, 999_999)}DE",
            "booking": f"B{dice.between(10_000, 99_999)}X",
            "ticket": f"T-{dice.between(10_000, 99_999)}",
            "error": f"E-{dice.between(100, 999)}",
            "amount": f"{dice.between(4, 249)}.{dice.pick(('00', '50', '90', '95', '99'))} EUR",
            "version": f"{major}.{minor}",
            "next_version": f"{major}.{minor + 1}",
            "date": (day + timedelta(days=dice.between(2, 20))).isoformat(),
            "since": (day - timedelta(days=dice.between(1, 12))).isoformat(),
            "recent": day.isoformat(),
        }


def json_text(value: Any) -> str:
    """JSON as the sample writes it: compact, in plain characters."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
