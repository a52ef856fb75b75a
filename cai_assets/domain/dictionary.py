"""The documentation's pages that come from declarations: docs/metrics.md and docs/data_dictionary.md.

Texts in, texts out: `make docs` writes them, a test holds the written ones to these.
"""

from collections.abc import Iterable, Mapping, Sequence

import pyarrow.types as pt

from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.metrics import METRICS, THEMES, Metric
from cai_assets.schemas.standing import places
from cai_assets.schemas.tables import MARTS, TABLES

_MADE = "<!-- Written by `make docs` from the declarations in cai_assets/schemas; change those. -->"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _grid(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(headings), "|" + "---|" * len(headings), *map(_row, rows)]


def pages() -> Mapping[str, str]:
    """The pages by file name."""
    return {"metrics.md": metrics_page(), "data_dictionary.md": data_dictionary()}


def metrics_page() -> str:
    """Every metric, by theme: definition, unit, where it stands, SQL."""
    lines = [
        "# Metrics",
        "",
        _MADE,
        "",
        "Every number of the reports is one of these, and has the same meaning wherever it stands. "
        "`cai metrics NAME` explains one, `cai metrics --search WORDS` finds some. The SQL gives the value "
        "over everything; it runs on `warehouse.duckdb` with a `where` or `group by` of your own. "
        "`$as_of_us` is the latest change of the source in microseconds, `$target_1_us` to `$target_3_us` "
        "are RESPONSE_TARGETS. "
        "A ratio has no column: both of its parts are kept, and their sums over any rows are divided. Values "
        "marked *not additive* must not be added or averaged over rows.",
    ]
    for theme, metrics in THEMES.items():
        lines += ["", f"## {theme.capitalize()}"]
        for metric in metrics:
            lines += ["", *_section(metric)]
    return "\n".join(lines) + "\n"


def _section(metric: Metric) -> list[str]:
    facts = [f"unit {metric.unit}", f"version {metric.version}"]
    if metric.numerator:
        facts.append(f"{metric.numerator} / {metric.denominator}")
    elif not metric.additive:
        facts.append("*not additive*")
    stands = ", ".join(f"`{place.name}`" for place in places(metric))
    return [
        f"### {metric.name}",
        "",
        f"**{metric.title}** · {' · '.join(facts)}",
        "",
        metric.definition,
        "",
        f"Stands in {stands}.",
        "",
        "```sql",
        metric.sql,
        "```",
    ]


def data_dictionary() -> str:
    """Every table of the lake: columns, types, units, meaning."""
    lines = [
        "# Data dictionary",
        "",
        _MADE,
        "",
        "Every Parquet table, in the order in which they are made. `?` after a type: the column may be NULL. "
        "The column *metric* names the entry in [metrics](metrics.md). Tables with a `partition` are kept by "
        "the local day on which the conversation started, the marts by `month`.",
    ]
    for table in TABLES.values():
        lines += ["", f"## {table.layer}.{table.name}", "", table.description, ""]
        lines += [f"One row per {', '.join(f'`{name}`' for name in table.key)}.", ""]
        headings = ["column", "type", "unit", "meaning", *(["metric"] if table in MARTS else [])]
        lines += _grid(headings, (_column(table, column)[: len(headings)] for column in table.columns))
    return "\n".join(lines) + "\n"


def _column(table: Table, column: Column) -> list[str]:
    kind = "list" if pt.is_list(column.type) else str(column.type)
    meaning = column.description
    if column.values:
        meaning += f" One of {', '.join(f'`{value}`' for value in column.values)}."
    metric = f"[{column.metric}](metrics.md#{column.metric})" if column.metric else ""
    return [f"`{column.name}`", kind + ("?" if column.nullable else ""), column.unit or "", meaning, metric]


def explained(metric: Metric) -> dict[str, object]:
    """One metric as plain values, for programs."""
    return {
        "name": metric.name,
        "title": metric.title,
        "definition": metric.definition,
        "unit": metric.unit,
        "additive": metric.additive,
        "numerator": metric.numerator,
        "denominator": metric.denominator,
        "version": metric.version,
        "stands_in": [
            {
                "table": f"{p.table.layer}.{p.table.name}",
                "column": p.column,
                "metric": p.part,
                "per": list(p.grain),
            }
            for p in places(metric)
        ],
        "sql": metric.sql,
        "facts_sql": metric.facts_sql,
    }


def found(words: str) -> list[Metric]:
    """Metrics in whose name, title, definition, unit or columns every word occurs, in any case."""
    wanted = words.lower().split()
    return [metric for metric in METRICS.values() if all(word in _haystack(metric) for word in wanted)]


def _haystack(metric: Metric) -> str:
    stands = " ".join(place.name for place in places(metric))
    return f"{metric.name} {metric.title} {metric.definition} {metric.unit} {stands}".lower()
