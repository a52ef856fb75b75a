"""`cai demo`: conversations end to end on this machine, and the reports they make."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_assets.commands.common import (
    check_days,
    check_order,
    console,
    data_option,
    day_option,
    shown_path,
    working_stack,
)

if TYPE_CHECKING:
    from rich.console import Console

    from cai_assets.settings import Settings

MONTH = 31  # days a demo makes unless asked for more: 182 days of 18,000 messages took 4.7 minutes


@click.command(
    short_help="Sample conversations end to end, and their reports.",
    epilog="""\b
Examples:
  cai demo                       sample conversations in several languages
  cai demo --data exports/may    the two Parquet files in that folder
  cai demo --days 3              the first three days only
  cai demo --from 2025-03-24 --to 2025-03-30

Exit code 1 when a step or a check fails; what failed is listed.
""",
)
@data_option
@click.option(
    "--days",
    type=click.IntRange(min=1),
    help="Materialise so many days, from the first.  [default: 31 at most]",
)
@day_option("from", "First local day.  [default: the first with conversations]")
@day_option("to", "Last local day, included.  [default: the last with conversations]")
@click.option("--verbose", is_flag=True, help="Show Dagster's own log as well.")
@click.pass_context
def demo(
    ctx: click.Context,
    data: Path | None,
    days: int | None,
    from_day: str | None,
    to_day: str | None,
    verbose: bool,
) -> None:
    """Materialise conversations through every layer and print the reports.

    Starts what it needs on this machine, and stops it at the end; what was made stays. `cai up` then shows
    it in the Dagster UI.
    """
    check_order(from_day, to_day)  # before a server is started
    started = time.monotonic()
    out = console()
    with working_stack("demo", data, out) as (home, settings):
        first, last, left = _range(settings, from_day, to_day, days)
        chosen = check_days(first, last)
        if left:
            out.print(
                f"There are conversations to {left}; with [bold]--to {left}[/bold] all are materialised."
            )
        out.print(f"Materialising {len(chosen)} days, {first} to {last}, through every layer:")
        good = _materialize(chosen, out, settings, verbose=verbose)
        dashboard = _dashboard(settings)
    out.print()
    if dashboard is not None:
        out.print(f"  Dashboard    [bold cyan]{dashboard}[/bold cyan] (open it in a browser)")
    option = f" --data {shown_path(data.resolve())}" if data else ""
    variable = f" DATA={shown_path(data.resolve())}" if data else ""
    out.print(f"  Dagster UI   [bold]make up{variable}[/bold], or [bold]cai up{option}[/bold]")
    out.print(f"  Later        [bold]cai report{option}[/bold], [bold]cai status{option}[/bold]")
    out.print(f"  Kept in      {shown_path(home.path)}")
    out.print(
        f"\nDone in {time.monotonic() - started:.0f} s." if good else "\n[red]Not everything worked.[/red]"
    )
    ctx.exit(0 if good else 1)


def _range(
    settings: "Settings", first: str | None, last: str | None, days: int | None
) -> tuple[str, str, str | None]:
    """The first and last day to materialise, and the last with conversations where that is later.

    What was asked for, else the days that have conversations, a month of them at most.
    """
    from cai_assets.commands.runs import days_with_conversations
    from cai_assets.partitions import days_between
    from cai_assets.stack import StackError

    if first is not None and last is not None:
        return first, days_between(first, last)[:days][-1] if first <= last else last, None
    found = days_with_conversations(settings)
    if not found:
        raise StackError("the source holds no conversations; `cai doctor` says what it looks at")
    first, end = first or found[0], last or found[-1]
    if first > end:
        raise click.UsageError(f"conversations are there from {found[0]} to {found[-1]}")
    limit = days or (MONTH if last is None else None)
    chosen = days_between(first, end)[:limit][-1]
    return first, chosen, end if chosen < end and days is None else None


def _materialize(days: list[str], out: "Console", settings: "Settings", *, verbose: bool) -> bool:
    from cai_assets.commands.reporting import missing_tables, print_reports, report_rows
    from cai_assets.commands.runs import materialize_days, summary

    outcomes = materialize_days(days, (), out, days_per_run=len(days), command="demo", verbose=verbose)
    good = summary(outcomes, out)
    if not missing_tables(settings):
        print_reports(report_rows(settings, None, None), settings, out)
    return good


def _dashboard(settings: "Settings") -> str | None:
    """Where the dashboard is, if it was made."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["reports", "dashboard"]))
    materialization = event.asset_materialization if event else None
    page = materialization.metadata.get("page") if materialization else None
    if page is None:
        return None
    address = str(page.value)
    return address if "://" in address else shown_path(Path(address))
