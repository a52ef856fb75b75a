"""Looking back, merging, vacuuming: what changed is told exactly, and tidying changes no row."""

import json
import threading
from dataclasses import replace as changed
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cai_assets.cli import main
from cai_assets.commands.compact import tidy
from cai_assets.commands.history import look_back
from cai_assets.engines.changes import difference
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.failures import PermanentError
from cai_assets.resources.object_store import LocalStore, ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.storage import LakeTable, Staged
from cai_assets.resources.upkeep import compact, tidy_all
from cai_assets.resources.upkeep import tidy as tidy_table
from cai_assets.schemas import marts
from cai_assets.schemas.base import Column, Table, partition_column
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.lake import EVENTS, days, events

DAYS = days(3)
SALES = Table(
    layer="facts",
    name="sales",
    description="A fact of the tests.",
    columns=(
        partition_column(),
        Column("id", pa.string(), "Key."),
        Column("place", pa.int64(), "Also key.", nullable=True),
        Column("amount", pa.int64(), "Number.", "USD", nullable=True),
        Column("note", pa.string(), "Text.", nullable=True),
    ),
    key=("id", "place"),
)


def sales(*rows: tuple[str, str, int | None, int | None, str | None]) -> pa.Table:
    names = SALES.arrow_schema.names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], SALES.arrow_schema)


# -- history


def test_a_version_tells_rows_added_removed_and_changed_by_measure(lake_store: ObjectStore) -> None:
    table = LakeTable(lake_store, SALES)
    day, other = DAYS[:2]
    table.replace([day], sales((day, "a", 1, 10, "x"), (day, "b", None, 20, None), (day, "c", 1, 5, None)))
    table.replace(
        [other], sales((other, "a", 1, 99, None)), metadata={"run_id": "r2", "asset": "facts/sales"}
    )
    table.replace([day], sales((day, "a", 1, 12, "x"), (day, "b", None, 20, "y"), (day, "d", 1, 7, None)))
    newest, middle, *_ = table.log.changes()
    assert (newest.partitions, middle.partitions) == ((day,), (other,))
    assert middle.properties == {"run_id": "r2", "asset": "facts/sales"}
    engine = DuckDBEngine(prepare=lake_store.duckdb_setup)
    found = difference(
        engine, SALES, table.locations(newest.removed[day]), table.locations(newest.added[day])
    )
    assert (found.before, found.after, found.added, found.removed, found.changed) == (3, 3, 1, 1, 2)
    assert [(one.name, one.rows, one.before, one.after) for one in found.measures] == [
        ("amount", 1, 35, 39),
        ("note", 1, None, None),
    ]


ROWS = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 1)),
    st.tuples(st.none() | st.integers(-5, 5), st.none() | st.sampled_from(["x", ""])),
)


