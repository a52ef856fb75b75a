"""Work on the lake that makes no data: the job `lake_upkeep` and its schedule. What it does is `upkeep`'s."""

from datetime import timedelta

import dagster as dg

from cai_assets.io_managers.failing import told_apart
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.resources.upkeep import tidy_all
from cai_assets.settings import Settings, load_settings

RUNS_AT = "30 3 * * *"


@dg.op(description="What `cai compact` does, for every table.")
def tidy_the_lake(
    context: dg.OpExecutionContext,
    parquet: dg.ResourceParam[ParquetIOManager],
    settings: dg.ResourceParam[Settings],
) -> None:
    """Merge files, shorten logs, remove what has not counted for LAKE_RETENTION_HOURS."""
    removed = 0
    with told_apart():
        for table, done in tidy_all(parquet.tables(), timedelta(hours=settings.lake_retention_hours)):
            removed += len(done.vacuumed)
            context.log.info(
                f"{table.title}: {done.merged.partitions} partitions merged, {len(done.vacuumed)} files "
                f"removed; {done.files} files, {done.bytes / 2**20:,.1f} MiB"
            )
    context.add_output_metadata({"removed": removed})


@dg.job(description="Keep the lake's tables small and quick to open, as `cai compact` does.")
def lake_upkeep() -> None:
    """The job of one step."""
    tidy_the_lake()


UPKEEP_SCHEDULE = dg.ScheduleDefinition(
    job=lake_upkeep,
    cron_schedule=RUNS_AT,
    execution_timezone=load_settings().report_timezone,
    description="Every night; switch it on where the daemon runs.",
)
