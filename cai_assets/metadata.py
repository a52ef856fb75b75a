"""What the UI shows about a table: column schema, owners, units. Only the shape of metadata, no reading."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.metrics import Metric
from cai_assets.schemas.standing import of_table

OWNERS = ["team:data"]
METRIC_TAG = "cai/metric"
"""Tag of a column that holds a metric: its name, as `cai metrics` knows it."""


def _dagster_type(column: Column) -> str:
    kind = column.type
    if pa.types.is_list(kind):
        return f"list<{'struct' if pa.types.is_struct(kind.value_type) else kind.value_type}>"
    return str(kind)


def column_schema(table: Table) -> dg.TableSchema:
    """Dagster's column schema from the declaration: type, meaning, unit, what may stand in the column."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=_dagster_type(column),
                description=f"{column.description} [{column.unit}]" if column.unit else column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable,
                    unique=(column.name,) == table.key,
                    other=[f"one of {', '.join(column.values)}"] if column.values else [],
                ),
                tags={METRIC_TAG: column.metric} if column.metric else {},
            )
            for column in table.columns
        ]
    )


def _metric_list(metrics: Iterable[Metric]) -> str:
    """The metrics as a markdown table: the UI shows it beside the columns."""
    lines = ["| metric | unit | definition | version |", "|---|---|---|---|"]
    lines += [f"| {m.name} | {m.unit} | **{m.title}.** {m.definition} | {m.version} |" for m in metrics]
    return "\n".join(lines)


def table_metadata(table: Table, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Definition metadata of an asset that is this table; of a mart also the metrics that stand in it."""
    metrics = of_table(table)
    return {
        "dagster/column_schema": column_schema(table),
        "dagster/table_name": f"{table.layer}.{table.name}",
        "key": ", ".join(table.key),
        **({"metrics": dg.MetadataValue.md(_metric_list(metrics))} if metrics else {}),
        **(extra or {}),
    }
