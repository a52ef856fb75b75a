"""What the dashboard carries: numbers packed without loss, bounded, and without small groups."""

import gzip
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.domain.packing import Packer, pack_cells
from cai_assets.engines.cube import DIMENSIONS, OTHER
from cai_assets.engines.following import View, newest, page_of, transcripts
from cai_assets_tests.fixtures.dashboard import Dashboard

KINDS = {"u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "f8": np.float64}


def unpacked(data: bytes, place: dict[str, Any]) -> list[Any]:
    """A column as the page reads it: byte planes, then steps."""
    kind = np.dtype(KINDS[place["type"]])
    size = place["n"] * kind.itemsize
    planes = np.frombuffer(data[place["at"] : place["at"] + size], np.uint8).reshape(
        kind.itemsize, place["n"]
    )
    values = np.ascontiguousarray(planes.T).reshape(-1).view(kind)
    return (np.cumsum(values) if place.get("steps") else values).tolist()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            *(st.integers(0, 50), st.sampled_from("abc"), st.integers(0, 3000), st.integers(0, 2**40)),
            st.floats(0, 1e6),
        ),
        max_size=40,
        unique_by=lambda row: row[:3],
    )
)
def test_what_is_packed_is_what_is_read(rows: list[tuple[int, str, int, int, float]]) -> None:
    rows.sort()
    columns = list(zip(*rows, strict=True)) or [()] * 5
    names = ("cell", "text", "bucket", "n", "real")
    kinds = (pa.int64(), pa.string(), pa.int64(), pa.int64(), pa.float64())
    table = pa.table({name: pa.array(c, k) for name, c, k in zip(names, columns, kinds, strict=True)})
    packer = Packer()
    described = pack_cells(packer, table, texts=("text",), rising="bucket")
    data = gzip.decompress(packer.blob())
    cells, runs = (unpacked(data, described[name]) for name in ("cells", "runs"))
    assert [cell for cell, run in zip(cells, runs, strict=True) for _ in range(run)] == list(columns[0])
    read = {name: unpacked(data, place) for name, place in described["columns"].items()}
    assert [described["values"]["text"][place] for place in read["text"]] == list(columns[1])
    buckets: list[int] = []
    for n, step in enumerate(read["bucket"]):
        anew = n == 0 or rows[n][:2] != rows[n - 1][:2]
        buckets.append(step if anew else buckets[-1] + step)
    assert buckets == list(columns[2])
    assert read["n"] == list(columns[3])
    assert read["real"] == list(columns[4])


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="only numbers from 0"):
        Packer().add(np.array([-1]))


def test_the_same_facts_make_the_same_bytes(dashboard: Dashboard) -> None:
    assert dashboard.build().blob == dashboard.cube.blob


def test_of_too_many_conversations_the_newest_days_are_held(dashboard: Dashboard) -> None:
    cube = dashboard.build(most=100)
    assert cube.left_out
    assert cube.first_day is not None
    held, before = dashboard.rows(
        f"""select count(*) filter (first_message_date >= '{cube.first_day}'), count(*)
        from facts.fct_conversation where is_counted"""
    )[0]
    assert 90 <= held <= 100 < before
    assert set(cube.header["exact"]["reply"]) == {"day"}


def counted(cube: Any, name: str) -> list[Any]:
    described = cube.header["tables"][name]
    return unpacked(gzip.decompress(cube.blob), described["columns"]["conversations"])


@pytest.mark.parametrize("least", [2, 3, 5])
def test_small_groups_are_counted_with_the_rest_of_their_day_or_not_at_all(
    dashboard: Dashboard, least: int
) -> None:
    cube = dashboard.build(least=least)
    described = cube.header["tables"]["conversations"]
    data = gzip.decompress(cube.blob)
    cells = unpacked(data, described["cells"])
    names = cube.header["dimensions"]
    sizes = [len(names[dimension]) for dimension in DIMENSIONS]
    size = sizes[0] * sizes[1] * sizes[2]
    writing = {
        (day.isoformat(), channel, language, category): users
        for day, channel, language, category, users in dashboard.rows(
            """select local_date, f.channel, f.language, coalesce(category, 'not categorised'),
            count(distinct m.user_id)
            from facts.stg_messages as m join facts.fct_conversation as f using (partition, conversation_id)
            where m.is_counted and m.traffic_class = 'live' and sender_type = 'user' group by all"""
        )
    }
    first = np.datetime64(cube.header["first_day"])
    kept = 0
    for cell in cells:
        day, place = divmod(int(cell), size)
        channel, rest = divmod(place, sizes[1] * sizes[2])
        language, category = divmod(rest, sizes[2])
        values = tuple(names[d][n] for d, n in zip(DIMENSIONS, (channel, language, category), strict=True))
        if values != (OTHER,) * 3:
            kept += 1
            assert writing[str(first + day), *values] >= least
    everything = sum(counted(dashboard.cube, "conversations"))
    assert sum(counted(cube, "conversations")) == everything - cube.withheld
    assert 0 < cube.withheld < everything
    assert kept or least > 2
    assert cube.header["tables"]["users"]["rows"] == cube.header["members"]["segment"]["n"] == 0
    page = dashboard.html(least=least)
    assert not any(user in page for (user,) in dashboard.rows("select distinct user_id from marts.user"))


