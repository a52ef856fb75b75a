"""Facts and marts: one asset a SQL model of `dbt_like_sql`, made by a factory. No logic on data here."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from cai_assets.assets.common import daily_asset, table_asset
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import Model, column_lineage, load_models
from cai_assets.resources.storage import LakeFiles
from cai_assets.schemas.base import Table
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

FACT = ("facts", "fct_conversation")
AS_OF = "select coalesce(max(source_updated_us), 0) as as_of_us from facts.fct_conversation"


def model_parameters(settings: Settings) -> dict[str, Any]:
    """The named parameters of the models that come from the settings; instants and gaps in microseconds."""
    return {
        "report_timezone": settings.report_timezone,
        "session_gap_us": settings.session_gap_minutes * 60_000_000,
        **{f"target_{n}_us": seconds * 1_000_000 for n, seconds in enumerate(settings.response_targets, 1)},
    }


def _input_name(path: tuple[str, str]) -> str:
    return "__".join(path)


def _lineage(model: Model) -> dict[str, Any]:
    """Column lineage as the UI draws it, read from the SQL's tree."""
    deps_by_column = {
        column: [
            dg.TableColumnDep(asset_key=dg.AssetKey([layer, name]), column_name=source)
            for layer, name, source in sources
        ]
        for column, sources in column_lineage(model).items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps_by_column)}


def _sql_asset(model: Model, table: Table) -> dg.AssetsDefinition:
    inputs = {_input_name(path): path for path in model.inputs}
    as_of_input = _input_name(FACT) if "as_of_us" in model.parameters else None
    ins = {name: dg.AssetIn(list(path)) for name, path in inputs.items()}
    if as_of_input and as_of_input not in ins:
        ins[as_of_input] = dg.AssetIn(list(FACT))

    def run(
        context: dg.AssetExecutionContext,
        duckdb: dg.ResourceParam[DuckDBEngine],
        settings: dg.ResourceParam[Settings],
        **loaded: Any,
    ) -> pa.RecordBatchReader:
        files: Mapping[str, LakeFiles] = loaded
        parameters = model_parameters(settings)
        if as_of_input:
            as_of = duckdb.query(AS_OF, {FACT: files[as_of_input].files})["as_of_us"][0].as_py()
            parameters["as_of_us"] = as_of
            context.add_output_metadata({"as_of": dg.MetadataValue.timestamp(as_of / 1e6)})
        wanted = {name: parameters[name] for name in model.parameters}
        by_path = {path: files[name].files for name, path in inputs.items()}
        return duckdb.run(model, by_path, wanted, table=table)

    options: dict[str, Any] = {
        "kinds": {"duckdb", "sql", "deltalake"},
        "ins": ins,
        "metadata": _lineage(model),
        "code_version": model.version,
    }
    decorate = daily_asset if table.partition_by == "partition" else table_asset
    return decorate(table, **options)(run)


def build_analytics_assets() -> list[dg.AssetsDefinition]:
    """Every model of `dbt_like_sql`, wired to the tables its SQL names."""
    return [_sql_asset(model, TABLES[path]) for path, model in load_models().items()]
