"""Runs of the graph inside this process, with their progress on the terminal. No table is read here.

A range of days is one Dagster run in the instance of DAGSTER_HOME, so the UI shows it in its history like its
own. Starting a process for it would cost two interpreter starts, about 16 CPU seconds.
"""

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import click
import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from cai_assets.launcher import process_tag
from cai_assets.partitions import (
    DAILY,
    RANGE_END,
    RANGE_START,
    contiguous_ranges,
    day_bounds,
    day_of,
    days_between,
)
from cai_assets.resources.source import open_source
from cai_assets.settings import Settings

# Whoever called the command sees it end, and calls it again; the daemon does not.
OWN = {"dagster/max_retries": "0"}

PARTITION_ROWS, TABLE_ROWS = "dagster/partition_row_count", "dagster/row_count"


@dataclass(frozen=True)
class StepFailure:
    """A step that failed: its name and why, in one line."""

    step: str
    reason: str


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        run_id: Dagster's.
        success: whether every step did its work.
        seconds: wall time.
        rows: rows written, by asset ("layer/name"); only of assets that tell.
        materialized: partitions written, by asset; 1 for a table without partitions.
        checks_passed: evaluations that passed.
        checks_failed: "asset: check" and its description, of those that did not.
        checks_warned: the same of those that only warn.
        failures: steps that failed.
    """

    run_id: str
    success: bool = False
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)
    materialized: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    checks_passed: int = 0
    checks_failed: list[str] = field(default_factory=list)
    checks_warned: list[str] = field(default_factory=list)
    failures: list[StepFailure] = field(default_factory=list)


def select_assets(definitions: dg.Definitions, selection: Sequence[str]) -> list[dg.AssetKey]:
    """Assets by layer ("facts") or by layer and name ("facts/fct_wait"), in the order of the graph.

    Args:
        definitions: the code location.
        selection: layers and assets; empty for all.

    Raises:
        click.UsageError: a name that is none, with those that are.
    """
    graph = definitions.resolve_asset_graph()
    ordered = [key for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]
    if not selection:
        return ordered
    layers = {key.path[0] for key in ordered}
    names = {key.to_user_string(): key for key in ordered}
    chosen: set[dg.AssetKey] = set()
    for part in (part.strip().strip("/") for word in selection for part in word.split(",")):
        if part in layers:
            chosen.update(key for key in ordered if key.path[0] == part)
        elif part in names:
            chosen.add(names[part])
        else:
            layer = part.partition("/")[0]
            known = [name for name in names if name.startswith(f"{layer}/")] or sorted(layers)
            raise click.UsageError(f"there is no layer or asset {part!r}; there are {', '.join(known)}")
    return [key for key in ordered if key in chosen]


def materialize_range(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    first: str,
    last: str,
    assets: Sequence[dg.AssetKey],
    out: Console,
    *,
    command: str,
    verbose: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Outcome:
    """Materialise assets for the days `first` to `last`, both included, as one run, showing how it goes.

    Args:
        definitions: the code location.
        instance: where the run is recorded.
        first: local day.
        last: local day.
        assets: what to materialise; tables without partitions are made once, as a whole.
        out: the terminal.
        command: tagged on the run, so that the UI tells where it came from.
        verbose: show Dagster's own log as well.
        tags: further ones of the run.

    Returns:
        What happened; a failed step does not raise.
    """
    outcome = Outcome(run_id=str(uuid.uuid4()))
    started = time.monotonic()
    with _Display(out, outcome, {key.to_user_string() for key in assets}) as display:
        instance.add_event_listener(outcome.run_id, display.take)
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            run_id=outcome.run_id,
            asset_selection=list(assets),
            raise_on_error=False,
            tags={
                RANGE_START: first,
                RANGE_END: last,
                "cai/command": command,
                **OWN,
                **process_tag(outcome.run_id),
                **(tags or {}),
            },
            run_config={"loggers": {"console": {"config": {"log_level": "INFO" if verbose else "CRITICAL"}}}},
        )
    outcome.success = result.success
    outcome.seconds = time.monotonic() - started
    return outcome


class _Display:
    """Events of a run as they come, one line a finished asset, a bar for the whole below them."""

    def __init__(self, out: Console, outcome: Outcome, assets: set[str]) -> None:
        self._out = out
        self._outcome = outcome
        self._assets = assets
        self._done: set[str] = set()
        self._begun: dict[str, float] = {}
        self._step_assets: dict[str, set[str]] = defaultdict(set)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("assets"),
            TimeElapsedColumn(),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=len(assets))

    def __enter__(self) -> "_Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def take(self, entry: dg.EventLogEntry) -> None:
        """One event of the run."""
        event = entry.dagster_event
        if event is None:
            return
        step = event.step_key or ""
        if event.is_step_start:
            self._begun[step] = time.monotonic()
            self._progress.update(self._task, description=_readable(step))
        elif event.is_step_materialization:
            self._materialized(event, step)
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._checked(event.asset_check_evaluation_data)
        elif event.is_step_success:
            self._finished(step)
        elif event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY:
            self._out.print(
                f"  [yellow]↻[/yellow] {_readable(step)} is tried again: {escape(_reason(event))}"
            )
        elif event.is_step_failure:
            failure = StepFailure(_readable(step), _reason(event))
            self._outcome.failures.append(failure)
            self._out.print(f"  [red]✗[/red] {failure.step}: {escape(failure.reason)}")

    def _materialized(self, event: dg.DagsterEvent, step: str) -> None:
        materialization = event.step_materialization_data.materialization
        name = materialization.asset_key.to_user_string()
        self._step_assets[step].add(name)
        self._outcome.materialized[name] += 1
        of_partition = materialization.metadata.get(PARTITION_ROWS)
        of_table = materialization.metadata.get(TABLE_ROWS)
        if of_partition is not None and isinstance(of_partition.value, int):
            self._outcome.rows[name] = self._outcome.rows.get(name, 0) + of_partition.value
        elif of_table is not None and isinstance(of_table.value, int):
            self._outcome.rows[name] = of_table.value

    def _checked(self, evaluation: dg.AssetCheckEvaluation) -> None:
        if evaluation.passed:
            self._outcome.checks_passed += 1
            return
        name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
        where = f" on {evaluation.partition}" if evaluation.partition else ""
        text = f"{name}{where}" + (f" ({evaluation.description})" if evaluation.description else "")
        if evaluation.severity == dg.AssetCheckSeverity.WARN:
            self._outcome.checks_warned.append(text)
            self._out.print(f"  [yellow]![/yellow] check {escape(text)}")
            return
        self._outcome.checks_failed.append(text)
        self._out.print(f"  [red]✗[/red] check {escape(text)}")

    def _finished(self, step: str) -> None:
        seconds = time.monotonic() - self._begun.get(step, time.monotonic())
        for name in sorted(self._step_assets[step] - self._done):
            self._done.add(name)
            rows = self._outcome.rows.get(name)
            told = "" if rows is None else f"{rows:>11,} rows"
            self._out.print(f"  [green]✓[/green] {name:<30} {told:<17} {seconds:>6.1f} s")
        self._progress.update(self._task, completed=len(self._done))


def _readable(step: str) -> str:
    return step.replace("__", "/", 1)


def _reason(event: dg.DagsterEvent) -> str:
    """The innermost cause's message in one line: outer ones only say which step ran it."""
    data = event.event_specific_data
    description = getattr(getattr(data, "user_failure_data", None), "description", None)
    if description:
        return str(description)
    error = getattr(data, "error", None)
    if error is None:
        return "no reason was given"
    while error.cause is not None:
        error = error.cause
    return " ".join(error.message.split())


