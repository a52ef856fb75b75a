"""The documents layer: raw rows typed, validated, hashed, and kept in MongoDB by their business id."""

import dagster as dg
import pyarrow as pa

from cai_assets.assets.common import daily_asset
from cai_assets.domain.documents import DocumentBatch, documents_from_raw
from cai_assets.schemas import documents

KINDS = {"mongodb"}


@daily_asset(
    documents.CONVERSATIONS,
    kinds=KINDS,
    io_manager_key="documents",
    ins={"rows": dg.AssetIn(["raw", "conversations"])},
)
def documents_conversations(context: dg.AssetExecutionContext, rows: pa.Table) -> DocumentBatch:
    """One document a conversation; rows that do not validate go to quarantine with the reason."""
    return documents_from_raw(rows, "conversations", partitions=context.partition_keys)


@daily_asset(
    documents.MESSAGES,
    kinds=KINDS,
    io_manager_key="documents",
    ins={
        "rows": dg.AssetIn(["raw", "messages"]),
        "conversations": dg.AssetIn(["documents", "conversations"]),
    },
)
def documents_messages(
    context: dg.AssetExecutionContext, rows: pa.Table, conversations: pa.Table
) -> DocumentBatch:
    """One document a message; those without a live conversation wait in quarantine until it appears."""
    ids, days = conversations["conversation_id"].to_pylist(), conversations["partition"].to_pylist()
    return documents_from_raw(
        rows,
        "messages",
        partitions=context.partition_keys,
        live_conversations=dict(zip(ids, days, strict=True)),
    )