@given(before=ROWS, after=ROWS)
@examples(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_two_states_differ_as_two_dicts_do(
    tmp_path_factory: pytest.TempPathFactory, before: dict[Any, Any], after: dict[Any, Any]
) -> None:
    table = LakeTable(LocalStore(tmp_path_factory.mktemp("lake")), SALES)
    states = []
    for rows in (before, after):
        table.replace(DAYS[:1], sales(*((DAYS[0], *key, *values) for key, values in rows.items())))
        states.append(table.files())
    found = difference(DuckDBEngine(threads=1), SALES, *states)
    both = before.keys() & after.keys()
    assert found.added == len(after.keys() - before.keys())
    assert found.removed == len(before.keys() - after.keys())
    assert found.changed == sum(before[key] != after[key] for key in both)
    measures = {one.name: one.rows for one in found.measures}
    assert measures.get("amount", 0) == sum(before[key][0] != after[key][0] for key in both)
    assert measures.get("note", 0) == sum(before[key][1] != after[key][1] for key in both)


def volume(*rows: tuple[str, int]) -> pa.Table:
    """Rows of the mart of volume by month, with their messages."""
    zeros = {column.name: 0 for column in marts.VOLUME.columns if pa.types.is_integer(column.type)}
    return pa.Table.from_pylist(
        [
            {**zeros, "month": month, "report_date": f"{month}-01", "channel": "web", "language": "en",
             "messages": messages}
            for month, messages in rows
        ],
        schema=pa.schema([f if f.name != "report_date" else f.with_type(pa.string())
                          for f in marts.VOLUME.arrow_schema]),
    ).cast(marts.VOLUME.arrow_schema)  # fmt: skip


@pytest.fixture
def mart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakeTable:
    """A mart of three versions, in a lake that the environment names."""
    monkeypatch.setenv("PARQUET_BASE_DIR", str(tmp_path / "lake"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    table = LakeTable(LocalStore(tmp_path / "lake"), marts.VOLUME)
    table.replace(None, volume(("2024-04", 3), ("2024-05", 4)), metadata={"run_id": "first-run"})
    table.replace(None, volume(("2024-04", 3), ("2024-05", 6)), metadata={"run_id": "second-run"})
    return table


def cai(*arguments: str) -> Any:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def test_cai_history_prints_what_a_correction_changed(mart: LakeTable) -> None:
    listed = json.loads(cai("history", "marts/volume", "--json"))
    assert [(one["version"], one["operation"], one["run_id"]) for one in listed] == [
        (2, "WRITE", "second-run"),
        (1, "WRITE", "first-run"),
        (0, "CREATE TABLE", None),
    ]
    corrected = listed[0]["difference"]
    assert (corrected["added"], corrected["removed"], corrected["changed"]) == (0, 0, 1)
    assert corrected["measures"] == [{"name": "messages", "rows": 1, "before": 4, "after": 6}]
    april = json.loads(cai("history", "marts.volume", "--partition", "2024-04", "--json"))
    assert [(one["version"], one["difference"]["added"]) for one in april] == [(1, 1)]
    shown = cai("history", "marts/volume", "--limit", "1")
    assert "Version 2, by measure:" in shown
    assert "first-ru" not in shown


def test_cai_history_says_when_the_rows_cannot_be_told_any_more(mart: LakeTable) -> None:
    tidy_table(mart, timedelta(0))
    newest = next(one for one in look_back(Settings(), "marts/volume", "2024-05") if one.partitions)
    assert (newest.vacuumed, newest.difference) == (True, None)
    assert "The replaced files were vacuumed" in cai("history", "marts/volume")


def test_a_table_that_is_not_there_is_named_with_one_that_is(mart: LakeTable) -> None:
    done = CliRunner().invoke(main, ["history", "marts/volumes"])
    assert done.exit_code == 2
    assert "there is no table 'marts/volumes'; did you mean marts/volume?" in done.output


# -- merging


def scattered(store: ObjectStore) -> tuple[LakeTable, pa.Table]:
    """A table whose days lie in many small files, and its rows; the table asks for few."""
    small = LakeTable(store, EVENTS, ParquetSpec(file_rows=3))
    data = events(dict.fromkeys(DAYS, 10))
    small.replace(DAYS, data)
    assert len(small.files()) == 12
    return LakeTable(store, EVENTS), data


def test_merging_changes_the_files_and_no_row(lake_store: ObjectStore) -> None:
    table, data = scattered(lake_store)
    done = compact(table)
    assert (done.partitions, done.files_before, done.files_after) == (3, 12, 3)
    assert table.dataset().to_table().equals(data)
    assert next(table.log.changes()).operation == "COMPACT"
    assert compact(table).version is None, "there is nothing to merge any more"


def test_a_day_that_is_replaced_while_it_is_merged_is_left_to_who_replaced_it(
    local_store: LocalStore,
) -> None:
    table, data = scattered(local_store)
    stage = table.stage
    newer = events({DAYS[0]: 4}, mark=1)

    def overtaken(*arguments: Any, **options: Any) -> Staged:
        staged = stage(*arguments, **options)
        LakeTable(local_store, EVENTS).replace(DAYS[:1], newer)
        return staged

    table.stage = overtaken  # type: ignore[method-assign]
    done = compact(table)
    assert done.partitions == 2
    assert table.dataset(DAYS[:1]).to_table().equals(newer)
    assert table.dataset(DAYS[1:]).to_table().equals(data.filter(pa.compute.field("partition") > DAYS[0]))


def test_merging_and_writers_at_the_same_time_lose_nothing(local_store: LocalStore) -> None:
    table, _ = scattered(local_store)
    stop = threading.Event()

    def merge() -> None:
        while not stop.is_set():
            compact(LakeTable(local_store, EVENTS))

    merger = threading.Thread(target=merge)
    merger.start()
    try:
        writer = LakeTable(local_store, EVENTS, ParquetSpec(file_rows=2))
        for mark in range(1, 9):
            writer.replace(DAYS[:1], events({DAYS[0]: 10 + mark}, mark=mark))
            assert table.dataset(DAYS[:1]).to_table().equals(events({DAYS[0]: 10 + mark}, mark=mark))
    finally:
        stop.set()
        merger.join()


# -- vacuum and checkpoints


def test_a_vacuum_keeps_what_counts_and_what_may_still_be_read(lake_store: ObjectStore) -> None:
    table = LakeTable(lake_store, EVENTS)
    table.replace(DAYS, events(dict.fromkeys(DAYS, 5)))
    old = table.select()
    table.replace(DAYS[:1], events({DAYS[0]: 6}, mark=1))
    staged = table.stage(DAYS[1:2], events({DAYS[1]: 7}, mark=2))
    assert table.log.vacuum(timedelta(hours=1)) == []
    assert old.to_table().equals(events(dict.fromkeys(DAYS, 5))), "a reader of the older version goes on"
    table.commit(staged)
    version = table.version()
    removed = table.log.vacuum(timedelta(0))
    assert len(removed) == 2
    assert table.version() != version, "the vacuum is in the log"
    assert table.log.vacuum(timedelta(0)) == []
    data_files = [f.path for f in lake_store.list_files(*EVENTS.path) if "part-" in f.path]
    assert data_files == sorted(file.path for files in table.log.live().values() for file in files)
    assert table.row_counts() == {DAYS[0]: 6, DAYS[1]: 7, DAYS[2]: 5}


def test_a_retention_longer_than_a_week_outlives_a_checkpoint(local_store: LocalStore) -> None:
    """Delta forgets removed files after a week by default, and would then judge them by their own age."""
    table = LakeTable(local_store, EVENTS)
    table.replace(DAYS, events(dict.fromkeys(DAYS, 5)))
    tidy_table(table, timedelta(hours=1000))
    snapshot = table.log.snapshot()
    assert snapshot is not None
    configuration = snapshot.delta.metadata().configuration
    assert configuration["delta.deletedFileRetentionDuration"] == "interval 1000 hours"
    version = table.version()
    tidy_table(table, timedelta(hours=1000))
    assert table.version() == version, "it is said once"


def test_the_log_gets_a_checkpoint_by_itself_and_readers_start_there(lake_store: ObjectStore) -> None:
    table = LakeTable(lake_store, EVENTS)
    for mark in range(21):
        table.replace(DAYS[:1], events({DAYS[0]: 2}, mark=mark))
    log = [file.path for file in lake_store.list_files(*EVENTS.path) if file.path.startswith("_delta_log/")]
    assert any(path.endswith(".checkpoint.parquet") for path in log), log
    assert "_delta_log/_last_checkpoint" in log
    for version in range(5):  # what a clean-up of the log does with old entries
        lake_store.delete(*EVENTS.path, f"_delta_log/{version:020}.json")
    assert table.dataset().to_table().equals(events({DAYS[0]: 2}, mark=20))


def test_a_broken_entry_of_a_killed_writer_is_removed(local_store: LocalStore) -> None:
    table = LakeTable(local_store, EVENTS)
    table.replace(DAYS, events(dict.fromkeys(DAYS, 5)))
    broken = Path(local_store.location(*EVENTS.path, "_delta_log/_commit_0a1b.json.tmp"))
    broken.write_bytes(b"{")
    assert table.log.vacuum(timedelta(hours=1)) == []
    assert table.log.vacuum(timedelta(0)) == ["_delta_log/_commit_0a1b.json.tmp"]
    assert not broken.exists()


def test_tidying_leaves_out_what_was_never_made(lake_store: ObjectStore) -> None:
    made, never = LakeTable(lake_store, EVENTS), LakeTable(lake_store, SALES)
    made.replace(DAYS, [])
    assert [table.title for table, _ in tidy_all([never, made], timedelta(0))] == ["lake.events"]
    assert lake_store.list_files(*SALES.path) == []


def test_cai_compact_says_what_it_did(mart: LakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = json.loads(cai("compact", "--json"))
    assert [one["table"] for one in listed] == ["marts/volume"]
    assert (listed[0]["files"], listed[0]["vacuumed"]) == (2, 0)
    shown = cai("compact", "marts/volume")
    assert "0 files removed that had not counted for 168 hours (LAKE_RETENTION_HOURS)." in shown
    assert [one.table for one in tidy(Settings(), ("marts/volume",))] == ["marts/volume"]


# -- the declaration changes


def test_a_required_column_is_refused_while_older_days_lack_it(lake_store: ObjectStore) -> None:
    LakeTable(lake_store, EVENTS).replace(DAYS, events(dict.fromkeys(DAYS, 2)))
    wider = changed(EVENTS, columns=(*EVENTS.columns, Column("score", pa.int64(), "New.")))
    table = LakeTable(lake_store, wider)
    data = events(dict.fromkeys(DAYS, 2))
    data = data.append_column(wider.arrow_schema.field("score"), pa.array(range(6)))
    with pytest.raises(PermanentError, match=r"score may not be null, but 2 partitions \(2024-05-02 to"):
        table.replace(DAYS[:1], data.slice(0, 2))
    assert LakeTable(lake_store, EVENTS).row_counts() == dict.fromkeys(DAYS, 2)
    table.replace(DAYS, data)
    assert table.dataset().to_table().equals(data)


def test_duckdb_reads_files_that_are_all_older_than_a_column(lake_store: ObjectStore) -> None:
    LakeTable(lake_store, EVENTS).replace(DAYS, events(dict.fromkeys(DAYS, 2)))
    wider = changed(EVENTS, columns=(*EVENTS.columns, Column("score", pa.int64(), "New.", nullable=True)))
    found = LakeTable(lake_store, wider).select()
    engine = DuckDBEngine(prepare=lake_store.duckdb_setup)
    sql = "select count(*) as n, count(score) as scores, max(event_id) as last from lake.events"
    rows = engine.query(sql, {EVENTS.path: found.files}, tables={EVENTS.path: wider}).to_pylist()
    assert rows == [{"n": 6, "scores": 0, "last": f"{DAYS[2]}-000001"}]
    assert found.lazy_frame().collect()["score"].null_count() == 6
