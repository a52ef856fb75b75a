"""`cai status`: what is made, fresh, missing, waiting, translated and spent, and which checks fail."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_assets.commands.common import (
    JSON_INDENT,
    console,
    data_option,
    json_option,
    kept_things,
    show,
    shown_path,
)

if TYPE_CHECKING:
    from rich.console import Console

    from cai_assets.commands.enriched import Budget, Coverage
    from cai_assets.commands.records import Overview
    from cai_assets.commands.waiting import Waiting


@click.command(
    short_help="What is materialised, missing, waiting, failing.",
    epilog="""\b
Examples:
  cai status
  cai status --data exports/may
  cai status --json | jq '.assets[] | select(.missing != [])'
  cai status --json | jq '.waiting.days[].day'
  cai status --json | jq '.coverage, .budget'

Exit code 1 when a check fails, or nothing was materialised yet.
""",
)
@data_option
@json_option
@click.pass_context
def status(ctx: click.Context, data: Path | None, as_json: bool) -> None:
    """Show days, rows, last run and freshness of every asset, the days that wait, and the checks that fail.

    A day is missing where another asset has it. A day waits when the source has changed since it was made.
    Also how much is translated and categorised, and what today's calls have used of the budget. Needs no
    server, but for the days that wait and the budget MongoDB.
    """
    from dataclasses import asdict

    from cai_assets.stack import activate, running_stack

    with kept_things(data) as (home, settings):
        from cai_assets.commands.enriched import budget, coverage
        from cai_assets.commands.records import overview
        from cai_assets.commands.waiting import waiting
        from cai_assets.settings import load_settings

        running = running_stack(home)
        found = overview(settings)
        if running is not None:  # its database tells what waits
            activate(running.environment)
        dirty = waiting(load_settings())
        covered, spent = coverage(settings), budget(load_settings(), dirty.unknown)
        if as_json:
            shown = asdict(found) | {"home": str(home.path), "ui": running.ui if running else None}
            shown |= {"waiting": asdict(dirty)}
            shown |= {"coverage": [asdict(one) for one in covered], "budget": asdict(spent)}
            click.echo(json.dumps(shown, indent=JSON_INDENT, ensure_ascii=False, default=str))
        else:
            out = console()
            _print(found, out)
            _print_waiting(dirty, out)
            _print_enriched(covered, spent, out)
            out.print()
            out.print(f"Kept in {shown_path(home.path)}; ", end="")
            if running is None:
                out.print("no stack runs over it.")
            else:
                ui = f", the UI is at {running.ui}" if running.ui else ""
                out.print(f"{running.owner.name} (process {running.owner.pid}) runs over it{ui}.")
    ctx.exit(1 if found.failing_checks else 0)


def _print(found: "Overview", out: "Console") -> None:
    from rich.markup import escape
    from rich.table import Table

    if found.first_day is None:
        out.print("No day was materialised yet.")
    else:
        out.print(f"Days from [bold]{found.first_day}[/bold] to [bold]{found.last_day}[/bold]")
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading, justify in (
        ("layer", "left"),
        ("asset", "left"),
        ("days", "right"),
        ("missing", "right"),
        ("rows", "right"),
        ("last run (UTC)", "left"),
        ("", "left"),
    ):
        grid.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    layer = ""
    for asset in found.assets:
        days = "" if asset.days is None else f"{asset.days:,}"
        missing = f"[yellow]{len(asset.missing)}[/yellow]" if asset.missing else ""
        rows = "" if asset.rows is None else f"{asset.rows:,}"
        last = f"{asset.last_run:%Y-%m-%d %H:%M}" if asset.last_run else "[yellow]never[/yellow]"
        stands = {"late": "[yellow]late[/yellow]", "overdue": "[red]overdue[/red]"}.get(
            asset.freshness or "", asset.freshness or ""
        )
        grid.add_row(
            *("" if asset.layer == layer else asset.layer, asset.name, days, missing, rows, last, stands)
        )
        layer = asset.layer
    show(grid, out)
    out.print()
    for text in found.failing_checks:
        out.print(f"[red]✗[/red] check {escape(text)}")
    for text in found.warning_checks:
        out.print(f"[yellow]![/yellow] check {escape(text)}")
    warn = f", {len(found.warning_checks)} warn" if found.warning_checks else ""
    not_run = f", {found.checks_not_run} not reached by their last run" if found.checks_not_run else ""
    out.print(f"{found.checks_passing} checks pass, {len(found.failing_checks)} fail{warn}{not_run}.")


def _print_waiting(dirty: "Waiting", out: "Console") -> None:
    from rich.markup import escape

    from cai_assets.commands.waiting import SHOWN_DAYS, days_table, swept_words, waiting_words

    if dirty.unknown is not None:
        out.print(f"Whether days wait to be refreshed is not known: {escape(dirty.unknown)}.")
        return
    if dirty.days:
        out.print(f"[yellow]{waiting_words(len(dirty.days))}[/yellow]; {swept_words(dirty.last_sweep)}.")
        show(days_table(dirty.days[:SHOWN_DAYS]), out)
    else:
        out.print(f"No day is known to wait to be refreshed; {swept_words(dirty.last_sweep)}.")
    for name, count in dirty.without_day.items():
        if count:
            out.print(f"[yellow]{count:,} {name} of the source belong to no day.[/yellow]")


def _print_enriched(covered: Sequence["Coverage"], spent: "Budget", out: "Console") -> None:
    from rich.markup import escape

    for one in covered:
        share = f" ({one.done / one.needing:.1%})" if one.needing else ""
        unpaid = (
            f"; [yellow]{one.unpaid:,} not asked for, as the budget was reached[/yellow]"
            if one.unpaid
            else ""
        )
        out.print(
            f"{one.done:,} of {one.needing:,} {one.what} that need it are {one.done_word}{share}{unpaid}."
        )
    if spent.unknown is not None:
        out.print(f"What today's calls have used is not known: {escape(spent.unknown)}.")
        return
    tokens = f" of {spent.most_tokens:,}" if spent.most_tokens is not None else ""
    price = f" of {spent.most_price:f}" if spent.most_price is not None else ""
    limits = "" if tokens or price else "; no limit of a day is set (DIFY_BUDGET_…_PER_DAY)"
    used = f"{spent.tokens or 0:,}{tokens} tokens, price {spent.price or 0:f}{price}"
    out.print(f"Today's calls ({spent.day}) have used {used}{limits}.")
