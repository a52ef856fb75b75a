"""MIN_GROUP_SIZE beside totals: nothing about a small group is left when the shown rows are taken off."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.groups import ADDING_UP, GROUP_OF_QUERY, Group, published


def rows(*sizes: int, day: str = "2024-05-01") -> list[dict[str, Any]]:
    return [
        {"report_date": day, "category": f"c{number}", "conversations": size}
        for number, size in enumerate(sizes)
    ]


def shown(*sizes: int, least: int = 5) -> list[int]:
    kept, _ = published({"categories": rows(*sizes)}, least)
    return [row["conversations"] for row in kept["categories"]]


def test_a_group_withheld_alone_takes_the_smallest_other_with_it() -> None:
    assert shown(20, 2, 9, 30) == [20, 30]


def test_small_groups_that_hide_each_other_take_nobody_with_them() -> None:
    assert shown(20, 2, 3, 9) == [20, 9]


def test_groups_that_are_few_together_are_not_told_together() -> None:
    assert shown(20, 1, 1, 9) == [20]


def test_rows_about_nobody_hide_nobody_and_stay() -> None:
    assert shown(20, 2, 0) == [0]
    assert shown(20, 0, 9) == [20, 0, 9]


def test_every_day_has_a_total_of_its_own() -> None:
    table = [*rows(20, 2, 9), *rows(20, 9, day="2024-05-02")]
    kept, withheld = published({"outcomes_by_day": table}, 5)
    assert [(row["report_date"][-1], row["conversations"]) for row in kept["outcomes_by_day"]] == [
        ("1", 20),
        ("2", 20),
        ("2", 9),
    ]
    assert withheld == 2


def test_rows_that_add_up_are_those_of_queries_with_groups() -> None:
    assert all(GROUP_OF_QUERY[name] for name in ADDING_UP)


@given(st.lists(st.integers(0, 30)), st.integers(1, 10))
def test_what_the_total_tells_of_those_withheld_is_about_enough(sizes: list[int], least: int) -> None:
    kept = Group("conversations", least).published_beside_totals(rows(*sizes), ())
    left = sum(sizes) - sum(row["conversations"] for row in kept)
    others = [row for row in kept if row["conversations"]]
    assert all(row["conversations"] >= least for row in others)
    assert left == 0 or left >= least or not others
    hidden = len(sizes) - len(kept)
    assert hidden != 1 or not others
