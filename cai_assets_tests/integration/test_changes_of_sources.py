"""What each source tells of its changes: the same interface, each guard against silent loss."""

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cai_assets.resources.nocodb import NocoDBSource
from cai_assets.resources.source import CONVERSATIONS, MESSAGES, SourceError, SourceGuardError
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.platform import PlatformFactory
from cai_assets_tests.fixtures.sources import BendingProxy, Exchange, nocodb_settings
from cai_assets_tests.following import Following
from cai_assets_tests.histories import Writer

DAY = "2025-03-28"
UNTIL_DOCUMENTS = "key:raw/* or key:documents/*"


@pytest.fixture(scope="module")
def sandbox(many_folder: Path) -> Iterator[SandboxProcess]:
    with SandboxProcess.start(many_folder) as running:
        yield running


def opened(sandbox: SandboxProcess, page_rows: int = 50, **changes: Any) -> closing[NocoDBSource]:
    settings = nocodb_settings(sandbox, nocodb_max_requests_per_second=10_000, **changes)
    return closing(NocoDBSource(settings, page_rows=page_rows, blocked_seconds=0.01))


def test_rows_written_since_an_instant_come_in_pages_by_their_numbers(sandbox: SandboxProcess) -> None:
    with opened(sandbox) as source:
        pages = list(source.changes(MESSAGES, datetime(2000, 1, 1, tzinfo=UTC), 0))
        ids = [row.id for page in pages for row in page.rows]
        assert ids == sorted(ids)
        assert len(ids) == len(set(ids)) == 720
        assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
        behind = list(source.changes(MESSAGES, datetime(2000, 1, 1, tzinfo=UTC), ids[-3]))
        assert [row.id for page in behind for row in page.rows] == ids[-2:]
        assert [page.rows for page in source.changes(MESSAGES, datetime.now(UTC) + timedelta(days=1), 0)] == [
            []
        ]


def test_the_sources_time_is_the_servers(sandbox: SandboxProcess) -> None:
    with opened(sandbox) as source:
        assert abs(source.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_filter_that_is_ignored_is_noticed(
    sandbox: SandboxProcess, through: Callable[[str], BendingProxy]
) -> None:
    proxy = through(sandbox.base_url)

    def lacking_where(exchange: Exchange) -> None:
        if "where" in exchange.query:
            del exchange.query["where"]

    proxy.before = lacking_where
    with opened(sandbox, page_rows=1000, nocodb_base_url=proxy.base_url) as source:
        source.now()
        with pytest.raises(SourceGuardError, match="did not apply the filter on UpdatedAt and CreatedAt"):
            list(source.changes(MESSAGES, datetime.now(UTC) + timedelta(days=1), 0))
        with pytest.raises(SourceGuardError, match="did not apply the filter on 'Id'"):
            list(source.rows_by_number(MESSAGES, [1, 2]))


def test_a_table_without_system_times_says_what_to_do(
    sandbox: SandboxProcess, through: Callable[[str], BendingProxy]
) -> None:
    proxy = through(sandbox.base_url)

    def lacking_times(exchange: Exchange) -> None:
        if "/meta/tables/" in exchange.path:
            answer = exchange.answer
            answer["columns"] = [c for c in answer["columns"] if c["title"] not in ("CreatedAt", "UpdatedAt")]
            exchange.answer = answer

    proxy.after = lacking_times
    with opened(sandbox, nocodb_base_url=proxy.base_url) as source:
        with pytest.raises(SourceError, match="Restore them in NocoDB"):
            list(source.changes(MESSAGES, datetime.now(UTC), 0))
        assert len(list(source.scan(MESSAGES, ("conversation_id",)))) == 720


def test_all_rows_come_by_windows_with_only_the_columns_asked_for(sandbox: SandboxProcess) -> None:
    with opened(sandbox) as source:
        stream = source.scan(CONVERSATIONS, ("conversation_id", "started_at"))
        rows = list(stream)
        assert len({row.id for row in rows}) == len(rows) == stream.source_rows == 60
        assert {frozenset(row.values) for row in rows} == {frozenset({"conversation_id", "started_at"})}
        some = [rows[3].id, rows[5].id, 10**9]
        assert [row.id for row in source.rows_by_number(CONVERSATIONS, some)] == some[:2]
        found = source.conversations_by_id([str(rows[7].values["conversation_id"]), "nobody"])
        assert [row.id for row in found] == [rows[7].id]


# -- files


def write(folder: Path, talks: int, words: str = "Hello") -> None:
    for name, rows in (
        ("conversations", [conversation(n) for n in range(talks)]),
        ("messages", [message(n, words) for n in range(talks)]),
    ):
        folder.joinpath(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def conversation(number: int) -> dict[str, Any]:
    started_at = f"2025-03-{28 + number % 3} 10:00:00"
    row = {"Id": number + 1, "conversation_id": f"c{number}", "user_id": "u"}
    return {**row, "status": "open", "started_at": started_at}


def message(number: int, words: str) -> dict[str, Any]:
    row = {"Id": number + 1, "message_id": f"m{number}", "conversation_id": f"c{number}"}
    return {**row, "sender_type": "user", "text": words, "created_at": f"2025-03-{28 + number % 3} 10:00:01"}


def test_a_folder_is_followed_by_when_its_files_were_written(
    make_platform: PlatformFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    write(folder, talks=3)
    old = datetime.now(UTC).timestamp() - 3600
    platform = make_platform({"SOURCE": "files", "SOURCE_DIR": str(folder)})
    following = Following(platform, select=UNTIL_DOCUMENTS)
    following.until_quiet()
    assert following.days == [("2025-03-28", "2025-03-30")]
    following.days.clear()
    following.until_quiet()
    assert following.days == []

    write(folder, talks=4, words="Hello again")  # all messages edited, and one conversation more
    following.until_quiet()
    assert following.days == [("2025-03-28", "2025-03-30")]
    with platform.mongo() as store:
        found = {one["_id"]: one["text"] for one in store.collection("messages").find({"deleted_at": None})}
    assert found == {f"m{n}": "Hello again" for n in range(4)}

    following.days.clear()
    write(folder, talks=3, words="Hello again")
    for path in folder.iterdir():
        os.utime(path, (old, old))  # as `cp -p` leaves it
    following.until_quiet()
    following.run(following_sweep())
    following.until_quiet()
    assert following.days == [("2025-03-28", "2025-03-28")], "c3 and m3 went, of the first day"


def following_sweep() -> Any:
    import dagster as dg

    return dg.RunRequest(job_name="sweep_source")


def test_a_writer_that_never_rests_is_followed_all_the_same(
    sandbox: SandboxProcess, make_platform: PlatformFactory
) -> None:
    platform = make_platform(sandbox, nocodb_max_requests_per_second=10_000)
    following = Following(platform, select=UNTIL_DOCUMENTS)
    following.until_quiet()
    writer = Writer.to(sandbox, random.Random(5))
    for _ in range(4):
        writer.insert("messages", writer.new_message("c001"), writer.new_message("c002"))
        assert following.tick()
    following.until_quiet()
    assert following.dirty() == {}
