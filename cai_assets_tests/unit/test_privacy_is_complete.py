"""Privacy knows of all that is kept: every collection, column, mart and report query is classified."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain import erasure
from cai_assets.domain.groups import (
    GROUP_OF_MART,
    GROUP_OF_QUERY,
    GROUP_OF_SHEET,
    INSTEAD_IN_MART,
    INSTEAD_IN_SHEET,
    OF_CELLS,
    Group,
    is_withheld,
    published,
)
from cai_assets.engines.exports import NAMES
from cai_assets.engines.models import load_queries
from cai_assets.resources.erasure_mongo import COLLECTIONS_ERASED
from cai_assets.schemas.base import Table
from cai_assets.schemas.documents import COLLECTIONS
from cai_assets.schemas.tables import MARTS, TABLES

KNOWN = erasure.PERSON_COLUMNS | erasure.CONVERSATION_COLUMNS | erasure.MESSAGE_COLUMNS | erasure.OTHER_IDS


def test_every_collection_is_erased_in_some_way() -> None:
    assert set(COLLECTIONS_ERASED) == set(COLLECTIONS), (
        "a collection is new: say in COLLECTIONS_ERASED how a person goes out of it"
    )


@pytest.mark.parametrize("table", TABLES.values(), ids=["/".join(path) for path in TABLES])
def test_every_table_says_whose_its_rows_are(table: Table) -> None:
    ids = {
        column.name
        for column in table.columns
        if column.type == pa.string() and (column.name.endswith("_id") or "user" in column.name)
    }
    assert ids <= KNOWN, f"{table.path}: say in domain.erasure whose ids {sorted(ids - KNOWN)} are"
    assert erasure.holds_persons(table) is not (table.path in erasure.SUMS), (
        f"{table.path} is new and has no column of persons or conversations: name it in SUMS, if it is sums"
    )


def test_every_mart_and_every_report_query_names_its_group() -> None:
    assert set(GROUP_OF_MART) == {table.name for table in MARTS}
    for table in MARTS:
        column = GROUP_OF_MART[table.name]
        assert column in (None, "") or column in table.by_name, table.name
        assert set(INSTEAD_IN_MART.get(table.name, ())) <= table.by_name.keys(), table.name
    assert set(INSTEAD_IN_MART) <= set(GROUP_OF_MART)
    assert set(INSTEAD_IN_SHEET) <= set(GROUP_OF_SHEET)
    assert set(GROUP_OF_QUERY) | OF_CELLS == {query.name for query in load_queries("reports")}
    assert not set(GROUP_OF_QUERY) & OF_CELLS
    assert set(GROUP_OF_SHEET) == set(NAMES)


@given(
    st.lists(st.fixed_dictionaries({"conversations": st.none() | st.integers(0, 12)}), max_size=20),
    st.integers(1, 12),
)
def test_no_group_below_the_least_is_published(rows: list[dict[str, int | None]], least: int) -> None:
    headline = [{"distinct_users": 3}]
    tables, withheld = published({"categories": rows, "top_users": rows, "headline": headline}, least)
    assert all(not row["conversations"] or row["conversations"] >= least for row in tables["categories"])
    # those beside a total take others with them; which, `test_groups` holds
    empty = [row for row in rows if not row["conversations"]]
    assert [row for row in tables["categories"] if not row["conversations"]] == empty
    if all(row["conversations"] >= least for row in rows if row["conversations"]):
        assert tables["categories"] == rows
    assert tables["top_users"] == ([] if least > 1 else rows)
    assert withheld == 2 * len(rows) - len(tables["categories"]) - len(tables["top_users"])
    assert is_withheld({"distinct_users": 3}, least) is (least > 3)
    assert not is_withheld({"distinct_users": 0}, least)


def test_rows_about_nobody_are_never_withheld() -> None:
    assert Group(GROUP_OF_MART["cost"], 100).keeps({"conversations": 1})
