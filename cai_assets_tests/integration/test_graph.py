"""The whole graph over real connections: nothing is lost, nothing depends on how often or in which order."""

import random

import pytest

from cai_assets.partitions import days_between
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.lake import ACCESS_KEY, SECRET_KEY, S3Server
from cai_assets_tests.fixtures.platform import (
    LEDGER,
    SAMPLE,
    SAMPLE_DAYS,
    TABLES_ALONE,
    Platform,
    PlatformFactory,
)

SPREAD = {"enable_multithreading": True, "max_workers": 2}


@pytest.fixture
def platform(make_platform: PlatformFactory, six_days_sandbox: SandboxProcess) -> Platform:
    return make_platform(six_days_sandbox)


def test_a_range_goes_through_every_layer_in_one_run(platform: Platform) -> None:
    result = platform.run(*SAMPLE_DAYS)
    evaluations = result.get_asset_check_evaluations()
    assert evaluations
    assert [e for e in evaluations if not e.passed] == []
    assert platform.table("facts", "fct_conversation").num_rows > 0
    with platform.mongo() as mongo:
        assert mongo.collection("analytics_reports").count_documents({}) > 0
        assert (
            mongo.collection("user_analytics").count_documents({}) == platform.table("marts", "user").num_rows
        )


def test_materialising_all_again_changes_nothing(platform: Platform) -> None:
    platform.run(*SAMPLE_DAYS, select=TABLES_ALONE)
    before = platform.values()
    versions = {path: platform.lake_table(*path).version() for path in before if path[0] != "raw"}
    platform.run(*SAMPLE_DAYS, select=TABLES_ALONE)
    assert platform.values() == before
    assert {path: platform.lake_table(*path).version() for path in versions} == versions


