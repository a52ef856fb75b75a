"""What starts runs without a hand: sensors that follow the source and the facts, and schedules.

How changes are found is `resources.changes`' and `resources.sweep`'s, which days wait is kept by
`resources.dirty_days`, when to ask for a run is decided in `domain.changes`, when a table follows those it is
made of in `conditions`. Only Dagster's part is here.

Every asset has one trigger: days, down to the facts and the day's report, are refreshed by `refresh_days`,
which `nocodb_changes` and `daily_safety` ask for; tables over all days follow the facts by their condition,
which `tables_follow` evaluates.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

import dagster as dg
from pydantic import ValidationError

from cai_assets.assets.reports import SETTLED_AFTER
from cai_assets.conditions import ALL_DAYS, NEWEST_DAY
from cai_assets.domain.changes import Found, requests_for
from cai_assets.failures import PermanentError
from cai_assets.io_managers.failing import told_apart
from cai_assets.partitions import (
    DAILY,
    DAYS_PER_RUN,
    RANGE_END,
    RANGE_START,
    contiguous_ranges,
    day_of,
    days_between,
)
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
DAILY_ZONE = load_settings().timezone
# What a person waits for is a tick of each of two sensors and two runs. 15 s: an idle look at the source is
# two requests and 0.1 CPU seconds, an idle tick of the conditions 0.6 to 1.1 CPU seconds, so 6 % of a core.
# The daemon itself looks every 5 s.
LOOK_SECONDS = 15
# A first sweep that failed is asked for again, at most every ten minutes.
SWEEP_RETRY_SECONDS = 600
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

DAILY_LAYERS = ("raw", "documents", "enrichment", "lake", "facts")
FOLLOWING_LAYERS = ("marts", "reports")

# How far back `daily_safety` goes: the days whose figures still move, as reports call a day settled after a
# week. What is corrected later than that is found by the sensor and the sweep; this is the net below them,
# and eight days of conversations that are all known already cost one run, and no call of Dify.
SAFETY_DAYS = SETTLED_AFTER.days

refresh_days = dg.define_asset_job(
    "refresh_days",
    selection=(
        dg.AssetSelection.groups(*DAILY_LAYERS) | dg.AssetSelection.assets(["reports", "daily_report"])
    ),
    description="Some days anew, from the source to the facts and the day's report. Marts follow.",
)

look_for_newest_day = dg.define_asset_job(
    "look_for_newest_day",
    selection=dg.AssetSelection.checks(NEWEST_DAY),
    description="Fails where the source has newer days than the lake.",
)

hourly_look = dg.ScheduleDefinition(
    name="hourly_look",
    job=look_for_newest_day,
    cron_schedule="20 * * * *",  # one or two requests to the source
    execution_timezone=load_settings().report_timezone,
    description="Every hour: is the source's newest day in the lake?",
)

tables_follow = dg.AutomationConditionSensorDefinition(
    "tables_follow",
    target=dg.AssetSelection.groups(*FOLLOWING_LAYERS),
    # On by default, unlike what reads the source: it costs nothing but marts after facts were made anew, and
    # without it a backfill of facts from the UI would leave marts of yesterday beside them.
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=LOOK_SECONDS,
    run_tags=ALL_DAYS,
    description="Makes marts and reports anew when facts were, of whichever days, once no run makes facts.",
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


@dg.schedule(
    name="daily_safety",
    job=refresh_days,
    cron_schedule="0 4 * * *",  # after the sweep and the lake's upkeep, before people come
    execution_timezone=load_settings().report_timezone,
    description="Every morning: the days whose figures still move, whether or not a change of them was seen.",
)
def daily_safety(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """Today and the `SAFETY_DAYS` before it, without those that a run under way covers."""
    today = day_of(context.scheduled_execution_time, DAILY_ZONE)
    first = max(
        (date.fromisoformat(today) - timedelta(days=SAFETY_DAYS)).isoformat(),
        DAILY.get_first_partition_key() or today,
    )
    last = min(today, DAILY.get_last_partition_key() or today)
    days = set(days_between(first, last)) if first <= last else set()
    if not days:
        return dg.SkipReason(f"no day from {first} on is kept: the last one is {last}")
    left = days - _busy_days(context.instance)
    if not left:
        return dg.SkipReason(f"runs under way cover all days from {first} to {today}")
    return [
        dg.RunRequest(f"daily_safety of {today}: {start}..{end}", tags={RANGE_START: start, RANGE_END: end})
        for start, end in contiguous_ranges(left)
    ]


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
    minimum_interval_seconds=LOOK_SECONDS,
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
    # Marts are compared with the facts they were made of: a day replaced in between would look like a loss.
    if instance.get_runs(dg.RunsFilter(tags=ALL_DAYS, statuses=UNDER_WAY), limit=1):
        return
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


JOBS = (refresh_days, sweep_source, look_for_newest_day)
SENSORS = (nocodb_changes, tables_follow)
SCHEDULES = (nightly_sweep, daily_safety, hourly_look)
