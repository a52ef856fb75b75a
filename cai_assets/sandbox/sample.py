"""Sample conversations in seven languages, with their true translations; the same seed gives the same ones.

Here is decided how many conversations a day has, when they start, who takes part and which course they take;
what is then said, and when, is in `dialogue`, the sentences in `phrases.json`. Nothing here knows how the
sample is served or stored.

What the sample holds, so that each case of the metrics occurs: a rhythm of hours and weekdays; bots that
answer alone, or first and then hand over; conversations that an agent begins, that nobody answers, that the
user abandons, that hold system messages only; reopenings within a week and after it; messages days after the
end; conversations that rest overnight; edits, private notes, transfers between agents, surveys, test traffic;
users who return, some within minutes; equal timestamps that only `seq` tells apart; agents who answer in
English whatever the user writes; undeclared languages; conversations without a log of statuses; and days
without any conversation.
"""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cai_assets.failures import PermanentError
from cai_assets.sandbox.dialogue import Dialogue
from cai_assets.sandbox.dice import Dice, scramble
from cai_assets.sandbox.phrases import PhraseBook, load_phrases
from cai_assets.sandbox.sample_tables import Rows, SampleData, join
from cai_assets.sandbox.transcript import Aftermath, Course, Person, Plan

__all__ = ["SampleData", "generate", "generate_days", "is_silent"]

HOUR = 3600

# Conversations by local hour of the day, 0 to 23, and by weekday from Monday; weekdays average 1.
_HOURS = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 19, 16, 17, 18, 17, 15, 13, 11, 10, 8, 6, 4, 2)
_WEEKDAYS = (1.25, 1.25, 1.2, 1.15, 1.1, 0.6, 0.45)
_OFFICE_HOURS = range(7, 21)

_COURSES: tuple[tuple[Course, float], ...] = (
    ("contained", 0.26),
    ("handover", 0.30),
    ("direct", 0.14),
    ("proactive", 0.05),
    ("agent_open", 0.06),
    ("bot_open", 0.04),
    ("abandoned", 0.07),
    ("unanswered", 0.05),
    ("empty", 0.03),
)
_AFTERMATHS: tuple[tuple[Aftermath, float], ...] = (
    ("none", 0.80),
    ("reopened", 0.10),
    ("reopened_later", 0.04),
    ("late_message", 0.06),
)
_TRAFFIC = (("live", 0.98), ("test", 0.02))
_OVERNIGHT = ((False, 0.94), (True, 0.06))
_EDITED = ((False, 0.92), (True, 0.08))
_RETURNING = 0.12  # conversations begun by a user whose last one ended within the half hour before

_CHANNELS = (("web_chat", 0.5), ("whatsapp", 0.25), ("app", 0.15), ("email", 0.1))
_LANGUAGES = (("en", 0.3), ("de", 0.22), ("fr", 0.12), ("es", 0.12), ("pt", 0.06), ("ja", 0.09), ("ar", 0.09))
_LANGUAGE_BOUNDS = tuple(accumulate(share for _, share in _LANGUAGES[:-1]))
_MASK = 2**64 - 1
_GOLDEN_RATIO = 0x9E3779B97F4A7C15  # its fraction, of 2**64
_USERS_PER_DAILY_CONVERSATION = 6
_CONVERSATIONS_PER_AGENT = 6  # a day
_TESTERS = 3

_NAMES = (
    *("Aiko", "Alex", "Amina", "Anna", "Ben", "Carla", "Chen", "Clara", "Daniel", "Elena", "Emil", "Farid"),
    *("Fatima", "Hana", "Hugo", "Ines", "Jonas", "Julia", "Karim", "Kenji", "Lena", "Leo", "Lucia", "Luis"),
    *("Maria", "Marta", "Mia", "Miguel", "Nadia", "Noah", "Nora", "Omar", "Paula", "Pedro", "Rana", "Ren"),
    *("Sara", "Sofia", "Theo", "Tomas", "Yuki", "Yusuf", "Zoe"),
)


def generate(
    *,
    days: int = 16,
    start: date | str = date(2025, 3, 20),
    conversations_per_day: int = 24,
    seed: int = 7,
    timezone: str = "Europe/Berlin",
) -> SampleData:
    """Sample conversations that start on `days` local days.

    The default range holds a change to summer time (2025-03-30 has 23 hours) and a day without conversations.
    A day's conversations depend on the day and the other arguments, not on the range it is made in.

    Args:
        days: Number of local days.
        start: The first of them, a date or its ISO text.
        conversations_per_day: Mean over a week; weekends have fewer.
        seed: Another seed gives other conversations.
        timezone: IANA zone of the days and of the rhythm of hours; the instants are UTC.

    Raises:
        PermanentError: An argument makes no sense; the message says which.
    """
    return join(
        [
            data
            for _, data in generate_days(
                days=days,
                start=start,
                conversations_per_day=conversations_per_day,
                seed=seed,
                timezone=timezone,
            )
        ]
    )


def generate_days(
    *,
    days: int = 16,
    start: date | str = date(2025, 3, 20),
    conversations_per_day: int = 24,
    seed: int = 7,
    timezone: str = "Europe/Berlin",
) -> Iterator[tuple[date, SampleData]]:
    """The same day by day, for samples that are too large to be held at once; arguments as of `generate`."""
    first, zone = _checked(days, start, conversations_per_day, timezone)
    for number in range(days):
        day = first + timedelta(days=number)
        yield day, _Day(day, zone, conversations_per_day, seed).generate()


