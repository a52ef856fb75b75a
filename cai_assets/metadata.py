"""What the UI shows about a table: columns with units and where they come from, owners, tags, the code.

Only the shape of metadata, no reading.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from cai_assets.engines.origins import WRITTEN, ColumnOf, columns_of, fields_behind
from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.documents import Collection
from cai_assets.schemas.metrics import Metric
from cai_assets.schemas.standing import of_table

OWNERS = ["team:data"]
METRIC_TAG = "cai/metric"
"""Tag of a column that holds a metric: its name, as `cai metrics` knows it."""

GRAIN_TAG, HOLDS_TAG = "cai/grain", "cai/holds"
"""Tags of an asset, to select by: what one partition of it is, and the most private thing in it."""
ORIGINALS, TEXTS, IDS, NUMBERS = "originals", "texts", "ids", "numbers"
"""Values of `HOLDS_TAG`: rows as the source has them; texts, masked; ids of conversations or hashes of users;
figures alone."""


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


def source_schema(collection: Collection) -> dg.TableSchema:
    """Columns of a table of the source, under the platform's names (NOCODB_FIELD_MAP)."""
    columns = [dg.TableColumn("Id", "number", description="NocoDB's number of the row.")]
    columns += [
        dg.TableColumn(
            name=field.name,
            type=field.kind,
            description=field.description,
            constraints=dg.TableColumnConstraints(
                nullable=field.may_be_null,
                unique=field is collection.key,
                other=[f"one of {', '.join(field.values)}"] if field.values else [],
            ),
        )
        for field in collection.fields
    ]
    meanings = ("When the row was made.", "When the row was last changed.")
    columns += [dg.TableColumn(n, "instant", description=d) for n, d in zip(WRITTEN, meanings, strict=True)]
    return dg.TableSchema(columns=columns)


def tags(*, daily: bool, holds: str) -> dict[str, str]:
    """Tags of an asset.

    Args:
        daily: whether it is partitioned by the day.
        holds: one of ORIGINALS, TEXTS, IDS, NUMBERS.
    """
    return {GRAIN_TAG: "day" if daily else "all_days", HOLDS_TAG: holds}


def table_tags(table: Table) -> dict[str, str]:
    """Tags of an asset that is this table."""
    if table.layer in {"raw", "documents"}:
        holds = ORIGINALS
    elif {"text", "term"} & table.by_name.keys():
        holds = TEXTS
    else:
        holds = IDS if {"user_id", "conversation_id", "message_id", "_id"} & table.by_name.keys() else NUMBERS
    return tags(daily=table.partition_by == "partition", holds=holds)


def _named(columns: Iterable[ColumnOf], without: int = 0) -> str:
    return ", ".join(f"`{'.'.join(column[without:])}`" for column in columns)


def lineage_metadata(path: tuple[str, str]) -> dict[str, Any]:
    """Where the columns of a table come from: as Dagster's column lineage, and as a table for people.

    Dagster's open-source UI keeps the first to itself; the second says beside it which fields of the source
    a column comes from in the end.
    """
    columns = columns_of(path)
    if not columns:
        return {}
    lines = ["| column | made of | fields of the source |", "|---|---|---|"]
    lines += [
        f"| `{column}` | {_named(sources)} | {_named(fields_behind((*path, column)), without=1)} |"
        for column, sources in columns.items()
    ]
    deps = {
        column: [
            dg.TableColumnDep(asset_key=dg.AssetKey([layer, table]), column_name=name)
            for layer, table, name in sources
        ]
        for column, sources in columns.items()
    }
    return {
        "dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps),
        "columns_come_from": dg.MetadataValue.md("\n".join(lines)),
    }


def code_metadata(function: Callable[..., Any], sql: Path | None = None) -> dict[str, Any]:
    """The code of an asset: its function, and before it the SQL that it runs."""
    code = function.__code__
    places = [
        dg.LocalFileCodeReference(
            file_path=code.co_filename, line_number=code.co_firstlineno, label=Path(code.co_filename).name
        )
    ]
    if sql is not None:
        places.insert(0, dg.LocalFileCodeReference(file_path=str(sql), line_number=1, label=sql.name))
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=list(places))}


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
        **lineage_metadata(table.path),
        **({"metrics": dg.MetadataValue.md(_metric_list(metrics))} if metrics else {}),
        **(extra or {}),
    }
