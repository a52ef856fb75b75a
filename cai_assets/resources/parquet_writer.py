"""Writing Parquet files of a declared table to a local folder, with every PARQUET_* setting honoured.

Codec, row groups, pages, the size of files and where one ends belong here. Where the files go afterwards and
which of them count is in `storage`.
"""

import hashlib
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cai_assets.failures import PermanentError
from cai_assets.resources.arrow import Conform
from cai_assets.schemas.base import Table
from cai_assets.settings import Settings

WHOLE = ""
"""Stands for the one part of a table that has no partition column."""

_PARTITION = re.compile(r"[0-9A-Za-z_-]+")
# A file is closed when it has reached this share of the target, rather than topped up by a sliver of a group.
_FULL = 7 / 8
# Columns whose values hardly repeat: a dictionary of them only costs time and space (measured on 1,000,000
# messages: 1.86 s and 50.6 MB with, 1.52 s and 47.4 MB without).
_UNREPEATED = re.compile(r"(^|_)(text|row|hash)$")


@dataclass(frozen=True)
class ParquetSpec:
    """How Parquet files are written.

    Attributes:
        codec: none, snappy, zstd, gzip, brotli or lz4.
        level: of the codec, or None for its own default.
        row_group_rows: rows of a row group; the last of a file may have fewer.
        page_bytes: bytes of a data page before compression.
        file_bytes: bytes after which the rows go on in another file.
        file_rows: rows after which the rows go on in another file.
        batch_rows: rows of a batch cut from a table in memory.
        layout: "day": a folder for each partition, `partition=2024-05-03/`; "month": the files of a month's
            days in one folder, `month=2024-05/`. A file holds rows of one partition under either
            (docs/adr/0008): replacing a day never rewrites another day's rows.
    """

    codec: str = "zstd"
    level: int | None = 3
    row_group_rows: int = 131_072
    page_bytes: int = 1_048_576
    file_bytes: int = 256 * 1024 * 1024
    file_rows: int = 10_000_000
    batch_rows: int = 10_000
    layout: Literal["day", "month"] = "day"

    def __post_init__(self) -> None:
        if self.level is not None:
            low = pa.Codec.minimum_compression_level(self.codec)
            high = pa.Codec.maximum_compression_level(self.codec)
            if not low <= self.level <= high:
                raise PermanentError(
                    f"PARQUET_COMPRESSION: {self.codec} has levels {max(low, 1)} to {high}, not {self.level}"
                )

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The PARQUET_* variables and CHUNK_SIZE as one object.

        Raises:
            PermanentError: the codec has no such level.
        """
        codec, _, level = settings.parquet_compression.partition(":")
        return cls(
            codec=codec,
            level=int(level) if level else None,
            row_group_rows=settings.parquet_row_group_size,
            page_bytes=settings.parquet_page_size,
            file_bytes=settings.parquet_target_file_size_mb * 1024 * 1024,
            file_rows=settings.parquet_max_records_per_file,
            batch_rows=settings.chunk_size,
            layout=settings.parquet_partition_by,
        )

    def folder(self, table: Table, partition: str) -> str:
        """Folder of a partition's files below the table's, with a slash; empty where there are no partitions.

        Raises:
            PermanentError: the partition's name cannot be part of a path.
        """
        if table.partition_by is None:
            return ""
        if not _PARTITION.fullmatch(partition):
            raise PermanentError(
                f"table {table.layer}.{table.name}: {partition!r} is no {table.partition_by}; write it as "
                "2024-05-03, a month as 2024-05"
            )
        if table.partition_by == "partition" and self.layout == "month":
            return f"month={partition[:7]}/"
        return f"{table.partition_by}={partition}/"

    def fewest_files(self, rows: int, size: int) -> int:
        """How many files a partition of so many rows and bytes is written to."""
        return max(1, -(-rows // self.file_rows), -(-size // int(self.file_bytes * _FULL)))

    def writer_options(self, table: Table) -> dict[str, Any]:
        """Keyword arguments of `pyarrow.parquet.ParquetWriter`."""
        # Sorted ids share long prefixes: as DELTA_BYTE_ARRAY they beat three levels of zstd at less time.
        ids = [name for name in table.key if name.endswith("_id") and table.by_name[name].type == pa.string()]
        plain = [column.name for column in table.columns if _UNREPEATED.search(column.name)]
        dictionary = _leaves(table, [c.name for c in table.columns if c.name not in {*ids, *plain}])
        return {
            "compression": self.codec,
            "compression_level": self.level,
            "data_page_size": self.page_bytes,
            # Pages end where the bytes say so: pyarrow looks only after each write batch (1024 values by
            # default), and by default ends them at 20,000 rows too.
            "write_batch_size": min(1024, max(16, self.page_bytes // 64)),
            "max_rows_per_page": self.row_group_rows,
            "use_dictionary": dictionary or False,
            "column_encoding": dict.fromkeys(ids, "DELTA_BYTE_ARRAY") or None,
        }


@dataclass(frozen=True)
class WrittenFile:
    """A finished file in the local folder.

    Attributes:
        path: where it is.
        rows: rows in it.
        size: bytes.
        digest: the first 80 bits of its SHA-256, as hex; equal data under an equal spec has an equal digest.
    """

    path: Path
    rows: int
    size: int
    digest: str


@dataclass(frozen=True)
class Part:
    """All files of one partition, in order of their rows.

    Attributes:
        partition: value of the partition column, `WHOLE` for an unpartitioned table.
        files: at least one; an empty partition has one file without rows.
    """

    partition: str
    files: tuple[WrittenFile, ...]


def write_parts(
    batches: Iterable[pa.RecordBatch], table: Table, spec: ParquetSpec, folder: Path, *, writers: int = 1
) -> Iterator[Part]:
    """Write batches as Parquet files, and give each partition's files as soon as they are complete.

    What is held in memory is one row group, whatever the size of the partition, and one more for each of
    several writers: they finish partitions that are complete while the next ones are read. The bytes written
    depend only on the rows and their order, not on how they were cut into batches.

    Args:
        batches: rows with equal partition side by side.
        table: the declaration; batches are cast to it.
        spec: how to write.
        folder: an existing local folder of the caller's own.
        writers: threads that finish partitions; 1 for none but the caller's.

    Yields:
        the parts, in the order in which the partitions come.

    Raises:
        PermanentError: the data does not fit the declaration, or a partition's rows are not side by side.
            Nulls in non-nullable columns are raised at the end, with their counts.
    """
    conform = Conform(table)
    form = _Form(spec, table.arrow_schema, spec.writer_options(table))
    done: set[str] = set()
    writer: _PartWriter | None = None
    ends = _Ends(writers)
    try:
        for given in batches:
            batch = conform(given)
            if conform.nulls:  # nothing of it will be kept: go on only to count
                continue
            for partition, rows in _runs(batch, table):
                if writer is not None and writer.partition != partition:
                    done.add(writer.partition)
                    last, writer = writer, None
                    yield from ends.finish(last)
                if partition in done:
                    raise PermanentError(
                        f"table {table.layer}.{table.name}: rows of {partition} do not stand side by side; "
                        f"sort the data by {table.partition_by}"
                    )
                writer = writer or _PartWriter(form, folder, partition)
                writer.write(rows)
        conform.finish()
        if writer is not None:
            last, writer = writer, None
            yield from ends.finish(last)
        yield from ends.rest()
    finally:
        ends.close()
        if writer is not None:
            writer.abandon()


def write_empty_part(table: Table, spec: ParquetSpec, folder: Path, partition: str) -> Part:
    """The part of a partition without rows: one file that holds the schema alone."""
    form = _Form(spec, table.arrow_schema, spec.writer_options(table))
    return _PartWriter(form, folder, partition).finish()


def digest_of(file: io.BufferedReader | io.BytesIO) -> str:
    """The digest of a file's bytes, as in `WrittenFile`."""
    return hashlib.file_digest(file, "sha256").hexdigest()[:20]


