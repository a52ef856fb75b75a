"""The queries behind the reports: `dbt_like_sql/reports`, read once, run over whichever files a report is of.

What a page shows of their rows belongs to `domain.pages`; the tables they read are facts and marts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import TablePath, load_queries

Rows = list[dict[str, Any]]


def run_queries(
    engine: DuckDBEngine,
    names: Sequence[str],
    files: Callable[[TablePath], Sequence[str]],
    parameters: Mapping[str, Any],
) -> dict[str, Rows]:
    """Run report queries and return their rows by name.

    Args:
        engine: where they run.
        names: which; files under `dbt_like_sql/reports` without `.sql`.
        files: the Parquet files of a table, for the days that the report is of.
        parameters: values of all parameters; each query takes those it uses.

    Raises:
        KeyError: there is no such query.
        EngineError: DuckDB refuses one.
    """
    queries = {query.name: query for query in load_queries("reports")}
    found = {}
    for name in names:
        query = queries[name]
        inputs = {path: files(path) for path in query.inputs}
        values = {key: parameters[key] for key in query.parameters}
        found[name] = engine.query(query.sql, inputs, values).to_pylist()
    return found
