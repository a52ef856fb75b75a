"""`cai erase`: a person goes from the documents, the lake and the reports, with a receipt.

Only the asking and the telling belong here; what is done is `resources.erasing`'s.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai_assets.commands.common import JSON_INDENT, console, data_option, json_option, show, working_stack
from cai_assets.domain.days import DAYS_PER_RUN

if TYPE_CHECKING:
    from rich.console import Console

    from cai_assets.resources.erasing import Eraser, Receipt, Who
    from cai_assets.resources.erasure_scope import Scope
    from cai_assets.resources.erasure_search import Proof
    from cai_assets.settings import Settings
    from cai_assets.stack import Home

SHOWN = 20


@click.command(
    short_help="Erase a person, everywhere, with a receipt.",
    epilog="""\b
Examples:
  cai erase user-0042 --dry-run       what there is of the person; only counts
  cai erase user-0042                 asks, then erases
  cai erase u_3f… --pseudonym --yes   by the keyed hash, as pages show it
  cai erase - --yes < id.txt          keeps the id out of the shell's history
  cai erase --receipts --json         what was erased, when; names nobody

Killed at any moment, the same command goes on. The source itself has to be
cleaned by hand: what it still holds is listed, and does not come in again. Exit
code 1 where something of the person is left, runs are under way, or no was said.
""",
)
@click.argument("user", required=False)
@click.option("--pseudonym", "is_pseudonym", is_flag=True, help="USER is the keyed hash, as the lake has it.")
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--receipts", is_flag=True, help="List the receipts of former erasures.")
@click.option(
    "--forget-marks",
    is_flag=True,
    help="Remove all tombstones, the marks that keep the erased out: what the source still holds of them is "
    "imported again.",
)
@data_option
@json_option
@click.pass_context
def erase(
    ctx: click.Context,
    user: str | None,
    is_pseudonym: bool,
    dry_run: bool,
    yes: bool,
    receipts: bool,
    forget_marks: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Erase the person with this user id from MongoDB, the memory, the lake, old versions and the reports.

    Tables and reports are made again for the days concerned; sums of money and tokens stay. Afterwards every
    file and every document is searched, and a receipt is kept and printed.
    """
    if (user is not None) + receipts + forget_marks != 1:
        raise click.UsageError("name one USER, or ask for --receipts or --forget-marks")
    if user == "-":
        user = sys.stdin.readline().rstrip("\r\n")
        yes = True  # there is nobody left to ask
    if user is not None and not user.strip():
        raise click.UsageError("USER is empty")
    if as_json and not (yes or dry_run or receipts):
        raise click.UsageError("--json does not ask: add --yes" + (", or --dry-run" if user else ""))
    out = console()
    with working_stack("erase", data, out, quiet=as_json) as (home, settings):
        if user is None:
            _records(settings, out, receipts=receipts, yes=yes, as_json=as_json)
            return
        with _eraser(settings, home, out, quiet=as_json) as (eraser, idle):
            who = eraser.who(user, is_pseudonym=is_pseudonym)
            if dry_run or not yes:
                scope = eraser.look(who)
                _print_scope(scope, who, out, as_json=as_json)
                if dry_run:
                    return
                click.confirm("Erase this person? It cannot be undone.", abort=True)
            idle()
            receipt = eraser.erase(who)
        if as_json:
            click.echo(json.dumps(_plain(receipt), indent=JSON_INDENT, ensure_ascii=False, default=str))
        else:
            _print(receipt, out)
    ctx.exit(0)


@contextmanager
def _eraser(
    settings: "Settings", home: "Home", out: "Console", *, quiet: bool
) -> Iterator[tuple["Eraser", Callable[[], None]]]:
    """The eraser of an installation, and a function that makes sure that no run is under way."""
    import logging

    import dagster as dg

    from cai_assets.io_managers.parquet import ParquetIOManager
    from cai_assets.resources.erasing import Eraser, Places
    from cai_assets.resources.mongo import MongoStore
    from cai_assets.resources.source import open_source
    from cai_assets.stack import dagster_home

    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.get())
        store = stack.enter_context(MongoStore.from_settings(settings))
        source = stack.enter_context(closing(open_source(settings)))
        folders = [("dagster", dagster_home(home)), ("logs", home.logs)]
        places = Places(
            store,
            ParquetIOManager.from_settings(settings).tables(),
            lambda days: refresh(days, settings, instance, out, quiet=quiet),
            source,
            folders,
        )
        status = stack.enter_context(_Status(out, quiet=quiet))
        eraser = Eraser(
            places,
            settings,
            logging.getLogger("cai_assets.erase"),
            tell=status.tell,
            searched=status.searched,
        )
        yield eraser, lambda: _refuse_runs(instance)


