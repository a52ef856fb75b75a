"""Rows of many conversations out of NocoDB, by whichever way takes fewer requests, or all rows of a table.

By batches of conversation ids, or by one scan of the whole table whose rows of other conversations are
dropped: `domain.nocodb_plan` chooses from counts. Paging and its guards are `nocodb_pages`', what a row means
is `nocodb`'s.
"""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from cai_assets.domain.nocodb_filters import IdBatch, clause, id_batches, in_no_filter, is_plain
from cai_assets.domain.nocodb_plan import Way, plan_read, scan_of
from cai_assets.resources.nocodb_catalog import NocoDBTable
from cai_assets.resources.nocodb_client import NocoDBClient, Tally
from cai_assets.resources.nocodb_pages import Batch, Pager, TooManyRowsError
from cai_assets.resources.source import RowStream, SourceGuardError

logger = logging.getLogger(__name__)

Task = TypeVar("Task")
Answer = TypeVar("Answer")

# Servers accept addresses of 13 kB and refuse those of 27 kB (431).
URL_BYTES = 12_000
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True)
class Limits:
    """How much is asked for and held at once.

    Attributes:
        page_rows: rows of a page.
        batch_ids: most conversations of one filter.
        window_rows: most Ids of a scan's window, and most rows of a search by a part of an id.
        workers: batches or windows under way at once.
        way: how to read messages, whatever the counts say; None chooses by them.
    """

    page_rows: int
    batch_ids: int
    window_rows: int
    workers: int
    way: Way | None = None


@dataclass(frozen=True)
class _Window:
    """Ids above `low`, up to `high`."""

    low: int
    high: int


