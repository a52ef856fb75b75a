"""The enrichment layer: languages told locally, translations and categories asked of Dify.

Each asset writes to MongoDB as answers come, so that no crash loses a paid one; how is in
`resources/enrichment.py`.
"""

import dagster as dg

from cai_assets.assets.common import daily_asset
from cai_assets.resources.enrichment import categorise_partitions, detect_languages, translate_partitions
from cai_assets.resources.enrichment_summary import EnrichmentSummary
from cai_assets.resources.mongo import MongoStore
from cai_assets.schemas import enrichment
from cai_assets.settings import Settings

DIFY_POOL = "dify"
RETRANSLATE = "cai/retranslate"
"""Tag of a run that asks anew for what an older DIFY_PROMPT_VERSION translated, where it is `true`."""


def _told(context: dg.AssetExecutionContext, summary: EnrichmentSummary) -> dg.MaterializeResult[None]:
    """The run's numbers on the asset, and on each day its own: a day that is done in part says so."""
    if len(summary.by_partition) > 1:
        for partition, counts in summary.by_partition.items():
            context.add_asset_metadata(counts.metadata(), partition_key=partition)
    return dg.MaterializeResult(metadata=summary.metadata())


@daily_asset(
    enrichment.LANGUAGES,
    kinds={"mongodb", "python"},
    io_manager_key="documents",
    deps=[["documents", "messages"]],
)
def languages(
    context: dg.AssetExecutionContext,
    mongo: dg.ResourceParam[MongoStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """The language of every message, with confidence; `und` where it cannot be told."""
    summary = detect_languages(mongo, context.partition_keys, settings, context.log)
    return dg.MaterializeResult(metadata=summary.metadata())


@daily_asset(
    enrichment.TRANSLATIONS,
    kinds={"mongodb", "ai"},
    io_manager_key="documents",
    deps=[["enrichment", "languages"], ["documents", "messages"]],
    pool=DIFY_POOL,
)
def translations(
    context: dg.AssetExecutionContext,
    mongo: dg.ResourceParam[MongoStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Every text that is not in the target language, translated once and paid once."""
    summary = translate_partitions(
        mongo,
        context.partition_keys,
        settings,
        context.run.run_id,
        context.log,
        retranslate=context.run.tags.get(RETRANSLATE) == "true",
    )
    return _told(context, summary)


@daily_asset(
    enrichment.CATEGORIES,
    kinds={"mongodb", "ai"},
    io_manager_key="documents",
    deps=[["enrichment", "translations"], ["documents", "conversations"], ["documents", "messages"]],
    pool=DIFY_POOL,
)
def categories(
    context: dg.AssetExecutionContext,
    mongo: dg.ResourceParam[MongoStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """What every conversation is about, by the taxonomy; a person's correction stays."""
    summary = categorise_partitions(mongo, context.partition_keys, settings, context.run.run_id, context.log)
    return _told(context, summary)
