"""Each setting of the lake does what it says: the files' footers, or the requests that were counted, show it.

PARQUET_* are tried on every writer there is: tables of any layer, and the plain copies of the marts. Settings
of DuckDB alone are tried in unit/test_duckdb_engine.py, those that choose workers in unit/test_spread.py.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pymongo
import pytest
from pymongo.monitoring import CommandListener

from cai_assets.commands.compact import tidy
from cai_assets.domain.documents import documents_from_raw
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.resources.live_documents import LiveDocuments
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.object_store import LocalStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.plain_copies import copy_plainly
from cai_assets.resources.s3 import S3Store
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas import lake
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.lake import ACCESS_KEY, EVENTS, MONTHS, SECRET_KEY, S3Server, days, events
from cai_assets_tests.fixtures.proxy import Relay, relay_to
from cai_assets_tests.raw_data import NOW, message, raw_rows

DAY = days(1)[0]
MONTH = "2024-05"
Writer = Callable[[Path, int, dict[str, Any]], list[Path]]


def lake_writer(folder: Path, rows: int, variables: dict[str, Any]) -> list[Path]:
    """The files of a table of the lake with so many rows."""
    settings = Settings.model_validate({"parquet_base_dir": folder, **variables})
    table = ParquetIOManager.from_settings(settings).table(lake.MESSAGES.path)
    table = LakeTable(table.store, EVENTS, table.spec)
    table.replace([DAY], events({DAY: rows}))
    return [Path(file) for file in table.files()]


def copy_writer(folder: Path, rows: int, variables: dict[str, Any]) -> list[Path]:
    """The files of a plain copy with so many rows."""
    settings = Settings.model_validate({"parquet_base_dir": folder, **variables})
    source = LakeTable(LocalStore(folder), MONTHS)
    totals = pa.table({"month": [MONTH] * rows, "total": list(range(rows))}, schema=MONTHS.arrow_schema)
    source.replace(None, totals)
    copied = copy_plainly(source.select(), ParquetSpec.from_settings(settings))
    return sorted(Path(copied.address).rglob("*.parquet"))


@pytest.fixture(params=[lake_writer, copy_writer], ids=["lake", "plain copy"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[Path]]:
    """A writer, to be called with rows and settings; each call has a folder of its own."""
    calls = iter(range(100))
    writer: Writer = request.param
    return lambda rows, **variables: writer(tmp_path / f"{next(calls)}", rows, variables)


def compressions(file: Path) -> set[str]:
    group = pq.read_metadata(file).row_group(0)
    return {group.column(index).compression for index in range(group.num_columns)}


def test_parquet_compression(write: Callable[..., list[Path]]) -> None:
    assert compressions(write(300)[0]) == {"ZSTD"}
    for setting, codec in (("none", "UNCOMPRESSED"), ("snappy", "SNAPPY"), ("gzip:9", "GZIP")):
        assert compressions(write(300, parquet_compression=setting)[0]) == {codec}


def test_parquet_row_group_size(write: Callable[..., list[Path]]) -> None:
    def groups(file: Path) -> list[int]:
        metadata = pq.read_metadata(file)
        return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]

    assert groups(write(700)[0]) == [700]
    assert groups(write(700, parquet_row_group_size=300)[0]) == [300, 300, 100]


def test_parquet_page_size(write: Callable[..., list[Path]]) -> None:
    """Smaller pages are more pages, and each has a header; what is in them is the same."""
    sizes = [
        sum(file.stat().st_size for file in write(20_000, parquet_page_size=size, parquet_compression="none"))
        for size in (1_048_576, 1_024)
    ]
    assert sizes[1] > sizes[0] + 2_000


def test_parquet_max_records_per_file(write: Callable[..., list[Path]]) -> None:
    assert len(write(700)) == 1
    files = write(700, parquet_max_records_per_file=300)
    assert [pq.read_metadata(file).num_rows for file in files] == [300, 300, 100]


def test_parquet_target_file_size_mb(write: Callable[..., list[Path]]) -> None:
    rows = {"parquet_compression": "none", "parquet_row_group_size": 20_000}
    assert len(write(300_000, **rows)) == 1
    files = write(300_000, parquet_target_file_size_mb=1, **rows)
    assert len(files) > 1
    assert all(file.stat().st_size < 1.2 * 2**20 for file in files)


def test_parquet_partition_by(tmp_path: Path) -> None:
    for layout, folders in (("day", {f"partition={day}" for day in days(3)}), ("month", {f"month={MONTH}"})):
        settings = Settings.model_validate({"parquet_partition_by": layout})
        table = LakeTable(LocalStore(tmp_path / layout), EVENTS, ParquetSpec.from_settings(settings))
        table.replace(days(3), events(dict.fromkeys(days(3), 2)))
        assert {Path(file).parent.name for file in table.files()} == folders
        assert table.row_counts() == dict.fromkeys(days(3), 2), "a partition is a day under either"


def test_parquet_base_dir_and_s3_enabled(tmp_path: Path, relay: Relay, bucket: str) -> None:
    def put(**variables: Any) -> None:
        settings = s3_settings(relay, bucket, parquet_base_dir=tmp_path / "here", **variables)
        ParquetIOManager.from_settings(settings).table(lake.LLM_CALLS.path).replace([DAY], [])

    put(s3_enabled=False)
    assert list((tmp_path / "here").rglob("part-*.parquet"))
    assert relay.heads == []
    put(s3_enabled=True)
    assert relay.requests("PUT", "/lake/llm_calls/partition=")
    assert len(list((tmp_path / "here").rglob("part-*.parquet"))) == 1


# -- S3, by what arrives at the server


@pytest.fixture
def relay(weed: S3Server, no_aws_account: None) -> Iterator[Relay]:
    """A server whose requests are noted."""
    with relay_to(weed.endpoint) as made:
        yield made


@pytest.fixture
def bucket(weed: S3Server) -> str:
    return weed.bucket()


def s3_settings(relay: Relay, bucket: str, **variables: Any) -> Settings:
    return Settings.model_validate(
        {
            "s3_enabled": True,
            "s3_bucket": bucket,
            "s3_endpoint_url": relay.endpoint,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
            **variables,
        }
    )


def put(settings: Settings, wanted: list[str] | None = None) -> LakeTable:
    wanted = wanted or [DAY]
    table = LakeTable(S3Store.from_settings(settings), EVENTS, ParquetSpec.from_settings(settings))
    table.replace(wanted, events(dict.fromkeys(wanted, 5)))
    return table


def test_s3_endpoint_url_bucket_and_prefix(relay: Relay, bucket: str) -> None:
    put(s3_settings(relay, bucket))
    assert relay.requests("PUT", f" /{bucket}/cai/lake/events/partition={DAY}/part-")
    put(s3_settings(relay, bucket, s3_prefix="team/one"))
    assert relay.requests("PUT", f" /{bucket}/team/one/lake/events/")


def test_aws_region_and_access_key_id_sign_every_request(relay: Relay, bucket: str) -> None:
    table = put(s3_settings(relay, bucket, aws_region="eu-central-1"))
    table.select().to_table()
    assert relay.heads
    for head in relay.heads:
        assert f"Credential={ACCESS_KEY}/" in head
        assert "/eu-central-1/s3/aws4_request" in head
        assert SECRET_KEY not in head


@pytest.mark.parametrize("threads", [1, 4])
def test_io_threads_are_the_uploads_at_once(relay: Relay, bucket: str, threads: int) -> None:
    relay.delay_s = 0.1
    put(s3_settings(relay, bucket, io_threads=threads), days(12))
    assert len(relay.requests("PUT", ".parquet")) == 12
    assert relay.most_at_once == threads


def test_enable_multithreading_false_is_one_upload_at_once(relay: Relay, bucket: str) -> None:
    relay.delay_s = 0.05
    put(s3_settings(relay, bucket, io_threads=4, enable_multithreading=False), days(4))
    assert relay.most_at_once == 1


# -- MongoDB, by the commands sent


class Commands(CommandListener):
    """Counts commands by name."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: object) -> None:
        """Not of interest."""

    def failed(self, event: object) -> None:
        """Not of interest."""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """What every client sends that is made from now on."""
    listener = Commands()
    made = pymongo.MongoClient

    def client(*args: Any, **options: Any) -> Any:
        return made(*args, event_listeners=[listener], **options)

    monkeypatch.setattr("cai_assets.resources.mongo_connection.MongoClient", client)
    return listener


