"""The platform's SQL models as a dbt project for dbt-duckdb: for `analytics.py` to compare with.

Texts are unchanged but for what dbt asks for: names of tables become refs, parameters values. Each model is
materialised as an external Parquet file (zstd 3) in the declared order, as bare DuckDB writes them; models
that do not depend on each other run in two threads, as dbt does it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_assets.engines.duckdb_text import duckdb_type, no_rows, order, quoted, scan, text
from cai_assets.engines.models import Model, TablePath, load_models
from cai_assets.schemas.tables import TABLES

OPTIONS = {"compression": "zstd", "compression_level": 3, "row_group_size": 131_072}
THREADS = 2


@dataclass(frozen=True)
class Project:
    """A dbt project on disk.

    Attributes:
        command: what follows `dbt`, to be run in the project's folder.
        files: the file of each model.
    """

    command: tuple[str, ...]
    files: Mapping[TablePath, str]


def write_project(
    folder: Path, inputs: Mapping[TablePath, Sequence[str]], parameters: Mapping[str, Any]
) -> Project:
    """Write the project.

    Args:
        folder: where; an empty one.
        inputs: files of the tables that no model makes.
        parameters: a value for each parameter of the models.
    """
    models, results = folder / "models", folder / "results"
    models.mkdir()
    results.mkdir()
    files = {path: str(results / f"{'.'.join(path)}.parquet") for path in load_models()}
    for path, found in inputs.items():
        rows = f"from {scan(found)}" if found else no_rows(TABLES[path])
        (models / f"{_name(path)}.sql").write_text("{{ config(materialized='view') }}\n" + rows)
    for path, model in load_models().items():
        head = {"materialized": "external", "location": files[path], "format": "parquet", "options": OPTIONS}
        config = ", ".join(f"{name}={value!r}" for name, value in head.items())
        (models / f"{_name(path)}.sql").write_text(f"{{{{ config({config}) }}}}\n{_text(model, parameters)}")
    (folder / "dbt_project.yml").write_text(
        json.dumps({"name": "benchmark", "version": "1.0", "profile": "benchmark", "model-paths": ["models"]})
    )
    settings = {"TimeZone": "UTC", "preserve_insertion_order": False, "temp_directory": str(folder / "spill")}
    output = {"type": "duckdb", "path": ":memory:", "threads": THREADS, "settings": settings}
    (folder / "profiles.yml").write_text(
        json.dumps({"benchmark": {"target": "dev", "outputs": {"dev": output}}})
    )
    flags = ("--no-send-anonymous-usage-stats", "--no-version-check", "--no-use-colors")
    return Project((*flags, "run", "--profiles-dir", ".", "--quiet"), files)


def _name(path: TablePath) -> str:
    return "__".join(path)


def _text(model: Model, parameters: Mapping[str, Any]) -> str:
    table = TABLES[model.key]
    sql = model.sql
    for path in model.inputs:
        sql = re.sub(rf"\b{path[0]}\.{path[1]}\b", f"{{{{ ref('{_name(path)}') }}}}", sql)
    for name in sorted(model.parameters, key=len, reverse=True):
        value = parameters[name]
        sql = sql.replace(f"${name}", text(value) if isinstance(value, str) else str(value))
    columns = ", ".join(
        f"cast({quoted(c.name)} as {duckdb_type(c.type)}) as {quoted(c.name)}" for c in table.columns
    )
    return f"select {columns} from (\n{sql}\n) order by {order(table)}"  # noqa: S608  of the package
