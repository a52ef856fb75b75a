"""The graph is the one of the design: keys, groups, arrows, partitions, and no secret in its resources."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from cai_assets.definitions import build_definitions
from cai_assets.partitions import DAILY
from cai_assets.settings import Settings

LAYERS = {
    "nocodb": {"conversations", "messages"},
    "raw": {"conversations", "messages"},
    "documents": {"conversations", "messages"},
    "enrichment": {"languages", "translations", "categories"},
    "lake": {"conversations", "messages", "translations", "categories", "llm_calls"},
    "settings": {"business_day"},
    "facts": {
        *("stg_messages", "fct_conversation", "fct_status_event", "fct_wait", "fct_response"),
        *("fct_traffic", "fct_llm_call", "user_day", "fct_term"),
    },
    "marts": {
        *(
            "volume",
            "response",
            "response_histogram",
            "resolution",
            "containment",
            "language",
            "category",
            "cost",
            "user",
        ),
        *("agent", "csat", "session", "active_users", "retention"),
        *("local_hour", "heatmap", "funnel", "handling", "terms"),
        *("topic", "topic_conversation", "topic_week"),
    },
    "reports": {
        *("analytics_reports", "user_analytics", "daily_report", "dashboard", "exports", "plain_parquet"),
    },
}
DAILY_LAYERS = {"raw", "documents", "enrichment", "lake", "facts"}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(Settings(_env_file=None))


def test_the_layers_hold_exactly_these_assets(definitions: dg.Definitions) -> None:
    found: dict[str, set[str]] = {}
    for key in definitions.resolve_asset_graph().get_all_asset_keys():
        layer, name = key.path
        found.setdefault(layer, set()).add(name)
    assert found == LAYERS


def test_every_asset_says_what_it_is(definitions: dg.Definitions) -> None:
    for spec in definitions.resolve_all_asset_specs():
        assert spec.group_name == spec.key.path[0], spec.key
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key
        if spec.key.path[0] not in {"nocodb", "reports"}:
            columns = spec.metadata["dagster/column_schema"].columns
            assert columns, spec.key
            assert all(column.description for column in columns), spec.key


def test_daily_layers_are_partitioned_and_their_arrows_are_the_identity(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        daily = key.path[0] in DAILY_LAYERS or key.path[-1] == "daily_report"
        assert (node.partitions_def == DAILY) is daily, key
        if not daily:
            continue
        for parent in node.parent_keys:
            if graph.get(parent).partitions_def is not None:
                mapping = graph.get_partition_mapping(key, parent)
                assert isinstance(mapping, dg.TimeWindowPartitionMapping), (key, parent)
                assert (mapping.start_offset, mapping.end_offset) == (0, 0), (key, parent)


def test_sql_models_depend_on_the_tables_their_text_names(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    parents = graph.get(dg.AssetKey(["facts", "fct_wait"])).parent_keys
    assert dg.AssetKey(["facts", "stg_messages"]) in parents
    lineage = graph.get(dg.AssetKey(["facts", "fct_wait"])).metadata["dagster/column_lineage"]
    assert lineage.deps_by_column["user_id"]


def test_every_table_from_the_lake_on_has_a_blocking_check_of_its_schema(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    checked = {key.asset_key for key in graph.asset_check_keys if key.name == "schema_holds"}
    tables = {key for key in graph.materializable_asset_keys if key.path[0] in {"lake", "facts", "marts"}}
    assert checked == tables
    only_warn = {key.name for key in graph.asset_check_keys if not graph.get(key).blocking}
    assert only_warn == {
        *("few_rows_are_quarantined", "messages_have_their_conversation"),
        *("enough_is_translated", "enough_is_categorised", "budget_suffices"),
    }


def test_what_asks_dify_shares_a_pool(definitions: dg.Definitions) -> None:
    in_pool = {
        asset.key.path[-1]
        for asset in definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition) and asset.is_executable and "dify" in asset.op.pools
    }
    assert in_pool == {"translations", "categories"}


def test_no_secret_is_in_a_resources_configuration() -> None:
    settings = Settings(
        _env_file=None,
        mongodb_uri="mongodb://me:top-secret@db.example/",
        nocodb_api_token="top-secret",
        aws_secret_access_key="top-secret",
    )
    repository = build_definitions(settings).get_repository_def()
    for name, resource in repository.get_top_level_resources().items():
        shown = f"{resource.description} {resource.config_schema.as_field().__dict__}"
        assert "top-secret" not in shown, name


def test_the_code_location_loads_in_a_fresh_interpreter_without_settings_or_network() -> None:
    code = (
        "import socket, sys, json\n"
        "def refuse(*_): raise AssertionError('the network was used at import')\n"
        "socket.socket.connect = refuse\n"
        "from cai_assets.definitions import defs\n"
        "defs.get_repository_def()\n"
        "keys = defs.resolve_asset_graph().materializable_asset_keys\n"
        "print(json.dumps([len(keys), 'pandas' in sys.modules or 'sklearn' in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [49, False]
    assert done.stderr == "", "no warning at start"


def test_every_asset_has_tags_and_what_code_makes_refers_to_it(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.tags["cai/grain"] == ("day" if node.is_partitioned else "all_days"), key
        assert node.tags["cai/holds"] in {"originals", "texts", "ids", "numbers"}, key
        if node.is_materializable:
            places = node.metadata["dagster/code_references"].code_references
            assert all(Path(place.file_path).is_file() for place in places), key
            kinds = {Path(place.file_path).suffix for place in places}
            assert kinds == ({".py", ".sql"} if "dagster/kind/sql" in node.tags else {".py"}), key
