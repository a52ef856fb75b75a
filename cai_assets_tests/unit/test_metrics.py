"""Every number has one declaration: it stands somewhere, runs, and means the same in marts and facts."""

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
import pyarrow.types as pt
import pytest
from click.testing import CliRunner

from cai_assets.assets.reports import report_documents
from cai_assets.cli import main
from cai_assets.domain import charts, dictionary, pages
from cai_assets.metadata import column_schema, table_metadata
from cai_assets.opening_hours import WEEKDAYS
from cai_assets.sandbox.sample import generate
from cai_assets.schemas import marts
from cai_assets.schemas.base import Table
from cai_assets.schemas.metrics import METRICS, Metric, alike, measure, metric
from cai_assets.schemas.metrics.declaring import conversations
from cai_assets.schemas.standing import columns, of_table, places, versions
from cai_assets.schemas.tables import MARTS, TABLES
from cai_assets_tests import oracle
from cai_assets_tests.conftest import REPOSITORY
from cai_assets_tests.lake_data import Warehouse
from cai_assets_tests.unit.test_analytics import Sample, us
from cai_assets_tests.unit.test_charts_and_pages import HEADLINE

NAMES = sorted(METRICS)
Sampled = tuple[Warehouse, Sample, duckdb.DuckDBPyConnection]


# -- every column of a mart that measures has a metric, and every metric a column


@pytest.mark.parametrize("table", MARTS, ids=lambda table: table.name)
def test_every_measure_of_a_mart_belongs_to_a_metric(table: Table) -> None:
    without = [
        column.name
        for column in table.columns
        if (pt.is_integer(column.type) or pt.is_floating(column.type) or pt.is_decimal(column.type))
        and column.name not in table.key
        and column.unit not in {"us", "place", "topic"}  # when, which: no measure
        and column.metric is None
    ]
    assert without == [], "declare a metric and make the column with `measure`"


def test_every_metric_stands_in_a_table() -> None:
    nowhere = [one.name for one in METRICS.values() if not places(one)]
    assert nowhere == [], "make a column with `measure`, or name the facts' columns with `made_of`"


def test_a_column_repeats_nothing_of_its_metric() -> None:
    for name, stands in columns().items():
        for place in stands:
            column = place.table.by_name[place.column]
            assert column.description.startswith(METRICS[name].definition)
            assert (column.unit, column.type) == (METRICS[name].unit, METRICS[name].type)


@pytest.mark.parametrize("name", NAMES)
def test_a_declaration_is_complete(name: str) -> None:
    one = METRICS[name]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert one.title[0].isupper()
    assert one.title[-1] not in ".:"
    assert one.unit
    assert one.version >= 1
    assert one.definition[0].isupper() or one.definition.startswith("z score") or one.definition[0].isdigit()
    if one.numerator:
        assert not one.additive


def test_a_metric_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="is no sentence"):
        conversations("a", "A", "Without its stop", mart="volume")
    with pytest.raises(ValueError, match="a numerator and a denominator"):
        Metric("a", "A", "A ratio.", "ratio", "select 1", numerator="waits")
    with pytest.raises(KeyError, match="alike are waits"):
        measure("wait")


def test_names_that_are_alike_are_found() -> None:
    assert alike("containmnt_rate")[0] == "containment_rate"
    assert "waits" in alike("User turns")
    assert alike("") == []


# -- the SQL


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Sampled:
    """The generator's conversations with all models run, in one database: a query takes a millisecond."""
    data = generate(days=16, conversations_per_day=24)
    rows = data.conversations.to_pylist()
    for row in rows:
        row["status_events"] = json.loads(row["status_events"]) if row["status_events"] else None
    hours = json.dumps({"week": dict.fromkeys(WEEKDAYS, ("06:00-23:00",))})
    sample = Sample(rows, data.messages.to_pylist(), "Europe/Berlin", hours)
    warehouse = Warehouse(
        tmp_path_factory.mktemp("metrics"), report_timezone="Europe/Berlin", business_hours=hours
    )
    warehouse.load(sample.rows)
    warehouse.run()
    warehouse.find_topics(5)
    connection = duckdb.connect()
    for layer, name in warehouse.files:
        rows = warehouse.read(layer, name)
        connection.execute(f'create schema if not exists {layer}; create table {layer}."{name}" as from rows')
    return warehouse, sample, connection


