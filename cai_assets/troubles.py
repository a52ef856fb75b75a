"""What Dagster's records tell of failures, as troubles: runs, backfills, late tables, sensors that fail.

Only reading and wording belong here. Who is told, and how often, is `alerts`' and `domain.alerts`'. No text
of a message may get out: of errors that the platform did not word itself, only the kind is told.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType, TickStatus

from cai_assets.domain.alerts import Trouble, first_line
from cai_assets.failures import CaiError
from cai_assets.partitions import RANGE_END, RANGE_START

WILL_RETRY = "dagster/will_retry"
PARTITION = "dagster/partition"
FAILED_TICKS = 6
"""Those that look often do so every 15 s: what passes by itself in a minute and a half is not told."""
RUNS_AT_ONCE = 50
EVENTS_AT_ONCE = 1000


def failed_runs(instance: dg.DagsterInstance, after: datetime) -> Sequence[dg.RunRecord]:
    """Runs whose last change is that they failed, later than `after`, in that order."""
    return instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=after),
        limit=RUNS_AT_ONCE,
        order_by="update_timestamp",
        ascending=True,
    )


def run_trouble(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Trouble | None:
    """What a failed run has to tell; None where it is started again by itself."""
    if run.tags.get(WILL_RETRY) == "true":
        return None
    lines = list(dict.fromkeys(_reasons(instance, run.run_id)))
    what = "a materialisation" if run.job_name.startswith("__") else run.job_name
    return Trouble(
        kind="run",
        headline=f"{what} failed{_days(run.tags)}",
        lines=tuple(lines) or ("its log says why",),
        link=f"runs/{run.run_id}",
        same=what,
    )


def _days(tags: Mapping[str, str]) -> str:
    first, last = tags.get(RANGE_START) or tags.get(PARTITION), tags.get(RANGE_END) or tags.get(PARTITION)
    if not first or not last:
        return ""
    return f" for {first}" if first == last else f" for {first} to {last}"


def _reasons(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    kinds = {
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        dg.DagsterEventType.RUN_FAILURE,
    }
    told, cursor = False, None
    while True:
        page = instance.get_records_for_run(run_id, cursor, kinds, EVENTS_AT_ONCE)
        for record in page.records:
            event = record.event_log_entry.dagster_event
            for line in _reason(event, told=told) if event else ():
                told = True
                yield line
        if not page.has_more:
            return
        cursor = page.cursor


def _reason(event: dg.DagsterEvent, *, told: bool) -> Iterator[str]:
    if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        evaluation = event.asset_check_evaluation_data
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            name = f"{evaluation.asset_key.to_user_string()}: check {evaluation.check_name}"
            yield f"{name}: {first_line(evaluation.description or 'failed')}"
    elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
        data = event.step_failure_data
        described = data.user_failure_data.description if data.user_failure_data else None
        reason = first_line(described) if described else error_line(data.error)
        if "CheckFailed" not in reason:  # the check has told
            yield f"step {(event.step_key or '').replace('__', '/', 1)}: {reason}"
    elif not told:  # of a run that ended outside its steps
        error = event.job_failure_data.error
        yield error_line(error) if error else first_line(event.message or "its process ended")


def error_line(error: Any) -> str:
    """The innermost cause: its first line where the platform worded it, else its kind alone."""
    if error is None:
        return "no reason was given"
    while error.cause is not None:
        error = error.cause
    name = error.cls_name or "unknown error"
    if name not in _own_errors():
        return f"{name} (the run's log has its text)"
    return first_line(re.sub(r"^[\w.]+: ", "", error.message))


def _own_errors(root: type[Exception] = CaiError) -> set[str]:
    return {root.__name__}.union(*(_own_errors(one) for one in root.__subclasses__()))


def failed_backfills(instance: dg.DagsterInstance, created_after: datetime) -> Sequence[PartitionBackfill]:
    """Backfills that ended badly."""
    statuses = [BulkActionStatus.FAILED, BulkActionStatus.COMPLETED_FAILED]
    filters = BulkActionsFilter(statuses=statuses, created_after=created_after)
    return instance.get_backfills(filters, limit=100)


def backfill_trouble(backfill: PartitionBackfill) -> Trouble:
    """What a failed backfill has to tell."""
    ended = (
        error_line(backfill.error)
        if backfill.status == BulkActionStatus.FAILED
        else "some of its runs failed; what they made is kept, so launch it again from its failures"
    )
    name = f"backfill {backfill.backfill_id}"
    return Trouble("backfill", f"{name} failed", (ended,), f"runs/b/{backfill.backfill_id}", same=name)


def late_tables(instance: dg.DagsterInstance, keys: Collection[dg.AssetKey]) -> Trouble | None:
    """One trouble for all tables that are older than their freshness policy allows; None if there is none."""
    states = instance.get_freshness_state_records(list(keys))
    late = sorted(
        key.to_user_string() for key, one in states.items() if one.freshness_state == FreshnessState.FAIL
    )
    if not late:
        return None
    mend = "Is the daemon running, and are nocodb_changes and daily_safety switched on?"
    some = f"{len(late)} tables are older than they" if len(late) > 1 else "1 table is older than it"
    return Trouble("late", f"{some} may be", (", ".join(late), mend), "assets", same="late")


def failing_ticks(instance: dg.DagsterInstance, but: Collection[str]) -> Iterator[Trouble]:
    """Sensors whose last ticks all failed, and schedules whose last one did, except those named."""
    on = {InstigatorStatus.RUNNING, InstigatorStatus.DECLARED_IN_CODE}
    for state in instance.all_instigator_state(instigator_statuses=on):
        name, selector = state.instigator_name, state.selector_id
        if name in but or selector is None:
            continue
        is_sensor = state.instigator_type == InstigatorType.SENSOR
        enough = FAILED_TICKS if is_sensor else 1
        ended = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
        ticks = instance.get_ticks(state.instigator_origin_id, selector, limit=enough, statuses=ended)
        if len(ticks) == enough and all(one.status == TickStatus.FAILURE for one in ticks):
            what = f"{'sensor' if is_sensor else 'schedule'} {name}"
            headline = f"{what} fails, so it starts nothing"
            yield Trouble("tick", headline, (error_line(ticks[0].error),), "automation")
