"""MongoDB → Arrow: live documents under the names and types of the lake, never through Python objects.

The reading is pymongoarrow's; here stand the schema it needs, made from the lake's declaration, and the casts
that BSON makes necessary. Pseudonyms and sorting are `domain.lake`'s.
"""

import warnings
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from bson import Decimal128
from pymongo.errors import PyMongoError

from cai_assets.failures import PermanentError
from cai_assets.schemas import lake
from cai_assets.schemas.base import MONEY, TIMESTAMP, Column, Table
from cai_assets.schemas.documents import LAKE_FIELDS
from cai_assets.schemas.lake import STATUS_EVENT

with warnings.catch_warnings():
    # pymongoarrow is built with an older header of the pyarrow it asks for; objects only grew at their end.
    warnings.filterwarnings("ignore", r"pyarrow\.lib\.\w+ size changed", RuntimeWarning)
    import pymongoarrow.lib  # noqa: F401  it warns when it is loaded, which the context does late
    from pymongoarrow.api import Schema
    from pymongoarrow.context import PyMongoArrowContext
    from pymongoarrow.types import Decimal128Type

if TYPE_CHECKING:
    from cai_assets.resources.mongo import MongoStore

READ_ROWS = 10_000
"""Documents of one answer of the server; MongoDB cuts at 16 MB besides."""

_EVENT_IN_BSON = pa.struct(
    [("from_status", pa.string()), ("to_status", pa.string()), ("at_us", pa.int64()), ("actor", pa.string())]
)


def read_arrow(store: "MongoStore", name: str, partitions: Sequence[str]) -> pa.Table:
    """See `MongoStore.read_arrow`."""
    batches = list(read_batches(store, name, partitions, READ_ROWS))
    return pa.Table.from_batches(batches, schema=_relaxed(_declared(name)))


def read_batches(
    store: "MongoStore", name: str, partitions: Sequence[str], chunk_size: int
) -> Iterator[pa.RecordBatch]:
    """See `MongoStore.read_batches`."""
    table = _declared(name)
    schema = _bson_schema(name, table)
    # Not `find_arrow_all`: it makes the server project every field of the schema, which the embedded one does
    # slowly. Measured, documents a second: conversations 73,000 this way and 32,000 that way, messages 61,000
    # and 43,000. Fields outside the schema are skipped here anyway.
    collection = store.collection(name)
    for low, high in consecutive_days(partitions):
        # Deleted documents are left out here, not by the server: the embedded one takes an index only where
        # that has every field of the filter, and would read the whole collection.
        query = {"partition": {"$gte": low, "$lte": high}}
        try:
            for raw in collection.find_raw_batches(query, batch_size=chunk_size):
                context = PyMongoArrowContext(schema, codec_options=collection.codec_options)
                try:
                    context.process_bson_stream(raw)
                except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
                    raise PermanentError(
                        f"documents of {collection.full_name} between {low} and {high} do not fit "
                        f"lake/{name}: {error}. Was one edited by hand?"
                    ) from error
                yield from _as_lake(table, _live(context.finish())).to_batches(max_chunksize=chunk_size)
        except PyMongoError as error:
            raise store.explain(error) from error


def _live(read: pa.Table) -> pa.Table:
    deleted = read.column("deleted_at")
    if deleted.null_count < len(deleted):  # seldom, and the filter copies every text
        read = read.filter(pc.is_null(deleted))
    return read.drop_columns(["deleted_at"])


def consecutive_days(partitions: Sequence[str]) -> list[tuple[str, str]]:
    """Partitions as ranges of days that follow each other, both ends included: one index range each."""
    days = sorted({date.fromisoformat(one) for one in partitions})
    if not days:
        return []
    breaks = [(a, b) for a, b in pairwise(days) if b - a != timedelta(days=1)]
    starts = [days[0], *(b for _, b in breaks)]
    ends = [*(a for a, _ in breaks), days[-1]]
    return [(a.isoformat(), b.isoformat()) for a, b in zip(starts, ends, strict=True)]


def _declared(name: str) -> Table:
    for table in lake.TABLES:
        if table.name == name:
            return table
    raise KeyError(f"{name!r} has no table in the lake")


def _relaxed(table: Table) -> pa.Schema:
    """Names and types of the lake table; nulls are judged where the table is written."""
    return pa.schema([pa.field(column.name, column.type) for column in table.columns])


def _bson_schema(name: str, table: Table) -> Any:
    names = LAKE_FIELDS[name]
    fields = {_bson_name(names, column): _bson_type(column) for column in table.columns}
    return Schema({**fields, "deleted_at": pa.timestamp("ms")})


def _bson_name(names: dict[str, str], column: Column) -> str:
    if column.type == TIMESTAMP:
        return f"{column.name.removesuffix('_at')}_us"
    return names.get(column.name, column.name)


def _bson_type(column: Column) -> Any:
    if column.type == TIMESTAMP:
        return pa.int64()  # the exact microseconds; BSON's own dates have milliseconds only
    if column.type == MONEY:
        return Decimal128Type()
    if column.type == pa.list_(STATUS_EVENT):
        return pa.list_(_EVENT_IN_BSON)
    return column.type


def _as_lake(table: Table, read: pa.Table) -> pa.Table:
    columns = [
        _cast(column, array)
        for column, array in zip(table.columns, read.combine_chunks().columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=_relaxed(table))


def _cast(column: Column, array: pa.ChunkedArray) -> pa.Array:
    chunk = array.combine_chunks()
    if isinstance(chunk, pa.ChunkedArray):
        chunk = pa.concat_arrays(chunk.chunks) if chunk.num_chunks else pa.array([], chunk.type)
    if column.type == MONEY:
        return _money(column, chunk)
    if column.type == pa.list_(STATUS_EVENT):
        return _events(chunk)
    return chunk.cast(column.type)


def _money(column: Column, chunk: pa.Array) -> pa.Array:
    # BSON's decimal floats; a call of a workflow has one, so their number is small beside the documents'.
    storage = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
    values = [None if bid is None else Decimal128.from_bid(bid).to_decimal() for bid in storage.to_pylist()]
    try:
        return pa.array(values, column.type)
    except pa.ArrowInvalid as error:
        raise PermanentError(f"{column.name} does not fit {column.type}: {error}") from None


def _events(chunk: pa.ListArray) -> pa.ListArray:
    events = chunk.values
    fields = [pc.struct_field(events, index) for index in range(4)]
    fields[2] = fields[2].cast(TIMESTAMP)
    items = pa.StructArray.from_arrays(fields, fields=list(STATUS_EVENT))
    mask = chunk.is_null() if chunk.null_count else None
    return pa.ListArray.from_arrays(chunk.offsets, items, type=pa.list_(STATUS_EVENT), mask=mask)
