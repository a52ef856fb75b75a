"""Plain copies of the marts: what any tool reads, equal to the tables, replaced file by file."""

from collections import defaultdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from cai_assets.domain.groups import NOBODY, ONE_PERSON, Group, Totals
from cai_assets.resources.object_store import LocalStore, ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.plain_copies import copy_plainly
from cai_assets.resources.storage import LakeTable
from cai_assets_tests.fixtures.lake import MONTHS, SINGLE


def months(totals: dict[str, list[int]]) -> pa.Table:
    """Rows of some months."""
    rows = [{"month": month, "total": total} for month, all_ in sorted(totals.items()) for total in all_]
    return pa.Table.from_pylist(rows, schema=MONTHS.arrow_schema)


def copied_rows(store: ObjectStore, name: str) -> pa.Table:
    """A copy as pyarrow reads a hive folder."""
    folder = store.native_path(store.location("reports", f"marts/{name}"))
    return pads.dataset(folder, filesystem=store.filesystem(), partitioning="hive").to_table()


def paths(store: ObjectStore, name: str) -> list[str]:
    return [file.path for file in store.list_files("reports", f"marts/{name}")]


def test_a_copy_is_a_hive_folder_a_month_and_equals_the_table(lake_store: ObjectStore) -> None:
    table = LakeTable(lake_store, MONTHS)
    table.replace(None, months({"2024-04": [1, 2], "2024-05": [3]}))
    done = copy_plainly(table.select(), ParquetSpec())
    assert (done.written, done.unchanged, done.removed, done.rows) == (2, 0, 0, 3)
    assert paths(lake_store, "months") == [
        "month=2024-04/part-00000.parquet",
        "month=2024-05/part-00000.parquet",
    ]
    found = copied_rows(lake_store, "months")
    assert found.select(["month", "total"]).to_pylist() == table.dataset().to_table().to_pylist()


def test_only_what_changed_is_written_again_and_what_is_gone_goes(lake_store: ObjectStore) -> None:
    table = LakeTable(lake_store, MONTHS)
    spec = ParquetSpec(file_rows=2)
    table.replace(None, months({"2024-04": [1, 2, 3], "2024-05": [3], "2024-06": [4]}))
    copy_plainly(table.select(), spec)
    table.replace(None, months({"2024-04": [1], "2024-05": [3], "2024-07": [5]}))
    done = copy_plainly(table.select(), spec)
    assert (done.written, done.unchanged, done.removed) == (2, 1, 2)
    assert copied_rows(lake_store, "months")["total"].to_pylist() == [1, 3, 5]
    again = copy_plainly(table.select(), spec)
    assert (again.written, again.unchanged, again.removed) == (0, 3, 0)


def test_a_table_without_partitions_is_one_folder(lake_store: ObjectStore) -> None:
    table = LakeTable(lake_store, SINGLE)
    rows = pa.table({"name": ["a", "b"], "total": [1, 2]}, schema=SINGLE.arrow_schema)
    table.replace(None, rows)
    copy_plainly(table.select(), ParquetSpec())
    assert paths(lake_store, "single") == ["part-00000.parquet"]
    assert copied_rows(lake_store, "single").equals(rows)
    table.replace(None, [])
    copy_plainly(table.select(), ParquetSpec())
    assert copied_rows(lake_store, "single").num_rows == 0


@pytest.mark.parametrize("file_rows", [2, 1_000_000])
def test_rows_about_too_few_go_beside_totals_over_all_months(local_store: LocalStore, file_rows: int) -> None:
    table = LakeTable(local_store, MONTHS, ParquetSpec(file_rows=file_rows))
    all_ = {"2024-04": [2], "2024-05": [30, 0, 9, 8, 40], "2024-06": [50, 60], "2024-07": [3, 20, 30]}
    table.replace(None, months(all_))
    group = Group("total", 5, Totals(("month",)))
    done = copy_plainly(table.select(), ParquetSpec(), group)
    left = defaultdict(list)
    for row in copied_rows(local_store, "months").to_pylist():
        left[row["month"]].append(row["total"])
    # April's 2 goes, and with it the smallest other month, as the total of all tells what is left.
    assert left == {"2024-05": [30, 0, 9, 8, 40], "2024-06": [50, 60], "2024-07": [30]}
    assert (done.withheld, done.rows) == (3, 8)
    assert copy_plainly(table.select(), ParquetSpec(), Group(NOBODY, 5)).withheld == 0
    assert copy_plainly(table.select(), ParquetSpec(), Group(ONE_PERSON, 5)).rows == 0


def test_pandas_reads_the_folder(local_store: LocalStore) -> None:
    table = LakeTable(local_store, MONTHS)
    table.replace(None, months({"2024-04": [1, 2], "2024-05": [3]}))
    copy_plainly(table.select(), ParquetSpec())
    found = pd.read_parquet(Path(local_store.location("reports", "marts/months")))
    assert found.groupby("month", observed=True)["total"].sum().to_dict() == {"2024-04": 3, "2024-05": 3}


def test_a_crash_between_two_files_leaves_each_whole(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = LakeTable(local_store, MONTHS)
    table.replace(None, months({"2024-04": [1], "2024-05": [1]}))
    copy_plainly(table.select(), ParquetSpec())
    table.replace(None, months({"2024-04": [2], "2024-05": [2]}))
    publish, sent = LocalStore.publish, []

    def crash(self: LocalStore, *arguments: object) -> None:
        if sent:
            raise KeyboardInterrupt
        sent.append(arguments)
        publish(self, *arguments)

    monkeypatch.setattr(LocalStore, "publish", crash)
    with pytest.raises(KeyboardInterrupt):
        copy_plainly(table.select(), ParquetSpec())
    assert copied_rows(local_store, "months")["total"].to_pylist() == [2, 1]
    monkeypatch.undo()
    assert copy_plainly(table.select(), ParquetSpec()).unchanged == 1
    assert copied_rows(local_store, "months")["total"].to_pylist() == [2, 2]
