"""What DuckDB is told, as text: names, types, files as tables, memory limits. Nothing runs here."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.types as pt

from cai_assets.failures import PermanentError
from cai_assets.schemas.base import Table


def in_bytes(memory_limit: str) -> str:
    """The limit as DuckDB takes it: it knows units alone, no share of this machine's memory."""
    if not memory_limit.endswith("%"):
        return memory_limit
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group = Path("/sys/fs/cgroup/memory.max")  # of a container; "max" where there is no limit
    if group.is_file() and (told := group.read_text().strip()).isdigit():
        memory = min(memory, int(told))
    return f"{int(memory * float(memory_limit.removesuffix('%')) / 100)}B"


def share(memory_limit: str, among: int) -> str:
    """A part of a memory limit, for one of several that work at the same time.

    Args:
        memory_limit: as `4GB` or `80%`.
        among: how many there are.
    """
    number, unit = re.fullmatch(r"([\d.]+)\s?(\D+)", memory_limit).groups()  # type: ignore[union-attr]
    return f"{float(number) / among:.4g}{unit}"


def quoted(name: str) -> str:
    """A name of a column, table or schema."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text as a literal."""
    return "'" + value.replace("'", "''") + "'"


def duckdb_type(kind: pa.DataType) -> str:
    """DuckDB's name of a declared Arrow type.

    Raises:
        PermanentError: the type is none that declarations use.
    """
    simple = {
        pa.string(): "varchar",
        pa.bool_(): "boolean",
        pa.int32(): "integer",
        pa.int64(): "bigint",
        pa.float64(): "double",
        pa.date32(): "date",
    }
    if kind in simple:
        return simple[kind]
    if pt.is_timestamp(kind) and kind.unit == "us":
        return "timestamptz" if kind.tz else "timestamp"
    if pt.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if pt.is_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    if pt.is_struct(kind):
        fields = ", ".join(f"{quoted(field.name)} {duckdb_type(field.type)}" for field in kind)
        return f"struct({fields})"
    raise PermanentError(f"no DuckDB type is known for {kind}; add it to cai_assets/engines/duckdb_text.py")


def source(table: Table, files: Sequence[str]) -> str:
    """The declared columns of a table over its files; files older than a column give NULL there."""
    if not files:
        return no_rows(table)
    columns = ", ".join(quoted(column.name) for column in table.columns)
    return f"select {columns} from {scan(files)}"  # noqa: S608  quoted


def older_source(table: Table, files: Sequence[str]) -> str:
    """The same over files that all lack a declared column."""
    columns = ", ".join(quoted(column.name) for column in table.columns)
    every = f"({no_rows(table)} union all by name from {scan(files)})"
    return f"select {columns} from {every}"  # noqa: S608  quoted


def no_rows(table: Table) -> str:
    """A query of the declared columns without a row."""
    columns = ", ".join(f"cast(null as {duckdb_type(c.type)}) as {quoted(c.name)}" for c in table.columns)
    return f"select {columns} where false"


def scan(files: Sequence[str]) -> str:
    """The files as a table function; columns go by their names."""
    paths = ", ".join(text(file) for file in files)
    return f"read_parquet([{paths}], hive_partitioning = false, union_by_name = true)"


def order(table: Table) -> str:
    """Partition column, then key."""
    partition = [table.partition_by] if table.partition_by else []
    return ", ".join(quoted(name) for name in dict.fromkeys([*partition, *table.key]))
