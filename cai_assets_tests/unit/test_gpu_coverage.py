"""Every model would run on a GPU as a whole, as far as cudf-polars can tell without one."""

from pathlib import Path

import pytest

from cai_assets.engines.gpu_coverage import refused
from cai_assets.engines.models import DUCKDB_ALONE, load_models

MODELS = load_models()
pytest.importorskip("cudf_polars", reason="needs cudf-polars: make gpu-coverage, or pip install -e '.[gpu]'")


@pytest.mark.parametrize("path", [path for path in MODELS if path not in DUCKDB_ALONE], ids=".".join)
def test_cudf_polars_translates_the_whole_plan(path: tuple[str, str], tmp_path: Path) -> None:
    assert refused(MODELS[path], tmp_path) == []
