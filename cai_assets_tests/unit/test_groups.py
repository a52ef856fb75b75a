"""MIN_GROUP_SIZE beside totals: nothing about a small group is left when the shown rows are taken off."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.groups import (
    ADDING_UP,
    GROUP_OF_QUERY,
    Group,
    group_of_mart,
    group_of_sheet,
    published,
)
from cai_assets.resources.plain_copies import _published
from cai_assets.schemas.marts_people import AGENT


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


def agent(**counts: int) -> dict[str, Any]:
    """A row of the mart of agents with these counts, all others 0."""
    return dict.fromkeys((c.name for c in AGENT.columns if pa.types.is_integer(c.type)), 0) | counts


# Counts that a row may have alone: of those that others bring with them, the others tell the group.
@pytest.mark.parametrize(
    "alone",
    [
        *("conversations", "conversations_active", "waits_answered", "transfers_out", "resolution_events"),
        *("resolution_users", "csat_answered"),
    ],
)
def test_a_day_of_an_agent_without_conversations_begun_is_withheld_by_what_it_tells(alone: str) -> None:
    group = group_of_mart("agent", 5)
    rows = [agent(**{alone: number}) for number in (0, 1, 4, 5, 9)]
    assert [row[alone] for row in group.published(rows)] == [0, 5, 9]
    copied = pa.Table.from_pylist(rows).filter(_published(group))
    assert copied[alone].to_pylist() == [0, 5, 9]


def test_users_of_an_agents_resolutions_count_before_the_resolves() -> None:
    group = group_of_mart("agent", 5)
    assert not group.keeps(agent(resolution_users=1, resolutions=6, resolution_events=9))
    assert group.keeps(agent(conversations=6, resolution_users=1, resolutions=1, resolution_events=1))


def test_an_agent_who_only_resolved_is_withheld_from_the_sheet_too() -> None:
    row = {"agent": "A", "agent_conversations": 0, "agent_messages": 0, "response_n": 0}
    group = group_of_sheet("agents", 5)
    assert [group.keeps({**row, "resolution_events": n}) for n in (0, 1, 5)] == [True, False, True]


@given(st.lists(st.integers(0, 30)), st.integers(1, 10))
def test_what_the_total_tells_of_those_withheld_is_about_enough(sizes: list[int], least: int) -> None:
    kept = Group("conversations", least).published_beside_totals(rows(*sizes), ())
    left = sum(sizes) - sum(row["conversations"] for row in kept)
    others = [row for row in kept if row["conversations"]]
    assert all(row["conversations"] >= least for row in others)
    assert left == 0 or left >= least or not others
    hidden = len(sizes) - len(kept)
    assert hidden != 1 or not others