def _leaves(table: Table, names: list[str]) -> list[str]:
    """Parquet's paths of the leaf columns under the named columns, as `use_dictionary` wants them."""
    leaves: list[str] = []

    def walk(path: str, type_: pa.DataType) -> None:
        if pa.types.is_list(type_):
            walk(f"{path}.list.element", type_.value_type)
        elif pa.types.is_struct(type_):
            for index in range(type_.num_fields):
                field = type_.field(index)
                walk(f"{path}.{field.name}", field.type)
        else:
            leaves.append(path)

    for name in names:
        walk(name, table.by_name[name].type)
    return leaves


def _runs(batch: pa.RecordBatch, table: Table) -> Iterator[tuple[str, pa.RecordBatch]]:
    if batch.num_rows == 0:
        return
    if table.partition_by is None:
        yield WHOLE, batch
        return
    runs = pc.run_end_encode(batch.column(table.partition_by))
    ends = [0, *runs.run_ends.to_pylist()]
    for (start, end), value in zip(pairwise(ends), runs.values.to_pylist(), strict=True):
        yield value, batch.slice(start, end - start)


@dataclass(frozen=True)
class _Form:
    """What all files of a table have in common."""

    spec: ParquetSpec
    schema: pa.Schema
    options: dict[str, Any]


