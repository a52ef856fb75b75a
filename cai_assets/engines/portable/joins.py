"""Reading joins: on which keys, which conditions are of one side alone, and lists that become rows."""

from collections.abc import Callable, Iterator

from sqlglot import exp

from cai_assets.engines.portable.expressions import ExpressionReader
from cai_assets.engines.portable.fitting import Refused
from cai_assets.engines.portable.plan import Col, Filter, Item, Join, Node, Unnest
from cai_assets.engines.portable.scope import Scope, with_columns

Source = Callable[[exp.Expr], tuple[str, Node]]
"""Gives name and plan of what stands in from or join."""


class JoinReader:
    """Reads the joins of one SELECT, in their order."""

    def __init__(self, scope: Scope, expressions: ExpressionReader, source: Source) -> None:
        """Make a reader.

        Args:
            scope: takes each source's name.
            expressions: reads conditions.
            source: reads what is joined.
        """
        self._scope = scope
        self._expressions = expressions
        self._source = source

    def read(self, left: Node, join: exp.Join) -> Node:
        """The rows so far joined with what the join names.

        Raises:
            Refused: it is no join that every engine makes of the same rows.
        """
        if isinstance(join.this, exp.Unnest):
            return self._unnested(left, join)
        side, kind = join.side.upper(), join.kind.upper()
        how = {("LEFT", ""): "left", ("", "INNER"): "inner", ("", ""): "inner", ("", "CROSS"): "cross"}.get(
            (side, kind)
        )
        on = join.args.get("on")
        if how is None or (how == "cross") is (on is not None):
            raise Refused(join, "inner join or left join ... on, or cross join")
        lefts = set(self._scope.sources)
        name, source = self._source(join.this)
        right = self._scope.add(name, source)
        if how == "cross":
            return Join(left, right, "cross", ())
        keys: list[tuple[str, str]] = []
        assert on is not None  # noqa: S101  only a cross join has none
        for condition in _conjuncts(on):
            places = {self._scope.place(column) for column in condition.find_all(exp.Column)}
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

    def _key(self, condition: exp.Expr, right: str) -> tuple[str, str] | None:
        if not isinstance(condition, exp.EQ):
            return None
        sides = (condition.this, condition.expression)
        if not all(isinstance(side, exp.Column) for side in sides):
            return None
        columns = [self._scope.column(side) for side in sides]
        if columns[0].kind != columns[1].kind or columns[0].kind.name in {"float", "list", "struct"}:
            raise Refused(condition, "keys of one kind, and no floats")
        if self._scope.place(sides[0]) == right:
            columns.reverse()
        left, other = columns
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
        node = with_columns(left, [Item(f"{name}.{item}", value)])
        found = Unnest(node, f"{name}.{item}", place)
        own = {column: kind for column, kind in found.schema.items() if column not in left.schema}
        self._scope.sources[name] = {column.partition(".")[2]: kind for column, kind in own.items()}
        return found


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    else:
        yield node
