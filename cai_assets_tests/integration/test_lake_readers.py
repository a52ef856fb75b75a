"""Others open what the platform wrote, and find the same sums."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from cai_assets.resources.object_store import LocalStore, ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.plain_copies import copy_plainly
from cai_assets.resources.s3 import S3Store
from cai_assets.resources.storage import LakeTable
from cai_assets_tests.fixtures.lake import EVENTS, MONTHS, days, events

DAYS = days(4)
SUMS = {day: 10 * (n + 1) * n for n, day in enumerate(DAYS)}
MONTH_SUMS = {"2024-04": 3, "2024-05": 12, "2024-06": 0}


def fill(store: ObjectStore) -> LakeTable:
    """A table with two versions of a day, a day in several files, and an empty one."""
    made = LakeTable(store, EVENTS, ParquetSpec(file_rows=15))
    made.replace(DAYS, events(dict.fromkeys(DAYS, 99), mark=5))
    for n, day in enumerate(DAYS):
        made.replace([day], events({day: 10 * (n + 1)}, mark=n))
    made.replace(days(1, 9), [])
    return made


@pytest.fixture
def table(lake_store: ObjectStore) -> LakeTable:
    return fill(lake_store)


@pytest.fixture
def plain_store(lake_store: ObjectStore, tmp_path: Path) -> ObjectStore:
    """A store in a place without spaces and umlauts, which Polars' `scan_delta` encodes twice."""
    if isinstance(lake_store, S3Store):
        lake_store.prefix = "plain"
        return lake_store
    return LocalStore(tmp_path / "plain")


@pytest.fixture
def copies(lake_store: ObjectStore) -> str:
    """The folder of a plain copy of a mart."""
    mart = LakeTable(lake_store, MONTHS)
    rows = [(month, total) for month, sum_ in MONTH_SUMS.items() for total in (sum_ // 3, sum_ - sum_ // 3)]
    mart.replace(
        None, pa.Table.from_pylist([dict(zip(("month", "total"), row, strict=True)) for row in rows])
    )
    return copy_plainly(mart.select(), ParquetSpec()).address


def test_polars_scans_the_delta_table(plain_store: ObjectStore) -> None:
    table = fill(plain_store)
    frame = pl.scan_delta(table.uri, storage_options=table.store.scan_options())
    sums = frame.group_by("partition").agg(pl.col("value").sum()).collect()
    assert dict(sums.iter_rows()) == SUMS
    assert frame.select(pl.len()).collect().item() == 100


def test_pandas_reads_the_delta_table(table: LakeTable) -> None:
    delta = DeltaTable(table.uri, storage_options=table.store.storage_options())
    frame = delta.to_pandas(columns=["partition", "value"])
    assert frame.groupby("partition")["value"].sum().to_dict() == SUMS


def test_duckdb_reads_the_files_and_the_copies(table: LakeTable, copies: str) -> None:
    with duckdb.connect() as connection:
        table.store.duckdb_setup(connection)
        found = connection.execute(
            "select partition, sum(value)::bigint from read_parquet($files, hive_partitioning = false) "
            "group by all",
            {"files": table.files()},
        ).fetchall()
        assert dict(found) == SUMS
        found = connection.execute(
            "select month, sum(total)::bigint from read_parquet($glob, hive_partitioning = true) "
            "group by all",
            {"glob": f"{copies}/*/*.parquet"},
        ).fetchall()
    assert dict(found) == MONTH_SUMS


def test_pandas_and_polars_read_the_copies(lake_store: ObjectStore, copies: str) -> None:
    filesystem, folder = lake_store.filesystem(), lake_store.native_path(copies)
    frame = pd.read_parquet(folder, filesystem=filesystem)
    assert frame.groupby("month", observed=True)["total"].sum().to_dict() == MONTH_SUMS
    scanned = pl.scan_parquet(
        f"{copies}/**/*.parquet", hive_partitioning=True, storage_options=lake_store.scan_options()
    )
    sums = scanned.group_by("month").agg(pl.col("total").sum()).collect()
    assert dict(sums.iter_rows()) == MONTH_SUMS


def test_a_file_alone_makes_sense(table: LakeTable) -> None:
    """Its day is a column, so that whoever is given one file knows what it is."""
    for day in DAYS:
        found = table.dataset([day]).to_table()
        assert pc.unique(found["partition"]).to_pylist() == [day]


SPARK = """
import json, sys
from pyspark.sql import SparkSession
spark = (
    SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    .config("spark.sql.shuffle.partitions", "1").config("spark.driver.memory", "1g").getOrCreate()
)
marts = spark.read.parquet(sys.argv[1]).groupBy("month").sum("total").collect()
files = spark.read.parquet(*sys.argv[2:])
days = files.groupBy("partition").sum("value").collect()
print(json.dumps([{r[0]: r[1] for r in marts}, {r[0]: r[1] for r in days}, files.count()]))
spark.stop()
"""


@pytest.mark.soak
def test_spark_reads_the_copies_and_the_files(local_store: LocalStore, tmp_path: Path) -> None:
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("needs pyspark: pip install -e '.[spark]'")
    if shutil.which("java") is None:
        pytest.skip("needs Java 17")
    mart = LakeTable(local_store, MONTHS)
    rows = [{"month": month, "total": total} for month, total in MONTH_SUMS.items()]
    mart.replace(None, pa.Table.from_pylist(rows))
    copied = copy_plainly(mart.select(), ParquetSpec()).address
    table = LakeTable(local_store, EVENTS)
    table.replace(DAYS, events({day: 10 * (n + 1) for n, day in enumerate(DAYS)}, mark=2))
    done = subprocess.run(
        [sys.executable, "-c", SPARK, copied, *table.files()], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    months, by_day, count = json.loads(done.stdout.splitlines()[-1])
    assert months == MONTH_SUMS
    assert by_day == {day: 20 * (n + 1) for n, day in enumerate(DAYS)}
    assert count == 100
