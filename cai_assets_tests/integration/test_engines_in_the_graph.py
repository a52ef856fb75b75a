"""Facts and marts made by another engine through the whole graph: equal values, and metadata that says so."""

import math
from typing import Any

import dagster as dg

from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.platform import SAMPLE_DAYS, TABLES_ALONE, Platform, PlatformFactory

MODELS = "group:facts or group:marts"


def test_facts_and_marts_by_polars_are_those_of_duckdb(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    platform = make_platform(six_days_sandbox)
    platform.run(*SAMPLE_DAYS, select=TABLES_ALONE)
    before = platform.values()
    settings = platform.settings.model_copy(
        update={"engine": "cudf", "engine_per_table": {"marts.user": "duckdb"}, "enable_gpu": False}
    )
    other = Platform(settings, platform.instance)
    result = other.run(*SAMPLE_DAYS, select=MODELS)
    assert [one for one in result.get_asset_check_evaluations() if not one.passed] == []
    found = other.values()
    assert found.keys() == before.keys()
    for path, rows in before.items():
        assert len(found[path]) == len(rows), path
        for row, expected in zip(found[path], rows, strict=True):
            assert all(map(same, row, expected)), (path, row, expected)
    assert told(result, "facts", "fct_conversation") == {
        "engine": "cudf",
        "engine_why": "ENGINE=cudf",
        "device": "cpu",
        "device_why": "ENABLE_GPU=false (Polars' own engine ran the plan)",
    }
    assert told(result, "marts", "user")["engine_why"] == "ENGINE_PER_TABLE names marts.user"
    assert told(result, "marts", "local_hour")["engine_why"].startswith("always: ")


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(found, expected, rel_tol=1e-9)
    return bool(found == expected)


def told(result: dg.ExecuteInProcessResult, *path: str) -> dict[str, Any]:
    """What the metadata of a materialisation says of the engine."""
    events = result.get_asset_materialization_events()
    (event, *_) = [one for one in events if one.asset_key == dg.AssetKey(list(path))]
    metadata = event.step_materialization_data.materialization.metadata
    names = ("engine", "engine_why", "device", "device_why")
    return {name: metadata[name].value for name in names if name in metadata}
