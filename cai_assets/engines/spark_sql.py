"""A plan as one statement of Spark SQL, with the meaning that the portable part gives to each operation.

Only text is made here; sessions, files and results are `spark`'s. The session has to hold time zone UTC and
ANSI mode, as that module sets them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from cai_assets.engines.models import TablePath
from cai_assets.engines.portable.kinds import Kind
from cai_assets.engines.portable.plan import (
    Aggregate,
    Call,
    Col,
    Days,
    Distinct,
    Expr,
    Filter,
    Group,
    Join,
    Lit,
    Node,
    Param,
    Project,
    Scan,
    UnionAll,
    Unnest,
    Window,
    Windows,
)

_TYPES: Final = {
    "int": "bigint",
    "float": "double",
    "text": "string",
    "bool": "boolean",
    "date": "date",
    "instant": "timestamp",
    "local": "timestamp",
}


def spark_type(kind: Kind) -> str:
    """Spark's name of a kind."""
    if kind.name == "decimal":
        return f"decimal(18, {kind.scale})"
    if kind.item is not None:
        return f"array<{spark_type(kind.item)}>"
    if kind.name == "struct":
        return f"struct<{', '.join(f'{quoted(name)}: {spark_type(field)}' for name, field in kind.fields)}>"
    return _TYPES[kind.name]


def quoted(name: str) -> str:
    """A name of a column or view."""
    return "`" + name.replace("`", "``") + "`"


def constant(value: Any, kind: Kind) -> str:
    """A constant as a literal."""
    if value is None:
        return f"cast(null as {spark_type(kind)})"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return f"{value}L" if kind.name == "int" else f"{float(value)!r}D"


