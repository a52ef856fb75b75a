"""The sensor `alerts`: tells people of failures by the webhook of ALERT_WEBHOOK_URL.

One sensor with a cursor of its own instead of Dagster's run-failure sensor: that one sees failed runs alone,
forgets what could not be posted, and needs a second one for everything else. What there is to tell is found
by `troubles`; it needs neither MongoDB nor the source, whose failures it has to tell of. It runs in the
daemon, so a webhook that fails is a failed tick here, and never a failed run.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
from pydantic import BaseModel, ValidationError

from cai_assets.domain.alerts import Told, Trouble, due, message
from cai_assets.domain.hiding import Secrets
from cai_assets.failures import CaiError
from cai_assets.resources.webhook import Webhook
from cai_assets.settings import Settings, load_settings
from cai_assets.troubles import (
    backfill_trouble,
    failed_backfills,
    failed_runs,
    failing_ticks,
    late_tables,
    run_trouble,
)

# Records of other machines may arrive a little later than newer ones; what was seen already is known by id.
OVERLAP_SECONDS = 60
# A backfill that fails later than a week after it was begun is not told of itself; its runs are.
BACKFILL_SECONDS = 7 * 86_400
TICK_SECONDS = 35.0


class Cursor(BaseModel):
    """How far the sensor has looked.

    Attributes:
        runs_after: when the newest run that was looked at failed, seconds since 1970.
        seen: ids of runs and backfills of the last week that were looked at, with the times.
        told: troubles told, by key.
    """

    runs_after: float
    seen: dict[str, float] = {}
    told: dict[str, Told] = {}


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=60,
    # Without an address there is nothing to do; with one, whoever set it wants to be told.
    default_status=(
        dg.DefaultSensorStatus.RUNNING
        if load_settings().alert_webhook_url
        else dg.DefaultSensorStatus.STOPPED
    ),
    description="Posts to ALERT_WEBHOOK_URL: failed runs, checks, backfills; late tables; failing sensors.",
)
def alerts(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """Look for what went wrong since the last tick, and tell it; what cannot be told waits for the next."""
    if settings.alert_webhook_url is None:
        return dg.SkipReason("ALERT_WEBHOOK_URL is not set, so nobody is told")
    now = time.time()
    cursor = _cursor(context.cursor, now)
    if context.cursor is None:  # what failed before it was switched on is no news
        earlier = [
            *(one.backfill_id for one in failed_backfills(context.instance, _week_before(now))),
            *(one.dagster_run.run_id for one in failed_runs(context.instance, _overlapping(now))),
        ]
        seen = dict.fromkeys(earlier, now)
        cursor = cursor.model_copy(update={"seen": seen})
    webhook = Webhook(settings.alert_webhook_url)
    posted = 0
    try:
        told = cursor.told
        for trouble, after in _found(context, cursor, now):
            told, sent = _tell(trouble, told, webhook, settings, now=now)
            cursor = after.model_copy(update={"told": told})
            posted += sent
            if time.time() - now > TICK_SECONDS:
                break
    except CaiError:
        if not posted:
            raise  # a failed tick, which the UI shows; its cursor stays, so all is told later
        context.log.exception(f"{posted} alerts were posted; the others wait for the next tick")
    return dg.SensorResult(
        skip_reason=dg.SkipReason(f"{posted} alerts posted" if posted else "nothing new to tell"),
        cursor=cursor.model_dump_json(),
    )


def _cursor(text: str | None, now: float) -> Cursor:
    try:
        return Cursor.model_validate_json(text) if text else Cursor(runs_after=now)
    except ValidationError:  # of another version: begin anew, as at the first tick
        return Cursor(runs_after=now)


def _overlapping(after: float) -> datetime:
    return datetime.fromtimestamp(after - OVERLAP_SECONDS, UTC)


def _week_before(now: float) -> datetime:
    return datetime.fromtimestamp(now - BACKFILL_SECONDS, UTC)


def _found(
    context: dg.SensorEvaluationContext, cursor: Cursor, now: float
) -> Iterator[tuple[Trouble | None, Cursor]]:
    """Troubles one after another, each with the cursor that is right once it is told."""
    instance = context.instance
    after = cursor.runs_after
    seen = {key: at for key, at in cursor.seen.items() if now - at < BACKFILL_SECONDS}
    for record in failed_runs(instance, _overlapping(after)):
        run, at = record.dagster_run, record.update_timestamp.replace(tzinfo=UTC).timestamp()
        if run.run_id not in seen:
            seen, after = {**seen, run.run_id: at}, max(after, at)
            cursor = Cursor(runs_after=after, seen=seen)
            yield run_trouble(instance, run), cursor
    for backfill in failed_backfills(instance, _week_before(now)):
        if backfill.backfill_id not in seen:
            seen = {**seen, backfill.backfill_id: now}
            cursor = Cursor(runs_after=after, seen=seen)
            yield backfill_trouble(backfill), cursor
    repository = context.repository_def
    yield (
        late_tables(instance, repository.asset_graph.materializable_asset_keys if repository else ()),
        cursor,
    )
    for trouble in failing_ticks(instance, but={alerts.name}):
        yield trouble, cursor


def _tell(
    trouble: Trouble | None, told: dict[str, Told], webhook: Webhook, settings: Settings, *, now: float
) -> tuple[dict[str, Told], int]:
    """Post one trouble if it is time to; what was told by then, and how many posts that took."""
    chosen, counted = due([trouble] if trouble else [], told, now=now)
    secrets = Secrets(settings)
    for one, before in chosen:
        webhook.post(secrets.hide(message(one, before, settings.dagster_ui_url)))
        counted[one.key] = Told(at=now)
    return counted, len(chosen)
