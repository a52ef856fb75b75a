"""Rows of NocoDB by when they were written and by their numbers: for whoever looks for changes.

Days are read in `nocodb`, rows of conversations and whole tables in `nocodb_reader`; pages and their guards
are in `nocodb_pages`. `UpdatedAt` is null until a row's first update, so `CreatedAt` is asked for beside it;
both have whole seconds.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cai_assets.domain.nocodb_filters import clause, instant_literal
from cai_assets.resources.nocodb_catalog import NocoDBTable
from cai_assets.resources.nocodb_client import Tally
from cai_assets.resources.nocodb_pages import Pager
from cai_assets.resources.nocodb_rows import source_row
from cai_assets.resources.source import ChangePage, RowStream, SourceError, SourceGuardError, SourceRow

logger = logging.getLogger(__name__)

SECOND = timedelta(seconds=1)
NUMBERS_PER_REQUEST = 500
"""A number takes at most 22 bytes of an address of 12,000."""


def changed_pages(pager: Pager, table: NocoDBTable, since: datetime, after_id: int) -> Iterator[ChangePage]:
    """See `Source.changes`.

    Raises:
        SourceError: the table has neither CreatedAt nor UpdatedAt.
        SourceGuardError: a row is older than `since`, so the filter was ignored; Ids that do not rise.
    """
    times = [name for name in ("UpdatedAt", "CreatedAt") if name in table.system]
    if len(times) < 2:
        raise SourceError(
            f"{table.origin} lacks the system fields CreatedAt and UpdatedAt, by which changes are found. "
            "Restore them in NocoDB, or leave the sensor off and refresh days by hand or by schedule"
        )
    moment = instant_literal(since)
    written = "~or".join(clause(name, "gte", "exactDate", moment) for name in times)
    tally = Tally()
    while True:
        page = pager.page_after(after_id, f"({written})", tally=tally)
        rows = [source_row(row, table) for row in page.rows]
        for row in rows:
            _check_written(row, since, table)
        after_id = rows[-1].id if rows else after_id
        last = page.last or not rows
        yield ChangePage(rows, after_id, last)
        if last:
            return


def by_number(
    pager: Pager, table: NocoDBTable, numbers: Sequence[int], stream: RowStream
) -> Iterator[SourceRow]:
    """See `Source.rows_by_number`."""
    tally = Tally()
    for start in range(0, len(numbers), NUMBERS_PER_REQUEST):
        some = numbers[start : start + NUMBERS_PER_REQUEST]
        batch = pager.read(clause("Id", "in", *some), last_id=some[-1], tally=tally)
        stream.source_rows += batch.total
        stream.requests = tally.requests
        if not {row["Id"] for row in batch.rows} <= set(some):
            raise SourceGuardError(f"{table.origin}: the server did not apply the filter on 'Id'")
        yield from (source_row(row, table) for row in batch.rows)


def _check_written(row: SourceRow, since: datetime, table: NocoDBTable) -> None:
    newest = max((at for at in (row.created_at, row.updated_at) if at is not None), default=None)
    if newest is None or newest < since - SECOND:
        raise SourceGuardError(
            f"{table.origin}: row {row.id}, last written {newest}, came where rows written since {since} "
            "were asked for: the server did not apply the filter on UpdatedAt and CreatedAt. Is the NocoDB "
            "version at least 0.262?"
        )