class _PartWriter:
    """Writes one partition, rolling from file to file by rows and by measured bytes."""

    def __init__(self, form: _Form, folder: Path, partition: str) -> None:
        self.partition = partition
        self._form = form
        self._spec = form.spec
        self._folder = folder
        self._files: list[WrittenFile] = []
        self._pending: deque[pa.RecordBatch] = deque()
        self._pending_rows = 0
        self._measured_bytes = 0
        self._measured_rows = 0
        self._file: _OpenFile | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        while self._pending_rows >= self._spec.row_group_rows:
            self._write_group()

    def finish(self) -> Part:
        while self._pending_rows:
            self._write_group()
        if self._file is not None or not self._files:
            self._close(self._file or self._open())
        return Part(self.partition, tuple(self._files))

    def abandon(self) -> None:
        """Give up after an error; the files are the folder owner's to remove."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.writer.close()
        except OSError:
            # The disk refused the rows already, which is the error under way; it refuses the footer too.
            file.writer.is_open = False
        finally:
            file.sink.close()

    def _write_group(self) -> None:
        file = self._file = self._file or self._open()
        rows = min(self._pending_rows, self._spec.row_group_rows, self._spec.file_rows - file.rows)
        group = self._take(rows)
        fitting = self._fitting_rows(group, file)
        if fitting < rows:
            self._pending.appendleft(group.slice(fitting))
            self._pending_rows += rows - fitting
            rows, group = fitting, group.slice(0, fitting)
        before = file.sink.tell()
        file.writer.write_table(pa.Table.from_batches([group]), row_group_size=rows)
        file.rows += rows
        self._measured_bytes += file.sink.tell() - before
        self._measured_rows += rows
        if file.sink.tell() >= self._spec.file_bytes * _FULL or file.rows >= self._spec.file_rows:
            self._close(file)

    def _take(self, rows: int) -> pa.RecordBatch:
        """The first pending rows as one contiguous batch: pages then end at the same rows for any input."""
        taken: list[pa.RecordBatch] = []
        wanted = rows
        while wanted:
            batch = self._pending.popleft()
            if batch.num_rows > wanted:
                self._pending.appendleft(batch.slice(wanted))
                batch = batch.slice(0, wanted)
            taken.append(batch)
            wanted -= batch.num_rows
        self._pending_rows -= rows
        return pa.concat_batches(taken) if len(taken) > 1 else taken[0]

    def _fitting_rows(self, group: pa.RecordBatch, file: "_OpenFile") -> int:
        """How many of the group's rows the open file still takes, by the bytes that rows took so far.

        Before anything was measured, rows are taken at their size in memory, which is more than they will
        have; the first row group is then cut short and the next is sized by measurement.
        """
        if self._measured_rows:
            row_bytes = self._measured_bytes / self._measured_rows
        else:
            # The IPC size, unlike nbytes, is the same however the rows came to be sliced.
            row_bytes = pa.ipc.get_record_batch_size(group) / group.num_rows
        room = self._spec.file_bytes - file.sink.tell()
        return max(1, min(int(group.num_rows), int(room / row_bytes)))

    def _open(self) -> "_OpenFile":
        path = self._folder / f"{self.partition or 'whole'}-{len(self._files):05}.parquet"
        sink = pa.OSFile(str(path), "wb")
        return _OpenFile(path, sink, pq.ParquetWriter(sink, self._form.schema, **self._form.options))

    def _close(self, file: "_OpenFile") -> None:
        file.writer.close()
        file.sink.close()
        self._file = None
        with file.path.open("rb") as written:
            digest = digest_of(written)
        self._files.append(WrittenFile(file.path, file.rows, file.path.stat().st_size, digest))


class _Ends:
    """Finishes partitions, several at once, and gives them back in the order in which they came."""

    def __init__(self, writers: int) -> None:
        self._most = writers
        self._pool = ThreadPoolExecutor(writers, thread_name_prefix="parts") if writers > 1 else None
        self._under_way: deque[tuple[_PartWriter, Future[Part] | None]] = deque()

    def finish(self, writer: _PartWriter) -> Iterator[Part]:
        """Have a partition finished; those that are done meanwhile come back."""
        self._under_way.append((writer, self._pool.submit(writer.finish) if self._pool else None))
        while self._under_way and (self._pool is None or len(self._under_way) > self._most):
            yield self._next()

    def rest(self) -> Iterator[Part]:
        """All that is under way."""
        while self._under_way:
            yield self._next()

    def close(self) -> None:
        """End the threads; after an error what they had under way is given up."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for writer, _ in self._under_way:
            writer.abandon()

    def _next(self) -> Part:
        writer, future = self._under_way[0]
        part = writer.finish() if future is None else future.result()
        self._under_way.popleft()
        return part


@dataclass
class _OpenFile:
    path: Path
    sink: pa.NativeFile
    writer: pq.ParquetWriter
    rows: int = 0
