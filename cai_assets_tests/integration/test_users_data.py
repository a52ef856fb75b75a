"""What people write passes through all layers down to the lake to the letter, or waits with its reason."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cai_assets.domain.documents import DocumentBatch
from cai_assets.resources.files import FilesSource
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.nocodb import NocoDBSource
from cai_assets.resources.raw_rows import conversation_days, spooled
from cai_assets.resources.source import Source
from cai_assets.resources.storage import LakeTable, LocalStore
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.schemas import raw
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.sandbox import NocoDBCalls
from cai_assets_tests.fixtures.sources import nocodb_settings, write_tables

DAY, START = "2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
AT = "2024-05-01 10:00:00+00:00"
Row = dict[str, Any]

ODD_TEXTS = (
    "", " ", "\0", "$where", "a.b", "a/b", "it's \"x\"", "x,y", "~and", "~\"'(", "(", "100%", "\\", "\r\n\t",
    "\N{GRINNING FACE}\u200d\N{BOY}", "\u05e9\u05dc\u05d5\u05dd \u202e olleh", "\u65e5\u672c", "e\u0301",
    "\ufeff", "\ud800", "ok \udfff end", "null", "NaN", "\x7f\x1b", "\\ud800",
)  # fmt: skip
letters = st.characters(exclude_categories=())  # half characters too
texts = st.sampled_from(ODD_TEXTS) | st.text(letters, max_size=8)
scalars = (
    st.none() | st.booleans() | texts | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**70), 2**70)
)  # fmt: skip
keys = texts | st.sampled_from(("$set", "$ref", "$id", "_id", "a.b.c"))
objects = st.dictionaries(
    keys,
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_size=4,
)
ids = texts.filter(lambda text: text.strip() != "")
instants = st.sampled_from(
    (AT, "2024-05-03T00:00:00.123456Z", "9999-12-31 23:59:59+00:00", "0001-01-01 00:00:00+00:00",
     "1899-12-31 23:59:59+00:00", "Invalid Date", "2024-02-30 00:00:00+00:00", "")
)  # fmt: skip
rows_of_people = st.lists(
    st.fixed_dictionaries(
        {"id": ids, "text": st.none() | texts, "attrs": st.none() | objects, "at": instants}
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row["id"],
)


def fits(value: Any) -> bool:
    """Whether MongoDB can hold a value as it is."""
    if isinstance(value, str):
        return value.encode("utf-8", "ignore").decode() == value
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    if isinstance(value, list):
        return all(map(fits, value))
    if isinstance(value, dict):
        reference = "$ref" not in value or (isinstance(value["$ref"], str) and "$id" in value)
        return reference and all(
            "\0" not in key and fits(key) and fits(inner) for key, inner in value.items()
        )
    return True


def tables_of(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    conversations = [
        {
            "conversation_id": row["id"],
            "user_id": row["id"],
            "status": "open",
            "started_at": "2024-05-01 09:00:00+00:00",
            "csat_comment": row["text"],
            "attrs": None if row["attrs"] is None else json.dumps(row["attrs"]),
        }
        for row in rows
    ]
    messages = [
        {
            "message_id": f"m {row['id']}",
            "conversation_id": row["id"],
            "sender_type": "user",
            "text": row["text"],
            "created_at": row["at"],
            "attrs": None if row["attrs"] is None else json.dumps(row["attrs"]),
        }
        for row in rows
    ]
    return conversations, messages


Opening = Callable[[list[Row], list[Row]], Any]


@pytest.fixture(params=["files", "nocodb"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opening]:
    """A function that gives a source over these rows, as a context manager."""

    @contextmanager
    def from_files(conversations: list[Row], messages: list[Row]) -> Iterator[Source]:
        with tempfile.TemporaryDirectory(dir=tmp_path) as name:
            for table, rows in (("conversations", conversations), ("messages", messages)):
                Path(name, f"{table}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            with closing(FilesSource(Settings(_env_file=None, source="files", source_dir=name))) as source:
                yield source

    if request.param == "files":
        yield from_files
        return
    seed = tables_of([{"id": "seed", "text": "", "attrs": {}, "at": AT}])
    seed[0][0]["started_at"] = START  # a DateTime, as the days need; the messages' instants are texts
    with SandboxProcess.start(write_tables(tmp_path / "seed", *seed)) as sandbox:
        calls = NocoDBCalls(sandbox)

        @contextmanager
        def from_server(conversations: list[Row], messages: list[Row]) -> Iterator[Source]:
            for table, rows in ((calls.conversations, conversations), (calls.messages, messages)):
                found = calls.list(table, fields="Id", limit=1000).json()["list"]
                if found:
                    calls.write("DELETE", table, [{"Id": row["Id"]} for row in found]).raise_for_status()
                calls.write("POST", table, rows).raise_for_status()
            with closing(
                NocoDBSource(nocodb_settings(sandbox, nocodb_max_requests_per_second=1000))
            ) as source:
                yield source

        yield from_server


def through_all_layers(source: Source, store: MongoStore, lake: LocalStore) -> dict[str, list[Row]]:
    """Raw rows, as they came to lie in Parquet; documents and quarantine are in the store."""
    kept: dict[str, list[Row]] = {}
    stream = source.conversations(START, START + timedelta(days=1))
    tables = {table.name: LakeTable(lake, table) for table in raw.TABLES}
    for name in ("conversations", "messages"):
        if name == "messages":
            days = conversation_days(tables["conversations"].select([DAY]).batches(["partition", "row"], 100))
            stream = source.messages(list(days))
        with spooled(tables[name].table, ((DAY, row) for row in stream), 3) as spool:
            tables[name].replace([DAY], spool.batches())
        assert stream.source_rows == spool.rows
        files = tables[name].select([DAY])
        kept[name] = files.to_table().to_pylist()
        live = (lambda day: store.live_ids("conversations", day)) if name == "messages" else None
        batch = DocumentBatch(name, (DAY,), lambda day, files=files: files.narrowed([day]).to_table(), live)  # type: ignore[misc, arg-type]
        store.replace_partitions(batch, run_id="r", now=NOW)
    return kept


def check_rows(opening: Opening, store: MongoStore, rows: list[Row]) -> None:
    for name in ("conversations", "messages", "quarantine"):
        store.collection(name).delete_many({})
    with opening(*tables_of(rows)) as source, tempfile.TemporaryDirectory() as folder:
        kept = through_all_layers(source, store, LocalStore(Path(folder)))
    assert [len(kept[table]) for table in ("conversations", "messages")] == [len(rows), len(rows)]
    for row in rows:
        check_conversation(row, store)
    check_messages(rows, store, kept["messages"])


def test_every_odd_text_is_stored_as_it_is_or_waits(opening: Opening, mongo_store: MongoStore) -> None:
    rows = [
        {
            "id": text if text.strip() else f"blank {len(text)}",
            "text": text,
            "attrs": {text: [text, {"$set": text}]},
            "at": AT,
        }
        for text in ODD_TEXTS
    ]
    check_rows(opening, mongo_store, rows)


few = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@few
@given(rows_of_people)
def test_rows_are_stored_as_they_were_or_wait_with_the_reason(
    opening: Opening, mongo_store: MongoStore, rows: list[Row]
) -> None:
    check_rows(opening, mongo_store, rows)


@pytest.mark.soak
@settings(few, max_examples=300)
@given(rows_of_people)
def test_many_rows_are_stored_as_they_were_or_wait_with_the_reason(
    opening: Opening, mongo_store: MongoStore, rows: list[Row]
) -> None:
    check_rows(opening, mongo_store, rows)


def acceptable(row: Row) -> bool:
    return all(fits(row[name]) for name in ("id", "text", "attrs")) and len(row["id"].encode()) <= 1024


def stored(store: MongoStore, table: str, key: str) -> Row | None:
    return store.collection(table).find_one({"_id": key}) if fits(key) else None


def check_conversation(row: Row, store: MongoStore) -> None:
    document = stored(store, "conversations", row["id"])
    assert (document is not None) == acceptable(row)
    if document is not None:
        assert (document["user_id"], document["csat_comment"]) == (row["id"], row["text"])
        assert without_references(document["attrs"]) == without_references(row["attrs"])


def check_messages(rows: list[Row], store: MongoStore, kept: list[Row]) -> None:
    lake = {one["message_id"]: one for one in store.read_arrow("messages", [DAY]).to_pylist()}
    waiting = {one["source_id"]: one for one in store.collection("quarantine").find({"table": "messages"})}
    verbatim = {json.loads(one["row"])["message_id"]: one for one in kept}
    for row in rows:
        key = f"m {row['id']}"
        source_id = verbatim[key]["id"]
        document = stored(store, "messages", key)
        assert (document is not None) == (acceptable(row) and row["at"].startswith("2024-05"))
        assert (document is None) == (source_id in waiting)
        if document is None:
            entry = waiting[source_id]
            assert entry["row"] == verbatim[key]["row"]
            assert json.loads(entry["row"])["text"] == row["text"]
            assert entry["reason"]
        else:
            assert (document["text"], document["conversation_id"]) == (row["text"], row["id"])
            assert without_references(document["attrs"]) == without_references(row["attrs"])
            assert (lake[key]["text"], lake[key]["conversation_id"]) == (row["text"], row["id"])
    assert len(lake) + len(waiting) == len(rows)


def without_references(value: Any) -> Any:
    """The value without objects that MongoDB reads as references of its own: pymongo gives DBRef for them."""
    if isinstance(value, dict):
        if "$ref" in value:
            return "a reference"
        return {key: without_references(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_references(inner) for inner in value]
    return "a reference" if type(value).__name__ == "DBRef" else value


@pytest.mark.parametrize("letters_of_text", [15_000_000, 17_000_000])
def test_rows_about_as_large_as_mongodb_takes_arrive_or_wait(
    tmp_path: Path, mongo_store: MongoStore, letters_of_text: int
) -> None:
    row = {"id": "large", "text": "x" * letters_of_text, "attrs": None, "at": AT}
    small = {**row, "id": "small", "text": "y"}
    for table, rows in zip(("conversations", "messages"), tables_of([row, small]), strict=True):
        (tmp_path / f"{table}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    with closing(FilesSource(Settings(_env_file=None, source="files", source_dir=tmp_path))) as source:
        kept = through_all_layers(source, mongo_store, LocalStore(tmp_path / "lake"))
    assert [len(json.loads(one["row"])["text"]) for one in kept["messages"]] == [letters_of_text, 1]
    documents = {one["_id"]: len(one["text"]) for one in mongo_store.collection("messages").find()}
    waiting = {one["table"]: one["reason"] for one in mongo_store.collection("quarantine").find()}
    if letters_of_text < 16_000_000:
        assert documents == {"m large": letters_of_text, "m small": 1}
    else:
        assert documents == {"m small": 1}
        assert "large" in waiting["conversations"] or "16,777,216" in waiting["conversations"]
        assert waiting["messages"].startswith("orphan")  # with its conversation, and heals with it
