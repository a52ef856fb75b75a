"""Where each metric stands: the columns of the marts made of it, and those of the facts it is taken from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from cai_assets.schemas.base import Table
from cai_assets.schemas.metrics import METRICS, Metric
from cai_assets.schemas.tables import MARTS, TABLES


@dataclass(frozen=True)
class Place:
    """A column that holds a metric, or a part of one.

    Attributes:
        table: its table.
        column: its name.
        part: the metric that stands there: of a ratio its numerator or denominator, else the metric itself.
    """

    table: Table
    column: str
    part: str

    @property
    def name(self) -> str:
        """`layer.table.column`."""
        return f"{self.table.layer}.{self.table.name}.{self.column}"

    @property
    def grain(self) -> tuple[str, ...]:
        """What a row of the table is: its key."""
        return self.table.key


@cache
def columns() -> Mapping[str, tuple[Place, ...]]:
    """By metric the columns of marts that are made of it, in order of the declarations."""
    found: dict[str, list[Place]] = {}
    for table in MARTS:
        for column in table.columns:
            if column.metric:
                found.setdefault(column.metric, []).append(Place(table, column.name, column.metric))
    return MappingProxyType({name: tuple(places) for name, places in found.items()})


def places(metric: Metric) -> tuple[Place, ...]:
    """Where a metric stands; a ratio wherever both of its parts do.

    Raises:
        KeyError: `made_of` names a column that is not declared.
    """
    if metric.numerator and metric.denominator:
        above, below = (columns().get(part, ()) for part in (metric.numerator, metric.denominator))
        both = {place.table.path for place in above} & {place.table.path for place in below}
        return tuple(place for place in (*above, *below) if place.table.path in both)
    return (*columns().get(metric.name, ()), *(_place(metric, name) for name in metric.made_of))


def of_table(table: Table) -> tuple[Metric, ...]:
    """Metrics that stand in a table's columns, in their order, then the ratios of them."""
    own = list(dict.fromkeys(column.metric for column in table.columns if column.metric))
    ratios = [m.name for m in METRICS.values() if m.numerator in own and m.denominator in own]
    return tuple(METRICS[name] for name in (*own, *ratios))


def versions(table: Table) -> dict[str, int]:
    """The version of the metric in each column of a table that holds one."""
    return {column.name: METRICS[column.metric].version for column in table.columns if column.metric}


def _place(metric: Metric, name: str) -> Place:
    layer, table, column = name.split(".")
    declared = TABLES[layer, table]
    return Place(declared, declared.by_name[column].name, metric.name)