# -- from a number to its conversations


def test_the_newest_conversations_come_with_what_they_count_under(dashboard: Dashboard) -> None:
    rows = newest(dashboard.warehouse.engine, dashboard.files, 10)
    truth = dashboard.rows(
        """select conversation_id, outcome, cast(first_message_date as varchar) from facts.fct_conversation
        where is_counted order by started_us desc, conversation_id limit 10"""
    )
    assert [row["conversation_id"] for row in rows] == [row[0] for row in truth]
    for row, (_, outcome, day) in zip(rows, truth, strict=True):
        assert ["outcome", outcome, day] in row["followed"]
        assert len(row["transcript"]) >= row["messages"]


@pytest.mark.parametrize(
    ("view", "sql"),
    [
        (View(), "is_counted"),
        (View("outcome", "unanswered"), "is_counted and outcome = 'unanswered'"),
        (
            View("resolved", chosen={"channel": ["email"]}),
            "resolves > 0 and not is_empty and channel = 'email'",
        ),
        (View("resolves"), "resolves > 0 and not is_empty"),
        (View("csat", "positive"), "csat_score >= 4"),
        (
            View("messages", "agent"),
            """conversation_id in (select conversation_id from facts.stg_messages
            where sender_type = 'agent' and is_counted)""",
        ),
    ],
)
def test_a_number_has_the_conversations_that_it_counts(dashboard: Dashboard, view: View, sql: str) -> None:
    wanted = [
        row[0]
        for row in dashboard.rows(
            f"""select conversation_id from facts.fct_conversation where is_counted and {sql}
            order by started_us desc, conversation_id"""
        )
    ]
    assert len(wanted) > 3
    found: list[str] = []
    page, total = 1, 1
    while len(found) < total:
        total, rows = page_of(dashboard.warehouse.engine, dashboard.files, view, page=page, size=40)
        found += [row["conversation_id"] for row in rows]
        page += 1
    assert found == wanted
    assert total == len(wanted)


def test_resolutions_of_an_agent_lead_to_their_conversations(dashboard: Dashboard) -> None:
    counts = dashboard.rows(
        """select agent_id, sum(resolutions)::int, sum(resolution_events)::int from marts.agent
        where agent_type = 'agent' group by all having sum(resolution_events) > 0"""
    )
    assert any(resolves > resolved for _, resolved, resolves in counts)
    for agent, resolved, resolves in counts:
        found = {
            what: page_of(dashboard.warehouse.engine, dashboard.files, View(what, agent), page=1, size=1)[0]
            for what in ("resolved", "resolves")
        }
        assert found["resolved"] == resolved
        assert resolved <= found["resolves"] <= resolves


def test_rare_values_are_followed_by_the_place_they_share(dashboard: Dashboard) -> None:
    names = [row[0] for row in dashboard.rows("select distinct channel from facts.fct_conversation")]
    view = View(chosen={"channel": [OTHER]}, known={"channel": [n for n in names if n != "email"]})
    total, rows = page_of(dashboard.warehouse.engine, dashboard.files, view, page=1, size=5)
    assert {row["channel"] for row in rows} == {"email"}
    wanted = "select count(*) from facts.fct_conversation where is_counted and channel = 'email'"
    assert [(total,)] == dashboard.rows(wanted)


def test_transcripts_are_in_order_and_without_private_notes(dashboard: Dashboard) -> None:
    rows = newest(dashboard.warehouse.engine, dashboard.files, 20)
    found = transcripts(dashboard.warehouse.engine, dashboard.files, rows)
    for row in rows:
        truth = dashboard.rows(
            f"""select text from lake.messages where conversation_id = '{row["conversation_id"]}'
            and not is_private order by created_at, seq, message_id"""
        )
        assert [message["text"] for message in found.get(row["conversation_id"], [])] == [t for (t,) in truth]
    assert re.fullmatch(r"[A-Za-z0-9-]+", rows[0]["conversation_id"])
