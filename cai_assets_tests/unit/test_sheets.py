"""Exports: what the dashboard shows, as files that keep types and run nothing."""

import csv
import io
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai_assets.domain import sheets
from cai_assets.domain.groups import GROUP_OF_SHEET
from cai_assets.engines.exports import NAMES
from cai_assets.engines.exports import sheets as export_sheets
from cai_assets_tests.fixtures.dashboard import Dashboard

EVIL = ["=1+1", "+SUM(A1)", "-2+3", "@now", "\t=1", " =1", "plain", "a=b", None, "http://x", "\x01"]
NS = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


def parsed(data: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(data)  # noqa: S314  a file that the test made


def workbook(path: Path) -> dict[str, list[list[tuple[str, str]]]]:
    """Sheets as rows of cells: type and text, by the file's own XML."""
    found = {}
    with ZipFile(path) as archive:
        names = parsed(archive.read("xl/workbook.xml")).findall(".//m:sheet", NS)
        for n, sheet in enumerate(names, 1):
            root = parsed(archive.read(f"xl/worksheets/sheet{n}.xml"))
            assert not root.findall(".//m:f", NS), "a cell has a formula"
            found[sheet.attrib["name"]] = [
                [(c.attrib.get("t", "n"), "".join(c.itertext())) for c in row.findall("m:c", NS)]
                for row in root.findall(".//m:row", NS)
            ]
    return found


def rows_of_csv(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def exported(dashboard: Dashboard, names: Any = NAMES, **days: Any) -> Iterator[tuple[str, pa.Table]]:
    days_of = "select distinct partition from facts.fct_conversation order by 1"
    partitions = [partition for (partition,) in dashboard.rows(days_of)]
    found = export_sheets(
        *(dashboard.warehouse.engine, dashboard.files, dashboard.warehouse.parameters, names),
        as_of=dashboard.as_of,
        # All days are in one file here, so that one month's are all.
        partitions=partitions[:1],
        **days,
    )
    for sheet in found:
        yield sheet.name, pa.concat_tables(sheet.tables)


def test_no_text_is_a_formula_in_csv(tmp_path: Path) -> None:
    table = pa.table({"channel": EVIL, "n": [-1] * len(EVIL)})
    sheets.write_csv(tmp_path / "a.csv", [table])
    rows = rows_of_csv(tmp_path / "a.csv")[1:]
    assert [row[0] for row in rows] == [
        *("'=1+1", "'+SUM(A1)", "'-2+3", "'@now", "'\t=1", "' =1"),
        *("plain", "a=b", "", "http://x", "\x01"),
    ]
    assert {row[1] for row in rows} == {"-1"}


def test_no_text_is_a_formula_or_a_link_in_a_workbook_and_types_are_kept(tmp_path: Path) -> None:
    table = pa.table(
        {
            "channel": EVIL,
            "day": [date(2025, 3, 30)] * len(EVIL),
            "at": [datetime(2025, 3, 30, 1, 2, 3)] * len(EVIL),  # noqa: DTZ001  UTC without a mark, as in the sheets
            "price": [Decimal("0.00000001")] * len(EVIL),
            "flag": [True] * len(EVIL),
            "n": [2**40] * len(EVIL),
        }
    )
    book = sheets.Workbook(tmp_path / "a.xlsx", [("Days", "all")])
    book.add("volume", [table], sheets.untold)
    assert book.close().rows == len(EVIL)
    found = workbook(tmp_path / "a.xlsx")
    rows = found["volume"]
    assert [text for _, text in rows[0]] == ["Channel", "Day", "At", "Price", "Flag", "N"]
    first = rows[1]
    assert first[0] == ("inlineStr", "=1+1")
    assert [kind for kind, _ in first] == ["inlineStr", "n", "n", "n", "b", "n"]
    assert float(first[1][1]) == 45746
    assert float(first[2][1]) == pytest.approx(45746 + (3600 + 123) / 86400)
    assert (float(first[3][1]), float(first[5][1])) == (1e-8, 2**40)
    assert any("Price" in text for row in found["about"] for _, text in row)


def test_more_rows_than_a_sheet_has_go_on_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "SHEET_ROWS", 4)
    book = sheets.Workbook(tmp_path / "a.xlsx", [])
    table = pa.table({"n": list(range(7))})
    book.add("conversations", [table.slice(0, 2), table.slice(2)], sheets.untold)
    book.close()
    found = workbook(tmp_path / "a.xlsx")
    assert [name for name in found if name != "about"] == [f"conversations{n}" for n in ("", " 2", " 3")]
    values = [float(row[0][1]) for name in found if name != "about" for row in found[name][1:]]
    assert values == list(range(7))


def test_every_sheet_has_rows_and_sums_to_the_marts(dashboard: Dashboard) -> None:
    found = dict(exported(dashboard))
    assert set(found) == set(NAMES)
    assert all(table.num_rows for table in found.values())
    sums = "select sum(conversations), sum(started) from marts.containment"
    conversations, started = dashboard.rows(sums)[0]
    for name in ("volume", "outcomes", "outcomes_by_day", "resolution", "categories"):
        assert sum(found[name]["conversations"].to_pylist()) == conversations, name
    assert found["conversations"].num_rows == conversations
    assert sum(found["resolution"]["conversations_started"].to_pylist()) == started
    messages = dashboard.rows("select sum(messages) from marts.volume")[0][0]
    assert sum(found["volume"]["messages"].to_pylist()) == messages
    assert sum(found["languages"]["messages"].to_pylist()) == messages
    price = dashboard.rows("select sum(price) from marts.cost")[0][0]
    assert sum(found["costs"]["price"].to_pylist()) == pytest.approx(float(price))
    days = found["volume"]["report_date"].to_pylist()
    assert (days[-1] - days[0]).days + 1 == len(days)


def test_days_choose_what_began_on_them(dashboard: Dashboard) -> None:
    first, last = date(2025, 2, 1), date(2025, 2, 10)
    found = dict(exported(dashboard, ("volume", "conversations"), first_day=first, last_day=last))
    wanted = dashboard.rows(
        f"""select count(*) from facts.fct_conversation
        where is_counted and first_message_date between '{first}' and '{last}'"""
    )[0][0]
    assert found["conversations"].num_rows == sum(found["volume"]["conversations"].to_pylist()) == wanted > 0


def test_small_groups_are_withheld(dashboard: Dashboard) -> None:
    found = dict(exported(dashboard, ("conversations", "segments", "volume"), least=4))
    assert found["conversations"].num_rows == 0
    assert all(n >= 4 for n in found["segments"]["users_writing"].to_pylist())
    assert all(not n or n >= 4 for n in found["volume"]["users_writing"].to_pylist())


def test_what_is_withheld_of_a_sheet_is_about_enough(dashboard: Dashboard) -> None:
    names = ("languages", "resolution", "agents", "heatmap")
    whole = dict(exported(dashboard, names))
    few = sorted(whole["languages"]["messages"].to_pylist())[0] + 1
    for name, table in exported(dashboard, names, least=few):
        column = GROUP_OF_SHEET[name]
        assert column is not None
        left = sum(whole[name][column].to_pylist()) - sum(table[column].to_pylist())
        gone = whole[name].num_rows - table.num_rows
        assert gone != 1, name
        assert left == 0 or left >= few, name
        assert name != "languages" or gone == 2


def test_parquet_keeps_names_and_says_titles(dashboard: Dashboard, tmp_path: Path) -> None:
    table = dict(exported(dashboard, ("clocks",)))["clocks"]
    assert sheets.write_parquet(tmp_path / "a.parquet", [table]).rows == table.num_rows
    read = pq.read_table(tmp_path / "a.parquet")
    assert read.column_names == table.column_names
    assert read.to_pylist() == table.to_pylist()
    assert read.schema.field("response_n").metadata[b"title"] == b"Waits answered"
