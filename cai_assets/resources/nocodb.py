"""Conversations and messages out of NocoDB. HTTP, titles and paging are in siblings; typing is not here."""

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from pydantic import SecretStr

from cai_assets.domain.nocodb_filters import Window, clause, is_plain
from cai_assets.domain.nocodb_plan import Way
from cai_assets.domain.timestamps import timestamp_or_none
from cai_assets.resources.nocodb_catalog import NocoDBTable, find_base, find_table
from cai_assets.resources.nocodb_changes import by_number, changed_pages
from cai_assets.resources.nocodb_client import BLOCKED_SECONDS, NocoDBClient, Tally
from cai_assets.resources.nocodb_pages import PAGE_ROWS, Batch, Pager, TooManyRowsError
from cai_assets.resources.nocodb_reader import Limits, RowReader
from cai_assets.resources.nocodb_rows import source_row
from cai_assets.resources.rate_limit import RateLimiter
from cai_assets.resources.source import (
    CONVERSATIONS,
    MESSAGES,
    ChangePage,
    RowStream,
    SourceError,
    SourceGuardError,
    SourceReport,
    SourceRow,
    SourceTable,
    TableReport,
    day_warnings,
)
from cai_assets.settings import Settings

logger = logging.getLogger(__name__)

# Bounds the rows in memory: a batch is held whole until its count is known to be right, and there are
# IO_THREADS + 1 of them; at the usual tens of messages a conversation this is some ten thousand rows.
BATCH_IDS = 400
# A window of conversations that holds more is halved in time, for the same reason.
WINDOW_ROWS = 20_000
_DATED = Window(datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class _Tables:
    conversations: NocoDBTable
    messages: NocoDBTable


class NocoDBSource:
    """A source that is a base of a NocoDB server."""

    kind = "nocodb"
    overlap = timedelta(minutes=5)
    """App servers' clocks differ, and a transaction stamps its rows before it is committed."""

    def __init__(
        self,
        settings: Settings,
        *,
        page_rows: int = PAGE_ROWS,
        batch_ids: int = BATCH_IDS,
        window_rows: int = WINDOW_ROWS,
        way: Way | None = None,
        blocked_seconds: float = BLOCKED_SECONDS,
    ) -> None:
        """Make a source; nothing is sent before its first use.

        Args:
            settings: NOCODB_*, IO_THREADS, MAX_RETRIES and RETRY_DELAY are used.
            page_rows: rows of a page.
            batch_ids: most conversations whose messages one filter asks for.
            window_rows: most conversations in memory at once, and most Ids of a window of a scan.
            way: how to read messages, whatever the counts say; for measurements.
            blocked_seconds: wait after a 429 without Retry-After.

        Raises:
            SourceError: NOCODB_BASE_URL, NOCODB_API_TOKEN or NOCODB_PROJECT_ID is not set.
        """
        needed = {
            "NOCODB_BASE_URL": settings.nocodb_base_url,
            "NOCODB_API_TOKEN": settings.nocodb_api_token,
            "NOCODB_PROJECT_ID": settings.nocodb_project_id,
        }
        absent = [name for name, value in needed.items() if not value]
        if absent:
            raise SourceError(f"SOURCE=nocodb needs {', '.join(absent)}; see .env.example")
        self._settings = settings
        self._limits = Limits(page_rows, batch_ids, window_rows, settings.io_workers, way)
        self._base = settings.nocodb_project_id or ""
        self._client = NocoDBClient(
            settings.nocodb_base_url or "",
            settings.nocodb_api_token or SecretStr(""),
            limiter=RateLimiter(settings.nocodb_max_requests_per_second),
            max_retries=settings.max_retries,
            retry_delay=settings.retry_delay,
            connections=settings.io_workers + 1,  # whoever takes the workers' rows asks between them
            blocked_seconds=blocked_seconds,
        )
        self._found: _Tables | None = None
        self._finding = threading.Lock()

    def check(self) -> SourceReport:
        """See `Source.check`: token, base, tables, columns, counts, and conversations that have no day."""
        tables = self._tables(again=True)
        conversations, messages = self._pager(tables.conversations), self._pager(tables.messages)
        column = tables.conversations.mapped[CONVERSATIONS.time_column]
        rows = conversations.count()
        # A text that is no date (SQLite keeps "Invalid Date") is neither blank nor within any window.
        quotes = not is_plain(column)
        blank = conversations.count(clause(column, "blank", quote_values=quotes), quote_values=quotes)
        dated = self._count(conversations, column, _DATED)
        first_day = datetime.combine(
            date.fromisoformat(self._settings.partition_start_date), time(), self._settings.timezone
        ).astimezone(UTC)
        before = self._count(conversations, column, Window(_DATED.start, first_day))
        undated = max(blank, rows - dated)
        warnings = day_warnings(undated, before, self._settings.partition_start_date)
        reports = []
        for table, count in ((tables.conversations, rows), (tables.messages, messages.count())):
            for name in ("CreatedAt", "UpdatedAt"):
                if name not in table.system:
                    warnings.append(
                        f"{table.origin} has no column {name}: changed rows cannot be found by it. Restore "
                        "the system field in NocoDB"
                    )
            if count == 0:
                warnings.append(f"{table.origin} is empty")
            absent = tuple(name for name in table.declared.optional if name not in table.mapped)
            reports.append(TableReport(table.declared.name, table.origin, count, table.mapped, absent))
        return SourceReport(
            kind=self.kind,
            address=self._client.base_url,
            tables=tuple(reports),
            undated=undated,
            before_first_day=before,
            details={"base": self._base, "api": tables.conversations.api},
            warnings=tuple(warnings),
        )

    def conversations(self, start: datetime, end: datetime) -> RowStream:
        """See `Source.conversations`; one scan serves the whole window, in the order of time and then Id."""
        if start.tzinfo is None or end.tzinfo is None:
            raise ValueError("a window's bounds need a time zone")
        return RowStream(lambda stream: self._conversations(Window(start, end), stream))

    def messages(self, conversation_ids: Sequence[str]) -> RowStream:
        """See `Source.messages`; IO_THREADS read at once, and the rows come in a fixed order."""
        ids = tuple(conversation_ids)
        return RowStream(lambda stream: self._of_conversations(MESSAGES, ids, stream))

    def conversations_by_id(self, conversation_ids: Sequence[str]) -> RowStream:
        """See `Source.conversations_by_id`."""
        ids = tuple(conversation_ids)
        return RowStream(lambda stream: self._of_conversations(CONVERSATIONS, ids, stream))

    def now(self) -> datetime:
        """See `Source.now`: the Date header of an answer."""
        self._pager(self._tables().conversations).extent(Tally())
        return self._client.served_at or datetime.now(UTC)

    def changes(self, table: SourceTable, since: datetime, after_id: int) -> Iterator[ChangePage]:
        """See `Source.changes`; pages by `UpdatedAt or CreatedAt`, and then by Id."""
        found = self._table(table)
        return changed_pages(self._pager(found), found, since, after_id)

    def scan(self, table: SourceTable, columns: Sequence[str]) -> RowStream:
        """See `Source.scan`; IO_THREADS windows of Ids are read at once."""
        mapped = {ours: theirs for ours, theirs in self._table(table).mapped.items() if ours in set(columns)}
        narrow = replace(self._table(table), mapped=mapped)
        return RowStream(
            lambda stream: (source_row(row, narrow) for row in self._reader(narrow).all_rows(stream))
        )

    def rows_by_number(self, table: SourceTable, numbers: Sequence[int]) -> RowStream:
        """See `Source.rows_by_number`."""
        found, wanted = self._table(table), sorted(set(numbers))
        return RowStream(lambda stream: by_number(self._pager(found), found, wanted, stream))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # -- finding the tables

    def _tables(self, *, again: bool = False) -> _Tables:
        """Base and tables, looked up once by whichever thread comes first."""
        with self._finding:
            if self._found is None or again:
                settings = self._settings
                self._base = find_base(self._client, settings.nocodb_project_id or "")
                self._found = _Tables(
                    *(
                        find_table(
                            self._client,
                            self._base,
                            wanted,
                            table,
                            settings.nocodb_field_map.get(table.name, {}),
                        )
                        for wanted, table in (
                            (settings.nocodb_conversation_table, CONVERSATIONS),
                            (settings.nocodb_messages_table, MESSAGES),
                        )
                    )
                )
            return self._found

    def _pager(self, table: NocoDBTable) -> Pager:
        return Pager(
            self._client, table, max_retries=self._settings.max_retries, page_rows=self._limits.page_rows
        )

    def _table(self, declared: SourceTable) -> NocoDBTable:
        tables = self._tables()
        return tables.conversations if declared is CONVERSATIONS else tables.messages

    @staticmethod
    def _count(pager: Pager, column: str, window: Window) -> int:
        quotes = not is_plain(column)
        return pager.count(*window.clauses(column, quote_values=quotes), quote_values=quotes)

    # -- conversations

    def _conversations(self, window: Window, stream: RowStream) -> Iterator[SourceRow]:
        table = self._tables().conversations
        pager, tally = self._pager(table), Tally()
        column = table.mapped[CONVERSATIONS.time_column]
        quotes = not is_plain(column)  # the title itself may need the quoted grammar
        last_id = pager.extent(tally).last_id
        seen: set[int] = set()
        windows = deque([window] if window.start < window.end else [])
        while windows:
            part = windows.popleft()
            halves = part.halves()
            try:
                batch = pager.read(
                    *part.outer.clauses(column, quote_values=quotes),
                    last_id=last_id,
                    tally=tally,
                    quote_values=quotes,
                    most_rows=self._limits.window_rows if halves else None,
                )
            except TooManyRowsError:
                windows.extendleft(reversed(halves or ()))
                continue
            inside = self._inside(batch, part, column, table)
            for row in inside:
                if row["Id"] in seen:
                    raise SourceGuardError(
                        f"{table.origin}: row {row['Id']} came twice: its {column!r} changed while the table "
                        "was read. Read again"
                    )
                seen.add(row["Id"])
            # The server counted the wider window; what was seen to lie in its margin is taken off, no more.
            stream.source_rows += batch.total - (len(batch.rows) - len(inside))
            stream.requests = tally.requests
            yield from (source_row(row, table) for row in inside)
        stream.requests = tally.requests

    @staticmethod
    def _inside(batch: Batch, window: Window, column: str, table: NocoDBTable) -> list[dict[str, Any]]:
        """The rows whose start lies in the window itself."""
        inside, outer = [], window.outer
        for row in batch.rows:
            instant = timestamp_or_none(row.get(column))
            if instant is None:
                logger.warning(
                    "%s: row %s has no readable %s and belongs to no day; correct it in the source",
                    *(table.origin, row["Id"], column),
                )
            elif not outer.start <= instant <= outer.end:
                raise SourceGuardError(
                    f"{table.origin}: row {row['Id']} lies outside the days asked for: the server did not "
                    f"apply the filter on {column!r}. Is it a DateTime, and NocoDB's version at least 0.262?"
                )
            elif instant in window:
                inside.append(row)
        return inside

    # -- rows of conversations

    def _of_conversations(
        self, declared: SourceTable, ids: tuple[str, ...], stream: RowStream
    ) -> Iterator[SourceRow]:
        table = self._table(declared)
        yield from (source_row(row, table) for row in self._reader(table).rows(ids, stream))

    def _reader(self, table: NocoDBTable) -> RowReader:
        conversations = self._tables().conversations
        return RowReader(
            self._client,
            self._pager(table),
            table,
            self._limits,
            lambda tally: self._pager(conversations).extent(tally).rows,
        )