def value(sampled: Sampled, sql: str) -> Any:
    warehouse, sample, connection = sampled
    known = {**warehouse.parameters, "as_of_us": us(sample.as_of)}
    asked = {name: known[name] for name in re.findall(r"\$(\w+)", sql)}
    ((found,),) = connection.execute(sql, asked).fetchall()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_sql_gives_a_value_and_the_facts_give_the_same(sampled: Sampled, name: str) -> None:
    one = METRICS[name]
    found = value(sampled, one.sql)
    assert found is not None
    assert found != 0, "the sample does not show it"
    if one.unit == "ratio":
        assert 0 <= found <= 1
    if one.facts_sql:
        again = value(sampled, one.facts_sql)
        assert found == again or math.isclose(found, again, rel_tol=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if METRICS[name].numerator])
def test_a_ratio_is_its_numerator_over_its_denominator_wherever_both_add_up(
    sampled: Sampled, name: str
) -> None:
    one = METRICS[name]
    above, below = METRICS[one.numerator or ""], METRICS[one.denominator or ""]
    if not (above.additive and below.additive):
        pytest.skip("distinct counts do not add up")
    parts = float(value(sampled, above.sql)), float(value(sampled, below.sql))
    assert value(sampled, one.sql) == pytest.approx(parts[0] / parts[1])


def test_values_are_those_of_the_oracle(sampled: Sampled) -> None:
    _, sample, _ = sampled
    facts = oracle.all_facts(sample.live, sample.messages).values()
    waits = [w.reply_s for w in oracle.all_waits(sample.live, sample.messages)]
    expected = {
        "conversations": len(facts),
        "conversations_started": sum(not f.empty for f in facts),
        "messages": sum(f.messages for f in facts),
        "agent_messages": sum(f.agent_messages for f in facts),
        "resolved": sum(f.resolves > 0 and not f.empty for f in facts),
        "reopened": sum(f.reopens > 0 and not f.empty for f in facts),
        "resolution_events": sum(f.resolves for f in facts if not f.empty),
        "contained": sum(f.outcome == "contained" for f in facts),
        "outcome_unanswered": sum(f.unanswered for f in facts),
        "waits": len(waits),
        "response_n_open": sum(seconds is None for seconds in waits),
        "reply_p50_s": statistics.median(seconds for seconds in waits if seconds is not None),
        "users": len({c["user_id"] for c in sample.live}),
        "csat_avg": statistics.fmean(c["csat_score"] for c in sample.live if c.get("csat_score") is not None),
    }
    assert {name: value(sampled, METRICS[name].sql) for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "column"), [("resolution_events", "resolution_events"), ("resolved", "resolutions")]
)
def test_resolutions_of_everyone_add_up_to_the_metric(sampled: Sampled, name: str, column: str) -> None:
    assert value(sampled, f"select sum({column}) from marts.agent") == value(sampled, METRICS[name].sql)


# -- where it is seen


def test_a_day_says_what_its_numbers_mean() -> None:
    page = pages.daily_page(
        day="2025-03-20",
        headline={**HEADLINE, "conversations": 1},
        clocks=[dict.fromkeys(("clock", "n", "n_open", "p50_s", "p90_s", "p95_s", "p99_s", "max_s"), 1)],
        hours_svg="",
        conversations=[
            {**dict.fromkeys(CONVERSATION, "x"), "started_us": 0, "messages": 1, "first_response_s": None}
        ],
        transcripts={},
        shown=1,
        zone=ZoneInfo("UTC"),
    )
    shown = metric("resolution_rate")
    assert f'<div class="figure" title="{shown.definition}"><dt>{shown.title}</dt>' in page
    heading = metric("response_n_open")
    assert f'<th scope="col" title="{heading.definition}">{heading.heading}</th>' in page


CONVERSATION = ("conversation_id", "user_id", "channel", "language", "category", "outcome")


