"""Replacing partitions of documents on a real server: healing, revival, moves, races, nothing lost."""

import json
import random
import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from cai_assets.domain.documents import documents_from_raw
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.mongo_documents import Replacement, WriteCounts
from cai_assets_tests.raw_data import NOW, conversation, message, raw_rows

DAY, NEXT, THIRD = "2024-05-01", "2024-05-02", "2024-05-03"
Row = tuple[str, int, int | None, Any]

pytestmark = pytest.mark.parametrize("transactions", [True, False], ids=["transactions", "standalone"])


@pytest.fixture(autouse=True)
def _with_and_without_transactions(mongo_store: MongoStore, transactions: bool) -> None:
    """The same on a replica set and on a server that has no transactions."""
    mongo_store.transactions = mongo_store.transactions and transactions


def replace(
    store: MongoStore,
    rows: list[Row],
    days: list[str],
    table: Any = "conversations",
    minutes: int = 0,
    **options: Any,
) -> Replacement:
    rows = [row for row in rows if row[0] in days]
    batch = documents_from_raw(raw_rows(rows), table, partitions=days, **options)
    return store.replace_partitions(batch, run_id=f"run{minutes}", now=NOW + timedelta(minutes=minutes))


def live(store: MongoStore, table: str = "conversations") -> dict[str, dict[str, Any]]:
    return {one["_id"]: one for one in store.collection(table).find({"deleted_at": None})}


def test_documents_are_stamped_typed_and_untouched_when_nothing_changed(mongo_store: MongoStore) -> None:
    rows: list[Row] = [(DAY, n, n, conversation(conversation_id=f"c{n}")) for n in range(1, 251)]
    first = replace(mongo_store, rows, [DAY])
    assert first.total == WriteCounts(rows=250, inserted=250, live=250)
    document = live(mongo_store)["c7"]
    assert document["ingested_at"] == document["changed_at"] == NOW
    assert (document["run_id"], document["partition"], document["source_id"]) == ("run0", DAY, 7)
    assert (document["schema_version"], document["deleted_at"]) == (1, None)
    before = live(mongo_store)
    again = replace(mongo_store, rows, [DAY], minutes=5)
    assert again.total == WriteCounts(rows=250, unchanged=250, live=250)
    assert live(mongo_store) == before
    rows[6] = (DAY, 7, 99, conversation(conversation_id="c7", status="resolved"))
    changed = replace(mongo_store, rows, [DAY], minutes=9)
    assert changed.total == WriteCounts(rows=250, updated=1, unchanged=249, live=250)
    document = live(mongo_store)["c7"]
    assert (document["status"], document["run_id"], document["ingested_at"]) == ("resolved", "run9", NOW)
    assert document["changed_at"] == NOW + timedelta(minutes=9)


def test_gone_rows_are_marked_and_revived(mongo_store: MongoStore) -> None:
    row: Row = (DAY, 1, 1, conversation())
    replace(mongo_store, [row], [DAY])
    assert replace(mongo_store, [], [DAY], minutes=1).total == WriteCounts(deleted=1)
    gone = mongo_store.collection("conversations").find_one({"_id": "c1"})
    assert gone is not None
    assert (gone["deleted_at"], gone["status"]) == (NOW + timedelta(minutes=1), "open")
    assert replace(mongo_store, [], [DAY], minutes=2).total == WriteCounts()
    assert replace(mongo_store, [row], [DAY], minutes=3).total == WriteCounts(rows=1, updated=1, live=1)
    assert live(mongo_store)["c1"]["ingested_at"] == NOW


def test_quarantine_holds_the_row_verbatim_and_heals_by_itself(mongo_store: MongoStore) -> None:
    broken = json.dumps(conversation(started_at="Invalid Date", attrs={"t": "\ud800"}))
    result = replace(mongo_store, [(DAY, 1, 1, broken), (DAY, 2, 1, conversation())], [DAY])
    assert result.total == WriteCounts(rows=2, inserted=1, quarantined=1, live=1)
    (kept,) = mongo_store.collection("quarantine").find()
    assert (kept["table"], kept["partition"], kept["source_id"], kept["row"]) == (
        "conversations",
        DAY,
        1,
        broken,
    )
    written = 1_704_067_200_000_000 + 60_000_000  # a minute into 2024
    assert (kept["source_updated_us"], kept["business_id"]) == (written, "c1")
    assert "started_at: 'Invalid Date'" in kept["reason"]
    assert "lone surrogate" in kept["reason"]
    replace(mongo_store, [(DAY, 1, 1, broken), (DAY, 2, 1, conversation())], [DAY], minutes=1)
    assert list(mongo_store.collection("quarantine").find()) == [kept]  # not written again
    replace(mongo_store, [(DAY, 1, 2, broken), (DAY, 2, 1, conversation())], [DAY], minutes=1)
    (later,) = mongo_store.collection("quarantine").find()
    assert later["source_updated_us"] == written + 60_000_000  # edited, and wrong as before
    healed = conversation(conversation_id="c2")
    assert replace(
        mongo_store, [(DAY, 1, 2, healed), (DAY, 2, 1, conversation())], [DAY], minutes=2
    ).total == (WriteCounts(rows=2, inserted=1, unchanged=1, live=2))
    assert mongo_store.collection("quarantine").count_documents({}) == 0


