"""What an alert says, and when it is said again. Pure: finding troubles and posting belong elsewhere."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from pydantic import BaseModel, ConfigDict

# The same trouble is told again after six hours, the longest pause between tries of a dirty day: by then a
# person wants to know that it is still there, and not every five minutes before.
REMIND_SECONDS = 6 * 3600
FORGET_SECONDS = 7 * 86_400
# Of a state, as a table that is late, it says nothing how often it was looked at.
COUNTED = ("run", "backfill")
LONGEST_LINE = 300
MOST_LINES = 8


@dataclass(frozen=True)
class Trouble:
    """Something that a person has to know.

    Attributes:
        kind: what it is about ("run", "backfill", "late", "tick").
        headline: one line: what failed, and for which days.
        lines: why, one thing a line.
        link: path below the Dagster UI's address, or empty.
        same: what makes two of them the same trouble, without the days; default the headline.
    """

    kind: str
    headline: str
    lines: tuple[str, ...] = ()
    link: str = ""
    same: str = ""

    @property
    def key(self) -> str:
        """The same for the same trouble; numbers, which differ from try to try, do not count."""
        state = re.sub(r"\d+", "#", "|".join((self.kind, self.same or self.headline, *self.lines)))
        return blake2b(state.encode(), digest_size=8).hexdigest()


class Told(BaseModel):
    """When a trouble was last told, seconds since 1970, and how often it came since."""

    model_config = ConfigDict(frozen=True)

    at: float
    again: int = 0


def first_line(text: str) -> str:
    """The first line that says something, at most `LONGEST_LINE` letters."""
    line = next((" ".join(one.split()) for one in text.splitlines() if one.strip()), "")
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


def _harmless(text: str) -> str:
    """Without what chat programs take for a link or for calling people (`<!channel>`, `@all`)."""
    return text.replace("<", "‹").replace(">", "›").replace("@", "@\u200b")


def message(trouble: Trouble, told: Told | None, base_url: str | None) -> str:
    """The text to post.

    Args:
        trouble: what it tells.
        told: when it was told before, if it was.
        base_url: address of the Dagster UI; without it there is no link.
    """
    shown = [first_line(line) for line in trouble.lines[:MOST_LINES]]
    if len(trouble.lines) > MOST_LINES:
        shown.append(f"… and {len(trouble.lines) - MOST_LINES} more")
    if told is not None and told.again:
        shown.append(f"Still the same: {told.again + 1} times since it was last told.")
    text = _harmless("\n".join((first_line(trouble.headline), *shown)))
    return f"{text}\n{base_url}/{trouble.link}" if base_url and trouble.link else text


def due(
    troubles: Iterable[Trouble], told: dict[str, Told], *, now: float
) -> tuple[Sequence[tuple[Trouble, Told | None]], dict[str, Told]]:
    """Which troubles to tell now.

    Args:
        troubles: as they were found, in order.
        told: those told before, by key.
        now: seconds since 1970.

    Returns:
        Those to tell, each with what was told of it before; and the others counted into `told`.
    """
    counted = {key: one for key, one in told.items() if now - one.at < FORGET_SECONDS}
    chosen: dict[str, tuple[Trouble, Told | None]] = {}
    for trouble in troubles:
        before = counted.get(trouble.key)
        if trouble.key in chosen:
            continue
        if before is None or now - before.at >= REMIND_SECONDS:
            chosen[trouble.key] = (trouble, before)
        elif trouble.kind in COUNTED:
            counted[trouble.key] = Told(at=before.at, again=before.again + 1)
    return list(chosen.values()), counted
