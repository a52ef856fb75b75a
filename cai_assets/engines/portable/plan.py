"""A model as a plan: a graph of few operations on tables with named columns, and expressions over them.

Reading SQL into it belongs to `selects` and `expressions`, running it to the engines. Names of columns are
unique within a node; a node that is used twice is the same object.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cai_assets.engines.portable.kinds import DATE, INT, Kind

Value = bool | int | float | str | None


@dataclass(frozen=True)
class Col:
    """A column of the node's input."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Lit:
    """A constant.

    Attributes:
        value: None is NULL.
        kind: what it is.
        is_point: a number written with a decimal point: a decimal in DuckDB and Spark, which becomes a double
            only beside a double.
    """

    value: Value
    kind: Kind
    is_point: bool = False


@dataclass(frozen=True)
class Param:
    """A named parameter of the model; its value comes with the run."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Call:
    """An operation on values, by name; which there are is `expressions.OPERATIONS`."""

    op: str
    args: tuple["Expr", ...]
    kind: Kind


Expr = Col | Lit | Param | Call


@dataclass(frozen=True)
class Item:
    """A named expression."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Aggregate:
    """A named aggregate.

    Attributes:
        name: of the result.
        function: count_rows, count, count_distinct, sum, min, max, avg or quantile.
        value: what is aggregated; None for count_rows.
        kind: of the result.
        quantile: of quantile: from 0 to 1.
    """

    name: str
    function: str
    value: Expr | None
    kind: Kind
    quantile: float = 0.0


@dataclass(frozen=True)
class Ordering:
    """A column to order by, nulls last."""

    name: str
    descending: bool = False


@dataclass(frozen=True)
class Window:
    """A named window function; keys are columns of the node's input.

    Attributes:
        name: of the result.
        function: row_number, rank, ntile, lag, lead, sum, min, max, avg, count or count_rows.
        column: what it is over; None where it is over nothing.
        keys: columns of `partition by`.
        order: of the rows; none for a total of the partition.
        kind: of the result.
        number: offset of lag and lead, buckets of ntile, rows before the current one in the frame.
            None as a frame: all rows before.
    """

    name: str
    function: str
    column: Col | None
    keys: tuple[str, ...]
    order: tuple[Ordering, ...]
    kind: Kind
    number: int | None = None


# Nodes are compared by identity: one that is used twice is computed once.
@dataclass(frozen=True, eq=False)
class Scan:
    """A table of the lake, facts or marts, with these of its columns."""

    path: tuple[str, str]
    schema: Mapping[str, Kind]


@dataclass(frozen=True, eq=False)
class Project:
    """Columns computed from those of the input, row by row; no others are kept."""

    input: "Node"
    items: tuple[Item, ...]
    schema: Mapping[str, Kind] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", {item.name: item.value.kind for item in self.items})


@dataclass(frozen=True, eq=False)
class Filter:
    """The rows for which the condition is true."""

    input: "Node"
    condition: Expr

    @property
    def schema(self) -> Mapping[str, Kind]:
        """That of the input."""
        return self.input.schema


@dataclass(frozen=True, eq=False)
class Join:
    """Rows of both sides that agree in the keys; of a left join also rows of the left without a partner.

    Attributes:
        left: one side.
        right: the other; its column names differ from the left's.
        how: inner, left or cross.
        keys: pairs of columns, left and right; NULL agrees with nothing.
    """

    left: "Node"
    right: "Node"
    how: Literal["inner", "left", "cross"]
    keys: tuple[tuple[str, str], ...]

    @property
    def schema(self) -> Mapping[str, Kind]:
        """Columns of both."""
        return {**self.left.schema, **self.right.schema}


@dataclass(frozen=True, eq=False)
class Group:
    """One row for each combination of the keys (NULL is a value); one row in all where there are no keys."""

    input: "Node"
    keys: tuple[str, ...]
    aggregates: tuple[Aggregate, ...]

    @property
    def schema(self) -> Mapping[str, Kind]:
        """Keys, then aggregates."""
        keys = {name: self.input.schema[name] for name in self.keys}
        return {**keys, **{one.name: one.kind for one in self.aggregates}}


@dataclass(frozen=True, eq=False)
class Windows:
    """The input's rows with further columns that look at other rows."""

    input: "Node"
    windows: tuple[Window, ...]

    @property
    def schema(self) -> Mapping[str, Kind]:
        """The input's columns, then the windows'."""
        return {**self.input.schema, **{one.name: one.kind for one in self.windows}}


@dataclass(frozen=True, eq=False)
class UnionAll:
    """All rows of the inputs, whose columns agree in name, kind and order."""

    inputs: tuple["Node", ...]

    @property
    def schema(self) -> Mapping[str, Kind]:
        """That of each."""
        return self.inputs[0].schema


@dataclass(frozen=True, eq=False)
class Distinct:
    """Each row once."""

    input: "Node"

    @property
    def schema(self) -> Mapping[str, Kind]:
        """That of the input."""
        return self.input.schema


@dataclass(frozen=True, eq=False)
class Unnest:
    """A row for each item of a list column, none for an empty list or NULL; the other columns are repeated.

    Attributes:
        input: the rows.
        column: the list; it gives its place to the items.
        place: name of a column with the item's place in its list, from 1, or None.
    """

    input: "Node"
    column: str
    place: str | None
    schema: Mapping[str, Kind] = field(init=False)

    def __post_init__(self) -> None:
        item = self.input.schema[self.column].item
        assert item is not None  # noqa: S101  the reader gives lists alone
        places = {self.place: INT} if self.place else {}
        object.__setattr__(self, "schema", {**self.input.schema, self.column: item, **places})


@dataclass(frozen=True, eq=False)
class Days:
    """A row for each day from one date column to another, both included; the other columns are repeated.

    Attributes:
        input: the rows.
        first: column of the first day; no rows come of NULL.
        last: column of the last.
        step: days between two rows.
        name: of the new column.
    """

    input: "Node"
    first: str
    last: str
    step: int
    name: str
    schema: Mapping[str, Kind] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", {**self.input.schema, self.name: DATE})


Node = Scan | Project | Filter | Join | Group | Windows | UnionAll | Distinct | Unnest | Days
