"""The sandbox's parts without a server: seeding, answers, rules, faults."""

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.failures import PermanentError
from cai_assets.sandbox.answers import Translator, categoriser, usage
from cai_assets.sandbox.config import SandboxConfig
from cai_assets.sandbox.faults import FaultError, Faults
from cai_assets.sandbox.filters import select
from cai_assets.sandbox.rules import KEYWORDS, categorise
from cai_assets.sandbox.seed import PARALLEL, build_table, load
from cai_assets.sandbox.where import parse
from cai_assets_tests.conftest import shared_data
from cai_assets_tests.fixtures.sandbox import write_small_folder


def column(table, title):
    return [row[table.columns[title].at] for row in table.rows.values()]


# -- seeding


def test_a_folder_becomes_tables_in_order_of_time(small_folder):
    data = load(SandboxConfig(data=str(small_folder)))
    conversations, messages = data.tables["conversations"], data.tables["messages"]
    assert {name: c.uidt for name, c in conversations.columns.items()} == {
        "Id": "ID",
        "CreatedAt": "CreatedTime",
        "UpdatedAt": "LastModifiedTime",
        "conversation_id": "SingleLineText",
        "user_id": "SingleLineText",
        "channel": "SingleLineText",
        "status": "SingleLineText",
        "started_at": "DateTime",
        "ended_at": "SingleLineText",
        "status_events": "JSON",
        "tags": "JSON",
        "csat_score": "Number",
    }
    assert conversations.rows[2][:3] == [2, "2025-01-01 00:07:00+00:00", None]
    assert column(conversations, "ended_at")[0] == "2025-01-01T00:05:00.250000+00:00"
    assert column(conversations, "tags")[:2] == [None, ["vip"]]
    assert column(conversations, "status_events")[0][0]["to"] == "resolved"
    assert column(messages, "created_at") == sorted(column(messages, "created_at"))
    assert messages.columns["text"].uidt == "LongText"
    assert messages.columns["private"].uidt == "Checkbox"
    assert data.parallel.num_rows == 3


def test_sqlite_keeps_json_as_text_and_checkboxes_as_numbers(small_folder):
    data = load(SandboxConfig(data=str(small_folder), dialect="sqlite"))
    assert column(data.tables["conversations"], "tags")[:2] == [None, '["vip"]']
    assert column(data.tables["messages"], "private")[:3] == [0, 1, 0]


def test_started_at_stays_an_instant_of_whole_seconds():
    start = datetime(2025, 1, 1, 12, 0, 0, 999_000, tzinfo=UTC)
    source = pa.table({"conversation_id": ["c"], "user_id": ["u"], "status": ["open"], "started_at": [start]})
    table = build_table("conversations", source, "postgres")
    assert table.columns["started_at"].uidt == "DateTime"
    assert table.rows[1][1] == column(table, "started_at")[0] == "2025-01-01 12:00:00+00:00"


def test_times_that_are_none_are_seeded_as_they_are():
    start = datetime(2025, 1, 1, tzinfo=UTC)
    source = pa.table(
        {
            "message_id": ["a", "b", "c"],
            "conversation_id": ["x"] * 3,
            "sender_type": ["user"] * 3,
            "text": ["1", "2", "3"],
            "created_at": [start.isoformat(), "not a date", (start + timedelta(days=1)).isoformat()],
        }
    )
    table = build_table("messages", source, "postgres")
    assert set(column(table, "created_at")) == set(source["created_at"].to_pylist())
    assert len(table.rows) == 3
    assert all(row[1] for row in table.rows.values())


@pytest.mark.parametrize("missing", ["conversations", "messages"])
def test_a_folder_without_a_file_is_told_what_is_expected(small_folder, tmp_path, missing):
    for path in small_folder.glob("*.parquet"):
        if path.stem != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(
        PermanentError, match=rf"{missing}\.parquet does not exist.*conversation_id.*created_at"
    ):
        load(SandboxConfig(data=str(tmp_path)))


def test_a_missing_column_is_named(tmp_path):
    write_small_folder(tmp_path, conversations=2)
    path = tmp_path / "messages.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["text"]), path)
    with pytest.raises(PermanentError, match=r"messages lack the column\(s\) text; found: message_id"):
        load(SandboxConfig(data=str(tmp_path)))


