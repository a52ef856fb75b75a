"""What differs between two states of a table: rows added, removed and changed, and by how much each measure.

Given are the files of both states; which these are at which version is the store's matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import pyarrow.types as pt

from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.duckdb_text import quoted
from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.metrics import METRICS

Number = int | float | Decimal
_OLD, _NEW = ("before", "rows"), ("after", "rows")


@dataclass(frozen=True)
class Measure:
    """A column whose values changed.

    Attributes:
        name: the column.
        rows: rows that are in both states and differ in it.
        before: its sum over all rows before; None where it does not add up or there is no value.
        after: its sum after.
    """

    name: str
    rows: int
    before: Number | None
    after: Number | None


@dataclass(frozen=True)
class Difference:
    """What lies between two states.

    Attributes:
        before: rows before.
        after: rows after.
        added: rows whose key is new.
        removed: rows whose key is gone.
        changed: rows of one key whose other columns differ.
        measures: the columns that differ in a row, or whose sum differs, in order of the declaration.
    """

    before: int
    after: int
    added: int
    removed: int
    changed: int
    measures: tuple[Measure, ...]


def difference(engine: DuckDBEngine, table: Table, before: Sequence[str], after: Sequence[str]) -> Difference:
    """Compare two states of a table, or of some of its partitions, row by row of its key.

    Args:
        engine: where it runs; it must be able to open the files.
        table: the declaration.
        before: files of the first state.
        after: files of the second.

    Raises:
        EngineError: a file is gone.
    """
    key = list(dict.fromkeys([*filter(None, [table.partition_by]), *table.key]))
    measured = [column for column in table.columns if column.name not in key]
    sql = _sql(key, measured)
    found = engine.query(sql, {_OLD: before, _NEW: after}, tables={_OLD: table, _NEW: table})
    row = found.to_pylist()[0]
    measures = [
        Measure(
            column.name,
            row[f"{n}_rows"],
            _number(column, row.get(f"{n}_before")),
            _number(column, row.get(f"{n}_after")),
        )
        for n, column in enumerate(measured)
    ]
    return Difference(
        before=row["old_rows"],
        after=row["new_rows"],
        added=row["added"],
        removed=row["removed"],
        changed=row["changed"],
        measures=tuple(one for one in measures if one.rows or one.before != one.after),
    )


def _sql(key: Sequence[str], measured: Sequence[Column]) -> str:
    same = " and ".join(f"o.{quoted(name)} is not distinct from n.{quoted(name)}" for name in key)
    both = "o.there and n.there"
    differs = {c.name: f"o.{quoted(c.name)} is distinct from n.{quoted(c.name)}" for c in measured}
    columns = [
        "count(o.there) as old_rows",
        "count(n.there) as new_rows",
        "count(*) filter (where o.there is null) as added",
        "count(*) filter (where n.there is null) as removed",
        f"count(*) filter (where {both} and ({' or '.join(differs.values()) or 'false'})) as changed",
    ]
    for n, column in enumerate(measured):
        columns.append(f"count(*) filter (where {both} and {differs[column.name]}) as {quoted(f'{n}_rows')}")
        if _adds_up(column):
            columns += [
                f"sum({side}.{quoted(column.name)}) as {quoted(f'{n}_{state}')}"
                for side, state in (("o", "before"), ("n", "after"))
            ]
    return (
        f"select {', '.join(columns)} "  # noqa: S608  names of declared columns, quoted
        "from (select *, true as there from before.rows) as o "
        f"full join (select *, true as there from after.rows) as n on {same}"
    )


def _number(column: Column, total: Number | None) -> Number | None:
    """DuckDB's sums of integers are wider than its integers, and come as decimals."""
    return int(total) if total is not None and pt.is_integer(column.type) else total


def _adds_up(column: Column) -> bool:
    """Whether a sum of the column means something: not of instants, places, percentiles."""
    kind = column.type
    if column.metric and not METRICS[column.metric].additive:
        return False
    if column.unit in (None, "us", "h", "weekday", "place", "quintile"):
        return False
    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind))
