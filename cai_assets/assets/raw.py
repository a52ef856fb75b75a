"""The raw layer: the source's rows of some days, verbatim. Typing and judging them is documents' work."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from cai_assets.assets.common import daily_asset
from cai_assets.domain.rows import row_text
from cai_assets.metadata import OWNERS
from cai_assets.partitions import day_bounds, day_of
from cai_assets.resources.source import RowStream, Source, SourceRow
from cai_assets.schemas import raw
from cai_assets.settings import Settings

ALL_READ = "every_source_row_was_read"

nocodb_conversations, nocodb_messages = (
    dg.AssetSpec(
        ["nocodb", name],
        group_name="nocodb",
        description=f"Table of {name} in the source, written by people and products.",
        kinds={"nocodb"},
        owners=OWNERS,
    )
    for name in ("conversations", "messages")
)


def _table(rows: Iterable[tuple[str, SourceRow]]) -> pa.Table:
    """Rows with their partitions as the raw table, sorted by partition and id."""
    extracted_at = datetime.now(UTC)
    columns: dict[str, list[object]] = {name: [] for name in raw.CONVERSATIONS.by_name}
    for day, row in rows:
        columns["partition"].append(day)
        columns["id"].append(row.id)
        columns["created_at"].append(row.created_at)
        columns["updated_at"].append(row.updated_at)
        columns["extracted_at"].append(extracted_at)
        columns["row"].append(row_text(row.values))
    table = pa.table(columns, schema=raw.CONVERSATIONS.arrow_schema)
    return table.sort_by([("partition", "ascending"), ("id", "ascending")])


def _all_read(stream: RowStream, read: int) -> dg.AssetCheckResult:
    """Whether as many rows came as the source says it holds."""
    return dg.AssetCheckResult(
        check_name=ALL_READ,
        passed=stream.source_rows == read,
        description=(
            f"The source counts {stream.source_rows} rows and {read} were read."
            + (
                ""
                if stream.source_rows == read
                else " Materialise the day again; if it stays, run `cai doctor`."
            )
        ),
        metadata={"source_rows": stream.source_rows, "rows_read": read, "requests": stream.requests},
    )


@daily_asset(
    raw.CONVERSATIONS,
    deps=[nocodb_conversations],
    kinds={"nocodb", "deltalake"},
    check_specs=[dg.AssetCheckSpec(ALL_READ, asset=["raw", "conversations"], blocking=True)],
)
def raw_conversations(
    context: dg.AssetExecutionContext, source: dg.ResourceParam[Source], settings: dg.ResourceParam[Settings]
) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
    """Conversations that started on these days, read in one scan."""
    days = context.partition_keys
    start, end = day_bounds(days[0], settings.timezone)[0], day_bounds(days[-1], settings.timezone)[1]
    stream = source.conversations(start, end)
    table = _table((day_of(row.started_at, settings.timezone), row) for row in stream)
    yield dg.Output(table)
    yield _all_read(stream, table.num_rows)


def conversation_days(conversations: pa.Table) -> Mapping[str, set[str]]:
    """Which days each conversation's rows belong to; more than one only where the source repeats an id."""
    days: dict[str, set[str]] = defaultdict(set)
    for row, day in zip(
        conversations["row"].to_pylist(), conversations["partition"].to_pylist(), strict=True
    ):
        conversation_id = json.loads(row).get("conversation_id")
        if isinstance(conversation_id, str | int) and conversation_id != "":
            days[str(conversation_id)].add(day)
    return days


@daily_asset(
    raw.MESSAGES,
    deps=[nocodb_messages],
    kinds={"nocodb", "deltalake"},
    check_specs=[dg.AssetCheckSpec(ALL_READ, asset=["raw", "messages"], blocking=True)],
    ins={"conversations": dg.AssetIn(["raw", "conversations"])},
)
def raw_messages(
    conversations: pa.Table, source: dg.ResourceParam[Source]
) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
    """All messages, whenever written, of the conversations that started on these days."""
    days = conversation_days(conversations)
    stream = source.messages(sorted(days))
    read = 0

    def rows() -> Iterator[tuple[str, SourceRow]]:
        nonlocal read
        for row in stream:
            read += 1
            for day in sorted(days[str(row.values["conversation_id"])]):
                yield day, row

    table = _table(rows())
    yield dg.Output(table, metadata={"conversations": pc.count_distinct(conversations["id"]).as_py()})
    yield _all_read(stream, read)
