"""Writing Parquet files of a declared table to a local folder: row groups, the size of files, where one ends.

How a file is encoded is `parquet_spec`'s; where the files go afterwards and which of them count, `storage`'s.
"""

import hashlib
import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cai_assets.failures import PermanentError
from cai_assets.resources.arrow import Conform
from cai_assets.resources.parquet_spec import DICTIONARY_ROWS, FULL, WHOLE, ParquetSpec
from cai_assets.schemas.base import Table


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
    form = _Form(spec, table)
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
    form = _Form(spec, table)
    return _PartWriter(form, folder, partition).finish()


def digest_of(file: io.BufferedReader | io.BytesIO) -> str:
    """The digest of a file's bytes, as in `WrittenFile`."""
    return hashlib.file_digest(file, "sha256").hexdigest()[:20]


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


class _Form:
    """What all files of a table have in common."""

    def __init__(self, spec: ParquetSpec, table: Table) -> None:
        self.spec = spec
        self._schema = table.arrow_schema
        self._small = spec.writer_options(table, 0)
        self._large = spec.writer_options(table, DICTIONARY_ROWS)

    def writer(self, sink: pa.NativeFile, rows: int) -> pq.ParquetWriter:
        """A writer of a file whose first row group has so many rows."""
        options = self._large if rows >= DICTIONARY_ROWS else self._small
        return pq.ParquetWriter(sink, self._schema, **options)


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
            self._close(self._file or self._open(0))
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
        file = self._file = self._file or self._open(self._next_rows(0))
        rows = self._next_rows(file.rows)
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
        if file.sink.tell() >= self._spec.file_bytes * FULL or file.rows >= self._spec.file_rows:
            self._close(file)

    def _next_rows(self, written: int) -> int:
        """Rows of the next group of a file that has so many."""
        return min(self._pending_rows, self._spec.row_group_rows, self._spec.file_rows - written)

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

    def _open(self, rows: int) -> "_OpenFile":
        path = self._folder / f"{self.partition or 'whole'}-{len(self._files):05}.parquet"
        sink = pa.OSFile(str(path), "wb")
        return _OpenFile(path, sink, self._form.writer(sink, rows))

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
