"""The database's connection and bulk writing, against a real server."""

import socket
from pathlib import Path
from typing import Any

import pytest
from pymongo import InsertOne, MongoClient, ReplaceOne, UpdateOne

from cai_assets.failures import PermanentError, TransientError
from cai_assets.resources import mongo, mongo_connection
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.secantus import SecantusProcess
from cai_assets.schemas.documents import COLLECTIONS
from cai_assets.settings import Settings


def test_written_documents_are_there_and_counted(mongo_store: MongoStore) -> None:
    report = mongo_store.write("state", (ReplaceOne({"_id": n}, {"n": n}, upsert=True) for n in range(1_050)))
    assert (report.upserted, report.matched, report.failures) == (1_050, 0, [])
    again = mongo_store.write("state", [UpdateOne({"_id": n}, {"$inc": {"n": 1}}) for n in range(10)])
    assert (again.matched, again.modified) == (10, 10)
    assert mongo_store.collection("state").count_documents({}) == 1_050


def test_refused_rows_are_told_by_row_and_the_others_stay(mongo_store: MongoStore) -> None:
    rows = [InsertOne({"_id": n % 250, "n": n}) for n in range(260)]
    rows[3] = InsertOne({"_id": "big", "text": "x" * (17 * 1024 * 1024)})
    rows[5] = InsertOne({"_id": "wide", "n": 2**64})
    rows[7] = InsertOne({"_id": "text", "n": "\ud800"})
    rows[120] = InsertOne({"_id": "key", "a\0b": 1})
    report = mongo_store.write("state", rows)
    refused = {failure.index: failure for failure in report.failures}
    # Parallel batches: of two rows with one key either may come second.
    duplicates = {index for index, failure in refused.items() if failure.code == 11000}
    assert {index % 250 for index in duplicates} == {0, 1, 2, 4, 6, 8, 9}
    assert set(refused) - duplicates == {3, 5, 7, 120}
    assert "bytes" in refused[3].reason
    assert mongo_store.collection("state").count_documents({}) == 260 - len(refused)
    with pytest.raises(PermanentError, match=f"refused {len(refused)} operations"):
        report.raise_failures()


def test_undeclared_collection_is_refused(mongo_store: MongoStore) -> None:
    with pytest.raises(KeyError, match="no declared collection"):
        mongo_store.collection("convesations")


def test_settings_name_database_and_collections(mongo_uri: str, mongo_database: str) -> None:
    settings = Settings(
        mongodb_uri=mongo_uri, mongodb_database=mongo_database, mongodb_messages_collection="odd.messages"
    )
    with MongoStore.from_settings(settings) as store:
        assert store.collection("messages").full_name == f"{mongo_database}.odd.messages"
        for name, declared in COLLECTIONS.items():
            keys = [tuple(one["key"]) for one in store.collection(name).list_indexes()]
            assert set(keys) == {("_id",), *(index.fields for index in declared.indexes)}
        store.ensure_indexes()  # again: nothing to do


def test_unreachable_server_is_named_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_connection, "SERVER_SELECTION_MS", 500)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        settings = Settings(mongodb_uri=f"mongodb://user:s3cret@127.0.0.1:{port}/")
        with pytest.raises(TransientError, match=rf"127\.0\.0\.1:{port}") as caught:
            MongoStore.from_settings(settings)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["mongodb://user:s3cr%et@h/", "mongo://user:s3cret@h/", "mongodb://u:s3cret@h:x"]
)
def test_malformed_address_is_refused_without_the_password(uri: str) -> None:
    with pytest.raises(PermanentError, match="MONGODB_URI") as caught:
        MongoStore.from_settings(Settings(mongodb_uri=uri))
    assert "s3cr" not in str(caught.value)


def test_missing_address_says_what_to_set() -> None:
    with pytest.raises(PermanentError, match="MONGODB_URI is not set"):
        MongoStore.from_settings(Settings())


def test_refused_user_is_told_what_to_check(tmp_path: Path) -> None:
    with SecantusProcess(tmp_path, arguments=["--auth"]) as server:
        for user in ("", "somebody:s3cret@"):
            uri = server.uri.replace("//", f"//{user}")
            with pytest.raises(PermanentError, match="refuses the user of MONGODB_URI") as caught:
                MongoStore.from_settings(Settings(mongodb_uri=uri))
            assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("transactions", [True, False])
def test_a_duplicate_among_other_changes_is_told_at_once(mongo_store: MongoStore, transactions: bool) -> None:
    """A refused insert ends a transaction; going on in it would look like a conflict to be tried again."""
    mongo_store.transactions = mongo_store.transactions and transactions
    mongo_store.write("state", [InsertOne({"_id": "a"}), InsertOne({"_id": "b"})]).raise_failures()
    changes = [UpdateOne({"_id": "b"}, {"$set": {"x": 1}}), InsertOne({"_id": "a"}), InsertOne({"_id": "c"})]
    report = mongo_store.write("state", changes)
    assert [(one.index, one.code) for one in report.failures] == [(1, 11000)]
    assert mongo_store.collection("state").find_one({"_id": "b"}) == {"_id": "b", "x": 1}
    assert mongo_store.collection("state").count_documents({}) == 3


def test_a_server_that_dies_under_way_is_a_failure_that_can_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "BATCH_TIMEOUT_S", 2.0)
    server = SecantusProcess(tmp_path).start()
    client: MongoClient = MongoClient(server.uri, serverSelectionTimeoutMS=300)
    with MongoStore(client, "db", max_retries=1, retry_delay=0.01) as store:
        store.ensure_indexes()
        server.stop()
        with pytest.raises(TransientError):
            store.write("state", [InsertOne({"_id": "a"})])


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({"partition": "2024-05-01"}, "partition_1__id_1"),
        ({"partition": {"$gte": "2024-05-01", "$lte": "2024-05-03"}}, "partition_1__id_1"),
        ({"superseded.partition": "2024-05-01"}, "superseded.partition_1"),
        ({"_id": {"$in": ["a", "b"]}}, "_id_"),
        ({"source_id": {"$in": [1, 2]}}, "source_id_1"),
        ({"superseded.source_id": {"$in": [1, 2]}}, "superseded.source_id_1"),
    ],
)
def test_what_replacing_and_reading_ask_is_answered_from_an_index(
    mongo_store: MongoStore, query: dict[str, Any], index: str
) -> None:
    plan = str(mongo_store.collection("messages").find(query).explain()["queryPlanner"]["winningPlan"])
    assert "COLLSCAN" not in plan
    assert index in plan or "IDHACK" in plan
