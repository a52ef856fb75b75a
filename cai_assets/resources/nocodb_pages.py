"""Reading all rows of a filter by keyset pages, with guards against silent loss. Its meaning is not here.

Paging is by `Id` (each page asks for the Ids above the last one seen): under inserts, updates and deletions
between pages it loses and repeats nothing, where offsets lose rows at every deletion.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cai_assets.domain.nocodb_filters import clause, where
from cai_assets.domain.nocodb_plan import Extent
from cai_assets.resources.nocodb_catalog import NocoDBTable
from cai_assets.resources.nocodb_client import NocoDBClient, Tally
from cai_assets.resources.source import SourceGuardError, SourceUnavailableError

logger = logging.getLogger(__name__)

PAGE_ROWS = 1000


@dataclass(frozen=True)
class Batch:
    """All rows of one filter.

    Attributes:
        rows: as the server gave them, Ids rising.
        total: the server's count of them.
    """

    rows: list[dict[str, Any]]
    total: int


class TooManyRowsError(Exception):
    """The filter selects more rows than are wanted in memory at once; nothing was read."""


class _CountMoved(Exception):  # noqa: N818  a signal between two functions of this module
    """Rows came or went between two pages."""


@dataclass(frozen=True)
class Page:
    """One answer.

    Attributes:
        rows: as the server gave them.
        total: the server's count of all rows of the filter.
        size: the most rows it gives at once; None where it does not say.
        last: whether it has no more of them.
    """

    rows: list[dict[str, Any]]
    total: int
    size: int | None
    last: bool


class Pager:
    """Reads whole filters of one table."""

    def __init__(
        self, client: NocoDBClient, table: NocoDBTable, *, max_retries: int, page_rows: int = PAGE_ROWS
    ) -> None:
        """Make a pager.

        Args:
            client: sends the requests.
            table: what is read.
            max_retries: further tries when rows come or go between two pages.
            page_rows: rows asked for at once; NocoDB gives at most 1000.
        """
        self._client = client
        self._table = table
        self._max_retries = max_retries
        self._page_rows = page_rows
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End reads under way in other threads before their next page; nobody waits for them any more."""
        self._stopped.set()

    def params(
        self, filters: Sequence[str], *, quote_values: bool = False, **more: str | int
    ) -> dict[str, str | int]:
        """Query of a page."""
        text = where(*filters, quote_values=quote_values) if filters else ""
        return {"fields": self._table.fields, **({"where": text} if text else {}), **more}

    def count(self, *filters: str, quote_values: bool = False) -> int:
        """How many rows the server counts for these clauses."""
        return self._page(self.params(filters, quote_values=quote_values, limit=1), Tally()).total

    def extent(self, tally: Tally) -> Extent:
        """Rows of the table and its highest Id, by one request."""
        page = self._whole_page({"fields": "Id", "sort": "-Id", "limit": 1}, tally)
        return Extent(page.total, _id_of(page.rows[0], self._table) if page.rows else 0)

    def next_id(self, after: int, tally: Tally) -> int | None:
        """The lowest Id above one, None if there is none."""
        above = where(clause("Id", "gt", after))
        rows = self._whole_page({"fields": "Id", "where": above, "sort": "Id", "limit": 1}, tally).rows
        return _id_of(rows[0], self._table) if rows else None

    def page_after(self, after: int, *filters: str, tally: Tally) -> Page:
        """One page of the rows with Ids above `after`, of a filter whose rows may come and go meanwhile.

        Raises:
            SourceGuardError: Ids do not rise, or the page is short and not the last.
            SourceUnavailableError: the last page lacked rows that were counted, at each try.
        """
        clauses = (*filters, clause("Id", "gt", after))
        page = self._whole_page(self.params(clauses, sort="Id", limit=self._page_rows), tally)
        self._check_order(page.rows, after)
        if page.rows and not page.last:
            self._check_size(page, self._page_rows)
        return page

    def read(
        self,
        *filters: str,
        last_id: int,
        tally: Tally,
        quote_values: bool = False,
        most_rows: int | None = None,
    ) -> Batch:
        """All rows up to an Id that the clauses select, read again from the start if their count moves.

        Args:
            filters: clauses.
            last_id: highest Id wanted. Rows made after the read began lie above it, so that they do not
                make it start again; the next read has them.
            tally: counts the requests.
            quote_values: whether the clauses are in the quoted grammar.
            most_rows: most rows wanted in memory.

        Raises:
            TooManyRowsError: the server counts more than `most_rows`.
            SourceGuardError: the answers would lose or repeat rows.
            SourceUnavailableError: the count moved at each try.
        """
        bounded = (*filters, clause("Id", "lte", last_id, quote_values=quote_values))
        moved = ""
        for _ in range(self._max_retries + 1):
            try:
                return self._read_once(bounded, quote_values, tally, most_rows)
            except _CountMoved as error:
                moved = str(error)
                logger.info("%s: %s; reading again", self._table.origin, moved)
        raise SourceUnavailableError(
            f"{self._table.origin}: {moved}, in {self._max_retries + 1} tries one after the other. Rows are "
            "being deleted or moved while they are read; try again when the table is quieter, or raise "
            "MAX_RETRIES"
        )

    def _read_once(
        self, filters: tuple[str, ...], quote_values: bool, tally: Tally, most_rows: int | None
    ) -> Batch:
        rows: list[dict[str, Any]] = []
        total: int | None = None
        size = self._page_rows
        seen = 0  # highest Id so far
        while True:
            after = (clause("Id", "gt", seen, quote_values=quote_values),) if rows else ()
            page = self._page(
                self.params((*filters, *after), quote_values=quote_values, sort="Id", limit=size), tally
            )
            if total is None:
                total = page.total
                if most_rows is not None and total > most_rows:
                    raise TooManyRowsError
            seen = self._check_order(page.rows, seen if rows else None)
            if page.total != total - len(rows):
                raise _CountMoved(f"{total - len(rows)} rows were left and then {page.total}")
            rows += page.rows
            if page.last or not page.rows:
                break
            size = self._check_size(page, size)
        if len(rows) != total:
            raise _CountMoved(f"the server counts {total} rows and its last page ends at {len(rows)}")
        return Batch(rows, total)

    def _check_order(self, rows: list[dict[str, Any]], before: int | None) -> int:
        """The last Id, given that all of them rise."""
        for row in rows:
            this = _id_of(row, self._table)
            if before is not None and this <= before:
                raise SourceGuardError(
                    f"{self._table.origin}: Id {this} comes after Id {before}, although rows were asked for "
                    "in the order of Id: rows could be lost or read twice. Look for a proxy or cache before "
                    "the server that changes `sort` or `where`"
                )
            before = this
        return before or 0

    def _check_size(self, page: Page, asked: int) -> int:
        """Rows to ask for next: fewer only where the server says that it gives no more."""
        if len(page.rows) == asked:
            return asked
        if page.size is not None and page.size < asked and len(page.rows) == page.size:
            # NocoDB Cloud and DB_QUERY_LIMIT_MAX clamp pages silently; keyset paging loses nothing by it.
            logger.info("%s: the server gives %d rows a page, not %d", self._table.origin, page.size, asked)
            return page.size
        raise SourceGuardError(
            f"{self._table.origin}: a page of {len(page.rows)} rows where {asked} were asked for, and the "
            "server does not call it the last: rows could be missing. Look for a proxy or cache before "
            "the server"
        )

    def _whole_page(self, params: dict[str, str | int], tally: Tally) -> Page:
        """A page, asked for again while it ends before the rows that the server itself counted.

        Rows and their count are two statements of the server's, so one that comes or goes between them makes
        them differ. Taken at its word, such a page would mean that there is nothing (more), and all that
        follows would be passed over in silence.
        """
        told = ""
        for _ in range(self._max_retries + 1):
            page = self._page(params, tally)
            ends = page.last or not page.rows
            if not ends or len(page.rows) >= page.total:
                return page
            told = f"the server counts {page.total} rows and gives {len(page.rows)} as all of them"
            logger.info("%s: %s; asking again", self._table.origin, told)
        raise SourceUnavailableError(
            f"{self._table.origin}: {told}, in {self._max_retries + 1} tries one after the other. Rows are "
            "being deleted while they are read, or a proxy or cache before the server drops some; try again "
            "when the table is quieter, or raise MAX_RETRIES"
        )

    def _page(self, params: dict[str, str | int], tally: Tally) -> Page:
        table = self._table
        if self._stopped.is_set():
            raise SourceUnavailableError(f"{table.origin}: reading was stopped")
        answer = self._client.get(table.data_path, params, what=f"read table {table.title!r}", tally=tally)
        try:
            info = answer["pageInfo"]
            rows = answer["list"]
            total = int(info["totalRows"])
            last = bool(info["isLastPage"])
            size = int(info["pageSize"]) if info.get("pageSize") is not None else None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise SourceGuardError(
                f"{table.origin}: the answer has no list with pageInfo.totalRows and isLastPage, so rows "
                "cannot be counted. Is the NocoDB version at least 0.262?"
            ) from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SourceGuardError(f"{table.origin}: the answer's list holds something other than rows")
        return Page(rows, total, size, last)


def _id_of(row: dict[str, Any], table: NocoDBTable) -> int:
    value = row.get("Id")
    if isinstance(value, bool) or not isinstance(value, int):
        raise SourceGuardError(f"{table.origin}: a row's Id is {str(value)[:40]!r}, not a whole number")
    return value
