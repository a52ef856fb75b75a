"""Which days a row makes dirty, and when a run is asked for."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.changes import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    DirtyDay,
    KnownRow,
    SeenRow,
    differences,
    requests_for,
)
from cai_assets.domain.days import days_between

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
DAYS = days_between("2025-01-30", "2025-02-10")

seen_rows = st.builds(
    SeenRow,
    id=st.just(7),
    days=st.frozensets(st.sampled_from(DAYS), max_size=3),
    updated_us=st.integers(0, 2),
    content_hash=st.sampled_from(["a", "b"]),
    row=st.sampled_from(["{}", "{ }"]),
)


def became(seen: SeenRow) -> list[KnownRow]:
    """What a refresh makes of a row."""
    return [KnownRow(seen.id, day, seen.updated_us, seen.content_hash) for day in seen.days]


@given(seen_rows)
def test_a_row_that_was_refreshed_makes_nothing_dirty(seen: SeenRow) -> None:
    assert differences(seen, became(seen)) == {}


@given(seen_rows)
def test_a_row_nobody_knows_makes_all_its_days_dirty(seen: SeenRow) -> None:
    assert differences(seen, []) == dict.fromkeys(seen.days, "new")


@given(seen_rows, seen_rows)
def test_a_row_that_changed_makes_dirty_exactly_the_days_whose_documents_differ(
    before: SeenRow, now: SeenRow
) -> None:
    found = differences(now, became(before))
    same = (before.updated_us, before.content_hash) == (now.updated_us, now.content_hash)
    assert set(found) == (before.days ^ now.days if same else before.days | now.days)
    assert {day for day, reason in found.items() if reason == "edited"} == (
        set() if same else before.days & now.days
    )


def test_a_rejected_row_is_known_by_its_text_and_by_its_start_where_it_is_too_long() -> None:
    seen = SeenRow(7, frozenset({DAYS[0]}), 1, None, "a long text")
    for text, cut, edited in (
        ("a long text", False, False),
        ("a long", True, False),
        ("a long", False, True),
    ):
        known = KnownRow(7, DAYS[0], 1, None, text, cut)
        assert bool(differences(seen, [known])) is edited
    assert differences(seen, [KnownRow(7, DAYS[0], 2, None, "a long text")]) == {DAYS[0]: "edited"}


def waits(day: str, **more: object) -> DirtyDay:
    return DirtyDay(day, f"mark of {day}", NOW, NOW, {"new": 1}, **more)  # type: ignore[arg-type]


@given(st.sets(st.sampled_from(DAYS)), st.sets(st.sampled_from(DAYS)), st.integers(1, 12))
def test_one_run_for_each_contiguous_range_and_none_for_busy_days(
    dirty: set[str], busy: set[str], longest: int
) -> None:
    asked = requests_for([waits(day) for day in sorted(dirty)], now=NOW, busy=busy, longest=longest)
    assert sorted(day for one in asked for day in one.days) == sorted(dirty - busy)
    for one in asked:
        assert list(one.days) == days_between(one.days[0], one.days[-1])
        assert len(one.days) <= longest
    for one, following in pairwise(asked):
        gap = len(days_between(one.days[-1], following.days[0])) > 2
        assert gap or len(one.days) == longest, "neighbours are one run"


def test_days_that_two_runs_did_not_clear_are_asked_for_one_by_one() -> None:
    tried = [waits(day, requested_at=NOW, attempts=2) for day in DAYS[1:3]]
    asked = requests_for(
        [waits(DAYS[0]), *tried, waits(DAYS[3])], now=NOW + timedelta(days=1), busy=(), longest=31
    )
    assert [one.days for one in asked] == [(DAYS[0],), (DAYS[3],), (DAYS[1],), (DAYS[2],)]
    assert [one.attempt for one in asked] == [1, 1, 3, 3]


def test_the_same_changes_have_the_same_key_and_another_attempt_or_change_another() -> None:
    def key(*days: DirtyDay) -> str:
        (one,) = requests_for(days, now=NOW + timedelta(days=1), busy=(), longest=31)
        return one.key

    first = key(waits(DAYS[0]), waits(DAYS[1]))
    assert key(waits(DAYS[0]), waits(DAYS[1])) == first
    changed = DirtyDay(DAYS[1], "another mark", NOW, NOW, {"new": 1})
    tried = waits(DAYS[1], requested_at=NOW, attempts=1)
    assert len({first, key(waits(DAYS[0]), changed), key(waits(DAYS[0]), tried), key(waits(DAYS[0]))}) == 4


@given(st.integers(1, 20))
def test_pauses_between_attempts_grow_up_to_the_longest(attempts: int) -> None:
    one = waits(DAYS[0], requested_at=NOW, attempts=attempts)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempts - 1))
    assert not one.may_be_requested(NOW + pause - timedelta(seconds=1))
    assert one.may_be_requested(NOW + pause)
