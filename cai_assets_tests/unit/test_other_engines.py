"""cuDF (on the CPU) and Spark beside DuckDB: every operation, old files, errors, and nothing left behind."""

import importlib.util
import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot

from cai_assets.engines.base import Engine, EngineError
from cai_assets.engines.cudf import CudfEngine
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.gpu import Device
from cai_assets.engines.models import Model, load_models
from cai_assets.engines.spark import SparkEngine
from cai_assets.failures import TransientError
from cai_assets.resources.object_store import LocalStore
from cai_assets.schemas.base import MONEY, Column, Table
from cai_assets.schemas.lake import CONVERSATIONS, LLM_CALLS
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings
from cai_assets_tests import oracle
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.parity import assert_engine_agrees, different, sets_of_conversations, warehouse
from cai_assets_tests.unit.test_analytics import Sample

CALLS = LLM_CALLS.path


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkEngine]:
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("needs pyspark: pip install -e '.[spark]'")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("needs Java 17")
    # Small inputs: compiling plans to bytecode, and that to machine code, would cost more than it saves (75
    # CPU seconds for all models instead of 50).
    options = {
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }
    with SparkEngine(LocalStore(tmp_path_factory.mktemp("spark")), threads=2, options=options) as engine:
        yield engine


@pytest.fixture(params=["cudf", "spark"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "spark":
        found: Engine = request.getfixturevalue("spark")
        return found
    return CudfEngine(Settings(_env_file=None, enable_gpu=False), LocalStore(tmp_path))


def model(sql: str) -> Model:
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    like = load_models()["facts", "fct_llm_call"]
    inputs = tuple(sorted({(t.db, t.name) for t in tree.find_all(sqlglot.exp.Table) if t.db}))
    return replace(like, sql=sql, tree=tree, inputs=inputs, parameters=())


def table(**columns: pa.DataType) -> Table:
    declared = tuple(
        Column(name, type_, "For a test.", nullable=name != "k") for name, type_ in columns.items()
    )
    return Table("facts", "made_up", "For a test.", declared, (declared[0].name,), partition_by=None)


def calls(folder: Path, *rows: dict[str, Any], name: str = "calls", drop: tuple[str, ...] = ()) -> str:
    defaults = {
        "partition": "2024-05-03",
        "call_id": "c",
        "purpose": "translation",
        "status": "ok",
        "conversation_id": "k",
        "attempts": 1,
        "created_at": 0,
    }
    arrow = pa.Table.from_pylist([{**defaults, **row} for row in rows], schema=LLM_CALLS.arrow_schema)
    path = folder / f"{name}.parquet"
    pq.write_table(arrow.drop_columns(list(drop)), path)
    return str(path)


def both(engine: Engine, sql: str, files: list[str], declared: Table) -> list[dict[str, Any]]:
    """The rows, which are also DuckDB's."""
    made = model(sql)
    inputs = dict.fromkeys(made.inputs, files)
    found = engine.run(made, inputs, {}, table=declared).read_all()
    expected = DuckDBEngine(threads=1).run(made, inputs, {}, table=declared).read_all()
    assert different(found, expected) is None
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def test_a_file_that_is_older_than_a_column_has_null_there(engine: Engine, tmp_path: Path) -> None:
    old = calls(tmp_path, {"call_id": "old"}, name="old", drop=("tokens", "error"))
    new = calls(tmp_path, {"call_id": "new", "tokens": 7}, name="new")
    sql = "select call_id as k, tokens from lake.llm_calls"
    found = both(engine, sql, [old, new], table(k=pa.string(), tokens=pa.int64()))
    assert found == [{"k": "new", "tokens": 7}, {"k": "old", "tokens": None}]


def test_files_below_odd_names_are_found(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "partition=1999-01-01" / "it's [a] {b} *"
    folder.mkdir(parents=True)
    sql = "select partition as k from lake.llm_calls"
    assert both(engine, sql, [calls(folder, {})], table(k=pa.string())) == [{"k": "2024-05-03"}]


def test_reckoning_is_that_of_duckdb(engine: Engine, tmp_path: Path) -> None:
    """Negative numbers, nothing, decimals and texts, where engines have ways of their own."""
    values = (None, 0, 1, -1, 7, -7, 6, -6, 10**12)
    rows = [
        {
            "call_id": f"{n:02}",
            "tokens": value,
            "latency_ms": values[n - 3],
            "price": None if value is None else Decimal(value) / 10**8,
            "model": ("a-b-c", "", None, "ÄÖ-Ñ", "x'y\\z", "-")[n % 6],
        }
        for n, value in enumerate(values)
    ]
    sql = """
    select
        call_id as k, tokens // 3 as q, tokens % 3 as r, tokens / latency_ms as d, -tokens as m,
        abs(tokens) as a, cast(floor(tokens / 2) as bigint) as f, tokens + 5e-1 as h, price + price as p,
        nullif(tokens, 7) as n,
        split_part(model, '-', 1) as one, split_part(model, '-', 2) as two, split_part(model, '-', 4) as four,
        length(model) as l, lower(model) as w, model || '!' as c, cast(tokens as varchar) as v,
        tokens between -6 and 6 as b, tokens in (7, -7) as i, not (tokens > 0 or latency_ms > 0) as o,
        cast(tokens > 0 as bigint) as g, case when tokens > 0 then ln(tokens) end as e,
        model = 'x''y\\z' as s,
        cast(partition as date) as t, coalesce(latency_ms, tokens, 3) as y
    from lake.llm_calls
    """
    kinds: dict[str, pa.DataType] = dict.fromkeys("qrmafnlgy", pa.int64())
    kinds |= dict.fromkeys("dhe", pa.float64()) | dict.fromkeys(("one", "two", "four", *"wcv"), pa.string())
    kinds |= dict.fromkeys("bios", pa.bool_()) | {"p": MONEY, "t": pa.date32()}
    order = [
        "q",
        "r",
        "d",
        "m",
        "a",
        "f",
        "h",
        "p",
        "n",
        "one",
        "two",
        "four",
        "l",
        "w",
        "c",
        "v",
        *"biogesty",
    ]
    found = both(engine, sql, [calls(tmp_path, *rows)], table(k=pa.string(), **{n: kinds[n] for n in order}))
    assert [row["q"] for row in found[3:6]] == [0, 2, -2], "towards zero"


@pytest.mark.parametrize("rows", [0, 1, 9, 40])
def test_windows_are_those_of_duckdb(engine: Engine, tmp_path: Path, rows: int) -> None:
    made = [
        {
            "call_id": f"{n:02}",
            "purpose": ("translation", "category")[n % 2],
            "tokens": None if n % 5 == 0 else n * 7 % 11,
            "latency_ms": None if n < 4 else n % 3,
            "price": None if n % 4 == 0 else Decimal(n) / 10**8,
        }
        for n in range(rows)
    ]
    running = "rows between unbounded preceding and current row"
    over = f"over (partition by purpose order by call_id {running})"
    ranked = "over (partition by purpose order by tokens desc, latency_ms)"
    sql = f"""
    select
        call_id as k, row_number() over (order by tokens, call_id desc) as a, rank() {ranked} as b,
        ntile(4) over (partition by purpose order by call_id) as c, ntile(7) over (order by call_id) as d,
        lag(tokens, 2) over (partition by purpose order by call_id) as e,
        lead(tokens) over (order by call_id) as f,
        cast(sum(latency_ms) {over} as bigint) as g, min(tokens) {over} as h, max(tokens) {over} as i,
        avg(tokens) {over} as j, count(latency_ms) {over} as l, count(*) {over} as m,
        cast(sum(tokens) over (order by call_id rows between 2 preceding and current row) as bigint) as n,
        max(tokens) over (order by call_id rows between 1 preceding and current row) as o,
        avg(tokens) over (partition by purpose order by call_id rows between 3 preceding and current row)
            as p,
        cast(sum(tokens) over (partition by purpose) as bigint) as q,
        count(*) over (partition by purpose) as r,
        max(model) over (partition by purpose) as s, avg(tokens) over () as t,
        cast(sum(price) over (partition by purpose) as decimal(18, 8)) as u
    from lake.llm_calls
    """
    kinds: dict[str, pa.DataType] = dict.fromkeys("abcdefghi", pa.int64()) | {"j": pa.float64()}
    kinds |= dict.fromkeys("lmno", pa.int64()) | {"p": pa.float64(), "q": pa.int64(), "r": pa.int64()}
    kinds |= {"s": pa.string(), "t": pa.float64(), "u": MONEY}
    files = [calls(tmp_path, *made)] if made else []
    assert len(both(engine, sql, files, table(k=pa.string(), **kinds))) == rows


def test_groups_are_those_of_duckdb(engine: Engine, tmp_path: Path) -> None:
    made = [
        {
            "call_id": f"{n:02}",
            "model": (None, "a", "b")[n % 3],
            "tokens": None if n % 3 == 1 else n,
            "price": Decimal(n) / 10**8,
        }
        for n in range(20)
    ]
    columns = """
        count(*) as n, count(tokens) as c, count(distinct tokens % 4) as d, cast(sum(tokens) as bigint) as s,
        min(call_id) as a, max(call_id) as b, avg(tokens) as m, quantile_cont(tokens, 0.25) as q,
        cast(sum(price) as decimal(18, 8)) as p
    """
    kinds = {"n": pa.int64(), "c": pa.int64(), "d": pa.int64(), "s": pa.int64(), "a": pa.string()}
    kinds |= {"b": pa.string(), "m": pa.float64(), "q": pa.float64(), "p": MONEY}
    file = calls(tmp_path, *made)
    by_model = f"select model as g, {columns} from lake.llm_calls group by model"
    assert len(both(engine, by_model, [file], table(g=pa.string(), **kinds))) == 3
    alone = f"select {columns} from lake.llm_calls where tokens > $x".replace("$x", "100")
    (row,) = both(engine, alone, [file], table(**kinds))
    assert (row["n"], row["s"], row["p"]) == (0, None, None), "one row of nothing"


def test_days_and_lists_become_rows_as_in_duckdb(engine: Engine, tmp_path: Path) -> None:
    rows = [
        {"partition": "2024-02-27", "conversation_id": "a", "tags": ["x", None, "x"]},
        {"partition": "2024-03-02", "conversation_id": "b", "tags": []},
        {"partition": "2024-03-11", "conversation_id": "c", "tags": None},
    ]
    defaults = {"user_id": "u", "status": "open", "traffic_class": "live", "started_at": 0}
    defaults |= {"source_updated_at": 0, "content_hash": ""}
    path = tmp_path / "conversations.parquet"
    pq.write_table(
        pa.Table.from_pylist([{**defaults, **row} for row in rows], schema=CONVERSATIONS.arrow_schema), path
    )
    listed = """
    select t.place as k, c.conversation_id as c, t.tag
    from lake.conversations as c cross join unnest(c.tags) with ordinality as t (tag, place)
    """
    found = both(engine, listed, [str(path)], table(k=pa.int64(), c=pa.string(), tag=pa.string()))
    assert [(row["k"], row["tag"]) for row in found] == [(1, "x"), (2, None), (3, "x")]
    plain = "select unnest(tags) as tag, conversation_id as c from lake.conversations"
    assert len(both(engine, plain, [str(path)], table(tag=pa.string(), c=pa.string()))) == 3
    spine = """
    with bound as (
        select min(cast(partition as date)) as first_date, max(cast(partition as date)) as last_date
        from lake.conversations
    ),
    day as (
        select cast(unnest(generate_series(first_date, last_date, interval {} day)) as date) as d from bound
    )
    select d, strftime(d, '%Y-%m') as m, cast(date_trunc('week', d) as date) as w,
        cast(date_trunc('month', d) as date) as s, date_diff('day', w.first_date, d) as n,
        date_diff('month', w.first_date, d) as o
    from day cross join bound as w
    """
    kinds = {"d": pa.date32(), "m": pa.string(), "w": pa.date32(), "s": pa.date32()}
    kinds |= {"n": pa.int64(), "o": pa.int64()}
    for step, days in ((1, 14), (7, 2), (20, 1)):
        assert len(both(engine, spine.format(step), [str(path)], table(**kinds))) == days
    assert both(engine, spine.format(1), [], table(**kinds)) == []


def test_a_null_where_none_may_stand_is_told(engine: Engine, tmp_path: Path) -> None:
    made = model("select model as k from lake.llm_calls")
    with pytest.raises(EngineError, match=r"facts\.made_up\.k is NULL in 2 rows"):
        engine.run(made, {CALLS: [calls(tmp_path, {}, {})]}, {}, table=table(k=pa.string())).read_all()


def test_a_file_that_is_gone_is_told_with_the_models_name(engine: Engine, tmp_path: Path) -> None:
    made = model("select call_id as k from lake.llm_calls")
    with pytest.raises(EngineError, match=r"facts/fct_llm_call\.sql: (Polars|Spark) says"):
        engine.run(made, {CALLS: [str(tmp_path / "gone.parquet")]}, {}, table=table(k=pa.string())).read_all()


def test_a_missing_input_is_told(engine: Engine) -> None:
    made = model("select call_id as k from lake.llm_calls")
    with pytest.raises(EngineError, match=r"cannot run without lake\.llm_calls"):
        engine.run(made, {}, {}, table=table(k=pa.string()))


def test_a_decimal_that_is_too_large_is_told(engine: Engine, tmp_path: Path) -> None:
    large = {"price": Decimal("9999999999.99999999")}
    made = model("select 1 as k, cast(sum(price) as decimal(18, 8)) as p from lake.llm_calls")
    with pytest.raises(EngineError):
        engine.run(
            made, {CALLS: [calls(tmp_path, large, large)]}, {}, table=table(k=pa.int64(), p=MONEY)
        ).read_all()


def test_nothing_of_spark_is_left_behind(spark: SparkEngine, tmp_path: Path) -> None:
    made = model("select call_id as k from lake.llm_calls")
    files = {CALLS: [calls(tmp_path, *({"call_id": f"{n:03}"} for n in range(50)))]}
    place = spark._place._spool_base()
    reader = spark.run(made, files, {}, table=table(k=pa.string()))
    assert any(place.rglob("*.parquet"))
    assert reader.read_all().num_rows == 50
    given_up = spark.run(made, files, {}, table=table(k=pa.string()))
    given_up.close()
    del given_up, reader
    assert not list(place.iterdir())
    assert not [one.name for one in spark._session.catalog.listTables() if one.name.startswith("cai_")]


def test_spark_connect_that_does_not_answer_may_answer_later(tmp_path: Path) -> None:
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("needs pyspark: pip install -e '.[spark]'")
    made = model("select call_id as k from lake.llm_calls")
    with (
        SparkEngine(LocalStore(tmp_path), remote="sc://127.0.0.1:9") as engine,
        pytest.raises(TransientError, match=r"nobody answers at 127\.0\.0\.1:9 \(SPARK_REMOTE\)"),
    ):
        engine.run(made, {CALLS: []}, {}, table=table(k=pa.string()))


def test_on_a_gpu_files_older_than_a_column_pass_through_the_host(tmp_path: Path) -> None:
    made = model("select call_id as k, tokens from lake.llm_calls")
    declared = table(k=pa.string(), tokens=pa.int64())
    new, old = calls(tmp_path, {}, name="new"), calls(tmp_path, {}, name="old", drop=("tokens",))
    engine = CudfEngine(Settings(_env_file=None), LocalStore(tmp_path))
    engine._device = Device("gpu", "made up", "for a test")
    assert "Parquet" in engine.plan(made, {CALLS: [new]}, {}, table=declared).explain()
    plan = engine.plan(made, {CALLS: [new, old]}, {}, table=declared)
    assert "Parquet" not in plan.explain()
    assert plan.collect()["tokens"].to_list() == [None, None]


def test_the_engine_for_polars_can_be_sent_to_another_process(tmp_path: Path) -> None:
    engine = CudfEngine(Settings(_env_file=None, enable_gpu=False), LocalStore(tmp_path))
    assert engine.device.kind == "cpu"
    again = pickle.loads(pickle.dumps(engine))  # noqa: S301  our own
    made = load_models()["marts", "volume"]
    found = again.run(made, {path: [] for path in made.inputs}, {}, table=TABLES[made.key])
    assert found.read_all().num_rows == 0


def test_spark_agrees_on_random_conversations(tmp_path: Path, spark: SparkEngine) -> None:
    sample = sets_of_conversations(range(200), "Europe/Berlin")
    assert_engine_agrees(warehouse(tmp_path, sample), spark)


def test_spark_agrees_on_an_empty_lake(tmp_path: Path, spark: SparkEngine) -> None:
    made = warehouse(tmp_path, sets_of_conversations([], "UTC"))
    # Those whose inputs meet in different ways; each costs Spark a second.
    names = {"volume", "user", "heatmap"}
    assert_engine_agrees(made, spark, [path for path in load_models() if path[1] in names])


@pytest.mark.soak
@pytest.mark.parametrize("data", ["star", "bcontrast"])
def test_spark_agrees_on_real_conversations(data: str, tmp_path: Path, spark: SparkEngine) -> None:
    sample = Sample(*oracle.load(shared_data(data)), "Europe/Berlin")
    assert_engine_agrees(warehouse(tmp_path, sample), spark)
