"""Reading the SQL models: what they are taken for, and which files are refused with which words."""

import re
from pathlib import Path

import pytest
from sqlglot import exp

from cai_assets.engines.models import ModelError, column_lineage, load_models, load_tests, sql_folder
from cai_assets.schemas.tables import TABLES

MODELS = load_models()


def _write(folder: Path, **files: str) -> Path:
    for subfolder in ("staging", "facts", "marts", "tests"):
        (folder / subfolder).mkdir(exist_ok=True)
    for name, sql in files.items():
        subfolder, _, stem = name.partition("__")
        (folder / subfolder / f"{stem}.sql").write_text(sql, encoding="utf-8")
    return folder


def test_every_declared_fact_and_mart_has_a_model():
    assert set(MODELS) == {path for path in TABLES if path[0] in {"facts", "marts"}}


@pytest.mark.parametrize("path", MODELS, ids=".".join)
def test_a_model_gives_the_declared_columns_in_the_declared_order(path):
    assert MODELS[path].tree.named_selects == [column.name for column in TABLES[path].columns]


def test_inputs_come_before_the_models_that_read_them():
    order = list(MODELS)
    for path, model in MODELS.items():
        for read in model.inputs:
            assert read[0] in {"lake", "settings"} or order.index(read) < order.index(path)


def test_inputs_and_parameters_are_read_from_the_tree():
    model = MODELS["marts", "response"]
    assert model.inputs == (("facts", "fct_response"),)
    assert model.parameters == ("as_of_business_us", "as_of_us", "target_1_us", "target_2_us", "target_3_us")
    assert model.description.startswith("Response times per local day")
    assert model.file == "marts/response.sql"


def test_facts_read_no_mart_and_know_no_clock():
    for model in MODELS.values():
        if model.layer == "facts":
            assert not {"as_of_us", "as_of_business_us"} & set(model.parameters)
            assert {layer for layer, _ in model.inputs} <= {"lake", "settings", "facts"}


def test_the_folder_is_found_beside_the_package_in_a_checkout():
    assert sql_folder() == Path(__file__).resolve().parents[2] / "dbt_like_sql"


def test_lineage_follows_columns_through_ctes():
    origin = column_lineage(MODELS["facts", "fct_conversation"])
    assert origin["agent_id"] == (("lake", "conversations", "agent_id"),)
    assert origin["language"] == (
        ("facts", "stg_messages", "language"),
        ("lake", "conversations", "language"),
    )
    assert ("facts", "fct_status_event", "at_us") in origin["reopens"]


@pytest.mark.parametrize("path", MODELS, ids=".".join)
def test_lineage_names_declared_columns_alone(path):
    origin = column_lineage(MODELS[path])
    assert list(origin) == [column.name for column in TABLES[path].columns]
    for sources in origin.values():
        for layer, name, column in sources:
            assert column in TABLES[layer, name].by_name


