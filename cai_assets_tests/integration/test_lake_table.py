"""A table of the lake is replaced by whole partitions, alike on disk and on S3."""

import copy
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cai_assets.failures import PermanentError
from cai_assets.resources.delta_log import DeltaLog
from cai_assets.resources.object_store import LocalStore, ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.storage import WHOLE, Commit, LakeTable, Staged
from cai_assets.schemas.base import Column, Table
from cai_assets_tests.fixtures.lake import EVENTS, MONTHS, SINGLE, days, events

DAYS = days(4)


def months(totals: dict[str, int]) -> pa.Table:
    """One row a month."""
    return pa.table({"month": list(totals), "total": list(totals.values())}, schema=MONTHS.arrow_schema)


@pytest.fixture
def table(lake_store: ObjectStore) -> LakeTable:
    return LakeTable(lake_store, EVENTS)


def stored_files(store: ObjectStore, table: Table) -> set[str]:
    """Every Parquet file below the table's folder, whether it counts or not."""
    root = store.native_path(store.location(*table.path))
    selector = pa.fs.FileSelector(root, recursive=True, allow_not_found=True)
    return {
        info.path for info in store.filesystem().get_file_info(selector) if info.path.endswith(".parquet")
    }


def test_a_range_is_one_version_and_reads_back_as_written(table: LakeTable) -> None:
    data = events({DAYS[0]: 3, DAYS[1]: 5, DAYS[2]: 1})
    commit = table.replace(DAYS[:3], data, metadata={"run_id": "r1", "asset": "lake/events"})
    assert commit.rows == {DAYS[0]: 3, DAYS[1]: 5, DAYS[2]: 1}
    assert (commit.version, commit.changed, commit.files) == (1, tuple(DAYS[:3]), 3)
    assert table.dataset().to_table().equals(data)
    assert table.row_counts() == commit.rows
    assert table.row_counts(DAYS[1:2]) == {DAYS[1]: 5}
    assert table.dataset(DAYS[1:2]).to_table().equals(events({DAYS[1]: 5}))
    assert table.version() == 1


def test_before_the_first_commit_there_is_nothing_and_no_folder_is_made(table: LakeTable) -> None:
    assert (table.exists(), table.version(), table.files(), table.row_counts()) == (False, None, [], {})
    assert table.missing(DAYS) == DAYS
    assert table.dataset().to_table().equals(EVENTS.arrow_schema.empty_table())
    if isinstance(table.store, LocalStore):
        assert not table.store.base.exists()


def test_replacing_leaves_the_other_partitions_alone(table: LakeTable) -> None:
    table.replace(DAYS, events(dict.fromkeys(DAYS, 3)))
    before = {day: table.files([day]) for day in DAYS}
    commit = table.replace([DAYS[1]], events({DAYS[1]: 7}, mark=1))
    assert commit.changed == (DAYS[1],)
    assert table.row_counts() == {DAYS[0]: 3, DAYS[1]: 7, DAYS[2]: 3, DAYS[3]: 3}
    assert [table.files([day]) == before[day] for day in DAYS] == [True, False, True, True]


def test_writing_the_same_again_commits_nothing_and_leaves_no_file(table: LakeTable) -> None:
    data = events(dict.fromkeys(DAYS, 50))
    first = table.replace(DAYS, data)
    files = stored_files(table.store, EVENTS)
    again = table.replace(DAYS, data.to_reader(max_chunksize=7))
    assert (again.version, again.changed, again.unchanged) == (first.version, (), tuple(DAYS))
    assert again.rows == first.rows
    assert stored_files(table.store, EVENTS) == files


def test_only_the_partitions_that_differ_are_in_the_transaction(table: LakeTable) -> None:
    table.replace(DAYS, events(dict.fromkeys(DAYS, 3)))
    corrected = pa.concat_tables([events({DAYS[0]: 3}), events({DAYS[1]: 4}), events({DAYS[2]: 3})])
    commit = table.replace(DAYS[:3], corrected)
    assert (commit.version, commit.changed, commit.unchanged) == (2, (DAYS[1],), (DAYS[0], DAYS[2]))


def test_a_partition_may_turn_back_to_what_it_was(table: LakeTable) -> None:
    for mark in (0, 1, 0, 1):
        commit = table.replace([DAYS[0]], events({DAYS[0]: 3}, mark=mark))
        assert commit.changed == (DAYS[0],)
        assert table.dataset().to_table().equals(events({DAYS[0]: 3}, mark=mark))