def mongo_settings(uri: str, database: str, **variables: Any) -> Settings:
    return Settings.model_validate({"mongodb_uri": uri, "mongodb_database": database, **variables})


def put_documents(settings: Settings, count: int) -> None:
    rows = [(DAY, n, 1, message(message_id=f"m{n:05}")) for n in range(count)]
    batch = documents_from_raw(raw_rows(rows), "messages", partitions=[DAY])
    with MongoStore.from_settings(settings) as store:
        store.replace_partitions(batch, run_id="r", now=NOW)


def test_batch_size_is_the_documents_of_a_bulk_write(
    mongo_uri: str, mongo_database: str, commands: Commands
) -> None:
    counts = {}
    for size in (50, 400):
        commands.names.clear()
        put_documents(mongo_settings(mongo_uri, f"{mongo_database}_{size}", batch_size=size), 400)
        counts[size] = sum(name in ("insert", "update") for name in commands.names)
    with pymongo.MongoClient(mongo_uri) as client:
        for size in counts:
            client.drop_database(f"{mongo_database}_{size}")
    assert counts[50] >= counts[400] + 7, counts


def test_chunk_size_is_the_documents_of_an_answer(
    mongo_uri: str, mongo_database: str, commands: Commands
) -> None:
    put_documents(mongo_settings(mongo_uri, mongo_database), 400)
    for size, answers in ((100, 4), (1_000, 1)):
        settings = mongo_settings(mongo_uri, mongo_database, chunk_size=size)
        with MongoStore.from_settings(settings) as store:
            commands.names.clear()
            documents = LiveDocuments(store, "messages", (DAY,))
            batches = list(documents.batches(settings.chunk_size))
        assert max(batch.num_rows for batch in batches) == min(size, 400)
        asked = sum(name in ("find", "getMore") for name in commands.names)
        assert answers <= asked <= answers + 1, commands.names


# -- upkeep


def test_lake_retention_hours(tmp_path: Path) -> None:
    variables = {"parquet_base_dir": tmp_path / "lake", "lake_retention_hours": 3}
    settings = Settings.model_validate(variables)
    table = ParquetIOManager.from_settings(settings).table(lake.LLM_CALLS.path)
    table.replace([DAY], [])
    stray = Path(table.files()[0]).with_name("part-of-a-writer-who-died.parquet")
    stray.write_bytes(b"PAR1")
    os.utime(stray, (time.time() - 2 * 3600,) * 2)
    list(tidy(settings))
    assert stray.exists(), "its writer may be about to commit it"
    list(tidy(Settings.model_validate({**variables, "lake_retention_hours": 1})))
    assert not stray.exists()
    assert table.dataset().to_table().num_rows == 0
