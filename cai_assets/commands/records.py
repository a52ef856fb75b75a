"""What Dagster's records and the lake's logs say of every asset, for `cai status`. No output here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from cai_assets.definitions import defs
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

LAYERS = ("raw", "documents", "enrichment", "lake", "facts", "marts", "reports")
PAGE = 1000  # materialisations read from the records at once


@dataclass(frozen=True)
class AssetRecord:
    """One asset.

    Attributes:
        layer: first part of the key.
        name: second part.
        days: days materialised; None for a table that is not kept by day.
        missing: days that another asset has and this one lacks.
        rows: rows now there (lake), or as last reported (documents, reports); None where nobody counts.
        last_run: when it was last materialised, UTC.
        freshness: by its freshness policy: "fresh", "late" (it warns) or "overdue" (it fails); None where it
            has no policy or was never made.
    """

    layer: str
    name: str
    days: int | None
    missing: list[str]
    rows: int | None
    last_run: datetime | None
    freshness: str | None


@dataclass(frozen=True)
class Overview:
    """All assets in the order of the graph, and the checks by the last run that was to evaluate them."""

    first_day: str | None
    last_day: str | None
    assets: list[AssetRecord]
    checks_passing: int
    checks_not_run: int
    failing_checks: list[str]
    warning_checks: list[str]


def overview(settings: Settings) -> Overview:
    """Read the records of the instance of DAGSTER_HOME and the logs of the lake."""
    graph = defs.resolve_asset_graph()
    keys = [key for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]
    # Stable: the graph's order stays inside a layer. By the graph alone lake/conversations, which needs no
    # enrichment, would put the lake first.
    keys.sort(key=lambda key: LAYERS.index(key.path[0]) if key.path[0] in LAYERS else len(LAYERS))
    store = ObjectStore.from_settings(settings)
    with dg.DagsterInstance.get() as instance:
        done = {
            key: instance.get_materialized_partitions(key) for key in keys if graph.get(key).is_partitioned
        }
        days = sorted(set().union(*done.values()))
        last = {key: _last_run(instance, key) for key in keys}
        now = datetime.now(UTC)
        assets = [
            AssetRecord(
                layer=key.path[0],
                name="/".join(key.path[1:]),
                days=len(done[key]) if key in done else None,
                missing=[day for day in days if day not in done[key]] if key in done else [],
                rows=_rows(instance, store, key),
                last_run=last[key],
                freshness=freshness_of(graph.get(key).freshness_policy, last[key], now),
            )
            for key in keys
        ]
        checks = _checks(instance, sorted(graph.asset_check_keys))
    return Overview(days[0] if days else None, days[-1] if days else None, assets, *checks)


def _rows(instance: dg.DagsterInstance, store: ObjectStore, key: dg.AssetKey) -> int | None:
    declared = TABLES.get((key.path[0], key.path[-1]))
    if declared is not None:
        table = LakeTable(store, declared)
        return sum(table.row_counts().values()) if table.exists() else None
    return _reported_rows(instance, key)


def _reported_rows(instance: dg.DagsterInstance, key: dg.AssetKey) -> int | None:
    """Rows by the newest materialisation of every partition; None where none of them tells."""
    newest: dict[str | None, int] = {}
    seen: set[str | None] = set()
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(key, limit=PAGE, cursor=cursor)
        for record in page.records:
            if record.partition_key in seen:
                continue
            seen.add(record.partition_key)
            rows = _count(record.asset_materialization)
            if rows is not None:
                newest[record.partition_key] = rows
        if not page.has_more:
            return sum(newest.values()) if newest else None
        cursor = page.cursor


def _count(materialization: dg.AssetMaterialization | None) -> int | None:
    metadata: Mapping[str, dg.MetadataValue] = materialization.metadata if materialization else {}
    for name in ("dagster/partition_row_count", "dagster/row_count"):
        value = metadata[name].value if name in metadata else None
        if isinstance(value, int):
            return value
    return None


def _last_run(instance: dg.DagsterInstance, key: dg.AssetKey) -> datetime | None:
    event = instance.get_latest_materialization_event(key)
    return datetime.fromtimestamp(event.timestamp, UTC) if event else None


def freshness_of(policy: object, last_run: datetime | None, now: datetime) -> str | None:
    """Where a table stands by its policy, as Dagster's daemon would tell; only windows are used here."""
    if not isinstance(policy, TimeWindowFreshnessPolicy) or last_run is None:
        return None
    age = now - last_run
    if age > policy.fail_window.to_timedelta():
        return "overdue"
    if policy.warn_window is not None and age > policy.warn_window.to_timedelta():
        return "late"
    return "fresh"


def _checks(
    instance: dg.DagsterInstance, keys: list[dg.AssetCheckKey]
) -> tuple[int, int, list[str], list[str]]:
    """How many pass, how many were not evaluated by their last run, which fail, and which only warn."""
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    passing, not_run = 0, 0
    failing: list[str] = []
    warning: list[str] = []
    for key in keys:
        # The latest record may be of a run that planned the check and failed before it.
        record = latest.get(key)
        event = record.event.dagster_event if record and record.event else None
        evaluated = event is not None and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
        evaluation = event.asset_check_evaluation_data if event and evaluated else None
        if evaluation is None:
            not_run += 1
        elif evaluation.passed:
            passing += 1
        else:
            told = f" ({evaluation.description})" if evaluation.description else ""
            warns = evaluation.severity == dg.AssetCheckSeverity.WARN
            (warning if warns else failing).append(f"{key.asset_key.to_user_string()}: {key.name}{told}")
    return passing, not_run, failing, warning
