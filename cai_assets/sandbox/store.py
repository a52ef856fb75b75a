"""The tables of the sandbox's NocoDB, in memory: typed cells, indexes, and filters that use them.

Values and selection only; HTTP and JSON bodies belong in nocodb.py. Cells are kept as NocoDB prints them (a
DateTime is the text `YYYY-MM-DD HH:MM:SS+00:00`, which sorts as the instant does), so a page of rows is printed
without converting anything. A table of 133,000 messages answers a keyset page without looking at every row.
"""

import json
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from cai_assets.sandbox.config import Dialect
from cai_assets.sandbox.where import Both, Condition, Filter, FilterError, Negated

Row = list[Any]
Test = Callable[[Any], bool]

INVALID_DATE = "Invalid Date"
# NocoDB refuses longer ones; LongText has no measured limit.
LONGEST_LINE = 100_000
# Above every digit, so above every printed instant, and not above the letters of "Invalid Date".
_AFTER_ALL_INSTANTS = "A"
_DATES = ("DateTime", "CreatedTime", "LastModifiedTime")
_NUMBERS = ("ID", "Number", "Decimal")


class ValueRefusedError(Exception):
    """A value that the database behind NocoDB does not take."""


@dataclass(frozen=True)
class Column:
    """One column: its title (case-sensitive in filters), NocoDB's type of it, and its place in a row."""

    title: str
    uidt: str
    at: int


@dataclass(frozen=True)
class _Access:
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
        self._sorted = {c.at: _Sorted() for c in self.columns.values() if c.uidt in _DATES}
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
        self.rows[row[0]] = row
        self.ids.append(row[0])
        self._index(row, range(len(row)))
        return int(row[0])

    def update(self, row_id: int, cells: Mapping[int, Any], now: datetime) -> None:
        """Change a row, and its UpdatedAt also when nothing differs."""
        row = self.rows[row_id]
        changed = {**cells, 2: instant_text(now)}
        self._unindex(row, changed)
        for at, value in changed.items():
            row[at] = value
        self._index(row, changed)

    def delete(self, row_id: int) -> None:
        """Remove a row for good."""
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
        if column.uidt in _NUMBERS:
            return _number(value, column)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if column.uidt == "SingleLineText" and len(text) > LONGEST_LINE:
            raise ValueRefusedError(f"The text of '{column.title}' is longer than {LONGEST_LINE} characters")
        return text

    # -- reading

    def select(self, where: Filter | None) -> Sequence[int]:
        """Ids of the rows that a filter lets through, ascending.

        Raises:
            FilterError: an unknown column, an operator or value that does not suit it.
        """
        node = self._compile(where) if where is not None else None
        if node is None:
            return self.ids
        access = node.access()
        if access is None:
            return [row_id for row_id, row in self.rows.items() if node.test(row)]
        if access.exact:
            return sorted(access.ids())
        rows, test = self.rows, node.test
        return sorted(row_id for row_id in access.ids() if test(rows[row_id]))

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

    def _compile(self, node: Filter) -> "_Node | None":
        """An executable filter, or None for one that NocoDB ignores."""
        if isinstance(node, Condition):
            column = self.columns.get(node.column)
            if column is None:
                raise FilterError(422, {"msg": f"Column alias '{node.column}' not found."})
            return _Leaf.of(self, column, node)
        if isinstance(node, Negated):
            inner = self._compile(node.part)
            return None if inner is None else _Not(inner)
        parts = [part for part in map(self._compile, node.parts) if part is not None]
        if len(parts) < 2:
            return parts[0] if parts else None
        return _And(self, parts) if isinstance(node, Both) else _Or(parts)

    def range_access(self, at: int, low: Any, high: Any, exact: bool) -> _Access:
        """Rows whose column lies in [low, high), through the sorted index of the column or of the Ids."""
        keys, ids = (self.ids, self.ids) if at == 0 else (self._sorted[at].keys, self._sorted[at].ids)
        start = bisect_left(keys, low) if low is not None else 0
        end = bisect_left(keys, high) if high is not None else len(keys)
        return _Access(max(end - start, 0), lambda: ids[start:end], exact)

    def key_access(self, at: int, keys: Iterable[Any]) -> _Access:
        """Rows whose column equals one of `keys`, through the hash index."""
        lists = [self._hashed[at][key] for key in set(keys) if key in self._hashed[at]]
        return _Access(sum(map(len, lists)), lambda: (row_id for ids in lists for row_id in ids), True)

    def hashed(self, at: int) -> bool:
        """Whether the column has a hash index."""
        return at in self._hashed


