"""A range of days is the same whoever does it: threads, processes, a cluster that loses workers."""

import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import SecretStr

from cai_assets.domain.documents import documents_from_raw
from cai_assets.engines.models import load_models
from cai_assets.engines.spread import Spread
from cai_assets.failures import PermanentError
from cai_assets.ranges import Progress, stage_documents, stage_model
from cai_assets.resources.live_documents import LiveDocuments
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.object_store import LocalStore, ObjectStore
from cai_assets.resources.staging import Staged
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas import lake
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.lake import days
from cai_assets_tests.raw_data import NOW, message, raw_rows

DAYS = days(6)
STAGING = ("facts", "stg_messages")
START = datetime(2024, 5, 1, 9, tzinfo=UTC)


def messages(per_day: int) -> pa.Table:
    """Messages of six days, as the lake holds them."""
    rows = [
        {
            "partition": day,
            "conversation_id": f"{day}-{number // 4:06}",
            "message_id": f"{day}-{number:08}",
            "seq": number % 4,
            "sender_type": ("user", "agent")[number % 2],
            "is_private": False,
            "text": f"text {number}",
            "text_hash": f"{number:032x}",
            "language": "en",
            "created_at": START + timedelta(days=n, seconds=number),
            "source_updated_at": START,
            "content_hash": "",
        }
        for n, day in enumerate(DAYS)
        for number in range(per_day)
    ]
    return pa.Table.from_pylist(rows, schema=lake.MESSAGES.arrow_schema)


