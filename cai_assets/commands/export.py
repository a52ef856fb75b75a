"""`cai export`: the reports' tables and one row per conversation, as CSV, XLSX or Parquet."""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import click

from cai_assets.commands.common import (
    JSON_INDENT,
    check_order,
    console,
    data_option,
    day_option,
    json_option,
    kept_things,
    refuse_missing,
    shown_path,
)
from cai_assets.commands.completing import completer, exports, meant


@click.command(
    short_help="The tables and conversations as CSV, XLSX or Parquet.",
    epilog="""\b
Examples:
  cai export                         every table, into cai-export.xlsx
  cai export --from 2024-05-01 --to 2024-05-31 -o may.xlsx
  cai export --what conversations --format csv -o talks.csv
  cai export --what volume --what clocks --format csv -o tables

Exit code 1 when nothing was materialised yet or the file cannot be written, 2
for a table or a day that there is not.
""",
)
@click.option(
    "--what",
    multiple=True,
    metavar="NAME",
    shell_complete=completer(exports),
    help="A table, as volume or conversations; repeat for several.  [default: all]",
)
@day_option("from", "First local day.  [default: of all]")
@day_option("to", "Last local day, included.  [default: of all]")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "xlsx", "parquet"]),
    default="xlsx",
    show_default=True,
    help="Of the files.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File (xlsx, or a single table), else folder.  [default: cai-export.xlsx or cai-export]",
)
@data_option
@json_option
def export(
    what: Sequence[str],
    from_day: str | None,
    to_day: str | None,
    kind: str,
    output: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Write what the dashboard shows, and one row per conversation with all that was measured of it.

    Days are those on which what is counted began. Needs no server.
    """
    from cai_assets.engines.exports import NAMES

    if unknown := [name for name in what if name not in NAMES]:
        raise click.UsageError(f"--what {unknown[0]}: there is no such table; {meant(unknown[0], NAMES)}")
    check_order(from_day, to_day)
    names = [name for name in NAMES if not what or name in what]
    target = output or Path("cai-export.xlsx" if kind == "xlsx" else "cai-export")
    with kept_things(data) as (home, settings):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from cai_assets.commands.exporting import export_files
        from cai_assets.commands.reporting import missing_tables

        refuse_missing(missing_tables(settings), home)
        out = console()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tables, {task.fields[rows]:,} rows"),
        )
        with Progress(
            *columns, console=out, transient=True, disable=as_json or not out.is_terminal
        ) as progress:
            task = progress.add_task("Exporting", total=len(names), rows=0)
            rows = 0

            def tell(name: str, written: int) -> None:
                nonlocal rows
                rows += written
                progress.update(task, description=name, completed=names.index(name), rows=rows)

            files = export_files(
                settings,
                names,
                kind,
                target,
                first_day=date.fromisoformat(from_day) if from_day else None,
                last_day=date.fromisoformat(to_day) if to_day else None,
                tell=tell,
            )
        if as_json:
            listed = [
                {"path": str(file.path), "rows": file.rows, "bytes": file.path.stat().st_size}
                for file in files
            ]
            click.echo(json.dumps(listed, indent=JSON_INDENT))
        else:
            for file in files:
                size = file.path.stat().st_size
                out.print(f"  {shown_path(file.path.absolute())}  {file.rows:,} rows, {size:,} bytes")
