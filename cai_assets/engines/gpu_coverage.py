"""What cudf-polars would refuse of the models, told without a GPU: `make gpu-coverage`.

It asks cudf-polars to translate each plan, which needs its packages and neither driver nor device. What is
translated whole can still fail or differ while it runs: that shows on a GPU alone (docs/gpu.md).
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cai_assets.engines.choice import chosen
from cai_assets.engines.cudf import CudfEngine
from cai_assets.engines.models import DUCKDB_ALONE, Model, load_models
from cai_assets.engines.portable.expressions import TEXT_PARAMETERS
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings


class _Nowhere:
    """Local files that need no options."""

    def duckdb_setup(self, connection: Any) -> None:
        """Nothing to do."""

    def scan_options(self) -> dict[str, str]:
        """None."""
        return {}

    def exchange(self) -> Any:
        """There is no cluster."""
        raise NotImplementedError


def refused(model: Model, folder: Path) -> list[str]:
    """The reasons, one for each kind of node that cudf-polars cannot translate; none where all would run.

    Args:
        model: the model.
        folder: for Parquet files without rows, which stand for the model's inputs.

    Raises:
        ImportError: cudf-polars is not installed.
    """
    import polars as pl
    from cudf_polars import Translator

    files = {path: [str(folder / f"{path[0]}.{path[1]}.parquet")] for path in model.inputs}
    for path, (file,) in files.items():
        pq.write_table(TABLES[path].arrow_schema.empty_table(), file)
    parameters = {name: "Europe/Berlin" if name in TEXT_PARAMETERS else 0 for name in model.parameters}
    engine = CudfEngine(Settings(_env_file=None, enable_gpu=False), _Nowhere())
    plan: Any = engine.plan(model, files, parameters, table=TABLES[model.key])
    # `_ldf.visit` is private; cudf-polars' own tests use it, and there is no public way yet.
    translator = Translator(plan._ldf.visit(), pl.GPUEngine(executor="in-memory", raise_on_fail=True))
    translator.translate_ir()
    return sorted({" ".join(str(error).split()) for error in translator.errors})


def main() -> int:
    """Print what is refused, model by model; 1 if anything is that is not declared to be DuckDB's alone."""
    import cudf_polars
    import polars as pl

    print(f"cudf-polars {cudf_polars.__version__}, Polars {pl.__version__}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for path, model in load_models().items():
            if path in DUCKDB_ALONE:
                print(f"{model.file}: not asked, {chosen(path, Settings(_env_file=None)).why}")
                continue
            found = refused(model, Path(folder))
            failed += bool(found)
            print(f"{model.file}: {'; '.join(found) or 'runs'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
