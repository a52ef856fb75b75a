"""Documents on their way into the lake: pseudonyms, exact schema, order."""

import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from cai_assets.domain.lake import to_lake
from cai_assets.domain.pseudonyms import keyed_hash, pseudonym, pseudonymise
from cai_assets.domain.redaction import Redactor
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.failures import PermanentError
from cai_assets.schemas import lake
from cai_assets.schemas.base import TIMESTAMP

KEY = SecretStr("secret")


def _rows(table: Any, *values: dict[str, Any]) -> pa.RecordBatch:
    schema = pa.schema([field.with_nullable(True) for field in table.arrow_schema])
    filled = {
        pa.string(): "x",
        pa.bool_(): False,
        pa.int32(): 0,
        TIMESTAMP: 0,
    }
    first = {field.name: None if field.nullable else filled[field.type] for field in table.arrow_schema}
    return pa.RecordBatch.from_pylist([{**first, **row} for row in values], schema=schema)


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"))), st.binary(min_size=1))
def test_pseudonyms_are_one_to_one_and_keep_nulls(ids: list[str | None], key: bytes) -> None:
    chunks = pa.chunked_array([pa.array(ids[:2], pa.string()), pa.array(ids[2:], pa.string())])
    hashed = pseudonymise(chunks, key).to_pylist()
    assert [one is None for one in hashed] == [one is None for one in ids]
    assert len(set(hashed)) == len(set(ids))
    assert all(one is None or (one.startswith("u_") and len(one) == 34) for one in hashed)
    assert hashed == [None if one is None else pseudonym(one, key) for one in ids]


def test_another_key_gives_another_pseudonym() -> None:
    assert pseudonym("u1", b"a") != pseudonym("u1", b"b")


def test_users_are_hashed_and_agents_are_not() -> None:
    rows = _rows(
        lake.MESSAGES,
        {"message_id": "m1", "sender_type": "user", "sender_id": "ann"},
        {"message_id": "m2", "sender_type": "agent", "sender_id": "ann"},
        {"message_id": "m3", "sender_type": "user"},
    )
    senders = to_lake(lake.MESSAGES, rows, KEY)["sender_id"].to_pylist()
    assert senders == [pseudonym("ann", b"secret"), "ann", None]
    users = to_lake(lake.CONVERSATIONS, _rows(lake.CONVERSATIONS, {"user_id": "ann"}), KEY)["user_id"]
    assert users.to_pylist() == [pseudonym("ann", b"secret")]


def test_order_and_schema_are_the_declared_ones_whatever_came() -> None:
    values = [
        {"partition": f"2024-05-0{day}", "conversation_id": key, "message_id": f"m{seq}", "seq": seq or None}
        for day in (1, 2)
        for key in "ab"
        for seq in (0, 1, 2)
    ]
    rows, shuffled = (
        to_lake(lake.MESSAGES, _rows(lake.MESSAGES, *some), KEY)
        for some in (values, random.Random(1).sample(values, len(values)))
    )
    made, again = (_sorted(lake.MESSAGES, [one]) for one in (rows, shuffled))
    assert made.equals(again)
    assert made.schema.equals(lake.MESSAGES.arrow_schema)
    found = [(row["partition"], row["conversation_id"], row["seq"] or 9) for row in made.to_pylist()]
    assert found == sorted(found), "nulls come last"
    reversed_columns = _rows(lake.MESSAGES, *values).select(lake.MESSAGES.arrow_schema.names[::-1])
    assert to_lake(lake.MESSAGES, reversed_columns, KEY).equals(rows)
    for table in lake.TABLES:
        empty = to_lake(table, _rows(table), KEY)
        assert (empty.num_rows, empty.schema) == (0, table.arrow_schema)


def _sorted(table: Any, batches: list[pa.RecordBatch], **options: Any) -> pa.Table:
    reader = pa.RecordBatchReader.from_batches(table.arrow_schema, batches)
    return DuckDBEngine(**options).sort(reader, table).read_all()


