"""The embedded stack: what the platform needs besides itself, started on this machine's loopback.

One home folder holds all of it for one set of conversations: the database's files, the lake, Dagster's
instance, logs. What the environment already names (`MONGODB_URI`, `NOCODB_BASE_URL`, `DIFY_BASE_URL`, …) is
used as it is; only the rest is started. What a home is, without any process, is `home.py`'s; whoever runs a
stack finds those names here as well. Which commands exist, and what they print, belongs to `commands/`; how
the database and the sandbox are started belongs to `resources/secantus.py` and `sandbox/process.py`.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol, Self

from cai_assets.home import (
    MIN_FREE_BYTES,
    Home,
    HomeSettings,
    StackError,
    check_disk,
    check_identity,
    choose_home,
    dagster_home,
    kept_here,
    needs_servers,
    prepare_dagster_home,
    pseudonym_key,
    uses_sandbox,
    write_private,
)
from cai_assets.processes import Process, Watchdog, end
from cai_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from cai_assets.sandbox.process import SandboxProcess

__all__ = [
    "MIN_FREE_BYTES",
    "EmbeddedStack",
    "Home",
    "HomeSettings",
    "Running",
    "Server",
    "StackError",
    "activate",
    "check_disk",
    "choose_home",
    "dagster_home",
    "kept_here",
    "needs_servers",
    "prepare_dagster_home",
    "pseudonym_key",
    "running_stack",
    "uses_sandbox",
]


class Server(Protocol):
    """What the stack has to know of a server it started."""

    def stop(self) -> None:
        """End it and wait until it has gone."""


@dataclass(frozen=True)
class Running:
    """A stack that runs now, as its `stack.json` says.

    Attributes:
        owner: the command that started it and will stop it.
        environment: what it offers, as variables.
        children: what it started.
        ui: address of the Dagster UI, where it has one.
    """

    owner: Process
    environment: dict[str, str]
    children: tuple[Process, ...]
    ui: str | None = None


def _read_state(home: Home) -> Running | None:
    try:
        state = json.loads(home.state_file.read_text(encoding="utf-8"))
        return Running(
            Process(**state["owner"]),
            dict(state["environment"]),
            tuple(Process(**child) for child in state["children"]),
            state["ui"],
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):  # half written when the machine stopped: it names nobody
        return None


def running_stack(home: Home) -> Running | None:
    """The stack that runs over this home, or None."""
    state = _read_state(home)
    return state if state and state.owner.alive else None


class EmbeddedStack:
    """The servers of one home, from `start` to `stop`; also a context manager.

    Everything it starts ends with it: in order by `stop`, and by the watchdog when this process dies.

    Args:
        home: where it lives.
        settings: what the environment says; what is set there is not started here.
        command: what to call the owner in messages, as "cai up".
        exclusive: whether to keep others out even where nothing has to be started.

    Attributes:
        environment: what it offers, as variables; in force in this process from `start` to `stop`.
        started: names of the servers it started.
    """

    def __init__(self, home: Home, settings: Settings, command: str, *, exclusive: bool = False) -> None:
        self.home = home
        self.environment: dict[str, str] = {}
        self.started: list[str] = []
        self._settings = settings
        self._command = command
        self._exclusive = exclusive
        self._ui: str | None = None
        self._lock: IO[str] | None = None
        self._watchdog: Watchdog | None = None
        self._servers: list[Server] = []
        self._children: list[Process] = []
        self._adopted: list[Process] = []
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start what is missing and put its addresses into this process's environment.

        Raises:
            StackError: another stack runs over this home, the home belongs to other conversations, the disk
                is full or cannot be written.
            CaiError: a server did not start; what was started before it is stopped again.
        """
        check_disk(self.home.path)
        if self._exclusive or needs_servers(self._settings):
            self._take_lock()
        try:
            check_identity(self.home, self._settings)
            for folder in (self.home.lake, self.home.logs):
                folder.mkdir(exist_ok=True)
            if self._lock is not None:
                self._heal()
                self._watchdog = Watchdog()
                self._start_servers()
            self.environment |= kept_here(self.home, self._settings)
            prepare_dagster_home(self.home)
            self._write_state()
            self._before = activate(self.environment)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything that was started, last first, and leave the environment as it was. Idempotent."""
        end(reversed(self._adopted))
        for server in reversed(self._servers):
            server.stop()
        self._servers, self._children, self._adopted = [], [], []
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None
        activate(self._before)
        self._before = {}
        if self._lock is not None:
            self.home.state_file.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def adopt(self, name: str, pid: int) -> Process:
        """Take a process that the caller started into the stack's care: it is ended before the servers.

        Raises:
            ProcessLookupError: it is gone already.
        """
        process = self._watch(name, pid)
        self._adopted.append(process)
        self._write_state()
        return process

    def announce(self, ui: str) -> None:
        """Note where the UI is, for others that ask."""
        self._ui = ui
        self._write_state()

    def _watch(self, name: str, pid: int) -> Process:
        if self._watchdog is None:
            raise StackError("the stack is not started, so nothing can be put into its care")
        process = Process.of(name, pid)
        self._watchdog.watch(process)
        return process

    def _own(self, name: str, pid: int) -> None:
        # One that ended as soon as it was started is nobody's care, and its starter tells why it did.
        with contextlib.suppress(ProcessLookupError):
            self._children.append(self._watch(name, pid))

    def _take_lock(self) -> None:
        lock = (self.home.path / "lock").open("a+", encoding="utf-8")
        try:
            # The system gives the lock back when its holder is gone, whatever happened to it.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            state = running_stack(self.home)
            who = f"{state.owner.name} (process {state.owner.pid})" if state else "another command"
            raise StackError(
                f"{who} already runs the stack of {self.home.path}; "
                "stop it, or set CAI_HOME to another folder"
            ) from None
        self._lock = lock

    def _heal(self) -> None:
        """End what a stack that did not stop in order left behind; the lock says that its owner is gone."""
        state = _read_state(self.home)
        if state is not None:
            end(state.children)
        self.home.state_file.unlink(missing_ok=True)

    def _start_servers(self) -> None:
        if "mongodb_uri" not in self._settings.model_fields_set:
            from cai_assets.resources.secantus import SecantusProcess

            database = SecantusProcess(self.home.mongo).start(watched=partial(self._own, "SecantusDB"))
            self._servers.append(database)
            self.environment["MONGODB_URI"] = database.uri
            self.started.append("SecantusDB")
        if uses_sandbox(self._settings):
            from cai_assets.sandbox.process import SandboxProcess

            # Not `stop_with_parent`: that leaves it in the terminal's group, where Ctrl-C would end it before
            # the work that needs it. The watchdog does the same without that.
            sandbox = SandboxProcess.start(
                self.home.data or "sample",
                log_file=self.home.logs / "sandbox.log",
                stop_with_parent=False,
                watched=partial(self._own, "sandbox"),
            )
            self._servers.append(sandbox)
            own_dify = "dify_base_url" in self._settings.model_fields_set
            for name, value in sandbox.environment().items():
                # The sandbox's keys are of no use to a Dify of one's own.
                if not (own_dify and name.startswith("DIFY_")):
                    self.environment[name] = value
            self.environment |= self._days_there(sandbox)
            self.started.append("the sandbox's NocoDB" if own_dify else "the sandbox's NocoDB and Dify")

    def _days_there(self, sandbox: "SandboxProcess") -> dict[str, str]:
        """First and last day of the sandbox's conversations, unless the settings say which days there are."""
        if {"partition_start_date", "partition_end_date"} & self._settings.model_fields_set:
            return {}
        days = sandbox.days(self._settings.timezone)
        return dict(zip(("PARTITION_START_DATE", "PARTITION_END_DATE"), days, strict=True)) if days else {}

    def _write_state(self) -> None:
        if self._lock is not None:
            state = Running(
                Process.of(self._command, os.getpid()),
                self.environment,
                (*self._children, *self._adopted),
                self._ui,
            )
            write_private(self.home.state_file, json.dumps(asdict(state), indent=1) + "\n")


def activate(environment: Mapping[str, str | None]) -> dict[str, str | None]:
    """Put variables into this process's environment (None: take them out) and let the settings be read anew.

    Returns:
        What they were before.
    """
    before = {name: os.environ.get(name) for name in environment}
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    load_settings.cache_clear()
    return before
