"""Reading aggregates and window functions: which there are, over what, in which frame."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from cai_assets.engines.portable.expressions import ExpressionReader
from cai_assets.engines.portable.fitting import Refused
from cai_assets.engines.portable.kinds import FLOAT, INT, Kind
from cai_assets.engines.portable.plan import Aggregate, Col, Expr, Lit, Ordering, Window

_ORDERED: Final = ("int", "float", "decimal", "text", "date")


def read_aggregate(node: exp.Expr, expressions: ExpressionReader, name: str) -> Aggregate:
    """An aggregate of a grouping; its argument is an expression over the rows.

    Args:
        node: the call.
        expressions: reads its argument.
        name: of the result.

    Raises:
        Refused: it is none of the portable ones, or its argument is of another kind.
    """
    if isinstance(node, exp.Count):
        return _count(node, expressions, name)
    if isinstance(node, exp.PercentileCont):
        quantile = expressions.read(node.expression) if node.expression is not None else None
        value = expressions.read(node.this)
        if not isinstance(quantile, Lit) or not isinstance(quantile.value, int | float):
            raise Refused(node, "quantile_cont(x, 0.5), a constant")
        if not 0 <= quantile.value <= 1 or value.kind not in (INT, FLOAT):
            raise Refused(node, "quantile_cont(x, 0.5) of integers or floats, from 0 to 1")
        return Aggregate(name, "quantile", value, FLOAT, float(quantile.value))
    value = expressions.read(node.this)
    function, kind = _function(node, value)
    if function == "sum":
        _as_declared(node, node, kind)
    return Aggregate(name, function, value, kind)


def _count(node: exp.Count, expressions: ExpressionReader, name: str) -> Aggregate:
    if isinstance(node.this, exp.Star):
        return Aggregate(name, "count_rows", None, INT)
    if isinstance(node.this, exp.Distinct):
        if len(node.this.expressions) != 1:
            raise Refused(node, "count(distinct one_column)")
        value = expressions.read(node.this.expressions[0])
        if value.kind.name in {"list", "struct", "float"}:
            raise Refused(node, "count(distinct ...) of integers, texts or dates")
        return Aggregate(name, "count_distinct", value, INT)
    return Aggregate(name, "count", expressions.read(node.this), INT)


def _function(node: exp.Expr, value: Expr) -> tuple[str, Kind]:
    """Name and kind of a sum, minimum, maximum or average."""
    if isinstance(node, exp.Sum):
        if value.kind.name not in {"int", "float", "decimal"}:
            raise Refused(node, "a sum of numbers: sum(case when ... then 1 else 0 end)")
        return "sum", value.kind
    if isinstance(node, exp.Avg):
        if value.kind not in (INT, FLOAT):
            raise Refused(node, "an average of integers or floats: cast(x as double)")
        return "avg", FLOAT
    if isinstance(node, exp.Min | exp.Max):
        if value.kind.name not in _ORDERED:
            raise Refused(node, "numbers, texts or dates: max(case when ... then 1 else 0 end)")
        return ("min" if isinstance(node, exp.Min) else "max"), value.kind
    raise Refused(node, "count, sum, min, max, avg or quantile_cont")


def _as_declared(node: exp.Expr, total: exp.Expr, kind: Kind) -> None:
    """Refuse a sum whose type would be the engine's own: HUGEINT, decimal(38, 8)."""
    wanted = {"int": "BIGINT", "decimal": "DECIMAL(18, 8)"}.get(kind.name)
    parent = total.parent
    if wanted and not (isinstance(parent, exp.Cast) and parent.to.sql(dialect="duckdb").upper() == wanted):
        raise Refused(node, f"cast({'sum(...)'} as {wanted.lower()}): the type of a sum differs")


@dataclass(frozen=True)
class _Frame:
    """Rows before the current one and itself; `rows` None means all of them."""

    rows: int | None


