"""The files that hold some partitions of a table, in the forms in which readers want them.

Which files those are is `storage`'s; what is done with the rows is the readers'.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from cai_assets.failures import PermanentError
from cai_assets.resources.object_store import ObjectStore
from cai_assets.schemas.base import Table

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as pads


@dataclass(frozen=True)
class LakeFiles:
    """The files that hold some partitions of a table at one version: what engines read.

    The files are immutable and stay until LAKE_RETENTION_HOURS after they were replaced. The partition column
    is in the files (`hive_partitioning=false`), and files older than a column lack it (`union_by_name=true`).

    Attributes:
        table: the declaration.
        parts: absolute paths or s3:// addresses by partition, in rising order; a partition that is missing
            has no entry.
        partitions: the partitions asked for in rising order; None for all.
        store: where they are; `store.duckdb_setup(con)` lets DuckDB open them.
        version: version of the Delta table; None if there is none yet.
        rows: rows by partition.
    """

    table: Table
    parts: Mapping[str, tuple[str, ...]]
    partitions: tuple[str, ...] | None
    store: ObjectStore = field(repr=False)
    version: int | None = None
    rows: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def files(self) -> tuple[str, ...]:
        """All files; may be none."""
        return tuple(file for files in self.parts.values() for file in files)

    def of(self, partitions: Sequence[str]) -> tuple[str, ...]:
        """The files of some of the partitions; of a table without partitions, all."""
        if self.table.partition_by is None:
            return self.files
        return tuple(file for partition in partitions for file in self.parts.get(partition, ()))

    def narrowed(self, partitions: Sequence[str]) -> "LakeFiles":
        """The files of some of the partitions alone, as a selection of its own; as `of`."""
        if self.table.partition_by is None:
            return self
        kept = [partition for partition in partitions if partition in self.parts]
        return replace(
            self,
            parts={partition: self.parts[partition] for partition in kept},
            partitions=tuple(partitions),
            rows={partition: self.rows.get(partition, 0) for partition in kept},
        )

    def dataset(self) -> "pads.Dataset":
        """The files as a pyarrow dataset with the declared schema."""
        import pyarrow.dataset as pads  # it imports pandas where there is one

        schema = self.table.arrow_schema
        if not self.files:
            return pads.dataset(schema.empty_table())
        paths = [self.store.native_path(file) for file in self.files]
        return pads.dataset(paths, schema=schema, filesystem=self.store.filesystem(), format="parquet")

    def to_table(self) -> pa.Table:
        """All rows in memory, in the order of the files: partition by partition, as they were written."""
        with self.store.errors(f"reading {self.table.layer}.{self.table.name}"):
            return self.dataset().to_table(use_threads=self.store.workers > 1)

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Some columns, in the order of the files, in the memory of one row group.

        Args:
            columns: names.
            rows: most rows of a batch.
        """
        scanner = self.dataset().scanner(
            columns=list(columns), batch_size=rows, batch_readahead=1, fragment_readahead=1, use_threads=False
        )
        with self.store.errors(f"reading {self.table.layer}.{self.table.name}"):
            yield from scanner.to_batches()

    def to_pandas(self) -> "pd.DataFrame":
        """All rows in memory, as `to_table` orders them, with pandas' own types for texts and instants.

        Raises:
            PermanentError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: F401  pyarrow would say no more than that it cannot be imported
        except ImportError as error:
            raise _lacking("pandas") from error
        return self.to_table().to_pandas()

    def lazy_frame(self) -> "pl.LazyFrame":
        """The files as Polars scans them: nothing is read before it is collected.

        Raises:
            PermanentError: Polars is not installed.
        """
        try:
            import polars as pl
        except ImportError as error:
            raise _lacking("polars") from error
        empty = pl.from_arrow(self.table.arrow_schema.empty_table())
        if not self.files:
            return pl.LazyFrame(empty)
        return pl.scan_parquet(
            list(self.files),
            schema=pl.DataFrame(empty).schema,
            missing_columns="insert",
            hive_partitioning=False,
            glob=False,
            storage_options=self.store.scan_options(),
        )


def _lacking(package: str) -> PermanentError:
    return PermanentError(
        f"an input is annotated as a frame of {package}, which is not installed: "
        "pip install 'cai_assets[frames]'"
    )
