"""An equation between layers is held day by day, and says which day breaks it and by how much."""

from cai_assets.checks.conservation import compare


def test_equal_counts_pass_and_show_both_sides() -> None:
    result = compare("raw rows", "documents", {"messages": ({"2025-03-20": 3}, {"2025-03-20": 3})})
    assert result.passed
    assert {name: value.value for name, value in result.metadata.items()} == {
        "messages: raw rows": 3,
        "messages: documents": 3,
    }


def test_a_day_that_differs_is_named_even_where_the_sums_agree() -> None:
    ours, theirs = {"2025-03-20": 3, "2025-03-21": 4}, {"2025-03-20": 4, "2025-03-21": 3}
    result = compare("raw rows", "documents", {"messages": (ours, theirs)})
    assert not result.passed
    assert "messages of 2025-03-20: 3 raw rows, 4 documents" in (result.description or "")
    assert result.metadata["wrong_days"].value == 2


def test_a_day_missing_on_one_side_counts_zero_there() -> None:
    result = compare("raw rows", "documents", {"messages": ({"2025-03-20": 2}, {})})
    assert not result.passed
    assert "2 raw rows, 0 documents" in (result.description or "")
