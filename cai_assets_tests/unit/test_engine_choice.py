"""Which engine runs which model, what is refused before anything runs, and which device cuDF takes."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest
import sqlglot

from cai_assets.assets.analytics import build_analytics_assets
from cai_assets.engines import choice, gpu
from cai_assets.engines.choice import Engines, check_models, chosen
from cai_assets.engines.cudf import CudfEngine
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.gpu import NoGpu, find_device
from cai_assets.engines.models import load_models
from cai_assets.engines.spark import SparkEngine
from cai_assets.failures import PermanentError
from cai_assets.resources.object_store import LocalStore
from cai_assets.settings import Settings, SettingsError, load_settings

USER, VOLUME = ("marts", "user"), ("marts", "volume")


def given(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


def test_a_table_may_have_an_engine_of_its_own() -> None:
    settings = given(engine="spark", engine_per_table={"marts.user": "duckdb"})
    assert (chosen(USER, settings).name, chosen(USER, settings).why) == (
        "duckdb",
        "ENGINE_PER_TABLE names marts.user",
    )
    assert (chosen(VOLUME, settings).name, chosen(VOLUME, settings).why) == ("spark", "ENGINE=spark")


def test_an_exception_is_duckdbs_whatever_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "DUCKDB_ALONE", {USER: "it tokenises texts"})
    settings = given(engine="cudf", engine_per_table={"marts.user": "spark"})
    assert (chosen(USER, settings).name, chosen(USER, settings).why) == (
        "duckdb",
        "always: it tokenises texts",
    )


def test_the_settings_open_the_engine_they_name(tmp_path: Path) -> None:
    kinds = {"duckdb": DuckDBEngine, "cudf": CudfEngine, "spark": SparkEngine}
    for name, kind in kinds.items():
        with Engines(given(engine=name), LocalStore(tmp_path)) as engines:
            engine, _ = engines.of(USER)
            assert isinstance(engine, kind)
            assert engine.name == name
            assert engines.of(VOLUME)[0] is engine, "one for the whole run"


def test_a_model_that_the_engine_cannot_run_is_refused_by_name_and_construct() -> None:
    models = dict(load_models())
    sql = "select greatest(messages, 1) as x from facts.fct_conversation"
    models[USER] = replace(models[USER], sql=sql, tree=sqlglot.parse_one(sql, dialect="duckdb"))
    check_models(models, given())
    for engine in ("cudf", "spark"):
        with pytest.raises(PermanentError) as error:
            check_models(models, given(engine=engine))
        assert f"{engine} (ENGINE={engine}) cannot run marts/user.sql" in str(error.value)
        assert "`GREATEST(messages, 1)`: case when a >= b then a else b end" in str(error.value)
    check_models(models, given(engine="cudf", engine_per_table={"marts.user": "duckdb"}))


def test_a_table_that_no_model_makes_is_told() -> None:
    with pytest.raises(PermanentError, match=r"names marts\.users, which no model makes.*marts\.user"):
        check_models(load_models(), given(engine_per_table={"marts.users": "spark"}))


def test_an_engine_that_is_not_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "cuda")
    monkeypatch.setenv("ENGINE_PER_TABLE", '{"marts.user": "postgres"}')
    monkeypatch.setenv("SPARK_REMOTE", "spark://host:7077")
    monkeypatch.setenv("GPU_MEMORY_LIMIT", "80%")
    with pytest.raises(SettingsError) as error:
        load_settings()
    for name in ("ENGINE:", "ENGINE_PER_TABLE:", "SPARK_REMOTE:", "GPU_MEMORY_LIMIT:"):
        assert name in str(error.value)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(PermanentError, match=r"needs Polars.*cai_assets\[polars\]"):
        check_models(load_models(), given(engine="cudf"))
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    model = load_models()[VOLUME]
    with (
        SparkEngine(LocalStore(tmp_path), remote="sc://127.0.0.1:9") as engine,
        pytest.raises(PermanentError, match=r"needs PySpark.*cai_assets\[spark\]"),
    ):
        engine.run(model, {path: [] for path in model.inputs}, {}, table=choice.TABLES[VOLUME])


def test_steps_on_a_gpu_share_a_pool() -> None:
    def pools(**values: Any) -> set[str]:
        assets = build_analytics_assets(given(**values))
        return {pool for asset in assets if isinstance(asset, dg.AssetsDefinition) for pool in asset.op.pools}

    assert pools(engine="cudf") == {"gpu"}
    assert pools(engine="cudf", enable_gpu=False) == set()
    assert pools() == set()


# -- the device


class NVMLError(Exception):
    pass


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An NVIDIA driver that shows what the test says, and the packages that would use it."""
    fake = ModuleType("pynvml")
    shown: dict[str, Any] = {"names": ["H100", "H200"], "error": None}

    def init() -> None:
        if shown["error"]:
            raise NVMLError(shown["error"])

    fake.NVMLError = NVMLError  # type: ignore[attr-defined]
    fake.nvmlInit = init  # type: ignore[attr-defined]
    fake.nvmlShutdown = lambda: None  # type: ignore[attr-defined]
    fake.nvmlDeviceGetCount = lambda: len(shown["names"])  # type: ignore[attr-defined]
    fake.nvmlDeviceGetHandleByIndex = lambda n: n  # type: ignore[attr-defined]
    fake.nvmlDeviceGetName = lambda n: shown["names"][n]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(gpu, "_CUDA_MODULES", ())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    return shown


