"""What a source of conversations is: rows, streams of rows, reports and errors, for every kind of source.

How a server or a folder is read belongs to the sibling modules; what a row means belongs to the documents.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from cai_assets.domain.timestamps import TimestampError, parse_timestamp
from cai_assets.failures import PermanentError, TransientError
from cai_assets.schemas.documents import SOURCE_COLLECTIONS
from cai_assets.settings import Settings


class SourceError(PermanentError):
    """The source cannot be read until something is mended; the message says what."""


class SourceAccessError(SourceError):
    """The token is missing, wrong, or not allowed to read."""


class SourceMissingError(SourceError):
    """A base, table, column, folder or file that should be there is not."""


class SourceGuardError(SourceError):
    """The source answers in a way that would lose or repeat rows silently."""


class SourceUnavailableError(TransientError):
    """The source does not answer, or not whole, for now."""


@dataclass(frozen=True)
class SourceTable:
    """A table as every source must offer it, under the platform's own column names (`schemas.documents`).

    Attributes:
        name: "conversations" or "messages".
        time_column: the row's own time; for conversations the start, by which a row belongs to its day.
    """

    name: Literal["conversations", "messages"]
    time_column: str

    @property
    def id_column(self) -> str:
        """Business id."""
        return SOURCE_COLLECTIONS[self.name].key.name

    @property
    def required(self) -> tuple[str, ...]:
        """Columns without which nothing can be computed."""
        return SOURCE_COLLECTIONS[self.name].required

    @property
    def optional(self) -> tuple[str, ...]:
        """Columns that are read where they exist."""
        return SOURCE_COLLECTIONS[self.name].optional

    @property
    def columns(self) -> tuple[str, ...]:
        """Required, then optional."""
        return self.required + self.optional


CONVERSATIONS = SourceTable("conversations", time_column="started_at")
MESSAGES = SourceTable("messages", time_column="created_at")
TABLES = (CONVERSATIONS, MESSAGES)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as the source gave it.

    Attributes:
        id: the source's own row number (NocoDB's Id).
        created_at: when the source made the row, UTC.
        updated_at: when the source last changed it, UTC; None until the first change.
        values: business fields under the platform's names, values verbatim.
    """

    id: int
    created_at: datetime | None
    updated_at: datetime | None
    values: dict[str, Any]

    @property
    def started_at(self) -> datetime:
        """Start of a conversation, UTC: the instant whose local day is its partition.

        Raises:
            SourceError: the row has no readable `started_at`; `Source.conversations` never yields such a row.
        """
        try:
            instant = parse_timestamp(self.values.get("started_at"))
        except TimestampError as error:
            raise SourceError(f"row {self.id}: started_at: {error}") from None
        if instant is None:
            raise SourceError(f"row {self.id} has no started_at, so it belongs to no day")
        return instant


class RowStream:
    """Rows of one read, to be iterated once.

    Attributes:
        source_rows: rows the source itself says it holds for what was iterated so far; compare it with the
            rows that came, after the last one.
        requests: requests made so far (0 for files).
        plan: how the source chose to read, with the numbers it chose by, for people to see; may be empty.
    """

    def __init__(self, produce: Callable[["RowStream"], Iterator[SourceRow]]) -> None:
        """Make a stream.

        Args:
            produce: yields the rows, and adds to the counts of the stream it is given.
        """
        self.source_rows = 0
        self.requests = 0
        self.plan: dict[str, str | int] = {}
        self._produce: Callable[[RowStream], Iterator[SourceRow]] | None = produce

    def __iter__(self) -> Iterator[SourceRow]:
        if self._produce is None:
            raise RuntimeError("a RowStream is read once; ask the source for another")
        produce, self._produce = self._produce, None
        return produce(self)


@dataclass(frozen=True)
class TableReport:
    """What a check found of one table.

    Attributes:
        name: "conversations" or "messages".
        origin: the table's title and id, or the files.
        rows: count by the source.
        mapped: our column name to the source's, of the columns that are read.
        absent: optional columns that the source does not have.
    """

    name: str
    origin: str
    rows: int
    mapped: Mapping[str, str]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class SourceReport:
    """What a check found of a source that works.

    Attributes:
        kind: as `Source.kind`.
        address: URL or folder.
        tables: conversations, then messages.
        undated: conversations without a readable `started_at`; they belong to no day and are never read.
        before_first_day: conversations that started before PARTITION_START_DATE, never read either.
        details: further facts, as the API version.
        warnings: what a person should look at, each with its mend.
    """

    kind: str
    address: str
    tables: tuple[TableReport, ...]
    undated: int
    before_first_day: int
    details: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChangePage:
    """Some of the rows that were written since an instant.

    Attributes:
        rows: in the order of their row number.
        last_id: highest row number so far; reading goes on behind it.
        last: whether nothing is left.
    """

    rows: list[SourceRow]
    last_id: int
    last: bool


