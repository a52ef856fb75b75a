"""The tables of the sandbox's NocoDB, in memory: typed cells, and the indexes over them.

Values only; filters are compiled in filters.py, HTTP and JSON bodies belong in nocodb.py. Cells are kept as
NocoDB prints them (a DateTime is the text `YYYY-MM-DD HH:MM:SS+00:00`, which sorts as the instant does), so a
page of rows is printed without converting anything.
"""

import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cai_assets.sandbox.config import Dialect
from cai_assets.sandbox.where import Filter

Row = list[Any]

INVALID_DATE = "Invalid Date"
# NocoDB refuses longer ones; LongText has no measured limit.
LONGEST_LINE = 100_000
DATES = ("DateTime", "CreatedTime", "LastModifiedTime")
NUMBERS = ("ID", "Number", "Decimal")


class ValueRefusedError(Exception):
    """A value that the database behind NocoDB does not take."""


@dataclass(frozen=True)
class Column:
    """One column: its title (case-sensitive in filters), NocoDB's type of it, and its place in a row."""

    title: str
    uidt: str
    at: int


@dataclass(frozen=True)
class Access:
    """A way to the rows of a filter through an index: how many, which, and whether it is the whole filter."""

    count: int
    ids: Callable[[], Iterable[int]]
    exact: bool


@dataclass
class _Sorted:
    """A sorted index: `keys[i]` belongs to row `ids[i]`."""

    keys: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)

    def add(self, key: str, row_id: int) -> None:
        at = bisect_right(self.keys, key)
        self.keys.insert(at, key)
        self.ids.insert(at, row_id)

    def remove(self, key: str, row_id: int) -> None:
        at = self.ids.index(row_id, bisect_left(self.keys, key))
        del self.keys[at], self.ids[at]