@dataclass(frozen=True)
class _Leaf:
    """A condition on one column: a test of the cell; and bounds or keys where an index can serve it."""

    table: Table
    at: int
    check: Test
    bounds: tuple[Any, Any] | None = None
    keys: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, table: Table, column: Column, condition: Condition) -> "_Leaf | None":
        if condition.operator in _EMPTINESS:
            return cls(table, column.at, _EMPTINESS[condition.operator])
        if column.uidt in _DATES:
            bounds = _instant_bounds(column, condition, table.dialect)
            if bounds is None:
                return None
            low, high = bounds
            if condition.operator == "neq":
                return cls(table, column.at, lambda cell: not (cell is not None and low <= cell < high))
            return cls(table, column.at, lambda cell: cell is not None and low <= cell < high, bounds=bounds)
        if condition.operator in ("is", "isnot"):
            return cls(table, column.at, _is(condition))
        return cls._plain(table, column, condition)

    @classmethod
    def _plain(cls, table: Table, column: Column, condition: Condition) -> "_Leaf":
        operator, value = condition.operator, condition.value
        if value is None:
            raise FilterError(422, {"msg": "Invalid filter format."})
        if operator in ("in", "anyof", "nanyof"):
            wanted = frozenset(_operand(column, part) for part in condition.values)
            check: Test = (
                (lambda cell: cell not in wanted)
                if operator == "nanyof"
                else (lambda cell: cell is not None and _plain_cell(cell) in wanted)
            )
            keyed = operator != "nanyof" and table.hashed(column.at)
            return cls(table, column.at, check, keys=tuple(wanted) if keyed else None)
        if operator in ("like", "nlike"):
            found = _like(value)
            return cls(table, column.at, found if operator == "like" else lambda cell: not found(cell))
        if operator in ("btw", "nbtw"):
            return cls._between(table, column, condition)
        operand = _operand(column, value)
        check = _COMPARE[operator](operand)
        if column.at == 0 and isinstance(operand, int) and operator in _ID_BOUNDS:
            return cls(table, 0, check, bounds=_ID_BOUNDS[operator](operand))
        keys = (operand,) if operator == "eq" and table.hashed(column.at) else None
        return cls(table, column.at, check, keys=keys)

    @classmethod
    def _between(cls, table: Table, column: Column, condition: Condition) -> "_Leaf":
        if len(condition.values) != 2:
            raise FilterError(422, {"msg": "Invalid filter format."})
        low, high = (_operand(column, part) for part in condition.values)
        inside = condition.operator == "btw"
        return cls(table, column.at, lambda cell: cell is not None and (low <= cell <= high) == inside)

    def test(self, row: Row) -> bool:
        return self.check(row[self.at])

    def access(self) -> _Access | None:
        if self.bounds is not None:
            return self.table.range_access(self.at, *self.bounds, exact=True)
        return self.table.key_access(self.at, self.keys) if self.keys is not None else None


class _And:
    def __init__(self, table: Table, parts: "list[_Node]") -> None:
        self.table = table
        self.parts = parts

    def test(self, row: Row) -> bool:
        return all(part.test(row) for part in self.parts)

    def access(self) -> _Access | None:
        """The cheapest way among the parts; bounds on one column (a window) are taken together."""
        windows: dict[int, list[_Leaf]] = {}
        ways: list[tuple[_Access, int]] = []
        for part in self.parts:
            if isinstance(part, _Leaf) and part.bounds is not None:
                windows.setdefault(part.at, []).append(part)
            elif (way := part.access()) is not None:
                ways.append((way, 1))
        for at, leaves in windows.items():
            lows = [leaf.bounds[0] for leaf in leaves if leaf.bounds and leaf.bounds[0] is not None]
            highs = [leaf.bounds[1] for leaf in leaves if leaf.bounds and leaf.bounds[1] is not None]
            low, high = max(lows, default=None), min(highs, default=None)
            ways.append((self.table.range_access(at, low, high, exact=True), len(leaves)))
        if not ways:
            return None
        way, covered = min(ways, key=lambda each: each[0].count)
        return _Access(way.count, way.ids, way.exact and covered == len(self.parts))


class _Or:
    def __init__(self, parts: "list[_Node]") -> None:
        self.parts = parts

    def test(self, row: Row) -> bool:
        return any(part.test(row) for part in self.parts)

    def access(self) -> _Access | None:
        found = [part.access() for part in self.parts]
        ways = [way for way in found if way is not None]
        if len(ways) < len(found):
            return None
        return _Access(
            sum(way.count for way in ways),
            lambda: {row_id for way in ways for row_id in way.ids()},
            all(way.exact for way in ways),
        )


class _Not:
    def __init__(self, part: "_Node") -> None:
        self.part = part

    def test(self, row: Row) -> bool:
        return not self.part.test(row)

    def access(self) -> _Access | None:
        return None


_Node = _Leaf | _And | _Or | _Not


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