def test_a_gpu_is_taken_where_the_driver_shows_one(driver: Any) -> None:
    assert (find_device(None, None).kind, find_device(None, None).name) == ("gpu", "H100")
    assert find_device(True, None).kind == "gpu"
    assert find_device(False, None).kind == "cpu"


@pytest.mark.parametrize(
    ("names", "error", "why"),
    [
        ([], None, "shows no device"),
        (["H100"], "Driver Not Loaded", "no NVIDIA driver answers"),
    ],
)
def test_without_a_gpu_the_cpu_is_taken_unless_there_must_be_one(
    driver: Any, names: list[str], error: str | None, why: str
) -> None:
    driver.update(names=names, error=error)
    device = find_device(None, None)
    assert device.kind == "cpu"
    assert why in device.why
    with pytest.raises(NoGpu, match=why):
        find_device(True, None)


def test_missing_packages_are_named(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    assert "cudf-polars is not installed: pip install 'cai_assets[gpu]'" in find_device(None, None).why
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoGpu, match="nvidia-ml-py is not installed"):
        find_device(True, None)


def test_which_devices_are_visible_is_told_to_cuda_before_it_starts(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_device(None, "1").name == "H200"
    assert gpu.os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert find_device(None, "-1").why == "CUDA_VISIBLE_DEVICES hides every device"
    with pytest.raises(PermanentError, match=r"there is no device 2; the driver shows 2: 0 H100, 1 H200"):
        find_device(None, "2")
    monkeypatch.setattr(gpu, "_CUDA_MODULES", ("sqlglot",))
    with pytest.raises(PermanentError, match="comes too late: sqlglot is imported already"):
        find_device(None, "0")


def test_a_memory_limit_is_bytes_of_whole_blocks() -> None:
    assert gpu.in_bytes("16GiB") == 16 * 1024**3
    assert gpu.in_bytes("1.5GB") == 1_500_000_000 // 256 * 256


def test_polars_says_in_the_metadata_that_it_ran_on_the_cpu(tmp_path: Path) -> None:
    about = CudfEngine(given(enable_gpu=False), LocalStore(tmp_path)).about()
    assert about == {
        "engine": "cudf",
        "device": "cpu",
        "device_why": "ENABLE_GPU=false (Polars' own engine ran the plan)",
    }
