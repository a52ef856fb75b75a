"""The lake layer: MongoDB to Arrow to Parquet, by partition. No value is computed here but pseudonyms."""

from typing import Any

import dagster as dg
import pyarrow as pa

from cai_assets.assets.common import daily_asset
from cai_assets.domain.lake import to_lake
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
    def lake_table(documents: pa.Table, settings: dg.ResourceParam[Settings]) -> pa.Table:
        return to_lake(table, documents, settings.pseudonym_key)

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
