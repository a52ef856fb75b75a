"""What commands share: output, options, days, and the stack they work on. No command and no query here."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cai_assets.settings import Settings
    from cai_assets.stack import EmbeddedStack, Home

F = TypeVar("F", bound=Callable[..., Any])

JSON_INDENT = 2

# Where a cell may be folded: at spaces, but not inside numbers ("1 021") nor between a date and its time.
_FOLDS = re.compile(r"(?<!\d)\s+|\s+(?!\d)")


def console() -> "Console":
    """The terminal, by a descriptor of its own.

    While a run is under way Dagster leads descriptors 1 and 2 through its own log files; what is printed here
    must not end up there, and must still see a terminal.
    """
    from rich.console import Console

    try:
        descriptor = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # replaced by something without a descriptor, as in tests
        return Console(highlight=False, soft_wrap=True)
    file = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", buffering=1)
    made = Console(file=file, highlight=False)
    if not made.is_terminal:
        # In a file or a pipe a table keeps its width, whatever the terminal behind it would be.
        made = Console(file=file, highlight=False, width=110)
    return made


def data_option(function: F) -> F:
    """`--data FOLDER`."""
    return click.option(
        "--data",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder with conversations.parquet and messages.parquet.  "
        "[default: the source of the settings, else sample conversations]",
    )(function)


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")(function)


def day_option(name: str, text: str, *, required: bool = False) -> Callable[[F], F]:
    """`--from` or `--to`, a local day."""
    return click.option(
        f"--{name}", f"{name}_day", type=DAY, required=required, metavar="YYYY-MM-DD", help=text
    )


class Day(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """A local day as `YYYY-MM-DD`."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same day, normalised; a usage error where it is none."""
        try:
            return date.fromisoformat(str(value)).isoformat()
        except ValueError:
            self.fail(f"{value!r} is no day; write it as 2024-05-31", param, ctx)


DAY = Day()


def show(grid: "Table", out: "Console") -> None:
    """Print a table so that no value is cut, however narrow the terminal.

    Where it does not fit, gaps become smaller, then cells are folded at spaces, the widest first; if even
    that is too wide, lines run on and the terminal folds them.
    """
    from rich.text import Text

    columns = [
        [Text.from_markup(str(cell)).plain for cell in (column.header, *column.cells)]
        for column in grid.columns
    ]
    widths = [max(map(_cells, texts)) for texts in columns]
    least = [max(_cells(word) for text in texts for word in _FOLDS.split(text)) for texts in columns]
    _, gap, _, indent = grid.padding
    if grid.padding[1] == 2 and sum(widths) + len(widths) * (gap + indent) - gap > out.width:
        gap = 1
        grid.padding = (0, gap, 0, indent)
    room = out.width - (len(widths) * (gap + indent) - gap)
    while sum(widths) > room and widths != least:
        widest = max((n for n in range(len(widths)) if widths[n] > least[n]), key=widths.__getitem__)
        widths[widest] -= 1
    for column, width in zip(grid.columns, widths, strict=True):
        column.width, column.no_wrap, column.overflow = width, False, "fold"
    before = out.width
    out.width = max(before, before + sum(widths) - room)
    out.print(grid, crop=False)
    out.width = before


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def check_order(first: str | None, last: str | None) -> None:
    """What can be said of a range of days without Dagster and without a server.

    Raises:
        click.UsageError: it is the wrong way round, or begins before PARTITION_START_DATE.
    """
    from cai_assets.settings import load_settings

    if first and last and first > last:
        raise click.UsageError(f"--from {first} lies after --to {last}")
    earliest = load_settings().partition_start_date
    for name, day in (("--from", first), ("--to", last)):
        if day and day < earliest:
            raise click.UsageError(
                f"{name} {day} lies before the first day, {earliest} (PARTITION_START_DATE)"
            )