def test_charts_take_their_titles_from_the_metrics() -> None:
    encoding = charts.hours([])["encoding"]
    assert encoding["y"]["title"] == metric("messages").unit
    assert encoding["tooltip"][-1]["title"] == metric("messages").title


def test_the_ui_shows_unit_definition_and_metric_of_a_column() -> None:
    column = next(c for c in column_schema(marts.VOLUME).columns if c.name == "waits")
    assert column.description == f"{METRICS['waits'].definition} [turns]"
    assert column.tags == {"cai/metric": "waits"}
    named = table_metadata(marts.CONTAINMENT)["metrics"]
    assert isinstance(named, dg.MarkdownMetadataValue)
    for one in of_table(marts.CONTAINMENT):
        assert f"| {one.name} | {one.unit} |" in named.md_str
    assert "containment_rate" in [one.name for one in of_table(marts.CONTAINMENT)]
    assert "metrics" not in table_metadata(TABLES["facts", "fct_wait"])


def test_report_documents_carry_the_versions_of_their_definitions(
    sampled: Sampled,
) -> None:
    rows = sampled[0].rows("marts", "containment")[:2]
    for _, document in report_documents(marts.CONTAINMENT, rows, zone="UTC", as_of=None):
        assert document["definition_v"] == versions(marts.CONTAINMENT)
        assert set(document["definition_v"]) == set(document["metrics"])


@pytest.mark.parametrize("name", list(dictionary.pages()))
def test_the_documentation_is_in_step_with_the_declarations(name: str) -> None:
    written = (REPOSITORY / "docs" / name).read_text(encoding="utf-8")
    assert written == dictionary.pages()[name], "run `make docs`"


def test_links_of_the_data_dictionary_lead_to_metrics() -> None:
    anchors = set(re.findall(r"^### (\w+)$", dictionary.metrics_page(), re.MULTILINE))
    assert set(re.findall(r"metrics\.md#(\w+)", dictionary.data_dictionary())) <= anchors


# -- the command


def cai(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["metrics", *arguments])
    return result.exit_code, result.output


def test_the_command_lists_every_metric() -> None:
    code, output = cai()
    assert code == 0
    assert [line.split()[0] for line in output.splitlines() if line[:1].strip()][1:-1] == list(METRICS)
    assert f"{len(METRICS)} metrics" in output


def test_the_command_explains_one() -> None:
    code, output = cai("containment_rate")
    one = METRICS["containment_rate"]
    assert code == 0
    for text in (
        one.title,
        one.definition,
        "contained / bot_conversations",
        one.sql,
        "per report_date, channel",
    ):
        assert text in output


def test_the_command_explains_a_column() -> None:
    assert cai("marts.language.cached") == cai("translated_cached")
    assert cai("language/cached") == cai("translated_cached")


def test_the_command_speaks_to_programs() -> None:
    listed = json.loads(cai("--json")[1])
    assert [one["name"] for one in listed] == list(METRICS)
    one = json.loads(cai("waits", "--json")[1])
    assert one == next(listed_one for listed_one in listed if listed_one["name"] == "waits")
    assert one["stands_in"][0] == {
        "table": "marts.volume",
        "column": "waits",
        "metric": "waits",
        "per": ["report_date", "channel", "language"],
    }
    assert {place["table"] for place in one["stands_in"]} == {
        "marts.volume",
        "marts.heatmap",
        "marts.handling",
    }


def test_the_command_searches_titles_definitions_and_columns() -> None:
    names = [one["name"] for one in json.loads(cai("--search", "LAG median", "--json")[1])]
    assert names == ["translation_lag_p50_s"]
    code, output = cai("--search", "no such words")
    assert (code, "no metric speaks of 'no such words'" in output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["containmnt_rate"], "did you mean containment_rate"),
        (["marts.volume.wait"], "did you mean waits"),
        (["qqqqqq"], "`cai metrics` lists them"),
        (["waits", "--search", "x"], "not both"),
    ],
)
def test_wrong_names_end_with_2_and_a_way_on(arguments: list[str], message: str) -> None:
    code, output = cai(*arguments)
    assert code == 2
    assert message in output
    assert Path.cwd().joinpath(".cai").exists() is False