class Source(Protocol):
    """Where conversations and their messages are read from."""

    overlap: timedelta
    """How far before the last look the next one begins: what clocks may differ by, and writes may take."""

    @property
    def kind(self) -> str:
        """The value of SOURCE that chooses it."""

    def check(self) -> SourceReport:
        """Try connection, tables and columns, and count.

        Raises:
            SourceError: naming what is wrong and the mend.
            SourceUnavailableError: the source does not answer.
        """

    def conversations(self, start: datetime, end: datetime) -> RowStream:
        """Conversations whose `started_at` lies in `[start, end)`, each once."""

    def messages(self, conversation_ids: Sequence[str]) -> RowStream:
        """All messages of these conversations, whenever written, each once; blank ids have none."""

    def conversations_by_id(self, conversation_ids: Sequence[str]) -> RowStream:
        """Conversations by business id, each row of them once, also those without a readable start."""

    def now(self) -> datetime:
        """The source's own time, UTC: what is written later than this is found from here on."""

    def changes(self, table: SourceTable, since: datetime, after_id: int) -> Iterator[ChangePage]:
        """Rows of a table that were made or changed at `since` or later, with row numbers above `after_id`.

        Rows that came or changed while it reads may or may not be among them. A deletion shows nowhere.

        Raises:
            SourceGuardError: the source gives other rows than those asked for.
        """

    def scan(self, table: SourceTable, columns: Sequence[str]) -> RowStream:
        """All rows of a table in the order of their numbers, with only these columns of ours as values."""

    def rows_by_number(self, table: SourceTable, numbers: Sequence[int]) -> RowStream:
        """Whole rows by row number; those that are gone do not come."""

    def close(self) -> None:
        """Give back connections and temporary files."""


def map_columns(
    table: SourceTable, field_map: Mapping[str, str], existing: Sequence[str], origin: str
) -> dict[str, str]:
    """Which of the source's columns stands for which of ours.

    Args:
        table: the table wanted.
        field_map: its part of NOCODB_FIELD_MAP, our name to the source's.
        existing: the source's columns.
        origin: the table in words, for messages.

    Returns:
        Our name to the source's, for every column of ours that exists.

    Raises:
        SourceMissingError: a required column, or one that the map names, does not exist; or the map names a
            column that is not one of ours.
    """
    unknown = sorted(set(field_map) - set(table.columns))
    if unknown:
        raise SourceMissingError(
            f"NOCODB_FIELD_MAP: {table.name} has no column of ours called {', '.join(unknown)}; "
            f"ours are {', '.join(table.columns)}"
        )
    wanted = {ours: field_map.get(ours, ours) for ours in table.columns}
    missing = {
        ours: theirs
        for ours, theirs in wanted.items()
        if theirs not in existing and (ours in table.required or ours in field_map)
    }
    if missing:
        names = ", ".join(o if o == t else f"{t} (for {o})" for o, t in missing.items())
        example = json.dumps({table.name: {next(iter(missing)): "<column title>"}})
        raise SourceMissingError(
            f"{origin} lacks the column(s) {names}; it has {', '.join(existing) or 'none'}. "
            f"Add them, or say which columns stand for them, as NOCODB_FIELD_MAP={example}"
        )
    return {ours: theirs for ours, theirs in wanted.items() if theirs in existing}


def day_warnings(undated: int, before_first_day: int, first_day: str) -> list[str]:
    """Warnings about conversations that no partition holds."""
    warnings = []
    if undated:
        warnings.append(
            f"{undated} conversation(s) have no readable started_at: they belong to no day and are not read. "
            "Fill in their start in the source."
        )
    if before_first_day:
        warnings.append(
            f"{before_first_day} conversation(s) started before PARTITION_START_DATE={first_day} and are not "
            "read. Set an earlier date before the first run, if they are wanted."
        )
    return warnings


def open_source(settings: Settings) -> Source:
    """The source that SOURCE names; nothing is connected before its first use.

    Raises:
        SourceError: settings that this source needs are missing.
    """
    if settings.source == "files":
        from cai_assets.resources.files import FilesSource  # brings DuckDB, which a server needs not

        return FilesSource(settings)
    from cai_assets.resources.nocodb import NocoDBSource

    return NocoDBSource(settings)
