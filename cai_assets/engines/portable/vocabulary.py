"""Which constructs of SQL there are in the portable part, with which arguments, and how to write the others.

It looks at the parsed text alone: kinds of values and what stands beside what are judged when it is read into
a plan (`selects`, `expressions`). An argument that is not named here is refused, so none is ever dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from cai_assets.failures import PermanentError


@dataclass(frozen=True)
class Refusal:
    """A construct outside the portable part.

    Attributes:
        construct: what it is, as it stands in the text.
        mend: the way to write it.
    """

    construct: str
    mend: str

    def __str__(self) -> str:
        """Both, for people."""
        return f"{self.construct}: {self.mend}"


class NotPortable(PermanentError):  # noqa: N818  the other engines' word for it
    """A model is outside the portable part; the message names file, constructs and the way to write them.

    Attributes:
        file: the model's.
        refusals: what is outside.
    """

    def __init__(self, file: str, refusals: list[Refusal]) -> None:
        super().__init__(f"{file}: " + "; ".join(str(refusal) for refusal in refusals))
        self.file = file
        self.refusals = refusals

    def __reduce__(self) -> tuple[type["NotPortable"], tuple[str, list[Refusal]]]:
        """As an exception of two arguments: it may come from another process."""
        return NotPortable, (self.file, self.refusals)


_BINARY = {"this", "expression"}
_ONE = {"this"}

ALLOWED: Final[dict[type[exp.Expr], frozenset[str]]] = {
    node: frozenset(arguments)
    for node, arguments in {
        # -- queries
        exp.Select: {"with_", "expressions", "from_", "joins", "where", "group", "distinct", "order"},
        exp.Union: {"with_", "this", "expression"},
        exp.Subquery: {"this", "alias"},
        exp.With: {"expressions"},
        exp.CTE: {"this", "alias"},
        exp.From: _ONE,
        exp.Table: {"this", "db", "alias"},
        exp.TableAlias: {"this", "columns"},
        exp.Join: {"this", "on", "side", "kind"},
        exp.Where: _ONE,
        exp.Group: {"expressions"},
        exp.Distinct: {"expressions"},
        exp.Order: {"expressions"},
        exp.Ordered: {"this", "desc"},
        exp.Unnest: {"expressions", "alias", "offset"},
        exp.Explode: _ONE,
        exp.GenerateSeries: {"start", "end", "step"},
        exp.Interval: {"this", "unit"},
        # -- names and constants
        exp.Identifier: {"this", "quoted"},
        exp.Column: {"this", "table"},
        exp.Star: set(),
        exp.Alias: {"this", "alias"},
        exp.Literal: {"this", "is_string"},
        exp.Boolean: _ONE,
        exp.Null: set(),
        exp.Placeholder: _ONE,
        exp.Var: _ONE,
        exp.DataType: {"this", "expressions"},
        exp.DataTypeParam: _ONE,
        # -- operators
        exp.Paren: _ONE,
        exp.And: _BINARY,
        exp.Or: _BINARY,
        exp.Not: _ONE,
        exp.Is: _BINARY,
        exp.In: {"this", "expressions"},
        exp.Between: {"this", "low", "high"},
        exp.EQ: _BINARY,
        exp.NEQ: _BINARY,
        exp.GT: _BINARY,
        exp.GTE: _BINARY,
        exp.LT: _BINARY,
        exp.LTE: _BINARY,
        exp.Add: _BINARY,
        exp.Sub: _BINARY,
        exp.Mul: _BINARY,
        exp.Div: _BINARY,
        exp.IntDiv: _BINARY,
        exp.Mod: _BINARY,
        exp.Neg: _ONE,
        exp.DPipe: {"this", "expression", "safe"},
        # -- functions
        exp.Case: {"ifs", "default"},
        exp.If: {"this", "true"},
        exp.Cast: {"this", "to"},
        exp.Coalesce: {"this", "expressions"},
        exp.Nullif: _BINARY,
        exp.Lower: _ONE,
        exp.Length: _ONE,
        exp.SplitPart: {"this", "delimiter", "part_index"},
        exp.Abs: _ONE,
        exp.Floor: _ONE,
        exp.Ln: _ONE,
        exp.Sqrt: _ONE,
        exp.TimeToStr: {"this", "format"},
        exp.TimestampTrunc: {"this", "unit"},
        exp.DateTrunc: {"this", "unit"},
        exp.DateDiff: {"this", "expression", "unit", "date_part_boundary"},
        exp.Extract: _BINARY,
        exp.AtTimeZone: {"this", "zone"},
        exp.StructExtract: _BINARY,
        exp.Anonymous: {"this", "expressions"},
        # -- aggregates and windows
        exp.Count: {"this", "big_int"},
        exp.Sum: _ONE,
        exp.Min: _ONE,
        exp.Max: _ONE,
        exp.Avg: _ONE,
        exp.PercentileCont: _BINARY,
        exp.Window: {"this", "partition_by", "order", "spec", "over"},
        exp.WindowSpec: {"kind", "start", "start_side", "end"},
        exp.RowNumber: set(),
        exp.Rank: set(),
        exp.Ntile: _ONE,
        exp.Lag: {"this", "offset"},
        exp.Lead: {"this", "offset"},
    }.items()
}
"""Every construct with the arguments that are understood."""

FUNCTIONS: Final = frozenset({"epoch_us"})
"""Functions that the parser knows by name alone."""

CLOCK_AND_TEXT: Final = (exp.AtTimeZone, exp.Extract, exp.Lower, exp.Length, exp.SplitPart, exp.StructExtract)
"""What only a query over the lake may use: engines differ in clocks, zones and texts."""

_MENDS: Final[dict[type[exp.Expr], str]] = {
    exp.Filter: "aggregate a case: sum(case when ... then 1 else 0 end)",
    exp.Qualify: "number the rows in a CTE and filter them in the next",
    exp.Having: "group in a CTE and filter in the next with where",
    exp.Limit: "rank the rows with row_number() and keep place <= n",
    exp.Offset: "rank the rows with row_number() and keep place > n",
    exp.Lateral: "join a CTE instead",
    exp.Greatest: "case when a >= b then a else b end, with NULLs told apart (DuckDB passes over them)",
    exp.Least: "case when a <= b then a else b end, with NULLs told apart (DuckDB passes over them)",
    exp.Mode: "count by value in a CTE, and take row_number() = 1 over (order by n desc, value)",
    exp.ArgMax: "rank with row_number() over (partition by ... order by ... desc, key) and join place = 1",
    exp.ArgMin: "rank with row_number() over (partition by ... order by ..., key) and join place = 1",
    exp.AnyValue: "min(...) or max(...): which of the values it takes differs",
    exp.First: "rank with row_number() and take place = 1",
    exp.Last: "rank with row_number() and take place = 1",
    exp.FirstValue: "lag(), or row_number() and a join on place = 1",
    exp.LastValue: "lead(), or row_number() and a join on place = 1",
    exp.ArrayAgg: "keep the rows; a list's order differs",
    exp.GroupConcat: "keep the rows; the order of the texts differs",
    exp.Median: "quantile_cont(x, 0.5)",
    exp.Quantile: "quantile_cont(x, 0.5), a number and no list",
    exp.LogicalOr: "max(case when ... then 1 else 0 end) = 1",
    exp.LogicalAnd: "min(case when ... then 1 else 0 end) = 1",
    exp.Stddev: "sqrt of avg(x * x) - avg(x) * avg(x)",
    exp.StddevPop: "sqrt of avg(x * x) - avg(x) * avg(x)",
    exp.StddevSamp: "sqrt of avg(x * x) - avg(x) * avg(x), times n / (n - 1)",
    exp.DenseRank: "row_number() over the distinct values in a CTE, joined",
    exp.PercentRank: "(rank() over (...) - 1) / (count(*) over (...) - 1)",
    exp.Round: "keep the digits, or cast(floor(x + 5e-1) as bigint): halves are rounded differently",
    exp.Ceil: "-floor(-x)",
    exp.Pow: "x * x: powers differ in their last digits",
    exp.TryCast: "cast(...): a text that is no number belongs to quarantine",
    exp.Like: "a column computed in staging: patterns differ",
    exp.ILike: "a column computed in staging: patterns differ",
    exp.RegexpLike: "a column computed in staging: patterns differ",
    exp.RegexpReplace: "a column computed in staging: patterns differ",
    exp.RegexpExtract: "a column computed in staging: patterns differ",
    exp.RegexpExtractAll: "a model of DuckDB alone: DUCKDB_ALONE in engines/models.py",
    exp.Exists: "left join a CTE of distinct keys and test for NULL",
    exp.NullSafeEQ: "a = b or (a is null and b is null)",
    exp.NullSafeNEQ: "coalesce(a <> b, true), where both are not NULL at once",
    exp.CurrentDate: "$as_of_us: no model reads the clock",
    exp.CurrentTimestamp: "$as_of_us: no model reads the clock",
    exp.Rand: "nothing: a result that differs from run to run",
    exp.DayOfWeek: "extract(isodow from x)",
    exp.DayOfWeekIso: "extract(isodow from x)",
    exp.Year: "extract(year from x)",
    exp.Month: "extract(month from x)",
    exp.Day: "extract(day from x)",
    exp.TimestampDiff: "instants in microseconds, subtracted",
    exp.DateAdd: "a date spine, or a join on the day",
    exp.DateSub: "a date spine, or a join on the day",
    exp.Concat: "a || b, which is NULL where one is",
    exp.Upper: "lower(...)",
    exp.Substring: "split_part(...), or a column computed in staging",
    exp.Trim: "a column computed in staging",
    exp.Lambda: "unnest the list and group",
    exp.Array: "rows: union all",
    exp.Struct: "columns",
    exp.Dot: "struct_extract(x, 'field')",
    exp.Bracket: "unnest the list with its place",
    exp.IgnoreNulls: "a case before the aggregate or window",
    exp.RespectNulls: "leave it out: it is the default",
    exp.WithinGroup: "quantile_cont(x, 0.5)",
    exp.Intersect: "an inner join on the keys",
    exp.Except: "a left join, and where the key is null",
    exp.Pivot: "sum(case ...) for each column",
    exp.Tuple: "one condition for each column, joined by and",
    exp.Values: "select ... union all select ...",
    exp.Xor: "a <> b",
}

_ARGUMENT_MENDS: Final[dict[tuple[type[exp.Expr], str], str]] = {
    (exp.Select, "having"): _MENDS[exp.Having],
    (exp.Select, "qualify"): _MENDS[exp.Qualify],
    (exp.Select, "limit"): _MENDS[exp.Limit],
    (exp.Select, "offset"): _MENDS[exp.Offset],
    (exp.Select, "windows"): "write the window where it is used",
    (exp.Select, "laterals"): "join a CTE instead",
    (exp.Union, "distinct"): "union all, then select distinct",
    (exp.Union, "by_name"): "the same columns in the same order",
    (exp.Join, "using"): "on a.key = b.key",
    (exp.Join, "method"): "an equality of plain columns: join on the day and rank with row_number()",
    (exp.Group, "all"): "name the columns",
    (exp.Distinct, "on"): "row_number() over (...) in a CTE, and place = 1",
    (exp.Group, "rollup"): "one select for each level, union all",
    (exp.Group, "cube"): "one select for each level, union all",
    (exp.Group, "grouping_sets"): "one select for each level, union all",
    (exp.Star, "except_"): "name the columns",
    (exp.Star, "replace"): "name the columns",
    (exp.Case, "this"): "case when x = ... then ...",
    (exp.In, "query"): "inner join a CTE of distinct keys",
    (exp.In, "unnest"): "unnest the list and join",
    (exp.Ordered, "nulls_first"): "order by case when x is null then 0 else 1 end, x: nulls come last",
    (exp.Lag, "default"): "coalesce(lag(x) over (...), ...), where x is never NULL",
    (exp.Lead, "default"): "coalesce(lead(x) over (...), ...), where x is never NULL",
    (exp.If, "false"): "case when ... then ... else ... end",
    (exp.WindowSpec, "end_side"): "rows between ... preceding and current row",
    (exp.Table, "sample"): "all rows",
    (exp.With, "recursive"): "a date spine, or a fixed number of joins",
}

_NAMED_MENDS: Final = {
    **dict.fromkeys(("now", "today", "transaction_timestamp"), _MENDS[exp.CurrentTimestamp]),
    **dict.fromkeys(("hash", "md5_number"), "the key itself: hashes differ"),
    "epoch": "epoch_us(instant), where the lake is read",
    "epoch_ms": "epoch_us(instant), where the lake is read",
    "list_sort": _MENDS[exp.Lambda],
    "len": "unnest the list and count",
}

_ELSEWHERE = "compute it in staging, or write it with what docs/engines.md lists"


def _given(node: exp.Expr) -> set[str]:
    return {name for name, value in node.args.items() if value not in (None, False, [])}


def foreign(tree: exp.Expr) -> Iterator[Refusal]:
    """Everything in a parsed text that is outside the vocabulary, each construct once."""
    told: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        found = list(_foreign(node))
        for refusal in found:
            if str(refusal) not in told:
                told.add(str(refusal))
                yield refusal
        # what is inside of something refused needs no word of its own
        if found and type(node) not in ALLOWED and not isinstance(node, exp.IgnoreNulls | exp.RespectNulls):
            continue
        passed_over = _given(node) - ALLOWED[type(node)] if found and type(node) in ALLOWED else set()
        for name, value in node.args.items():
            if name not in passed_over:
                waiting += [one for one in _as_list(value) if isinstance(one, exp.Expr)]


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def shown(node: exp.Expr) -> str:
    """A construct as it stands in the text, on one line and short."""
    text = " ".join(node.sql(dialect="duckdb", comments=False).split())
    return f"`{text[:77]}...`" if len(text) > 80 else f"`{text}`"


def _foreign(node: exp.Expr) -> Iterator[Refusal]:
    kind = type(node)
    allowed = ALLOWED.get(kind)
    if allowed is None:
        yield Refusal(shown(node), _MENDS.get(kind, _ELSEWHERE))
        return
    if kind is exp.Anonymous and node.name.lower() not in FUNCTIONS:
        yield Refusal(shown(node), _NAMED_MENDS.get(node.name.lower(), _ELSEWHERE))
    if kind is exp.If and not isinstance(node.parent, exp.Case):
        yield Refusal(shown(node), _ARGUMENT_MENDS[exp.If, "false"])
    if kind is exp.Boolean or kind is exp.Identifier:
        return
    for argument in sorted(_given(node) - allowed):
        mend = _ARGUMENT_MENDS.get((kind, argument), _ELSEWHERE)
        yield Refusal(f"{argument.strip('_').upper()} in {shown(node)}", mend)
