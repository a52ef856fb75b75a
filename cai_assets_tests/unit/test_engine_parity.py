"""Every model on Polars: values, NULLs and order of DuckDB, over random and real conversations.

The same on Spark is in `test_other_engines`: one session serves a whole file.
"""

import os
from pathlib import Path

import pytest

from cai_assets.engines.cudf import CudfEngine
from cai_assets.resources.object_store import LocalStore
from cai_assets.settings import Settings
from cai_assets_tests import oracle
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.parity import assert_engine_agrees, sets_of_conversations, warehouse
from cai_assets_tests.unit.test_analytics import Sample

ZONES = ("UTC", "Europe/Berlin", "America/Havana", "Pacific/Auckland")


@pytest.fixture
def polars_engine(tmp_path: Path) -> CudfEngine:
    on_gpu = os.environ.get("TEST_ON_GPU") == "1"
    return CudfEngine(Settings(_env_file=None, enable_gpu=on_gpu), LocalStore(tmp_path / "lake"))


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


@pytest.mark.soak
@pytest.mark.parametrize("data", ["star", "bcontrast"])
def test_polars_agrees_on_real_conversations(data: str, tmp_path: Path, polars_engine: CudfEngine) -> None:
    sample = Sample(*oracle.load(shared_data(data)), "Europe/Berlin")
    assert_engine_agrees(warehouse(tmp_path, sample), polars_engine)