def test_one_changed_file_of_many_is_a_changed_partition(lake_store: ObjectStore) -> None:
    table = LakeTable(lake_store, EVENTS, ParquetSpec(file_rows=10))
    table.replace([DAYS[0]], events({DAYS[0]: 30}))
    longer = events({DAYS[0]: 35})
    commit = table.replace([DAYS[0]], longer)
    assert (commit.files, commit.changed) == (4, (DAYS[0],))
    assert table.dataset().to_table().equals(longer)
    assert table.replace([DAYS[0]], longer).unchanged == (DAYS[0],)


def test_an_empty_partition_is_there_and_empty(table: LakeTable) -> None:
    table.replace(DAYS[:2], events({DAYS[0]: 3, DAYS[1]: 3}))
    commit = table.replace(DAYS[1:3], EVENTS.arrow_schema.empty_table())
    assert commit.rows == {DAYS[1]: 0, DAYS[2]: 0}
    assert table.row_counts() == {DAYS[0]: 3, DAYS[1]: 0, DAYS[2]: 0}
    assert table.missing(DAYS) == [DAYS[3]]
    assert table.dataset(DAYS[1:3]).to_table().num_rows == 0
    assert table.replace(DAYS[1:3], []).unchanged == (DAYS[1], DAYS[2])


def test_rows_of_other_partitions_are_refused_and_the_table_is_as_it_was(table: LakeTable) -> None:
    table.replace(DAYS[:1], events({DAYS[0]: 3}))
    files = stored_files(table.store, EVENTS)
    data = events({DAYS[0]: 9, DAYS[1]: 2, DAYS[2]: 5}, mark=1)
    with pytest.raises(PermanentError, match=rf"lake\.events.*{DAYS[1]} \(2 rows\), {DAYS[2]} \(5 rows\)"):
        table.replace(DAYS[:1], data)
    assert table.dataset().to_table().equals(events({DAYS[0]: 3}))
    assert stored_files(table.store, EVENTS) == files


def test_nulls_and_wrong_types_are_refused_and_leave_nothing(table: LakeTable) -> None:
    data = events({DAYS[0]: 30})
    moment = data.column_names.index("happened_at")
    nulls = pa.nulls(30, EVENTS.by_name["happened_at"].type)
    with pytest.raises(PermanentError, match=r"nulls .* happened_at \(30\)"):
        table.replace([DAYS[0]], data.set_column(moment, "happened_at", nulls))
    with pytest.raises(PermanentError, match=r"column happened_at is int64"):
        table.replace([DAYS[0]], data.set_column(moment, "happened_at", pa.array(range(30))))
    partitions = pa.array([None, *[DAYS[0]] * 29], pa.string())
    with pytest.raises(PermanentError, match=r"nulls .* partition \(1\)"):
        table.replace([DAYS[0]], data.set_column(0, "partition", partitions))
    assert not table.exists()
    assert stored_files(table.store, EVENTS) == set()


def test_a_failing_stream_leaves_the_table_as_it_was(table: LakeTable) -> None:
    table.replace(DAYS[:2], events({DAYS[0]: 3, DAYS[1]: 3}))
    files = stored_files(table.store, EVENTS)

    def broken():
        yield events({DAYS[0]: 5}, mark=1)
        yield events({DAYS[1]: 5}, mark=1)
        raise RuntimeError("the source went away")

    with pytest.raises(RuntimeError, match="the source went away"):
        table.replace(DAYS[:3], broken())
    assert table.dataset().to_table().equals(events({DAYS[0]: 3, DAYS[1]: 3}))
    assert stored_files(table.store, EVENTS) == files


def test_unordered_rows_are_grouped_when_they_are_in_memory(table: LakeTable) -> None:
    data = events({DAYS[0]: 4, DAYS[1]: 4})
    shuffled = data.take(pa.array([4, 0, 5, 1, 6, 2, 7, 3]))
    table.replace(DAYS[:2], shuffled)
    assert table.dataset().to_table().equals(data)


