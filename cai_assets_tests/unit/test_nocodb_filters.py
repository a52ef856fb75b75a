"""Filters say what they mean in NocoDB's grammar, and no id is lost between batches."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.domain.nocodb_filters import (
    IdBatch,
    Window,
    can_be_quoted,
    clause,
    encoded_length,
    id_batches,
    in_no_filter,
    instant_literal,
    is_plain,
    longest_plain_part,
    quoted,
    stands_alone,
    where,
)

ids = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=30), max_size=60)
instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(ids, st.integers(10, 400), st.integers(1, 20), st.booleans())
def test_every_id_is_in_exactly_one_batch_and_blank_ones_in_none(ids, max_bytes, max_ids, plain_column):
    batches = list(id_batches(ids, max_bytes=max_bytes, max_ids=max_ids, plain_column=plain_column))
    asked = [one for batch in batches for one in batch.ids] + in_no_filter(
        set(ids), plain_column=plain_column
    )
    assert sorted(asked) == sorted({one for one in ids if one.strip()})
    assert all(1 <= len(batch.ids) <= max_ids for batch in batches)


@given(ids, st.integers(300, 2000))
def test_a_batch_never_passes_its_bytes_once_encoded(ids, max_bytes):
    empty = {form: encoded_length(IdBatch((), form).clause("c")) for form in ("in", "quoted")}
    for batch in id_batches(ids, max_bytes=max_bytes, max_ids=1000):
        assert len(batch.ids) == 1 or encoded_length(batch.clause("c")) - empty[batch.form] <= max_bytes


@given(ids)
def test_each_form_holds_only_what_its_grammar_can(ids):
    for batch in id_batches(ids, max_bytes=1000, max_ids=10):
        if batch.form == "in":
            assert all(is_plain(one) for one in batch.ids)
        elif batch.form == "quoted":
            assert all(can_be_quoted(one) and not is_plain(one) for one in batch.ids)
        else:
            (one,) = batch.ids
            assert not can_be_quoted(one)
            if batch.form == "eq":
                assert stands_alone(one)
            else:
                part = longest_plain_part(one)
                assert part in one
                assert is_plain(part)
                assert not {"%", "\\"} & set(part)


def test_ids_with_structure_are_quoted_and_those_with_both_quotes_stand_alone():
    batches = list(id_batches(["a", "b,c", "d(e)", 'f"g', "h'i\"j", "a"], max_bytes=1000, max_ids=10))
    assert [batch.clause("conversation_id") for batch in batches] == [
        "(conversation_id,in,a)",
        """("conversation_id",in,"b,c","d(e)",'f"g')""",
        "(conversation_id,eq,h'i\"j)",
    ]
    odd = list(id_batches(["~\"both' of (them", "~\"'("], max_bytes=1000, max_ids=10))
    assert [batch.clause("conversation_id") for batch in odd] == ["(conversation_id,like,both)"]
    assert in_no_filter(["a", "~\"'("]) == ["~\"'("]
    with pytest.raises(ValueError, match="both kinds of quotes"):
        quoted("h'i\"j")


def test_clauses_are_joined_and_marked_for_their_grammar():
    assert where("(a,eq,1)", clause("Id", "gt", 5)) == "(a,eq,1)~and(Id,gt,5)"
    assert where(clause("start, at", "gte", "exactDate", "x", quote_values=True), quote_values=True) == (
        '@("start, at",gte,exactDate,"x")'
    )


def test_a_window_is_asked_for_one_second_wider_in_the_form_all_versions_read():
    window = Window(datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 2, tzinfo=UTC))
    assert window.outer.clauses("started_at") == (
        "(started_at,gte,exactDate,2024-04-30 23:59:59+00:00)",
        "(started_at,lt,exactDate,2024-05-02 00:00:01+00:00)",
    )


@given(instants, st.timedeltas(timedelta(0), timedelta(days=900)), instants)
def test_what_is_in_the_window_is_in_what_is_asked_for(start, length, instant):
    window = Window(start, start + length)
    outer = window.outer
    assert outer.start.microsecond == outer.end.microsecond == 0
    assert outer.start < window.start
    assert outer.end > window.end
    if instant in window:
        literals = [instant_literal(one) for one in (outer.start, instant, outer.end)]
        assert literals == sorted(literals)


@given(instants, st.timedeltas(timedelta(0), timedelta(days=900)), instants)
def test_halves_share_no_instant_and_leave_none_out(start, length, instant):
    window = Window(start, start + length)
    halves = window.halves()
    if halves is None:
        assert length < timedelta(seconds=2)
    else:
        assert sum(instant in half for half in halves) == (instant in window)
