"""All the wiring there is: `defs` is what Dagster loads. No logic belongs here."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import dagster as dg

from cai_assets import automation
from cai_assets.alerts import alerts
from cai_assets.assets import analytics, enrichment, lake, raw, reports, topics
from cai_assets.assets import documents as document_assets
from cai_assets.checks.arrival import newest_day
from cai_assets.checks.conservation import build_conservation_checks
from cai_assets.checks.quality import build_quality_checks
from cai_assets.checks.sql import build_sql_checks
from cai_assets.engines.choice import Engines, check_models
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import load_models
from cai_assets.engines.spread import Spread
from cai_assets.io_managers.mongo import MongoIOManager
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.launcher import note_process
from cai_assets.logs import follow_settings
from cai_assets.maintenance import UPKEEP_SCHEDULE, lake_upkeep
from cai_assets.resources.business_days import BusinessDays, keep_business_days
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.source import Source, open_source
from cai_assets.schemas.settings import BUSINESS_DAY
from cai_assets.settings import Settings, load_settings


def build_resources(settings: Settings) -> dict[str, Any]:
    """Connections, opened when a run needs them and closed when it ends.

    They are built from the settings, not from Dagster's configuration, so that no secret appears in the UI.
    """

    @dg.resource(description="The settings of the environment.")
    def known_settings(context: dg.InitResourceContext) -> Settings:
        # Every run asks for them first, so here it is noted which process carries it out.
        if context.run is not None and context.instance is not None:
            note_process(context.instance, context.run.run_id)
        return settings

    @dg.resource(description="Where conversations come from: NocoDB or files.")
    def source(_: dg.InitResourceContext) -> Iterator[Source]:
        with closing(open_source(settings)) as opened:
            yield opened

    @dg.resource(description="MongoDB: documents, memory, ledger, reports.")
    def mongo(_: dg.InitResourceContext) -> Iterator[MongoStore]:
        with MongoStore.from_settings(settings) as store:
            store.ensure_indexes()
            yield store

    @dg.io_manager(description="Delta tables of Parquet files, on local disk or S3.")
    def parquet(_: dg.InitResourceContext) -> ParquetIOManager:
        return ParquetIOManager.from_settings(settings)

    @dg.resource(description="DuckDB in memory, over the lake's files.", required_resource_keys={"parquet"})
    def duckdb(context: dg.InitResourceContext) -> Iterator[DuckDBEngine]:
        prepare = context.resources.parquet.store.duckdb_setup
        with DuckDBEngine.from_settings(settings, prepare=prepare) as engine:
            yield engine

    @dg.resource(
        description="The engines of the SQL models: DuckDB, cuDF, Spark.", required_resource_keys={"parquet"}
    )
    def engines(context: dg.InitResourceContext) -> Iterator[Engines]:
        with Engines(settings, context.resources.parquet.store) as opened:
            yield opened

    @dg.resource(description="Workers for the days of a range: Dask, processes, threads or none.")
    def spread(_: dg.InitResourceContext) -> Iterator[Spread]:
        with Spread.from_settings(settings) as workers:
            yield workers

    @dg.resource(
        description="BUSINESS_HOURS as a table of the lake, brought in step when a run that needs it starts.",
        required_resource_keys={"parquet"},
    )
    def business_days(context: dg.InitResourceContext) -> BusinessDays:
        kept = keep_business_days(context.resources.parquet.table(BUSINESS_DAY.path), settings)
        if context.instance is not None:
            analytics.tell_business_days(context.instance, kept)
        return kept

    @dg.io_manager(description="MongoDB documents.", required_resource_keys={"mongo"})
    def documents(context: dg.InitResourceContext) -> MongoIOManager:
        return MongoIOManager(context.resources.mongo)

    return {
        "settings": known_settings,
        "source": source,
        "mongo": mongo,
        "duckdb": duckdb,
        "engines": engines,
        "spread": spread,
        "parquet": parquet,
        "business_days": business_days,
        "documents": documents,
    }


def build_definitions(settings: Settings | None = None, **resources: Any) -> dg.Definitions:
    """The whole code location.

    Args:
        settings: default those of the environment.
        resources: replace resources of the same name, for tests.

    Raises:
        SettingsError: if a variable is wrong; all of them are named.
        PermanentError: the chosen engine cannot run a model, or is not installed.
    """
    settings = settings or load_settings()
    check_models(load_models(), settings)
    replaced: Mapping[str, Any] = {**build_resources(settings), **resources}
    return dg.Definitions(
        assets=[
            raw.nocodb_conversations,
            raw.nocodb_messages,
            raw.raw_conversations,
            raw.raw_messages,
            document_assets.documents_conversations,
            document_assets.documents_messages,
            enrichment.languages,
            enrichment.translations,
            enrichment.categories,
            *lake.build_lake_assets(),
            analytics.business_day,
            *analytics.build_analytics_assets(settings),
            topics.build_topic_assets(settings),
            *reports.REPORTS,
        ],
        asset_checks=[
            newest_day,
            *build_conservation_checks(),
            *build_sql_checks(),
            *build_quality_checks(),
        ],
        jobs=[*automation.JOBS, lake_upkeep],
        sensors=[*automation.SENSORS, alerts],
        schedules=[*automation.SCHEDULES, UPKEEP_SCHEDULE],
        resources=dict(replaced),
        # One process: a run's thirty steps would else be thirty interpreter starts of 3 CPU seconds each, and
        # threads inside the steps (IO_THREADS, PROCESSING_THREADS) already use the machine.
        executor=dg.in_process_executor,
    )


follow_settings(load_settings())
defs = build_definitions()
