"""Rows that come in any order, given back partition by partition, in memory bounded by one of them.

A source answers in the order that suits it; files are written a partition at a time. Between the two the rows
wait on disk, in one temporary file. What the rows mean, and where they go, does not belong here.
"""

import contextlib
import tempfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from cai_assets.failures import PermanentError
from cai_assets.schemas.base import Table

BATCH_BYTES = 64 * 1024 * 1024
"""A batch given back is smaller than this, if need be with fewer rows: texts of a batch must stay far below
Arrow's 2 GiB of one column."""


class PartitionSpool:
    """One table's rows on their way from any order into that of its partitions. Use as a context manager.

    The file is removed from its folder as soon as it is made, so that not even a killed process leaves it
    behind.
    """

    def __init__(self, table: Table, *, batch_rows: int) -> None:
        """Make an empty spool in the system's temporary folder (TMPDIR).

        Args:
            table: the declaration: partition column, and a key of one column of whole numbers.
            batch_rows: most rows of a batch that is given back.
        """
        self._schema: pa.Schema = table.arrow_schema
        self._partition = table.partition_by or ""
        (self._key,) = table.key
        self._batch_rows = batch_rows
        self._parts: dict[str, list[int]] = defaultdict(list)
        self._written = 0
        self.rows = 0
        self._open = contextlib.ExitStack()
        with _disk_errors():
            file = tempfile.TemporaryFile(prefix="cai-spool-")  # noqa: SIM115  the stack closes it
            self._file = self._open.enter_context(file)
            sink = self._open.enter_context(pa.PythonFile(self._file, "w"))
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_file(sink, self._schema, options=options)

    def append(self, batch: pa.RecordBatch) -> None:
        """Take rows of any partitions, in any order; what is held in memory is this batch.

        Raises:
            PermanentError: the disk is full.
        """
        ordered = batch.sort_by([(self._partition, "ascending"), (self._key, "ascending")])
        runs = pc.run_end_encode(ordered.column(self._partition))
        start = 0
        with _disk_errors():
            for end, partition in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
                # A batch of its own: reading one partition then touches no byte of another.
                self._writer.write_batch(ordered.slice(start, end - start))
                self._parts[partition].append(self._written)
                self._written += 1
                start = end
        self.rows += batch.num_rows

    def batches(self) -> pa.RecordBatchReader:
        """All rows, by partition and key; to be called once, after the last `append`."""
        with _disk_errors():
            self._writer.close()
            self._file.seek(0)
            source = self._open.enter_context(pa.PythonFile(self._file, "r"))
            reader = pa.ipc.open_file(source)
        return pa.RecordBatchReader.from_batches(self._schema, self._in_order(reader))

    def _in_order(self, reader: Any) -> Iterator[pa.RecordBatch]:
        for partition in sorted(self._parts):
            places = self._parts[partition]
            yield from self._merged([reader.get_batch(place) for place in places])

    def _merged(self, runs: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One partition's sorted runs as one, cut where so many rows are full.

        Not `Table.sort_by`: that copies all texts into one array, which ends at 2 GiB.
        """
        keys = [run.column(self._key) for run in runs]
        ordered = pa.chunked_array(keys).combine_chunks()
        if isinstance(ordered, pa.ChunkedArray):
            ordered = pa.concat_arrays(ordered.chunks)
        ordered = ordered.take(pc.array_sort_indices(ordered))
        size = sum(run.nbytes for run in runs)
        step = max(1, min(self._batch_rows, len(ordered) * BATCH_BYTES // max(1, size)))
        starts = [0] * len(runs)
        for first in range(step, len(ordered) + step, step):
            # Rows below the next batch's first key; equal keys never part, so they stay side by side.
            ends = [
                bisect_left(key, ordered[first].as_py(), key=lambda one: one.as_py())
                if first < len(ordered)
                else len(key)
                for key in keys
            ]
            slices = [
                run.slice(start, end - start)
                for run, start, end in zip(runs, starts, ends, strict=True)
                if end > start
            ]
            starts = ends
            if len(slices) == 1:
                yield slices[0]
            elif slices:
                yield pa.concat_batches(slices).sort_by(self._key)

    def close(self) -> None:
        """Give back the disk's room."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PermanentError(
            f"the temporary folder {tempfile.gettempdir()} cannot take the rows of this run: {error}. "
            "Make room there, or set TMPDIR to a folder on a larger disk"
        ) from error
