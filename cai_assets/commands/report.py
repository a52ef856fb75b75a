"""`cai report`: the reports as tables, or as JSON."""

import json
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
)


@click.command(
    short_help="Print the reports as tables or JSON.",
    epilog="""\b
Examples:
  cai report                                   all days
  cai report --from 2024-05-01 --to 2024-05-07
  cai report --json | jq '.headline'

Exit code 1 when nothing was materialised yet, 2 for days that cannot be.
""",
)
@day_option("from", "First local day; --to belongs to it.  [default: all days]")
@day_option("to", "Last local day, included.")
@data_option
@json_option
def report(from_day: str | None, to_day: str | None, data: Path | None, as_json: bool) -> None:
    """Print the reports: volume, response times, outcomes, languages, categories, users.

    With days: conversations that started on them, and what happened on them. Needs no server.
    """
    if (from_day is None) != (to_day is None):
        raise click.UsageError("give both --from and --to, or neither")
    check_order(from_day, to_day)
    with kept_things(data) as (home, settings):
        from cai_assets.commands.reporting import missing_tables, print_reports, report_rows

        refuse_missing(missing_tables(settings), home)
        rows = report_rows(settings, from_day, to_day)
        if as_json:
            click.echo(json.dumps(rows, indent=JSON_INDENT, ensure_ascii=False, default=str))
        else:
            out = console()
            print_reports(rows, settings, out)
            if not rows["volume_by_day"]:
                out.print("\nNothing happened on these days; `cai status` tells which days there are.")