def is_silent(day: date) -> bool:
    """Whether no conversation starts on that day: one in every ten, as 2025-03-27."""
    return day.toordinal() % 10 == 7


def _checked(
    days: int, start: date | str, conversations_per_day: int, timezone: str
) -> tuple[date, ZoneInfo]:
    if days < 0 or conversations_per_day < 0:
        raise PermanentError(
            "The sample needs days and conversations_per_day of 0 or more, "
            f"not {days} and {conversations_per_day}."
        )
    try:
        first = date.fromisoformat(start) if isinstance(start, str) else start
    except ValueError as error:
        raise PermanentError(
            f"The sample's start {start!r} is no date; write one like 2025-03-20."
        ) from error
    try:
        return first, ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise PermanentError(
            f"The sample's timezone {timezone!r} is no IANA zone, as Europe/Berlin is one."
        ) from error


class _Day:
    """One local day: its bounds, its dice, and the conversations that start on it."""

    def __init__(self, day: date, zone: ZoneInfo, conversations_per_day: int, seed: int) -> None:
        self.day = day
        self.zone = zone
        self.seed = seed
        self.dice = Dice(f"{seed}/{zone.key}/{day.isoformat()}")
        self.begin = _midnight(day, zone)
        self.end = _midnight(day + timedelta(days=1), zone)
        self.conversations = round(conversations_per_day * _WEEKDAYS[day.weekday()])
        self.users = max(1, conversations_per_day * _USERS_PER_DAILY_CONVERSATION)
        self.agents = max(3, conversations_per_day // _CONVERSATIONS_PER_AGENT)
        self.book: PhraseBook = load_phrases()

    def generate(self) -> SampleData:
        rows = Rows()
        count = 0 if is_silent(self.day) else self.conversations
        dice = self.dice
        courses, aftermaths = dice.deck(count, _COURSES), dice.deck(count, _AFTERMATHS)
        traffic, channels = dice.deck(count, _TRAFFIC), dice.deck(count, _CHANNELS)
        overnight, edited = dice.deck(count, _OVERNIGHT), dice.deck(count, _EDITED)
        earlier: tuple[int, int] | None = None  # the number of the last user and the end of the conversation
        for number, started_at in enumerate(self._starts(count)):
            user = self._draw_user()
            if earlier is not None and dice.chance(_RETURNING):
                back_at = earlier[1] + dice.between(120, 1500)
                if back_at < self.end:
                    user, started_at = earlier[0], back_at
            live = traffic[number] == "live"
            hour = datetime.fromtimestamp(started_at, self.zone).hour
            plan = Plan(
                conversation_id=f"s{self.day:%Y%m%d}-{number + 1:06d}",
                user=self._person("u", user) if live else Person(f"u_test_{user % _TESTERS}", "Tester"),
                agents=self._draw_agents(),
                bot=Person(f"bot_{channels[number]}", "Bot"),
                channel=channels[number],
                language=_language(user),
                topic=dice.pick(self.book.topics),
                course=courses[number],
                aftermath=aftermaths[number],
                traffic_class=traffic[number],
                overnight=overnight[number],
                edited=edited[number],
                started_at=started_at,
                next_morning=self.end + 7 * HOUR,
                asleep=hour not in _OFFICE_HOURS,
                day=self.day,
            )
            ended_at = Dialogue(plan, dice, self.book, rows).write()
            earlier = (user, ended_at) if live else None
        return rows.data()

    def _starts(self, count: int) -> list[int]:
        """Starts in order of time. Each hour that passes weighs as its local hour, so 23 h days work."""
        hours = list(range(self.begin, self.end, HOUR))
        weights = list(accumulate(_HOURS[datetime.fromtimestamp(at, self.zone).hour] for at in hours))
        starts = []
        for _ in range(count):
            begin = hours[bisect_right(weights, self.dice.random() * weights[-1])]
            starts.append(begin + self.dice.below(min(HOUR, self.end - begin)))
        return sorted(starts)

    def _draw_user(self) -> int:
        """The number of a user; low numbers come often, as the square of an even draw does."""
        draw = self.dice.random()
        return int(self.users * draw * draw)

    def _draw_agents(self) -> tuple[Person, Person]:
        first = self.dice.below(self.agents)
        second = (first + 1 + self.dice.below(self.agents - 1)) % self.agents
        return self._person("a", first), self._person("a", second)

    def _person(self, kind: str, number: int) -> Person:
        name = _NAMES[scramble(number * 2 + (kind == "a") + (self.seed << 32)) % len(_NAMES)]
        return Person(f"{kind}_{number + 1:04d}", name)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(), zone).astimezone(UTC).timestamp())


def _language(user: int) -> str:
    """The language of a user, for good. Any few successive users already hold every language in its share.

    Multiples of the golden ratio spread evenly; by a plain hash the handful of users who come most often
    would decide how much of a small sample is in which language.
    """
    place = ((user + 1) * _GOLDEN_RATIO & _MASK) / _MASK
    return _LANGUAGES[bisect_right(_LANGUAGE_BOUNDS, place)][0]
