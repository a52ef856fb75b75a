"""Facts and marts: one asset a SQL model of `dbt_like_sql`, made by a factory. No logic on data here."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from cai_assets.assets.common import daily_asset, table_asset, telling
from cai_assets.engines.base import Engine
from cai_assets.engines.choice import Chosen, Engines, chosen
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import CLOCK_PARAMETERS, Model, load_models, sql_folder
from cai_assets.engines.spread import Spread
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.metadata import OWNERS, table_metadata, table_tags
from cai_assets.ranges import stage_model
from cai_assets.resources.business_days import BusinessDays
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.staging import Staged
from cai_assets.schemas.base import Table
from cai_assets.schemas.settings import BUSINESS_DAY
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

FACT = ("facts", "fct_conversation")
AS_OF = "select coalesce(max(source_updated_us), 0) as as_of_us from facts.fct_conversation"

GPU_POOL = "gpu"
"""Steps that may use the GPU: as many at once as there are GPUs."""

_KINDS = {"duckdb": "duckdb", "cudf": "polars", "spark": "spark"}

business_day = dg.AssetSpec(
    list(BUSINESS_DAY.path),
    group_name=BUSINESS_DAY.layer,
    description=BUSINESS_DAY.description,
    kinds={"deltalake"},
    owners=OWNERS,
    tags=table_tags(BUSINESS_DAY),
    metadata=table_metadata(BUSINESS_DAY),
)


def tell_business_days(instance: dg.DagsterInstance, kept: BusinessDays) -> None:
    """Record that the business hours are other ones now: facts made with the old ones become stale.

    A run that reads them must be told before its steps start, for a step notes the version of its inputs.
    """
    if kept.changed:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                business_day.key,
                description="BUSINESS_HOURS have changed.",
                metadata={"dagster/row_count": sum(kept.files.rows.values()), "dagster/uri": kept.uri},
                tags={"dagster/data_version": kept.version},
            )
        )


def model_parameters(settings: Settings) -> dict[str, Any]:
    """The named parameters of the models that come from the settings; instants and gaps in microseconds."""
    return {
        "report_timezone": settings.report_timezone,
        "session_gap_us": settings.session_gap_minutes * 60_000_000,
        **{f"target_{n}_us": seconds * 1_000_000 for n, seconds in enumerate(settings.response_targets, 1)},
    }


def _input_name(path: tuple[str, str]) -> str:
    return "__".join(path)


def _tell_engine(
    context: dg.AssetExecutionContext, engine: Engine, choice: Chosen, spread: Spread | None = None
) -> None:
    """What ran the model, where and why, as metadata of the materialisation."""
    about = engine.about()
    if spread is not None and engine.name == "cudf" and spread.address:
        about = {"engine": "cudf", "device": "chosen by each worker", "device_why": f"days go to {spread}"}
    context.add_output_metadata({**about, "engine_why": choice.why})


def _sql_asset(model: Model, table: Table, settings: Settings) -> dg.AssetsDefinition:
    choice = chosen(model.key, settings)
    inputs = {_input_name(path): path for path in model.inputs if path != BUSINESS_DAY.path}
    reads_business_days = BUSINESS_DAY.path in model.inputs
    as_of_input = _input_name(FACT) if CLOCK_PARAMETERS & set(model.parameters) else None
    ins = {name: dg.AssetIn(list(path)) for name, path in inputs.items()}
    if as_of_input and as_of_input not in ins:
        ins[as_of_input] = dg.AssetIn(list(FACT))

    def loaded_by_path(
        loaded: Mapping[str, LakeFiles], business_days: BusinessDays
    ) -> dict[tuple[str, str], LakeFiles]:
        found = {path: loaded[name] for name, path in inputs.items()}
        return {**found, BUSINESS_DAY.path: business_days.files} if reads_business_days else found

    def values(
        context: dg.AssetExecutionContext,
        duckdb: DuckDBEngine,
        settings: Settings,
        business_days: BusinessDays,
        loaded: Mapping[str, LakeFiles],
    ) -> dict[str, Any]:
        parameters = model_parameters(settings)
        if as_of_input:
            as_of = duckdb.query(AS_OF, {FACT: loaded[as_of_input].files})["as_of_us"][0].as_py()
            parameters |= {"as_of_us": as_of, "as_of_business_us": business_days.business_us(as_of)}
            context.add_output_metadata({"as_of": dg.MetadataValue.timestamp(as_of / 1e6)})
        return {name: parameters[name] for name in model.parameters}

    def daily(
        context: dg.AssetExecutionContext,
        duckdb: dg.ResourceParam[DuckDBEngine],
        parquet: dg.ResourceParam[ParquetIOManager],
        spread: dg.ResourceParam[Spread],
        settings: dg.ResourceParam[Settings],
        business_days: dg.ResourceParam[BusinessDays],
        engines: dg.ResourceParam[Engines],
        **loaded: Any,
    ) -> Staged:
        engine, choice = engines.of(model.key)
        _tell_engine(context, engine, choice, spread)
        return stage_model(
            spread,
            model,
            loaded_by_path(loaded, business_days),
            values(context, duckdb, settings, business_days, loaded),
            parquet.table(table.path),
            settings,
            context.partition_keys,
            telling(context, spread),
            engine,
        )

    def whole(
        context: dg.AssetExecutionContext,
        duckdb: dg.ResourceParam[DuckDBEngine],
        settings: dg.ResourceParam[Settings],
        business_days: dg.ResourceParam[BusinessDays],
        engines: dg.ResourceParam[Engines],
        **loaded: Any,
    ) -> pa.RecordBatchReader:
        engine, choice = engines.of(model.key)
        _tell_engine(context, engine, choice)
        files = {path: found.files for path, found in loaded_by_path(loaded, business_days).items()}
        parameters = values(context, duckdb, settings, business_days, loaded)
        return engine.run(model, files, parameters, table=table)

    options: dict[str, Any] = {
        "kinds": {_KINDS[choice.name], "sql", "deltalake"},
        "ins": ins,
        "deps": [business_day.key] if reads_business_days else [],
        "sql": sql_folder() / model.file,
        "code_version": model.version,
    }
    if choice.name == "cudf" and settings.enable_gpu is not False:
        options["pool"] = GPU_POOL
    if table.partition_by == "partition":
        return daily_asset(table, **options)(daily)
    return table_asset(table, **options)(whole)


def build_analytics_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Every model of `dbt_like_sql`, wired to the tables its SQL names; kind and pool are its engine's."""
    return [_sql_asset(model, TABLES[path], settings) for path, model in load_models().items()]