def test_wrong_options_of_the_sample_are_told():
    with pytest.raises(PermanentError, match=r"cannot be made with .*'dayz': 3"):
        load(SandboxConfig(sample_options={"dayz": 3}))


def seconds_of(table, where):
    """Processor time of the first answer to a filter (later ones are remembered), the best of five."""
    times = []
    for _ in range(5):
        table.remembered.clear()
        started = time.process_time()
        assert len(select(table, parse(where))) > 0
        times.append(time.process_time() - started)
    return min(times)


def test_pages_of_a_large_table_do_not_look_at_every_row():
    tables = load(SandboxConfig(data=str(shared_data("star")))).tables
    messages, conversations = tables["messages"], tables["conversations"]
    ids = ",".join(column(conversations, "conversation_id")[3000:3300])
    late = f"exactDate,{column(messages, 'CreatedAt')[-2000]}"
    scan = seconds_of(messages, "(text,like,taxi)")
    for where in (
        "(Id,gt,100000)",
        f"(conversation_id,in,{ids})~and(Id,gt,20000)",
        f"(created_at,gte,{late})~and(created_at,lt,exactDate,2021-01-01 00:00:00+00:00)",
        f"(UpdatedAt,gte,{late})~or(CreatedAt,gte,{late})",
    ):
        assert seconds_of(messages, where) < scan / 5, where[:60]


# -- answers


def parallel(*rows):
    return pa.table([[row[at] for row in rows] for at in range(4)], names=list(PARALLEL))


def translate(translator, text, source="de", target="en"):
    return translator({"text": text, "source_language": source, "target_language": target})


PAIRS = [
    ("de", "en", "Okay", "OK"),
    ("de", "en", "Okay", "Alright"),
    ("de", "en", "Okay", "Alright"),
    ("fr", "en", "Okay", "Fine"),
]


@given(st.permutations(PAIRS))
def test_the_most_frequent_translation_wins_whatever_the_order(rows):
    translator = Translator(parallel(*rows))
    assert translate(translator, "Okay").text == "Alright"
    assert translate(translator, "Okay", "fr").text == "Fine"
    assert translate(translator, "Okay", "und").text == "Alright"
    assert translate(translator, "Okay", "it-IT").text == "Alright"


@given(st.permutations([("de", "en", "Ja", word) for word in ("Yes", "Yep", "Yeah")]))
def test_of_equally_frequent_translations_the_smallest_wins(rows):
    assert translate(Translator(parallel(*rows)), " Ja ").text == "Yeah"


def test_a_text_in_the_target_language_comes_back_as_it_is():
    translator = Translator(parallel(("de", "en", "Ja", "Yes"), ("en", "de", "Hello", "Hallo")))
    assert translate(translator, "Hello", "nl").text == "Hello"


def test_an_unknown_text_fails_without_repeating_it():
    answer = translate(Translator(parallel(("de", "en", "Ja", "Yes"))), "geheim")
    assert answer.error is not None
    assert "'en'" in answer.error
    assert "6 characters" in answer.error
    assert "geheim" not in answer.error


def test_composed_and_decomposed_characters_are_one_text():
    translator = Translator(parallel(("de", "en", "Gr\u00fc\u00dfe", "Greetings")))
    assert translate(translator, "Gru\u0308\u00dfe").text == "Greetings"


@given(st.text(max_size=500), st.text(max_size=500))
def test_usage_adds_up(question, text):
    spent = usage("prompt", question, text, 0.25)
    assert spent["total_tokens"] == spent["prompt_tokens"] + spent["completion_tokens"]
    assert Decimal(spent["total_price"]) == Decimal(spent["prompt_price"]) + Decimal(
        spent["completion_price"]
    )
    for part in ("prompt", "completion"):
        exact = (
            spent[f"{part}_tokens"]
            * Decimal(spent[f"{part}_unit_price"])
            * Decimal(spent[f"{part}_price_unit"])
        )
        assert abs(Decimal(spent[f"{part}_price"]) - exact) <= Decimal("0.00000005")
        assert len(spent[f"{part}_price"].split(".")[1]) == 7
    assert usage("prompt", question, text, 0.25) == spent


# -- categories

