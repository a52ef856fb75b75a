"""Rows come back by partition and key, whatever their order and batches, and nothing stays on disk."""

import gc
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.failures import PermanentError
from cai_assets.resources import partition_spool
from cai_assets.resources.partition_spool import PartitionSpool
from cai_assets.schemas.base import Column, Table, partition_column

ROWS = Table(
    layer="raw",
    name="spooled",
    description="Rows of these tests.",
    columns=(partition_column(), Column("id", pa.int64(), "Key."), Column("text", pa.string(), "Value.")),
    key=("id",),
)
Row = tuple[str, int, str]


def batch(rows: list[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{"partition": day, "id": number, "text": text} for day, number, text in rows],
        schema=ROWS.arrow_schema,
    )


def through(given_batches: list[list[Row]], batch_rows: int) -> list[list[Row]]:
    with PartitionSpool(ROWS, batch_rows=batch_rows) as spool:
        for rows in given_batches:
            spool.append(batch(rows))
        assert spool.rows == sum(map(len, given_batches))
        return [
            [tuple(row.values()) for row in one.to_pylist()]  # type: ignore[misc]
            for one in spool.batches()
        ]


days = st.sampled_from(["2024-05-01", "2024-05-02", "2024-05-03"])
rows_of = st.lists(st.tuples(days, st.integers(-40, 40), st.text(max_size=5)), min_size=1, max_size=30)


@settings(deadline=None)
@given(st.lists(rows_of, max_size=6), st.integers(1, 12))
def test_every_row_comes_back_once_by_partition_and_key(batches: list[list[Row]], batch_rows: int) -> None:
    back = through(batches, batch_rows)
    flat = [row for rows in back for row in rows]
    assert sorted(flat) == sorted(row for rows in batches for row in rows)
    assert [row[:2] for row in flat] == sorted(row[:2] for row in flat)
    assert all(len({row[0] for row in rows}) == 1 for rows in back)


def test_batches_are_no_longer_than_asked_where_keys_differ() -> None:
    given_batches = [[("2024-05-01", number, "x") for number in range(start, 100, 7)] for start in range(7)]
    back = through(given_batches, 10)
    assert [len(rows) for rows in back] == [10] * 10


def test_large_texts_make_shorter_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_spool, "BATCH_BYTES", 1000)
    given_batches = [
        [("2024-05-01", number, "x" * 100) for number in range(start, 100, 2)] for start in range(2)
    ]
    back = through(given_batches, 1000)
    assert max(len(rows) for rows in back) <= 9
    assert sum(len(rows) for rows in back) == 100


def test_nothing_lies_in_the_temporary_folder_even_while_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with PartitionSpool(ROWS, batch_rows=10) as spool:
        spool.append(batch([("2024-05-01", 1, "x")]))
        assert list(tmp_path.iterdir()) == []
        assert sum(one.num_rows for one in spool.batches()) == 1
    gc.collect()
    assert not [link for link in Path("/proc/self/fd").iterdir() if str(tmp_path) in _target(link)]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # the listing's own
        return ""


def test_a_full_disk_names_the_folder_and_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(PermanentError, match=r"No space left.*TMPDIR"):
        PartitionSpool(ROWS, batch_rows=10)
