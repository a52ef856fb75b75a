"""What starts runs without a hand: the sensor that follows the source, and the nightly sweep.

How changes are found is `resources.changes`' and `resources.sweep`'s, which days wait is kept by
`resources.dirty_days`, when to ask for a run is decided in `domain.changes`. Only Dagster's part is here.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
from pydantic import ValidationError

from cai_assets.assets.common import DAYS_PER_RUN
from cai_assets.domain.changes import Found, requests_for
from cai_assets.failures import PermanentError
from cai_assets.io_managers.failing import told_apart
from cai_assets.partitions import DAILY, RANGE_END, RANGE_START, days_between
from cai_assets.resources.changes import Cursor, Looked, first_cursor, poll
from cai_assets.resources.dirty_days import DirtyDays, utc_now
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.source import Source
from cai_assets.resources.sweep import Swept, sweep
from cai_assets.settings import Settings, load_settings

PARTITION = "dagster/partition"

# A tick is ended after 60 s by Dagster's code server, without saving its cursor; what is under way when the
# time is up, a page and its comparison, may take up to 20 s of a slow server's.
TICK_SECONDS = 35.0
# A first sweep that failed is asked for again, at most every ten minutes.
SWEEP_RETRY_SECONDS = 600
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

refresh_days = dg.define_asset_job(
    "refresh_days",
    selection=dg.AssetSelection.all(),
    description="Every table anew for some days, from the source to the reports.",
)


class SweepConfig(dg.Config):
    """How a sweep looks.

    Attributes:
        contents: read and compare whole rows, not only numbers and times; costs reading the whole source.
    """

    contents: bool = False


@dg.op(name="sweep", description="Compare all row numbers of the source with the documents.")
def sweep_op(
    context: dg.OpExecutionContext,
    config: SweepConfig,
    source: dg.ResourceParam[Source],
    mongo: dg.ResourceParam[MongoStore],
    settings: dg.ResourceParam[Settings],
) -> None:
    """Find what a poll cannot see, and mark the days concerned."""
    with told_apart():
        swept, marked = sweep_and_mark(source, mongo, settings, contents=config.contents)
    for name, rows in swept.source_rows.items():
        context.log.info(
            f"{name}: {rows} rows in the source, {swept.known_rows[name]} in the documents, "
            f"{swept.without_day[name]} of the source belong to no day"
        )
        metadata: dict[str, dg.MetadataValue[Any]] = {
            "source_rows": dg.MetadataValue.int(rows),
            "known_rows": dg.MetadataValue.int(swept.known_rows[name]),
            "rows_without_day": dg.MetadataValue.int(swept.without_day[name]),
            "dirty_days": dg.MetadataValue.json(marked),
        }
        context.log_event(dg.AssetObservation(["nocodb", name], metadata=metadata))


@dg.job(executor_def=dg.in_process_executor)
def sweep_source() -> None:
    """Finds deletions and whatever else the sensor cannot see, and marks the days concerned."""
    sweep_op()


nightly_sweep = dg.ScheduleDefinition(
    name="nightly_sweep",
    job=sweep_source,
    cron_schedule="30 2 * * *",  # when few write, and after the night in which clocks change has its hour
    execution_timezone=load_settings().report_timezone,
    description="Every night: row numbers of the source beside those of the documents.",
)


def sweep_and_mark(
    source: Source, mongo: MongoStore, settings: Settings, *, contents: bool = False
) -> tuple[Swept, list[str]]:
    """Sweep, mark what is to be refreshed, and remember that it was done.

    Returns:
        What was found, and the days newly marked.
    """
    dirty_days = DirtyDays(mongo)
    swept = sweep(
        source,
        mongo,
        settings.timezone,
        contents=contents,
        erased=mongo.erased(settings.pseudonym_key),
    )
    marked = dirty_days.mark(_kept_days(swept.found), now=utc_now())
    dirty_days.swept(swept.without_day, now=utc_now())
    return swept, marked


@dg.sensor(
    name="nocodb_changes",
    jobs=[refresh_days, sweep_source],
    minimum_interval_seconds=30,
    description="Follows the source: finds new, edited, late and moved rows, and has their days refreshed.",
)
def nocodb_changes(
    context: dg.SensorEvaluationContext,
    source: dg.ResourceParam[Source],
    mongo: dg.ResourceParam[MongoStore],
    settings: dg.ResourceParam[Settings],
) -> dg.SensorResult:
    """Look at what was written since the last tick, mark its days, and ask for runs of the days that wait."""
    until = time.monotonic() + TICK_SECONDS
    dirty_days = DirtyDays(mongo)
    if context.cursor is None:
        cursor, looked = first_cursor(source), Looked()
    else:
        cursor, looked = poll(
            source,
            mongo,
            _cursor(context.cursor),
            settings.timezone,
            until=until,
            erased=mongo.erased(settings.pseudonym_key),
        )
    now = utc_now()
    # Marks first: were the tick to end here, the next one would look at the same rows again.
    marked = dirty_days.mark(_kept_days(looked.found), now=now)
    requests = [
        *_first_sweep(context.instance, dirty_days, now.timestamp()),
        *_refreshes(context.instance, dirty_days),
    ]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else dg.SkipReason(_told(looked, dirty_days)),
        cursor=cursor.model_dump_json(),
        asset_events=[_observation(name, looked, marked) for name in looked.rows] if marked else [],
    )


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.model_validate_json(text)
    except ValidationError as error:
        raise PermanentError(
            f"the cursor of nocodb_changes cannot be read ({error.error_count()} errors): reset it in the UI "
            "(Automation, nocodb_changes, Reset cursor); a sweep then finds what was missed"
        ) from None


def _kept_days(found: Found) -> Found:
    """Without days before the first partition, which are never kept. A day to come waits for its time."""
    first = DAILY.get_first_partition_key() or ""
    return found.without(day for day in found.reasons if day < first)


def _first_sweep(instance: dg.DagsterInstance, dirty_days: DirtyDays, now: float) -> Iterable[dg.RunRequest]:
    """A sweep where none was ever done: it finds what was there before the sensor was switched on."""
    if dirty_days.last_sweep() is not None:
        return
    if instance.get_runs(dg.RunsFilter(job_name=sweep_source.name, statuses=UNDER_WAY), limit=1):
        return
    yield dg.RunRequest(f"first sweep {int(now) // SWEEP_RETRY_SECONDS}", job_name=sweep_source.name)


def _refreshes(instance: dg.DagsterInstance, dirty_days: DirtyDays) -> Iterable[dg.RunRequest]:
    now = utc_now()
    last = DAILY.get_last_partition_key() or ""
    waiting = [one for one in dirty_days.all() if one.day <= last]
    for request in requests_for(waiting, now=now, busy=_busy_days(instance), longest=DAYS_PER_RUN):
        dirty_days.requested(request, now=now)
        yield dg.RunRequest(
            request.key,
            job_name=refresh_days.name,
            tags={RANGE_START: request.days[0], RANGE_END: request.days[-1]},
        )


def _busy_days(instance: dg.DagsterInstance) -> set[str]:
    """Days of runs that are queued or under way."""
    days: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)):
        days |= _days_of(run.tags)
    return days


def _days_of(tags: Mapping[str, str]) -> set[str]:
    first, last = tags.get(RANGE_START), tags.get(RANGE_END)
    if first and last:
        return set(days_between(first, last))
    return {tags[PARTITION]} if PARTITION in tags else set()


def _told(looked: Looked, dirty_days: DirtyDays) -> str:
    rows = ", ".join(f"{count} {name}" for name, count in looked.rows.items()) or "nothing new"
    waiting = dirty_days.all()
    if not waiting:
        return f"looked at {rows}: every day is up to date"
    return f"looked at {rows}: {len(waiting)} days wait, for runs under way or for their next attempt"


def _observation(name: str, looked: Looked, marked: list[str]) -> dg.AssetObservation:
    metadata = {
        "rows_looked_at": dg.MetadataValue.int(looked.rows[name]),
        "dirty_days": dg.MetadataValue.json(marked),
    }
    return dg.AssetObservation(["nocodb", name], metadata=metadata)


JOBS = (refresh_days, sweep_source)
SENSORS = (nocodb_changes,)
SCHEDULES = (nightly_sweep,)