def test_the_order_of_any_texts_and_nulls_is_arrows_own() -> None:
    """Byte by byte, whatever the language; with so little memory that the rows wait on disk."""
    source = random.Random(3)
    alphabet = "aäAZzßéあ漢🙂\x00 ~"
    values = [
        {
            "partition": f"2024-05-{source.randint(1, 3):02}",
            "conversation_id": "".join(source.choices(alphabet, k=source.randint(0, 3))),
            "message_id": f"{n:06}",
            "seq": source.choice([None, 1, 2]),
            "text": "".join(source.choices(alphabet, k=400)),
        }
        for n in range(20_000)
    ]
    batch = _rows(lake.MESSAGES, *values).cast(lake.MESSAGES.arrow_schema)
    found = _sorted(lake.MESSAGES, [batch], memory_limit="24MB", threads=1)
    order = [(name, "ascending") for name in ("partition", *lake.MESSAGES.key)]
    assert found.equals(pa.Table.from_batches([batch]).sort_by(order))


def test_missing_key_is_named_with_how_to_make_one() -> None:
    with pytest.raises(PermanentError, match=r"PSEUDONYM_KEY is not set.*token_hex"):
        to_lake(lake.CONVERSATIONS, _rows(lake.CONVERSATIONS, {}), None)
    to_lake(lake.LLM_CALLS, _rows(lake.LLM_CALLS, {"attempts": 1}), None)  # names no user and holds no hash


def test_missing_value_names_column_and_row() -> None:
    rows = _rows(lake.CONVERSATIONS, {"conversation_id": "c1", "status": None})
    with pytest.raises(PermanentError, match=r"lake/conversations: status has 1 nulls, .*'c1'"):
        to_lake(lake.CONVERSATIONS, rows, KEY)


def test_a_users_id_stands_nowhere_in_clear() -> None:
    events = [
        {"from_status": None, "to_status": "open", "at": 0, "actor": "ann"},
        {"from_status": "open", "to_status": "resolved", "at": 1, "actor": "agent-1"},
    ]
    rows = _rows(
        lake.CONVERSATIONS,
        {"user_id": "bob"},
        {"user_id": "ann", "status_events": events, "tags": ["vip", "ann"]},
        {"user_id": "eve", "status_events": [], "tags": []},
    ).slice(1)  # as batches come: a part of a larger one
    made = to_lake(lake.CONVERSATIONS, rows, KEY)
    ann = pseudonym("ann", b"secret")
    assert made["user_id"].to_pylist() == [ann, pseudonym("eve", b"secret")]
    assert [one["actor"] for one in made["status_events"][0].as_py()] == [ann, "agent-1"]
    assert made["tags"].to_pylist() == [["vip", ann], []]
    sent = to_lake(lake.MESSAGES, _rows(lake.MESSAGES, {"sender_type": "system", "sender_id": "ann"}), KEY)
    assert sent["sender_id"].to_pylist() == [ann]


def test_hashes_are_keyed_so_that_nobody_can_test_guesses() -> None:
    rows = _rows(
        lake.MESSAGES, {"content_hash": "c", "text_hash": "t"}, {"content_hash": "d", "text_hash": "t"}
    )
    made = to_lake(lake.MESSAGES, rows, KEY)
    assert made["content_hash"].to_pylist() == [keyed_hash("c", b"secret"), keyed_hash("d", b"secret")]
    assert made["text_hash"].to_pylist() == [keyed_hash("t", b"secret")] * 2, "equal texts stay equal"
    assert to_lake(lake.MESSAGES, rows, SecretStr("other"))["text_hash"][0] != made["text_hash"][0]


def test_texts_tags_and_reasons_are_masked_and_counted() -> None:
    redactor = Redactor("mask")
    messages = _rows(lake.MESSAGES, {"text": "mail a@example.com"}, {"text": None}, {"text": "hello"})
    made = to_lake(lake.MESSAGES, messages, KEY, redactor)
    assert made["text"].to_pylist() == ["mail [email]", None, "hello"]
    reason = _rows(lake.TRANSLATIONS, {"status": "failed", "error": "cannot translate a@example.com"})
    assert to_lake(lake.TRANSLATIONS, reason, KEY, redactor)["error"].to_pylist() == [
        "cannot translate [email]"
    ]
    tags = _rows(lake.CONVERSATIONS, {"tags": ["a@example.com", "vip"]}, {"tags": None})
    assert to_lake(lake.CONVERSATIONS, tags, KEY, redactor)["tags"].to_pylist() == [["[email]", "vip"], None]
    assert redactor.found == {"email": 3}
