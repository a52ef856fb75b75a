"""`cai up`: the Dagster UI over the stack, until Ctrl-C."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai_assets.commands.common import console, data_option, ending_signals, say_started, shown_path

if TYPE_CHECKING:
    from rich.console import Console

    from cai_assets.stack import EmbeddedStack, Home

HOST = "127.0.0.1"  # the open-source UI has no login
START_SECONDS = 180.0  # 20 to 26 s were measured on two busy cores
LOG_TAIL_LINES = 20
LOOK_SECONDS = 30.0

# While the code location is away, as when it is started anew, a backfill waits for it instead of failing.
PATIENT = {"DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1"}

RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "cai_assets.definitions") {
    __typename } }"""

LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError {
    __typename ... on PythonError { message } } } } } }"""


@click.command(
    short_help="The Dagster UI: tables, runs, checks; until Ctrl-C.",
    epilog="""\b
Examples:
  cai up                      the UI on http://127.0.0.1:3000
  cai up --port 3100
  cai up --data exports/may   over the conversations in that folder

Exit code 1 when the port is taken or Dagster ends by itself, 130 after Ctrl-C.
""",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the UI."
)
@data_option
def up(port: int, data: Path | None) -> None:
    """Run the Dagster UI and its daemon until Ctrl-C.

    The UI shows every table, run and check, and the daemon makes what is due. Servers that the settings do
    not name are started on this machine, and end with it; what was made stays. There is no login, so the UI
    listens on this machine only.
    """
    from cai_assets.settings import load_settings
    from cai_assets.stack import EmbeddedStack, choose_home

    out = console()
    settings = load_settings()
    home = choose_home(settings, data)
    _refuse_second(home)
    check_port(port)
    with ending_signals(), EmbeddedStack(home, settings, "cai up", exclusive=True) as stack:
        say_started(stack, out)
        try:
            _serve(stack, port, out)
        except KeyboardInterrupt:
            out.print("Stopping …")
            raise


def _refuse_second(home: "Home") -> None:
    """Say where the UI is, rather than that its port is taken."""
    from cai_assets.stack import StackError, running_stack

    running = running_stack(home)
    if running is not None and running.ui is not None:
        raise StackError(
            f"{running.owner.name} (process {running.owner.pid}) already runs over {shown_path(home.path)}: "
            f"its UI is at {running.ui}"
        )


def check_port(port: int) -> None:
    """Make sure that a server can listen on this port of the loopback.

    Raises:
        StackError: something else does, or it may not be used.
    """
    import socket

    from cai_assets.stack import StackError

    with socket.socket() as probe:
        # A server that just ended leaves connections in TIME_WAIT; they keep nobody from listening again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except PermissionError:
            raise StackError(
                f"port {port} may not be used by you: choose one above 1023, as `cai up --port 3100`"
            ) from None
        except OSError as error:
            raise StackError(
                f"port {port} on {HOST} is in use by another program: stop it, or choose another port, "
                f"as `cai up --port {port + 1 if port < 65535 else 3100}`. ({error.strerror})"
            ) from None


def _serve(stack: "EmbeddedStack", port: int, out: "Console") -> None:
    from cai_assets.stack import StackError

    log = stack.home.logs / "dagster.log"
    address = f"http://{HOST}:{port}"
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "-m",
        "cai_assets.definitions",
        "-h",
        HOST,
        "-p",
        str(port),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  our own interpreter, arguments passed as a list
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={"DAGSTER_UI_URL": address, **PATIENT, **os.environ},
        )
    stack.adopt("Dagster", process.pid)
    with out.status("Starting the Dagster UI; the first time takes up to half a minute …"):
        _wait_for_ui(process, address, log)
    stack.announce(address)
    for problem in _load_errors(address):
        out.print(f"[red]A code location did not load:[/red] {problem.strip().splitlines()[-1]}", markup=True)
    out.print()
    out.print(f"  Dagster UI   [bold cyan]{address}[/bold cyan]")
    out.print(f"  Log          {shown_path(log)}")
    out.print("  Automation   marts and reports follow the facts; to follow the source as well, switch the")
    out.print("               sensor nocodb_changes on there (docs/operations.md tells of all of them)")
    out.print("  Ctrl-C stops everything.")
    code = _watch(process, address, out)
    # Its runs outlive it, and would go on without the servers that end with this command. Killed, they are
    # found by the next `cai up`, and started again.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    raise StackError(f"Dagster ended by itself with code {code}; the end of its log:\n{_tail(log)}")


def _watch(process: "subprocess.Popen[bytes]", address: str, out: "Console") -> int:
    """Wait for the end of Dagster, and start its code server anew where that died; the exit code.

    `dagster dev` ends when its daemon or webserver does. Of a code server that is gone it only shows an
    error, until somebody presses Reload.
    """
    import requests

    while True:
        try:
            return process.wait(timeout=LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(requests.RequestException, KeyError):  # busy, or about to end
                if any("DagsterUserCodeUnreachableError" in error for error in _load_errors(address)):
                    requests.post(f"{address}/graphql", json={"query": RELOAD}, timeout=60)
                    out.print("[yellow]The code server was gone; it was started again.[/yellow]")


def _wait_for_ui(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    import requests

    from cai_assets.stack import StackError

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StackError(
                f"Dagster did not start (code {process.returncode}); its log ends:\n{_tail(log)}"
            )
        try:
            if requests.get(f"{address}/server_info", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise StackError(f"Dagster did not answer within {START_SECONDS:.0f} s; its log ends:\n{_tail(log)}")


def _load_errors(address: str) -> list[str]:
    """Why code locations did not load; empty when all did."""
    import requests

    answer: dict[str, Any] = requests.post(f"{address}/graphql", json={"query": LOCATIONS}, timeout=60).json()
    entries = answer["data"]["workspaceOrError"].get("locationEntries", [])
    found = [entry["locationOrLoadError"] or {} for entry in entries]
    return [error["message"] for error in found if error.get("__typename") == "PythonError"]


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])
