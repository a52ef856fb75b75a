"""`cai sweep`: all of the source beside all documents; what differs is marked, and refreshed if asked for."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_assets.commands.common import JSON_INDENT, console, data_option, json_option, show, working_stack
from cai_assets.domain.days import DAYS_PER_RUN

if TYPE_CHECKING:
    from rich.console import Console

    from cai_assets.commands.waiting import Waiting
    from cai_assets.settings import Settings


@click.command(
    short_help="Compare all of the source with the documents.",
    epilog="""\b
Examples:
  cai sweep                  mark the days that are not up to date
  cai sweep --refresh        and materialise them now
  cai sweep --contents       compare whole rows, not only numbers and times
  cai sweep --json | jq '.days[].day'

Exit code 1 when a refresh fails, or a server does not answer.
""",
)
@data_option
@click.option("--contents", is_flag=True, help="Read and compare whole rows; costs reading the whole source.")
@click.option("--refresh", is_flag=True, help="Materialise the days that wait, through the whole graph.")
@json_option
@click.pass_context
def sweep(ctx: click.Context, data: Path | None, contents: bool, refresh: bool, as_json: bool) -> None:
    """Find deletions and whatever else following the source cannot see, and mark the days concerned.

    A marked day waits to be materialised again. Dagster's sensor nocodb_changes, where it is on (`cai up`),
    has it done by itself; --refresh does it now.
    """
    from rich.console import Console

    out = console()
    with working_stack("sweep", data, out, quiet=as_json) as (_, settings):
        found = _sweep(settings, contents, out, quiet=as_json)
        if not as_json:
            _print(found, out)
        # A program reads the JSON alone.
        shown = Console(quiet=True) if as_json else out
        good = _refresh(found, settings, shown) if refresh and found.days else True
        if as_json:
            from dataclasses import asdict

            from cai_assets.commands.waiting import waiting

            left = waiting(settings) if refresh else found
            click.echo(json.dumps(asdict(left), indent=JSON_INDENT, ensure_ascii=False, default=str))
    ctx.exit(0 if good else 1)


def _sweep(settings: "Settings", contents: bool, out: "Console", *, quiet: bool) -> "Waiting":
    from contextlib import closing, nullcontext

    from cai_assets.automation import sweep_and_mark
    from cai_assets.commands.waiting import waiting
    from cai_assets.resources.mongo import MongoStore
    from cai_assets.resources.source import open_source

    showing = nullcontext() if quiet else out.status("Comparing the source with the documents …")
    with showing, closing(open_source(settings)) as source, MongoStore.from_settings(settings) as store:
        swept, _ = sweep_and_mark(source, store, settings, contents=contents)
    if not quiet:
        for name, rows in swept.source_rows.items():
            known = swept.known_rows[name]
            out.print(f"{name}: {rows:,} rows in the source, {known:,} in the documents")
    return waiting(settings)


def _print(found: "Waiting", out: "Console") -> None:
    from cai_assets.commands.waiting import SHOWN_DAYS, days_table, waiting_words

    for name, count in found.without_day.items():
        if count:
            out.print(f"[yellow]{count:,} {name} of the source belong to no day[/yellow]")
    if not found.days:
        out.print("Every day is up to date.")
        return
    out.print(f"\n{waiting_words(len(found.days))}:")
    show(days_table(found.days[:SHOWN_DAYS]), out)
    if len(found.days) > SHOWN_DAYS:
        out.print(f"… and {len(found.days) - SHOWN_DAYS:,} more")


def _refresh(found: "Waiting", settings: "Settings", out: "Console") -> bool:
    from cai_assets.commands.runs import materialize_days, summary
    from cai_assets.partitions import DAILY

    last = DAILY.get_last_partition_key() or ""
    days = [one.day for one in found.days if one.day <= last]
    return summary(materialize_days(days, (), out, days_per_run=DAYS_PER_RUN, command="sweep"), out)
