"""`cai history`: what changed in a table of the lake, version against version."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_assets.commands.common import JSON_INDENT, console, data_option, json_option, kept_things, show
from cai_assets.commands.completing import completer, table_path, tables

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid

    from cai_assets.engines.changes import Difference
    from cai_assets.engines.duckdb import DuckDBEngine
    from cai_assets.resources.log_entries import Change
    from cai_assets.resources.storage import LakeTable
    from cai_assets.settings import Settings

LIMIT = 20


@dataclass(frozen=True)
class Entry:
    """A version and what it changed.

    Attributes:
        version: counting from 0.
        at: when it was committed, UTC.
        operation: WRITE, COMPACT (files merged, no row changed), CREATE TABLE, ADD COLUMN, VACUUM END, ….
        asset: what wrote it, where that was an asset.
        run_id: Dagster's id of the run.
        partitions: those that were touched.
        difference: rows and measures; None where no row can have changed, or where `vacuumed`.
        vacuumed: whether the replaced files are gone, so that nobody can tell the rows any more.
    """

    version: int
    at: datetime
    operation: str
    asset: str | None
    run_id: str | None
    partitions: tuple[str, ...]
    difference: "Difference | None"
    vacuumed: bool = False


@click.command(
    short_help="What changed in a table, version by version.",
    epilog="""\b
Examples:
  cai history facts/fct_wait
  cai history lake/messages --partition 2024-05-03
  cai history marts/volume --partition 2024-05 --json |
    jq '.[].difference.changed'

Replaced files stay for LAKE_RETENTION_HOURS; of older versions only the
partitions are known. Exit code 1 when nothing was materialised yet, 2 for a
table that there is not.
""",
)
@click.argument("table", shell_complete=completer(tables))
@click.option(
    "--partition",
    metavar="DAY",
    help="Only versions that touched this day (a month as 2024-05 for marts), and only its rows.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=LIMIT, show_default=True, help="Versions to look at."
)
@data_option
@json_option
def history(table: str, partition: str | None, limit: int, data: Path | None, as_json: bool) -> None:
    """Show what each version of a table changed: rows added, removed, changed; by measure.

    TABLE is as facts/fct_wait. A measure is shown with the number of rows whose value changed and, where
    it is a number, its sum before and after. Needs no server.
    """
    table_path(table)  # a wrong name is told before there is anything to look at
    with kept_things(data) as (_, settings):
        entries = islice(look_back(settings, table, partition), limit)
        if as_json:
            listed = [asdict(entry) for entry in entries]
            click.echo(json.dumps(listed, indent=JSON_INDENT, ensure_ascii=False, default=str))
        else:
            _print(entries, table, partition, console())


def look_back(settings: "Settings", name: str, partition: str | None = None) -> Iterator[Entry]:
    """The versions of a table that touched a partition (None: all versions), the newest first.

    Raises:
        click.UsageError: there is no such table.
        PermanentError, TransientError: the store refuses or is away.
    """
    from cai_assets.commands.lake_tables import lake_table
    from cai_assets.engines.duckdb import DuckDBEngine

    table = lake_table(settings, name)
    there: set[str] = {file.path for file in table.store.list_files(*table.table.path)}
    with DuckDBEngine.from_settings(settings, prepare=table.store.duckdb_setup) as engine:
        for change in table.log.changes():
            touched = change.partitions if partition is None else (partition,)
            if partition is None or partition in change.partitions:
                yield _entry(table, engine, change, touched, there)


def _entry(
    table: "LakeTable", engine: "DuckDBEngine", change: "Change", partitions: tuple[str, ...], there: set[str]
) -> Entry:
    from cai_assets.engines.changes import difference

    before, after = (
        [file for partition in partitions for file in parts.get(partition, ())]
        for parts in (change.removed, change.added)
    )
    vacuumed = any(file.path not in there for file in (*before, *after))
    rows_may_differ = bool(before or after) and change.operation != "COMPACT"
    found = None
    if rows_may_differ and not vacuumed:
        found = difference(engine, table.table, table.locations(before), table.locations(after))
    return Entry(
        version=change.version,
        at=change.at,
        operation=change.operation,
        asset=change.properties.get("asset"),
        run_id=change.properties.get("run_id"),
        partitions=partitions,
        difference=found,
        vacuumed=rows_may_differ and vacuumed,
    )


def _print(entries: Iterator[Entry], table: str, partition: str | None, out: "Console") -> None:
    from rich.markup import escape
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("version", "committed (UTC)", "what", "partitions", "run"):
        grid.add_column(heading, no_wrap=True)
    for heading in ("added", "removed", "changed"):
        grid.add_column(heading, justify="right", no_wrap=True)
    empty, gone = True, False
    told: list[tuple[Entry, Difference]] = []
    for entry in entries:
        empty = False
        difference = entry.difference
        rows = ["", "", ""]
        if difference is not None:
            rows = [f"{difference.added:,}", f"{difference.removed:,}", f"{difference.changed:,}"]
        elif entry.vacuumed:
            rows = ["?", "?", "?"]
            gone = True
        run = (entry.run_id or "")[:8]
        what = entry.operation.lower()
        grid.add_row(
            str(entry.version), f"{entry.at:%Y-%m-%d %H:%M:%S}", what, _span(entry.partitions), run, *rows
        )
        if difference is not None and difference.measures:
            told.append((entry, difference))
    if empty:
        where = f" touched {partition}" if partition else " is there"
        out.print(f"No version of {escape(table)}{escape(where)}.")
        return
    show(grid, out)
    if gone:
        out.print("? The replaced files were vacuumed (LAKE_RETENTION_HOURS).", style="dim")
    for entry, difference in told:
        out.print(f"\nVersion {entry.version}, by measure:")
        show(_measures(difference), out)


def _span(partitions: tuple[str, ...]) -> str:
    if partitions in ((), ("",)):
        return ""
    if len(partitions) == 1:
        return partitions[0]
    return f"{len(partitions)}: {partitions[0]} … {partitions[-1]}"


def _measures(difference: "Difference") -> "Grid":
    from rich.table import Table as Grid

    from cai_assets.commands.lake_tables import shown

    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    grid.add_column("column", no_wrap=True)
    for heading in ("rows changed", "sum before", "sum after"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for one in difference.measures:
        grid.add_row(one.name, f"{one.rows:,}" if one.rows else "", shown(one.before), shown(one.after))
    return grid
