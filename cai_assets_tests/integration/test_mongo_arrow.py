"""Documents come out of MongoDB as Arrow tables in the lake's types, value for value."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bson import Decimal128
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from cai_assets.domain.documents import documents_from_raw
from cai_assets.domain.lake import to_lake
from cai_assets.domain.parsing import microseconds
from cai_assets.failures import PermanentError
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.mongo_arrow import consecutive_days
from cai_assets.schemas import lake
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.raw_data import NOW, conversation, message, raw_rows

DAY, NEXT = "2024-05-01", "2024-05-02"


def _store(store: MongoStore, table: Any, rows: list[Any], days: list[str]) -> None:
    batch = documents_from_raw(raw_rows(rows), table, partitions=days)
    assert store.replace_partitions(batch, run_id="r", now=NOW).total.quarantined == 0


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_conversations_keep_every_value_to_the_microsecond(mongo_store: MongoStore) -> None:
    events = [
        {"from": None, "to": "open", "at": "2024-05-01T10:00:00.000001Z", "actor": None},
        {"from": "open", "to": "resolved", "at": "2024-05-01T10:00:00.000002Z", "actor": "a1"},
    ]
    full = conversation(
        started_at="2024-05-01 10:00:00.123456", ended_at="2024-05-01T23:59:59.999999Z",
        updated_at="1999-12-31", agent_id="a1", channel="", language="de", traffic_class="test",
        status_events=events, tags=["x", "y"],
        csat_score=4, csat_at="2024-05-01 11:00:00.000007", attrs={"not": "in the lake"},
    )  # fmt: skip
    bare = conversation(conversation_id="c2")
    empty = conversation(conversation_id="c3", status_events=[], tags=[])
    _store(
        mongo_store, "conversations", [(DAY, n, n, row) for n, row in enumerate((full, bare, empty))], [DAY]
    )
    table = mongo_store.read_arrow("conversations", [DAY])
    assert table.schema.types == lake.CONVERSATIONS.arrow_schema.types
    first, second, third = table.sort_by("conversation_id").to_pylist()
    assert first["started_at"] == _instant("2024-05-01T10:00:00.123456")
    assert first["ended_at"] == _instant("2024-05-01T23:59:59.999999")
    assert first["updated_at"] == _instant("1999-12-31")
    assert first["csat_at"] == _instant("2024-05-01T11:00:00.000007")
    assert first["status_events"] == [
        {
            "from_status": None,
            "to_status": "open",
            "at": _instant("2024-05-01T10:00:00.000001"),
            "actor": None,
        },
        {
            "from_status": "open",
            "to_status": "resolved",
            "at": _instant("2024-05-01T10:00:00.000002"),
            "actor": "a1",
        },
    ]
    assert (first["tags"], first["csat_score"], first["channel"]) == (["x", "y"], 4.0, "")
    assert (second["tags"], second["status_events"], second["ended_at"]) == (None, None, None)
    assert (second["traffic_class"], second["partition"]) == ("live", DAY)
    assert (third["tags"], third["status_events"]) == ([], [])


texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=20)
messages = st.fixed_dictionaries(
    {},
    optional={
        "text": texts,
        "seq": st.none() | st.integers(-(2**31), 2**31 - 1),
        "sender_id": texts,
        "language": texts,
        "private": st.none() | st.booleans(),
        "created_at": st.datetimes(datetime(1900, 1, 1), datetime(2199, 12, 31)).map(str),  # noqa: DTZ001
        "attrs": st.none() | st.dictionaries(st.sampled_from(["a.b", "$x", ""]), st.integers(0, 9)),
    },
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(messages, max_size=20))
def test_arrow_holds_what_the_documents_hold(mongo_store: MongoStore, rows: list[dict[str, Any]]) -> None:
    given = [message(message_id=f"m{n}", **row) for n, row in enumerate(rows)]
    _store(mongo_store, "messages", [(DAY, n, 1, row) for n, row in enumerate(given)], [DAY])
    documents = {one["_id"]: one for one in mongo_store.collection("messages").find({"deleted_at": None})}
    table = mongo_store.read_arrow("messages", [DAY])
    assert table.num_rows == len(rows)
    plain = (
        "text",
        "seq",
        "sender_id",
        "language",
        "conversation_id",
        "sender_type",
        "content_hash",
        "text_hash",
    )
    for row in table.to_pylist():
        document, source = documents[row["message_id"]], given[int(row["message_id"][1:])]
        assert {name: row[name] for name in plain} == {name: document[name] for name in plain}
        assert row["text"] == source["text"]
        assert row["is_private"] == bool(source.get("private"))
        assert microseconds(row["created_at"]) == document["created_us"]
        assert row["created_at"] == _instant(source["created_at"].removesuffix("+00:00"))


def test_deleted_documents_and_other_days_stay_out(mongo_store: MongoStore) -> None:
    rows = [(day, n, 1, message(message_id=f"{day}-{n}")) for day in (DAY, NEXT) for n in range(250)]
    _store(mongo_store, "messages", rows, [DAY, NEXT])
    _store(mongo_store, "messages", rows[:100], [DAY])
    assert mongo_store.read_arrow("messages", [DAY]).num_rows == 100
    assert mongo_store.read_arrow("messages", [DAY, NEXT]).num_rows == 350
    assert mongo_store.read_arrow("messages", ["2024-04-30", NEXT]).num_rows == 250
    assert mongo_store.read_arrow("messages", ["2024-04-30"]).num_rows == 0
    assert mongo_store.read_arrow("messages", []).num_rows == 0
    batches = list(mongo_store.read_batches("messages", [DAY, NEXT], 60))
    assert sum(batch.num_rows for batch in batches) == 350
    assert max(batch.num_rows for batch in batches) <= 60
    assert mongo_store.live_counts("messages", [DAY, NEXT, "2024-05-03"]) == {
        DAY: 100,
        NEXT: 250,
        "2024-05-03": 0,
    }


def test_calls_of_workflows_keep_their_price_exactly(mongo_store: MongoStore) -> None:
    at = _instant("2024-05-01T10:00:00.123456")
    call = {
        "partition": DAY, "purpose": "translation", "status": "ok", "conversation_id": "c1",
        "message_id": None, "workflow_run_id": "w", "tokens": 12, "currency": "USD", "latency_ms": 2**40,
        "attempts": 1, "error": None, "created_at": at, "created_us": microseconds(at),
    }  # fmt: skip
    prices = [Decimal("0.00012345"), Decimal(0), Decimal("9999999999.99999999"), None]
    mongo_store.collection("llm_calls").insert_many(
        {"_id": f"k{n}", **call, "price": None if price is None else Decimal128(price)}
        for n, price in enumerate(prices)
    )
    (batch,) = mongo_store.read_batches("llm_calls", [DAY], 100)
    table = pa.Table.from_batches([to_lake(lake.LLM_CALLS, batch, None)]).sort_by("call_id")
    assert table["call_id"].to_pylist() == ["k0", "k1", "k2", "k3"]
    assert table["price"].to_pylist() == prices
    assert set(table["created_at"].to_pylist()) == {at}
    assert set(table["latency_ms"].to_pylist()) == {2**40}


@pytest.mark.parametrize("table", lake.TABLES, ids=lambda table: table.name)
def test_every_lake_table_can_be_read_empty(mongo_store: MongoStore, table: Any) -> None:
    read = mongo_store.read_arrow(table.name, [DAY])
    (empty,) = read.to_batches() or [pa.RecordBatch.from_pylist([], read.schema)]
    assert to_lake(table, empty, SecretStr("k")).schema.equals(table.arrow_schema)


def test_a_document_of_another_type_is_refused_by_collection_and_days(mongo_store: MongoStore) -> None:
    _store(mongo_store, "messages", [(DAY, 1, 1, message())], [DAY])
    mongo_store.collection("messages").update_one({"_id": "m1"}, {"$set": {"text": 7}})
    with pytest.raises(PermanentError, match=r"messages between 2024-05-01 and .* do not fit lake/messages"):
        mongo_store.read_arrow("messages", [DAY])


def test_days_that_follow_each_other_are_one_range() -> None:
    days = ["2024-03-01", "2024-02-28", "2024-02-29", "2024-03-03"]
    assert consecutive_days(days) == [("2024-02-28", "2024-03-01"), ("2024-03-03", "2024-03-03")]
    assert consecutive_days([]) == []


def test_real_conversations_come_back_value_for_value(mongo_store: MongoStore) -> None:
    """With the fractions of seconds that the real data has."""
    real = pq.read_table(shared_data("bcontrast") / "messages.parquet").slice(0, 3000)
    days = [str(one.date()) for one in real["created_at"].to_pylist()]
    values = [{**row, "created_at": str(row["created_at"])} for row in real.to_pylist()]
    rows = [(day, n, None, row) for n, (day, row) in enumerate(zip(days, values, strict=True))]
    _store(mongo_store, "messages", rows, sorted(set(days)))
    names = [
        "message_id",
        "conversation_id",
        "seq",
        "sender_type",
        "sender_id",
        "text",
        "language",
        "created_at",
    ]
    read = mongo_store.read_arrow("messages", sorted(set(days))).select(names).sort_by("message_id")
    expected = real.select(names).sort_by("message_id")
    assert read.equals(pa.table(expected.columns, schema=read.schema))