OFFERED = ["billing", "delivery", "booking", "account", "technical", "cancellation", "information", "other"]


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("user: I was charged twice, where is the invoice?", "billing"),
        ("user: Wo ist mein Paket? Die Lieferung fehlt.", "delivery"),
        ("user: Je voudrais réserver une table pour deux.", "booking"),
        ("user: He olvidado mi contraseña.", "account"),
        ("user: アプリでエラーが出ます。", "technical"),
        ("user: Ich möchte meine Bestellung stornieren.\nstaff: Welche Bestellung?", "cancellation"),
        ("user: Quels sont vos horaires d'ouverture ?", "information"),
        ("user: hm", "other"),
        ("", "other"),
    ],
)
def test_conversations_are_told_apart_in_their_languages(text, category):
    assert categorise(text, OFFERED)[0] == category


@pytest.mark.parametrize(
    "name", ["bank", "ride", "restaurant", "hotel", "weather", "doctor", "party", "trip", "apartment"]
)
def test_task_dialogues_have_categories_of_their_own(name):
    assert categorise(f"user: I need help with a {name}.", list(KEYWORDS))[0] == name


@given(st.permutations(OFFERED), st.text(max_size=200))
def test_the_order_of_the_names_does_not_matter(names, text):
    name, confidence = categorise(f"{text} Rechnung", names)
    assert (name, confidence) == categorise(f"{text} Rechnung", OFFERED)
    assert 0 <= confidence <= 1


def test_a_category_without_rules_is_looked_for_by_its_name():
    assert categorise("user: my loyalty card", ["loyalty", "other"])[0] == "loyalty"
    assert categorise("user: hm", ["zebra", "apple"]) == ("apple", 0.2)


@pytest.mark.parametrize("names", ["billing, other", "[]", "[1]", '{"a": 1}'])
def test_names_that_cannot_be_read_fail_the_run(names):
    answer = categoriser({"transcript": "hello", "categories": names})
    assert "The input categories cannot be read" in (answer.error or "")
    assert categoriser({"transcript": "hello", "categories": json.dumps(["a"])}).error is None


# -- faults


def strikes(faults, times, service="dify", path="/v1/workflows/run"):
    return [faults.draw(service, ("cut", "slow"), path) is not None for _ in range(times)]


def test_the_next_requests_after_some_are_struck():
    faults = Faults()
    faults.replace({"rules": [{"service": "dify", "kind": "cut", "next": 2, "skip": 1, "path": "/run"}]})
    assert strikes(faults, 5) == [False, True, True, False, False]
    assert strikes(faults, 2, path="/v1/info") == strikes(faults, 2, service="nocodb") == [False, False]
    assert faults.describe()["rules"][0]["fired"] == 2


def test_the_same_seed_strikes_the_same_requests():
    faults, runs = Faults(), []
    for seed in (1, 1, 2):
        faults.replace({"seed": seed, "rules": [{"service": "dify", "kind": "cut", "probability": 0.3}]})
        runs.append(strikes(faults, 200))
    assert runs[0] == runs[1] != runs[2]
    assert 30 < sum(runs[0]) < 90


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"rules": [{"service": "mongo", "kind": "cut"}]}, "service nocodb or dify, not 'mongo'"),
        ({"rules": [{"service": "nocodb", "kind": "failed"}]}, "No fault 'failed' of nocodb.*delete_rows"),
        (
            {"rules": [{"service": "dify", "kind": "cut", "often": 1}]},
            "Unknown in a fault rule: often. Known: ",
        ),
        ({"rule": []}, "seed, rules"),
        ({"rate_limit": {"per_minute": 1}}, "rate_limit takes"),
    ],
)
def test_wrong_rules_are_refused_and_change_nothing(rules, message):
    faults = Faults()
    faults.replace({"seed": 3, "rules": [{"service": "dify", "kind": "cut"}]})
    before = faults.describe()
    with pytest.raises(FaultError, match=message):
        faults.replace(rules)
    assert faults.describe() == before


def test_the_throttle_blocks_after_a_burst():
    faults = Faults()
    assert not any(faults.throttled() for _ in range(50))
    faults.replace({"rate_limit": {"requests": 5, "per_seconds": 10, "block_seconds": 30}})
    assert [faults.throttled() for _ in range(8)] == [False] * 5 + [True] * 3
