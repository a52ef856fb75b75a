"""Reading an expression of SQL: what it is made of, of which kind it is, and where two engines would differ.

Columns, aggregates and windows are looked up by whoever reads the query (`selects`), functions of texts and
dates are read in `moments`, and the vocabulary was judged before. Every method here either understands a node
whole or refuses it.
"""

from collections.abc import Callable
from typing import Final

from sqlglot import exp

from cai_assets.engines.portable.fitting import Refused, fitted, refuse_points, sure
from cai_assets.engines.portable.kinds import (
    BOOL,
    DATE,
    FLOAT,
    INT,
    LOCAL,
    MONEY,
    NULL,
    TEXT,
    Kind,
    common,
)
from cai_assets.engines.portable.moments import MOMENTS, truncated
from cai_assets.engines.portable.plan import Call, Expr, Lit, Param

OPERATIONS: Final = frozenset(
    {
        *("and", "or", "not", "is_null", "eq", "ne", "lt", "le", "gt", "ge"),
        *("add", "sub", "mul", "div", "int_div", "mod", "neg", "abs", "floor", "ln", "sqrt"),
        *("case", "coalesce", "null_if", "concat", "lower", "length", "split_part"),
        *("int_to_float", "int_to_text", "int_to_money", "bool_to_int", "floor_to_int", "money_to_float"),
        *("null_to", "text_to_date", "local_to_date", "rescale"),
        *("epoch_us", "at_zone", "year", "month", "day", "hour", "isodow"),
        *("format_date", "week", "month_start", "days_between", "months_between", "field"),
    }
)
"""Names of all operations; each engine has an entry for each."""

TEXT_PARAMETERS: Final = frozenset({"report_timezone"})
_TYPES: Final = {"BIGINT": INT, "DOUBLE": FLOAT, "VARCHAR": TEXT, "TEXT": TEXT, "DATE": DATE, "BOOLEAN": BOOL}
_TYPE_NAMES: Final = "bigint, double, varchar, date, boolean or decimal(18, 8)"


Resolve = Callable[[exp.Column], Expr]
Special = Callable[[exp.Expr], Expr | None]