def test_a_table_of_months_is_replaced_whole(lake_store: ObjectStore) -> None:
    table = LakeTable(lake_store, MONTHS)
    table.replace(None, months({"2024-04": 1, "2024-05": 2, "2024-06": 3}))
    kept = table.files(["2024-05"])
    commit = table.replace(None, months({"2024-05": 2, "2024-06": 4, "2024-07": 5}))
    assert (commit.changed, commit.unchanged, commit.removed) == (
        ("2024-06", "2024-07"),
        ("2024-05",),
        ("2024-04",),
    )
    assert table.row_counts() == {"2024-05": 1, "2024-06": 1, "2024-07": 1}
    assert table.files(["2024-05"]) == kept
    assert "/month=2024-06/" in table.files(["2024-06"])[0]
    version = table.version()
    table.replace(None, months({"2024-05": 2, "2024-06": 4, "2024-07": 5}))
    assert table.version() == version
    table.replace(None, [])
    assert (table.exists(), table.files()) == (True, [])


def test_a_table_without_partitions_is_one_part(lake_store: ObjectStore) -> None:
    table = LakeTable(lake_store, SINGLE)
    one = pa.table({"name": ["a"], "total": [1]}, schema=SINGLE.arrow_schema)
    two = pa.table({"name": ["a", "b"], "total": [1, 2]}, schema=SINGLE.arrow_schema)
    assert table.replace(None, one).rows == {WHOLE: 1}
    assert table.replace(None, two).row_count == 2
    assert table.dataset().to_table().equals(two)
    assert table.replace(None, two).unchanged == (WHOLE,)
    assert table.replace(None, []).rows == {WHOLE: 0}
    assert table.dataset().to_table().num_rows == 0
    with pytest.raises(PermanentError, match="has no partitions"):
        table.replace(["2024-05"], two)


def test_the_layout_by_month_holds_the_same_rows(lake_store: ObjectStore) -> None:
    data = events(dict.fromkeys(DAYS, 3))
    by_day, by_month = (
        LakeTable(lake_store, EVENTS, ParquetSpec(layout=layout)) for layout in ("day", "month")
    )
    by_day.replace(DAYS, data)
    commit = by_month.replace(DAYS, data)
    assert commit.changed == tuple(DAYS)
    assert all("/month=2024-05/part-" in file for file in by_month.files())
    assert by_day.dataset().to_table().equals(data)
    by_month.replace([DAYS[1]], events({DAYS[1]: 1}))
    assert by_month.row_counts() == {DAYS[0]: 3, DAYS[1]: 1, DAYS[2]: 3, DAYS[3]: 3}


def test_the_history_keeps_what_the_commit_was_for(table: LakeTable) -> None:
    table.replace([DAYS[0]], events({DAYS[0]: 3}), metadata={"run_id": "r7", "asset": "lake/events"})
    delta = DeltaTable(table.uri, storage_options=table.store.storage_options())
    entry = pa.table(delta.get_add_actions(flatten=True)).to_pylist()[0]
    assert (entry["num_records"], entry["partition.partition"]) == (3, DAYS[0])
    log = table.store.read(*EVENTS.path, "_delta_log/00000000000000000001.json").decode()
    assert '"run_id":"r7"' in log
    assert '"asset":"lake/events"' in log


def test_staged_files_count_only_after_the_commit(table: LakeTable) -> None:
    table.replace(DAYS[:1], events({DAYS[0]: 1}))
    staged = [table.stage([day], events({day: 2}, mark=1)) for day in DAYS]
    assert table.row_counts() == {DAYS[0]: 1}
    commit = table.commit(*staged)
    assert (commit.version, commit.changed) == (2, tuple(DAYS))
    assert table.dataset().to_table().equals(events(dict.fromkeys(DAYS, 2), mark=1))
    with pytest.raises(PermanentError, match=rf"staged twice: \['{DAYS[0]}'\]"):
        table.commit(staged[0], staged[0])


# -- the declaration changes


def test_a_column_that_is_added_is_null_in_older_partitions(table: LakeTable) -> None:
    table.replace([DAYS[0]], events({DAYS[0]: 2}))
    wider = changed(EVENTS, columns=(*EVENTS.columns, Column("score", pa.float64(), "New.", nullable=True)))
    newer = LakeTable(table.store, wider)
    scores = pa.array([0.5, None])
    newer.replace([DAYS[1]], events({DAYS[1]: 2}).append_column("score", scores))
    assert newer.dataset().to_table()["score"].to_pylist() == [None, None, 0.5, None]
    assert newer.files([DAYS[0]]) == table.files([DAYS[0]])
    delta = DeltaTable(table.uri, storage_options=table.store.storage_options())
    assert [field.name for field in delta.schema().fields] == wider.arrow_schema.names


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            (*EVENTS.columns[:2], Column("value", pa.string(), ""), *EVENTS.columns[3:]),
            "value is .*long.*, declared as .*string",
        ),
        (EVENTS.columns[:-1], "labels is there but no longer declared"),
    ],
    ids=["type", "dropped"],
)
def test_other_changes_of_columns_are_refused(
    table: LakeTable, columns: tuple[Column, ...], words: str
) -> None:
    table.replace([DAYS[0]], events({DAYS[0]: 2}))
    other = LakeTable(table.store, changed(EVENTS, columns=columns))
    with pytest.raises(PermanentError, match=rf"lake\.events: the declaration does not fit .*{words}"):
        other.replace([DAYS[0]], [])
    assert table.row_counts() == {DAYS[0]: 2}


