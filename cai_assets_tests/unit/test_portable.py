"""The portable part of SQL: what is outside of it is refused, with the way to write it."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import sqlglot

from cai_assets.engines import lint, polars_expressions, spark_sql
from cai_assets.engines.models import DUCKDB_ALONE, Model, load_models
from cai_assets.engines.portable.expressions import OPERATIONS
from cai_assets.engines.portable.reading import read_model
from cai_assets.engines.portable.vocabulary import NotPortable
from cai_assets.schemas.base import Column, Table
from cai_assets.schemas.tables import TABLES

MODELS = load_models()


def model(sql: str, folder: str = "marts") -> Model:
    """A model of that text; it makes marts.made_up."""
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    path = Path(folder) / "made_up.sql"
    return replace(MODELS["marts", "volume"], name="made_up", sql=sql, tree=tree, path=path, parameters=())


def table(**columns: pa.DataType) -> Table:
    declared = tuple(Column(name, type_, "For a test.", nullable=True) for name, type_ in columns.items())
    return Table("marts", "made_up", "For a test.", declared, (declared[0].name,), partition_by=None)


@pytest.mark.parametrize("path", [path for path in MODELS if path not in DUCKDB_ALONE], ids=".".join)
def test_every_model_is_in_the_portable_part(path):
    schema = read_model(MODELS[path], TABLES[path]).schema
    assert list(schema) == [column.name for column in TABLES[path].columns]


def test_the_lint_has_no_complaint_about_the_models():
    assert lint.complaints(MODELS.values()) == []


def test_every_engine_knows_every_operation():
    assert polars_expressions.KNOWN == OPERATIONS
    assert spark_sql.KNOWN == OPERATIONS


# What is written, and a part of the mend that the refusal names.
FACT = "from facts.fct_conversation"
REFUSED = {
    "having": (f"select channel as x {FACT} group by channel having count(*) > 1", "filter in the next"),
    "qualify": (
        f"select channel as x {FACT} qualify row_number() over (order by conversation_id) = 1",
        "filter them in the next",
    ),
    "filter": (f"select count(*) filter (where is_empty) as x {FACT}", "sum(case when"),
    "limit": (f"select channel as x {FACT} limit 3", "row_number()"),
    "using": (
        "select w.turn_no as x from facts.fct_wait as w join facts.fct_response as c using (conversation_id)",
        "on a.key = b.key",
    ),
    "asof": (
        "select w.turn_no as x from facts.fct_wait as w asof join facts.fct_conversation as c "
        "on w.conversation_id = c.conversation_id and w.waiting_since_us >= c.started_us",
        "equality of plain columns",
    ),
    "non-equi": (
        "select w.turn_no as x from facts.fct_wait as w join facts.fct_conversation as c "
        "on w.conversation_id = c.conversation_id and w.waiting_since_us >= c.started_us",
        "where for the rest",
    ),
    "correlated": (
        "select turn_no as x from facts.fct_wait as w where exists (select 1 from facts.fct_response as c "
        "where c.conversation_id = w.conversation_id)",
        "left join a CTE",
    ),
    "union": (f"select channel as x {FACT} union select language as x {FACT}", "union all"),
    "greatest": (f"select greatest(messages, agents) as x {FACT}", "case when a >= b"),
    "mode": (f"select mode(channel) as x {FACT}", "count by value"),
    "list": (f"select list(channel order by channel) as x {FACT}", "keep the rows"),
    "arg_max": (f"select arg_max(channel, messages) as x {FACT}", "rank with row_number()"),
    "first": (f"select any_value(channel) as x {FACT}", "min(...) or max(...)"),
    "not like": (f"select channel as x {FACT} where channel not like 'w%'", "computed in staging"),
    "unknown function": (f"select md5(channel) as x {FACT}", "docs/engines.md"),
    "unknown named function": (f"select frobnicate(channel) as x {FACT}", "docs/engines.md"),
    "clock": (f"select now() as x {FACT}", "no model reads the clock"),
    "lag default": (
        f"select lag(messages, 1, 0) over (order by conversation_id) as x {FACT}",
        "coalesce(lag(x)",
    ),
    "ignore nulls": (
        f"select lag(messages ignore nulls) over (order by conversation_id) as x {FACT}",
        "a case before",
    ),
    "default frame": (
        f"select cast(sum(messages) over (order by conversation_id) as bigint) as x {FACT}",
        "rows between unbounded preceding",
    ),
    "range frame": (
        "select cast(sum(messages) over (order by messages range between 1 preceding and current row) "
        f"as bigint) as x {FACT}",
        "rows between unbounded preceding",
    ),
    "following": (
        "select cast(sum(messages) over (order by messages rows between 1 preceding and 1 following) "
        f"as bigint) as x {FACT}",
        "rows between",
    ),
    "nulls first": (
        f"select row_number() over (order by messages nulls first) as x {FACT}",
        "nulls come last",
    ),
    "window over expression": (
        f"select row_number() over (partition by lower(channel) order by messages) as x {FACT}",
        "partition by plain columns",
    ),
    "window over aggregate": (
        f"select channel, cast(sum(count(*)) over () as bigint) as x {FACT} group by channel",
        "group in a CTE",
    ),
    "sum without cast": (f"select sum(messages) as x {FACT}", "cast(sum(...) as bigint)"),
    "decimal constant": (f"select messages * 0.5 as x {FACT}", "5.000000e-01"),
    "cast of a float": (f"select cast(active_s as bigint) as x {FACT}", "cast(floor(x) as bigint)"),
    "cast to a narrow type": (f"select cast(messages as integer) as x {FACT}", "cast to bigint"),
    "cast of a text": (f"select cast(channel as bigint) as x {FACT}", "computed in staging"),
    "date to text": (f"select cast(first_message_date as varchar) as x {FACT}", "strftime"),
    "bare date_trunc": (f"select date_trunc('week', first_message_date) as x {FACT}", "as date)"),
    "date_trunc of hours": (
        f"select cast(date_trunc('hour', first_message_date) as date) as x {FACT}",
        "date_trunc('week'",
    ),
    "date_diff of hours": (
        f"select date_diff('hour', first_message_date, first_message_date) as x {FACT}",
        "'day' or 'month'",
    ),
    "dates subtracted": (
        f"select first_message_date - first_message_date as x {FACT}",
        "date_diff('day', a, b)",
    ),
    "kinds compared": (f"select messages = channel as x {FACT}", "compare like with like"),
    "kinds mixed": (f"select coalesce(messages, channel) as x {FACT}", "values of one kind"),
    "division by a column": (f"select messages // agents as x {FACT}", "a positive constant"),
    "group by expression": (
        f"select count(*) as x {FACT} group by lower(channel)",
        "group by plain columns",
    ),
    "group by all": (f"select channel as x, count(*) as n {FACT} group by all", "name the columns"),
    "name of the same select": (f"select messages as y, y + 1 as x {FACT}", "the same select is repeated"),
    "ambiguous name": (
        "select turn_no as x from facts.fct_wait as w join facts.fct_conversation as c "
        "on w.conversation_id = c.conversation_id where conversation_id is not null",
        "w.conversation_id or c.conversation_id",
    ),
    "a name twice": (f"select channel as x, language as x {FACT}", "is there twice"),
    "star with a list": (f"select * exclude (channel) {FACT}", "name the columns"),
    "sample": (f"select channel as x {FACT} using sample 10%", "docs/engines.md"),
    "distinct on": (f"select distinct on (channel) channel as x {FACT}", "place = 1"),
    "bare null": (f"select null as x {FACT}", "cast(null as bigint)"),
    "null in choices": (f"select case when is_empty then null end as x {FACT}", "cast(null as bigint)"),
    "is true": (f"select is_empty is true as x {FACT}", "coalesce(x, false)"),
    "two unnests": ("select unnest(tags) as x, unnest(tags) as y from lake.conversations", "one unnest"),
    "unnest in an expression": ("select lower(unnest(tags)) as x from lake.conversations", "the next CTE"),
    "from nothing": ("select 1 as x", "a select from"),
    "values": ("select x from (values (1)) as t (x)", "union all"),
    "comma": (
        "select w.turn_no as x from facts.fct_wait as w, facts.fct_conversation as c",
        "cross join",
    ),
    "union of kinds": (
        f"select channel as x {FACT} union all select messages as x {FACT}",
        "columns of one kind",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_outside_is_refused_with_the_way_to_write_it(name):
    sql, mend = REFUSED[name]
    with pytest.raises(NotPortable) as error:
        read_model(model(sql), table(x=pa.int64()))
    assert str(error.value).startswith("marts/made_up.sql: ")
    assert mend in str(error.value), str(error.value)


def test_all_constructs_of_a_model_are_named_at_once():
    sql = f"select greatest(messages, 1) as x, count(*) filter (where is_empty) as n {FACT} limit 3"
    with pytest.raises(NotPortable) as error:
        read_model(model(sql), table(x=pa.int64()))
    assert len(error.value.refusals) == 3


def test_columns_that_the_table_does_not_declare_are_refused():
    sql = f"select messages as x, channel as y, language as w {FACT}"
    with pytest.raises(NotPortable, match=r"y is text: marts\.made_up declares int") as error:
        read_model(model(sql), table(x=pa.int64(), y=pa.int64(), z=pa.string()))
    assert "w: marts.made_up does not declare it" in str(error.value)
    assert "z: marts.made_up declares it" in str(error.value)


def test_the_lint_wants_clocks_and_texts_where_the_lake_is_read():
    late = "with a as (select channel as c from facts.fct_conversation) select lower(c) as x from a"
    found = lint.complaints([replace(model(late), layer="marts", name="volume")])
    assert any("compute it in staging" in line and "`LOWER(c)`" in line for line in found)
    early = "select lower(channel) as channel from lake.conversations"
    assert not any("compute it in staging" in line for line in lint.complaints([model_of_volume(early)]))


def model_of_volume(sql: str) -> Model:
    return replace(model(sql), name="volume")


def test_a_refusal_can_come_from_another_process():
    import pickle

    with pytest.raises(NotPortable) as error:
        read_model(model(f"select now() as x {FACT}"), table(x=pa.int64()))
    again = pickle.loads(pickle.dumps(error.value))  # noqa: S301  our own
    assert str(again) == str(error.value)
    assert again.refusals == error.value.refusals