class SparkStatement:
    """Writes the statement of a plan for one run."""

    def __init__(self, views: Callable[[TablePath], str], parameters: Mapping[str, Any]) -> None:
        """Name what the run works on.

        Args:
            views: names of the views that hold the inputs.
            parameters: a value for each parameter that occurs.
        """
        self._views = views
        self._parameters = parameters
        self._steps: list[str] = []
        self._names: dict[int, str] = {}

    def write(self, node: Node, order: list[str]) -> str:
        """The whole statement.

        Args:
            node: the plan.
            order: columns that the rows are sorted by, nulls last.
        """
        name = self._step(node)
        steps = ",\n".join(self._steps)
        by = ", ".join(f"{quoted(column)} asc nulls last" for column in order)
        return f"with {steps}\nselect * from {name} order by {by}"

    def _step(self, node: Node) -> str:
        if id(node) not in self._names:
            sql = _METHODS[type(node)](self, node)
            self._names[id(node)] = f"s{len(self._names)}"
            self._steps.append(f"{self._names[id(node)]} as ({sql})")
        return self._names[id(node)]

    # -- nodes

    def _scan(self, node: Scan) -> str:
        columns = ", ".join(
            f"cast({quoted(name)} as {spark_type(kind)}) as {quoted(name)}"
            if kind.name == "int"
            else quoted(name)
            for name, kind in node.schema.items()
        )
        return f"select {columns} from {quoted(self._views(node.path))}"  # noqa: S608

    def _project(self, node: Project) -> str:
        source = self._step(node.input)
        items = ", ".join(f"{self._expr(item.value)} as {quoted(item.name)}" for item in node.items)
        return f"select {items} from {source}"  # noqa: S608

    def _filter(self, node: Filter) -> str:
        return f"select * from {self._step(node.input)} where {self._expr(node.condition)}"  # noqa: S608

    def _join(self, node: Join) -> str:
        left, right = self._step(node.left), self._step(node.right)
        if node.how == "cross":
            return f"select * from {left} cross join {right}"  # noqa: S608
        on = " and ".join(f"{left}.{quoted(a)} = {right}.{quoted(b)}" for a, b in node.keys)
        return f"select * from {left} {node.how} join {right} on {on}"  # noqa: S608

    def _group(self, node: Group) -> str:
        source = self._step(node.input)
        keys = [quoted(name) for name in node.keys]
        items = ", ".join([*keys, *(f"{_aggregate(one)} as {quoted(one.name)}" for one in node.aggregates)])
        by = f" group by {', '.join(keys)}" if keys else ""
        return f"select {items} from {source}{by}"  # noqa: S608

    def _windows(self, node: Windows) -> str:
        source = self._step(node.input)
        items = ", ".join(f"{_window(one)} as {quoted(one.name)}" for one in node.windows)
        return f"select *, {items} from {source}"  # noqa: S608

    def _union(self, node: UnionAll) -> str:
        return " union all ".join(f"select * from {self._step(one)}" for one in node.inputs)  # noqa: S608

    def _distinct(self, node: Distinct) -> str:
        return f"select distinct * from {self._step(node.input)}"  # noqa: S608

    def _unnest(self, node: Unnest) -> str:
        source = self._step(node.input)
        places = {node.column: "u.item", node.place: "cast(u.place + 1 as bigint)"}
        items = ", ".join(f"{places.get(name, quoted(name))} as {quoted(name)}" for name in node.schema)
        return (
            f"select {items} from {source} "  # noqa: S608
            f"lateral view posexplode({quoted(node.column)}) u as place, item"
        )

    def _days(self, node: Days) -> str:
        source = self._step(node.input)
        first, last = quoted(node.first), quoted(node.last)
        # sequence() of a last day before the first goes down, or fails
        days = f"case when {first} <= {last} then sequence({first}, {last}, interval {node.step} day) end"
        items = ", ".join(
            f"u.item as {quoted(name)}" if name == node.name else quoted(name) for name in node.schema
        )
        return f"select {items} from {source} lateral view explode({days}) u as item"  # noqa: S608

    # -- expressions

    def _expr(self, value: Expr) -> str:
        if isinstance(value, Col):
            return quoted(value.name)
        if isinstance(value, Lit):
            return constant(value.value, value.kind) if value.value is not None else "null"
        if isinstance(value, Param):
            return constant(self._parameters[value.name], value.kind)
        if value.op == "case":
            *branches, default = (self._expr(arg) for arg in value.args)
            whens = " ".join(
                f"when {condition} then {result}"
                for condition, result in zip(branches[::2], branches[1::2], strict=True)
            )
            return f"case {whens} else {default} end"
        if value.op == "field":
            name = value.args[1]
            assert isinstance(name, Lit)  # noqa: S101
            return f"{self._expr(value.args[0])}.{quoted(str(name.value))}"
        if value.op == "format_date":
            format_ = value.args[1]
            assert isinstance(format_, Lit)  # noqa: S101
            pattern = str(format_.value).replace("%Y", "yyyy").replace("%m", "MM").replace("%d", "dd")
            return f"date_format({self._expr(value.args[0])}, '{pattern}')"
        if value.op == "div":
            return self._div(value)
        args = [self._expr(arg) for arg in value.args]
        if value.op in _CASTS:
            return f"cast({args[0]} as {spark_type(value.kind)})"
        return _PLAIN[value.op].format(*args, all=", ".join(args))

    def _div(self, value: Call) -> str:
        """A quotient of doubles as IEEE has it, where Spark would fail at zero."""
        left, right = (self._expr(arg) for arg in value.args)
        if isinstance(value.args[1], Lit) and value.args[1].value:
            return f"({left} / {right})"
        return f"(case when {right} = 0D then {left} * double('Infinity') else {left} / {right} end)"


def _aggregate(one: Aggregate) -> str:
    if one.function == "count_rows":
        return "count(*)"
    assert isinstance(one.value, Col)  # noqa: S101  the reader computes arguments before
    column = quoted(one.value.name)
    if one.function == "quantile":
        return f"percentile({column}, {one.quantile!r}D)"
    if one.function == "count_distinct":
        return f"count(distinct {column})"
    total = f"{one.function}({column})"
    # a sum of decimals is wider than they are
    return f"cast({total} as {spark_type(one.kind)})" if one.kind.name == "decimal" else total