@pytest.mark.parametrize("order", [[DAY, NEXT], [NEXT, DAY]])
def test_a_conversation_that_moved_lives_on_its_new_day(mongo_store: MongoStore, order: list[str]) -> None:
    old: Row = (DAY, 1, 1, conversation())
    new: Row = (NEXT, 1, 2, conversation(started_at="2024-05-02 10:00:00"))
    replace(mongo_store, [old], [DAY])
    for minutes, day in enumerate(order, 1):
        replace(mongo_store, [new], [day], minutes=minutes)
    assert {key: one["partition"] for key, one in live(mongo_store).items()} == {"c1": NEXT}
    assert mongo_store.accounted("conversations", [DAY, NEXT]) == {
        DAY: {"live": 0, "quarantined": 0, "superseded": 0},
        NEXT: {"live": 1, "quarantined": 0, "superseded": 0},
    }


def test_a_stale_day_counts_the_moved_conversation_as_superseded(mongo_store: MongoStore) -> None:
    old: Row = (DAY, 1, 1, conversation(channel="old"))
    new: Row = (NEXT, 1, 2, conversation(channel="new"))
    replace(mongo_store, [old], [DAY])
    moved = replace(mongo_store, [new], [NEXT], minutes=1)
    assert moved.total == WriteCounts(rows=1, updated=1, live=1)
    assert moved.elsewhere == {DAY: 1}
    assert mongo_store.accounted("conversations", [DAY])[DAY] == {
        "live": 0,
        "quarantined": 0,
        "superseded": 1,
    }
    stale = replace(mongo_store, [old], [DAY], minutes=2)
    assert stale.total == WriteCounts(rows=1, superseded=1)
    back = replace(mongo_store, [], [NEXT], minutes=3)
    assert (back.total, back.elsewhere) == (WriteCounts(deleted=1), {DAY: 1})
    assert live(mongo_store)["c1"]["channel"] == "old"
    assert live(mongo_store)["c1"]["partition"] == DAY


def test_repeated_ids_in_one_day_leave_the_last_written(mongo_store: MongoStore) -> None:
    rows: list[Row] = [
        (DAY, n, minutes, conversation(channel=str(n))) for n, minutes in ((1, 5), (2, 9), (3, 9), (4, 1))
    ]
    result = replace(mongo_store, rows, [DAY])
    assert result.total == WriteCounts(rows=4, inserted=1, superseded=3, live=1)
    document = live(mongo_store)["c1"]
    assert document["channel"] == "3"
    assert [one["source_id"] for one in document["superseded"]] == [1, 2, 4]
    assert "same day" in document["superseded"][0]["reason"]
    assert mongo_store.accounted("conversations", [DAY])[DAY]["superseded"] == 3


def test_detection_stays_until_the_message_changes(mongo_store: MongoStore) -> None:
    replace(mongo_store, [(DAY, 1, 1, message())], [DAY], "messages")
    found = {"language_detected": "en", "language_confidence": 0.9}
    mongo_store.collection("messages").update_one({"_id": "m1"}, {"$set": found})
    replace(mongo_store, [(DAY, 1, 1, message())], [DAY], "messages", minutes=1)
    replace(mongo_store, [(DAY, 1, 2, message())], [DAY], "messages", minutes=2)  # written again, as it was
    document = live(mongo_store, "messages")["m1"]
    assert (document["language_detected"], document["run_id"]) == ("en", "run2")
    replace(mongo_store, [(DAY, 1, 3, message(text="Hola"))], [DAY], "messages", minutes=3)
    assert not found.keys() & live(mongo_store, "messages")["m1"].keys()


