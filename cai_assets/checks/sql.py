"""Checks written as SQL: what a table's declaration promises, and the queries under `dbt_like_sql/tests`.

A query returns the rows that are wrong; no row means that it holds.
"""

from collections.abc import Iterator, Sequence

import dagster as dg
import pyarrow as pa

from cai_assets.assets.analytics import model_parameters
from cai_assets.checks.days import days_of_run
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import SqlTest, load_tests
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.schemas.base import Table
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

SHOWN = 5


def schema_query(table: Table) -> str:
    """The SQL that finds broken promises of a declaration: NULLs, unknown values, repeated keys.

    Arrow's schema itself (names, types, NULLs) is also enforced by the writer; this reads the files again,
    so it holds for whoever wrote them.
    """
    source = f"{table.layer}.{table.name}"

    def broken(problem: str, condition: str) -> str:
        return f"select '{problem}' as problem, count(*) as wrong_rows from {source} where {condition}"  # noqa: S608  declared names

    parts = [broken(f"{c.name} is null", f"{c.name} is null") for c in table.columns if not c.nullable]
    for column in table.columns:
        if column.values:
            allowed = ", ".join(f"'{value}'" for value in column.values)
            named = " or ".join(column.values)
            parts.append(broken(f"{column.name} is not {named}", f"{column.name} not in ({allowed})"))
    # A day repeats no key; the same key on two days is the affair of the query that names it.
    key = ", ".join((*filter(None, [table.partition_by]), *table.key))
    repeated = f"(select 1 from {source} group by {key} having count(*) > 1)"  # noqa: S608  declared names
    parts.append(f"select '{key} is repeated' as problem, count(*) as wrong_rows from {repeated}")  # noqa: S608
    every = " union all ".join(parts)
    return f"select * from ({every}) where wrong_rows > 0"  # noqa: S608


def _verdict(wrong: pa.Table, holds: str, breaks: str) -> dg.AssetCheckResult:
    if wrong.num_rows == 0:
        return dg.AssetCheckResult(passed=True, description=holds, metadata={"wrong_rows": 0})
    first = "; ".join(
        ", ".join(f"{k}={v}" for k, v in row.items()) for row in wrong.slice(0, SHOWN).to_pylist()
    )
    return dg.AssetCheckResult(
        passed=False,
        description=f"{breaks} First of {wrong.num_rows}: {first}",
        metadata={"wrong_rows": wrong.num_rows},
    )


def _days(context: dg.AssetCheckExecutionContext, table: Table) -> Sequence[str] | None:
    return days_of_run(context) if table.partition_by == "partition" else None


def _schema_check(table: Table) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(table.path),
        name="schema_holds",
        description="No NULL where none may stand, only declared values, no key twice.",
        blocking=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        duckdb: dg.ResourceParam[DuckDBEngine],
        parquet: dg.ResourceParam[ParquetIOManager],
    ) -> dg.AssetCheckResult:
        files = parquet.files(table.path, _days(context, table))
        wrong = duckdb.query(schema_query(table), {table.path: files})
        return _verdict(
            wrong, "The declaration holds.", "The declaration is broken: materialise the layer above."
        )

    return check


def _sql_check(test: SqlTest) -> dg.AssetChecksDefinition:
    """A test of `dbt_like_sql/tests` as check of the last table it names; the others are read beside it."""
    table = TABLES[test.asset]

    @dg.asset_check(
        asset=list(table.path),
        name=test.name,
        description=f"Looks for: {test.description}",
        blocking=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        duckdb: dg.ResourceParam[DuckDBEngine],
        parquet: dg.ResourceParam[ParquetIOManager],
        settings: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        days = _days(context, table)
        inputs = {path: parquet.files(path, days) for path in test.inputs}
        parameters = model_parameters(settings)
        wrong = duckdb.query(test.sql, inputs, {name: parameters[name] for name in test.parameters})
        return _verdict(wrong, f"Found none: {test.description}", f"Found: {test.description}")

    return check


def build_sql_checks() -> Iterator[dg.AssetChecksDefinition]:
    """A schema check for every table from the lake on, and every query under `dbt_like_sql/tests`."""
    for table in TABLES.values():
        if table.layer in {"lake", "facts", "marts"}:
            yield _schema_check(table)
    for test in load_tests():
        yield _sql_check(test)