def conversations(per_day: int) -> pa.Table:
    """Their conversations."""
    rows = [
        {
            "partition": day,
            "conversation_id": f"{day}-{number:06}",
            "user_id": f"u{number % 7}",
            "status": "open",
            "traffic_class": "live",
            "started_at": START + timedelta(days=n),
            "source_updated_at": START,
            "content_hash": "",
        }
        for n, day in enumerate(DAYS)
        for number in range(-(-per_day // 4))
    ]
    return pa.Table.from_pylist(rows, schema=lake.CONVERSATIONS.arrow_schema)


def fill(store: ObjectStore, per_day: int = 200) -> None:
    """A lake of six days in a store."""
    LakeTable(store, lake.MESSAGES).replace(DAYS, messages(per_day))
    LakeTable(store, lake.CONVERSATIONS).replace(DAYS, conversations(per_day))


def stage(
    store: ObjectStore, spread: Spread, told: list[Progress] | None = None, **settings: Any
) -> tuple[LakeTable, Staged]:
    """The staged messages of all six days."""
    model = load_models()[STAGING]
    target = LakeTable(store, TABLES[STAGING])
    inputs = {path: LakeTable(store, TABLES[path]).select(DAYS) for path in model.inputs}
    values = {"report_timezone": "UTC"}
    parameters = {name: values[name] for name in model.parameters}
    chosen = Settings.model_validate({"duckdb_memory_limit": "200MB", **settings})
    tell = told.append if told is not None else lambda _: None
    return target, stage_model(spread, model, inputs, parameters, target, chosen, DAYS, tell)


def test_processes_make_byte_for_byte_what_one_thread_makes(lake_store: ObjectStore) -> None:
    fill(lake_store)
    target, alone = stage(lake_store, Spread())
    first = target.commit(alone)
    assert first.rows == dict.fromkeys(DAYS, 200)
    told: list[Progress] = []
    with Spread(processes=2) as workers:
        target, spread = stage(lake_store, workers, told)
    again = target.commit(spread)
    assert (again.version, again.changed, again.unchanged) == (first.version, (), tuple(DAYS))
    assert spread.sent == (), "what the table holds already is not sent again"
    assert [one.done for one in told] == [1, 2, 3, 4, 5, 6]
    assert (told[-1].days, told[-1].rows) == (6, 1_200)


def test_threads_make_byte_for_byte_what_one_thread_makes(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai_assets.engines.spread.ROWS_WORTH_A_THREAD", 100)
    fill(local_store)
    target, alone = stage(local_store, Spread())
    target.commit(alone)
    told: list[Progress] = []
    target, spread = stage(local_store, Spread(threads=3), told)
    assert target.commit(spread).changed == ()
    assert len(told) > 1


def test_a_range_is_one_commit(local_store: LocalStore) -> None:
    fill(local_store)
    target, staged = stage(local_store, Spread(threads=2))
    assert not target.exists()
    commit = target.commit(staged)
    assert (commit.version, commit.changed) == (1, tuple(DAYS)), "the first version makes the table"


def test_without_multithreading_no_thread_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate({"enable_multithreading": False, "parquet_base_dir": tmp_path / "l"})
    store = ObjectStore.from_settings(settings)

    def refuse(thread: threading.Thread) -> None:
        pytest.fail(f"thread {thread.name} was started")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    fill(store)
    target, staged = stage(store, Spread.from_settings(settings), enable_multithreading=False)
    assert target.commit(staged).row_count == 1_200
    assert target.select().to_table().num_rows == 1_200


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Dask cluster as others run it: a scheduler at an address, workers that are processes."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=3, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as made:
        yield made


@pytest.mark.filterwarnings("ignore")
def test_a_worker_killed_in_the_middle_has_its_days_done_by_the_others(
    local_store: LocalStore, cluster: Any
) -> None:
    fill(local_store, per_day=4_000)
    settings = Settings.model_validate({"dask_scheduler_address": cluster.scheduler_address})
    told: list[Progress] = []
    pids = [worker.pid for worker in cluster.workers.values()]

    class Killing(list[Progress]):
        def append(self, progress: Progress) -> None:
            told.append(progress)
            if len(told) == 1:
                os.kill(pids[0], signal.SIGKILL)

    with Spread.from_settings(settings) as workers:
        target, staged = stage(local_store, workers, Killing())
    commit = target.commit(staged)
    assert commit.rows == dict.fromkeys(DAYS, 4_000)
    assert told[-1].done == 6
    target, alone = stage(local_store, Spread())
    assert target.commit(alone).changed == ()


def test_a_range_that_fails_leaves_the_table_as_it_was_and_no_file(
    local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai_assets.engines.spread.ROWS_WORTH_A_THREAD", 100)
    fill(local_store)
    broken = local_store.location(*lake.MESSAGES.path)
    (victim,) = Path(broken).glob(f"partition={DAYS[-1]}/*.parquet")
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(PermanentError, match=victim.name[:20]):
        stage(local_store, Spread(threads=2))
    target = LakeTable(local_store, TABLES[STAGING])
    assert not target.exists()
    assert target.store.list_files(*STAGING) == []


# -- documents


def put_messages(store: MongoStore, per_day: int) -> None:
    rows = [
        (
            day,
            number,
            1,
            message(message_id=f"{day}-{number:06}", conversation_id=f"c{number % 9}", seq=number),
        )
        for day in DAYS
        for number in range(per_day)
    ]
    batch = documents_from_raw(raw_rows(rows), "messages", partitions=DAYS)
    assert store.replace_partitions(batch, run_id="r", now=NOW).total.quarantined == 0


def documents_settings(uri: str, database: str, **more: Any) -> Settings:
    return Settings.model_validate(
        {"mongodb_uri": uri, "mongodb_database": database, "pseudonym_key": SecretStr("a key"), **more}
    )


def test_documents_come_sorted_into_the_lake_whoever_reads_them(
    mongo_store: MongoStore, mongo_uri: str, mongo_database: str, local_store: LocalStore
) -> None:
    put_messages(mongo_store, 60)
    settings = documents_settings(mongo_uri, mongo_database, chunk_size=50)
    documents = LiveDocuments(mongo_store, "messages", tuple(DAYS))
    target = LakeTable(local_store, lake.MESSAGES)
    target.commit(stage_documents(Spread(), documents, target, settings, DAYS))
    found = target.dataset().to_table()
    order = [(name, "ascending") for name in ("partition", *lake.MESSAGES.key)]
    assert found.num_rows == 360
    assert found.equals(found.sort_by(order))
    with Spread(processes=2) as workers:
        again = target.commit(stage_documents(workers, documents, target, settings, DAYS))
    assert (again.changed, again.row_count) == ((), 360)


def test_a_batch_is_no_larger_than_the_chunk_size(
    mongo_store: MongoStore, mongo_uri: str, mongo_database: str, local_store: LocalStore
) -> None:
    put_messages(mongo_store, 200)
    documents = LiveDocuments(mongo_store, "messages", tuple(DAYS))
    assert max(batch.num_rows for batch in documents.batches(70)) <= 70
    target = LakeTable(local_store, lake.MESSAGES)
    settings = documents_settings(mongo_uri, mongo_database, chunk_size=70)
    assert target.commit(stage_documents(Spread(), documents, target, settings, DAYS)).row_count == 1_200


def highest_while_reading(store: MongoStore, settings: Settings, target: LakeTable) -> int:
    """Most bytes of Arrow data at any time while documents go to the lake."""
    before, highest = pa.total_allocated_bytes(), 0

    read = store.read_batches

    def watching(name: str, partitions: Any, chunk_size: int) -> Iterator[pa.RecordBatch]:
        nonlocal highest
        for batch in read(name, partitions, chunk_size):
            highest = max(highest, pa.total_allocated_bytes() - before)
            yield batch

    store.read_batches = watching  # type: ignore[method-assign]
    try:
        documents = LiveDocuments(store, "messages", tuple(DAYS))
        target.commit(stage_documents(Spread(), documents, target, settings, DAYS))
    finally:
        store.read_batches = read  # type: ignore[method-assign]
    return highest


def test_memory_is_bounded_by_the_chunk_size_and_not_by_the_days(
    mongo_store: MongoStore, mongo_uri: str, mongo_database: str, local_store: LocalStore
) -> None:
    """With so little memory for the sort that it waits on disk."""
    rows = [
        (day, n, 1, message(message_id=f"{day}-{n:06}", conversation_id=f"c{n % 9}", text=f"{n:04}" * 1_000))
        for day in DAYS
        for n in range(700)
    ]
    batch = documents_from_raw(raw_rows(rows), "messages", partitions=DAYS)
    mongo_store.replace_partitions(batch, run_id="r", now=NOW)
    whole = sum(len(row["text"]) for *_, row in rows)
    target = LakeTable(local_store, lake.MESSAGES)
    options = {"enable_multithreading": False, "duckdb_memory_limit": "48MB"}
    highest = {
        size: highest_while_reading(
            mongo_store, documents_settings(mongo_uri, mongo_database, chunk_size=size, **options), target
        )
        for size in (50, 4_200)
    }
    assert target.row_counts() == dict.fromkeys(DAYS, 700)
    assert whole > 16_000_000
    assert highest[50] < 3_000_000 < whole / 5, highest
    assert highest[4_200] > 3 * highest[50], "a larger chunk takes more, so it is the chunk that bounds it"
