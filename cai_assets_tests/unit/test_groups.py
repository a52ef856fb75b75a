"""MIN_GROUP_SIZE beside totals: nothing about a small group is left when the shown rows are taken off."""

from collections import defaultdict
from datetime import date
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.groups import (
    GROUP_OF_MART,
    GROUP_OF_QUERY,
    GROUP_OF_SHEET,
    NOBODY,
    ONE_PERSON,
    TOTALS_OF_MART,
    TOTALS_OF_QUERY,
    TOTALS_OF_SHEET,
    Group,
    Totals,
    group_of_mart,
    group_of_sheet,
    published,
)
from cai_assets.schemas.marts_people import AGENT
from cai_assets.schemas.tables import MARTS

Row = dict[str, Any]


def rows(*sizes: int, day: str = "2024-05-01") -> list[Row]:
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


def test_a_small_day_takes_rows_of_another_day_with_it() -> None:
    table = [*rows(2), *rows(30, 40, day="2024-05-02"), *rows(6, 7, 8, day="2024-05-03")]
    kept, _ = published({"outcomes_by_day": table}, 5)
    assert [row["conversations"] for row in kept["outcomes_by_day"]] == [30, 40, 8]


def test_a_cohort_goes_with_all_its_rows() -> None:
    cohorts = {1: 20, 2: 3, 3: 9}
    table = [
        {"grain": "week", "cohort_date": date(2024, 1, day), "k": k, "users": users}
        for day, users in cohorts.items()
        for k in range(4 - day)
    ]
    left = group_of_mart("retention", 5).published(table)
    assert {row["cohort_date"].day for row in left} == {1}
    assert len(left) == 3


@pytest.mark.parametrize(
    ("groups", "totals"),
    [
        (GROUP_OF_QUERY, TOTALS_OF_QUERY),
        (GROUP_OF_MART, TOTALS_OF_MART),
        (GROUP_OF_SHEET, TOTALS_OF_SHEET),
    ],
    ids=["queries", "marts", "sheets"],
)
def test_rows_that_add_up_are_those_with_groups(
    groups: dict[str, str | None], totals: dict[str, Totals]
) -> None:
    grouped = {name for name, column in groups.items() if column not in (NOBODY, ONE_PERSON)}
    not_added_up = {"headline", "response_clocks", "targets", "clocks", "terms"}
    assert set(totals) == grouped - not_added_up


def test_totals_are_of_columns_of_their_mart() -> None:
    marts = {table.name: table for table in MARTS}
    for name in TOTALS_OF_MART:
        assert set(group_of_mart(name, 5).columns) <= set(marts[name].by_name), name


TABLES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.sampled_from("xyz"), st.integers(0, 12)),
    max_size=24,
)
TOTALS = st.builds(
    Totals, by=st.sampled_from([(), ("day",), ("day", "channel")]), apart=st.sampled_from([(), ("clock",)])
)


def _of(table: list[tuple[str, int, str, int]]) -> list[Row]:
    return [
        {"clock": clock, "day": day, "channel": channel, "no": number, "n": n}
        for number, (clock, day, channel, n) in enumerate(table)
    ]


def _published_sums(table: list[Row], totals: Totals, least: int) -> list[list[int]]:
    """For each total that is published, which rows it is of. Totals are withheld by the same rule as rows."""
    sums = []
    for depth in range(len(totals.by) + 1):
        names = (*totals.apart, *totals.by[:depth])
        found: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, row in enumerate(table):
            found[tuple(row[name] for name in names)].append(number)
        lines = [
            {**{name: table[numbers[0]][name] for name in names}, "of": numbers,
             "n": sum(table[number]["n"] for number in numbers)}
            for _, numbers in sorted(found.items())
        ]  # fmt: skip
        # The widest total has none beside it.
        beside = Totals(totals.by[: depth - 1], totals.apart) if depth else None
        sums += [line["of"] for line in Group("n", least, beside).published(lines)]
    return sums