def test_another_partition_column_is_refused(lake_store: ObjectStore) -> None:
    LakeTable(lake_store, MONTHS).replace(None, [])
    with pytest.raises(PermanentError, match=r"partitioned by \['month'\], declared as \[\]"):
        LakeTable(lake_store, changed(MONTHS, partition_by=None)).replace(None, [])


# -- readers


def test_duckdb_reads_the_files_natively(table: LakeTable) -> None:
    table.replace(DAYS, events({DAYS[0]: 30, DAYS[1]: 20}))
    with duckdb.connect() as connection:
        table.store.duckdb_setup(connection)
        rows = connection.execute(
            "select partition, count(*), sum(value) from read_parquet($files, hive_partitioning = false, "
            "union_by_name = true) group by all order by all",
            {"files": table.files()},
        ).fetchall()
    assert rows == [(DAYS[0], 30, 0), (DAYS[1], 20, 0)]


def test_delta_readers_see_the_same_rows(table: LakeTable) -> None:
    table.replace(DAYS[:2], events({DAYS[0]: 3, DAYS[1]: 2}))
    table.replace([DAYS[0]], events({DAYS[0]: 4}))
    delta = DeltaTable(table.uri, storage_options=table.store.storage_options())
    assert delta.to_pyarrow_table().select(["partition", "event_id"]).sort_by("event_id").to_pydict() == (
        events({DAYS[0]: 4, DAYS[1]: 2}).select(["partition", "event_id"]).to_pydict()
    )


def whole(data: pa.Table) -> bool:
    """Whether each partition holds one version and all of it: a version has 10 rows plus its mark."""
    groups = data.group_by("partition").aggregate([("value", "min"), ("value", "max"), ("value", "count")])
    return all(
        row["value_min"] == row["value_max"] and row["value_count"] == 10 + row["value_min"]
        for row in groups.to_pylist()
    )


def version_of(days: list[str], mark: int) -> pa.Table:
    return events(dict.fromkeys(days, 10 + mark), mark=mark)


def test_readers_never_see_a_mixture(table: LakeTable) -> None:
    table.replace(DAYS, version_of(DAYS, 0))
    stop = threading.Event()

    def read() -> int:
        reads = 0
        while not stop.is_set():
            data = table.dataset().to_table()
            assert whole(data)
            assert len(pc.unique(data["value"])) == 1, "days of one transaction are of different versions"
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for mark in range(1, 6):
                table.replace(DAYS, version_of(DAYS, mark))
        finally:
            stop.set()
        assert all(reader.result() > 0 for reader in readers)


# -- writers


