"""The DuckDB engine: files in, the declared table out, and clear words for whatever does not fit."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai_assets.engines.duckdb import DuckDBEngine, EngineError
from cai_assets.engines.duckdb_database import files_worth_keeping
from cai_assets.engines.models import Model, load_models
from cai_assets.failures import TransientError
from cai_assets.schemas.base import MONEY, TIMESTAMP, Column, Table
from cai_assets.schemas.lake import LLM_CALLS, MESSAGES
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

CALLS = LLM_CALLS.path


def _model(sql: str, like: tuple[str, str] = ("facts", "fct_llm_call"), **changes: object) -> Model:
    values = {"inputs": (CALLS,), "parameters": (), **changes}
    return replace(load_models()[like], sql=sql, **values)


def _table(*columns: Column, key: tuple[str, ...] = ("id",)) -> Table:
    return Table("facts", "made_up", "For a test.", columns, key, partition_by=None)


ID = Column("id", pa.int64(), "A number.")


@pytest.fixture
def engine(tmp_path: Path) -> DuckDBEngine:
    return DuckDBEngine(threads=2, temp_directory=tmp_path / "spill")


def _calls(folder: Path, *rows: dict, name: str = "calls.parquet", drop: tuple[str, ...] = ()) -> str:
    defaults = {
        "partition": "2024-05-03",
        "call_id": "c",
        "purpose": "translation",
        "status": "ok",
        "conversation_id": "k",
        "attempts": 1,
        "price": Decimal("0.00000001"),
        "created_at": 0,
    }
    table = pa.Table.from_pylist([{**defaults, **row} for row in rows], schema=LLM_CALLS.arrow_schema)
    path = folder / name
    pq.write_table(table.drop_columns(list(drop)), path)
    return str(path)


@pytest.mark.parametrize("path", load_models(), ids=".".join)
def test_without_any_file_every_model_gives_an_empty_table_of_its_schema(engine, path):
    model = load_models()[path]
    values = dict.fromkeys(model.parameters, 0) | {"report_timezone": "UTC"}
    reader = engine.run(model, {key: [] for key in model.inputs}, values, table=TABLES[path])
    assert reader.schema.equals(TABLES[path].arrow_schema)
    assert reader.read_all().num_rows == 0


def test_rows_come_in_the_order_of_partition_and_key(engine, tmp_path):
    rows = [{"partition": f"2024-05-0{d}", "call_id": f"c{n}"} for d in (3, 1, 2) for n in (2, 9, 1)]
    model = load_models()["facts", "fct_llm_call"]
    found = engine.run(
        model,
        {CALLS: [_calls(tmp_path, *rows)]},
        {"report_timezone": "UTC"},
        table=TABLES[model.key],
    ).read_all()
    keys = list(zip(found["partition"].to_pylist(), found["call_id"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert found["price"].to_pylist() == [Decimal("0.00000001")] * 9


OLDER = ("tokens", "error")


@pytest.mark.parametrize("order", list(permutations(("old", "older", "new"))), ids="-".join)
@pytest.mark.parametrize("kept", [False, True], ids=["for the call", "kept"])
def test_files_older_than_a_column_have_null_there_wherever_they_stand(engine, tmp_path, order, kept):
    made = {
        "old": _calls(tmp_path, {"call_id": "old", "price": 2}, name="old.parquet", drop=OLDER),
        "older": _calls(tmp_path, {"call_id": "older"}, name="older.parquet", drop=(*OLDER, "price")),
        "new": _calls(tmp_path, {"call_id": "new", "tokens": 7, "price": 3}, name="new.parquet"),
    }
    with engine if kept else nullcontext():
        for files in ([made["new"]], [made[name] for name in order], [made["new"]]):
            found = engine.query("select call_id, tokens, price from lake.llm_calls", {CALLS: files})
            wanted = {"new": (7, 3), "old": (None, 2), "older": (None, None)}
            assert {row["call_id"]: (row["tokens"], row["price"]) for row in found.to_pylist()} == {
                name: value for name, value in wanted.items() if made[name] in files
            }
            calls = engine.run(
                load_models()["facts", "fct_llm_call"],
                {CALLS: files},
                {"report_timezone": "UTC"},
                table=TABLES["facts", "fct_llm_call"],
            ).read_all()
            assert calls["call_id"].to_pylist() == sorted(name for name in wanted if made[name] in files)
            assert calls["tokens"].null_count == len(files) - 1


def test_a_column_that_is_in_none_of_the_files_is_null(engine, tmp_path):
    old = _calls(tmp_path, {"call_id": "old"}, name="old.parquet", drop=OLDER)
    for files in ([old], [old, _calls(tmp_path, {}, name="too.parquet", drop=OLDER)]):
        found = engine.query("select tokens, error from lake.llm_calls", {CALLS: files})
        assert [found[name].null_count for name in ("tokens", "error")] == [len(files)] * 2


def test_a_database_is_kept_while_it_remembers_few_files(tmp_path):
    assert [files_worth_keeping(limit) for limit in ("1GB", "4GiB", "100TB")] == [500, 2147, 5000]
    opened = 0

    def count(_: object) -> None:
        nonlocal opened
        opened += 1

    files = [_calls(tmp_path, {}, name=f"{n}.parquet") for n in range(501)]
    with DuckDBEngine(memory_limit="1GB", prepare=count) as engine:
        for some in (files[:400], files[:500], files[:500], files):
            engine.query("select call_id from lake.llm_calls", {CALLS: some})
        assert opened == 1
        engine.query("select call_id from lake.llm_calls", {CALLS: files[:1]})
        assert opened == 2


def test_a_folder_like_a_partition_adds_no_column_and_changes_none(engine, tmp_path):
    folder = tmp_path / "partition=1999-01-01" / "it's"
    folder.mkdir(parents=True)
    found = engine.query("select partition from lake.llm_calls", {CALLS: [_calls(folder, {})]})
    assert found["partition"].to_pylist() == ["2024-05-03"]


def test_parameters_are_values_and_never_text(engine, tmp_path):
    evil = "x'; drop view lake.llm_calls; --"
    found = engine.query(
        "select $name as name, count(*) as n from lake.llm_calls",
        {CALLS: [_calls(tmp_path, {})]},
        {"name": evil},
    )
    assert found.to_pylist() == [{"name": evil, "n": 1}]


def test_a_refused_model_is_named_with_the_words_of_duckdb(engine):
    with pytest.raises(EngineError, match=r"facts/fct_llm_call\.sql: DuckDB says: .*no_such_column"):
        engine.run(
            _model("select no_such_column as id from lake.llm_calls"), {CALLS: []}, {}, table=_table(ID)
        )


def test_a_failure_while_reading_is_named_too(engine, tmp_path):
    model = _model("select cast(call_id as bigint) as id from lake.llm_calls")
    with pytest.raises(EngineError, match=r"fct_llm_call\.sql: DuckDB says: Conversion Error"):
        engine.run(model, {CALLS: [_calls(tmp_path, {"call_id": "x"})]}, {}, table=_table(ID)).read_all()


def test_an_error_in_the_middle_of_a_stream_keeps_its_words(engine):
    def stream():
        with engine._explained("facts/x.sql"):
            raise OSError("Out of Memory Error: failed to offload data block")
        yield pa.record_batch({"id": [1]})

    reader = pa.RecordBatchReader.from_batches(pa.schema([("id", pa.int64())]), stream())
    with pytest.raises(EngineError, match=r"facts/x\.sql: out of memory at DUCKDB_MEMORY_LIMIT=80%"):
        reader.read_all()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("HTTP Error: HTTP GET error on 'http://s/b/k' (HTTP 403)", EngineError),
        ("HTTP Error: HTTP GET error on 'http://s/b/k' (HTTP 503)", TransientError),
        ("HTTP Error: Connection error for HTTP HEAD to 'http://s/b/k'", TransientError),
    ],
)
def test_a_server_in_trouble_is_tried_again_and_a_refusal_is_not(engine, text, kind):
    with pytest.raises(kind, match="HTTP Error"), engine._explained("facts/x.sql"):
        raise duckdb.HTTPException(text)


def test_a_missing_file_is_named(engine, tmp_path):
    with pytest.raises(EngineError, match=r"gone\.parquet"):
        engine.query("select * from lake.llm_calls", {CALLS: [str(tmp_path / "gone.parquet")]})


def test_missing_inputs_and_parameters_are_named(engine):
    model = load_models()["facts", "fct_llm_call"]
    with pytest.raises(
        EngineError, match=r"fct_llm_call.sql cannot run without lake.llm_calls, \$report_timezone"
    ):
        engine.run(model, {}, {}, table=TABLES[model.key])


def test_an_undeclared_input_is_named(engine):
    with pytest.raises(EngineError, match=r"lake\.nothing is not declared"):
        engine.query("select 1", {("lake", "nothing"): []})


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select 1 as other", "id is missing; other is not declared"),
        ("select 2.7::double as id", "id is DOUBLE and declared bigint"),
        ("select 2.5 as id", r"id is DECIMAL\(2,1\) and declared bigint"),
        ("select '3' as id", "id is VARCHAR and declared bigint"),
        ("select true as id", "id is BOOLEAN and declared bigint"),
    ],
)
def test_columns_that_are_not_the_declared_ones_are_refused(engine, sql, words):
    with pytest.raises(EngineError, match=words):
        engine.run(_model(sql), {CALLS: []}, {}, table=_table(ID))


def test_null_where_none_may_stand_is_refused(engine):
    reader = engine.run(_model("select null as id"), {CALLS: []}, {}, table=_table(ID))
    with pytest.raises(EngineError, match=r"facts\.made_up\.id is NULL in 1 rows"):
        reader.read_all()


def test_a_number_too_large_for_its_column_is_refused(engine):
    model = _model("select sum(x) as id from (values (9223372036854775807), (1)) v(x)")
    with pytest.raises(EngineError, match="INT128 with value 9223372036854775808"):
        engine.run(model, {CALLS: []}, {}, table=_table(ID)).read_all()


def test_all_declared_kinds_of_columns_pass(engine):
    columns = (
        ID,
        Column("t", TIMESTAMP, "", nullable=True),
        Column("m", MONEY, "", nullable=True),
        Column("d", pa.date32(), "", nullable=True),
        Column("l", pa.list_(pa.string()), "", nullable=True),
        Column("s", MESSAGES.by_name["seq"].type, "", nullable=True),
    )
    sql = (
        "select 1 as id, timestamptz '2024-05-03 01:00:00+02' as t, 1.5::decimal(18, 8) as m, "
        "date '2024-05-03' as d, ['a'] as l, 3 as s"
    )
    reader = engine.run(_model(sql), {CALLS: []}, {}, table=_table(*columns))
    row = reader.read_all().to_pylist()[0]
    assert row["t"].isoformat() == "2024-05-02T23:00:00+00:00"
    assert (row["m"], row["l"], row["s"]) == (Decimal("1.50000000"), ["a"], 3)


def test_the_prepare_hook_meets_every_connection_before_it_is_locked(tmp_path):
    seen: list[duckdb.DuckDBPyConnection] = []

    def prepare(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("set threads = 1")
        seen.append(connection)

    engine = DuckDBEngine(prepare=prepare, temp_directory=tmp_path / "spill")
    assert engine.query("select current_setting('threads') as n")["n"].to_pylist() == [1]
    assert len(seen) == 1
    with pytest.raises(EngineError, match="locked"):
        engine.query("set threads = 2")


def test_times_are_those_of_utc_whatever_the_machine_says(engine, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    found = engine.query("select cast(timestamptz '2024-05-03 23:30:00+00' as varchar) as t")
    assert found["t"].to_pylist() == ["2024-05-03 23:30:00+00"]


def test_more_than_the_memory_limit_goes_to_the_spill_folder_and_leaves_nothing_there(tmp_path):
    spill = tmp_path / "spill"
    with DuckDBEngine(memory_limit="60MB", threads=1, temp_directory=spill) as engine:
        model = _model("select (range * 7919) % 3000017 as id from range(3000000)")
        column = Column("text", pa.string(), "")
        model = replace(model, sql=f"select id, repeat('x', 40) || id as text from ({model.sql})")
        reader = engine.run(model, {CALLS: []}, {}, table=_table(ID, column))
        rows = sum(batch.num_rows for batch in reader)
    assert rows == 3_000_000
    assert not spill.exists() or not list(spill.iterdir())


def test_out_of_memory_names_the_setting(tmp_path):
    engine = DuckDBEngine(memory_limit="12MB", threads=1, temp_directory=tmp_path / "spill")
    with pytest.raises(EngineError, match="DUCKDB_MEMORY_LIMIT=12MB"):
        engine.query("select list(range || repeat('x', 900)) as l from range(2000000)")


def test_threads_may_call_at_once(engine, tmp_path):
    file = _calls(tmp_path, *({"call_id": f"c{n}"} for n in range(500)))

    def count(_: int) -> int:
        found = engine.query("select count(*) as n from lake.llm_calls", {CALLS: [file]})
        return int(found["n"][0].as_py())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(count, range(16))) == {500}


def test_settings_reach_duckdb():
    settings = Settings(duckdb_memory_limit="512MB", processing_threads=3)
    sql = "select current_setting('threads') as n, current_setting('memory_limit') as m"
    with DuckDBEngine.from_settings(settings) as engine:
        assert engine.query(sql).to_pylist() == [{"n": 3, "m": "488.2 MiB"}]
    single = Settings(processing_threads=3, enable_multithreading=False)
    assert DuckDBEngine.from_settings(single).query(sql)["n"].to_pylist() == [1]
