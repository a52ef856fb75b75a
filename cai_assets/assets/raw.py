"""The raw layer: the source's rows of some days, verbatim. Typing and judging them is documents' work."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import dagster as dg
import pyarrow as pa

from cai_assets.assets.common import daily_asset
from cai_assets.domain.erasure import Erased
from cai_assets.io_managers.mongo import first_run
from cai_assets.metadata import ORIGINALS, OWNERS, source_schema, tags
from cai_assets.partitions import day_bounds, day_of
from cai_assets.resources.dirty_days import DirtyDays
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.raw_rows import conversation_days, spooled
from cai_assets.resources.source import RowStream, Source, SourceRow
from cai_assets.resources.storage import LakeFiles
from cai_assets.schemas import raw
from cai_assets.schemas.documents import SOURCE_COLLECTIONS
from cai_assets.settings import Settings

ALL_READ = "every_source_row_was_read"
# NOCODB_MAX_REQUESTS_PER_SECOND is kept by each process for itself, and the server counts all of a token's
# requests together: runs read one after the other.
SOURCE_POOL = "nocodb"

nocodb_conversations, nocodb_messages = (
    dg.AssetSpec(
        ["nocodb", name],
        group_name="nocodb",
        description=f"Table of {name} in the source, written by people and products.",
        kinds={"nocodb"},
        owners=OWNERS,
        tags=tags(daily=False, holds=ORIGINALS),
        metadata={"dagster/column_schema": source_schema(SOURCE_COLLECTIONS[name])},
    )
    for name in ("conversations", "messages")
)


class _Kept:
    """The rows of a stream without those of erased persons, both counted."""

    def __init__(self, table: str, who: Erased | None) -> None:
        self._table = table
        self._who = who
        self.read = self.erased = 0

    def of(self, stream: Iterable[SourceRow]) -> Iterator[SourceRow]:
        for row in stream:
            self.read += 1
            if self._who is not None and self._who.row(self._table, row.values):
                self.erased += 1
            else:
                yield row


def _all_days(context: dg.AssetExecutionContext, settings: Settings) -> tuple[datetime, datetime]:
    """First instant of the run's first day, and of the day after its last."""
    days = context.partition_keys
    return day_bounds(days[0], settings.timezone)[0], day_bounds(days[-1], settings.timezone)[1]


def _all_read(stream: RowStream, read: int, erased: int) -> dg.AssetCheckResult:
    """Whether as many rows came as the source says it holds, rows of erased persons among them."""
    return dg.AssetCheckResult(
        check_name=ALL_READ,
        passed=stream.source_rows == read,
        description=(
            f"The source counts {stream.source_rows} rows and {read} were read."
            + (f" {erased} of them are of erased persons and were not kept." if erased else "")
            + (
                ""
                if stream.source_rows == read
                else " Materialise the day again; if it stays, run `cai doctor`."
            )
        ),
        metadata={
            "source_rows": stream.source_rows,
            "rows_read": read,
            "erased": erased,
            "requests": stream.requests,
        },
    )


@daily_asset(
    raw.CONVERSATIONS,
    deps=[nocodb_conversations],
    kinds={"nocodb", "deltalake"},
    pool=SOURCE_POOL,
    check_specs=[dg.AssetCheckSpec(ALL_READ, asset=["raw", "conversations"], blocking=True)],
)
def raw_conversations(
    context: dg.AssetExecutionContext,
    source: dg.ResourceParam[Source],
    mongo: dg.ResourceParam[MongoStore],
    settings: dg.ResourceParam[Settings],
) -> Iterator[dg.Output[pa.RecordBatchReader] | dg.AssetCheckResult]:
    """Conversations that started on these days, read in one scan."""
    dirty_days = DirtyDays(mongo)
    marks = dirty_days.reading(context.partition_keys)
    stream = source.conversations(*_all_days(context, settings))
    kept = _Kept("conversations", mongo.erased(settings.pseudonym_key))
    rows = ((day_of(row.started_at, settings.timezone), row) for row in kept.of(stream))
    with spooled(raw.CONVERSATIONS, rows, settings.chunk_size) as spool:
        yield dg.Output(spool.batches(), metadata={"requests": stream.requests, **stream.plan})
    dirty_days.read("conversations", marks, run_id=first_run(context.run))
    yield _all_read(stream, kept.read, kept.erased)


@daily_asset(
    raw.MESSAGES,
    deps=[nocodb_messages],
    kinds={"nocodb", "deltalake"},
    pool=SOURCE_POOL,
    check_specs=[dg.AssetCheckSpec(ALL_READ, asset=["raw", "messages"], blocking=True)],
    ins={"conversations": dg.AssetIn(["raw", "conversations"])},
)
def raw_messages(
    context: dg.AssetExecutionContext,
    conversations: LakeFiles,
    source: dg.ResourceParam[Source],
    mongo: dg.ResourceParam[MongoStore],
    settings: dg.ResourceParam[Settings],
) -> Iterator[dg.Output[pa.RecordBatchReader] | dg.AssetCheckResult]:
    """All messages, whenever written, of the conversations that started on these days."""
    dirty_days = DirtyDays(mongo)
    marks = dirty_days.reading(context.partition_keys)
    days = conversation_days(conversations.batches(["partition", "row"], settings.chunk_size))
    stream = source.messages(list(days))
    kept = _Kept("messages", mongo.erased(settings.pseudonym_key))

    def rows() -> Iterator[tuple[str, SourceRow]]:
        for row in kept.of(stream):
            for day in days[str(row.values["conversation_id"])]:
                yield day, row

    with spooled(raw.MESSAGES, rows(), settings.chunk_size) as spool:
        metadata = {"conversations": len(days), "requests": stream.requests, **stream.plan}
        yield dg.Output(spool.batches(), metadata=metadata)
    dirty_days.read("messages", marks, run_id=first_run(context.run))
    yield _all_read(stream, kept.read, kept.erased)