ODD_ATTRS = {
    "$set": 1,
    "a.b": {"$where": "x"},
    "": None,
    "$ref": "c",
    "$id": [1],
    "nul": "a\0b",
    "e": "🙂",
    "d": 1.5,
}


def test_users_data_is_stored_and_replaced_to_the_letter(mongo_store: MongoStore) -> None:
    ids = ["a/b", "'\"", "$where", "a.b", "\0", "日本 🙂", " blank ", "x" * 1024]
    rows: list[Row] = [
        (DAY, n, 1, conversation(conversation_id=key, user_id=key, attrs=ODD_ATTRS, csat_comment="\0 $x"))
        for n, key in enumerate(ids)
    ]
    assert replace(mongo_store, rows, [DAY]).total.live == len(ids)
    replace(mongo_store, [(*row[:2], 2, row[3]) for row in rows], [DAY], minutes=1)  # by $set this time
    moved: list[Row] = [(NEXT, *row[1:2], 3, row[3]) for row in rows]
    replace(mongo_store, moved, [NEXT], minutes=2)
    back = replace(mongo_store, [], [NEXT], minutes=3)  # from the superseded versions
    assert back.elsewhere == {DAY: len(ids)}
    found = {
        one["_id"]: (
            one["user_id"],
            json.loads(json.dumps(one["attrs"], default=_reference)),
            one["csat_comment"],
        )
        for one in live(mongo_store).values()
    }
    plain = {name: value for name, value in ODD_ATTRS.items() if name not in {"$ref", "$id"}}
    assert {key: (one[0], {k: one[1][k] for k in plain}, one[2]) for key, one in found.items()} == {
        key: (key, plain, "\0 $x") for key in ids
    }


def _reference(value: Any) -> Any:
    return dict(value.as_doc())  # what pymongo makes of $ref and $id


def test_a_row_too_large_for_mongodb_is_quarantined_and_stops_no_other(mongo_store: MongoStore) -> None:
    large = conversation(conversation_id="large", csat_comment="x" * (17 * 1024 * 1024))
    result = replace(mongo_store, [(DAY, 1, 1, large), (DAY, 2, 1, conversation())], [DAY])
    assert result.total == WriteCounts(rows=2, inserted=1, quarantined=1, live=1)
    (kept,) = mongo_store.collection("quarantine").find()
    assert "too large" in kept["reason"] or "MongoDB holds" in kept["reason"]
    assert len(kept["row"]) == 1024 * 1024


def test_rows_that_the_server_refuses_are_quarantined(mongo_store: MongoStore) -> None:
    try:
        mongo_store.database.command(
            "collMod", "conversations", validator={"channel": {"$ne": "forbidden"}}, validationAction="error"
        )
    except OperationFailure as error:
        pytest.skip(f"the server has no validators: {error}")
    rows: list[Row] = [
        (DAY, n, 1, conversation(conversation_id=f"c{n}", channel="forbidden" if n == 3 else "web"))
        for n in range(6)
    ]
    result = replace(mongo_store, rows, [DAY])
    assert result.total == WriteCounts(rows=6, inserted=5, quarantined=1, live=5)
    (kept,) = mongo_store.collection("quarantine").find()
    assert (kept["source_id"], "MongoDB refuses it" in kept["reason"]) == (3, True)


def test_versions_too_large_for_one_document_together_wait_in_quarantine(mongo_store: MongoStore) -> None:
    half = conversation(csat_comment="x" * (9 * 1024 * 1024))
    replace(mongo_store, [(DAY, 1, 1, half)], [DAY])
    result = replace(mongo_store, [(NEXT, 2, 2, half)], [NEXT], minutes=1)
    assert result.total == WriteCounts(rows=1, quarantined=1)
    assert live(mongo_store)["c1"]["partition"] == DAY