class ExpressionReader:
    """Reads the expressions of one SELECT."""

    def __init__(self, resolve: Resolve, special: Special) -> None:
        """Make a reader.

        Args:
            resolve: gives the column that a name stands for.
            special: asked first for each node: gives a column that was already computed (an aggregate, a
                window), or None.
        """
        self._resolve = resolve
        self._special = special

    def read(self, node: exp.Expr) -> Expr:
        """The expression.

        Raises:
            Refused: naming the construct and the way to write it.
        """
        found = self._special(node)
        if found is not None:
            return found
        method = _READERS.get(type(node))
        if method is None:
            raise Refused(node, "it cannot stand here")
        return method(self, node)

    def read_bool(self, node: exp.Expr) -> Expr:
        """A condition."""
        return self.read_as(node, BOOL, "write a condition: x = ..., x is null, a boolean column")

    def read_as(self, node: exp.Expr, kind: Kind, mend: str) -> Expr:
        """The expression as that kind.

        Raises:
            Refused: it is of another kind; with that mend.
        """
        value = fitted(self.read(node), kind)
        if value is None:
            raise Refused(node, mend)
        return value

    # -- constants and names

    def _column(self, node: exp.Column) -> Expr:
        return self._resolve(node)

    def _paren(self, node: exp.Paren) -> Expr:
        return self.read(node.this)

    def _literal(self, node: exp.Literal) -> Expr:
        if node.is_string:
            return Lit(str(node.this), TEXT)
        text = str(node.this).lower()
        if text.isdigit():
            if int(text) >= 2**63:
                raise Refused(node, "an integer of 64 bits at most")
            return Lit(int(text), INT)
        return Lit(float(text), FLOAT, is_point="e" not in text)

    def _boolean(self, node: exp.Boolean) -> Expr:
        return Lit(bool(node.this), BOOL)

    def _null(self, _: exp.Null) -> Expr:
        return Lit(None, NULL)

    def _placeholder(self, node: exp.Placeholder) -> Expr:
        return Param(node.name, TEXT if node.name in TEXT_PARAMETERS else INT)

    # -- conditions

    def _logic(self, node: exp.Binary) -> Expr:
        op = "and" if isinstance(node, exp.And) else "or"
        return Call(op, (self.read_bool(node.this), self.read_bool(node.expression)), BOOL)

    def _not(self, node: exp.Not) -> Expr:
        return Call("not", (self.read_bool(node.this),), BOOL)

    def _is(self, node: exp.Is) -> Expr:
        if not isinstance(node.expression, exp.Null):
            raise Refused(node, "coalesce(x, false), or x is null")
        return Call("is_null", (self.read(node.this),), BOOL)

    def _compare(self, node: exp.Binary) -> Expr:
        return self._compared(
            _COMPARISONS[type(node)], node, self.read(node.this), self.read(node.expression)
        )

    def _compared(self, op: str, node: exp.Expr, left: Expr, right: Expr) -> Expr:
        kind = common([left.kind, right.kind])
        if kind is None or kind.name in {"list", "struct", "null"}:
            raise Refused(node, f"compare like with like: here {left.kind} with {right.kind}")
        if kind == LOCAL:
            raise Refused(node, "compare instants in microseconds, or cast(... as date)")
        if kind == BOOL and op not in {"eq", "ne"}:
            raise Refused(node, "booleans have no order: case when ... then 1 else 0 end")
        refuse_points(node, left, right)
        return Call(op, (sure(left, kind), sure(right, kind)), BOOL)

    def _in(self, node: exp.In) -> Expr:
        value = self.read(node.this)
        options = [self.read(option) for option in node.expressions]
        if not options or not all(isinstance(option, Lit) and option.value is not None for option in options):
            raise Refused(node, "list constants, or inner join a CTE")
        found: Expr | None = None
        for option in options:
            one = self._compared("eq", node, value, option)
            found = one if found is None else Call("or", (found, one), BOOL)
        assert found is not None  # noqa: S101  there is an option
        return found

    def _between(self, node: exp.Between) -> Expr:
        value = self.read(node.this)
        low = self._compared("ge", node, value, self.read(node.args["low"]))
        high = self._compared("le", node, value, self.read(node.args["high"]))
        return Call("and", (low, high), BOOL)

    # -- numbers

    def _reckon(self, node: exp.Binary) -> Expr:
        op = {exp.Add: "add", exp.Sub: "sub", exp.Mul: "mul"}[type(node)]
        left, right = self.read(node.this), self.read(node.expression)
        kind = common([left.kind, right.kind])
        if kind is None or not kind.is_number or kind == NULL:
            mend = "date_diff('day', a, b), or a date spine" if DATE in (left.kind, right.kind) else _NUMBERS
            raise Refused(node, mend)
        if kind.name == "decimal" and op == "mul":
            raise Refused(node, "cast(x as double) * ...: products of decimals are rounded differently")
        refuse_points(node, left, right)
        return Call(op, (sure(left, kind), sure(right, kind)), kind)

    def _div(self, node: exp.Div) -> Expr:
        sides = [self.read(node.this), self.read(node.expression)]
        if not all(side.kind in (INT, FLOAT) for side in sides):
            raise Refused(node, "cast(x as double) / ...: quotients of decimals are rounded differently")
        left, right = (sure(side, FLOAT) for side in sides)
        return Call("div", (left, right), FLOAT)

    def _whole(self, node: exp.Binary) -> Expr:
        op = "int_div" if isinstance(node, exp.IntDiv) else "mod"
        left, right = self.read(node.this), self.read(node.expression)
        if left.kind != INT or right.kind != INT:
            raise Refused(node, "cast(floor(a / b) as bigint), or integers on both sides")
        if not (isinstance(right, Lit) and isinstance(right.value, int) and right.value > 0):
            raise Refused(node, "a positive constant as divisor, or case when b > 0 then floor(a / b) end")
        return Call(op, (left, right), INT)

    def _neg(self, node: exp.Neg) -> Expr:
        value = self.read(node.this)
        if isinstance(value, Lit) and isinstance(value.value, int | float) and value.kind != BOOL:
            return Lit(-value.value, value.kind, value.is_point)
        if value.kind not in (INT, FLOAT):
            raise Refused(node, _NUMBERS)
        return Call("neg", (value,), value.kind)

    def _abs(self, node: exp.Abs) -> Expr:
        value = self.read(node.this)
        if value.kind not in (INT, FLOAT):
            raise Refused(node, _NUMBERS)
        return Call("abs", (value,), value.kind)

    def _math(self, node: exp.Func) -> Expr:
        op = {exp.Floor: "floor", exp.Ln: "ln", exp.Sqrt: "sqrt"}[type(node)]
        return Call(op, (self.read_as(node.this, FLOAT, _NUMBERS),), FLOAT)

    # -- choices

    def _case(self, node: exp.Case) -> Expr:
        conditions = [self.read_bool(branch.this) for branch in node.args["ifs"]]
        results = [self.read(branch.args["true"]) for branch in node.args["ifs"]]
        default = node.args.get("default")
        results.append(self.read(default) if default is not None else Lit(None, NULL))
        kind = self._alike(node, results)
        values = [sure(result, kind) for result in results]
        args = [part for pair in zip(conditions, values[:-1], strict=True) for part in pair]
        return Call("case", (*args, values[-1]), kind)

    def _coalesce(self, node: exp.Coalesce) -> Expr:
        values = [self.read(value) for value in (node.this, *node.expressions)]
        kind = self._alike(node, values)
        return Call("coalesce", tuple(sure(value, kind) for value in values), kind)

    def _alike(self, node: exp.Expr, values: list[Expr]) -> Kind:
        kind = common([value.kind for value in values])
        if kind is None:
            kinds = ", ".join(dict.fromkeys(str(value.kind) for value in values))
            raise Refused(node, f"values of one kind (here {kinds}): cast them")
        if kind == NULL:
            raise Refused(node, "cast(null as bigint): NULL alone has no kind")
        if kind != FLOAT:
            return kind
        if all(isinstance(value, Lit) and value.is_point for value in values if value.kind == FLOAT):
            raise Refused(
                node, "numbers with an exponent (5e-1): with a point alone they are decimals elsewhere"
            )
        return kind

    def _null_if(self, node: exp.Nullif) -> Expr:
        left, right = self.read(node.this), self.read(node.expression)
        same = self._compared("eq", node, left, right)
        return Call("null_if", (left, same), left.kind)

    # -- casts

    def _cast(self, node: exp.Cast) -> Expr:
        target = self._target(node)
        if target == DATE and isinstance(node.this, exp.TimestampTrunc | exp.DateTrunc):
            return truncated(self, node.this)
        value = self.read(node.this)
        converted = fitted(value, target)
        if converted is not None:
            return converted
        op = _CASTS.get((value.kind.name, target.name))
        if op == "floor_to_int" and not (isinstance(value, Call) and value.op == "floor"):
            raise Refused(node, "cast(floor(x) as bigint): casts round differently")
        if op is None:
            mend = _CAST_MENDS.get((value.kind.name, target.name), f"no engine-neutral cast of {value.kind}")
            raise Refused(node, mend)
        return Call(op, (value,), target)

    def _target(self, node: exp.Cast) -> Kind:
        name = node.to.sql(dialect="duckdb").upper()
        if name == "DECIMAL(18, 8)":
            return MONEY
        if name not in _TYPES:
            raise Refused(node, f"cast to {_TYPE_NAMES}")
        return _TYPES[name]

    # -- structs

    def _field(self, node: exp.StructExtract) -> Expr:
        value, name = self.read(node.this), self.read(node.expression)
        fields = dict(value.kind.fields)
        if not isinstance(name, Lit) or name.value not in fields:
            raise Refused(node, f"one of the fields {', '.join(fields) or '(this is no struct)'}")
        return Call("field", (value, name), fields[str(name.value)])


