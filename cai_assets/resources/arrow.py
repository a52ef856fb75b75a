"""Arrow data on its way into a declared table: any input as batches, and batches made to fit the declaration.

Only checks and casts of columns belong here; how files are written is in `parquet_writer`, what the columns
mean in `schemas`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from cai_assets.failures import PermanentError
from cai_assets.schemas.base import Table

ArrowData: TypeAlias = pa.Table | pa.RecordBatch | pa.RecordBatchReader | Iterable[pa.RecordBatch | pa.Table]


def batches_of(data: ArrowData, rows: int) -> Iterator[pa.RecordBatch]:
    """The data as record batches, in its order; nothing is held but the batch at hand.

    Args:
        data: a table, a batch, a reader, or a list or generator of tables and batches.
        rows: most rows of a batch that is cut from a table.

    Raises:
        PermanentError: something in it is no Arrow data.
    """
    if isinstance(data, pa.RecordBatch):
        yield data
    elif isinstance(data, pa.Table):
        yield from data.to_batches(max_chunksize=rows)
    elif isinstance(data, pa.RecordBatchReader) or (
        isinstance(data, Iterable) and not isinstance(data, str | bytes | dict)
    ):
        for part in data:
            yield from batches_of(part, rows)
    else:
        raise PermanentError(
            f"{type(data).__name__} is no Arrow data; give a pyarrow Table, RecordBatchReader, RecordBatch "
            "or a list of them"
        )


def grouped_by(data: pa.Table, column: str) -> pa.Table:
    """The table with the rows of each value of `column` side by side, in rising order of it.

    A table that is so already is given back as it is; within a value the order of the rows stays.

    Args:
        data: any table that has the column; without it, it is given back unchanged.
        column: name of a sortable column.
    """
    if column not in data.column_names or data.num_rows == 0:
        return data
    values = data.column(column).combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if values.null_count:
        return data  # the writer refuses and counts them
    previous, following = values.slice(0, len(values) - 1), values.slice(1)
    if pc.all(pc.less_equal(previous, following)).as_py() in (True, None):
        return data
    return data.take(pc.sort_indices(values))  # stable: equal values keep their order


class Conform:
    """Makes batches equal to a table's declaration, and counts what must not be there.

    Casts are made where they lose nothing and change no meaning: numbers to wider or fitting numbers, zones
    of instants to UTC, dictionaries and views to plain text, all-null columns to any type. A text is never
    parsed into a number and an instant without a zone is never taken for UTC.

    Attributes:
        nulls: by column name, how many nulls stood where the declaration allows none.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.schema = table.arrow_schema
        self._relaxed = pa.schema([field.with_nullable(True) for field in self.schema])
        self._required = [
            (index, field.name) for index, field in enumerate(self.schema) if not field.nullable
        ]
        self.nulls: dict[str, int] = {}

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the declared columns, types and order.

        Raises:
            PermanentError: columns that lack or are not declared, or a column that cannot be cast.
        """
        if batch.schema.equals(self.schema):
            for index, name in self._required:
                if count := batch.column(index).null_count:
                    self.nulls[name] = self.nulls.get(name, 0) + count
            return batch
        self._same_columns(batch.schema.names)
        columns = []
        for field in self.schema:
            column = _cast(batch.column(field.name), field, self.table)
            if not field.nullable and column.null_count:
                self.nulls[field.name] = self.nulls.get(field.name, 0) + column.null_count
            columns.append(column)
        # Nullability is checked once, at the end of the data, so that the error can tell all counts.
        return pa.RecordBatch.from_arrays(columns, schema=self._relaxed if self.nulls else self.schema)

    def finish(self) -> None:
        """Raise if nulls were met where none may be.

        Raises:
            PermanentError: naming each such column and how many nulls it had.
        """
        if self.nulls:
            counts = ", ".join(f"{name} ({count})" for name, count in self.nulls.items())
            raise PermanentError(
                f"{_title(self.table)}: nulls in columns that are declared without: {counts}. "
                "Correct the data, or declare the column nullable"
            )

    def _same_columns(self, given: Sequence[str]) -> None:
        declared = self.schema.names
        if list(given) == declared:
            return
        lacking = [name for name in declared if name not in given]
        unknown = [name for name in given if name not in declared]
        twice = sorted({name for name in given if list(given).count(name) > 1})
        problems = [
            f"{what} {names}"
            for what, names in (("lacks", lacking), ("has undeclared", unknown), ("has twice", twice))
            if names
        ]
        if problems:
            raise PermanentError(f"{_title(self.table)}: the data {' and '.join(problems)}")


def _title(table: Table) -> str:
    return f"table {table.layer}.{table.name}"


def _kind(type_: pa.DataType) -> str:
    if pt.is_dictionary(type_):
        return _kind(type_.value_type)
    if pt.is_integer(type_) or pt.is_floating(type_) or pt.is_decimal(type_):
        return "number"
    if pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_):
        return "text"
    if pt.is_timestamp(type_):
        return "instant" if type_.tz else "time without a zone"
    if pt.is_list(type_) or pt.is_large_list(type_) or pt.is_fixed_size_list(type_):
        return f"list of {_kind(type_.value_type)}"
    if pt.is_date(type_):
        return "date"
    return str(type_)


def _cast(column: pa.Array, field: pa.Field, table: Table) -> pa.Array:
    if column.type == field.type:
        return column
    if not pt.is_null(column.type) and not _same_kind(column.type, field.type):
        hint = "; give it the zone UTC" if _kind(column.type) == "time without a zone" else ""
        raise PermanentError(
            f"{_title(table)}: column {field.name} is {column.type}, declared as {field.type}{hint}"
        )
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise PermanentError(
            f"{_title(table)}: column {field.name} is {column.type} and does not fit {field.type}: {error}"
        ) from None


def _same_kind(given: pa.DataType, declared: pa.DataType) -> bool:
    if pt.is_struct(given) and pt.is_struct(declared):
        names = [field.name for field in declared]
        return [field.name for field in given] == names and all(
            pt.is_null(given.field(i).type) or _same_kind(given.field(i).type, declared.field(i).type)
            for i in range(len(names))
        )
    if pt.is_nested(given) and pt.is_nested(declared) and hasattr(given, "value_type"):
        inner = getattr(declared, "value_type", None)
        return inner is not None and (pt.is_null(given.value_type) or _same_kind(given.value_type, inner))
    return _kind(given) == _kind(declared)