def test_the_version_moves_with_the_statement_and_not_with_comments(tmp_path):
    def version(sql: str, folder: str) -> str:
        (tmp_path / folder).mkdir()
        return load_models(_write(tmp_path / folder, facts__fct_wait=sql))["facts", "fct_wait"].version

    first = version("-- a\nselect partition from lake.messages", "a")
    assert version("-- b\nselect  partition\nfrom lake.messages -- c", "b") == first
    assert version("-- a\nselect conversation_id from lake.messages", "c") != first


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"facts__fct_wait": "-- a\nselect 1 as a; select 2 as b"}, "fct_wait.sql must hold one SELECT"),
        ({"facts__fct_wait": "-- a\ndrop table lake.messages"}, "fct_wait.sql must hold one SELECT"),
        ({"facts__fct_wait": "-- only words"}, "fct_wait.sql must hold one SELECT, and holds nothing"),
        ({"facts__fct_wait": "-- a\nselect from where"}, "facts/fct_wait.sql is no SQL"),
        ({"facts__fct_wait": "-- a\nselect 1 from lake.mesages"}, "fct_wait.sql reads lake.mesages"),
        ({"facts__fct_wait": "-- a\nselect 1 from messages"}, "fct_wait.sql reads messages"),
        ({"facts__fct_wait": "-- a\nselect 1 from read_parquet('/etc/x')"}, "only tables can be inputs"),
        (
            {"facts__fct_wait": "-- a\nselect $wrong from lake.messages"},
            r"fct_wait.sql uses \$wrong; known are",
        ),
        ({"facts__fct_wait": "-- a\nselect $as_of_us from lake.messages"}, "facts know no clock"),
        ({"facts__fct_wait": "-- a\nselect $as_of_business_us from lake.messages"}, "facts know no clock"),
        ({"facts__nothing": "-- a\nselect 1 from lake.messages"}, "nothing.sql makes facts.nothing"),
        ({"facts__fct_wait": "select 1 from lake.messages"}, "fct_wait.sql begins without a comment"),
        (
            {"facts__fct_wait": "-- a\nselect 1 from lake.messages", "staging__fct_wait": "-- a\nselect 1"},
            "fct_wait.sql and staging/fct_wait.sql both make facts.fct_wait",
        ),
        (
            {
                "facts__fct_wait": "-- a\nselect 1 from facts.fct_traffic",
                "facts__fct_traffic": "-- a\nselect 1 from facts.user_day",
                "facts__user_day": "-- a\nselect 1 from facts.fct_wait",
            },
            r"in a circle: facts/.*\.sql → facts/.*\.sql → facts/.*\.sql",
        ),
        (
            {"facts__fct_wait": "-- a\nselect 1 from facts.user_day"},
            "reads facts.user_day, which no model makes",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, files, message):
    with pytest.raises(ModelError, match=message):
        load_models(_write(tmp_path, **files))


def test_a_test_checks_the_last_made_of_its_tables():
    by_name = {test.name: test for test in load_tests()}
    assert by_name["waits_equal_user_turns"].asset == ("facts", "fct_wait")
    assert by_name["volume_equals_traffic"].asset == ("marts", "volume")
    assert by_name["stg_messages_equal_the_lake"].asset == ("facts", "stg_messages")
    assert all(test.description for test in load_tests())


def test_every_table_has_a_test():
    assert {test.asset for test in load_tests()} == set(MODELS)


def test_a_test_may_not_ask_for_the_watermark(tmp_path):
    with pytest.raises(ModelError, match=r"tests/late.sql uses \$as_of_us"):
        load_tests(_write(tmp_path, tests__late="-- a\nselect $as_of_us from lake.messages"))


# What other engines refuse, or compute differently without a word: lists and lambdas do not exist on GPUs,
# greatest(NULL, 0) is 0 in DuckDB and NULL elsewhere, mode() and arg_max() break ties as each engine likes.
FOREIGN: tuple[type[exp.Expression], ...] = (
    exp.Qualify,
    exp.Filter,
    exp.Lambda,
    exp.Greatest,
    exp.Least,
    exp.Mode,
    exp.ArgMax,
    exp.ArgMin,
    exp.ArrayAgg,
    exp.CurrentDate,
    exp.CurrentTimestamp,
    exp.Rand,
    exp.Limit,
)


@pytest.mark.parametrize("path", MODELS, ids=".".join)
def test_models_keep_to_the_portable_part(path):
    tree = MODELS[path].tree
    assert [node.sql() for node in tree.find_all(*FOREIGN)] == []
    assert not [join.sql() for join in tree.find_all(exp.Join) if join.method.upper() == "ASOF"]
    for window in tree.find_all(exp.Window):
        assert window.args.get("order"), f"{window.sql()} has no order"
        if isinstance(window.this, exp.Sum | exp.Max | exp.Min):
            assert window.args.get("spec"), (
                f"{window.sql()} takes the default frame, which sums ties together"
            )
    for total in tree.find_all(exp.Sum):
        outer = total.parent
        while isinstance(outer, exp.Window):
            outer = outer.parent
        assert isinstance(outer, exp.Cast), (
            f"{total.sql()} is a HUGEINT, which Parquet does not have: cast it"
        )
    assert not re.search(r"\b10{3,}\.0", MODELS[path].sql), "write 1e6: 1000000.0 is a decimal elsewhere"


def test_texts_are_read_in_staging_and_for_terms_alone():
    for path, model in MODELS.items():
        if path not in {("facts", "stg_messages"), ("facts", "fct_term")}:
            read = {source for sources in column_lineage(model).values() for source in sources}
            assert ("lake", "messages", "text") not in read
            assert ("lake", "messages") not in model.inputs