_NUMBERS: Final = "numbers: cast what is none"
_COMPARISONS: Final[dict[type[exp.Expr], str]] = {
    exp.EQ: "eq",
    exp.NEQ: "ne",
    exp.LT: "lt",
    exp.LTE: "le",
    exp.GT: "gt",
    exp.GTE: "ge",
}
_CASTS: Final = {
    ("int", "float"): "int_to_float",
    ("int", "text"): "int_to_text",
    ("int", "decimal"): "int_to_money",
    ("float", "int"): "floor_to_int",
    ("decimal", "float"): "money_to_float",
    ("decimal", "decimal"): "rescale",
    ("bool", "int"): "bool_to_int",
    ("text", "date"): "text_to_date",
    ("local", "date"): "local_to_date",
}
_CAST_MENDS: Final = {
    ("date", "text"): "strftime(x, '%Y-%m-%d')",
    ("float", "text"): "keep the number: texts of floats differ",
    ("instant", "date"): "cast(x at time zone $report_timezone as date)",
    ("int", "bool"): "x <> 0",
    ("text", "int"): "a column computed in staging: what counts as a number differs",
    ("text", "float"): "a column computed in staging: what counts as a number differs",
    ("float", "decimal"): "money as decimal from the source on: floats are rounded differently",
    ("int", "date"): "a date spine",
}

_READERS: Final[dict[type[exp.Expr], Callable[..., Expr]]] = {
    exp.Column: ExpressionReader._column,
    exp.Paren: ExpressionReader._paren,
    exp.Literal: ExpressionReader._literal,
    exp.Boolean: ExpressionReader._boolean,
    exp.Null: ExpressionReader._null,
    exp.Placeholder: ExpressionReader._placeholder,
    exp.And: ExpressionReader._logic,
    exp.Or: ExpressionReader._logic,
    exp.Not: ExpressionReader._not,
    exp.Is: ExpressionReader._is,
    exp.In: ExpressionReader._in,
    exp.Between: ExpressionReader._between,
    **dict.fromkeys(_COMPARISONS, ExpressionReader._compare),
    exp.Add: ExpressionReader._reckon,
    exp.Sub: ExpressionReader._reckon,
    exp.Mul: ExpressionReader._reckon,
    exp.Div: ExpressionReader._div,
    exp.IntDiv: ExpressionReader._whole,
    exp.Mod: ExpressionReader._whole,
    exp.Neg: ExpressionReader._neg,
    exp.Abs: ExpressionReader._abs,
    exp.Floor: ExpressionReader._math,
    exp.Ln: ExpressionReader._math,
    exp.Sqrt: ExpressionReader._math,
    exp.Case: ExpressionReader._case,
    exp.Coalesce: ExpressionReader._coalesce,
    exp.Nullif: ExpressionReader._null_if,
    exp.Cast: ExpressionReader._cast,
    **MOMENTS,
    exp.StructExtract: ExpressionReader._field,
}
