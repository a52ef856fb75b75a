"""The lake layer: MongoDB to Arrow to Parquet, by partition. Pseudonyms and masking are `domain.lake`'s."""

from typing import Any

import dagster as dg

from cai_assets.assets.common import daily_asset, telling
from cai_assets.engines.spread import Spread
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.ranges import stage_documents
from cai_assets.resources.live_documents import LiveDocuments
from cai_assets.resources.staging import Staged
from cai_assets.schemas import lake
from cai_assets.schemas.base import Table
from cai_assets.settings import Settings


def _lake_asset(table: Table, *, made_by: list[str], after: list[list[str]]) -> dg.AssetsDefinition:
    """The lake's copy of a collection.

    Args:
        table: what it becomes.
        made_by: key of the asset whose documents these are.
        after: further assets that write into the same documents.
    """

    @daily_asset(
        table,
        kinds={"mongodb", "deltalake", "parquet"},
        ins={"documents": dg.AssetIn(made_by, metadata={"collection": table.name})},
        deps=after,
    )
    def lake_table(
        context: dg.AssetExecutionContext,
        documents: LiveDocuments,
        parquet: dg.ResourceParam[ParquetIOManager],
        spread: dg.ResourceParam[Spread],
        settings: dg.ResourceParam[Settings],
    ) -> Staged:
        target = parquet.table(table.path)
        days = context.partition_keys
        staged = stage_documents(spread, documents, target, settings, days, telling(context, spread))
        masked = {f"masked_{kind}": count for kind, count in sorted(staged.counts.items())}
        context.add_output_metadata({"redact_text": settings.redact_text, **masked})
        return staged

    return lake_table


def build_lake_assets() -> list[dg.AssetsDefinition]:
    """One asset a collection; messages wait for the detection that writes into them."""
    sources: dict[str, dict[str, Any]] = {
        "conversations": {"made_by": ["documents", "conversations"], "after": []},
        "messages": {"made_by": ["documents", "messages"], "after": [["enrichment", "languages"]]},
        "translations": {"made_by": ["enrichment", "translations"], "after": []},
        "categories": {"made_by": ["enrichment", "categories"], "after": []},
        "llm_calls": {
            "made_by": ["enrichment", "categories"],
            "after": [["enrichment", "translations"]],
        },
    }
    return [_lake_asset(table, **sources[table.name]) for table in lake.TABLES]
