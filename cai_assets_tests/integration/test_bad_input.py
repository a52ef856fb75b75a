"""What is wrong is said in words that name it and the mend, and what was there before stays."""

import socket
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.platform import Platform, PlatformFactory

DAY = "2025-03-20"
CONVERSATIONS = [
    {
        "conversation_id": "c-1",
        "user_id": "u-1",
        "status": "resolved",
        "started_at": "2025-03-20 09:00:00+00:00",
    },
    {
        "conversation_id": "c-2",
        "user_id": "u-2",
        "status": "on fire",
        "started_at": "2025-03-20 10:00:00+00:00",
    },
]
MESSAGES = [
    {
        "message_id": f"{conversation}-{seq}",
        "conversation_id": conversation,
        "seq": seq,
        "sender_type": sender,
        "text": text,
        "created_at": f"2025-03-20 {hour:02d}:0{seq}:00+00:00",
    }
    for conversation, hour in (("c-1", 9), ("c-2", 10))
    for seq, sender, text in ((1, "user", "Hello, where is my parcel?"), (2, "agent", "It is on its way."))
]


def failure(platform: Platform, **options: Any) -> str:
    """What a run that fails says, from the first failed step."""
    result = platform.run(DAY, raise_on_error=False, **options)
    assert not result.success
    failed = [event for event in result.all_events if event.is_step_failure]
    data = failed[0].step_failure_data
    said = [data.user_failure_data.description if data.user_failure_data else None]
    error = data.error
    while error is not None:
        said.append(error.message)
        error = error.cause
    return "\n".join(filter(None, said))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def no_step_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that may be tried again is, half a minute later; here at once is enough."""
    monkeypatch.setattr("cai_assets.io_managers.failing.STEP_RETRIES", 0)


@pytest.mark.usefixtures("no_step_retries")
def test_an_unreachable_nocodb_is_named(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess, free_port: int
) -> None:
    platform = make_platform(six_days_sandbox, nocodb_base_url=f"http://127.0.0.1:{free_port}")
    said = failure(platform, select="key:raw/conversations")
    assert f"127.0.0.1:{free_port}" in said
    assert "NOCODB_BASE_URL" in said


def test_a_wrong_token_is_named_and_not_shown(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    platform = make_platform(six_days_sandbox, nocodb_api_token="wrong-and-secret")
    said = failure(platform, select="key:raw/conversations")
    assert "NOCODB_API_TOKEN" in said
    assert "wrong-and-secret" not in said


def test_a_missing_table_is_named_beside_those_that_exist(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    platform = make_platform(six_days_sandbox, nocodb_conversation_table="talks")
    said = failure(platform, select="key:raw/conversations")
    assert "talks" in said
    assert "conversations" in said
    assert "NOCODB_CONVERSATION_TABLE" in said


def test_a_missing_column_is_named_beside_those_that_exist(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    mapped = {"conversations": {"started_at": "Begin"}}
    platform = make_platform(six_days_sandbox, nocodb_field_map=mapped)
    said = failure(platform, select="key:raw/conversations")
    assert "Begin" in said
    assert "started_at" in said
    assert "NOCODB_FIELD_MAP" in said


@pytest.mark.usefixtures("no_step_retries")
def test_an_unreachable_mongodb_is_named_without_its_password(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess, free_port: int
) -> None:
    platform = make_platform(six_days_sandbox)
    platform.run(DAY, select="group:raw")
    lost = make_platform(
        six_days_sandbox,
        mongodb_uri=f"mongodb://someone:very-secret@127.0.0.1:{free_port}/",
        parquet_base_dir=platform.settings.parquet_base_dir,
    )
    result = lost.run(DAY, select="group:documents", raise_on_error=False)
    said = "\n".join(str(event.message) + str(event.event_specific_data) for event in result.all_events)
    assert not result.success
    assert "MONGODB_URI" in said
    assert "very-secret" not in said


@pytest.mark.usefixtures("no_step_retries")
def test_an_unreachable_dify_fails_and_the_answers_come_when_it_is_back(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess, free_port: int
) -> None:
    nowhere = f"http://127.0.0.1:{free_port}/v1"
    platform = make_platform(six_days_sandbox, dify_base_url=nowhere, max_retries=0)
    assert f"127.0.0.1:{free_port}" in failure(platform)
    back = make_platform(
        six_days_sandbox,
        mongodb_database=platform.settings.mongodb_database,
        parquet_base_dir=platform.settings.parquet_base_dir,
    )
    back.run(DAY)
    statuses = set(back.table("lake", "translations")["status"].to_pylist())
    assert statuses == {"ok"}


@pytest.fixture
def malformed(tmp_path: Path) -> dict[str, str]:
    """A folder whose second conversation has a status that there is not."""
    folder = tmp_path / "malformed"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(CONVERSATIONS), folder / "conversations.parquet")
    pq.write_table(pa.Table.from_pylist(MESSAGES), folder / "messages.parquet")
    return {"source": "files", "source_dir": str(folder)}


def test_a_malformed_row_waits_in_quarantine_with_the_reason_and_heals(
    make_platform: PlatformFactory, malformed: dict[str, str]
) -> None:
    platform = make_platform(malformed)
    result = platform.run(DAY)
    errors = [e for e in result.get_asset_check_evaluations() if e.severity == dg.AssetCheckSeverity.ERROR]
    assert errors
    assert all(e.passed for e in errors)
    assert platform.table("lake", "conversations")["conversation_id"].to_pylist() == ["c-1"]
    assert platform.table("lake", "messages").num_rows == 2
    with platform.mongo() as mongo:
        waiting = list(mongo.collection("quarantine").find())
    reasons = {document["table"]: document["reason"] for document in waiting}
    assert len(waiting) == 3
    assert "status" in reasons["conversations"]
    assert "on fire" in next(d["row"] for d in waiting if d["table"] == "conversations")
    assert "c-2" in reasons["messages"]

    mended = [CONVERSATIONS[0], {**CONVERSATIONS[1], "status": "open"}]
    pq.write_table(pa.Table.from_pylist(mended), Path(malformed["source_dir"], "conversations.parquet"))
    platform.run(DAY)
    with platform.mongo() as mongo:
        assert mongo.collection("quarantine").count_documents({}) == 0
    assert platform.table("facts", "fct_conversation").num_rows == 2
    assert platform.table("lake", "messages").num_rows == 4


def test_user_ids_need_a_key_before_they_leave_mongodb(
    make_platform: PlatformFactory, malformed: dict[str, str]
) -> None:
    platform = make_platform(malformed, pseudonym_key=None)
    assert "PSEUDONYM_KEY" in failure(platform)


def test_without_dify_keys_translations_are_skipped_and_the_coverage_shows_it(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    platform = make_platform(six_days_sandbox, dify_translation_api_key=None, dify_category_api_key=None)
    platform.run(DAY)
    language = platform.table("marts", "language").to_pylist()
    needing = sum(row["needing_translation"] for row in language)
    assert needing > 0
    assert sum(row["skipped"] for row in language) == needing
    assert set(platform.table("lake", "categories")["source"].to_pylist()) == {"rule"}
