"""Reading the queries of a model: sources, joins, groups, windows, in the order in which SQL means them.

Expressions are read by `expressions`, joins by `joins`. Columns are named as `scope` has them until the query
is finished; then they have plain names.
"""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Final

from sqlglot import exp

from cai_assets.engines.portable.aggregates import read_aggregate, read_window
from cai_assets.engines.portable.expressions import ExpressionReader
from cai_assets.engines.portable.fitting import Refused
from cai_assets.engines.portable.joins import JoinReader, Source
from cai_assets.engines.portable.kinds import DATE, NULL, schema_of
from cai_assets.engines.portable.plan import (
    Aggregate,
    Col,
    Days,
    Distinct,
    Expr,
    Filter,
    Group,
    Item,
    Node,
    Project,
    Scan,
    UnionAll,
    Unnest,
    Window,
    Windows,
)
from cai_assets.engines.portable.scope import Scope, with_columns
from cai_assets.schemas.base import Table

Tables = Mapping[tuple[str, str], Table]

# Aggregates by what the parser makes of them; the functions that windows alone have are no aggregates.
_AGGREGATES: Final = (exp.Count, exp.Sum, exp.Min, exp.Max, exp.Avg, exp.PercentileCont)


class QueryReader:
    """Reads queries with the CTEs before them."""

    def __init__(self, tables: Tables, known: Mapping[str, Node] | None = None) -> None:
        self._tables = tables
        self._ctes: dict[str, Node] = dict(known or {})
        self._scans: dict[tuple[str, str], Scan] = {}

    def read(self, query: exp.Expr) -> Node:
        """The plan of a query.

        Raises:
            Refused: naming a construct that cannot be read.
        """
        if isinstance(query, exp.Subquery):
            return self.read(query.this)
        with_ = query.args.get("with_")
        if with_ is not None:
            return self._with(with_, query)
        if isinstance(query, exp.Union):
            return self._union(query)
        if isinstance(query, exp.Select):
            return _SelectReader(query, self.source).read()
        raise Refused(query, "a select")

    def _with(self, with_: exp.With, query: exp.Expr) -> Node:
        inner = QueryReader(self._tables, self._ctes)
        inner._scans = self._scans
        for cte in with_.expressions:
            if cte.args["alias"].args.get("columns"):
                raise Refused(cte.args["alias"], "name the columns in the select")
            inner._ctes[cte.alias.lower()] = inner.read(cte.this)
        bare = query.copy()
        bare.set("with_", None)
        return inner.read(bare)

    def _union(self, query: exp.Union) -> Node:
        parts = [self.read(query.this), self.read(query.expression)]
        names = list(parts[0].schema)
        if len(parts[1].schema) != len(names):
            raise Refused(query, "as many columns in each select")
        for kind, other in zip(parts[0].schema.values(), parts[1].schema.values(), strict=True):
            if kind != other:
                raise Refused(query, f"columns of one kind in each select (here {kind} and {other})")
        renamed = Project(
            parts[1],
            tuple(
                Item(name, Col(own, kind))
                for name, (own, kind) in zip(names, parts[1].schema.items(), strict=True)
            ),
        )
        first = parts[0].inputs if isinstance(parts[0], UnionAll) else (parts[0],)
        return UnionAll((*first, renamed))

    def source(self, node: exp.Expr) -> tuple[str, Node]:
        """Name and plan of what stands in from or join.

        Raises:
            Refused: it is neither a declared table, nor a CTE, nor a select with a name.
        """
        if isinstance(node, exp.Subquery):
            if not node.alias:
                raise Refused(node, "(select ...) as name")
            return node.alias.lower(), self.read(node.this)
        if not isinstance(node, exp.Table):
            raise Refused(node, "a table, a CTE or a select")
        name = node.name.lower()
        if not node.db:
            if name not in self._ctes:
                raise Refused(node, "a CTE above, or a table as layer.name")
            return node.alias_or_name.lower(), self._ctes[name]
        path = (node.db.lower(), name)
        if path not in self._tables:
            raise Refused(node, "a table that is declared in cai_assets/schemas")
        if path not in self._scans:
            self._scans[path] = Scan(path, schema_of(self._tables[path]))
        return node.alias_or_name.lower(), self._scans[path]


