"""`cai metrics`: what every number of the reports means."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cai_assets.commands.common import JSON_INDENT, console, json_option, show
from cai_assets.commands.completing import completer, metric_names

if TYPE_CHECKING:
    from rich.console import Console

    from cai_assets.schemas.metrics import Metric


@click.command(
    short_help="What the numbers mean: definition, unit, SQL.",
    epilog="""\b
Examples:
  cai metrics
  cai metrics containment_rate
  cai metrics --search "percentile reply"
  cai metrics --json | jq -r '.[] | select(.additive) | .name'

docs/metrics.md has all of them on one page. Exit code 1 when no metric has the
words, 2 for a metric that there is not.
""",
)
@click.argument("name", required=False, shell_complete=completer(metric_names))
@click.option("--search", metavar="WORDS", help="Only those in which all of the words occur.")
@json_option
def metrics(name: str | None, search: str | None, as_json: bool) -> None:
    """List the metrics, or explain one: definition, unit, ratio, where it stands, SQL, version.

    NAME is a metric's, or a column's as marts.volume.waits. Needs no server and no data.
    """
    from cai_assets.domain.dictionary import explained, found
    from cai_assets.schemas.metrics import METRICS

    if name and search:
        raise click.UsageError("give a NAME or --search, not both")
    if name:
        one = named(name)
        if as_json:
            click.echo(json.dumps(explained(one), indent=JSON_INDENT, ensure_ascii=False))
        else:
            _explain(one, console())
        return
    listed = list(METRICS.values()) if search is None else found(search)
    if not listed:
        raise click.ClickException(f"no metric speaks of {search!r}; `cai metrics` lists them all")
    if as_json:
        click.echo(json.dumps([explained(one) for one in listed], indent=JSON_INDENT, ensure_ascii=False))
    else:
        _list(listed, console())


def named(name: str) -> "Metric":
    """The metric of that name, or the one that stands in the column of that name.

    Raises:
        click.UsageError: there is none; the message names those that are alike.
    """
    from cai_assets.schemas.metrics import METRICS, alike
    from cai_assets.schemas.standing import columns

    if name in METRICS:
        return METRICS[name]
    wanted = name.replace("/", ".").removeprefix("marts.")
    for metric, places in columns().items():
        if any(place.name == f"marts.{wanted}" for place in places):
            return METRICS[metric]
    near = alike(wanted.rpartition(".")[2])
    hint = f"did you mean {', '.join(near)}?" if near else "`cai metrics` lists them"
    raise click.UsageError(f"there is no metric {name!r}; {hint}")


def _list(listed: "Sequence[Metric]", out: "Console") -> None:
    from rich.table import Table as Grid

    from cai_assets.schemas.standing import places

    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("metric", no_wrap=True)
    grid.add_column("title")
    grid.add_column("unit", no_wrap=True)
    grid.add_column("stands in")
    for one in listed:
        tables = dict.fromkeys(f"{place.table.layer}.{place.table.name}" for place in places(one))
        grid.add_row(one.name, one.title, one.unit, ", ".join(tables))
    show(grid, out)
    out.print(f"{len(listed)} metrics; `cai metrics NAME` explains one.", style="dim")


def _explain(one: "Metric", out: "Console") -> None:
    from rich.markup import escape
    from rich.table import Table as Grid

    from cai_assets.schemas.standing import places

    out.print(f"[bold]{escape(one.title)}[/bold] ({one.name})", soft_wrap=True)
    out.print(f"\n{escape(one.definition)}\n")
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("unit", one.unit)
    if one.numerator:
        grid.add_row("ratio", f"{one.numerator} / {one.denominator}")
    grid.add_row("adds up", "over any rows" if one.additive else "no: over more rows take the SQL")
    for n, place in enumerate(places(one)):
        part = "" if place.part == one.name else f" ({place.part})"
        grid.add_row("" if n else "stands in", f"{place.name}{part}, per {', '.join(place.grain)}")
    grid.add_row("version", str(one.version))
    show(grid, out)
    # Text to copy: no markup, no folding.
    out.print("\nsql", style="dim")
    click.echo(one.sql, file=out.file)
