"""The documents layer: raw rows typed, validated, hashed, and kept in MongoDB by their business id."""

import dagster as dg

from cai_assets.assets.common import daily_asset
from cai_assets.domain.documents import DocumentBatch
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.storage import LakeFiles
from cai_assets.schemas import documents
from cai_assets.settings import Settings

KINDS = {"mongodb"}


@daily_asset(
    documents.CONVERSATIONS,
    kinds=KINDS,
    io_manager_key="documents",
    ins={"rows": dg.AssetIn(["raw", "conversations"])},
)
def documents_conversations(
    context: dg.AssetExecutionContext,
    rows: LakeFiles,
    mongo: dg.ResourceParam[MongoStore],
    settings: dg.ResourceParam[Settings],
) -> DocumentBatch:
    """One document a conversation; rows that do not validate go to quarantine with the reason."""
    return DocumentBatch(
        "conversations",
        tuple(context.partition_keys),
        rows=lambda day: rows.narrowed([day]).to_table(),
        erased=mongo.erased(settings.pseudonym_key),
    )


@daily_asset(
    documents.MESSAGES,
    kinds=KINDS,
    io_manager_key="documents",
    ins={"rows": dg.AssetIn(["raw", "messages"])},
    deps=[["documents", "conversations"]],
)
def documents_messages(
    context: dg.AssetExecutionContext,
    rows: LakeFiles,
    mongo: dg.ResourceParam[MongoStore],
    settings: dg.ResourceParam[Settings],
) -> DocumentBatch:
    """One document a message; those without a live conversation wait in quarantine until it appears."""
    return DocumentBatch(
        "messages",
        tuple(context.partition_keys),
        rows=lambda day: rows.narrowed([day]).to_table(),
        live_conversations=lambda day: mongo.live_ids("conversations", day),
        erased=mongo.erased(settings.pseudonym_key),
    )
