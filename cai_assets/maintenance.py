"""Work on the lake that makes no data: the job `lake_upkeep` and its schedule. What it does is `upkeep`'s."""

from datetime import datetime, timedelta

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
    """Merge files, shorten logs, remove what is too old: files that do not count, days of raw rows."""
    removed = dropped = 0
    with told_apart():
        retention = timedelta(hours=settings.lake_retention_hours)
        today = datetime.now(settings.timezone).date()
        for table, done in tidy_all(
            parquet.tables(), retention, raw_days=settings.raw_retention_days, today=today
        ):
            removed += len(done.vacuumed)
            dropped += len(done.dropped)
            if done.dropped:
                days = f"{done.dropped[0]} to {done.dropped[-1]}"
                context.log.info(f"{table.title}: {len(done.dropped)} days dropped, {days}")
            context.log.info(
                f"{table.title}: {done.merged.partitions} partitions merged, {len(done.vacuumed)} files "
                f"removed; {done.files} files, {done.bytes / 2**20:,.1f} MiB"
            )
    context.add_output_metadata({"removed": removed, "raw_days_dropped": dropped})


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
