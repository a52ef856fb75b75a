"""Every metric, declared once: the one place that says what a number of a report means.

A metric is declared in the module of its theme, here beside this file. From the declaration come the
description, unit and type of its columns in the marts, the labels and tooltips of the dashboard, `cai
metrics`, docs/metrics.md, the columns' tags in Dagster's UI, and the versions in the MongoDB reports.

To add a mart with new metrics:

1. Declare each metric in a module here, an existing one or a new one; all modules are found by themselves,
   each has a tuple `METRICS`. `declaring.py` has a short way for every kind: `conversations` and `messages`
   (counts that add up, also of other things by `unit=`), `distinct`, `statistic` (percentiles, with
   `quantile`), `total`, `money`, `ratio`. The definition is of the metric alone; the grain is the table's.
2. In `schemas/marts.py` make the measure columns of it: `measure("waits")`, or `measure("response_n", "n")`
   where the column has a name of its own. The same metric may stand in many tables; `note=` adds what holds
   in one table alone. Dimensions (keys, names, dates) stay plain `Column`s.
3. `make docs` writes docs/metrics.md and docs/data_dictionary.md anew.

The tests then ask: every column of a mart that is a number and not in the key is made by `measure`; every
metric stands in a table; every `sql` runs over the sample and gives a value; `sql` equals `facts_sql`.
A change of what a number means raises its `version`.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from cai_assets.schemas.base import Column
from cai_assets.schemas.metrics.declaring import Metric

__all__ = ["METRICS", "THEMES", "Metric", "alike", "measure", "metric"]


def _themes() -> dict[str, tuple[Metric, ...]]:
    names = sorted(module.name for module in iter_modules(__path__) if module.name != "declaring")
    return {name: import_module(f"{__name__}.{name}").METRICS for name in names}


def _by_name(themes: Mapping[str, tuple[Metric, ...]]) -> Mapping[str, Metric]:
    found: dict[str, Metric] = {}
    for theme, metrics in themes.items():
        for one in metrics:
            if one.name in found:
                raise ValueError(f"metric {one.name} is declared twice, the second time in {theme}.py")
            found[one.name] = one
    for one in found.values():
        for part in filter(None, (one.numerator, one.denominator)):
            if part not in found:
                raise ValueError(f"metric {one.name} is a ratio of {part!r}, which is no metric")
    return MappingProxyType(found)


THEMES: Mapping[str, tuple[Metric, ...]] = MappingProxyType(_themes())
"""The metrics by module, in the order of their declaration."""

METRICS: Mapping[str, Metric] = _by_name(THEMES)
"""Every metric by its name."""


def alike(name: str, limit: int = 5) -> list[str]:
    """Names of metrics like this one: of that title, those that contain it, then those nearly spelt so."""
    wanted = name.lower().replace("-", "_").replace(" ", "_")
    titles = {one.title.lower(): one.name for one in METRICS.values()}
    found = [titles[name.lower()]] if name.lower() in titles else []
    found += [known for known in METRICS if wanted and wanted in known]
    found += difflib.get_close_matches(wanted, METRICS, n=limit, cutoff=0.5)
    found += [titles[t] for t in difflib.get_close_matches(name.lower(), titles, n=limit, cutoff=0.6)]
    return list(dict.fromkeys(found))[:limit]


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        KeyError: there is none; the message names those that are alike.
    """
    if name not in METRICS:
        raise KeyError(f"there is no metric {name!r}; alike are {', '.join(alike(name)) or 'none'}")
    return METRICS[name]


def measure(name: str, column: str | None = None, *, nullable: bool | None = None, note: str = "") -> Column:
    """A mart's column in which a metric stands: its description, unit and type are the metric's.

    Args:
        name: of the metric.
        column: name of the column, where it is not the metric's.
        nullable: where the table differs from the metric in this.
        note: a sentence on what holds in this table alone, added to the description.

    Raises:
        KeyError: there is no such metric.
    """
    one = metric(name)
    return Column(
        column or name,
        one.type,
        f"{one.definition} {note}".rstrip(),
        one.unit,
        one.nullable if nullable is None else nullable,
        metric=name,
    )
