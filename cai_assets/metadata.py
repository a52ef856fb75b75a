"""What the UI shows about a table: column schema, owners, units. Only the shape of metadata, no reading."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from cai_assets.schemas.base import Column, Table

OWNERS = ["team:data"]


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
            )
            for column in table.columns
        ]
    )


def table_metadata(table: Table, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Definition metadata of an asset that is this table."""
    return {
        "dagster/column_schema": column_schema(table),
        "dagster/table_name": f"{table.layer}.{table.name}",
        "key": ", ".join(table.key),
        **(extra or {}),
    }
