"""One conversation of the sample, from its first message to its last change: who speaks, when, what about.

How many conversations a day has, when they start and which course they take is decided in `sample`; what can
be said is in the phrase book.
"""

from typing import Literal

from cai_assets.sandbox.transcript import BURST, REPLY, SYSTEM, Transcript, json_text

DAY = 86_400
WEEK = 7 * DAY

# Quantiles of delays in seconds, from the quickest to the slowest.
_FIRST_REPLY = (15, 30, 60, 90, 140, 220, 400, 800, 2000, 7200)
_SURVEY = (30, 60, 120, 300, 900, 3600)
_EDIT = (15, 40, 90, 300, 1200, 7200)

_CSAT = {False: (1, 3, 4, 4, 5, 5, 5), True: (1, 1, 2, 3, 4)}  # by whether it had to be reopened


class Dialogue(Transcript):
    """One conversation, led along its course."""

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
        logged = not self._dice.chance(0.1)  # some sources keep no log of statuses, and so no reopening
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
            json_text(self._events) if logged else None,
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
        self._user_says("problem", BURST)
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
            self._turn("unattended", SYSTEM)
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
            self._user_says("problem", BURST)
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
            self._bot_says(phrase)
            return
        self._agent_says(phrase)
        if self._dice.chance(0.2):
            self._agent_says("agent_more", self._dice.quantile(BURST))

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
        self._say("agent", self._agent.id, "note", self._dice.quantile(REPLY), private=True)

    def _resolve(self) -> None:
        self._at += self._dice.below(60)
        self._turn("resolved", self._agent)

    def _close_after_silence(self) -> None:
        self._say("system", None, "system_timeout", 1800 + self._dice.below(5400))
        self._turn("abandoned", SYSTEM)

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
        return json_text([self._dice.pick(("vip", "follow-up", "callback", "first-contact"))])