def at_once(tasks: list[Callable[[], object]]) -> None:
    """Run all tasks in threads of their own that start together."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], object]) -> None:
        barrier.wait()
        task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        for future in [pool.submit(run, task) for task in tasks]:
            future.result()


class Overtaken(LakeTable):
    """A table on which somebody else commits after it was looked at and before the first commit to it."""

    other: Callable[[], object] | None = None

    def __init__(self, store: ObjectStore, declared: Table) -> None:
        super().__init__(store, declared)
        transact = self.log.transact

        def overtaken(*args: Any, **kwargs: Any) -> bool:
            if self.other is not None:
                other, self.other = self.other, None
                other()
            return transact(*args, **kwargs)

        self.log.transact = overtaken

    def commit(self, *staged: Staged, **kwargs: Any) -> Commit:
        done = super().commit(*staged, **kwargs)
        assert self.other is None, "nobody committed in between"
        return done


@pytest.mark.parametrize("day", DAYS[:2], ids=["known day", "new day"])
def test_the_later_commit_of_a_day_wins_whole(lake_store: ObjectStore, day: str) -> None:
    table = Overtaken(lake_store, EVENTS)
    table.replace(DAYS[:1], version_of(DAYS[:1], 0))
    table.other = lambda: LakeTable(lake_store, EVENTS).replace([day], version_of([day], 1))
    commit = table.replace([day], version_of([day], 2))
    assert table.dataset([day]).to_table().equals(version_of([day], 2))
    assert commit.version == table.version() == 3


def test_writers_who_make_the_table_at_once_all_get_through(table: LakeTable) -> None:
    at_once([lambda mark=mark: table.replace(DAYS[:1], version_of(DAYS[:1], mark)) for mark in range(4)])
    assert whole(table.dataset().to_table())
    assert table.partitions() == DAYS[:1]


def test_writers_of_one_day_never_mix_and_none_is_lost(table: LakeTable) -> None:
    table.replace(DAYS[:1], version_of(DAYS[:1], 0))
    versions: list[int] = []

    def write(writer: int) -> None:
        for turn in range(3):
            mark = 1 + 3 * writer + turn
            versions.append(table.replace(DAYS[:1], version_of(DAYS[:1], mark)).version)

    at_once([lambda writer=writer: write(writer) for writer in range(4)])
    assert len(set(versions)) == 12
    assert table.version() == max(versions)
    assert whole(table.dataset().to_table())


def test_writers_of_different_days_all_get_through(table: LakeTable) -> None:
    many = days(8)

    def write(day: str) -> None:
        for mark in range(1, 3):
            table.replace([day], version_of([day], mark))

    at_once([lambda day=day: write(day) for day in many])
    assert table.row_counts() == dict.fromkeys(many, 12)
    assert whole(table.dataset().to_table())


def test_overlapping_ranges_are_as_if_one_came_after_the_other(table: LakeTable) -> None:
    ranges = [DAYS[:3], DAYS[1:], DAYS[:2]]
    at_once([lambda n=n, r=r: table.replace(r, version_of(r, n)) for n, r in enumerate(ranges)])
    data = table.dataset().to_table()
    assert whole(data)
    marks = dict(zip(data["partition"].to_pylist(), data["value"].to_pylist(), strict=True))
    possible = []
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        state: dict[str, int] = {}
        for writer in order:
            state |= dict.fromkeys(ranges[writer], writer)
        possible.append(state)
    assert marks in possible


CORRECTIONS = [{"2024-01": 1, "2024-02": 0}, {"2024-01": 0, "2024-02": 2}]
ADDITIONS = [{"2024-01": 0, "2024-02": 0, "2024-03": 1}, {"2024-01": 0, "2024-02": 0, "2024-04": 2}]
REMOVALS = [{"2024-01": 0}, {"2024-02": 0}]


@pytest.mark.parametrize("contents", [CORRECTIONS, ADDITIONS, REMOVALS], ids=["changed", "new", "gone"])
def test_the_later_whole_replacement_wins_whole(
    local_store: LocalStore, contents: list[dict[str, int]]
) -> None:
    table = Overtaken(local_store, MONTHS)
    table.replace(None, months({"2024-01": 0, "2024-02": 0}))
    table.other = lambda: LakeTable(local_store, MONTHS).replace(None, months(contents[0]))
    table.replace(None, months(contents[1]))
    assert table.dataset().to_table().equals(months(contents[1]))


def test_a_whole_replacement_removes_what_was_added_meanwhile(local_store: LocalStore) -> None:
    table = Overtaken(local_store, MONTHS)
    table.replace(None, months({"2024-01": 0}))
    table.other = lambda: LakeTable(local_store, MONTHS).replace(["2024-02"], months({"2024-02": 1}))
    commit = table.replace(None, months({"2024-01": 2}))
    assert table.dataset().to_table().equals(months({"2024-01": 2}))
    assert commit.removed == ("2024-02",)


def test_a_range_wins_whole_although_a_day_of_it_looked_unchanged(local_store: LocalStore) -> None:
    table = Overtaken(local_store, EVENTS)
    table.replace(DAYS[:2], version_of(DAYS[:2], 0))
    table.other = lambda: LakeTable(local_store, EVENTS).replace(DAYS[:1], version_of(DAYS[:1], 1))
    ours = pa.concat_tables([version_of(DAYS[:1], 0), version_of(DAYS[1:2], 2)])
    commit = table.replace(DAYS[:2], ours)
    assert table.dataset().to_table().equals(ours)
    assert commit.changed == tuple(DAYS[:2])


# -- any sequence


CONTENT = st.dictionaries(st.sampled_from(DAYS), st.integers(0, 4), max_size=4)
STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(DAYS), min_size=1, unique=True) | st.none(),
        CONTENT,
        st.integers(0, 1),
        st.integers(0, 1),
    ),
    max_size=6,
)
Steps = list[tuple[list[str] | None, dict[str, int], int, int]]


def follow(tables: Sequence[LakeTable], steps: Steps) -> None:
    """Do the steps to the table, each by one of several hands, and to a dict, and compare after each."""
    model: dict[str, pa.Table] = {}
    for partitions, content, mark, hand in steps:
        table = tables[hand]
        wanted = {day: rows for day, rows in content.items() if partitions is None or day in partitions}
        new = {day: events({day: rows}, mark=mark) for day, rows in wanted.items()}
        before, version = dict(model), table.version()
        if partitions is None:
            model = {day: data for day, data in new.items() if data.num_rows}
        else:
            empty = EVENTS.arrow_schema.empty_table()
            model |= {day: new.get(day, empty) for day in partitions}
        commit = table.replace(partitions, events(wanted, mark=mark))
        expected = pa.concat_tables(
            [EVENTS.arrow_schema.empty_table(), *(model[day] for day in sorted(model))]
        )
        read = table.log.snapshot()
        assert read is not None
        for one in tables:
            assert one.row_counts() == {day: data.num_rows for day, data in sorted(model.items())}
            assert one.dataset().to_table().equals(expected)
            assert (one.version(), one.log.live()) == (read.version, read.parts)
        if version is not None:
            same = before.keys() == model.keys() and all(before[day].equals(model[day]) for day in model)
            assert (commit.version == version) == same


@given(steps=STEPS)
@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_replacements_by_two_hands_equals_a_dict(
    tmp_path_factory: pytest.TempPathFactory, steps: Steps
) -> None:
    folder: Path = tmp_path_factory.mktemp("lake")
    follow([LakeTable(LocalStore(folder), EVENTS, ParquetSpec(file_rows=2)) for _ in range(2)], steps)


# -- what is known of the log


def test_a_log_is_read_again_only_where_it_has_grown(
    lake_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int | None] = []
    opens = DeltaLog._open
    monkeypatch.setattr(
        DeltaLog, "_open", lambda self, version=None: opened.append(version) or opens(self, version)
    )
    table = LakeTable(lake_store, EVENTS)
    table.replace(DAYS[:1], events({DAYS[0]: 3}))
    opened.clear()
    for _ in range(3):
        again = LakeTable(lake_store, EVENTS)
        assert (again.version(), again.row_counts()) == (1, {DAYS[0]: 3})
        again.replace(DAYS[:1], events({DAYS[0]: 3}))
    assert opened == []
    table.replace(DAYS[:1], events({DAYS[0]: 4}))
    assert table.row_counts() == {DAYS[0]: 4}
    assert opened == [1], "the state that the transaction was made on"

    other = LakeTable(copy.copy(lake_store), EVENTS)
    other.replace(DAYS[1:2], events({DAYS[1]: 5}))
    opened.clear()
    assert table.row_counts() == {DAYS[0]: 4, DAYS[1]: 5}
    assert opened == [None], "somebody else has committed"


def test_a_table_moved_away_and_made_anew_is_not_taken_for_the_old_one(local_store: LocalStore) -> None:
    table = LakeTable(local_store, EVENTS)
    table.replace(DAYS[:1], events({DAYS[0]: 3}))
    shutil.move(local_store.location(*EVENTS.path), local_store.base / "away")
    assert not table.exists()
    other = LakeTable(LocalStore(local_store.base), EVENTS)
    other.replace(DAYS[1:2], events({DAYS[1]: 5}))
    assert (table.version(), table.row_counts()) == (1, {DAYS[1]: 5})


def test_a_log_whose_entries_are_gone_is_read_from_its_checkpoint(local_store: LocalStore) -> None:
    table = LakeTable(local_store, EVENTS)
    for mark in range(3):
        table.replace(DAYS[:1], events({DAYS[0]: 2 + mark}))
    table.log.checkpoint()
    for version in range(3):
        local_store.delete(*EVENTS.path, f"_delta_log/{version:020}.json")
    assert table.row_counts() == {DAYS[0]: 4}
    LakeTable(LocalStore(local_store.base), EVENTS).replace(DAYS[:1], events({DAYS[0]: 9}))
    assert table.row_counts() == {DAYS[0]: 9}
