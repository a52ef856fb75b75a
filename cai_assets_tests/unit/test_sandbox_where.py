"""NocoDB's filter language: what is read, what is refused, and what a table lets through."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.sandbox.filters import select
from cai_assets.sandbox.store import Table
from cai_assets.sandbox.where import Both, Condition, Either, FilterError, Negated, parse


def condition(column, operator, value=None):
    return Condition(column, operator, value, tuple(value.split(",")) if value is not None else ())


def test_plain_values_are_taken_as_they_stand():
    assert parse("(channel,eq,whats,app)") == condition("channel", "eq", "whats,app")
    assert parse("(channel,eq,phone (in))") == condition("channel", "eq", "phone (in)")
    assert parse('(channel,eq,"whats,app")') == condition("channel", "eq", '"whats,app"')
    assert parse("(ended_at,blank)") == condition("ended_at", "blank")
    assert parse("") is None


def test_and_binds_tighter_than_or_and_parentheses_nest():
    a, b, c = (condition(name, "eq", "1") for name in "abc")
    assert parse("(a,eq,1)~or(b,eq,1)~and(c,eq,1)") == Either((a, Both((b, c))))
    assert parse("((a,eq,1)~or(b,eq,1))~and(c,eq,1)") == Both((Either((a, b)), c))
    assert parse("(a,eq,1)~and~not(b,eq,1)") == Both((a, Negated(b)))
    assert parse("~not((a,eq,1)~or(b,eq,1))") == Negated(Either((a, b)))


def test_the_quoted_grammar_reads_quotes():
    assert parse('@(channel,eq,"whats,app")') == Condition("channel", "eq", "whats,app", ("whats,app",))
    assert parse('@(text,in,\'a (b)\',"c\\"d",e)') == Condition(
        "text", "in", 'a (b),c"d,e', ("a (b)", 'c"d', "e")
    )
    with pytest.raises(FilterError, match="Invalid filter format"):
        parse("@(channel,eq,phone (in))")


@pytest.mark.parametrize(
    "text", ["a", "(a)", "(a,eq,1", "(a,eq,1))", "(a,eq,1)(b,eq,1)", "(a,eq,1)~xor(b,eq,1)", "()"]
)
def test_malformed_filters_are_refused(text):
    with pytest.raises(FilterError, match="Invalid filter format") as caught:
        parse(text)
    assert caught.value.status == 422


def test_unknown_operators_are_named():
    with pytest.raises(FilterError, match=r"^foo is not supported\.$"):
        parse("(a,foo,1)")


def small_table(dialect="postgres", rows=300):
    """`at` every 7 minutes from 2025-01-01, `owner_id` of three values or none, `n` and `word`."""
    table = Table(
        "m1",
        "t",
        [("owner_id", "SingleLineText"), ("at", "DateTime"), ("n", "Number"), ("word", "LongText")],
        dialect,
    )
    start = datetime(2025, 1, 1, tzinfo=UTC)
    for number in range(rows):
        values = {
            "owner_id": None if number % 5 == 0 else f"o{number % 3}",
            "at": (start + timedelta(minutes=7 * number)).isoformat() if number % 4 else None,
            "n": number % 7 if number % 6 else None,
            "word": ["", "apple", "Pear", None][number % 4],
        }
        table.insert(table.cells(values), start + timedelta(minutes=number))
    return table


TABLE = small_table()


def ids(where, table=TABLE):
    return list(select(table, parse(where)))


def rows(test, table=TABLE):
    names = list(table.columns)
    return [row_id for row_id, row in table.rows.items() if test(dict(zip(names, row, strict=True)))]


@pytest.mark.parametrize(
    ("where", "test"),
    [
        ("(Id,gt,10)~and(Id,lte,20)", lambda r: 10 < r["Id"] <= 20),
        ("(Id,in,3,1,2,999)", lambda r: r["Id"] in (1, 2, 3)),
        ("(Id,btw,5,7)", lambda r: 5 <= r["Id"] <= 7),
        ("(owner_id,in,o1,o2)~and(Id,gt,50)", lambda r: r["owner_id"] in ("o1", "o2") and r["Id"] > 50),
        ("(owner_id,eq,o1)~or(Id,lt,5)", lambda r: r["owner_id"] == "o1" or r["Id"] < 5),
        ("(owner_id,neq,o1)", lambda r: r["owner_id"] != "o1"),
        ("(owner_id,blank)", lambda r: not r["owner_id"]),
        ("(word,notblank)", lambda r: r["word"]),
        ("(word,null)", lambda r: r["word"] is None),
        ("(word,is,null)", lambda r: r["word"] is None),
        ("(word,isnot,null)", lambda r: r["word"] is not None),
        ("(word,like,EA)", lambda r: "ea" in (r["word"] or "").lower()),
        ("(word,like,a%)", lambda r: (r["word"] or "").lower().startswith("a")),
        ("(word,nlike,ea)", lambda r: "ea" not in (r["word"] or "").lower()),
        ("(word,gt,Q)", lambda r: r["word"] is not None and r["word"] > "Q"),
        ("(n,gte,3)~and(n,lt,5)", lambda r: r["n"] in (3, 4)),
        ("~not(n,gte,3)", lambda r: r["n"] is None or r["n"] < 3),
        ("~not((owner_id,eq,o1)~or(owner_id,eq,o2))", lambda r: r["owner_id"] not in ("o1", "o2")),
    ],
)
def test_operators_let_through_what_they_say(where, test):
    assert ids(where) == rows(test)


PRINTED = (
    "2025-01-02 00:03:00+00:00"  # not a row's time: 7-minute steps from midnight pass 00:00:00, 00:07:00
)


@pytest.mark.parametrize(
    "value", [PRINTED, "2025-01-02T00:03:00Z", "2025-01-02 01:03:00+01:00", "2025-01-02 00:03:00"]
)
def test_instants_are_compared_as_instants_in_any_spelling(value):
    late = rows(lambda r: r["at"] is not None and r["at"] >= PRINTED)
    assert ids(f"(at,gte,exactDate,{value})") == late == ids(f"(at,gt,exactDate,{value})")
    assert ids(f"(at,lt,exactDate,{value})") == rows(lambda r: r["at"] is not None and r["at"] < PRINTED)


def test_the_boundary_of_an_instant_depends_on_the_database():
    at = TABLE.rows[2][TABLE.columns["at"].at]
    after = rows(lambda r: r["at"] is not None and r["at"] > at)
    assert ids(f"(at,gt,exactDate,{at})") == after
    assert ids(f"(at,gte,exactDate,{at})") == [2, *after]
    assert ids(f"(at,lte,exactDate,{at})") == [2]
    sqlite = small_table("sqlite")
    assert ids(f"(at,gt,exactDate,{at})", sqlite) == [2, *after]
    assert ids(f"(at,lte,exactDate,{at})", sqlite) == []


def test_equality_and_a_bare_date_mean_the_whole_day():
    first = rows(lambda r: (r["at"] or "").startswith("2025-01-01"))
    later = rows(lambda r: (r["at"] or "") >= "2025-01-02")
    assert ids("(at,eq,exactDate,2025-01-01 11:56:00)") == first == ids("(at,lte,exactDate,2025-01-01)")
    assert ids("(at,gt,exactDate,2025-01-01)") == later == ids("(at,gte,exactDate,2025-01-02)")


@pytest.mark.parametrize("where", ["(at,is,null)", "(at,isnot,null)", "(at,gt,exactDate)"])
def test_what_nocodb_ignores_lets_every_row_through(where):
    assert ids(where) == list(TABLE.ids)
    assert ids(f"{where}~and(Id,lt,4)") == [1, 2, 3]


@pytest.mark.parametrize(
    "where", ["(at,gt,2025-01-01)", "(at,btw,exactDate,2025-01-01,2025-01-02)", "(at,gt,exactDate,x)"]
)
def test_instants_that_cannot_be_read_are_refused(where):
    with pytest.raises(FilterError) as caught:
        ids(where)
    assert (caught.value.status, caught.value.body["error"]) == (422, "ERR_FILTER_VERIFICATION_FAILED")


def test_a_column_is_named_by_its_title_and_case():
    with pytest.raises(FilterError, match="Column alias 'At' not found"):
        ids("(At,blank)")


LEAVES = st.sampled_from(
    [
        "(Id,gt,40)",
        "(Id,lte,200)",
        "(Id,eq,7)",
        "(owner_id,in,o0,o2)",
        "(owner_id,eq,o1)",
        "(owner_id,blank)",
        f"(at,gte,exactDate,{PRINTED})",
        "(at,lt,exactDate,2025-01-01 20:00:00+00:00)",
        "(at,blank)",
        "(at,is,null)",
        "(n,gt,2)",
        "(word,like,app)",
        "(CreatedAt,gte,exactDate,2025-01-01 01:00:00+00:00)",
        "(UpdatedAt,notblank)",
    ]
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'~and'.join(parts)})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'~or'.join(parts)})"),
        inner.map(lambda part: f"~not{part}"),
    ),
    max_leaves=6,
)
EDITS = st.lists(st.tuples(st.sampled_from(["insert", "update", "delete"]), st.integers(1, 60)), max_size=8)


def truth(table, node, row):
    """A filter's meaning, row by row, without indexes; None is `ignored`."""
    if isinstance(node, Condition):
        if node.column in ("at", "CreatedAt", "UpdatedAt") and node.operator == "is":
            return None
        return row[0] in list(select_leaf(table, node))
    if isinstance(node, Negated):
        inner = truth(table, node.part, row)
        return None if inner is None else not inner
    inner = [value for value in (truth(table, part, row) for part in node.parts) if value is not None]
    return (all(inner) if isinstance(node, Both) else any(inner)) if inner else None


def select_leaf(table, leaf):
    # A negation is answered without indexes, so twice negated is the plain test of every row.
    return select(table, Negated(Negated(leaf)))


@given(where=FILTERS, edits=EDITS)
def test_indexes_answer_as_a_look_at_every_row_does(where, edits):
    table = small_table(rows=60)
    now = datetime(2025, 1, 3, tzinfo=UTC)
    select(table, parse(where))  # remembered, and to be forgotten by the edits
    for kind, row_id in edits:
        if kind == "insert":
            table.insert(table.cells({"owner_id": "o1", "at": "2025-01-02 00:03:00+00:00"}), now)
        elif row_id in table.rows and kind == "update":
            table.update(row_id, table.cells({"owner_id": "o2", "at": None}), now)
        elif row_id in table.rows:
            table.delete(row_id)
    node = parse(where)
    expected = [row_id for row_id, row in table.rows.items() if truth(table, node, row) is not False]
    assert list(select(table, node)) == expected
