"""How Parquet files of a table are written: every PARQUET_* setting, and which columns are encoded how.

Nothing is written here; that is `parquet_writer`'s.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import pyarrow as pa

from cai_assets.failures import PermanentError
from cai_assets.schemas.base import Column, Table
from cai_assets.settings import Settings

WHOLE: Final = ""
"""Stands for the one part of a table that has no partition column."""

_PARTITION: Final = re.compile(r"[0-9A-Za-z_-]+")
# A file is closed when it has reached this share of the target, rather than topped up by a sliver of a group.
FULL: Final = 7 / 8
# Columns whose values hardly repeat: a dictionary of them only costs time and space (measured on 1,000,000
# messages: 1.86 s and 50.6 MB with, 1.52 s and 47.4 MB without).
_UNREPEATED: Final = re.compile(r"(^|_)(text|row|hash)$")
# Instants and durations repeat no more: without, 30,000 rows of the facts are written in 0.76 to 0.92 of the
# time and 0.78 to 0.87 of the bytes, and read in 0.90 to 0.97 of the time.
_CLOCK_UNITS: Final = frozenset({"us", "ms", "s"})
# A group of fewer rows has no dictionary at all. Each column of it is two pages to make, compress and open
# instead of one: of 300 rows (1,000, 3,000), without, the writing takes 0.75 to 0.84 (0.73 to 0.90, 0.74 to
# 1.02) of the time, the reading 0.73 to 0.89 (0.82 to 1.04, 0.87 to 1.12).
DICTIONARY_ROWS: Final = 4096


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
        return max(1, -(-rows // self.file_rows), -(-size // int(self.file_bytes * FULL)))

    def writer_options(self, table: Table, rows: int) -> dict[str, Any]:
        """Keyword arguments of `pyarrow.parquet.ParquetWriter`.

        Args:
            table: the declaration.
            rows: of the file's first row group.
        """
        # Sorted ids share long prefixes: as DELTA_BYTE_ARRAY they beat three levels of zstd at less time.
        ids = [name for name in table.key if name.endswith("_id") and table.by_name[name].type == pa.string()]
        repeated = [c.name for c in table.columns if c.name not in ids and _repeats(c)]
        dictionary = _leaves(table, repeated) if rows >= DICTIONARY_ROWS else []
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


def _repeats(column: Column) -> bool:
    """Whether a column's values come again often enough for a dictionary."""
    clock = pa.types.is_timestamp(column.type) or column.unit in _CLOCK_UNITS
    return not clock and not _UNREPEATED.search(column.name)


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
