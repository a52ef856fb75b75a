"""`cai compact`: merged files, a short log, and nothing in the lake that no longer counts."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_assets.commands.common import JSON_INDENT, console, data_option, json_option, kept_things, show
from cai_assets.commands.completing import completer, table_path
from cai_assets.commands.completing import tables as tables_there

if TYPE_CHECKING:
    from rich.console import Console

    from cai_assets.settings import Settings


@dataclass(frozen=True)
class Tidied:
    """What was done to one table.

    Attributes:
        table: its name, as "lake/messages".
        merged_from: files of the partitions that were merged, before.
        merged_to: their files now.
        vacuumed: files that were removed.
        files: files that count now.
        bytes: their size.
        dropped: days of raw rows that RAW_RETENTION_DAYS does not keep any more.
    """

    table: str
    merged_from: int
    merged_to: int
    vacuumed: int
    files: int
    bytes: int
    dropped: int = 0


@click.command(
    short_help="Merge files, shorten logs, remove what no longer counts.",
    epilog="""\b
Examples:
  cai compact
  cai compact lake/messages facts/fct_wait
  cai compact --json | jq 'map(.vacuumed) | add'

Run it daily, from cron or as Dagster's job lake_upkeep. It may run beside
everything else. Exit code 1 when the store refuses, 2 for a table that there is
not.
""",
)
@click.argument("tables", nargs=-1, shell_complete=completer(tables_there))
@data_option
@json_option
def compact(tables: tuple[str, ...], data: Path | None, as_json: bool) -> None:
    """Keep the lake's tables (all, or those named as facts/fct_wait) small and quick to open.

    Partitions that lie in more files than PARQUET_* ask for are merged, the log gets a checkpoint, and files
    that were replaced, or never committed, more than LAKE_RETENTION_HOURS ago are removed. Days of raw rows
    older than RAW_RETENTION_DAYS are dropped. Needs no server.
    """
    for name in tables:
        table_path(name)  # a wrong one is told before any is touched
    with kept_things(data) as (_, settings):
        done = tidy(settings, tables)
        if as_json:
            listed = [asdict(one) for one in done]
            click.echo(json.dumps(listed, indent=JSON_INDENT, ensure_ascii=False))
        else:
            _print(done, settings, console())


def tidy(settings: "Settings", names: tuple[str, ...] = ()) -> Iterator[Tidied]:
    """Tidy tables (all that there are if none is named) and the store's own leftovers, one after the other.

    Raises:
        click.UsageError: there is no such table.
        PermanentError, TransientError: the store refuses or is away.
    """
    from datetime import datetime, timedelta

    from cai_assets.commands.lake_tables import lake_tables
    from cai_assets.resources.upkeep import tidy_all

    for table, done in tidy_all(
        lake_tables(settings, names),
        timedelta(hours=settings.lake_retention_hours),
        raw_days=settings.raw_retention_days,
        today=datetime.now(settings.timezone).date(),
    ):
        yield Tidied(
            table="/".join(table.table.path),
            merged_from=done.merged.files_before,
            merged_to=done.merged.files_after,
            vacuumed=len(done.vacuumed),
            files=done.files,
            bytes=done.bytes,
            dropped=len(done.dropped),
        )


def _print(done: Iterator[Tidied], settings: "Settings", out: "Console") -> None:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("table", no_wrap=True)
    for heading in ("merged", "removed", "files", "MiB"):
        grid.add_column(heading, justify="right", no_wrap=True)
    removed = dropped = 0
    for one in done:
        removed += one.vacuumed
        dropped += one.dropped
        merged = f"{one.merged_from:,} → {one.merged_to:,}" if one.merged_from else ""
        gone = f"{one.vacuumed:,}" if one.vacuumed else ""
        grid.add_row(one.table, merged, gone, f"{one.files:,}", f"{one.bytes / 2**20:,.1f}")
    show(grid, out)
    out.print(
        f"{removed:,} files removed that had not counted for {settings.lake_retention_hours} hours "
        "(LAKE_RETENTION_HOURS)."
    )
    if dropped:
        out.print(f"{dropped:,} days of raw rows dropped (RAW_RETENTION_DAYS={settings.raw_retention_days}).")