def _number(value: Any, column: Column) -> int | float:
    if isinstance(value, int | float):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueRefusedError(f"Invalid value '{value}' for column '{column.title}'") from error
    return int(number) if number.is_integer() else number


def _operand(column: Column, text: str) -> Any:
    """A filter's value in the type of the column's cells."""
    if column.uidt in _NUMBERS:
        try:
            return _number(text, column)
        except ValueRefusedError as error:
            raise _refused(column, text) from error
    if column.uidt == "Checkbox":
        return text.lower() in ("1", "true", "checked")
    return text


def _refused(column: Column, text: str) -> FilterError:
    message = f"Value '{text}' is not supported for type '{column.uidt}' on column '{column.title}'"
    return FilterError(422, {"error": "ERR_FILTER_VERIFICATION_FAILED", "message": message})


def _instant_bounds(column: Column, condition: Condition, dialect: Dialect) -> tuple[str, str] | None:
    """[low, high) of printed instants that a condition on a DateTime means; None where NocoDB ignores it."""
    operator = condition.operator
    if operator in ("is", "isnot"):
        return None  # measured: silently ignored, all rows come back
    if operator not in ("eq", "neq", "gt", "gte", "lt", "lte") or not condition.values:
        raise _refused(column, f"{operator},{condition.value or ''}")
    if condition.values[0] != "exactDate":
        raise _refused(column, condition.value or "")
    if len(condition.values) == 1:
        return None  # measured: `exactDate` without a value is ignored too
    given = ",".join(condition.values[1:])
    try:
        moment, only_day = parse_instant(given)
    except ValueError as error:
        raise _refused(column, given) from error
    day: date = moment.date()
    midnight, next_midnight = f"{day} 00:00:00+00:00", f"{day + timedelta(days=1)} 00:00:00+00:00"
    if operator in ("eq", "neq"):
        return midnight, next_midnight  # measured: the whole day, also with a time
    if only_day:
        first = {"gt": next_midnight, "gte": midnight, "lt": midnight, "lte": next_midnight}[operator]
    else:
        # Measured on SQLite: gt acts as gte, lte as lt. "\0" makes the next text after this one.
        after = "" if dialect == "sqlite" else "\0"
        first = instant_text(moment) + (after if operator in ("gt", "lte") else "")
    return (first, _AFTER_ALL_INSTANTS) if operator in ("gt", "gte") else ("", first)


def _plain_cell(cell: Any) -> Any:
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict | list) else cell


def _is(condition: Condition) -> Test:
    tests: dict[str, Test] = {
        "null": lambda cell: cell is None,
        "notnull": lambda cell: cell is not None,
        "true": lambda cell: bool(cell),
        "false": lambda cell: cell is not None and not cell,
        "empty": lambda cell: cell == "",
        "notempty": lambda cell: cell != "",
    }
    test = tests.get(condition.value or "")
    if test is None:
        raise FilterError(422, {"msg": f"'{condition.value}' is not supported for 'is/isnot'"})
    return test if condition.operator == "is" else (lambda cell: not test(cell))


def _like(pattern: str) -> Test:
    body = pattern if "%" in pattern else f"%{pattern}%"
    expression = re.compile(
        "".join(".*" if c == "%" else "." if c == "_" else re.escape(c) for c in body),
        re.IGNORECASE | re.DOTALL,
    )
    return lambda cell: cell is not None and expression.fullmatch(str(_plain_cell(cell))) is not None


def _sort_key(cell: Any) -> tuple[int, Any]:
    return (0, 0) if cell is None else (1, _plain_cell(cell))


_EMPTINESS: Mapping[str, Test] = {
    "blank": lambda cell: cell is None or cell == "",
    "notblank": lambda cell: cell is not None and cell != "",
    "null": lambda cell: cell is None,
    "notnull": lambda cell: cell is not None,
}
# NULL compares to nothing; only `neq` lets it through, as NocoDB's SQL does.
_COMPARE: Mapping[str, Callable[[Any], Test]] = {
    "eq": lambda value: lambda cell: cell is not None and _plain_cell(cell) == value,
    "neq": lambda value: lambda cell: cell is None or _plain_cell(cell) != value,
    "gt": lambda value: lambda cell: cell is not None and cell > value,
    "gte": lambda value: lambda cell: cell is not None and cell >= value,
    "lt": lambda value: lambda cell: cell is not None and cell < value,
    "lte": lambda value: lambda cell: cell is not None and cell <= value,
}
_ID_BOUNDS: Mapping[str, Callable[[int], tuple[int | None, int | None]]] = {
    "eq": lambda value: (value, value + 1),
    "gt": lambda value: (value + 1, None),
    "gte": lambda value: (value, None),
    "lt": lambda value: (None, value),
    "lte": lambda value: (None, value + 1),
}
