"""Tables as files for people: CSV, XLSX, Parquet. Which tables, and their rows, is `engines.exports`'s.

Texts come from users and channels, so none of them may be run: a spreadsheet takes a CSV cell that begins
with
`=`, `+`, `-`, `@` or a tab for a formula, and is kept from it by an apostrophe. In XLSX texts are typed as
texts.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from cai_assets.domain.formats import label
from cai_assets.schemas.metrics import METRICS
from cai_assets.schemas.tables import TABLES

SHEET_ROWS = 1_048_576  # of a sheet, its head included: Excel's limit
SHEET_NAME_CHARACTERS = 31
CELL_CHARACTERS = 32_767
FORMULA = r"^\s*[=+\-@\t\r]"
FORMATS = {"s": "0.0", "ratio": "0.0%", "date": "yyyy-mm-dd", "datetime": "yyyy-mm-dd hh:mm:ss"}

Tell = Callable[[int], None]
"""Is told the rows that were just written."""


def untold(_: int) -> None:
    """For those who need not know."""


@dataclass(frozen=True)
class Written:
    """A file that was made.

    Attributes:
        path: where.
        rows: of all its sheets, heads apart.
    """

    path: Path
    rows: int


def title_of(column: str) -> str:
    """A column's head: its metric's title, else its name as words."""
    if column in METRICS:
        return METRICS[column].title
    words = label(column.removesuffix("_s") if column.endswith("_s") else column)
    return words[:1].upper() + words[1:] + (", s" if column.endswith("_s") else "")


def meaning_of(column: str) -> tuple[str, str]:
    """Unit and meaning of a column, where it has any."""
    if column in METRICS:
        return METRICS[column].unit, METRICS[column].definition
    declared = TABLES["facts", "fct_conversation"].by_name
    for name in (column, column.removesuffix("_at") + "_us", f"{column}_us"):
        if name in declared:
            return declared[name].unit or "", declared[name].description
    return "", ""


def defused(table: pa.Table) -> pa.Table:
    """The table with an apostrophe before every text that a spreadsheet would run."""
    for n, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = table.column(n).combine_chunks()
            risky = pc.match_substring_regex(column, FORMULA)
            safe = pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column)
            table = table.set_column(n, field, safe)
    return table


def _titled(table: pa.Table) -> pa.Table:
    """Columns under the heads that people see; where two are the same, with their names."""
    titles = [title_of(name) for name in table.column_names]
    heads = [
        title if titles.count(title) == 1 else f"{title} ({name})"
        for title, name in zip(titles, table.column_names, strict=True)
    ]
    return table.rename_columns(heads)


def about(
    zone: str, as_of: datetime | None, first_day: date | None = None, last_day: date | None = None
) -> list[tuple[str, str]]:
    """What a file says of itself.

    Args:
        zone: of its days.
        as_of: latest change of the source, UTC.
        first_day: first day asked for; None for all.
        last_day: the last, included; None for all.
    """
    return [
        ("Conversation analytics", "made by cai_assets"),
        ("Days", f"{first_day or 'the first'} to {last_day or 'the last'}, of {zone}"),
        ("As of", f"{as_of:%Y-%m-%d %H:%M} UTC, the source's latest change" if as_of else "nothing yet"),
        ("Instants", "UTC"),
        ("Users", "ids are keyed hashes"),
    ]


def write_csv(path: Path, tables: Iterable[pa.Table], tell: Tell = untold) -> Written:
    """One CSV file, UTF-8 with a mark that spreadsheets need to see it, heads as people read them."""
    rows = 0
    with path.open("wb") as file:
        file.write(b"\xef\xbb\xbf")
        writer: pacsv.CSVWriter | None = None
        for table in tables:
            shown = defused(_titled(table))
            if writer is None:
                writer = pacsv.CSVWriter(file, shown.schema)
            writer.write_table(shown)
            rows += table.num_rows
            tell(table.num_rows)
        if writer is not None:
            writer.close()
    return Written(path, rows)


def write_parquet(path: Path, tables: Iterable[pa.Table], tell: Tell = untold) -> Written:
    """One Parquet file; columns keep their names; titles and meanings are in the fields' metadata."""
    rows = 0
    writer: pq.ParquetWriter | None = None
    for table in tables:
        if writer is None:
            fields = [
                field.with_metadata({"title": title_of(field.name), "meaning": meaning_of(field.name)[1]})
                for field in table.schema
            ]
            schema = pa.schema(fields)
            writer = pq.ParquetWriter(path, schema, compression="zstd")
        writer.write_table(table.cast(schema))
        rows += table.num_rows
        tell(table.num_rows)
    if writer is not None:
        writer.close()
    return Written(path, rows)


