"""Conversations and messages out of a folder of files. What a row means is the documents' business.

The files are brought once, in the order of time, into a temporary DuckDB database on disk, so that a day or
the messages of some conversations can be read without going through all files again, in bounded memory.
"""

import contextlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from cai_assets.domain.rows import marked, unmarked
from cai_assets.domain.timestamps import TimestampError, parse_timestamp, timestamp_or_none
from cai_assets.memory import in_bytes
from cai_assets.resources.file_tables import FileSet, find_files, prepare, stage
from cai_assets.resources.scratch import scratch_folder
from cai_assets.resources.source import (
    CONVERSATIONS,
    MESSAGES,
    TABLES,
    ChangePage,
    RowStream,
    SourceError,
    SourceMissingError,
    SourceReport,
    SourceRow,
    SourceTable,
    TableReport,
    day_warnings,
)
from cai_assets.settings import Settings

logger = logging.getLogger(__name__)

CHANGE_ROWS = 1000
"""Rows of a page of changes."""
_NUMBER = "coalesce(own_id, rowid + 1)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // (datetime.resolution)


class FilesSource:
    """A source that is a folder of Parquet, JSONL or CSV files."""

    kind = "files"
    overlap = timedelta(seconds=2)
    """File systems stamp with the clock of the last tick, and some with whole seconds."""

    def __init__(self, settings: Settings) -> None:
        """Make a source; no file is read before its first use.

        Args:
            settings: SOURCE_DIR, NOCODB_FIELD_MAP, DUCKDB_MEMORY_LIMIT, PROCESSING_THREADS and CHUNK_SIZE are
                used.

        Raises:
            SourceError: SOURCE_DIR is not set.
        """
        if settings.source_dir is None:
            raise SourceError("SOURCE=files needs SOURCE_DIR, the folder with conversations and messages")
        self._settings = settings
        self._folder = settings.source_dir
        self._lock = threading.Lock()
        self._temporary = contextlib.ExitStack()
        self._scratch = Path()
        self._database: duckdb.DuckDBPyConnection | None = None
        self._staged: dict[str, FileSet] = {}

    def check(self) -> SourceReport:
        """See `Source.check`: folder, files, columns, counts, and conversations that belong to no day."""
        reports = []
        for table in TABLES:
            files, cursor = self._ready(table)
            with cursor:
                rows = _number(cursor, f"select count(*) from {table.name}")  # noqa: S608
            absent = tuple(name for name in table.optional if name not in files.mapped)
            reports.append(TableReport(table.name, files.origin, rows, files.mapped, absent))
        first_day = datetime.combine(
            date.fromisoformat(self._settings.partition_start_date), time(), self._settings.timezone
        )
        _, cursor = self._ready(CONVERSATIONS)
        with cursor:
            undated = _number(cursor, "select count(*) from conversations where at_us is null")
            before = _number(
                cursor, "select count(*) from conversations where at_us < $1", _microseconds(first_day)
            )
        warnings = day_warnings(undated, before, self._settings.partition_start_date)
        warnings += [f"{report.origin}: no rows" for report in reports if report.rows == 0]
        return SourceReport(
            kind=self.kind,
            address=str(self._folder),
            tables=tuple(reports),
            undated=undated,
            before_first_day=before,
            warnings=tuple(warnings),
        )

    def conversations(self, start: datetime, end: datetime) -> RowStream:
        """See `Source.conversations`; in the order of start and business id."""
        if start.tzinfo is None or end.tzinfo is None:
            raise ValueError("a window's bounds need a time zone")
        bounds = [_microseconds(start), _microseconds(end)]
        return RowStream(
            lambda stream: self._rows(CONVERSATIONS, "at_us >= $1 and at_us < $2", bounds, None, stream)
        )

    def messages(self, conversation_ids: Sequence[str]) -> RowStream:
        """See `Source.messages`; in the order of time and business id, whatever the order of the ids."""
        return self._of_conversations(MESSAGES, conversation_ids)

    def conversations_by_id(self, conversation_ids: Sequence[str]) -> RowStream:
        """See `Source.conversations_by_id`."""
        return self._of_conversations(CONVERSATIONS, conversation_ids)

    def now(self) -> datetime:
        """See `Source.now`."""
        return datetime.now(UTC)

    def changes(self, table: SourceTable, since: datetime, after_id: int) -> Iterator[ChangePage]:
        """See `Source.changes`: all rows when a file was written, added or removed since then, else none.

        What a file holds says nothing of when a row was put into it.
        """
        if self._written_at(table) < since:
            yield ChangePage([], after_id, last=True)
            return
        stream = RowStream(lambda stream: self._rows(table, f"{_NUMBER} > $1", [after_id], None, stream))
        rows = iter(stream)
        while page := list(islice(rows, CHANGE_ROWS)):
            after_id = page[-1].id
            yield ChangePage(page, after_id, last=len(page) < CHANGE_ROWS)
        if stream.source_rows % CHANGE_ROWS == 0:
            yield ChangePage([], after_id, last=True)

    def scan(self, table: SourceTable, columns: Sequence[str]) -> RowStream:
        """See `Source.scan`."""

        def rows(stream: RowStream) -> Iterator[SourceRow]:
            for row in self._rows(table, "true", [], None, stream):
                values = {name: row.values[name] for name in columns if name in row.values}
                yield replace(row, values=values)

        return RowStream(rows)

    def rows_by_number(self, table: SourceTable, numbers: Sequence[int]) -> RowStream:
        """See `Source.rows_by_number`."""
        ids = pa.table({"id": pa.array(sorted(set(numbers)), pa.int64())})
        chosen = f"{_NUMBER} in (select id from wanted_ids)"  # noqa: S608
        return RowStream(lambda stream: self._rows(table, chosen, [], ids, stream))

    def close(self) -> None:
        """Remove the temporary database."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
            self._temporary.close()
            self._staged.clear()

    def _of_conversations(self, table: SourceTable, conversation_ids: Sequence[str]) -> RowStream:
        ids = pa.table(
            {"id": pa.array(sorted({marked(one) for one in conversation_ids if one.strip()}), pa.string())}
        )
        chosen = "conversation_id in (select id from wanted_ids)"
        return RowStream(lambda stream: self._rows(table, chosen, [], ids, stream))

    def _written_at(self, table: SourceTable) -> datetime:
        """When the newest of the table's files was written or put there, or one of the folder went."""
        if not self._folder.is_dir():
            raise SourceMissingError(f"SOURCE_DIR={self._folder} is no folder")
        # A file copied with its times kept (`cp -p`) shows in ctime, one removed in the folder's mtime.
        stats = [Path(path).stat() for path in find_files(self._folder, table).paths]
        newest = max(self._folder.stat().st_mtime, *(max(one.st_mtime, one.st_ctime) for one in stats))
        return datetime.fromtimestamp(newest, UTC)

    def _ready(self, table: SourceTable) -> tuple[FileSet, duckdb.DuckDBPyConnection]:
        """The table's files, staged as they are now, and a cursor on the temporary database."""
        with self._lock:
            if not self._folder.is_dir():
                raise SourceMissingError(f"SOURCE_DIR={self._folder} is no folder")
            files = find_files(self._folder, table)
            if self._database is None:
                # Not `tempfile`'s: those of killed processes would stay, as large as the export.
                base = Path(tempfile.gettempdir()) / f"cai-source-{os.getuid()}"
                self._scratch = self._temporary.enter_context(scratch_folder(base))
                self._database = self._connect(self._scratch)
            staged = self._staged.get(table.name)
            if staged is None or staged.signature != files.signature:
                field_map = self._settings.nocodb_field_map.get(table.name, {})
                self._staged.pop(table.name, None)
                files = stage(self._database, files, table, field_map, self._scratch)
                self._staged[table.name] = files
            return self._staged[table.name], self._database.cursor()

    def _connect(self, folder: Path) -> duckdb.DuckDBPyConnection:
        config: dict[str, Any] = {"temp_directory": str(folder / "spill")}
        if self._settings.duckdb_memory_limit:
            config["memory_limit"] = f"{in_bytes(self._settings.duckdb_memory_limit)}B"
        if self._settings.processing_threads:
            config["threads"] = self._settings.processing_threads
        database = duckdb.connect(folder / "source.duckdb", config=config)
        prepare(database)
        return database

    def _rows(
        self, table: SourceTable, chosen: str, values: list[int], ids: pa.Table | None, stream: RowStream
    ) -> Iterator[SourceRow]:
        files, cursor = self._ready(table)
        with cursor:
            if ids is not None:
                cursor.register("wanted_ids", ids)
            count = f"select count(*) from {table.name} where {chosen}"  # noqa: S608
            stream.source_rows = _number(cursor, count, *values)
            columns = f"{_NUMBER}, file, created_at, updated_at, own_created_at, own_updated_at"
            cursor.execute(f"select {columns}, row from {table.name} where {chosen} order by rowid", values)  # noqa: S608
            while rows := cursor.fetchmany(self._settings.chunk_size):
                for row in rows:
                    yield _source_row(table, files, *row)


def _number(cursor: duckdb.DuckDBPyConnection, query: str, *values: int) -> int:
    row = cursor.execute(query, list(values)).fetchone()
    return int(row[0]) if row else 0


def _source_row(
    table: SourceTable,
    files: FileSet,
    number: int,
    file: str,
    created_at: str | None,
    updated_at: str | None,
    own_created_at: str | None,
    own_updated_at: str | None,
    row: str,
) -> SourceRow:
    instants = []
    for column, value, own in (
        ("CreatedAt", created_at, own_created_at),
        ("UpdatedAt", updated_at, own_updated_at),
    ):
        try:
            # Without the system column the row's own times stand in; a bad one is for the documents to judge.
            instants.append(parse_timestamp(value) if column in files.system else timestamp_or_none(own))
        except TimestampError as error:
            raise SourceError(f"{file}, row {number} of {table.name}: {column}: {error}") from None
    values = json.loads(unmarked(row))
    if files.verbatim:
        values = {ours: values.get(theirs) for ours, theirs in files.mapped.items()}
    return SourceRow(number, instants[0], instants[1], values)
