"""`cai report`: the reports as tables, or as JSON."""

import json
from pathlib import Path

import click

from cai_assets.commands.common import (
    JSON_INDENT,
    console,
    data_option,
    day_option,
    json_option,
    kept_things,
    shown_path,
)


@click.command(
    short_help="Print the reports as tables or JSON.",
    epilog="""\b
Examples:
  cai report                                   all days
  cai report --from 2024-05-01 --to 2024-05-07
  cai report --json | jq '.headline'
""",
)
@day_option("from", "First local day.")
@day_option("to", "Last local day, included.")
@data_option
@json_option
def report(from_day: str | None, to_day: str | None, data: Path | None, as_json: bool) -> None:
    """Print the reports: volume, response times, outcomes, languages, categories, users.

    With days: conversations that started on them, and what happened on them. Needs no server.
    """
    from cai_assets.stack import StackError

    if (from_day is None) != (to_day is None):
        raise click.UsageError("give both --from and --to, or neither")
    if from_day and to_day and from_day > to_day:
        raise click.UsageError(f"--from {from_day} lies after --to {to_day}")
    with kept_things(data) as (home, settings):
        from cai_assets.commands.reporting import missing_tables, print_reports, report_rows

        missing = missing_tables(settings)
        if missing:
            raise StackError(
                f"{', '.join(missing)} was never materialised in {shown_path(home.path)}; run `cai demo` or "
                "`cai backfill --from DAY --to DAY` first"
            )
        rows = report_rows(settings, from_day, to_day)
        if as_json:
            click.echo(json.dumps(rows, indent=JSON_INDENT, ensure_ascii=False, default=str))
        else:
            print_reports(rows, settings, console())
