"""Documents between assets and MongoDB, by partition. Connections and rules are `resources.mongo`'s."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa

from cai_assets.domain.changes import Found
from cai_assets.domain.documents import DocumentBatch
from cai_assets.failures import PermanentError
from cai_assets.io_managers.failing import told_apart
from cai_assets.resources.dirty_days import DirtyDays, utc_now
from cai_assets.resources.live_documents import LiveDocuments
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.mongo_documents import Replacement, WriteCounts


class MongoIOManager(dg.IOManager):
    """Writes a `DocumentBatch` over its partitions; gives live documents to be read in lake types.

    Inputs, by annotation: `LiveDocuments` (also where there is none), which reads nothing yet; `pa.Table`.
    An input names its collection by the last part of the asset's key, or by `metadata={"collection": NAME}`
    of its `AssetIn` where the two differ. One partition and ranges of them are treated alike.
    """

    def __init__(self, store: MongoStore) -> None:
        self._store = store

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Replace the batch's partitions, and tell the counts of each.

        Something else than a `DocumentBatch` of exactly the run's partitions, and what MongoDB refuses, end
        the step with `dg.Failure`; what can pass asks for another try (`dg.RetryRequested`).
        """
        with told_apart():
            key = context.asset_key.to_user_string()
            if not isinstance(obj, DocumentBatch):
                raise PermanentError(f"{key} gave a {type(obj).__name__}; documents_from_raw makes batches")
            expected, given = set(context.asset_partition_keys), set(obj.partitions)
            if expected != given:
                raise PermanentError(f"{key} gave the days {sorted(given)} in a run for {sorted(expected)}")
            replacement = self._store.replace_partitions(obj, run_id=context.run_id, now=datetime.now(UTC))
            dirty_days = DirtyDays(self._store)
            # What this run made of other days' documents has to reach their tables: before this day is clean.
            dirty_days.mark(_taken_over(replacement, context.run_id), now=utc_now())
            dirty_days.arrived(obj.table, obj.partitions, run_id=_first_run(context))
        if replacement.elsewhere:
            context.log.warning(
                f"{key}: newer rows changed documents of other days too, which are marked to be refreshed: "
                + ", ".join(sorted(replacement.elsewhere))
            )
        _add_metadata(context, replacement)

    def load_input(self, context: dg.InputContext) -> LiveDocuments | pa.Table:
        """Live documents of the input's partitions, as its annotation asks for.

        An annotation that is not known ends the step with `dg.Failure`.
        """
        name = (context.definition_metadata or {}).get("collection") or context.asset_key.path[-1]
        documents = LiveDocuments(self._store, str(name), tuple(context.asset_partition_keys))
        wanted = context.dagster_type.typing_type
        with told_apart():
            if wanted in (Any, None, LiveDocuments):
                return documents
            if wanted is pa.Table:
                return documents.to_table()
            raise PermanentError(
                f"input {context.name}: cannot load documents as {wanted}; annotate it as LiveDocuments or "
                "pyarrow.Table"
            )


def first_run(run: dg.DagsterRun) -> str:
    """Id of the run, or of the first of those that were started again from where it failed."""
    return run.root_run_id or run.run_id


def _first_run(context: dg.OutputContext) -> str:
    try:
        return first_run(context.step_context.dagster_run)
    except dg.DagsterInvariantViolationError:  # a context built by hand has no step
        return context.run_id


def _taken_over(replacement: Replacement, run_id: str) -> Found:
    """Other days whose documents this run took over or gave back."""
    found = Found()
    for day, count in replacement.elsewhere.items():
        found.add({day: "superseded"}, f"{run_id}:{day}:{count}")
    return found


def _add_metadata(context: dg.OutputContext, replacement: Replacement) -> None:
    """Each partition gets its own counts; output metadata would give all of a range the same."""
    if replacement.elsewhere:
        context.add_output_metadata({"stale_days": sorted(replacement.elsewhere)})
    if len(replacement.partitions) == 1:
        context.add_output_metadata(_shown(replacement.total))
        return
    for partition, counts in replacement.partitions.items():
        context.step_context.add_asset_metadata(_shown(counts), context.asset_key, partition)


def _shown(counts: WriteCounts) -> dict[str, int]:
    values = asdict(counts)
    return {"dagster/partition_row_count": values.pop("live"), "raw_rows": values.pop("rows"), **values}
