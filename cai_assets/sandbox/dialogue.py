"""One conversation of the sample, from its first message to its last change: who speaks, when, what about.

How many conversations a day has, when they start and which course they take is decided in `sample`; what can
be said is in the phrase book.
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

DAY = 86_400
WEEK = 7 * DAY
ENGLISH = "en"

# Quantiles of delays in seconds, from the quickest to the slowest.
_BOT = (0, 1, 1, 2, 2, 3, 4, 6, 9, 15)
_TYPING = (3, 8, 14, 22, 35, 50, 80, 130, 240, 900)
_REPLY = (8, 15, 25, 35, 50, 75, 110, 180, 420, 1500)
_FIRST_REPLY = (15, 30, 60, 90, 140, 220, 400, 800, 2000, 7200)
_BURST = (1, 2, 4, 6, 9, 14, 25)
_SURVEY = (30, 60, 120, 300, 900, 3600)
_EDIT = (15, 40, 90, 300, 1200, 7200)

_EMAIL_FACTOR = 12  # an e-mail is answered that many times later than a chat
_CSAT = {False: (1, 3, 4, 4, 5, 5, 5), True: (1, 1, 2, 3, 4)}  # by whether it had to be reopened
_SCRAMBLE_STEP = 7919  # coprime to 1000: (seq * step) % 1000 never repeats below 1000 messages


@dataclass(frozen=True)
class Person:
    """A user, an agent or a bot, with the name used in conversations."""

    id: str
    name: str


_SYSTEM = Person("system", "system")


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


class Dialogue:
    """Writes one conversation into the day's rows; `seq` tells apart what shares a second."""

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

    def write(self) -> int:
        """Write the conversation; returns its last instant in seconds since 1970."""
        courses = {
            "contained": self._contained,
            "handover": self._handover,
            "direct": self._direct,
            "proactive": self._proactive,
            "agent_open": self._agent_open,
            "bot_open": self._bot_open,
            "abandoned": self._abandoned,
            "unanswered": self._unanswered,
            "empty": self._empty,
        }
        courses[self._plan.course]()
        last = self._at
        logged = not self._dice.chance(
            0.1
        )  # some sources keep no log of statuses: then there is no reopening
        if self._status == "resolved":
            self._after(logged)
        csat_score, csat_at = self._survey()
        if self._plan.edited:
            self._edit()
        if not logged and self._dice.chance(0.3):
            self._ended_at = None  # then the last message is the only trace of the end
        plan = self._plan
        self._rows.conversations.add(
            plan.conversation_id,
            plan.user.id,
            self._agent.id if self._agent_spoke else None,
            plan.channel,
            plan.language if self._declared else None,
            self._status,
            plan.started_at,
            self._ended_at,
            max(self._updated_at, self._at),
            _json(self._events) if logged else None,
            self._tags(),
            csat_score,
            csat_at,
            plan.traffic_class,
            None if plan.course == "empty" else plan.topic.name,
        )
        return last

    # -- the courses a conversation can take

    def _contained(self) -> None:
        self._bot_part()
        self._bot_says("bot_check")
        self._user_says("user_yes")
        self._bot_says("bot_bye")
        self._turn("resolved", self._plan.bot)

    def _handover(self) -> None:
        self._bot_part()
        self._hand_over()
        self._agent_part()
        self._resolve()

    def _direct(self) -> None:
        self._opening()
        self._agent_part()
        self._resolve()

    def _proactive(self) -> None:
        self._agent_says("agent_proactive", 0)
        self._user_says("user_proactive")
        self._user_says("problem", _BURST)
        self._answer("agent")
        if self._dice.chance(0.5):
            self._follow_up()
        self._user_says("user_thanks")
        self._resolve()

    def _agent_open(self) -> None:
        if self._dice.chance(0.6):
            self._bot_part()
            self._hand_over()
        else:
            self._opening()
        self._agent_says("agent_greeting", self._first_reply())
        self._agent_says("agent_check")
        if self._dice.chance(0.5):
            self._user_says("user_nudge")
        if self._dice.chance(0.3):
            self._turn("pending", self._agent)

    def _bot_open(self) -> None:
        self._status = "pending"
        self._opening()
        self._bot_says("ask")
        if self._dice.chance(0.5):
            self._user_says("detail")

    def _abandoned(self) -> None:
        self._opening()
        if self._dice.chance(0.6):
            self._status = "pending"
            self._bot_says("ask")
        else:
            self._agent_says("agent_greeting", self._first_reply())
            self._agent_says("ask")
        self._close_after_silence()

    def _unanswered(self) -> None:
        self._opening()
        if self._dice.chance(0.6):
            self._user_says("user_nudge", _FIRST_REPLY)
        if self._dice.chance(0.7):
            self._turn("unattended", _SYSTEM)
        if self._dice.chance(0.3):
            self._close_after_silence()

    def _empty(self) -> None:
        self._say("system", None, "system_start", 0)
        if self._dice.chance(0.7):
            self._close_after_silence()

    # -- the parts they are made of

    def _opening(self) -> None:
        if self._dice.chance(0.3):
            self._say("system", None, "system_start", 0)
        if self._dice.chance(0.3):
            self._user_says("user_greeting", (0, 0, 1, 3))
            self._user_says("problem", _BURST)
        else:
            self._user_says("problem", (0, 0, 1, 3))

    def _bot_part(self) -> None:
        self._status = "pending"  # the bot holds it until an agent opens it
        if self._dice.chance(0.12):
            self._bot_says("bot_greeting")
            self._user_says("problem")
        elif self._dice.chance(0.4):
            self._user_says("user_greeting", (0, 0, 1, 3))
            self._bot_says("bot_greeting")
            self._user_says("problem")
        else:
            self._opening()
        if self._dice.chance(0.1):
            self._bot_says("bot_confused")
            self._user_says("problem")
        if self._dice.chance(0.6):
            self._bot_says("ask")
            self._user_says("detail")
        self._answer("bot")

    def _hand_over(self) -> None:
        if self._dice.chance(0.7):
            self._bot_says("bot_check")
            self._user_says("user_no")
        self._bot_says("bot_handover")
        if self._dice.chance(0.5):
            self._say("system", None, "system_handover", 0)
        self._turn("open", self._plan.bot)

    def _agent_part(self) -> None:
        self._wait_with_nudge(self._first_reply())
        self._agent_says("agent_greeting", 0)
        if self._dice.chance(0.7):
            self._agent_says("agent_check")
        if self._dice.chance(0.12):
            self._note()
        if self._plan.overnight:
            self._at = max(self._at, self._plan.next_morning + self._dice.below(7200))
        if self._dice.chance(0.12):
            self._pass_on()
        if self._dice.chance(0.4):
            self._agent_says("ask")
            self._user_says("detail")
        self._answer("agent")
        if self._dice.chance(0.4):
            self._follow_up()
        if self._dice.chance(0.75):
            self._user_says("user_thanks")
        if self._dice.chance(0.6):
            self._agent_says("agent_bye")

    def _answer(self, by: Literal["bot", "agent"]) -> None:
        topic = self._plan.topic
        phrase = topic.parts["answer"][self._dice.pick(topic.fits[self._problem])]
        if by == "bot":
            self._say("bot", self._plan.bot.id, phrase, self._dice.quantile(_BOT))
            return
        self._agent_says(phrase)
        if self._dice.chance(0.2):
            self._agent_says("agent_more", self._dice.quantile(_BURST))

    def _follow_up(self) -> None:
        self._user_says("followup")
        self._agent_says("followup_answer")

    def _pass_on(self) -> None:
        first, second = self._plan.agents
        self._slots["colleague"] = second.name
        self._agent_says("agent_transfer")
        self._take(second)
        self._say("system", None, "system_handover", 0)
        self._agent_says("agent_greeting", self._first_reply())
        self._slots["colleague"] = first.name

    def _note(self) -> None:
        self._say("agent", self._agent.id, "note", self._dice.quantile(_REPLY), private=True)

    def _resolve(self) -> None:
        self._at += self._dice.below(60)
        self._turn("resolved", self._agent)

    def _close_after_silence(self) -> None:
        self._say("system", None, "system_timeout", 1800 + self._dice.below(5400))
        self._turn("abandoned", _SYSTEM)

    def _first_reply(self) -> int:
        delay = self._dice.quantile(_FIRST_REPLY) * self._pace
        return delay * 4 if self._plan.asleep else delay

    def _wait_with_nudge(self, delay: int) -> None:
        if delay > 600 and self._dice.chance(0.4):
            half = delay // 2
            self._user_says("user_nudge", (half, half))
            delay -= half
        self._at += delay

    # -- what follows a resolution

    def _after(self, logged: bool) -> None:
        aftermath = self._plan.aftermath
        if aftermath == "late_message":
            self._at += DAY + self._dice.below(6 * DAY)
            self._say("user", self._plan.user.id, "user_late", 0)
        elif aftermath != "none" and logged:
            self._at += (
                600 + self._dice.below(6 * DAY)
                if aftermath == "reopened"
                else WEEK + 3600 + self._dice.below(3 * DAY)
            )
            self._reopened = True
            self._turn("open", self._plan.user)
            self._say("user", self._plan.user.id, "user_reopen", 0)
            self._agent_says("agent_reopen", self._first_reply())
            self._answer("agent")
            if self._dice.chance(0.8):
                self._user_says("user_thanks")
                self._resolve()
            else:
                self._ended_at = None

    def _survey(self) -> tuple[int | None, int | None]:
        if self._status != "resolved" or self._ended_at is None or not self._dice.chance(0.3):
            return None, None
        at = self._ended_at + self._dice.quantile(_SURVEY)
        self._updated_at = max(self._updated_at, at)
        return self._dice.pick(_CSAT[self._reopened]), at

    def _edit(self) -> None:
        messages = self._rows.messages.values
        row = self._first_row + self._dice.below(self._seq)
        if messages["sender_type"][row] != "system":
            at = messages["created_at"][row] + self._dice.quantile(_EDIT)
            messages["updated_at"][row] = at
            self._updated_at = max(self._updated_at, at)

    def _tags(self) -> str | None:
        if not self._dice.chance(0.25):
            return None
        return _json([self._dice.pick(("vip", "follow-up", "callback", "first-contact"))])

    # -- rows

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

    def _user_says(self, what: str, delays: Sequence[int] = _TYPING) -> None:
        pace = self._pace if delays is _TYPING else 1
        phrase: Phrase | str = what
        if what == "problem":
            phrase = self._plan.topic.parts["problem"][self._problem]
        self._say("user", self._plan.user.id, phrase, self._dice.quantile(delays) * pace)
        if what in ("problem", "detail") and self._dice.chance(0.2):
            self._say("user", self._plan.user.id, "user_more", self._dice.quantile(_BURST))

    def _bot_says(self, what: str) -> None:
        self._say("bot", self._plan.bot.id, what, self._dice.quantile(_BOT))

    def _agent_says(self, what: Phrase | str, delay: int | None = None) -> None:
        self._agent_spoke = True
        if delay is None:
            delay = self._dice.quantile(_REPLY) * self._pace
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
            "order": f"{'ABCDEFGHKM'[dice.below(10)]}-{dice.between(10_000, 99_999)}",
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


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