class Workbook:
    """An XLSX file, written row by row so that memory holds one."""

    def __init__(self, path: Path, facts: Sequence[tuple[str, str]]) -> None:
        """Begin it.

        Args:
            path: where.
            facts: what the first sheet says of the file: names and texts.
        """
        import xlsxwriter  # 0.2 s

        self.path = path
        self.rows = 0
        self._book = xlsxwriter.Workbook(
            str(path),
            {
                "constant_memory": True,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
                "nan_inf_to_errors": False,
                "default_date_format": FORMATS["date"],
            },
        )
        self._bold = self._book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        self._formats = {name: self._book.add_format({"num_format": text}) for name, text in FORMATS.items()}
        self._facts = list(facts)
        self._columns: dict[str, None] = {}

    def add(self, name: str, tables: Iterable[pa.Table], tell: Tell = untold) -> None:
        """Write a table; one of more rows than a sheet has is continued on further sheets."""
        for table in self.passing(name, tables):
            tell(table.num_rows)

    def passing(self, name: str, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same tables, each written here when it is read; see `add`."""
        sheet, at, part = None, SHEET_ROWS, 0
        for table in tables:
            shown = _titled(table)
            kinds = [self._kind(column) for column in table.column_names]
            if sheet is None:
                sheet, at, part = self._sheet(name, 1, shown.column_names), 1, 1
            for batch in shown.to_batches(max_chunksize=10_000):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    if at == SHEET_ROWS:
                        part += 1
                        sheet, at = self._sheet(name, part, shown.column_names), 1
                    for n, value in enumerate(row):
                        self._write(sheet, at, n, value, kinds[n])
                    at += 1
            self.rows += table.num_rows
            self._columns |= dict.fromkeys(table.column_names)
            yield table

    def close(self) -> Written:
        """End it with a sheet that says what each column means."""
        sheet = self._book.add_worksheet("about")
        sheet.set_column(0, 0, 34)
        sheet.set_column(1, 2, 24)
        sheet.set_column(3, 3, 110)
        for n, (name, text) in enumerate(self._facts):
            sheet.write_string(n, 0, name, self._bold)
            sheet.write_string(n, 1, text)
        start = len(self._facts) + 1
        for n, head in enumerate(("Title", "Column", "Unit", "Meaning")):
            sheet.write_string(start, n, head, self._bold)
        for place, column in enumerate(self._columns, start + 1):
            unit, meaning = meaning_of(column)
            for n, text in enumerate((title_of(column), column, unit, meaning)):
                sheet.write_string(place, n, text)
        self._book.close()
        return Written(self.path, self.rows)

    def _sheet(self, name: str, part: int, heads: Sequence[str]) -> Any:
        sheet = self._book.add_worksheet((name if part == 1 else f"{name} {part}")[:SHEET_NAME_CHARACTERS])
        sheet.freeze_panes(1, 1)
        sheet.set_column(0, len(heads) - 1, 16)
        for n, head in enumerate(heads):
            sheet.write_string(0, n, head, self._bold)
        return sheet

    def _kind(self, column: str) -> Any:
        unit = meaning_of(column)[0]
        if unit == "ratio" or column == "share":
            return self._formats["ratio"]
        return self._formats["s"] if unit == "s" else None

    def _write(self, sheet: Any, row: int, column: int, value: Any, kind: Any) -> None:
        if value is None:
            return
        if isinstance(value, bool):
            sheet.write_boolean(row, column, value)
        elif isinstance(value, str):
            sheet.write_string(row, column, value[:CELL_CHARACTERS])
        elif isinstance(value, datetime):
            sheet.write_datetime(row, column, value.replace(tzinfo=None), self._formats["datetime"])
        elif isinstance(value, date):
            sheet.write_datetime(
                row, column, datetime.combine(value, datetime.min.time()), self._formats["date"]
            )
        elif isinstance(value, Decimal | int | float):
            sheet.write_number(row, column, float(value), kind)
        else:
            sheet.write_string(row, column, str(value)[:CELL_CHARACTERS])
