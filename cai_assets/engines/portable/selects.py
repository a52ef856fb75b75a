"""Reading the queries of a model: sources, joins, groups, windows, in the order in which SQL means them.

Expressions are read by `expressions`. In the plan a column of a source carries the source's name before it
(`m.partition`), so that both sides of a join can be told apart; a finished query has plain names.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Final

from sqlglot import exp

from cai_assets.engines.portable.aggregates import read_aggregate, read_window
from cai_assets.engines.portable.expressions import ExpressionReader, Refused
from cai_assets.engines.portable.kinds import DATE, NULL, Kind, schema_of
from cai_assets.engines.portable.plan import (
    Aggregate,
    Col,
    Days,
    Distinct,
    Expr,
    Filter,
    Group,
    Item,
    Join,
    Node,
    Project,
    Scan,
    UnionAll,
    Unnest,
    Window,
    Windows,
)
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

    def __init__(self, select: exp.Select, source: Callable[[exp.Expr], tuple[str, Node]]) -> None:
        self._select = select
        self._source = source
        self._sources: dict[str, dict[str, Kind]] = {}
        self._computed: dict[str, Col] = {}  # text of an aggregate or window: the column that holds it
        self._numbers = count()
        self._expressions = ExpressionReader(self._resolve, self._special)

    def read(self) -> Node:
        select = self._select
        if select.args.get("from_") is None:
            raise Refused(select, "a select from a table or CTE")
        node = self._named(*self._source(select.args["from_"].this))
        for join in select.args.get("joins") or []:
            node = self._join(node, join)
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

    # -- names

    def _named(self, name: str, node: Node) -> Node:
        if name in self._sources:
            raise Refused(self._select, f"{name} once in from and joins: give the other a name of its own")
        self._sources[name] = dict(node.schema)
        items = tuple(Item(f"{name}.{column}", Col(column, kind)) for column, kind in node.schema.items())
        return Project(node, items)

    def _resolve(self, column: exp.Column) -> Expr:
        name, table = column.name.lower(), column.table.lower()
        if table:
            places = [table] if name in self._sources.get(table, {}) else []
        else:
            places = [source for source, schema in self._sources.items() if name in schema]
        if len(places) > 1:
            raise Refused(column, f"{' or '.join(f'{place}.{name}' for place in places)}")
        if not places:
            known = ", ".join(self._sources)
            raise Refused(
                column, f"a column of {known}; an expression named in the same select is repeated, or a CTE"
            )
        return Col(f"{places[0]}.{name}", self._sources[places[0]][name])

    def _special(self, node: exp.Expr) -> Expr | None:
        if isinstance(node, exp.Window | exp.AggFunc):
            found = self._computed.get(_text(node))
            if found is None:
                raise Refused(node, "compute it in a CTE, and use its column here")
            return found
        return None

    def _fresh(self) -> str:
        return f"#{next(self._numbers)}"

    # -- joins

    def _join(self, left: Node, join: exp.Join) -> Node:
        if isinstance(join.this, exp.Unnest):
            return self._unnested(left, join)
        side, kind = join.side.upper(), join.kind.upper()
        how = {("LEFT", ""): "left", ("", "INNER"): "inner", ("", ""): "inner", ("", "CROSS"): "cross"}.get(
            (side, kind)
        )
        on = join.args.get("on")
        if how is None or (how == "cross") is (on is not None):
            raise Refused(join, "inner join or left join ... on, or cross join")
        lefts = set(self._sources)
        name, source = self._source(join.this)
        right = self._named(name, source)
        if how == "cross":
            return Join(left, right, "cross", ())
        keys: list[tuple[str, str]] = []
        assert on is not None  # noqa: S101  only a cross join has none
        for condition in _conjuncts(on):
            places = {self._place(column) for column in condition.find_all(exp.Column)}
            key = self._key(condition, name) if len(places) > 1 else None
            if key is not None:
                keys.append(key)
            elif places == {name}:  # a row of the right that does not meet it has no partner
                right = Filter(right, self._expressions.read_bool(condition))
            elif how == "inner" and places <= lefts:
                left = Filter(left, self._expressions.read_bool(condition))
            else:
                raise Refused(condition, "an equality of plain columns, one of each side; where for the rest")
        if not keys:
            raise Refused(join, "an equality of plain columns, or cross join and where")
        return Join(left, right, "left" if how == "left" else "inner", tuple(keys))

    def _place(self, column: exp.Column) -> str:
        found = self._resolve(column)
        assert isinstance(found, Col)  # noqa: S101
        return found.name.partition(".")[0]

    def _key(self, condition: exp.Expr, right: str) -> tuple[str, str] | None:
        if not isinstance(condition, exp.EQ):
            return None
        sides = (condition.this, condition.expression)
        if not all(isinstance(side, exp.Column) for side in sides):
            return None
        columns = [self._resolve(side) for side in sides]
        if columns[0].kind != columns[1].kind or columns[0].kind.name in {"float", "list", "struct"}:
            raise Refused(condition, "keys of one kind, and no floats")
        if self._place(sides[0]) == right:
            columns.reverse()
        left, other = columns
        assert isinstance(left, Col) and isinstance(other, Col)  # noqa: S101, PT018
        return left.name, other.name

    def _unnested(self, left: Node, join: exp.Join) -> Node:
        unnest = join.this
        alias = unnest.args.get("alias")
        if join.kind.upper() != "CROSS" or len(unnest.expressions) != 1 or alias is None:
            raise Refused(
                join, "cross join unnest(x.list) as e (item), or with ordinality as e (item, place)"
            )
        columns = alias.args.get("columns") or []
        if len(columns) != 1:
            raise Refused(
                join, "cross join unnest(x.list) as e (item), or with ordinality as e (item, place)"
            )
        value = self._expressions.read(unnest.expressions[0])
        if not isinstance(value, Col) or value.kind.item is None:
            raise Refused(unnest, "a list column")
        name, item = alias.name.lower(), columns[0].name.lower()
        offset = unnest.args.get("offset")
        place = f"{name}.{offset.name.lower()}" if isinstance(offset, exp.Identifier) else None
        node = _with_columns(left, [Item(f"{name}.{item}", value)])
        found = Unnest(node, f"{name}.{item}", place)
        own = {column: kind for column, kind in found.schema.items() if column not in left.schema}
        self._sources[name] = {column.partition(".")[2]: kind for column, kind in own.items()}
        return found

    # -- groups and windows

    def _items(self) -> Iterator[tuple[str, exp.Expr]]:
        for node in self._select.expressions:
            if isinstance(node, exp.Star) or (
                isinstance(node, exp.Column) and isinstance(node.this, exp.Star)
            ):
                table = node.table.lower() if isinstance(node, exp.Column) else ""
                if table and table not in self._sources:
                    raise Refused(node, f"one of {', '.join(self._sources)}")
                for source in [table] if table else self._sources:
                    for name in self._sources[source]:
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
            column = self._resolve(key) if isinstance(key, exp.Column) else None
            if not isinstance(column, Col) or column.kind.name in {"list", "struct"}:
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
        for source, schema in self._sources.items():  # what is no key cannot be named any more
            self._sources[source] = {
                name: kind for name, kind in schema.items() if f"{source}.{name}" in grouped.schema
            }
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
        return Windows(_with_columns(node, arguments), tuple(windows))

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


def _with_columns(node: Node, items: Iterable[Item]) -> Node:
    added = tuple(items)
    if not added:
        return node
    kept = tuple(Item(name, Col(name, kind)) for name, kind in node.schema.items())
    return Project(node, (*kept, *added))


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    else:
        yield node


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
