"""What waits to be refreshed, as MongoDB knows it, for `cai status` and `cai sweep`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.table import Table

from cai_assets.domain.changes import DirtyDay
from cai_assets.failures import CaiError
from cai_assets.resources.dirty_days import DirtyDays
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings

SHOWN_DAYS = 20


@dataclass(frozen=True)
class Waiting:
    """What is not yet in the documents.

    Attributes:
        days: those that wait to be refreshed.
        without_day: by table, rows of the source that belong to no day: conversations without a start,
            messages without a conversation.
        last_sweep: when all of the source was last compared, UTC; None if it never was.
        unknown: why nothing of this is known; None where it is.
    """

    days: list[DirtyDay] = field(default_factory=list)
    without_day: dict[str, int] = field(default_factory=dict)
    last_sweep: datetime | None = None
    unknown: str | None = None


def waiting(settings: Settings) -> Waiting:
    """Ask MongoDB; a database that does not answer is told, not raised."""
    if settings.mongodb_uri is None:
        return Waiting(
            unknown="the embedded database runs only with `cai up`, and MONGODB_URI names no other"
        )
    try:
        with MongoStore.from_settings(settings) as store:
            marks, rows = DirtyDays(store), store.collection("without_day")
            counts = {name: rows.count_documents({"table": name}) for name in ("conversations", "messages")}
            return Waiting(marks.all(), counts, marks.last_sweep())
    except CaiError as error:
        return Waiting(unknown=str(error))


def days_table(days: Iterable[DirtyDay]) -> Table:
    """Dirty days as a table: what changed, since when, and how often a run was asked for."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("day", "changed rows", "since", "asked for"):
        grid.add_column(heading, no_wrap=True)
    for one in days:
        rows = ", ".join(f"{count} {reason}" for reason, count in sorted(one.reasons.items()))
        asked = (
            f"{_counted(one.attempts, 'time')}, last {_time(one.requested_at)}" if one.attempts else "not yet"
        )
        grid.add_row(one.day, rows, _time(one.since), asked)
    return grid


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def waiting_words(days: int) -> str:
    """How many days wait, in words."""
    return f"{_counted(days, 'day')} {'waits' if days == 1 else 'wait'} to be refreshed"


def _time(instant: datetime | None) -> str:
    return "never" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def swept_words(last_sweep: datetime | None) -> str:
    """When the source was last swept, in words."""
    return f"last sweep {_time(last_sweep)}" if last_sweep else "never swept (`cai sweep` does it)"
