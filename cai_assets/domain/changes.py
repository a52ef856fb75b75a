"""What has changed at the source, as days that must be refreshed, and when to ask for it. Pure.

A day is dirty while its documents are not what a rebuild would make of the source. That is told by
comparing rows with what became of them, never by times alone: NocoDB keeps whole seconds, so two edits of one
second look the same, and rows are looked at again on purpose (an overlap), so most that are seen have not
changed.

How rows are read and compared belongs to `resources.changes`, how marks are kept to `resources.dirty_days`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Literal, TypeAlias

from cai_assets.domain.days import contiguous_ranges, days_between

Reason: TypeAlias = Literal["new", "edited", "moved", "deleted", "superseded"]
"""Why a day is dirty: a row that no document knows; one whose content differs; one that belongs to another
day now (both days); one gone from the source; a document that a newer row of another day took over or gave
back."""

FIRST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(hours=6)
TOGETHER = 2
"""Attempts of a day in one run with its neighbours."""


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A row as the source has it now.

    Attributes:
        id: the source's own row number.
        days: days under which it is read: of a conversation its start day, of a message those of its
            conversation. Empty for a row that belongs to no day.
        updated_us: when the source last wrote it, microseconds since 1970 UTC; None where it does not say.
        content_hash: of its business fields; None where they do not validate, or were not read.
        row: JSON text, verbatim; empty where it was not read.
    """

    id: int
    days: frozenset[str]
    updated_us: int | None
    content_hash: str | None = None
    row: str = ""

    @property
    def version(self) -> str:
        """Tells this state of the row from its others."""
        state = f"{self.id}|{sorted(self.days)}|{self.updated_us}|{self.content_hash}|{self.row}"
        return blake2b(state.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class KnownRow:
    """What became of a row when its day was last refreshed: a live or superseded version, or quarantine.

    Attributes:
        id: the source's own row number.
        partition: the day.
        updated_us: as `SeenRow`; None in quarantine where the source does not say.
        content_hash: None in quarantine.
        row: in quarantine the verbatim text, cut where `cut`.
        cut: whether `row` is only its start.
    """

    id: int
    partition: str
    updated_us: int | None
    content_hash: str | None = None
    row: str = ""
    cut: bool = False


def differences(seen: SeenRow, known: Collection[KnownRow]) -> dict[str, Reason]:
    """The days that one row makes dirty.

    Args:
        seen: the row as it is now.
        known: what became of it, in any number of days.
    """
    places = {one.partition for one in known}
    found: dict[str, Reason] = {}
    for day in seen.days ^ places:
        found[day] = "moved" if places else "new"
    for day in seen.days & places:
        if not any(_same(seen, one) for one in known if one.partition == day):
            found[day] = "edited"
    return found


def _same(seen: SeenRow, known: KnownRow) -> bool:
    if known.updated_us != seen.updated_us:
        return False
    if known.content_hash is None:
        return seen.row.startswith(known.row) if known.cut else seen.row == known.row
    return known.content_hash == seen.content_hash


@dataclass
class Found:
    """Dirty days as they are found.

    Attributes:
        reasons: by day and reason, how many rows.
        versions: by day, the states of rows that made it dirty: one seen again is told from a new one.
    """

    reasons: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    versions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, days: Mapping[str, Reason], version: str) -> None:
        """Note what one row makes dirty."""
        for day, reason in days.items():
            self.reasons[day][reason] += 1
            self.versions[day].add(version)

    def without(self, days: Iterable[str]) -> "Found":
        """The same without some days."""
        left_out = set(days)
        return Found(
            {day: reasons for day, reasons in self.reasons.items() if day not in left_out},
            {day: versions for day, versions in self.versions.items() if day not in left_out},
        )


@dataclass(frozen=True)
class DirtyDay:
    """A day that waits to be refreshed.

    Attributes:
        day: local day.
        mark: token of the newest change; another change gives another.
        since: when it was first found dirty.
        marked_at: when the newest change was found.
        reasons: how many rows, by reason.
        requested_at: when a run was last asked for.
        attempts: how many were asked for since the newest change, and did not end it.
    """

    day: str
    mark: str
    since: datetime
    marked_at: datetime
    reasons: Mapping[str, int]
    requested_at: datetime | None = None
    attempts: int = 0

    def may_be_requested(self, now: datetime) -> bool:
        """Whether it is time: a new change at once, another try after 5 min, 10 min, … at most 6 h."""
        if self.attempts == 0 or self.requested_at is None:
            return True
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.attempts - 1, 10))
        due: datetime = self.requested_at + pause
        return now >= due


@dataclass(frozen=True)
class RefreshRequest:
    """One run to ask for.

    Attributes:
        days: contiguous local days.
        marks: by day, the mark that it answers.
        attempt: 1 for the first try of these marks.
    """

    days: tuple[str, ...]
    marks: Mapping[str, str]
    attempt: int

    @property
    def key(self) -> str:
        """A run key: the same for the same changes and attempt, another for any other.

        Dagster starts no second run under a key, whatever became of the first.
        """
        state = "|".join(f"{day}:{self.marks[day]}" for day in self.days)
        digest = blake2b(f"{state}|{self.attempt}".encode(), digest_size=6).hexdigest()
        return f"{self.days[0]}..{self.days[-1]}:{digest}"


def requests_for(
    dirty: Iterable[DirtyDay],
    *,
    now: datetime,
    busy: Collection[str],
    longest: int,
) -> list[RefreshRequest]:
    """The runs to ask for: one for each contiguous range of days whose time has come.

    Days that two runs did not clear are asked for one by one, so that the one that fails holds up no other.

    Args:
        dirty: days that wait and are partitions.
        now: the time.
        busy: days that a run under way covers; whether it ends their being dirty shows when it is over.
        longest: most days of one run.
    """
    ready = {one.day: one for one in dirty if one.day not in busy and one.may_be_requested(now)}
    stubborn = {day for day, one in ready.items() if one.attempts >= TOGETHER}
    ranges = [*contiguous_ranges(ready.keys() - stubborn), *((day, day) for day in sorted(stubborn))]
    requests = []
    for first, last in ranges:
        days = days_between(first, last)
        for start in range(0, len(days), longest):
            part = tuple(days[start : start + longest])
            marks = {day: ready[day].mark for day in part}
            requests.append(RefreshRequest(part, marks, max(ready[day].attempts for day in part) + 1))
    return requests