def test_days_in_any_order_give_the_same_values(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    at_once, one_by_one = make_platform(six_days_sandbox), make_platform(six_days_sandbox)
    at_once.run(*SAMPLE_DAYS, select=TABLES_ALONE)
    days = days_between(*SAMPLE_DAYS)
    random.Random(11).shuffle(days)
    for day in days:
        one_by_one.run(day, select=TABLES_ALONE)
    assert one_by_one.values(but=LEDGER) == at_once.values(but=LEDGER)


@pytest.mark.soak  # `test_ranges` holds processes to the same bytes, without the graph around them
def test_processes_give_the_values_and_the_versions_that_one_thread_gives(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    platform = make_platform(six_days_sandbox, enable_multithreading=False)
    platform.run(*SAMPLE_DAYS, select=TABLES_ALONE)
    before = platform.values()
    versions = {path: platform.lake_table(*path).version() for path in before if path[0] != "raw"}
    spread = Platform(platform.settings.model_copy(update=SPREAD), platform.instance)
    result = spread.run(*SAMPLE_DAYS, select=TABLES_ALONE)
    assert spread.values() == before
    assert {path: spread.lake_table(*path).version() for path in versions} == versions
    logged = [entry.user_message for entry in platform.instance.all_logs(result.run_id)]
    rows = platform.table("facts", "fct_wait").num_rows
    assert f"facts/fct_wait: 6 of 6 days done, {rows:,} rows (2 processes)" in logged


def test_a_refreshed_day_equals_a_rebuild(make_platform: PlatformFactory) -> None:
    with SandboxProcess.start("sample", sample_options=SAMPLE) as sandbox:
        refreshed = make_platform(sandbox)
        refreshed.run(*SAMPLE_DAYS, select=TABLES_ALONE)
        dirty = change_the_source(sandbox)
        for day in sorted(dirty):
            refreshed.run(day, select=TABLES_ALONE)
        rebuilt = make_platform(sandbox)
        rebuilt.run(*SAMPLE_DAYS, select=TABLES_ALONE)
        assert refreshed.values(but=LEDGER) == rebuilt.values(but=LEDGER)
        live = {"deleted_at": None}
        with refreshed.mongo() as ours, rebuilt.mongo() as theirs:
            for name in ("conversations", "messages"):
                assert ours.collection(name).count_documents(live) == theirs.collection(name).count_documents(
                    live
                )


def change_the_source(sandbox: SandboxProcess) -> set[str]:
    """Edit, delete, add late and move rows through NocoDB's API; the days that must be refreshed."""
    import requests

    variables = sandbox.environment()
    base, headers = variables["NOCODB_BASE_URL"], {"xc-token": variables["NOCODB_API_TOKEN"]}
    conversations = f"{base}/api/v2/tables/{variables['NOCODB_CONVERSATION_TABLE']}/records"
    messages = f"{base}/api/v2/tables/{variables['NOCODB_MESSAGES_TABLE']}/records"

    def rows(url: str, where: str = "") -> list[dict]:
        parameters = {"limit": 1000, "sort": "Id", **({"where": where} if where else {})}
        answer = requests.get(url, params=parameters, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()["list"]

    def send(method: str, url: str, body: list[dict]) -> None:
        requests.request(method, url, json=body, headers=headers, timeout=30).raise_for_status()

    dirty: set[str] = set()
    talks = [row for row in rows(conversations) if row["started_at"][:10] in days_between(*SAMPLE_DAYS)]
    edited, moved, deleted, late, *_ = random.Random(3).sample(talks, 6)

    send("PATCH", conversations, [{"Id": edited["Id"], "status": "resolved", "channel": "phone"}])
    dirty.add(edited["started_at"][:10])

    other_day = next(d for d in days_between(*SAMPLE_DAYS) if d != moved["started_at"][:10])
    send("PATCH", conversations, [{"Id": moved["Id"], "started_at": f"{other_day} 12:00:00+00:00"}])
    dirty |= {moved["started_at"][:10], other_day}

    send("DELETE", conversations, [{"Id": deleted["Id"]}])
    dirty.add(deleted["started_at"][:10])

    send(
        "POST",
        messages,
        [
            {
                "message_id": "late-1",
                "conversation_id": late["conversation_id"],
                "seq": 900,
                "sender_type": "user",
                "sender_id": late["user_id"],
                "text": "Hallo, ich habe noch eine Frage.",
                "language": "de",
                "created_at": "2025-04-02 09:00:00+00:00",
            }
        ],
    )
    dirty.add(late["started_at"][:10])

    written = rows(messages, f"(conversation_id,eq,{late['conversation_id']})")
    if len(written) > 2:
        send("DELETE", messages, [{"Id": written[1]["Id"]}])
        send("PATCH", messages, [{"Id": written[0]["Id"], "text": "changed afterwards"}])
    return dirty


@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_a_document_removed_behind_the_platforms_back_is_noticed(platform: Platform, name: str) -> None:
    platform.run(*SAMPLE_DAYS, select=TABLES_ALONE)
    with platform.mongo() as mongo:
        victim = mongo.collection(name).find_one({"deleted_at": None})
        assert victim is not None
        mongo.collection(name).delete_one({"_id": victim["_id"]})
    result = platform.check(victim["partition"])
    failed = {(*e.asset_key.path, e.check_name): e.description for e in result if not e.passed}
    assert set(failed) == {
        ("documents", name, "raw_rows_are_all_accounted_for"),
        ("lake", name, "live_documents_equal_lake_rows"),
    }
    assert all(victim["partition"] in (description or "") for description in failed.values())


@pytest.mark.soak
def test_the_lake_may_live_on_s3(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess, s3_server: S3Server
) -> None:
    day, bucket = SAMPLE_DAYS[0], s3_server.bucket()
    on_disk = make_platform(six_days_sandbox)
    on_disk.run(day)
    on_s3 = make_platform(
        six_days_sandbox,
        s3_enabled=True,
        s3_bucket=bucket,
        s3_endpoint_url=s3_server.endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    result = on_s3.run(day)
    assert all(evaluation.passed for evaluation in result.get_asset_check_evaluations())
    assert on_s3.values(but=LEDGER) == on_disk.values(but=LEDGER)
    pages = [m for m in result.get_asset_materialization_events() if m.asset_key.path[-1] == "dashboard"]
    assert str(pages[0].materialization.metadata["page"].value).startswith(f"s3://{bucket}/")
