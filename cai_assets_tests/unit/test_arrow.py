"""Data is cast to the declaration where that loses nothing, and refused by name where it would."""

from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from cai_assets.failures import PermanentError
from cai_assets.resources.arrow import Conform, batches_of, grouped_by
from cai_assets.schemas.base import MONEY, TIMESTAMP, Column, Table
from cai_assets_tests.fixtures.lake import EVENTS, events

STRUCT = pa.struct([pa.field("name", pa.string()), pa.field("at", TIMESTAMP)])


def table_of(type_: pa.DataType, *, nullable: bool = True) -> Table:
    return Table("lake", "t", "", (Column("x", type_, "", nullable=nullable),), ("x",), None)


def conformed(array: pa.Array, type_: pa.DataType) -> pa.Array:
    return Conform(table_of(type_))(pa.RecordBatch.from_arrays([array], names=["x"])).column("x")


@pytest.mark.parametrize(
    ("array", "type_"),
    [
        (pa.array([1, None], pa.int32()), pa.int64()),
        (pa.array([1, 2], pa.int64()), pa.int32()),
        (pa.array([Decimal("1.50000000")], pa.decimal128(38, 8)), MONEY),
        (pa.array([Decimal(7)], pa.decimal128(38, 0)), pa.int64()),
        (pa.array([1.5], pa.float32()), pa.float64()),
        (pa.array(["a", None], pa.large_string()), pa.string()),
        (pa.array(["a", "a"]).dictionary_encode(), pa.string()),
        (pa.array(["a"], pa.string_view()), pa.string()),
        (pa.nulls(2), pa.list_(pa.string())),
        (pa.array([0], pa.timestamp("ms", tz="Europe/Berlin")), TIMESTAMP),
        (pa.array([["a"]], pa.large_list(pa.large_string())), pa.list_(pa.string())),
        (
            pa.array(
                [[{"name": "a", "at": 5}]],
                pa.list_(pa.struct([("name", pa.large_string()), ("at", pa.timestamp("us", tz="Etc/UTC"))])),
            ),
            pa.list_(STRUCT),
        ),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_what_fits_is_cast(array: pa.Array, type_: pa.DataType) -> None:
    result = conformed(array, type_)
    assert result.type == type_
    assert result.to_pylist() == [
        int(value) if type_ == pa.int64() and value is not None else value for value in array.to_pylist()
    ]


@pytest.mark.parametrize(
    ("array", "type_", "words"),
    [
        (pa.array([2**40]), pa.int32(), "does not fit int32"),
        (pa.array([1.5]), pa.int64(), "does not fit int64"),
        (pa.array(["1"]), pa.int64(), "is string, declared as int64"),
        (pa.array([1]), pa.string(), "is int64, declared as string"),
        (pa.array([True]), pa.int64(), "is bool, declared as int64"),
        (pa.array([datetime(2024, 5, 1)]), TIMESTAMP, "give it the zone UTC"),  # noqa: DTZ001
        (pa.array([1]), TIMESTAMP, "is int64, declared as timestamp"),
        (pa.array([["1"]]), pa.list_(pa.int64()), "declared as list"),
        (pa.array([{"other": "a"}]), STRUCT, "declared as struct"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_what_does_not_fit_is_refused_by_name(array: pa.Array, type_: pa.DataType, words: str) -> None:
    with pytest.raises(PermanentError, match=r"lake\.t: column x .*" + words):
        conformed(array, type_)


def test_columns_that_lack_or_are_not_declared_are_named() -> None:
    data = events({"2024-05-01": 1})
    with pytest.raises(PermanentError, match=r"lacks \['value'\] and has undeclared \['valve'\]"):
        Conform(EVENTS)(data.rename_columns({"value": "valve"}).to_batches()[0])
    with pytest.raises(PermanentError, match=r"has twice \['value'\]"):
        Conform(EVENTS)(data.append_column("value", data["value"]).to_batches()[0])


def test_columns_in_another_order_are_put_in_order() -> None:
    data = events({"2024-05-01": 2})
    turned = data.select(data.column_names[::-1]).to_batches()[0]
    assert Conform(EVENTS)(turned).to_pydict() == data.to_pydict()


def test_nulls_are_counted_over_all_batches() -> None:
    conform = Conform(table_of(pa.int64(), nullable=False))
    for values in ([1, None], [2], [None, None]):
        conform(pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], names=["x"]))
    with pytest.raises(PermanentError, match=r"nulls .* x \(3\)"):
        conform.finish()


def test_any_arrow_data_becomes_batches_of_the_asked_size() -> None:
    data = events({"2024-05-01": 10})
    assert [batch.num_rows for batch in batches_of(data, 4)] == [4, 4, 2]
    for given in (data.to_reader(), [data], iter(data.to_batches()), [data.to_reader(), data.slice(0, 0)]):
        assert pa.Table.from_batches(batches_of(given, 100), data.schema).equals(data)
    assert list(batches_of(data.to_batches()[0], 3)) == data.to_batches()
    for wrong in ({"a": [1]}, "text", 7, [{"a": 1}]):
        with pytest.raises(PermanentError, match="no Arrow data"):
            list(batches_of(wrong, 10))


def test_grouping_keeps_the_order_inside_a_partition() -> None:
    data = pa.table({"partition": ["b", "a", "b", "a"], "n": [1, 2, 3, 4]})
    assert grouped_by(data, "partition").to_pydict() == {"partition": ["a", "a", "b", "b"], "n": [2, 4, 1, 3]}
    ordered = pa.chunked_array([["a"], ["a", "b"]])
    table = pa.table({"partition": ordered})
    assert grouped_by(table, "partition") is table