def instant_text(moment: datetime) -> str:
    """An instant as NocoDB prints it: UTC, whole seconds, a space."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S+00:00")


def parse_instant(text: str) -> tuple[datetime, bool]:
    """An instant in any form NocoDB reads (no offset: UTC), and whether only a day was given.

    Raises:
        ValueError: it is no date.
    """
    text = text.strip()
    moment = datetime.fromisoformat(text)
    only_day = len(text) <= 10
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)), only_day


class Table:
    """One table.

    `rows` are by Id and `ids` ascend; `remembered` holds answered filters (filters.py) until the next change.

    Args:
        table_id: NocoDB's id of it (`m...`).
        title: its title.
        columns: title and type of the columns after Id, CreatedAt and UpdatedAt.
        dialect: decides how JSON, checkboxes and bad dates are kept, and what `gt` means for instants.
    """

    def __init__(
        self, table_id: str, title: str, columns: Sequence[tuple[str, str]], dialect: Dialect = "postgres"
    ) -> None:
        system = [("Id", "ID"), ("CreatedAt", "CreatedTime"), ("UpdatedAt", "LastModifiedTime")]
        self.id = table_id
        self.title = title
        self.dialect = dialect
        self.columns = {name: Column(name, uidt, at) for at, (name, uidt) in enumerate([*system, *columns])}
        self.rows: dict[int, Row] = {}
        self.ids: list[int] = []
        self._next_id = 1
        self.remembered: dict[Filter, Sequence[int]] = {}
        self._sorted = {c.at: _Sorted() for c in self.columns.values() if c.uidt in DATES}
        # Business keys are looked up by value; so is whatever else ends in _id.
        self._hashed: dict[int, dict[Any, list[int]]] = {
            c.at: {} for c in self.columns.values() if c.uidt == "SingleLineText" and c.title.endswith("_id")
        }

    # -- writing

    def load(self, rows: Iterable[Row]) -> None:
        """Fill the empty table with rows whose cells are already as NocoDB prints them, Ids ascending."""
        self.rows = {row[0]: row for row in rows}
        self.ids = list(self.rows)
        self._next_id = self.ids[-1] + 1 if self.ids else 1
        for at, index in self._sorted.items():
            pairs = sorted((row[at], row[0]) for row in self.rows.values() if row[at] is not None)
            index.keys, index.ids = [key for key, _ in pairs], [row_id for _, row_id in pairs]
        for at, hashed in self._hashed.items():
            for row in self.rows.values():
                if row[at] is not None:
                    hashed.setdefault(row[at], []).append(row[0])

    def cells(self, values: Mapping[str, Any]) -> dict[int, Any]:
        """The cells of a row given as JSON; unknown and system columns are dropped, as NocoDB does.

        Raises:
            ValueRefusedError: a value does not suit its column.
        """
        return {
            column.at: self._cell(column, value)
            for title, value in values.items()
            if (column := self.columns.get(title)) is not None and column.at > 2
        }

    def insert(self, cells: Mapping[int, Any], now: datetime) -> int:
        """A new row; its Id."""
        row: Row = [None] * len(self.columns)
        if self.dialect == "sqlite":
            for column in self.columns.values():
                row[column.at] = 0 if column.uidt == "Checkbox" else None
        row[0], self._next_id = self._next_id, self._next_id + 1
        row[1] = instant_text(now)
        for at, value in cells.items():
            row[at] = value
        self.remembered.clear()
        self.rows[row[0]] = row
        self.ids.append(row[0])
        self._index(row, range(len(row)))
        return int(row[0])

    def update(self, row_id: int, cells: Mapping[int, Any], now: datetime) -> None:
        """Change a row, and its UpdatedAt also when nothing differs."""
        row = self.rows[row_id]
        self.remembered.clear()
        changed = {**cells, 2: instant_text(now)}
        self._unindex(row, changed)
        for at, value in changed.items():
            row[at] = value
        self._index(row, changed)

    def delete(self, row_id: int) -> None:
        """Remove a row for good."""
        self.remembered.clear()
        row = self.rows.pop(row_id)
        del self.ids[bisect_left(self.ids, row_id)]
        self._unindex(row, range(len(row)))

    def _index(self, row: Row, columns: Iterable[int]) -> None:
        for at in columns:
            if row[at] is None:
                continue
            if at in self._sorted:
                self._sorted[at].add(row[at], row[0])
            elif at in self._hashed:
                insort(self._hashed[at].setdefault(row[at], []), row[0])

    def _unindex(self, row: Row, columns: Iterable[int]) -> None:
        for at in columns:
            if row[at] is None:
                continue
            if at in self._sorted:
                self._sorted[at].remove(row[at], row[0])
            elif at in self._hashed:
                self._hashed[at][row[at]].remove(row[0])

    def _cell(self, column: Column, value: Any) -> Any:
        if column.uidt == "Checkbox":
            return int(bool(value)) if self.dialect == "sqlite" else (None if value is None else bool(value))
        if value is None:
            return None
        if column.uidt == "DateTime":
            try:
                return instant_text(parse_instant(str(value))[0])
            except ValueError as error:
                if self.dialect == "sqlite":
                    return INVALID_DATE
                raise ValueRefusedError(f"Invalid value '{value}' for column '{column.title}'") from error
        if column.uidt == "JSON":
            return json_cell(value, self.dialect)
        if column.uidt in NUMBERS:
            return number_cell(value, column)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if column.uidt == "SingleLineText" and len(text) > LONGEST_LINE:
            raise ValueRefusedError(f"The text of '{column.title}' is longer than {LONGEST_LINE} characters")
        return text

    # -- reading

    def order(self, ids: Sequence[int], sort: Sequence[tuple[str, bool]]) -> Sequence[int]:
        """`ids` (ascending) in another order: (column, descending) pairs, NULLs first when ascending."""
        if sort == [("Id", False)]:
            return ids
        if sort == [("Id", True)]:
            return ids[::-1]
        ordered = list(ids)
        for title, descending in reversed(sort):
            at = self.columns[title].at
            ordered.sort(
                key=lambda row_id, at=at: _sort_key(self.rows[row_id][at]),  # type: ignore[misc]
                reverse=descending,
            )
        return ordered

    def range_access(self, at: int, low: Any, high: Any, exact: bool) -> Access:
        """Rows whose column lies in [low, high), through the sorted index of the column or of the Ids."""
        keys, ids = (self.ids, self.ids) if at == 0 else (self._sorted[at].keys, self._sorted[at].ids)
        start = bisect_left(keys, low) if low is not None else 0
        end = bisect_left(keys, high) if high is not None else len(keys)
        return Access(max(end - start, 0), lambda: ids[start:end], exact)

    def key_access(self, at: int, keys: Iterable[Any]) -> Access:
        """Rows whose column equals one of `keys`, through the hash index."""
        lists = [self._hashed[at][key] for key in set(keys) if key in self._hashed[at]]
        return Access(sum(map(len, lists)), lambda: (row_id for ids in lists for row_id in ids), True)

    def hashed(self, at: int) -> bool:
        """Whether the column has a hash index."""
        return at in self._hashed


def json_cell(value: Any, dialect: Dialect) -> Any:
    """JSON as the database keeps it: a value on Postgres, a text on SQLite."""
    if dialect == "sqlite":
        return (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        )
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueRefusedError("Invalid JSON value") from error
    return value


def number_cell(value: Any, column: Column) -> int | float:
    """A number, also from its text.

    Raises:
        ValueRefusedError: it is none.
    """
    if isinstance(value, int | float):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueRefusedError(f"Invalid value '{value}' for column '{column.title}'") from error
    return int(number) if number.is_integer() else number


def _sort_key(cell: Any) -> tuple[int, Any]:
    return (0, 0) if cell is None else (1, plain_cell(cell))


def plain_cell(cell: Any) -> Any:
    """A cell as filters and sorting compare it: JSON is compared as text."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict | list) else cell
