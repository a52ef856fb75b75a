"""`cai backfill`: materialise a range of days, the whole graph or a part of it."""

from pathlib import Path

import click

from cai_assets.commands.common import (
    check_days,
    check_order,
    console,
    data_option,
    day_option,
    working_stack,
)
from cai_assets.commands.completing import completer, selections
from cai_assets.domain.days import DAYS_PER_RUN


@click.command(
    short_help="Materialise a range of days.",
    epilog="""\b
Examples:
  cai backfill --from 2024-05-01 --to 2024-05-31
  cai backfill --from 2024-05-01 --to 2024-05-31 --select facts,marts
  cai backfill --from 2024-05-01 --to 2024-05-01 --select facts/fct_wait
  cai backfill --from 2024-05-01 --to 2024-05-31 --retranslate

Exit code 1 when a step or a check fails; what failed is listed. 2 for days or
assets that there are not.
""",
)
@day_option("from", "First local day.", required=True)
@day_option("to", "Last local day, included.", required=True)
@click.option(
    "--select",
    "selection",
    multiple=True,
    metavar="LAYER[/NAME]",
    shell_complete=completer(selections),
    help="A layer (raw, documents, enrichment, lake, facts, marts, reports) or a table of one; "
    "repeat it, or separate with commas.  [default: everything]",
)
@click.option(
    "--days-per-run",
    type=click.IntRange(min=1),
    default=DAYS_PER_RUN,
    show_default=True,
    help="Longer ranges become several runs: what one run reads has to fit into memory.",
)
@click.option(
    "--retranslate",
    is_flag=True,
    help="Ask anew for what an older DIFY_PROMPT_VERSION translated; it is paid for again.",
)
@data_option
@click.option("--verbose", is_flag=True, help="Show Dagster's own log as well.")
@click.pass_context
def backfill(
    ctx: click.Context,
    from_day: str,
    to_day: str,
    selection: tuple[str, ...],
    days_per_run: int,
    retranslate: bool,
    data: Path | None,
    verbose: bool,
) -> None:
    """Materialise (make and store) a range of days, through all tables or a part of them.

    Materialising a day replaces it, whole, at every layer: doing it twice changes nothing. Tables that are
    not kept by day (marts, most reports) are made once, at the end.
    """
    check_order(from_day, to_day)  # before a server is started
    out = console()
    with working_stack("backfill", data, out) as (_, _settings):
        days = check_days(from_day, to_day)
        from cai_assets.assets.enrichment import RETRANSLATE
        from cai_assets.commands.runs import materialize_days, summary

        outcomes = materialize_days(
            days,
            selection,
            out,
            days_per_run=days_per_run,
            command="backfill",
            verbose=verbose,
            tags={RETRANSLATE: "true"} if retranslate else None,
        )
        good = summary(outcomes, out)
    ctx.exit(0 if good else 1)
