"""What an engine is: it runs a model over Parquet files into the declared table, in Arrow.

What all engines share belongs here: the protocol, their error, the checks before and after. Each engine is a
module of its own, and which of them runs a model is `choice`'s.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.fs as pafs

from cai_assets.engines.models import Model, TablePath
from cai_assets.failures import PermanentError
from cai_assets.schemas.base import Table

Files = Mapping[TablePath, Sequence[str]]
"""The Parquet files of each input; a table with none is an empty table of the declared columns."""

EngineName = Literal["duckdb", "cudf", "spark"]


class EngineError(PermanentError):
    """An engine refused a model or a query; the message names the file and gives the engine's own words."""


class Engine(Protocol):
    """Runs models; threads may call at once unless it says otherwise."""

    @property
    def name(self) -> EngineName:
        """Which it is."""

    def run(
        self, model: Model, inputs: Files, parameters: Mapping[str, Any], *, table: Table
    ) -> pa.RecordBatchReader:
        """Run a model over files, in the declared order and schema of its table.

        Args:
            model: the model.
            inputs: files of each of `model.inputs`.
            parameters: a value for each of `model.parameters`; further ones are ignored.
            table: declaration of the result.

        Returns:
            rows in order of the table's partition column, then its key, nulls last; whatever is held for them
            is let go when they are read to their end or given up.

        Raises:
            EngineError: an input or parameter is missing, the engine refuses the model, or its columns are
                not the declared ones; while reading also for a NULL where none may stand.
            TransientError: a server that holds the files or does the work failed.
        """

    def about(self) -> dict[str, str]:
        """What ran, for the metadata of a materialisation: the engine, the device, and why."""


class Exchange(Protocol):
    """A folder that this process and a cluster both see."""

    @property
    def address(self) -> str:
        """As the cluster names it: an absolute path or an s3:// address."""

    @property
    def filesystem(self) -> pafs.FileSystem:
        """Opens it here."""

    @property
    def path(self) -> str:
        """As the file system wants it."""


class Place(Protocol):
    """Where the files are, as far as engines have to know; a store of the lake is one."""

    def duckdb_setup(self, connection: Any) -> None:
        """Make a DuckDB connection able to open the files."""

    def scan_options(self) -> dict[str, str]:
        """Options of Polars' scans."""

    def exchange(self) -> AbstractContextManager[Exchange]:
        """A folder for files on their way from a cluster; it is removed at the end."""


def complete(
    what: str,
    wanted: Sequence[TablePath],
    inputs: Files,
    names: Sequence[str],
    parameters: Mapping[str, Any],
) -> None:
    """Refuse to run without an input or a parameter.

    Raises:
        EngineError: naming what is missing.
    """
    missing = [".".join(path) for path in wanted if path not in inputs]
    missing += [f"${name}" for name in names if name not in parameters]
    if missing:
        raise EngineError(f"{what} cannot run without {', '.join(missing)}")


def sort_columns(table: Table) -> list[str]:
    """Partition column, then key: the order of a table's rows."""
    partition = [table.partition_by] if table.partition_by else []
    return list(dict.fromkeys([*partition, *table.key]))


def without_nulls(batches: Iterable[pa.RecordBatch], what: str, table: Table) -> Iterator[pa.RecordBatch]:
    """Batches of the declared types with the declared schema, as long as no NULL stands where none may.

    Raises:
        EngineError: naming the column.
    """
    schema = table.arrow_schema
    for batch in batches:
        for column, values in zip(table.columns, batch.columns, strict=True):
            if values.null_count and not column.nullable:
                raise EngineError(
                    f"{what}: {table.layer}.{table.name}.{column.name} is NULL in "
                    f"{values.null_count} rows, which the declaration forbids"
                )
        yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def cast_batch(batch: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """A batch with the declared columns, each cast to its declared type without loss.

    Raises:
        pa.ArrowInvalid: a value does not fit.
    """
    columns = [batch.column(column.name).cast(column.type) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, names=[column.name for column in table.columns])
