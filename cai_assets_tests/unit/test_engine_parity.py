"""Every model on every engine: values, NULLs and order of DuckDB, over random and real conversations."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cai_assets.engines.cudf import CudfEngine
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import load_models
from cai_assets.engines.spark import SparkEngine
from cai_assets.resources.object_store import LocalStore
from cai_assets.settings import Settings
from cai_assets_tests import oracle
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.lake_data import Warehouse
from cai_assets_tests.parity import BUSINESS_HOURS, assert_engine_agrees, sets_of_conversations
from cai_assets_tests.unit.test_analytics import Sample

ZONES = ("UTC", "Europe/Berlin", "America/Havana", "Pacific/Auckland")


def warehouse(folder: Path, sample: Sample) -> Warehouse:
    """A lake of the sample with all models run by DuckDB."""
    engine = DuckDBEngine(threads=1, temp_directory=folder / "spill")
    made = Warehouse(folder, engine, business_hours=BUSINESS_HOURS, report_timezone=sample.timezone)
    made.load(sample.rows)
    made.run()
    return made


@pytest.fixture
def polars_engine(tmp_path: Path) -> CudfEngine:
    return CudfEngine(Settings(_env_file=None, enable_gpu=False), LocalStore(tmp_path / "lake"))


@pytest.fixture(scope="module")
def spark_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkEngine]:
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("needs pyspark: pip install -e '.[spark]'")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("needs Java 17")
    store = LocalStore(tmp_path_factory.mktemp("spark"))
    options = {"spark.sql.shuffle.partitions": "2", "spark.driver.memory": "1g"}
    with SparkEngine(store, threads=2, options=options) as engine:
        yield engine


@pytest.mark.parametrize("batch", range(4))
def test_polars_agrees_on_random_conversations(batch: int, tmp_path: Path, polars_engine: CudfEngine) -> None:
    sample = sets_of_conversations(range(50 * batch, 50 * (batch + 1)), ZONES[batch])
    assert_engine_agrees(warehouse(tmp_path, sample), polars_engine)


@pytest.mark.parametrize("number", range(6))
def test_polars_agrees_on_very_few_conversations(
    number: int, tmp_path: Path, polars_engine: CudfEngine
) -> None:
    assert_engine_agrees(warehouse(tmp_path, sets_of_conversations([number], "UTC")), polars_engine)


def test_polars_agrees_on_an_empty_lake(tmp_path: Path, polars_engine: CudfEngine) -> None:
    assert_engine_agrees(warehouse(tmp_path, sets_of_conversations([], "UTC")), polars_engine)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(1000, 1200))
def test_polars_agrees_on_each_of_many_sets(number: int, tmp_path: Path, polars_engine: CudfEngine) -> None:
    sample = sets_of_conversations([number], ZONES[number % len(ZONES)])
    assert_engine_agrees(warehouse(tmp_path, sample), polars_engine)


def test_spark_agrees_on_random_conversations(tmp_path: Path, spark_engine: SparkEngine) -> None:
    sample = sets_of_conversations(range(200), "Europe/Berlin")
    assert_engine_agrees(warehouse(tmp_path, sample), spark_engine)


def test_spark_agrees_on_an_empty_lake(tmp_path: Path, spark_engine: SparkEngine) -> None:
    made = warehouse(tmp_path, sets_of_conversations([], "UTC"))
    # Those whose inputs meet in different ways; each costs Spark a second.
    names = {"stg_messages", "fct_conversation", "volume", "user"}
    assert_engine_agrees(made, spark_engine, [path for path in load_models() if path[1] in names])


@pytest.mark.soak
@pytest.mark.parametrize("data", ["star", "bcontrast"])
def test_spark_agrees_on_real_conversations(data: str, tmp_path: Path, spark_engine: SparkEngine) -> None:
    sample = Sample(*oracle.load(shared_data(data)), "Europe/Berlin")
    assert_engine_agrees(warehouse(tmp_path, sample), spark_engine)


@pytest.mark.soak
@pytest.mark.parametrize("data", ["star", "bcontrast"])
def test_polars_agrees_on_real_conversations(data: str, tmp_path: Path, polars_engine: CudfEngine) -> None:
    sample = Sample(*oracle.load(shared_data(data)), "Europe/Berlin")
    assert_engine_agrees(warehouse(tmp_path, sample), polars_engine)