class _SelectReader:
    """Reads one SELECT."""

    def __init__(self, select: exp.Select, source: Source) -> None:
        self._select = select
        self._source = source
        self._scope = Scope(select)
        self._computed: dict[str, Col] = {}  # text of an aggregate or window: the column that holds it
        self._numbers = count()
        self._expressions = ExpressionReader(self._scope.column, self._special)
        self._joins = JoinReader(self._scope, self._expressions, source)

    def read(self) -> Node:
        select = self._select
        if select.args.get("from_") is None:
            raise Refused(select, "a select from a table or CTE")
        node = self._scope.add(*self._source(select.args["from_"].this))
        for join in select.args.get("joins") or []:
            node = self._joins.read(node, join)
        if select.args.get("where") is not None:
            node = Filter(node, self._expressions.read_bool(select.args["where"].this))
        items = list(self._items())
        node = self._grouped(node, items)
        node = self._windowed(node, items)
        node = self._projected(node, items)
        if select.args.get("distinct") is not None:
            if select.args["distinct"].expressions or select.args["distinct"].args.get("on"):
                raise Refused(select.args["distinct"], "row_number() over (...) and place = 1")
            node = Distinct(node)
        self._ordered(node)
        return node

    # -- what was computed already

    def _special(self, node: exp.Expr) -> Expr | None:
        if isinstance(node, exp.Window | exp.AggFunc):
            found = self._computed.get(_text(node))
            if found is None:
                raise Refused(node, "compute it in a CTE, and use its column here")
            return found
        return None

    def _fresh(self) -> str:
        return f"#{next(self._numbers)}"

    # -- groups and windows

    def _items(self) -> Iterator[tuple[str, exp.Expr]]:
        for node in self._select.expressions:
            if isinstance(node, exp.Star) or (
                isinstance(node, exp.Column) and isinstance(node.this, exp.Star)
            ):
                table = node.table.lower() if isinstance(node, exp.Column) else ""
                if table and table not in self._scope.sources:
                    raise Refused(node, f"one of {', '.join(self._scope.sources)}")
                for source in [table] if table else self._scope.sources:
                    for name in self._scope.sources[source]:
                        yield name, exp.column(name, table=source)
                continue
            name = node.alias_or_name.lower()
            if not name:
                raise Refused(node, "expression as name")
            yield name, node.this if isinstance(node, exp.Alias) else node

    def _grouped(self, node: Node, items: list[tuple[str, exp.Expr]]) -> Node:
        group = self._select.args.get("group")
        found = {
            _text(one): one
            for _, item in items
            for one in item.find_all(*_AGGREGATES)
            if not isinstance(one.parent, exp.Window)
        }
        if group is None and not found:
            return node
        keys: list[Col] = []
        for key in group.expressions if group is not None else ():
            column = self._scope.column(key) if isinstance(key, exp.Column) else None
            if column is None or column.kind.name in {"list", "struct"}:
                raise Refused(key, "group by plain columns: compute the others in a CTE")
            keys.append(column)
        arguments: list[Item] = [Item(key.name, key) for key in dict.fromkeys(keys)]
        aggregates: list[Aggregate] = []
        for text, one in found.items():
            aggregate = read_aggregate(one, self._expressions, self._fresh())
            if aggregate.value is not None:
                column = Col(self._fresh(), aggregate.value.kind)
                arguments.append(Item(column.name, aggregate.value))
                aggregate = Aggregate(
                    aggregate.name, aggregate.function, column, aggregate.kind, aggregate.quantile
                )
            aggregates.append(aggregate)
            self._computed[text] = Col(aggregate.name, aggregate.kind)
        if not arguments:  # count(*) alone needs a column to count along
            first, kind = next(iter(node.schema.items()))
            arguments.append(Item(first, Col(first, kind)))
        grouped = Group(
            Project(node, tuple(arguments)),
            tuple(key.name for key in dict.fromkeys(keys)),
            tuple(aggregates),
        )
        self._scope.keep(grouped.schema)  # what is no key cannot be named any more
        return grouped

    def _windowed(self, node: Node, items: list[tuple[str, exp.Expr]]) -> Node:
        found = {_text(one): one for _, item in items for one in item.find_all(exp.Window)}
        if not found:
            return node
        if isinstance(node, Group):
            raise Refused(next(iter(found.values())), "group in a CTE, and put the window over its columns")
        arguments: list[Item] = []
        known: dict[Expr, str] = {}

        def column(value: Expr) -> Col:
            if isinstance(value, Col):
                return value
            if value not in known:
                known[value] = self._fresh()
                arguments.append(Item(known[value], value))
            return Col(known[value], value.kind)

        windows: list[Window] = []
        for text, one in found.items():
            window = read_window(one, self._expressions, self._fresh(), column)
            windows.append(window)
            self._computed[text] = Col(window.name, window.kind)
        return Windows(with_columns(node, arguments), tuple(windows))

    # -- the result

    def _projected(self, node: Node, items: list[tuple[str, exp.Expr]]) -> Node:
        names = [name for name, _ in items]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise Refused(self._select, f"columns of different names ({', '.join(twice)} is there twice)")
        spread = [(name, item, _spread(item)) for name, item in items]
        spreading = [(name, item, inner) for name, item, inner in spread if inner is not None]
        if not spreading:
            read = tuple(Item(name, self._value(item)) for name, item in items)
            return Project(node, read)
        if len(spreading) > 1:
            raise Refused(spreading[1][1], "one unnest in a select: the next in a CTE")
        name, item, inner = spreading[0]
        if isinstance(node, Group):
            raise Refused(item, "group in a CTE, and unnest in the next")
        others = [Item(other, self._value(one)) for other, one, found in spread if found is None]
        if isinstance(inner.this, exp.GenerateSeries):
            made = self._days(node, name, item, inner.this, others)
        else:
            value = self._expressions.read(inner.this)
            if not isinstance(value, Col) or value.kind.item is None or item is not inner:
                raise Refused(item, "unnest(list_column) as name")
            made = Unnest(Project(node, (*others, Item(name, value))), name, None)
        return Project(made, tuple(Item(one, Col(one, made.schema[one])) for one in names))

    def _value(self, node: exp.Expr) -> Expr:
        value = self._expressions.read(node)
        if value.kind == NULL:
            raise Refused(node, "cast(null as bigint): NULL alone has no kind")
        return value

    def _days(
        self, node: Node, name: str, item: exp.Expr, series: exp.GenerateSeries, others: list[Item]
    ) -> Node:
        mend = "cast(unnest(generate_series(first_date, last_date, interval 1 day)) as date) as name"
        step = series.args.get("step")
        is_date = isinstance(item, exp.Cast) and item.to.sql().upper() == "DATE"
        if not is_date or not isinstance(step, exp.Interval) or step.text("unit").upper() != "DAY":
            raise Refused(item, mend)
        length = step.name
        if not length.isdigit() or int(length) < 1:
            raise Refused(item, mend)
        first, last = (self._expressions.read(series.args[end]) for end in ("start", "end"))
        if first.kind != DATE or last.kind != DATE:
            raise Refused(item, mend)
        ends = (self._fresh(), self._fresh())
        project = Project(node, (*others, Item(ends[0], first), Item(ends[1], last)))
        return Days(project, ends[0], ends[1], int(length), name)

    def _ordered(self, node: Node) -> None:
        """Check `order by`; rows of a table come in the order of its key, so there is nothing to do."""
        order = self._select.args.get("order")
        for ordered in order.expressions if order is not None else ():
            if not isinstance(ordered.this, exp.Column) or ordered.this.name.lower() not in node.schema:
                raise Refused(ordered, "leave it out: a table's rows come in the order of its key")


def _spread(item: exp.Expr) -> exp.Explode | None:
    """The unnest in an item of a select list, if there is one."""
    inner = item.this if isinstance(item, exp.Cast) else item
    if isinstance(inner, exp.Explode):
        return inner
    if (hidden := item.find(exp.Explode, exp.Unnest)) is not None:
        raise Refused(hidden, "unnest as a column of its own, worked on in the next CTE")
    return None


def _text(node: exp.Expr) -> str:
    return node.sql(dialect="duckdb", comments=False)
