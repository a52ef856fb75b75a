"""Real conversations through the sandbox's NocoDB, the whole graph, and out of the Parquet it wrote.

The true values were computed independently of this project (`shared/reference/golden_metrics.json`).
"""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import duckdb
import pytest

from cai_assets.domain.redaction import redactor_of
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.conftest import shared_data, shared_path
from cai_assets_tests.fixtures.platform import TABLES_ALONE, Platform, PlatformFactory

DAYS = {"star": ("2020-05-12", "2020-05-27"), "bcontrast": ("2024-01-01", "2024-06-30")}

GOLDEN = """
with conversations as (select * from conversation_files), waits as (select * from wait_files),
durations as (
    select 'frt' as name, first_response_s as s from conversations
    union all select 'human_frt', first_human_response_s from conversations
    union all select 'handoff', human_response_after_handoff_s from conversations
    union all select 'reply', reply_s from waits
    union all select 'resolution', resolution_last_s from conversations
),
figures as (
    select name || '_n' as name, count(s)::double as figure from durations group by name
    union all select name || '_p50', quantile_cont(s, 0.5) from durations group by name
    union all select name || '_p90', quantile_cont(s, 0.9) from durations group by name
    union all select name || '_avg', avg(s) from durations group by name
    union all select 'conversations', count(*) from conversations
    union all select 'empty_conversations', count(*) filter (is_empty) from conversations
    union all select 'bot_only', count(*) filter (bot_only) from conversations
    union all select 'contained', count(*) filter (contained) from conversations
    union all select 'unanswered', count(*) filter (unanswered) from conversations
    union all select 'waits_unanswered', count(*) filter (replied_at_us is null) from waits
    union all select 'conversation_days', sum(conversations_active) from traffic_files
    union all
    select 'active_days', count(distinct local_date)
    from traffic_files where user_messages + bot_messages + agent_messages > 0
)
select name, figure from figures
"""


@pytest.fixture
def real(request: pytest.FixtureRequest, make_platform: PlatformFactory) -> Iterator[Platform]:
    with SandboxProcess.start(shared_data(request.param)) as sandbox:
        yield make_platform(sandbox)


# The models give star's values in `test_golden_metrics.py` too; the whole way of it takes minutes.
@pytest.mark.parametrize("real", [pytest.param("star", marks=pytest.mark.soak), "bcontrast"], indirect=True)
def test_the_parquet_holds_the_true_values(real: Platform, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["real"]
    result = real.run(*DAYS[name], select=TABLES_ALONE)
    failed = [
        e
        for e in result.get_asset_check_evaluations()
        if not e.passed and e.severity == dg.AssetCheckSeverity.ERROR
    ]
    assert failed == []
    expected: dict[str, Any] = json.loads(shared_path("reference", "golden_metrics.json").read_text())[name]
    found = golden_figures(real)
    missing = expected.keys() - found.keys()
    assert not missing
    for key, value in expected.items():
        if isinstance(value, int):
            assert found[key] == value, key
        else:
            assert found[key] == pytest.approx(value, abs=1e-3), key


def golden_figures(platform: Platform) -> dict[str, float]:
    """The reference's figures, read with nothing but DuckDB from the files that count."""
    with duckdb.connect() as connection:
        for view, table in (
            ("conversation_files", "fct_conversation"),
            ("wait_files", "fct_wait"),
            ("traffic_files", "fct_traffic"),
        ):
            files = platform.lake_table("facts", table).files()
            paths = ", ".join(f"'{file}'" for file in files)
            connection.execute(f"create view {view} as select * from read_parquet([{paths}])")
        return dict(connection.execute(GOLDEN).fetchall())


@pytest.mark.parametrize("real", ["bcontrast"], indirect=True)
def test_every_german_message_is_translated_by_the_human_translation(real: Platform) -> None:
    real.run("2024-01-01", "2024-01-14", select=TABLES_ALONE)
    translations = real.table("lake", "translations").to_pylist()
    assert translations
    assert {row["status"] for row in translations} == {"ok"}
    gold_file = shared_data("bcontrast") / "translations_gold.parquet"
    with duckdb.connect() as connection:
        gold = set(
            connection.execute(
                "select source_text, target_text from read_parquet(?) where target_language = 'en'",
                [str(gold_file)],
            ).fetchall()
        )
    # Both sides without phone numbers and the like: Dify was sent masked texts, and the lake holds such.
    mask = redactor_of(real.settings).text
    gold = {(mask(source), mask(target)) for source, target in gold}
    messages = {row["message_id"]: row["text"] for row in real.table("lake", "messages").to_pylist()}
    untrue = [row for row in translations if (messages[row["message_id"]], row["text"]) not in gold]
    assert untrue == []
