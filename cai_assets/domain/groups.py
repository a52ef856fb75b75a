"""Which published figures are about too few: MIN_GROUP_SIZE. Pure; facts and marts keep every row.

Of each table and each query of the reports one number says how many a row is about. Where distinct users are
counted it is them, else conversations, waits or messages, whichever the row counts. A row about fewer than
MIN_GROUP_SIZE is withheld whole; one about none says nothing of anybody and stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ONE_PERSON: Final = ""
"""Rows that are about one person or conversation each: all withheld where groups of more are asked for."""
NOBODY: Final = None
"""Rows that are not about persons: never withheld."""

GROUP_OF_MART: Final[Mapping[str, str | None]] = {
    "volume": "conversations_active",
    "response": "n",
    "response_histogram": "n",
    "resolution": "started",
    "containment": "conversations",
    "language": "users",
    "category": "conversations",
    "cost": NOBODY,
    "user": ONE_PERSON,
    "session": ONE_PERSON,
    "agent": "conversations",
    "csat": "conversations",
    "active_users": "users",
    "retention": "users",
    "local_hour": NOBODY,
    "heatmap": "conversations",
    "funnel": "started",
    "handling": "conversations",
    "terms": "n_window",
    "topic": "conversations",
    "topic_conversation": ONE_PERSON,
    "topic_week": "conversations",
}
"""By mart, the column that counts the group of a row."""

GROUP_OF_QUERY: Final[Mapping[str, str | None]] = {
    "headline": "distinct_users",
    "volume_by_day": "conversations_active",
    "response_clocks": "n",
    "targets": "n",
    "outcomes_by_day": "conversations",
    "resolution_by_channel": "started",
    "languages": "messages",
    "categories": "conversations",
    "hours": "user_messages",
    "top_users": ONE_PERSON,
    "conversations": ONE_PERSON,
    "transcripts": ONE_PERSON,
}
"""By query of `dbt_like_sql/reports`, the same."""

ADDING_UP: Final[Mapping[str, tuple[str, ...]]] = {
    "volume_by_day": (),
    "outcomes_by_day": ("report_date",),
    "resolution_by_channel": (),
    "languages": (),
    "categories": (),
}
"""Queries whose rows add up to a total on the same page, with the columns by which there is one total each.
Of these a group withheld alone could be had by subtraction."""

OF_CELLS: Final = frozenset(
    {
        *("cube_conversations", "cube_clocks", "cube_traffic", "cube_speech", "cube_agents", "cube_users"),
        *("cube_costs", "cube_members", "cube_dimensions", "durations", "followed", "listed"),
    }
)
"""Queries behind the dashboard and the exports. Their rows are published added up alone: small cells of a day
go to the day's rest (`engines.cube`), rows of a sheet by the column below, and single users or conversations
nowhere where groups of more are asked for."""

GROUP_OF_SHEET: Final[Mapping[str, str | None]] = {
    "volume": "users_writing",
    "clocks": "response_n",
    "responses": "response_n",
    "outcomes": "conversations",
    "outcomes_by_day": "conversations",
    "resolution": "conversations",
    "languages": "messages",
    "categories": "conversations",
    "agents": "agent_conversations",
    "users": "users_writing",
    "segments": "users_writing",
    "retention": "users_writing",
    "costs": NOBODY,
    "heatmap": "user_messages",
    "conversations": ONE_PERSON,
}
"""By sheet of `engines.exports`, the same."""

INSTEAD_IN_MART: Final[Mapping[str, tuple[str, ...]]] = {
    "agent": (
        *("conversations_active", "resolution_users", "resolution_events", "waits_answered"),
        *("csat_answered", "transfers_out"),
    ),
}
"""By mart, what counts the group where the column above is 0 and the row still tells something: on a day on
which an agent began no conversation, others may stand that this one resolved. The first above 0 counts."""

INSTEAD_IN_SHEET: Final[Mapping[str, tuple[str, ...]]] = {
    "agents": ("agent_messages", "resolution_events", "response_n")
}
"""By sheet, the same."""


@dataclass(frozen=True)
class Group:
    """How rows of one kind are withheld.

    Attributes:
        column: counts the group; `ONE_PERSON` or `NOBODY`.
        least: MIN_GROUP_SIZE; 1 withholds nothing.
        instead: columns that count it where `column` is 0, by precedence.
    """

    column: str | None
    least: int
    instead: tuple[str, ...] = ()

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether a row may be published."""
        if self.least <= 1 or self.column is NOBODY:
            return True
        if self.column == ONE_PERSON:
            return False
        size = self._size(row)
        return not size or size >= self.least

    def published(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows that may be published."""
        return [dict(row) for row in rows if self.keeps(row)]

    def published_beside_totals(
        self, rows: Sequence[Mapping[str, Any]], by: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The rows that may be published where their totals are published too.

        Beside rows about too few, the smallest others are withheld until those withheld are two at least and
        together about no fewer than `least`: a total less the published rows tells nothing of a small group.

        Args:
            rows: in the order in which they are shown, which stays.
            by: columns whose values share a total.
        """
        blocks: dict[tuple[Any, ...], list[int]] = {}
        for number, row in enumerate(rows):
            blocks.setdefault(tuple(row[name] for name in by), []).append(number)
        hidden: set[int] = set()
        for numbers in blocks.values():
            own = [number for number in numbers if not self.keeps(rows[number])]
            others = [number for number in numbers if self.keeps(rows[number]) and self._size(rows[number])]
            others.sort(key=lambda number: (self._size(rows[number]), number))
            while own and others and (len(own) < 2 or sum(self._size(rows[n]) for n in own) < self.least):
                own.append(others.pop(0))
            hidden |= set(own)
        return [dict(row) for number, row in enumerate(rows) if number not in hidden]

    def _size(self, row: Mapping[str, Any]) -> int:
        sizes = (row[name] for name in (self.column, *self.instead) if name)
        return next((int(size) for size in sizes if size), 0)


def group_of_mart(name: str, least: int) -> Group:
    """How rows of a mart are withheld.

    Raises:
        KeyError: the mart has no group yet: name one above.
    """
    return Group(GROUP_OF_MART[name], least, INSTEAD_IN_MART.get(name, ()))


def group_of_sheet(name: str, least: int) -> Group:
    """How rows of an export's sheet are withheld.

    Raises:
        KeyError: the sheet has no group yet: name one above.
    """
    return Group(GROUP_OF_SHEET[name], least, INSTEAD_IN_SHEET.get(name, ()))


def published(
    tables: Mapping[str, Sequence[Mapping[str, Any]]], least: int
) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Rows of report queries that may be published, and how many were withheld.

    Args:
        tables: rows by query. `headline` keeps its row, as a page needs one: see `is_withheld`.
        least: MIN_GROUP_SIZE.
    """
    kept = {
        name: [dict(row) for row in rows]
        if name == "headline"
        else Group(GROUP_OF_QUERY[name], least).published_beside_totals(rows, ADDING_UP[name])
        if name in ADDING_UP
        else Group(GROUP_OF_QUERY[name], least).published(rows)
        for name, rows in tables.items()
    }
    return kept, sum(len(tables[name]) - len(rows) for name, rows in kept.items())


def is_withheld(headline: Mapping[str, Any], least: int) -> bool:
    """Whether a whole page is about too few users."""
    return not Group(GROUP_OF_QUERY["headline"], least).keeps(headline)
