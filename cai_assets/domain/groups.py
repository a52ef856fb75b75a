"""Which published figures are about too few: MIN_GROUP_SIZE. Pure; facts and marts keep every row.

Of each table and each query of the reports one number says how many a row is about. Where distinct users are
counted it is them, else conversations, waits or messages, whichever the row counts. A row about fewer than
MIN_GROUP_SIZE is withheld whole; one about none says nothing of anybody and stays.

Where rows add up to totals that are published too, rows are withheld beside those about too few, so that a
total less the published rows tells nothing of a small group: `withheld_beside_totals`, for every table alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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
class Totals:
    """The totals that are published beside the rows of a table, of which each is the sum of some rows.

    Attributes:
        by: there is a total of all rows, one for each value of the first column, one for each pair of values
            of the first two, and so on: in the table's own page, or in another table with fewer columns.
        apart: columns whose values are never added to each other; each has totals of its own.
        whole: columns that tell one group, where it has several rows that all repeat its size; they are
            withheld all or none. None where each row is a group.
    """

    by: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    whole: tuple[str, ...] | None = None


_OF_CHANNELS: Final = Totals(("report_date", "channel"))

TOTALS_OF_MART: Final[Mapping[str, Totals]] = {
    "volume": _OF_CHANNELS,
    "response": Totals(("report_date", "channel"), apart=("clock", "hours")),
    "response_histogram": Totals(("report_date", "channel", "language"), apart=("clock", "hours")),
    "resolution": _OF_CHANNELS,
    "containment": _OF_CHANNELS,
    "language": Totals(("report_date",)),
    "category": Totals(("report_date",), apart=("taxonomy_version",)),
    "agent": Totals(("report_date", "agent_type")),
    "csat": Totals(("report_date", "channel", "language")),
    "active_users": Totals(("month",), apart=("grain",)),
    "retention": Totals(apart=("grain",), whole=("grain", "cohort_date")),
    "heatmap": Totals(("month", "local_isodow", "channel", "language")),
    "funnel": Totals(("report_date", "channel", "language")),
    "handling": _OF_CHANNELS,
    "topic": Totals(whole=("topic",)),
    "topic_week": Totals(("report_date",)),
}
"""By mart, the totals beside its rows. Those of `terms` do not add up: a message has many."""

TOTALS_OF_QUERY: Final[Mapping[str, Totals]] = {
    "volume_by_day": Totals(),
    "outcomes_by_day": Totals(("report_date",)),
    "resolution_by_channel": Totals(),
    "languages": Totals(),
    "categories": Totals(),
    "hours": Totals(),
}
"""By query of `dbt_like_sql/reports`, the same. Clocks do not add up: a reply may be a first response too."""

TOTALS_OF_SHEET: Final[Mapping[str, Totals]] = {
    "volume": Totals(),
    "responses": Totals(apart=("clock",)),
    "outcomes": Totals(),
    "outcomes_by_day": Totals(),
    "resolution": Totals(),
    "languages": Totals(),
    "categories": Totals(),
    "agents": Totals(),
    "users": Totals(),
    "segments": Totals(),
    "retention": Totals(apart=("months_later",)),
    "heatmap": Totals(("local_isodow",)),
}
"""By sheet of `engines.exports`, the same."""

_Numbers = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


def withheld_beside_totals(sizes: _Numbers, blocks: Sequence[_Numbers], least: int) -> _Flags:
    """Which rows are withheld, so that none of them can be computed from the others and the totals.

    From the widest total to the narrowest: of what it is the sum of, parts about too few are withheld, and
    the smallest other part with them where those withheld are one alone or together about too few. A part
    that is withheld is about rows in its turn, of which two at least are withheld, if there are two.

    Args:
        sizes: how many each row is about; those about none are never withheld.
        blocks: for each kind of total, the widest first, the number from 0 of the total that each row counts
            in. Rows of one total of a kind share that of the kind before.
        least: fewer than this many are too few.
    """
    withheld = np.zeros(len(sizes), np.bool_)
    if not len(sizes):
        return withheld
    rows = np.arange(len(sizes), dtype=np.int64)
    forced = np.zeros(0, np.bool_)
    for depth, parents_of_rows in enumerate(blocks):
        parts_of_rows = blocks[depth + 1] if depth + 1 < len(blocks) else rows
        parts = int(parts_of_rows.max()) + 1
        size = np.zeros(parts, np.int64)
        np.add.at(size, parts_of_rows, sizes)
        parent = np.zeros(parts, np.int64)
        parent[parts_of_rows] = parents_of_rows
        parents = int(parents_of_rows.max()) + 1
        withheld = (size > 0) & (size < least)
        if depth:  # a total that is withheld has a part that is
            empty = forced & (np.bincount(parent, weights=withheld, minlength=parents) == 0)
            _withhold_smallest(withheld, size, parent, empty)
        count = np.bincount(parent, weights=withheld, minlength=parents)
        together = np.bincount(parent, weights=withheld * size, minlength=parents)
        _withhold_smallest(withheld, size, parent, (count > 0) & ((count < 2) | (together < least)))
        forced = withheld
    return withheld


def _withhold_smallest(withheld: _Flags, size: _Numbers, parent: _Numbers, short: _Flags) -> None:
    """Withhold the smallest part, the first of equals, that is left of each total that is `short` of one."""
    left = np.flatnonzero(short[parent] & ~withheld & (size > 0))
    left = left[np.lexsort((left, size[left], parent[left]))]
    _, first = np.unique(parent[left], return_index=True)
    withheld[left[first]] = True


def _numbered(table: pa.Table, names: Sequence[str]) -> _Numbers:
    """The number of each row's values in these columns, from 0 without gaps, in the order of the values.

    Of parts of one size the first is withheld: counted in the order in which they come, a table of days and
    one of days and channels could withhold another day each, and one tell what the other withholds.
    """
    numbers = np.zeros(table.num_rows, np.int64)
    for name in names:
        values = pc.dictionary_encode(table[name].combine_chunks(), null_encoding="encode")
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        rank = np.argsort(pc.sort_indices(values.dictionary).to_numpy())
        places = rank[values.indices.to_numpy(zero_copy_only=False).astype(np.int64)]
        numbers = np.unique(numbers * (len(values.dictionary) + 1) + places, return_inverse=True)[1]
    return numbers


@dataclass(frozen=True)
class Group:
    """How rows of one kind are withheld.

    Attributes:
        column: counts the group; `ONE_PERSON` or `NOBODY`.
        least: MIN_GROUP_SIZE; 1 withholds nothing.
        totals: what is published beside the rows; None where they add up to nothing.
        instead: columns that count it where `column` is 0, by precedence.
    """

    column: str | None
    least: int
    totals: Totals | None = None
    instead: tuple[str, ...] = ()

    @property
    def keeps_all(self) -> bool:
        """Whether no row is withheld, whatever it is about."""
        return self.least <= 1 or self.column is NOBODY

    @property
    def columns(self) -> tuple[str, ...]:
        """What `kept` has to know of the rows."""
        if self.keeps_all or not self.column:
            return ()
        totals = self.totals or Totals()
        told = (self.column, *self.instead, *totals.apart, *totals.by, *(totals.whole or ()))
        return tuple(dict.fromkeys(told))

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether a row that stands alone may be published."""
        if self.keeps_all:
            return True
        if not self.column:
            return False
        size = self._size(row)
        return not size or size >= self.least

    def kept(self, table: pa.Table) -> _Flags:
        """Of each row, whether it may be published.

        Args:
            table: all rows that are published together, with `columns` at least.
        """
        if self.keeps_all or not self.column:
            return np.full(table.num_rows, self.keeps_all)
        sizes = np.zeros(table.num_rows, np.int64)
        for name in (self.column, *self.instead):
            counted = pc.fill_null(pc.cast(table[name], pa.int64()), 0).to_numpy()
            sizes = np.where(sizes == 0, counted, sizes)
        if self.totals is None:
            alone: _Flags = (sizes == 0) | (sizes >= self.least)
            return alone
        apart, by = self.totals.apart, self.totals.by
        blocks = [_numbered(table, (*apart, *by[:depth])) for depth in range(len(by) + 1)]
        if self.totals.whole is None:
            return np.logical_not(withheld_beside_totals(sizes, blocks, self.least))
        _, first, group = np.unique(
            _numbered(table, self.totals.whole), return_index=True, return_inverse=True
        )
        withheld = withheld_beside_totals(sizes[first], [block[first] for block in blocks], self.least)
        return np.logical_not(withheld[group])

    def published(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows that may be published, of all that are published together, in their order."""
        known = pa.table({name: pa.array([row[name] for row in rows]) for name in self.columns})
        kept = self.kept(known) if self.columns else np.full(len(rows), self.keeps_all)
        return [dict(row) for row, keep in zip(rows, kept, strict=True) if keep]

    def published_table(self, table: pa.Table) -> pa.Table:
        """The same of a table."""
        return table if self.keeps_all else table.filter(pa.array(self.kept(table)))

    def _size(self, row: Mapping[str, Any]) -> int:
        sizes = (row[name] for name in (self.column, *self.instead) if name)
        return next((int(size) for size in sizes if size), 0)


def group_of_mart(name: str, least: int) -> Group:
    """How rows of a mart are withheld.

    Raises:
        KeyError: the mart has no group yet: name one above.
    """
    return Group(GROUP_OF_MART[name], least, TOTALS_OF_MART.get(name), INSTEAD_IN_MART.get(name, ()))


def group_of_query(name: str, least: int) -> Group:
    """How rows of a report query are withheld.

    Raises:
        KeyError: the query has no group yet: name one above.
    """
    return Group(GROUP_OF_QUERY[name], least, TOTALS_OF_QUERY.get(name))


def group_of_sheet(name: str, least: int) -> Group:
    """How rows of an export's sheet are withheld.

    Raises:
        KeyError: the sheet has no group yet: name one above.
    """
    return Group(GROUP_OF_SHEET[name], least, TOTALS_OF_SHEET.get(name), INSTEAD_IN_SHEET.get(name, ()))


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
        else group_of_query(name, least).published(rows)
        for name, rows in tables.items()
    }
    return kept, sum(len(tables[name]) - len(rows) for name, rows in kept.items())


def is_withheld(headline: Mapping[str, Any], least: int) -> bool:
    """Whether a whole page is about too few users."""
    return not group_of_query("headline", least).keeps(headline)