def _window(one: Window) -> str:
    column = quoted(one.column.name) if one.column is not None else ""
    calls = {
        "row_number": "row_number()",
        "rank": "rank()",
        "ntile": f"ntile({one.number})",
        "lag": f"lag({column}, {one.number})",
        "lead": f"lead({column}, {one.number})",
        "count_rows": "count(*)",
    }
    by = f"partition by {', '.join(quoted(key) for key in one.keys)} " if one.keys else ""
    order = ", ".join(
        f"{quoted(key.name)} {'desc' if key.descending else 'asc'} nulls last" for key in one.order
    )
    frame = ""
    if one.order and (one.function not in calls or one.function == "count_rows"):
        before = "unbounded" if one.number is None else str(one.number)
        frame = f" rows between {before} preceding and current row"
    ordered = f"order by {order}" if order else ""
    call = calls.get(one.function, f"{one.function}({column})")
    return f"cast({call} over ({by}{ordered}{frame}) as {spark_type(one.kind)})"


_CASTS: Final = frozenset(
    {
        "int_to_float",
        "int_to_text",
        "int_to_money",
        "bool_to_int",
        "floor_to_int",
        "money_to_float",
        "null_to",
        "rescale",
        "text_to_date",
        "local_to_date",
    }
)

_PLAIN: Final = {
    "and": "({0} and {1})",
    "or": "({0} or {1})",
    "not": "(not {0})",
    "is_null": "({0} is null)",
    "eq": "({0} = {1})",
    "ne": "({0} <> {1})",
    "lt": "({0} < {1})",
    "le": "({0} <= {1})",
    "gt": "({0} > {1})",
    "ge": "({0} >= {1})",
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "int_div": "({0} div {1})",
    "mod": "({0} % {1})",
    "neg": "(- {0})",
    "abs": "abs({0})",
    "floor": "cast(floor({0}) as double)",
    "ln": "ln({0})",
    "sqrt": "sqrt({0})",
    "coalesce": "coalesce({all})",
    "null_if": "case when {1} then null else {0} end",
    "concat": "({0} || {1})",
    "lower": "lower({0})",
    "length": "cast(char_length({0}) as bigint)",
    "split_part": "split_part({0}, {1}, cast({2} as int))",
    "epoch_us": "unix_micros({0})",
    # The session's zone is UTC, so what the clock of the zone shows is what the timestamp then says.
    "at_zone": "from_utc_timestamp({0}, {1})",
    "year": "cast(year({0}) as bigint)",
    "month": "cast(month({0}) as bigint)",
    "day": "cast(day({0}) as bigint)",
    "hour": "cast(hour({0}) as bigint)",
    "isodow": "cast(extract(dayofweek_iso from {0}) as bigint)",
    "week": "trunc({0}, 'WEEK')",
    "month_start": "trunc({0}, 'MM')",
    "days_between": "cast(datediff({1}, {0}) as bigint)",
    # months_between() counts whole months that have gone by
    "months_between": "cast((year({1}) - year({0})) * 12 + month({1}) - month({0}) as bigint)",
}

KNOWN: Final = frozenset({*_PLAIN, *_CASTS, "case", "field", "format_date", "div"})
"""Operations that are understood here."""

_METHODS: Final[dict[type, Callable[[SparkStatement, Any], str]]] = {
    Scan: SparkStatement._scan,
    Project: SparkStatement._project,
    Filter: SparkStatement._filter,
    Join: SparkStatement._join,
    Group: SparkStatement._group,
    Windows: SparkStatement._windows,
    UnionAll: SparkStatement._union,
    Distinct: SparkStatement._distinct,
    Unnest: SparkStatement._unnest,
    Days: SparkStatement._days,
}
