"""What DuckDB is told, as text: names, types, files as tables. Nothing runs here."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.types as pt

from cai_assets.failures import PermanentError
from cai_assets.schemas.base import Table


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
    """The declared columns of a table over its files, which all have them."""
    return _declared(table, scan(files)) if files else no_rows(table)


def mixed_source(table: Table, files: Sequence[str]) -> str:
    """The same over files of which some are older than a column, and give NULL there."""
    return _declared(table, scan(files, mixed=True)) if files else no_rows(table)


def older_source(table: Table, files: Sequence[str]) -> str:
    """The same over files that all lack a declared column."""
    return _declared(table, f"({no_rows(table)} union all by name from {scan(files, mixed=True)})")


def no_rows(table: Table) -> str:
    """A query of the declared columns without a row."""
    columns = ", ".join(f"cast(null as {duckdb_type(c.type)}) as {quoted(c.name)}" for c in table.columns)
    return f"select {columns} where false"


def scan(files: Sequence[str], *, mixed: bool = False) -> str:
    """The files as a table function; columns go by their names.

    Args:
        files: at least one.
        mixed: look into each file for its columns; else they are the first file's, and DuckDB refuses to go
            on at a file that lacks one.
    """
    paths = ", ".join(text(file) for file in files)
    return f"read_parquet([{paths}], hive_partitioning = false{', union_by_name = true' if mixed else ''})"


def order(table: Table) -> str:
    """Partition column, then key."""
    partition = [table.partition_by] if table.partition_by else []
    return ", ".join(quoted(name) for name in dict.fromkeys([*partition, *table.key]))


def _declared(table: Table, rows: str) -> str:
    columns = ", ".join(quoted(column.name) for column in table.columns)
    return f"select {columns} from {rows}"  # noqa: S608  quoted