def read_window(
    node: exp.Window, expressions: ExpressionReader, name: str, column: Callable[[Expr], Col]
) -> Window:
    """A window function.

    Args:
        node: the function with its window.
        expressions: reads its arguments.
        name: of the result.
        column: gives the column that an expression is computed to.

    Raises:
        Refused: it is none of the portable ones, lacks an order or a frame, or its argument is of another
            kind.
    """
    keys = []
    for key in node.args.get("partition_by") or []:
        value = expressions.read(key)
        if not isinstance(value, Col):
            raise Refused(node, "partition by plain columns: compute the others in a CTE")
        keys.append(value.name)
    order_node = node.args.get("order")
    order = tuple(
        Ordering(column(_sortable(ordered, expressions)).name, bool(ordered.args.get("desc")))
        for ordered in (order_node.expressions if order_node is not None else ())
    )
    frame = _frame(node)
    function = node.this
    if isinstance(function, exp.RowNumber | exp.Rank | exp.Ntile | exp.Lag | exp.Lead):
        if not order or frame is not None:
            raise Refused(node, "over (partition by ... order by ...), without a frame")
        return _placing(function, expressions, name, column, tuple(keys), order)
    if order and frame is None:
        raise Refused(
            node, "rows between unbounded preceding and current row: the default frame takes ties together"
        )
    if frame is not None and not order:
        raise Refused(node, "order by ... with the frame")
    return _running(node, expressions, name, column, tuple(keys), order, frame)


def _sortable(ordered: exp.Ordered, expressions: ExpressionReader) -> Expr:
    value = expressions.read(ordered.this)
    if value.kind.name not in _ORDERED:
        raise Refused(ordered, "order by numbers, texts or dates")
    return value


def _frame(node: exp.Window) -> _Frame | None:
    spec = node.args.get("spec")
    if spec is None:
        return None
    mend = "rows between unbounded preceding and current row (or 6 preceding)"
    kind, start, side = spec.text("kind"), spec.args.get("start"), spec.args.get("start_side")
    if kind.upper() != "ROWS" or spec.args.get("end") != "CURRENT ROW":
        raise Refused(node, mend)
    if str(side).upper() != "PRECEDING":
        raise Refused(node, mend)
    if start == "UNBOUNDED":
        return _Frame(None)
    if isinstance(start, exp.Literal) and start.name.isdigit():
        return _Frame(int(start.name))
    raise Refused(node, mend)


def _placing(
    function: exp.Expr,
    expressions: ExpressionReader,
    name: str,
    column: Callable[[Expr], Col],
    keys: tuple[str, ...],
    order: tuple[Ordering, ...],
) -> Window:
    if isinstance(function, exp.Lag | exp.Lead):
        offset = function.args.get("offset")
        number = 1 if offset is None else _positive(function, offset)
        value = column(expressions.read(function.this))
        which = "lag" if isinstance(function, exp.Lag) else "lead"
        return Window(name, which, value, keys, order, value.kind, number)
    if isinstance(function, exp.Ntile):
        return Window(name, "ntile", None, keys, order, INT, _positive(function, function.this))
    return Window(name, "rank" if isinstance(function, exp.Rank) else "row_number", None, keys, order, INT)


def _positive(node: exp.Expr, number: exp.Expr) -> int:
    if not isinstance(number, exp.Literal) or not number.name.isdigit() or int(number.name) < 1:
        raise Refused(node, "a positive constant")
    return int(number.name)


def _running(
    node: exp.Window,
    expressions: ExpressionReader,
    name: str,
    column: Callable[[Expr], Col],
    keys: tuple[str, ...],
    order: tuple[Ordering, ...],
    frame: _Frame | None,
) -> Window:
    function = node.this
    rows = frame.rows if frame is not None else None
    if isinstance(function, exp.Count):
        if isinstance(function.this, exp.Star):
            if rows is not None:
                raise Refused(node, "count(x) over (...), of a column that is never NULL")
            return Window(name, "count_rows", None, keys, order, INT)
        if isinstance(function.this, exp.Distinct):
            raise Refused(node, "count the distinct values in a CTE and join it")
        return Window(name, "count", column(expressions.read(function.this)), keys, order, INT, rows)
    value = expressions.read(function.this)
    which, kind = _function(function, value)
    if which == "sum":
        _as_declared(node, node, kind)
    if order and kind.name not in {"int", "float", "date"}:
        raise Refused(node, "running totals of integers, floats or dates")
    return Window(name, which, column(value), keys, order, kind, rows)