def check_days(first: str, last: str) -> list[str]:
    """All days of a range, once it is one that can be materialised.

    Raises:
        click.UsageError: the range is empty, or leaves the days the platform knows.
    """
    from cai_assets.partitions import DAILY, days_between
    from cai_assets.settings import load_settings

    check_order(first, last)
    earliest, latest = DAILY.get_first_partition_key(), DAILY.get_last_partition_key()
    if earliest is None or latest is None or first < earliest or last > latest:
        raise click.UsageError(
            f"--from {first} --to {last} leaves the days there are: "
            f"{earliest} (PARTITION_START_DATE) to {latest} "
            f"({'PARTITION_END_DATE' if load_settings().partition_end_date else 'today'})"
        )
    return days_between(first, last)


def quieten_dagster() -> None:
    """Keep Dagster's notes on beta parameters from the terminal: they are for those who write the graph."""
    import warnings

    from dagster import BetaWarning, PreviewWarning

    for category in (BetaWarning, PreviewWarning):
        warnings.simplefilter("ignore", category)


@contextmanager
def ending_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the command like Ctrl-C: in order, with everything stopped."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def working_stack(
    command: str, data: Path | None, out: "Console", *, quiet: bool = False
) -> Iterator[tuple["Home", "Settings"]]:
    """Settings under which the platform's parts can be reached, for as long as the block runs.

    What is configured is used. What is missing comes from the embedded stack: the running one of the same
    home, else one started for the time of the command, which is said.

    Args:
        command: the command's name, for messages.
        data: folder of conversations.
        out: where to say what was done.
        quiet: say nothing, for JSON output.

    Yields:
        The home and the settings as they are now in force.
    """
    from cai_assets.settings import load_settings
    from cai_assets.stack import EmbeddedStack, activate, choose_home, needs_servers, running_stack

    settings = load_settings()
    home = choose_home(settings, data)
    running = running_stack(home) if needs_servers(settings) else None
    quieten_dagster()
    with ending_signals():
        if running is not None:
            if not quiet:
                out.print(
                    f"Using the stack of {running.owner.name} (process {running.owner.pid}).", style="dim"
                )
            before = activate(running.environment)
            try:
                yield home, load_settings()
            finally:
                activate(before)
            return
        with EmbeddedStack(home, settings, f"cai {command}") as stack:
            if not quiet:
                say_started(stack, out)
            yield home, load_settings()


@contextmanager
def kept_things(data: Path | None) -> Iterator[tuple["Home", "Settings"]]:
    """Settings under which the lake and Dagster's records can be read; no server is needed or started.

    Raises:
        StackError: nothing was materialised in this home yet.
    """
    from cai_assets.settings import load_settings
    from cai_assets.stack import StackError, activate, choose_home, dagster_home, kept_here

    settings = load_settings()
    home = choose_home(settings, data)
    if not dagster_home(home).is_dir():
        option = f" --data {data}" if data else ""
        raise StackError(
            f"nothing was materialised yet: {shown_path(home.path)} does not exist. "
            f"Run `cai demo{option}` or `cai backfill{option} --from DAY --to DAY` first"
        )
    quieten_dagster()
    before = activate(kept_here(home, settings))
    try:
        yield home, load_settings()
    finally:
        activate(before)


def refuse_missing(missing: list[str], home: "Home") -> None:
    """End a command that needs tables which are not there.

    Raises:
        StackError: some are missing.
    """
    from cai_assets.stack import StackError

    if missing:
        raise StackError(
            f"not yet materialised in {shown_path(home.path)}: {', '.join(missing)}; run `cai demo` or "
            "`cai backfill --from DAY --to DAY` first"
        )


def say_started(stack: "EmbeddedStack", out: "Console") -> None:
    """One line on what was started and where it keeps its things."""
    where = f"[bold]{shown_path(stack.home.path)}[/bold]"
    if stack.started:
        out.print(f"Started {' and '.join(stack.started)} on this machine; everything is kept in {where}.")
    else:
        out.print("Using the servers named in the settings.")


def shown_path(path: Path) -> str:
    """A path as people would type it here: relative inside the working directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
