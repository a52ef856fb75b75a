"""A plan as a Polars LazyFrame, in idioms that cudf-polars runs too; the same plan serves both devices.

Which idioms these are was found by asking cudf-polars (`make gpu-coverage`): no `int_range`, no `str.split`,
no `dt.truncate`, no list functions; over() wants plain columns.
"""

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, Final

import polars as pl

from cai_assets.engines.models import TablePath
from cai_assets.engines.polars_expressions import Expressions, as_date, polars_type
from cai_assets.engines.portable.plan import (
    Aggregate,
    Days,
    Distinct,
    Filter,
    Group,
    Join,
    Node,
    Project,
    Scan,
    UnionAll,
    Unnest,
    Window,
    Windows,
)

Frames = Callable[[TablePath], pl.LazyFrame]
"""Gives a table's rows, with the types that its files have."""

# A window over all rows before the current one, where Polars has no running function that cudf-polars takes.
_ALL_ROWS: Final = 2**31 - 1
# Days are counted as thousands and ones, so that any two dates from year 1 to 9999 have their days between
# them: 3,652,059 at most. Each of the tables is filtered before it is multiplied by the other.
_THOUSANDS: Final = 3653


class PolarsPlan:
    """Makes the LazyFrame of a plan for one run."""

    def __init__(self, frames: Frames, parameters: Mapping[str, Any]) -> None:
        """Name what the run works on.

        Args:
            frames: gives the inputs.
            parameters: a value for each parameter that occurs.
        """
        self._frames = frames
        self._expressions = Expressions(parameters)
        self._made: dict[int, pl.LazyFrame] = {}
        self._numbers = 0

    def make(self, node: Node) -> pl.LazyFrame:
        """The frame of a node; of a node that was asked for before, the same frame."""
        found = self._made.get(id(node))
        if found is None:
            found = self._made[id(node)] = _METHODS[type(node)](self, node)
        return found

    def _fresh(self) -> str:
        self._numbers += 1
        return f"@{self._numbers}"

    def _scan(self, node: Scan) -> pl.LazyFrame:
        return self._frames(node.path).select(
            # Integers of any width become wide ones, so that no sum can run over.
            [
                pl.col(name).cast(pl.Int64) if kind.name == "int" else pl.col(name)
                for name, kind in node.schema.items()
            ]
        )

    def _project(self, node: Project) -> pl.LazyFrame:
        return self.make(node.input).select(
            [self._expressions.make(item.value).alias(item.name) for item in node.items]
        )

    def _filter(self, node: Filter) -> pl.LazyFrame:
        return self.make(node.input).filter(self._expressions.make(node.condition))

    def _join(self, node: Join) -> pl.LazyFrame:
        left, right = self.make(node.left), self.make(node.right)
        if node.how == "cross":
            return self._cross(left, right)
        return left.join(
            right,
            left_on=[key for key, _ in node.keys],
            right_on=[key for _, key in node.keys],
            how=node.how,
            coalesce=False,
        )

    def _cross(self, left: pl.LazyFrame, right: pl.LazyFrame) -> pl.LazyFrame:
        """All pairs, as partners by a constant.

        Polars would make one nested loop of a cross join and a filter, which cudf-polars cannot take.
        """
        one, other = self._fresh(), self._fresh()
        constant = pl.lit(1, dtype=pl.Int64)
        joined = left.with_columns(constant.alias(one)).join(
            right.with_columns(constant.alias(other)),
            left_on=one,
            right_on=other,
            how="inner",
            coalesce=False,
        )
        return joined.drop(one, other)

    def _distinct(self, node: Distinct) -> pl.LazyFrame:
        return self.make(node.input).unique()

    def _union(self, node: UnionAll) -> pl.LazyFrame:
        return pl.concat([self.make(one) for one in node.inputs], how="vertical")

    # -- groups

    def _group(self, node: Group) -> pl.LazyFrame:
        made: list[pl.Expr] = []
        counted: dict[str, str] = {}
        for one in node.aggregates:
            made.append(_aggregate(one).alias(one.name))
            if one.function == "sum":
                assert one.value is not None  # noqa: S101
                counted[one.name] = self._fresh()
                made.append(_column(one).count().alias(counted[one.name]))
        frame = self.make(node.input)
        grouped = frame.group_by(list(node.keys)).agg(made) if node.keys else frame.select(made)
        # SQL's sum of nothing is NULL, Polars' is 0.
        return grouped.select(
            [
                pl.when(pl.col(counted[name]) > 0).then(pl.col(name)).alias(name)
                if name in counted
                else pl.col(name)
                for name in node.schema
            ]
        )

    # -- windows

    def _windows(self, node: Windows) -> pl.LazyFrame:
        frame = self.make(node.input)
        # Windows of one order share one sort.
        ordered = sorted(node.windows, key=lambda one: str((one.keys, one.order)))
        for (keys, order), windows in groupby(ordered, key=lambda one: (one.keys, one.order)):
            if order:
                frame = frame.sort(
                    [*keys, *(one.name for one in order)],
                    descending=[*(False for _ in keys), *(one.descending for one in order)],
                    nulls_last=True,
                )
            for window in windows:
                frame = self._window(frame, window)
        return frame.select(list(node.schema))

    def _window(self, frame: pl.LazyFrame, window: Window) -> pl.LazyFrame:
        if window.function in _PLACES:
            return _PLACES[window.function](self, frame, window)
        over = _over(window)
        if window.function in {"lag", "lead"}:
            assert window.number is not None  # noqa: S101
            offset = window.number if window.function == "lag" else -window.number
            return frame.with_columns(over(_column(window).shift(offset)).alias(window.name))
        if window.function in {"sum", "count"}:
            return self._running_sum(frame, window)
        return self._running(frame, window)

    def _row_number(self, frame: pl.LazyFrame, window: Window) -> pl.LazyFrame:
        one = self._fresh()
        return (
            frame.with_columns(pl.lit(1, dtype=pl.Int64).alias(one))
            .with_columns(_over(window)(pl.col(one).cum_sum()).alias(window.name))
            .drop(one)
        )

    def _rank(self, frame: pl.LazyFrame, window: Window) -> pl.LazyFrame:
        numbered = self._row_number(frame, window)
        ties = [*window.keys, *(one.name for one in window.order)]
        return numbered.with_columns(pl.col(window.name).min().over(ties))

    def _count_rows(self, frame: pl.LazyFrame, window: Window) -> pl.LazyFrame:
        if window.order:
            return self._row_number(frame, window)
        return frame.with_columns(_over(window)(pl.len()).cast(pl.Int64).alias(window.name))

    def _ntile(self, frame: pl.LazyFrame, window: Window) -> pl.LazyFrame:
        """Buckets of like size, the larger ones first."""
        assert window.number is not None  # noqa: S101
        place, rows = self._fresh(), self._fresh()
        numbered = self._row_number(
            frame, Window(place, "row_number", None, window.keys, window.order, window.kind)
        )
        total = Window(rows, "count_rows", None, window.keys, (), window.kind)
        counted = self._count_rows(numbered, total)
        small, large = pl.col(rows) // window.number, pl.col(rows) % window.number
        in_large = large * (small + 1)
        # Where there are fewer rows than buckets, every row is in a large one: the other divisor is made up.
        divisor = pl.when(small > 0).then(small).otherwise(1)
        before = pl.col(place) - 1
        bucket = (
            pl.when(before < in_large)
            .then(before // (small + 1) + 1)
            .otherwise(large + (before - in_large) // divisor + 1)
        )
        return counted.with_columns(bucket.alias(window.name)).drop(place, rows)

    def _running_sum(self, frame: pl.LazyFrame, window: Window) -> pl.LazyFrame:
        """A sum or count of values, NULL passed over; the sum of none is NULL."""
        filled, there, number = self._fresh(), self._fresh(), self._fresh()
        zero = pl.lit(0).cast(polars_type(window.kind))
        value = _column(window)
        prepared = frame.with_columns(
            value.is_not_null().cast(pl.Int64).alias(there),
            *([] if window.function == "count" else [value.fill_null(zero).alias(filled)]),
        )
        over = _over(window)
        counted = prepared.with_columns(over(_run(pl.col(there), window)).alias(number))
        if window.function == "count":
            return counted.with_columns(pl.col(number).alias(window.name)).drop(there, number)
        summed = counted.with_columns(over(_run(pl.col(filled), window)).alias(filled))
        result = pl.when(pl.col(number) > 0).then(pl.col(filled)).alias(window.name)
        return summed.with_columns(result).drop(filled, there, number)

    def _running(self, frame: pl.LazyFrame, window: Window) -> pl.LazyFrame:
        """A minimum, maximum or average."""
        over, value = _over(window), _column(window)
        if not window.order:
            whole = {"min": value.min, "max": value.max, "avg": value.mean}[window.function]
            return frame.with_columns(over(whole()).alias(window.name))
        rows = _ALL_ROWS if window.number is None else window.number + 1
        if window.function == "avg":
            if window.number is None:
                return self._running_average(frame, window)
            return frame.with_columns(over(value.rolling_mean(rows, min_samples=1)).alias(window.name))
        # cudf-polars has no cum_max within over(), and no rolling of dates
        is_date = window.kind.name == "date"
        plain = self._fresh()
        prepared = frame.with_columns(
            value.cast(pl.Int32 if is_date else polars_type(window.kind)).alias(plain)
        )
        column = pl.col(plain)
        rolled = (
            column.rolling_min(rows, min_samples=1)
            if window.function == "min"
            else column.rolling_max(rows, min_samples=1)
        )
        found = prepared.with_columns(over(rolled).alias(plain))
        result = pl.col(plain).cast(pl.Int32).cast(pl.Date) if is_date else pl.col(plain)
        return found.with_columns(result.alias(window.name)).drop(plain)

    def _running_average(self, frame: pl.LazyFrame, window: Window) -> pl.LazyFrame:
        total, number = self._fresh(), self._fresh()
        value = self._fresh()
        assert window.column is not None  # noqa: S101
        prepared = frame.with_columns(_column(window).cast(pl.Float64).alias(value))
        source = type(window.column)(value, window.kind)
        summed = self._running_sum(
            prepared, Window(total, "sum", source, window.keys, window.order, window.kind)
        )
        counted = self._running_sum(
            summed, Window(number, "count", source, window.keys, window.order, window.kind)
        )
        return counted.with_columns((pl.col(total) / pl.col(number)).alias(window.name)).drop(
            total, number, value
        )

    # -- rows out of rows

    def _unnest(self, node: Unnest) -> pl.LazyFrame:
        frame = self.make(node.input).filter(pl.col(node.column).is_not_null())
        if node.place is None:
            return frame.explode(node.column, empty_as_null=False, keep_nulls=True)
        row = self._fresh()
        spread = frame.with_row_index(row).explode(node.column, empty_as_null=False, keep_nulls=True)
        return (
            spread.with_columns(pl.lit(1, dtype=pl.Int64).alias(node.place))
            .with_columns(pl.col(node.place).cum_sum().over(row))
            .drop(row)
        )

    def _days(self, node: Days) -> pl.LazyFrame:
        """Each day between two dates; `date_ranges` does not run on the GPU, cross joins and filters do."""
        start, span, thousands, ones = (self._fresh() for _ in range(4))
        first, last = (pl.col(name).cast(pl.Int32).cast(pl.Int64) for name in (node.first, node.last))
        step = pl.col(thousands) * (1000 * node.step)
        bounded = self.make(node.input).with_columns(first.alias(start), (last - first).alias(span))
        coarse = self._cross(bounded, _counting(thousands, _THOUSANDS)).filter(step <= pl.col(span))
        frame = self._cross(coarse, _counting(ones, 1000))
        past = step + pl.col(ones) * node.step
        kept = frame.filter(past <= pl.col(span))
        return kept.with_columns(as_date(pl.col(start) + past).alias(node.name)).select(list(node.schema))


def _counting(name: str, number: int) -> pl.LazyFrame:
    return pl.LazyFrame({name: range(number)}, schema={name: pl.Int64})


def _column(one: Aggregate | Window) -> pl.Expr:
    column = one.value if isinstance(one, Aggregate) else one.column
    assert column is not None  # noqa: S101  the reader gives all but count_rows one
    return pl.col(column.name)  # type: ignore[union-attr]


def _aggregate(one: Aggregate) -> pl.Expr:
    if one.function == "count_rows":
        return pl.len().cast(pl.Int64)
    column = _column(one)
    if one.function == "quantile":
        return column.quantile(one.quantile, "linear")
    made: Mapping[str, Callable[[], pl.Expr]] = {
        "count": lambda: column.count().cast(pl.Int64),
        "count_distinct": lambda: column.drop_nulls().n_unique().cast(pl.Int64),
        "sum": column.sum,
        "min": column.min,
        "max": column.max,
        "avg": column.mean,
    }
    return made[one.function]()


def _over(window: Window) -> Callable[[pl.Expr], pl.Expr]:
    keys = list(window.keys)
    return (lambda value: value.over(keys)) if keys else (lambda value: value)


def _run(value: pl.Expr, window: Window) -> pl.Expr:
    """A sum over the window's rows, of values that are never NULL."""
    if not window.order:
        return value.sum()
    return value.cum_sum() if window.number is None else value.rolling_sum(window.number + 1, min_samples=1)


_PLACES: Final[dict[str, Callable[[PolarsPlan, pl.LazyFrame, Window], pl.LazyFrame]]] = {
    "row_number": PolarsPlan._row_number,
    "rank": PolarsPlan._rank,
    "ntile": PolarsPlan._ntile,
    "count_rows": PolarsPlan._count_rows,
}

_METHODS: Final[dict[type, Callable[[PolarsPlan, Any], pl.LazyFrame]]] = {
    Scan: PolarsPlan._scan,
    Project: PolarsPlan._project,
    Filter: PolarsPlan._filter,
    Join: PolarsPlan._join,
    Distinct: PolarsPlan._distinct,
    UnionAll: PolarsPlan._union,
    Group: PolarsPlan._group,
    Windows: PolarsPlan._windows,
    Unnest: PolarsPlan._unnest,
    Days: PolarsPlan._days,
}
