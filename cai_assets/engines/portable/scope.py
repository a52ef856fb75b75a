"""The names of one SELECT: its sources, their columns, and which of them a column means.

In the plan a column of a source carries the source's name before it (`m.partition`), so that both sides of a
join can be told apart.
"""

from collections.abc import Iterable

from sqlglot import exp

from cai_assets.engines.portable.fitting import Refused
from cai_assets.engines.portable.kinds import Kind
from cai_assets.engines.portable.plan import Col, Item, Node, Project


class Scope:
    """The sources that columns can be of.

    Attributes:
        sources: by name, the columns that can be named and their kinds.
    """

    def __init__(self, select: exp.Select) -> None:
        """No source yet.

        Args:
            select: whose names they are; told where one is refused.
        """
        self._select = select
        self.sources: dict[str, dict[str, Kind]] = {}

    def add(self, name: str, node: Node) -> Node:
        """A source; its rows with the source's name before each column.

        Raises:
            Refused: the name is taken.
        """
        if name in self.sources:
            raise Refused(self._select, f"{name} once in from and joins: give the other a name of its own")
        self.sources[name] = dict(node.schema)
        items = tuple(Item(f"{name}.{column}", Col(column, kind)) for column, kind in node.schema.items())
        return Project(node, items)

    def keep(self, columns: Iterable[str]) -> None:
        """Forget all columns of all sources but these (`m.partition`)."""
        kept = set(columns)
        for source, schema in self.sources.items():
            self.sources[source] = {name: kind for name, kind in schema.items() if f"{source}.{name}" in kept}

    def column(self, column: exp.Column) -> Col:
        """What a column's name stands for.

        Raises:
            Refused: nothing or several things have that name.
        """
        name, table = column.name.lower(), column.table.lower()
        if table:
            places = [table] if name in self.sources.get(table, {}) else []
        else:
            places = [source for source, schema in self.sources.items() if name in schema]
        if len(places) > 1:
            raise Refused(column, f"{' or '.join(f'{place}.{name}' for place in places)}")
        if not places:
            known = ", ".join(self.sources)
            raise Refused(
                column, f"a column of {known}; an expression named in the same select is repeated, or a CTE"
            )
        return Col(f"{places[0]}.{name}", self.sources[places[0]][name])

    def place(self, column: exp.Column) -> str:
        """Name of the source that a column is of."""
        return self.column(column).name.partition(".")[0]


def with_columns(node: Node, items: Iterable[Item]) -> Node:
    """The rows with further columns."""
    added = tuple(items)
    if not added:
        return node
    kept = tuple(Item(name, Col(name, kind)) for name, kind in node.schema.items())
    return Project(node, (*kept, *added))
