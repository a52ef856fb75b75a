"""Documents between assets and MongoDB, by partition. Connections and rules are `resources.mongo`'s."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa

from cai_assets.domain.documents import DocumentBatch
from cai_assets.failures import PermanentError
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.mongo_documents import Replacement

SHOWN_DAYS = 400


class MongoIOManager(dg.IOManager):
    """Writes a `DocumentBatch` over its partitions; loads live documents as an Arrow table in lake types.

    An input names its collection by the last part of the asset's key, or by `metadata={"collection": NAME}`
    of its `AssetIn` where the two differ. One partition and ranges of them are treated alike.
    """

    def __init__(self, store: MongoStore) -> None:
        self._store = store

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Replace the batch's partitions.

        Raises:
            PermanentError: the asset gave something else than a `DocumentBatch` of its own partitions.
        """
        key = context.asset_key.to_user_string()
        if not isinstance(obj, DocumentBatch):
            raise PermanentError(
                f"{key} gave a {type(obj).__name__}; documents_from_raw makes what is stored"
            )
        expected, given = set(context.asset_partition_keys), set(obj.partitions)
        if expected != given:
            raise PermanentError(
                f"{key} gave the partitions {sorted(given)}; its run is for {sorted(expected)}"
            )
        replacement = self._store.replace_partitions(obj, run_id=context.run_id, now=datetime.now(UTC))
        context.add_output_metadata(_metadata(replacement))
        if replacement.elsewhere:
            context.log.warning(
                f"{key}: newer rows changed documents of other days too; materialise these again: "
                + ", ".join(sorted(replacement.elsewhere))
            )

    def load_input(self, context: dg.InputContext) -> pa.Table:
        """Live documents of the input's partitions; see `MongoStore.read_arrow`."""
        name = (context.definition_metadata or {}).get("collection") or context.asset_key.path[-1]
        partitions: Sequence[str] = context.asset_partition_keys
        return self._store.read_arrow(str(name), partitions)


def _metadata(replacement: Replacement) -> dict[str, Any]:
    total = replacement.total
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": total.live,
        **{name: getattr(total, name) for name in ("inserted", "updated", "unchanged", "deleted")},
        "raw_rows": total.rows,
        "quarantined": total.quarantined,
        "superseded": total.superseded,
    }
    if len(replacement.partitions) > 1:
        names = ("rows", "live", "inserted", "updated", "unchanged", "deleted", "quarantined", "superseded")
        metadata["days"] = dg.TableMetadataValue(
            records=[
                dg.TableRecord({"day": day, **{name: getattr(counts, name) for name in names}})
                for day, counts in sorted(replacement.partitions.items())[-SHOWN_DAYS:]
            ],
            schema=dg.TableSchema(
                [dg.TableColumn("day", "string"), *(dg.TableColumn(name, "int") for name in names)]
            ),
        )
    if replacement.elsewhere:
        metadata["stale_days"] = sorted(replacement.elsewhere)
    return metadata
