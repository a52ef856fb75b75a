"""The DuckDB engine over a lake as it really lies, on disk and on S3."""

import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai_assets.engines.duckdb import DuckDBEngine, EngineError
from cai_assets.engines.models import load_models
from cai_assets.failures import TransientError
from cai_assets.resources.object_store import ObjectStore
from cai_assets.schemas.lake import LLM_CALLS
from cai_assets.schemas.tables import TABLES
from cai_assets_tests.fixtures.lake import S3Server

PATH = LLM_CALLS.path


def _put(store: ObjectStore, day: str) -> str:
    row = {
        "partition": day,
        "call_id": f"call of {day}",
        "purpose": "translation",
        "status": "ok",
        "conversation_id": "c",
        "attempts": 1,
        "price": Decimal("0.25"),
        "created_at": datetime(2024, 5, 2, 23, 30, tzinfo=UTC),
    }
    table = pa.Table.from_pylist([row], schema=LLM_CALLS.arrow_schema)
    location = store.location(*PATH, f"partition={day}/part.parquet")
    path = store.native_path(location)
    filesystem = store.filesystem()
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    pq.write_table(table, path, filesystem=filesystem)
    return location


def test_a_model_runs_over_the_files_of_a_store(lake_store: ObjectStore) -> None:
    files = [_put(lake_store, day) for day in ("2024-05-03", "2024-05-01")]
    model = load_models()["facts", "fct_llm_call"]
    engine = DuckDBEngine(prepare=lake_store.duckdb_setup)
    reader = engine.run(model, {PATH: files}, {"report_timezone": "Europe/Berlin"}, table=TABLES[model.key])
    found = reader.read_all()
    assert found["partition"].to_pylist() == ["2024-05-01", "2024-05-03"]
    assert found["price"].to_pylist() == [Decimal("0.25")] * 2
    assert {str(day) for day in found["local_date"].to_pylist()} == {"2024-05-03"}


def test_a_file_that_is_gone_is_named(lake_store: ObjectStore) -> None:
    gone = lake_store.location(*PATH, "gone.parquet")
    with pytest.raises(EngineError, match=r"gone\.parquet"):
        DuckDBEngine(prepare=lake_store.duckdb_setup).query("from lake.llm_calls", {PATH: [gone]})


class _Failing(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(503)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def failing_server() -> Iterator[S3Server]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield S3Server(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def test_a_server_in_trouble_is_a_transient_failure(failing_server: S3Server, no_aws_account: None) -> None:
    store = failing_server.store("bucket")

    def prepare(connection: object) -> None:
        store.duckdb_setup(connection)
        connection.execute("set http_retries = 0")

    with pytest.raises(TransientError, match="503"):
        DuckDBEngine(prepare=prepare).query(
            "from lake.llm_calls", {PATH: [store.location(*PATH, "part.parquet")]}
        )
