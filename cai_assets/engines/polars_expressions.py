"""Expressions of a plan as Polars expressions, in idioms that cudf-polars runs too.

Where Polars and SQL differ the difference is made up for here; docs/engines.md lists them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import polars as pl

from cai_assets.engines.portable.kinds import Kind
from cai_assets.engines.portable.plan import Col, Expr, Lit, Param

MONEY_PRECISION: Final = 18
_SIMPLE: Final[dict[str, Any]] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "text": pl.String(),
    "bool": pl.Boolean(),
    "date": pl.Date(),
    "instant": pl.Datetime("us", "UTC"),
}


def polars_type(kind: Kind) -> Any:
    """Polars' data type of a kind."""
    if kind.name == "decimal":
        return pl.Decimal(MONEY_PRECISION, kind.scale)
    if kind.item is not None:
        return pl.List(polars_type(kind.item))
    if kind.name == "struct":
        return pl.Struct([pl.Field(name, polars_type(field)) for name, field in kind.fields])
    return _SIMPLE[kind.name]


class Expressions:
    """Makes expressions with the values of one run's parameters."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """`parameters` holds a value for each that occurs."""
        self._parameters = parameters

    def make(self, value: Expr) -> pl.Expr:
        """The Polars expression of an expression of a plan."""
        if isinstance(value, Col):
            return pl.col(value.name)
        if isinstance(value, Lit):
            return pl.lit(value.value, dtype=None if value.value is None else polars_type(value.kind))
        if isinstance(value, Param):
            return pl.lit(self._parameters[value.name], dtype=polars_type(value.kind))
        if value.op in _CONSTANTS:
            return _CONSTANTS[value.op](
                self.make(value.args[0]), *(self._constant(a) for a in value.args[1:])
            )
        args = [self.make(arg) for arg in value.args]
        if value.op in _TYPED:
            return _TYPED[value.op](args, polars_type(value.kind))
        return _PLAIN[value.op](*args)

    def _constant(self, value: Expr) -> Any:
        """The value of a literal or parameter."""
        if isinstance(value, Param):
            return self._parameters[value.name]
        assert isinstance(value, Lit)  # noqa: S101  the reader lets nothing else stand there
        return value.value


def _case(args: list[pl.Expr], dtype: Any) -> pl.Expr:
    *branches, default = args
    found: Any = pl
    for condition, result in zip(branches[::2], branches[1::2], strict=True):
        found = found.when(condition).then(result)
    return found.otherwise(default.cast(dtype))


def _int_div(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Towards zero, as in SQL; Polars' own goes down. The divisor is a positive constant."""
    return pl.when(a >= 0).then(a // b).otherwise(-((-a) // b))


def _split_part(value: pl.Expr, by: str, place: int) -> pl.Expr:
    """The part, or an empty text where there are fewer; cudf-polars cannot take items out of lists."""
    part = value.str.split_exact(by, place).struct.field(f"field_{place - 1}")
    return pl.when(value.is_not_null()).then(part.fill_null(""))


def _days(value: pl.Expr) -> pl.Expr:
    """Days since 1970-01-01."""
    return value.cast(pl.Int32).cast(pl.Int64)


def as_date(days: pl.Expr) -> pl.Expr:
    """The date so many days after 1970-01-01."""
    return days.cast(pl.Int32).cast(pl.Date)


def _months(value: pl.Expr) -> pl.Expr:
    return value.dt.year().cast(pl.Int64) * 12 + value.dt.month().cast(pl.Int64)


_PLAIN: Final[dict[str, Callable[..., pl.Expr]]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "not": lambda a: ~a,
    "is_null": lambda a: a.is_null(),
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "int_div": _int_div,
    "mod": lambda a, b: a - _int_div(a, b) * b,
    "neg": lambda a: -a,
    "abs": lambda a: a.abs(),
    "floor": lambda a: a.floor(),
    "ln": lambda a: a.log(),
    "sqrt": lambda a: a.sqrt(),
    "null_if": lambda a, same: pl.when(same.fill_null(value=False)).then(None).otherwise(a),
    "concat": lambda a, b: pl.concat_str([a, b]),
    "lower": lambda a: a.str.to_lowercase(),
    "length": lambda a: a.str.len_chars().cast(pl.Int64),
    "text_to_date": lambda a: a.str.to_date("%Y-%m-%d", cache=False),
    "local_to_date": lambda a: a.dt.date(),
    "epoch_us": lambda a: a.cast(pl.Int64),
    "year": lambda a: a.dt.year().cast(pl.Int64),
    "month": lambda a: a.dt.month().cast(pl.Int64),
    "day": lambda a: a.dt.day().cast(pl.Int64),
    "hour": lambda a: a.dt.hour().cast(pl.Int64),
    "isodow": lambda a: a.dt.weekday().cast(pl.Int64),
    # dt.truncate of weeks and months does not run on the GPU
    "week": lambda a: as_date(_days(a) - a.dt.weekday().cast(pl.Int64) + 1),
    "month_start": lambda a: as_date(_days(a) - a.dt.day().cast(pl.Int64) + 1),
    "days_between": lambda start, end: _days(end) - _days(start),
    "months_between": lambda start, end: _months(end) - _months(start),
}

_TYPED: Final[dict[str, Callable[[list[pl.Expr], Any], pl.Expr]]] = {
    "case": _case,
    "coalesce": lambda args, _: pl.coalesce(args),
    **dict.fromkeys(
        (
            "int_to_float",
            "int_to_text",
            "int_to_money",
            "bool_to_int",
            "floor_to_int",
            "money_to_float",
            "null_to",
            "rescale",
        ),
        lambda args, dtype: args[0].cast(dtype),
    ),
}

_CONSTANTS: Final[dict[str, Callable[..., pl.Expr]]] = {
    "split_part": _split_part,
    "format_date": lambda a, format_: a.dt.to_string(format_),
    # The values stay instants; that they are read in another zone is part of their type.
    "at_zone": lambda a, zone: a.dt.convert_time_zone(zone),
    "field": lambda a, name: a.struct.field(name),
}

KNOWN: Final = frozenset({*_PLAIN, *_TYPED, *_CONSTANTS})
"""Operations that are understood here."""
