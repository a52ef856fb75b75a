"""What a `where` tree lets through: conditions compiled for a table, answered through its indexes.

The meaning of each operator for each type of column is as measured on 0.301.3, oddities included. The grammar
is where.py's. A table of 133,000 messages answers a page of a keyset walk without looking at every row.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from cai_assets.sandbox.config import Dialect
from cai_assets.sandbox.store import (
    DATES,
    NUMBERS,
    Access,
    Column,
    Row,
    Table,
    ValueRefusedError,
    instant_text,
    number_cell,
    parse_instant,
    plain_cell,
)
from cai_assets.sandbox.where import Both, Condition, Filter, FilterError, Negated

Test = Callable[[Any], bool]

# Answers a table keeps. A walk needs one; more are for several clients at once.
_MOST_REMEMBERED = 16
# Above every digit, so above every printed instant, and below the letters of "Invalid Date".
_AFTER_ALL_INSTANTS = "A"


def select(table: Table, where: Filter | None) -> Sequence[int]:
    """Ids of the rows that a filter lets through, ascending.

    The bounds on Id are cut out of the answer to the rest of the filter, which is remembered until the
    table changes: a keyset walk then costs one evaluation, not one a page.

    Raises:
        FilterError: an unknown column, an operator or value that does not suit it.
    """
    low, high, rest = _split_keyset(where)
    ids: Sequence[int] = table.ids
    if rest is not None:
        found = table.remembered.get(rest)
        if found is None:
            found = table.remembered[rest] = _evaluate(table, rest)
            if len(table.remembered) > _MOST_REMEMBERED:
                del table.remembered[next(iter(table.remembered))]
        ids = found
    start = bisect_left(ids, low) if low is not None else 0
    end = bisect_left(ids, high) if high is not None else len(ids)
    return ids if (start, end) == (0, len(ids)) else ids[start:end]


def _evaluate(table: Table, where: Filter) -> Sequence[int]:
    node = _compile(table, where)
    if node is None:
        return list(table.ids)
    access = node.access()
    if access is None:
        return [row_id for row_id, row in table.rows.items() if node.test(row)]
    if access.exact:
        return sorted(access.ids())
    rows, test = table.rows, node.test
    return sorted(row_id for row_id in access.ids() if test(rows[row_id]))


def _compile(table: Table, node: Filter) -> "_Node | None":
    """An executable filter, or None for one that NocoDB ignores."""
    if isinstance(node, Condition):
        column = table.columns.get(node.column)
        if column is None:
            raise FilterError(422, {"msg": f"Column alias '{node.column}' not found."})
        return _Leaf.of(table, column, node)
    if isinstance(node, Negated):
        inner = _compile(table, node.part)
        return None if inner is None else _Not(inner)
    parts = [part for part in (_compile(table, part) for part in node.parts) if part is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    return _And(table, parts) if isinstance(node, Both) else _Or(parts)


def _split_keyset(where: Filter | None) -> tuple[int | None, int | None, Filter | None]:
    """Bounds on Id that all rows must keep, as [low, high), and what is left of the filter."""
    low: int | None = None
    high: int | None = None
    rest: list[Filter] = []
    for part in where.parts if isinstance(where, Both) else () if where is None else (where,):
        bounds = (
            _ID_BOUNDS.get(part.operator) if isinstance(part, Condition) and part.column == "Id" else None
        )
        value = part.value if isinstance(part, Condition) else None
        if bounds is None or value is None or re.fullmatch(r"-?\d+", value) is None:
            rest.append(part)
            continue
        first, last = bounds(int(value))
        low = first if low is None else low if first is None else max(low, first)
        high = last if high is None else high if last is None else min(high, last)
    return low, high, (Both(tuple(rest)) if len(rest) > 1 else rest[0] if rest else None)


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
        if column.uidt in DATES:
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
                else (lambda cell: cell is not None and plain_cell(cell) in wanted)
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

    def access(self) -> Access | None:
        if self.bounds is not None:
            return self.table.range_access(self.at, *self.bounds, exact=True)
        return self.table.key_access(self.at, self.keys) if self.keys is not None else None


class _And:
    def __init__(self, table: Table, parts: "list[_Node]") -> None:
        self.table = table
        self.parts = parts

    def test(self, row: Row) -> bool:
        return all(part.test(row) for part in self.parts)

    def access(self) -> Access | None:
        """The cheapest way among the parts; bounds on one column (a window) are taken together."""
        windows: dict[int, list[_Leaf]] = {}
        ways: list[tuple[Access, int]] = []
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
        return Access(way.count, way.ids, way.exact and covered == len(self.parts))


class _Or:
    def __init__(self, parts: "list[_Node]") -> None:
        self.parts = parts

    def test(self, row: Row) -> bool:
        return any(part.test(row) for part in self.parts)

    def access(self) -> Access | None:
        found = [part.access() for part in self.parts]
        ways = [way for way in found if way is not None]
        if len(ways) < len(found):
            return None
        return Access(
            sum(way.count for way in ways),
            lambda: {row_id for way in ways for row_id in way.ids()},
            all(way.exact for way in ways),
        )


class _Not:
    def __init__(self, part: "_Node") -> None:
        self.part = part

    def test(self, row: Row) -> bool:
        return not self.part.test(row)

    def access(self) -> Access | None:
        return None


_Node = _Leaf | _And | _Or | _Not


def _operand(column: Column, text: str) -> Any:
    """A filter's value in the type of the column's cells."""
    if column.uidt in NUMBERS:
        try:
            return number_cell(text, column)
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
    return lambda cell: cell is not None and expression.fullmatch(str(plain_cell(cell))) is not None


_EMPTINESS: Mapping[str, Test] = {
    "blank": lambda cell: cell is None or cell == "",
    "notblank": lambda cell: cell is not None and cell != "",
    "null": lambda cell: cell is None,
    "notnull": lambda cell: cell is not None,
}
# NULL compares to nothing; only `neq` lets it through, as NocoDB's SQL does.
_COMPARE: Mapping[str, Callable[[Any], Test]] = {
    "eq": lambda value: lambda cell: cell is not None and plain_cell(cell) == value,
    "neq": lambda value: lambda cell: cell is None or plain_cell(cell) != value,
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