def summary(outcomes: Iterable[Outcome], out: Console) -> bool:
    """Say how runs went; whether all succeeded and every check passed."""
    outcomes = list(outcomes)
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    passed = sum(outcome.checks_passed for outcome in outcomes)
    failed = [text for outcome in outcomes for text in outcome.checks_failed]
    warned = sum(len(outcome.checks_warned) for outcome in outcomes)
    assets = {name for outcome in outcomes for name in outcome.materialized}
    seconds = sum(outcome.seconds for outcome in outcomes)
    good = not failures and not failed and all(outcome.success for outcome in outcomes)
    checks = f"{passed} checks passed" + (f", [yellow]{warned} warn[/yellow]" if warned else "")
    checks += f", [red]{len(failed)} failed[/red]" if failed else ""
    out.print(f"{len(assets)} assets in {seconds:.1f} s; {checks}.")
    if not good:
        names = ", ".join(dict.fromkeys(failure.step for failure in failures)) or "checks, listed above"
        runs = ", ".join(
            outcome.run_id for outcome in outcomes if not outcome.success or outcome.checks_failed
        )
        out.print(f"[red]Failed:[/red] {escape(names)} (run {runs}; `cai up` shows its log)")
    return good


def materialize_days(
    days: Sequence[str],
    selection: Sequence[str],
    out: Console,
    *,
    days_per_run: int,
    command: str,
    verbose: bool = False,
    tags: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Materialise days in as few runs as allowed; tables without partitions once, in the last of them.

    Where the days take several runs and one fails, the others are still made, and the tables over all days
    are left as they are.

    Args:
        days: local days, in order; those that are not contiguous take a run for each range.
        selection: as for `select_assets`.
        out: the terminal.
        days_per_run: most days of one run.
        command: tagged on the runs.
        verbose: show Dagster's own log as well.
        tags: further ones of the runs.

    Returns:
        What happened in each run.
    """
    from cai_assets.definitions import defs

    assets = select_assets(defs, selection)
    graph = defs.resolve_asset_graph()
    daily = [key for key in assets if graph.get(key).is_partitioned]
    whole = [key for key in assets if key not in daily]
    ranges = [days_between(first, last) for first, last in contiguous_ranges(days)]
    parts = [
        one[start : start + days_per_run] for one in ranges for start in range(0, len(one), days_per_run)
    ]
    if not daily or len(parts) == 1:
        jobs = [(days[0], days[-1], assets)]
    else:
        jobs = [(part[0], part[-1], daily) for part in parts]
    outcomes: list[Outcome] = []
    with dg.DagsterInstance.get() as instance:

        def run(first: str, last: str, keys: Sequence[dg.AssetKey]) -> None:
            outcomes.append(
                materialize_range(
                    defs, instance, first, last, keys, out, command=command, verbose=verbose, tags=tags
                )
            )

        for first, last, keys in jobs:
            if len(jobs) > 1:
                out.print(f"{first} to {last}:")
            run(first, last, keys)
        if len(jobs) > 1 and whole:
            if all(outcome.success for outcome in outcomes):
                out.print("over all days:")
                run(days[0], days[-1], whole)
            else:
                out.print(f"[yellow]{len(whole)} tables over all days were left as they are.[/yellow]")
    return outcomes


def days_with_conversations(settings: Settings) -> list[str]:
    """Local days on which conversations started, in order; reads all conversations of the source."""
    first, last = DAILY.get_first_partition_key(), DAILY.get_last_partition_key()
    if first is None or last is None:
        return []
    start, end = day_bounds(first, settings.timezone)[0], day_bounds(last, settings.timezone)[1]
    with closing(open_source(settings)) as source:
        return sorted({day_of(row.started_at, settings.timezone) for row in source.conversations(start, end)})
