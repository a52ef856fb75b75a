"""The way with the fewest requests is taken, by counts alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.nocodb_plan import Extent, ReadPlan, plan_read


def plan(
    batches: int, ids: int, rows: int, last_id: int, conversations: int, in_no_filter: int = 0
) -> ReadPlan:
    return plan_read(
        batches=batches,
        ids=ids,
        in_no_filter=in_no_filter,
        messages=Extent(rows, last_id),
        conversations=conversations,
        page_rows=1000,
        window_rows=20_000,
    )


def test_a_day_of_a_large_table_is_read_by_its_ids() -> None:
    chosen = plan(3, 900, 10_000_000, 10_000_000, conversations=1_000_000)
    assert (chosen.way, chosen.batches, chosen.scan) == ("batches", 11, 10_000)


def test_a_whole_table_is_scanned() -> None:
    chosen = plan(334, 100_000, 1_000_000, 1_000_000, conversations=100_000)
    assert (chosen.way, chosen.batches, chosen.scan) == ("scan", 1167, 1000)
    assert chosen.numbers() == {
        "read_by": "scan", "requests_of_batches": 1167, "requests_of_a_scan": 1000,
    }  # fmt: skip
    assert chosen.window_ids == 4000


def test_half_of_a_table_is_read_by_ids_or_a_scan_as_the_counts_say() -> None:
    assert plan(1001, 50_000, 1_000_000, 1_000_000, conversations=100_000).way == "scan"
    assert plan(500, 40_000, 1_000_000, 1_000_000, conversations=100_000).way == "batches"


def test_gaps_in_the_ids_make_a_scan_dearer_and_its_windows_wider() -> None:
    chosen = plan(1260, 50_000, 1_000_000, 4_000_000, conversations=100_000)
    assert (chosen.window_ids, chosen.scan, chosen.way) == (16_000, 1125, "scan")
    assert plan(2, 50_000, 10, 4_000_000, conversations=50_000).window_ids == 20_000


def test_ids_in_no_filter_leave_no_choice() -> None:
    chosen = plan(1, 1, 1_000_000, 1_000_000, conversations=9, in_no_filter=1)
    assert chosen.way == "scan"
    assert "1 conversation ids stand in no filter" in chosen.why


counts = st.integers(1, 10**6)


@given(st.integers(1, 5000), counts, st.integers(0, 10**7), st.integers(1, 50), counts)
def test_the_chosen_way_is_never_the_dearer_by_its_own_numbers(
    batches: int, ids: int, rows: int, ids_a_row: int, conversations: int
) -> None:
    chosen = plan(batches, ids, rows, rows * ids_a_row, conversations)
    cheaper = "scan" if chosen.scan < chosen.batches else "batches"
    assert chosen.way == cheaper
    assert chosen.scan >= rows // 1000
    assert batches <= chosen.batches <= batches + rows // 1000 + 1


@pytest.mark.parametrize("rows", [0, 1])
def test_an_empty_table_has_a_plan(rows: int) -> None:
    assert plan(1, 1, rows, rows, conversations=rows).way == "batches"
