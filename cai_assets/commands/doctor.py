"""`cai doctor`: every setting and connection, and what to do about those that do not work."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_assets.commands.common import JSON_INDENT, console, data_option, json_option, working_stack

if TYPE_CHECKING:
    from rich.console import Console

    from cai_assets.commands.findings import Finding
    from cai_assets.domain.hiding import Secrets
    from cai_assets.settings import Settings

MARKS = {"ok": "[green]ok[/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]FAIL[/red]"}


@click.command(
    short_help="Check every setting and connection.",
    epilog="""\b
Examples:
  cai doctor                 what works, what does not, what to do
  cai doctor --json | jq '.[] | select(.status == "fail")'

Exit code 1 when anything fails; warnings alone end with 0.
""",
)
@data_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, data: Path | None, as_json: bool) -> None:
    """Check every setting and connection, and say what to do.

    Servers that the settings do not name are started for it, and stopped again. Nothing is changed but for a
    probe that is written to the lake's place, read, and deleted.
    """
    from dataclasses import asdict

    from cai_assets.domain.hiding import Secrets
    from cai_assets.settings import load_settings

    out = console()
    settings = load_settings()  # all wrong ones are told at once, in the error
    findings = []
    secrets = Secrets(settings)
    for finding in _look(settings, data, out, quiet=as_json, secrets=secrets):
        findings.append(finding)
        if not as_json:
            _print(finding, out)
    failed = sum(finding.status == "fail" for finding in findings)
    warned = sum(finding.status == "warn" for finding in findings)
    if as_json:
        click.echo(
            json.dumps([asdict(finding) for finding in findings], indent=JSON_INDENT, ensure_ascii=False)
        )
    else:
        out.print()
        out.print(f"{len(findings)} looked at: {failed} failed, {warned} to look at.")
    ctx.exit(1 if failed else 0)


def _look(
    settings: "Settings", data: Path | None, out: "Console", *, quiet: bool, secrets: "Secrets"
) -> Iterator["Finding"]:
    from cai_assets.commands.checkup import before_start, everything, without_stack
    from cai_assets.commands.findings import Finding, cleaned
    from cai_assets.domain.hiding import Secrets
    from cai_assets.failures import CaiError
    from cai_assets.stack import choose_home, running_stack, uses_sandbox

    home = choose_home(settings, data)
    running = running_stack(home)
    for finding in before_start(settings, home, running.ui if running else None):
        yield cleaned(finding, secrets)
    given, sandbox = set(settings.model_fields_set), uses_sandbox(settings)
    started = False
    try:
        with working_stack("doctor", data, out, quiet=True) as (_, in_force):
            started = True
            hidden = Secrets(in_force)
            for finding in everything(in_force, home, given=given, sandbox=sandbox):
                yield cleaned(finding, hidden)
    except (CaiError, OSError) as error:
        yield cleaned(Finding("Stack", "fail", str(error)), secrets)
        if not started:
            for finding in without_stack(settings, home, given=given, sandbox=sandbox):
                yield cleaned(finding, secrets)


def _print(finding: "Finding", out: "Console") -> None:
    from rich.markup import escape
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=4)
    grid.add_column(width=17)
    grid.add_column(overflow="fold")
    text = escape(finding.text) + (f"\n[dim]→ {escape(finding.mend)}[/dim]" if finding.mend else "")
    grid.add_row(MARKS[finding.status], finding.subject, text)
    out.print(grid)