def test_days_replaced_at_once_by_several_runs_end_as_one_after_the_other(mongo_store: MongoStore) -> None:
    """Every id is in all three days at once, so that every document is fought for."""
    chance = random.Random(5)
    rows: list[Row] = [
        (day, 1000 * place + n, chance.randrange(50), conversation(conversation_id=f"c{n}", channel=day))
        for place, day in enumerate((DAY, NEXT, THIRD))
        for n in range(150)
    ]
    failures: list[BaseException] = []

    def work(day: str) -> None:
        try:
            for minutes in range(3):
                replace(mongo_store, rows if minutes != 1 else [], [day], minutes=minutes)
        except BaseException as error:  # noqa: BLE001  told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(day,)) for day in (DAY, NEXT, THIRD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    best = {}
    for day, number, written, values in rows:
        best[values["conversation_id"]] = max(
            best.get(values["conversation_id"], (-1, 0, "")), (written, number, day)
        )
    assert {key: one["partition"] for key, one in live(mongo_store).items()} == {
        key: day for key, (_, _, day) in best.items()
    }
    for counts in mongo_store.accounted("conversations", [DAY, NEXT, THIRD]).values():
        assert sum(counts.values()) == 150


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_any_order_of_days_ends_as_a_rebuild(mongo_store: MongoStore, chance: random.Random) -> None:
    """Random changes in the source (moves, edits, deletions, repeats, broken rows) and random refreshes."""
    days = [DAY, NEXT, THIRD]
    source = Source(chance, days)
    for _ in range(chance.randint(1, 6)):
        source.change()
        day = chance.choice(days)
        source.extract(day)
        refresh(mongo_store, source, [day], chance.choice(["conversations", "messages"]))
        for table, extracted in source.raw.items():
            for known, count in source.materialised[table].items():
                accounted = sum(mongo_store.accounted(table, [known])[known].values())
                assert accounted == count, (table, known, len(extracted[known]))
    for day in days:
        source.extract(day)
    for table in ("conversations", "messages"):
        for day in chance.sample(days, len(days)):
            refresh(mongo_store, source, [day], table)
    incremental = state(mongo_store)
    for name in ("conversations", "messages", "quarantine"):
        mongo_store.collection(name).delete_many({})
    for table in ("conversations", "messages"):
        refresh(mongo_store, source, days, table)
    rebuilt = state(mongo_store)
    for name in ("conversations", "messages", "quarantine"):
        mongo_store.collection(name).delete_many({})
    assert incremental == rebuilt


class Source:
    """A source that people change, and what raw holds of it."""

    def __init__(self, chance: random.Random, days: list[str]) -> None:
        self.chance = chance
        self.days = days
        self.rows: dict[int, dict[str, Any]] = {}
        self.clock = 0
        self.raw: dict[str, dict[str, list[Row]]] = {"conversations": {}, "messages": {}}
        self.materialised: dict[str, dict[str, int]] = {"conversations": {}, "messages": {}}

    def change(self) -> None:
        chance = self.chance
        for _ in range(chance.randint(1, 4)):
            self.clock += 1
            if self.rows and chance.random() < 0.6:
                number = chance.choice(sorted(self.rows))
                if chance.random() < 0.3:
                    del self.rows[number]
                    continue
                row = self.rows[number]
            else:
                row = self.rows[len(self.rows) * 100 + self.clock] = {}
            row |= {
                "id": chance.choice(["c1", "c2", ""]),
                "day": chance.choice(self.days),
                "written": chance.choice([None, self.clock]),
                "channel": chance.choice("xyz"),
                "messages": chance.choices(["m1", "m2", "m3"], k=chance.randint(0, 2)),
            }

    def extract(self, day: str) -> None:
        """Read a day anew: its conversations, and the messages of these ids wherever they stand."""
        here = {number: row for number, row in self.rows.items() if row["day"] == day}
        self.raw["conversations"][day] = [
            (day, number, row["written"], conversation(conversation_id=row["id"], channel=row["channel"]))
            for number, row in here.items()
        ]
        ids = {row["id"] for row in here.values() if row["id"]}
        self.raw["messages"][day] = [
            (day, number * 10 + place, row["written"], message(message_id=key, conversation_id=row["id"]))
            for number, row in self.rows.items()
            if row["id"] in ids
            for place, key in enumerate(row["messages"])
        ]


def refresh(store: MongoStore, source: Source, days: list[str], table: str) -> None:
    options: dict[str, Any] = {}
    if table == "messages":
        rows = store.read_arrow("conversations", days).select(["conversation_id", "partition"]).to_pylist()
        options["live_conversations"] = {row["conversation_id"]: row["partition"] for row in rows}
    rows = [row for day in days for row in source.raw[table].get(day, [])]
    result = replace(store, rows, days, table, **options)
    for day in days:
        source.materialised[table][day] = result.partitions[day].rows
        assert result.partitions[day].rows == len(source.raw[table].get(day, []))


def state(store: MongoStore) -> dict[str, Any]:
    stamps = {"ingested_at", "changed_at", "run_id", "revision", "at"}
    return {
        name: {
            one["_id"]: {key: value for key, value in one.items() if key not in stamps}
            for one in store.collection(name).find({"deleted_at": None} if name != "quarantine" else {})
        }
        for name in ("conversations", "messages", "quarantine")
    }
