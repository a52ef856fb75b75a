"""Competing versions: the state follows from each day's last rows, whatever the order of replacing."""

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.domain.documents import Version
from cai_assets.domain.versions import Decision, decide

DAYS = ("2024-05-01", "2024-05-02", "2024-05-03")
Rows = dict[str, list[Version]]

row_lists = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.integers(0, 3), st.sampled_from("xy")),
    max_size=5,
    unique_by=lambda row: row[1],
)


def _versions(day: str, rows: list[tuple[str, int, int, str]]) -> list[Version]:
    return [
        Version(key, day, number, written, f"hash-{content}", {"content": content}, "{}")
        for key, number, written, content in rows
    ]


class Store:
    """Documents in memory, changed as decisions say."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}

    def replace(self, day: str, versions: list[Version]) -> dict[str, Decision]:
        rows: dict[str, list[Version]] = defaultdict(list)
        for version in versions:
            rows[version.id].append(version)
        touched = {
            key
            for key, document in self.documents.items()
            if document["partition"] == day or any(one["partition"] == day for one in document["superseded"])
        }
        decisions = {}
        for key in sorted({*rows, *touched}):
            decision = decisions[key] = decide(day, rows[key], self.documents.get(key))
            if decision.change == "insert":
                self.documents[key] = {**decision.document, "deleted_at": None}
            elif decision.change != "none":
                self.documents[key] |= decision.document
                self.documents[key]["deleted_at"] = "now" if decision.change == "delete" else None
        return decisions

    def live(self) -> dict[str, tuple[Any, ...]]:
        control = ("partition", "source_id", "source_updated_us", "content_hash")
        return {
            key: tuple(document[name] for name in control)
            for key, document in self.documents.items()
            if document["deleted_at"] is None
        }

    def counts(self, day: str) -> tuple[int, int]:
        live = sum(one[0] == day for one in self.live().values())
        lists = [one["superseded"] for one in self.documents.values()]
        return live, sum(entry["partition"] == day for entries in lists for entry in entries)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.sampled_from(DAYS), row_lists), max_size=8),
    st.permutations(DAYS),
    st.permutations(DAYS),
)
def test_any_history_ends_as_a_rebuild_and_loses_no_row(
    history: list[tuple[str, list[tuple[str, int, int, str]]]], order: list[str], rebuild_order: list[str]
) -> None:
    store = Store()
    last: Rows = {}
    for day, rows in history:
        last[day] = _versions(day, rows)
        decisions = store.replace(day, last[day])
        for known, versions in last.items():
            assert sum(store.counts(known)) == len(versions)
        assert (
            sum(one.live for one in decisions.values()),
            sum(one.superseded for one in decisions.values()),
        ) == (store.counts(day))
        again = store.replace(day, last[day])
        assert {one.change for one in again.values()} <= {"none"}
    for day in order:
        store.replace(day, last.get(day, []))
    rebuilt = Store()
    for day in rebuild_order:
        rebuilt.replace(day, last.get(day, []))
    assert store.live() == rebuilt.live()
    assert {day: store.counts(day) for day in DAYS} == {day: rebuilt.counts(day) for day in DAYS}


def test_changed_days_elsewhere_are_named() -> None:
    store = Store()
    store.replace(DAYS[0], _versions(DAYS[0], [("a", 1, 0, "x")]))
    moved = store.replace(DAYS[1], _versions(DAYS[1], [("a", 2, 1, "x")]))
    assert moved["a"].elsewhere == (DAYS[0],)
    gone = store.replace(DAYS[1], [])
    assert gone["a"].elsewhere == (DAYS[0],)
    assert store.live()["a"][0] == DAYS[0]


def test_messages_follow_their_conversation_whatever_their_stamps() -> None:
    def version(day: str, written: int) -> Version:
        return Version("m", day, 1, written, "h", {"conversation_id": "c"}, "{}")

    store = Store()
    store.replace(DAYS[2], [version(DAYS[2], 9)])
    decision = store.replace(DAYS[0], [version(DAYS[0], 0)])["m"]
    assert (decision.live, decision.elsewhere) == (True, (DAYS[2],))