def _refuse_runs(instance: Any) -> None:
    """A run that is under way may have read the person already, and would write them after the erasure.

    Raises:
        PermanentError: runs are under way.
    """
    import dagster as dg
    from dagster import DagsterRunStatus

    from cai_assets.failures import PermanentError
    from cai_assets.launcher import end_lost_runs

    busy = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    # That of a command that was killed, as an earlier try of this one, stands as under way for ever.
    runs = end_lost_runs(instance, instance.get_runs(dg.RunsFilter(statuses=busy)))
    if runs:
        raise PermanentError(
            f"{len(runs)} runs are under way ({', '.join(run.run_id[:8] for run in runs[:5])}) and may write "
            "the person anew: wait for them, or cancel them in the UI, and try again"
        )


def refresh(
    days: Sequence[str], settings: "Settings", instance: Any, out: "Console", *, quiet: bool = False
) -> None:
    """Make again what was made of some days before: the lake and all that follows from it.

    Only what is there is made: a day that a table does not have stays missing, and so does a report that was
    never made.

    Raises:
        PermanentError: a step or a check failed.
    """
    from rich.console import Console

    from cai_assets.commands.runs import materialize_range
    from cai_assets.definitions import defs
    from cai_assets.failures import PermanentError

    shown = Console(quiet=True) if quiet else out
    daily, whole = _made_before(settings, instance)
    jobs = [(first, last, keys) for first, last, keys in _ranges(days, daily) if keys]
    if whole:
        jobs.append((days[0], days[0], whole))
    for first, last, keys in jobs:
        outcome = materialize_range(defs, instance, first, last, keys, shown, command="erase")
        if not outcome.success or outcome.checks_failed:
            failed = [f"{one.step}: {one.reason}" for one in outcome.failures] + outcome.checks_failed
            raise PermanentError(
                f"tables of {first} to {last} could not be made again, so the erasure is not finished: "
                f"{'; '.join(failed[:3])}. Mend that, and run `cai erase` again"
            )


def _made_before(settings: "Settings", instance: Any) -> tuple[dict[Any, set[str]], list[Any]]:
    """Assets from the lake on that were made: daily ones with their days, and the others; in graph order."""
    from cai_assets.definitions import defs
    from cai_assets.io_managers.parquet import ParquetIOManager
    from cai_assets.schemas.tables import TABLES

    parquet = ParquetIOManager.from_settings(settings)
    graph = defs.resolve_asset_graph()
    daily: dict[Any, set[str]] = {}
    whole: list[Any] = []
    for key in graph.toposorted_asset_keys:
        if key not in graph.materializable_asset_keys or key.path[0] in ("raw", "documents", "enrichment"):
            continue
        path = (key.path[0], "/".join(key.path[1:]))
        table = parquet.table(path) if path in TABLES else None
        if graph.get(key).is_partitioned:
            made = table.partitions() if table is not None else instance.get_materialized_partitions(key)
            daily[key] = set(made)
        elif table.exists() if table is not None else instance.get_latest_materialization_event(key):
            whole.append(key)
    return daily, whole


def _ranges(days: Sequence[str], daily: dict[Any, set[str]]) -> Iterator[tuple[str, str, list[Any]]]:
    """Days that follow each other and have the same assets, as ranges of at most a month."""
    from datetime import date, timedelta

    run: list[str] = []
    keys: list[Any] = []
    for day in sorted(days):
        of_day = [key for key, made in daily.items() if day in made]
        follows = run and date.fromisoformat(run[-1]) + timedelta(days=1) == date.fromisoformat(day)
        if run and not (follows and of_day == keys and len(run) < DAYS_PER_RUN):
            yield run[0], run[-1], keys
            run = []
        keys = of_day
        run.append(day)
    if run:
        yield run[0], run[-1], keys