class RowReader:
    """Reads the rows of one table that belong to conversations, or all of them."""

    def __init__(
        self,
        client: NocoDBClient,
        pager: Pager,
        table: NocoDBTable,
        limits: Limits,
        count_conversations: Callable[[Tally], int],
    ) -> None:
        """Make a reader.

        Args:
            client: knows how long an address becomes.
            pager: of the table.
            table: the one that is read.
            limits: sizes.
            count_conversations: asks how many there are in all.
        """
        self._client = client
        self._pager = pager
        self._table = table
        self._limits = limits
        self._count_conversations = count_conversations
        self._column = table.mapped.get("conversation_id", "")

    def rows(self, ids: Sequence[str], stream: RowStream) -> Iterator[dict[str, Any]]:
        """All rows of these conversations, each once, in an order that depends on the table alone.

        Counts, requests and the way chosen go to `stream`.
        """
        plain = is_plain(self._column)
        limits = self._limits
        batches = list(
            id_batches(ids, max_bytes=self._bytes_for_ids(), max_ids=limits.batch_ids, plain_column=plain)
        )
        unasked = in_no_filter(ids, plain_column=plain)
        if not batches and not unasked:
            return
        spent = Tally()
        extent = self._pager.extent(spent)
        plan = plan_read(
            batches=len(batches),
            ids=sum(len(batch.ids) for batch in batches),
            in_no_filter=len(unasked),
            messages=extent,
            conversations=self._count_conversations(spent),
            page_rows=limits.page_rows,
            window_rows=limits.window_rows,
            forced=limits.way,
        )
        logger.info("%s: read by %s: %s", self._table.origin, plan.way, plan.why)
        stream.requests += spent.requests
        stream.plan |= plan.numbers()
        if plan.way == "scan":
            wanted = {one for one in ids if one.strip()}
            yield from self._scan(wanted, plan.window_ids, extent.last_id, stream)
            return
        unfound: set[str] = set()
        yield from self._batches(batches, extent.last_id, stream, unfound)
        if unfound:
            logger.info("%s: %d ids are read by a scan after all", self._table.origin, len(unfound))
            yield from self._scan(unfound, plan.window_ids, extent.last_id, stream)

    def all_rows(self, stream: RowStream) -> Iterator[dict[str, Any]]:
        """All rows that there are when it begins, by rising Id; rows that come meanwhile are not read."""
        spent = Tally()
        extent = self._pager.extent(spent)
        stream.requests += spent.requests
        limits = self._limits
        window_ids, _ = scan_of(extent, limits.page_rows, limits.window_rows)
        yield from self._scan(None, window_ids, extent.last_id, stream)

    # -- by ids

    def _batches(
        self, batches: Sequence[IdBatch], last_id: int, stream: RowStream, unfound: set[str]
    ) -> Iterator[dict[str, Any]]:
        """Rows of the batches; ids whose part is in too many others go to `unfound`."""

        def read(ids: IdBatch) -> tuple[Batch | None, IdBatch, Tally]:
            spent = Tally()
            try:
                return self._batch(ids, last_id, spent), ids, spent
            except TooManyRowsError:
                return None, ids, spent

        for answer, ids, spent in in_order(read, iter(batches), self._limits.workers, self._pager.stop):
            stream.requests += spent.requests
            if answer is None:
                unfound.update(ids.ids)
                continue
            stream.source_rows += answer.total
            yield from answer.rows

    def _batch(self, ids: IdBatch, last_id: int, tally: Tally) -> Batch:
        quotes = ids.form == "quoted" or (ids.form == "like" and not is_plain(self._column))
        batch = self._pager.read(
            ids.clause(self._column, quote_values=quotes),
            last_id=last_id,
            tally=tally,
            quote_values=quotes,
            most_rows=self._limits.window_rows if ids.form == "like" else None,
        )
        wanted = set(ids.ids)
        if ids.form == "like":
            return self._only(batch, wanted)
        for row in batch.rows:
            if str(row.get(self._column)) not in wanted:
                raise SourceGuardError(
                    f"{self._table.origin}: row {row['Id']} is of a conversation that was not asked for: the "
                    f"server did not apply the filter on {self._column!r}. Is the NocoDB version at least "
                    "0.262?"
                )
        return batch

    def _bytes_for_ids(self) -> int:
        """What an address without ids leaves of URL_BYTES."""
        bare = (
            clause(self._column, "in", quote_values=True),
            *(clause("Id", operator, _LARGEST_ID, quote_values=True) for operator in ("lte", "gt")),
        )
        params = self._pager.params(bare, quote_values=True, sort="Id", limit=self._limits.page_rows)
        return URL_BYTES - len(self._client.url(self._table.data_path, params))

    # -- all of the table

    def _scan(
        self, wanted: Collection[str] | None, window_ids: int, last_id: int, stream: RowStream
    ) -> Iterator[dict[str, Any]]:
        """Rows of the wanted conversations (None: all rows), by bounded windows of Ids.

        A page of a window costs the server little, where one of an open end costs a count and a sort of all
        rows that are left.
        """
        reached = 0  # everything up to here is read, or is a gap

        def windows() -> Iterator[_Window]:
            low = 0
            while (low := max(low, reached)) < last_id:
                window = _Window(low, min(low + window_ids, last_id))
                low = window.high
                yield window

        def read(window: _Window) -> tuple[_Window, Batch, int, Tally]:
            spent = Tally()
            batch = self._window(window, spent)
            kept = batch if wanted is None else self._only(batch, wanted)
            return window, kept, batch.total, spent

        for window, kept, total, spent in in_order(read, windows(), self._limits.workers, self._pager.stop):
            if not total and reached < window.high < last_id:
                # Ids may leap by millions (an import, a purge): ask where they go on.
                reached = (self._pager.next_id(window.high, spent) or last_id + 1) - 1
            stream.requests += spent.requests
            stream.source_rows += kept.total
            yield from kept.rows

    def _window(self, window: _Window, tally: Tally) -> Batch:
        batch = self._pager.read(clause("Id", "gt", window.low), last_id=window.high, tally=tally)
        for row in batch.rows:
            if not window.low < row["Id"] <= window.high:
                raise SourceGuardError(
                    f"{self._table.origin}: row {row['Id']} lies outside the Ids asked for, {window.low} to "
                    f"{window.high}: the server did not apply the filter on 'Id'. Look for a proxy or cache "
                    "before the server that changes `where`"
                )
        return batch

    def _only(self, batch: Batch, wanted: Collection[str]) -> Batch:
        """The wanted rows; what was seen to be of others is taken off the server's count, no more."""
        rows = [row for row in batch.rows if str(row.get(self._column)) in wanted]
        return Batch(rows, batch.total - (len(batch.rows) - len(rows)))


def in_order(
    work: Callable[[Task], Answer], tasks: Iterator[Task], workers: int, stop: Callable[[], None]
) -> Iterator[Answer]:
    """Answers in the order of their tasks, with at most `workers` tasks under way or done and not yet taken.

    Args:
        work: done in another thread, where there is more than one worker.
        tasks: taken one by one as room appears.
        workers: threads.
        stop: called when the reader leaves early, to make the work under way end soon.
    """
    if workers == 1:
        yield from map(work, tasks)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="nocodb")
    pending: deque[Future[Answer]] = deque()
    try:
        pending.extend(pool.submit(work, task) for task in itertools.islice(tasks, workers))
        while pending:
            answer = pending.popleft().result()
            pending.extend(pool.submit(work, task) for task in itertools.islice(tasks, 1))
            yield answer
    finally:
        if pending:
            stop()
        pool.shutdown(wait=False, cancel_futures=True)
