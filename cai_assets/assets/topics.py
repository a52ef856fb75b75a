"""Topics: what conversations are about, learnt from all of them at once. Three tables of one fit.

How is in `domain/topics.py`; here texts are read month by month, and rows handed on.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from cai_assets.assets.analytics import GPU_POOL
from cai_assets.assets.common import failing_clearly
from cai_assets.conditions import FOLLOWS, FRESH
from cai_assets.domain import topic_tables
from cai_assets.domain.topic_tables import Placed
from cai_assets.domain.topics import Document, Topics, chosen, learn
from cai_assets.engines.acceleration import accelerate, cuml_is_there
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import Query, load_queries
from cai_assets.metadata import OWNERS, code_metadata, table_metadata, table_tags
from cai_assets.partitions import DAYS_PER_RUN
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.schemas.base import Table
from cai_assets.schemas.content import TOPICS
from cai_assets.settings import Settings

Loaded = Mapping[tuple[str, str], LakeFiles]


def _queries() -> dict[str, Query]:
    return {query.name: query for query in load_queries("topics")}


def _texts(duckdb: DuckDBEngine, loaded: Loaded) -> Iterator[dict[str, Any]]:
    """What each conversation's user wrote, some weeks of conversations in memory at a time."""
    query = _queries()["texts"]
    days = sorted({day for files in loaded.values() for day in files.parts})
    for first in range(0, len(days), DAYS_PER_RUN):
        some = days[first : first + DAYS_PER_RUN]
        inputs = {path: loaded[path].of(some) for path in query.inputs}
        yield from duckdb.query(query.sql, inputs).to_pylist()


def find_topics(duckdb: DuckDBEngine, loaded: Loaded, number: int) -> tuple[Topics, list[Placed]]:
    """Learn topics and tell each conversation's.

    Args:
        duckdb: what reads.
        loaded: files of the inputs of the queries under `dbt_like_sql/topics`.
        number: of topics.
    """
    query = _queries()["conversations"]
    inputs = {path: loaded[path].files for path in query.inputs}
    fit = chosen(duckdb.query(query.sql, inputs)["conversation_id"].to_pylist())
    topics = learn(
        (
            Document(row["conversation_id"], row["text"])
            for row in _texts(duckdb, loaded)
            if row["conversation_id"] in fit
        ),
        number,
    )
    placed = []
    rows: list[dict[str, Any]] = []

    def documents() -> Iterator[Document]:
        for row in _texts(duckdb, loaded):
            rows.append({name: row[name] for name in ("partition", "conversation_id", "report_date")})
            yield Document(row["conversation_id"], row["text"])

    for place, member in enumerate(topics.members(documents())):
        placed.append(Placed(**rows[place], topic=member.topic, weight=member.weight))
    return topics, placed


def _spec(table: Table) -> dg.AssetSpec:
    return dg.AssetSpec(
        list(table.path),
        group_name=table.layer,
        description=table.description,
        owners=OWNERS,
        tags=table_tags(table),
        metadata={**table_metadata(table), **code_metadata(find_topics)},
        kinds={"scikitlearn", "python", "deltalake"},
        automation_condition=FOLLOWS,
        freshness_policy=FRESH,
    )


def build_topic_assets(settings: Settings) -> dg.AssetsDefinition:
    """The three tables as one step."""
    inputs: Sequence[tuple[str, str]] = sorted(
        {path for query in load_queries("topics") for path in query.inputs}
    )

    @dg.multi_asset(
        name="topics",
        outs={t.name: dg.AssetOut.from_spec(_spec(t), io_manager_key="parquet") for t in TOPICS},
        ins={"__".join(path): dg.AssetIn(list(path)) for path in inputs},
        pool=GPU_POOL if cuml_is_there() and settings.enable_gpu is not False else None,
    )
    @failing_clearly
    def topics(
        context: dg.AssetExecutionContext,
        duckdb: dg.ResourceParam[DuckDBEngine],
        settings: dg.ResourceParam[Settings],
        **loaded: Any,
    ) -> Iterator[dg.Output[pa.Table]]:
        device = accelerate(settings.enable_gpu, settings.cuda_visible_devices)
        files = {path: loaded["__".join(path)] for path in inputs}
        found, placed = find_topics(duckdb, files, settings.topics)
        about: dict[str, Any] = {
            **device,
            "topics": len(found.terms),
            "learnt_from": found.fitted,
            "told": len(placed),
        }
        for (_, name), table in topic_tables.tables(found, placed).items():
            yield dg.Output(table, output_name=name, metadata=about)

    return topics
