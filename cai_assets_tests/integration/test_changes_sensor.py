"""The sensor nocodb_changes and the sweep: what is asked for, once, and never for nothing."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets import automation
from cai_assets.conditions import ALL_DAYS
from cai_assets.resources.changes import Cursor
from cai_assets.resources.dirty_days import DirtyDays
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.schemas.tables import TABLES
from cai_assets_tests.fixtures.platform import LEDGER, RANGE_END, RANGE_START, Platform, PlatformFactory
from cai_assets_tests.fixtures.sandbox import write_small_folder
from cai_assets_tests.following import Following
from cai_assets_tests.histories import DOINGS, START, Writer

UNTIL_DOCUMENTS = "key:raw/* or key:documents/*"
FIRST, SECOND, THIRD, FOURTH, FIFTH = ((START + timedelta(days=n)).date().isoformat() for n in range(5))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    folder = write_small_folder(tmp_path_factory.mktemp("followed"), conversations=3)
    with SandboxProcess.start(folder) as running:
        yield running


@pytest.fixture
def writer(sandbox: SandboxProcess) -> Writer:
    """Two conversations on each of the first, third and fourth day, a message in each."""
    made = Writer.to(sandbox, random.Random(1))
    made.clear()
    for day in (FIRST, THIRD, FOURTH):
        for number in (1, 2):
            made.insert("conversations", talk(f"{day}-{number}", day))
            made.insert("messages", text(f"{day}-{number}-m", f"{day}-{number}"))
    return made


def talk(key: str, day: str) -> dict[str, object]:
    started_at = f"{day} 10:00:00+00:00"
    return {"conversation_id": key, "user_id": "u", "status": "open", "started_at": started_at}


def text(key: str, owner: str, words: str = "Hello there") -> dict[str, object]:
    row = {"message_id": key, "conversation_id": owner, "sender_type": "user", "text": words}
    return {**row, "created_at": f"{FIRST} 10:00:01+00:00"}


def of(writer: Writer, table: str, key: str) -> int:
    name = "conversation_id" if table == "conversations" else "message_id"
    return next(row["Id"] for row in writer.rows(table) if row[name] == key)


@pytest.fixture
def following(make_platform: PlatformFactory, sandbox: SandboxProcess, writer: Writer) -> Following:
    return Following(fast(make_platform, sandbox), select=UNTIL_DOCUMENTS)


def fast(make_platform: PlatformFactory, sandbox: SandboxProcess) -> Platform:
    return make_platform(sandbox, nocodb_max_requests_per_second=10_000)


def texts(platform: Platform) -> dict[str, tuple[str, str]]:
    with platform.mongo() as store:
        found = store.collection("messages").find({"deleted_at": None})
        return {one["_id"]: (one["partition"], one["text"]) for one in found}


def test_the_first_tick_has_all_swept_and_then_contiguous_days_are_one_run_each(following: Following) -> None:
    assert [one.job_name for one in following.tick()] == ["sweep_source"]
    assert following.dirty() == {day: {"new": 4} for day in (FIRST, THIRD, FOURTH)}
    following.tick()
    assert following.days == [(FIRST, FIRST), (THIRD, FOURTH)]
    assert following.dirty() == {}
    assert len(texts(following.platform)) == 6


def test_nothing_is_asked_for_when_nothing_changed(following: Following) -> None:
    following.until_quiet()
    result = following.evaluate()
    assert not result.run_requests
    assert "every day is up to date" in str(result.skip_reason)


def test_each_kind_of_change_dirties_the_days_it_concerns_and_no_other(
    following: Following, writer: Writer
) -> None:
    following.until_quiet()
    moved = of(writer, "conversations", f"{THIRD}-1")
    changes = {
        "new": lambda: writer.insert("conversations", talk("n", FIFTH)),
        "edited": lambda: writer.edit(
            "messages", {"Id": of(writer, "messages", f"{FIRST}-1-m"), "text": "!"}
        ),
        "late": lambda: writer.insert("messages", text("late", f"{FOURTH}-2")),
        "moved": lambda: writer.edit("conversations", {"Id": moved, "started_at": f"{SECOND} 09:00:00"}),
        "handed over": lambda: writer.edit(
            "messages", {"Id": of(writer, "messages", f"{FOURTH}-1-m"), "conversation_id": f"{FIRST}-2"}
        ),
    }
    days = {
        "new": [(FIFTH, FIFTH)],
        "edited": [(FIRST, FIRST)],
        "late": [(FOURTH, FOURTH)],
        "moved": [(SECOND, THIRD)],
        "handed over": [(FIRST, FIRST), (FOURTH, FOURTH)],
    }
    for name, change in changes.items():
        following.days.clear()
        change()
        following.until_quiet()
        assert following.days == days[name], name
        assert following.dirty() == {}
    assert texts(following.platform)[f"{FOURTH}-1-m"] == (FIRST, "Hello there")
    assert texts(following.platform)[f"{THIRD}-1-m"] == (SECOND, "Hello there")


def test_the_sweep_finds_deletions_and_edits_behind_the_servers_back(
    following: Following, writer: Writer
) -> None:
    following.until_quiet()
    following.days.clear()
    writer.delete("conversations", of(writer, "conversations", f"{THIRD}-1"))
    writer.delete("messages", of(writer, "messages", f"{FIRST}-1-m"))
    assert following.tick() == []  # a deletion shows nowhere
    following.run(dg.RunRequest(job_name="sweep_source"))
    assert following.dirty() == {FIRST: {"deleted": 1}, THIRD: {"deleted": 2}}
    following.until_quiet()
    assert following.days == [(FIRST, FIRST), (THIRD, THIRD)]
    assert set(texts(following.platform)) == {
        f"{FIRST}-2-m",
        f"{THIRD}-2-m",
        f"{FOURTH}-1-m",
        f"{FOURTH}-2-m",
    }
    with following.platform.mongo() as store:
        (orphan,) = store.collection("without_day").find()
    assert (orphan["conversation_id"], "orphan" in orphan["reason"]) == (f"{THIRD}-1", True)


def test_a_message_before_its_conversation_is_kept_counted_and_adopted(
    following: Following, writer: Writer
) -> None:
    following.until_quiet()
    following.days.clear()
    writer.insert("messages", text("early", "to come", "I was first"))
    assert following.tick() == []
    with following.platform.mongo() as store:
        assert [one["source_id"] for one in store.collection("without_day").find()] == [
            of(writer, "messages", "early")
        ]
    writer.insert("conversations", talk("to come", FIFTH))
    following.until_quiet()
    assert following.days == [(FIFTH, FIFTH)]
    assert texts(following.platform)["early"] == (FIFTH, "I was first")
    with following.platform.mongo() as store:
        assert store.collection("without_day").count_documents({}) == 0


def test_a_failed_run_leaves_its_day_dirty_and_is_tried_again_under_another_key(
    following: Following, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    following.until_quiet()
    writer.insert("messages", text("late", f"{FIRST}-1"))
    first = following.evaluate()
    (request,) = first.run_requests or []
    following.cursor = first.cursor  # as after a run that failed: nothing was refreshed
    assert following.dirty() == {FIRST: {"new": 1}}
    assert not following.evaluate().run_requests, "not before a pause"
    later = datetime.now(UTC) + timedelta(minutes=6)
    monkeypatch.setattr(automation, "utc_now", lambda: later)
    (again,) = following.evaluate().run_requests or []
    assert again.run_key != request.run_key
    assert again.tags == request.tags
    following.run(again)
    assert following.dirty() == {}


def test_a_change_while_a_run_reads_outlives_the_run(following: Following, writer: Writer) -> None:
    following.until_quiet()
    with following.platform.mongo() as store:
        marks = DirtyDays(store)
        writer.insert("messages", text("one", f"{FIRST}-1"))
        following.cursor = following.evaluate().cursor
        standing = marks.reading([FIRST])
        marks.read("conversations", standing, run_id="run")
        marks.read("messages", standing, run_id="run")
        writer.insert("messages", text("two", f"{FIRST}-1"))
        following.cursor = following.evaluate().cursor
        assert marks.arrived("conversations", [FIRST], run_id="run") == []
        assert marks.arrived("messages", [FIRST], run_id="run") == []
        assert [one.day for one in marks.all()] == [FIRST]


def test_documents_from_the_raw_rows_of_another_run_clear_no_mark(
    following: Following, writer: Writer
) -> None:
    following.until_quiet()
    writer.insert("messages", text("one", f"{FIRST}-1"))
    following.cursor = following.evaluate().cursor
    following.platform.run(FIRST, select="key:documents/*")
    assert list(following.dirty()) == [FIRST]
    following.platform.run(FIRST, select=UNTIL_DOCUMENTS)
    assert following.dirty() == {}


def test_days_of_a_run_under_way_are_not_asked_for(following: Following, writer: Writer) -> None:
    following.until_quiet()
    writer.insert(
        "messages", text("one", f"{FIRST}-1"), text("two", f"{THIRD}-1"), text("three", f"{FOURTH}-1")
    )
    job = following.platform.definitions.resolve_job_def("refresh_days")
    run = following.platform.instance.create_run_for_job(
        job, tags={RANGE_START: THIRD, RANGE_END: FOURTH}, status=dg.DagsterRunStatus.STARTED
    )
    asked = following.evaluate().run_requests or []
    assert [(one.tags[RANGE_START], one.tags[RANGE_END]) for one in asked] == [(FIRST, FIRST)]
    following.platform.instance.delete_run(run.run_id)
    asked = following.evaluate().run_requests or []
    assert [(one.tags[RANGE_START], one.tags[RANGE_END]) for one in asked] == [(THIRD, FOURTH)]


def test_no_day_is_replaced_while_a_run_reads_all_of_them(following: Following, writer: Writer) -> None:
    following.until_quiet()
    writer.insert("messages", text("one", f"{FIRST}-1"))
    instance, definitions = following.platform.instance, following.platform.definitions
    run = instance.create_run_for_job(
        definitions.resolve_implicit_global_asset_job_def(), tags=ALL_DAYS, status=dg.DagsterRunStatus.STARTED
    )
    assert not following.evaluate().run_requests
    assert list(following.dirty()) == [FIRST], "it is marked meanwhile"
    instance.report_run_canceled(run)
    (asked,) = following.evaluate().run_requests or []
    assert asked.tags[RANGE_START] == FIRST


def test_a_tick_that_is_killed_before_its_cursor_is_saved_loses_and_repeats_nothing(
    following: Following, writer: Writer
) -> None:
    following.until_quiet()
    writer.insert("messages", text("one", f"{FIRST}-1"))
    lost = following.evaluate()  # marks and asks, and is never heard of
    assert lost.run_requests
    following.days.clear()
    with following.platform.mongo() as store:
        first = DirtyDays(store).all()
        following.evaluate()
        assert [one.mark for one in DirtyDays(store).all()] == [one.mark for one in first]


def test_a_tick_out_of_time_goes_on_where_it_stopped(
    following: Following, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    following.until_quiet()
    writer.insert("messages", *(text(f"m{n}", f"{FIRST}-1") for n in range(1500)))
    monkeypatch.setattr(automation, "TICK_SECONDS", 0.0)
    cursors = []
    for _ in range(10):
        following.cursor = following.evaluate().cursor
        cursors.append(Cursor.model_validate_json(following.cursor or ""))
        if cursors[-1].begun is None:
            break
    assert len(cursors) >= 2
    assert {one.begun for one in cursors[:-1]} == {cursors[0].begun}, "one round has one beginning"
    assert [one.after_id for one in cursors[:-1]] == sorted(one.after_id for one in cursors[:-1])
    assert following.dirty()[FIRST]["new"] > 0


def test_a_cursor_that_cannot_be_read_says_what_to_do(following: Following) -> None:
    following.cursor = "no cursor"
    with pytest.raises(Exception, match="reset it in the UI"):
        following.evaluate()


def test_days_before_the_first_partition_and_after_today_are_never_asked_for(
    following: Following, writer: Writer
) -> None:
    following.until_quiet()
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    writer.insert("conversations", talk("old", "2001-01-01"), talk("to come", tomorrow))
    assert following.tick() == []
    assert following.dirty() == {tomorrow: {"new": 1}}, "it waits for its day"


MARTS = {path for path in TABLES if path[0] == "marts"}


def follow(doings: list[str], seed: int, make_platform: PlatformFactory, sandbox: SandboxProcess) -> None:
    writer = Writer.to(sandbox, random.Random(seed))
    writer.clear()
    writer.fill(conversations=6, messages=25)
    incremental = Following(fast(make_platform, sandbox))
    incremental.until_quiet()
    for number, doing in enumerate(doings):
        writer.act(doing)
        if number == len(doings) // 2:
            incremental.tick()
    incremental.run(dg.RunRequest(job_name="sweep_source"))
    incremental.until_quiet()
    rebuilt = Following(fast(make_platform, sandbox))
    rebuilt.until_quiet()
    ours, theirs = (one.platform.values(but=LEDGER | MARTS) for one in (incremental, rebuilt))
    assert ours == theirs


some_doings = st.lists(st.sampled_from(sorted(set(DOINGS))), min_size=3, max_size=10)
patient = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.function_scoped_fixture]}


@given(doings=some_doings, seed=st.integers(0, 99))
@hypothesis.settings(max_examples=1, **patient)
def test_facts_after_changes_equal_a_rebuild(
    doings: list[str], seed: int, make_platform: PlatformFactory, sandbox: SandboxProcess
) -> None:
    follow(doings, seed, make_platform, sandbox)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(doings=some_doings, seed=st.integers(0, 99))
@hypothesis.settings(max_examples=20, **patient)
def test_facts_after_changes_equal_a_rebuild_in_twenty_histories(
    doings: list[str], seed: int, make_platform: PlatformFactory, sandbox: SandboxProcess
) -> None:
    follow(doings, seed, make_platform, sandbox)