@given(TABLES, TOTALS, st.integers(2, 7))
def test_no_withheld_value_can_be_computed_from_the_rows_and_the_totals(
    drawn: list[tuple[str, int, str, int]], totals: Totals, least: int
) -> None:
    table = _of(drawn)
    kept = {row["no"] for row in Group("n", least, totals).published(table)}
    hidden = [number for number in range(len(table)) if number not in kept]
    assert all(not table[number]["n"] or table[number]["n"] >= least for number in kept)
    assert kept >= {row["no"] for row in table if not row["n"]}
    # What is known of the rows withheld: the sum of those in each total. A value can be computed where a sum
    # of such equations tells it alone, which is where adding it to them adds nothing new.
    sums = _published_sums(table, totals, least)
    known = np.array([[number in of for number in hidden] for of in sums], float)
    known = known.reshape(len(sums), len(hidden))
    rank = np.linalg.matrix_rank(known) if known.size else 0
    for place in range(len(hidden)):
        told = np.vstack([known, np.eye(len(hidden))[place]])
        assert np.linalg.matrix_rank(told) > rank, table[hidden[place]]


@given(TABLES, TOTALS, st.integers(2, 7))
def test_what_a_total_tells_of_those_withheld_is_about_enough(
    drawn: list[tuple[str, int, str, int]], totals: Totals, least: int
) -> None:
    table = _of(drawn)
    kept = {row["no"] for row in Group("n", least, totals).published(table)}
    for of in _published_sums(table, totals, least):
        left = sum(table[number]["n"] for number in of if number not in kept)
        assert left == 0 or left >= least


@given(TABLES, st.integers(1, 7))
def test_what_is_withheld_does_not_depend_on_totals_where_all_are_large(
    drawn: list[tuple[str, int, str, int]], least: int
) -> None:
    table = [{**row, "n": row["n"] + least} for row in _of(drawn)]
    assert Group("n", least, Totals(("day", "channel"))).published(table) == table
    assert Group("n", least).published(table) == table


def test_a_table_of_arrow_is_withheld_as_its_rows_are() -> None:
    table = [
        {"report_date": date(2024, 5, day), "channel": channel, "language": language, "started": n}
        for (day, channel, language), n in zip(
            product((1, 2), ("web", None), ("de", "en")), (3, 9, 20, 20, 7, 8, 0, 1), strict=True
        )
    ]
    group = group_of_mart("resolution", 5)
    left = group.published_table(pa.Table.from_pylist(table))
    assert left.to_pylist() == group.published(table)
    assert [row["started"] for row in left.to_pylist()] == [20, 20, 0]


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
    rows = [
        agent(**{alone: number}) | {"report_date": date(2024, 5, 1), "agent_type": "agent"}
        for number in (0, 1, 4, 5, 9)
    ]
    assert [row[alone] for row in rows if group.keeps(row)] == [0, 5, 9]
    # 1 and 4 are withheld together and are about 5, so what the day's total tells is about enough.
    assert [row[alone] for row in group.published(rows)] == [0, 5, 9]
    assert group.published_table(pa.Table.from_pylist(rows))[alone].to_pylist() == [0, 5, 9]


def test_users_of_an_agents_resolutions_count_before_the_resolves() -> None:
    group = group_of_mart("agent", 5)
    assert not group.keeps(agent(resolution_users=1, resolutions=6, resolution_events=9))
    assert group.keeps(agent(conversations=6, resolution_users=1, resolutions=1, resolution_events=1))


def test_an_agent_who_only_resolved_is_withheld_from_the_sheet_too() -> None:
    row = {"agent": "A", "agent_conversations": 0, "agent_messages": 0, "response_n": 0}
    group = group_of_sheet("agents", 5)
    assert [group.keeps({**row, "resolution_events": n}) for n in (0, 1, 5)] == [True, False, True]