class _Status:
    """Steps as lines, and the search as a bar; tables that are made again have a bar of their own."""

    def __init__(self, out: "Console", *, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._out = out
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("searching"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[found]}"),
            TimeElapsedColumn(),
            console=out,
            transient=True,
            disable=quiet or not out.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> "_Status":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, text: str) -> None:
        if not self._quiet:
            self._out.print(f"[dim]·[/dim] {text}")

    def searched(self, proof: "Proof", total: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task("searching", total=total, found="")
            self._bar.start()
        self._bar.update(
            self._task,
            total=total,
            completed=min(total, proof.documents + proof.files),
            found=f"{proof.documents:,} documents, {proof.files:,} files, {proof.bytes / 2**20:,.0f} MiB",
        )


def _records(settings: "Settings", out: "Console", *, receipts: bool, yes: bool, as_json: bool) -> None:
    from cai_assets.resources.erasures import Erasures
    from cai_assets.resources.mongo import MongoStore

    with MongoStore.from_settings(settings) as store:
        records = Erasures(store)
        if not receipts:
            if not yes:
                click.confirm("Let erased persons be imported again from the source?", abort=True)
            count = records.forget_marks()
            click.echo(json.dumps({"forgotten": count}) if as_json else f"{count} tombstones were removed.")
            return
        journals = [
            {name: value for name, value in one.items() if name != "conversations"}
            for one in records.journals()
        ]
    if as_json:
        click.echo(json.dumps(journals, indent=JSON_INDENT, ensure_ascii=False, default=str))
        return
    for one in journals:
        done = one.get("receipt", {})
        out.print(
            f"{one['began_at']:%Y-%m-%d %H:%M} UTC  {one['state']:<8} {one['_id'].partition('/')[2]}  "
            f"{sum(part['count'] for part in done.get('removed', ())):,} documents and rows, "
            f"{len(done.get('days', ())):,} days"
        )
    if not journals:
        out.print("Nobody was erased.")


def _print_scope(scope: "Scope", who: "Who", out: "Console", *, as_json: bool) -> None:
    from cai_assets.resources.erasure_scope import summary

    counts = {where: count for where, count in summary(scope).items() if count}
    if as_json:
        found = {"pseudonym": who.pseudonym, "found": counts, "days": sorted(scope.days)}
        click.echo(json.dumps(found, indent=JSON_INDENT))
        return
    if not counts:
        out.print("Nothing of this person is here. Erasing keeps the person from being imported from now on.")
        return
    out.print(f"Of this person ({who.pseudonym}) there are:")
    _print_counts(counts, out)
    out.print(f"{len(scope.days)} days would be made again.")


def _print_counts(counts: dict[str, int], out: "Console") -> None:
    from rich.table import Table

    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(justify="right")
    grid.add_column(no_wrap=True)
    for where, count in counts.items():
        if count:
            grid.add_row(f"{count:,}", where)
    show(grid, out)


def _plain(receipt: "Receipt") -> dict[str, Any]:
    return asdict(receipt)


def _print(receipt: "Receipt", out: "Console") -> None:
    proof = receipt.proof
    out.print(
        "[bold green]Erased.[/bold green] Found and removed (rows of the ledger stay without the person):"
    )
    _print_counts(receipt.removed, out)
    out.print(
        f"{len(receipt.days)} days made again, {receipt.files_rewritten} raw files rewritten, "
        f"{receipt.files_deleted} files of older versions deleted."
    )
    out.print(
        f"Searched {proof.documents:,} documents and {proof.files:,} files, {proof.bytes / 2**20:,.1f} MiB, "
        f"for {proof.needles:,} ids and texts: nothing of the person is left."
    )
    if proof.shared:
        out.print(
            f"{proof.shared:,} texts stay, as others wrote the same (or it stands inside what they wrote)."
        )
    if proof.mentions:
        out.print("[yellow]Texts of others name the person; judge these yourself:[/yellow]")
        for where, count in list(proof.mentions.items())[:SHOWN]:
            out.print(f"  {where} ({count})")
    if receipt.source is None:
        return
    held = {name: ids for name, ids in receipt.source.items() if ids}
    if not held:
        out.print("The source holds nothing of the person any more.")
        return
    out.print(
        "[yellow]The source still holds the person; clean it there (it is not imported again):[/yellow]"
    )
    for name, ids in held.items():
        shown = ", ".join(map(str, ids[:SHOWN])) + (
            f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        )
        out.print(f"  {name}: {len(ids):,} rows, numbers {shown}")
