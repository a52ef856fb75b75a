"""The embedded stack: what the platform needs besides itself, started on this machine's loopback.

One home folder holds all of it for one set of conversations: the database's files, the lake, Dagster's
instance, logs. What the environment already names (`MONGODB_URI`, `NOCODB_BASE_URL`, `DIFY_BASE_URL`, …) is
used as it is; only the rest is started. Which commands exist, and what they print, belongs to `commands/`;
how the database and the sandbox are started belongs to `resources/secantus.py` and `sandbox/process.py`.
"""

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from cai_assets.failures import PermanentError
from cai_assets.processes import Process, Watchdog, end
from cai_assets.settings import Settings, load_settings

MIN_FREE_BYTES = (
    1024**3
)  # the sample needs 0.2 GiB; the database keeps logs of up to 128 MiB before it trims them


class StackError(PermanentError):
    """The stack cannot be started as asked; the message says what to change."""


class HomeSettings(BaseSettings):
    """The two variables that say where a stack lives; read like all others, needed before them."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    cai_home: Path = Field(Path(".cai"), description="Folder of the embedded stack's homes.")
    dagster_home: Path | None = Field(None, description="Dagster's instance; unset: inside the home.")


class Server(Protocol):
    """What the stack has to know of a server it started."""

    def stop(self) -> None:
        """End it and wait until it has gone."""


@dataclass(frozen=True)
class Home:
    """The folder of one stack.

    Attributes:
        path: absolute.
        data: folder of conversations the sandbox is seeded from; None for the sample, or where the
            conversations come from the user's own source.
    """

    path: Path
    data: Path | None = None

    @property
    def mongo(self) -> Path:
        """The database's files."""
        return self.path / "mongo"

    @property
    def lake(self) -> Path:
        """The Parquet lake, unless PARQUET_BASE_DIR or S3_ENABLED says otherwise."""
        return self.path / "lake"

    @property
    def dagster(self) -> Path:
        """Dagster's instance, unless DAGSTER_HOME says otherwise."""
        return self.path / "dagster"

    @property
    def logs(self) -> Path:
        """What the started servers wrote."""
        return self.path / "logs"

    @property
    def state_file(self) -> Path:
        """Which processes run over this home; only its owner may read it, as it holds passwords."""
        return self.path / "stack.json"

    @property
    def identity_file(self) -> Path:
        """What the home was made for."""
        return self.path / "home.json"

    @property
    def key_file(self) -> Path:
        """The key of the hashes that stand for user ids."""
        return self.path / "pseudonym.key"


def uses_sandbox(settings: Settings) -> bool:
    """Whether conversations come from the sandbox: no NocoDB and no folder of files is named."""
    return settings.source == "nocodb" and settings.nocodb_base_url is None


def needs_servers(settings: Settings) -> bool:
    """Whether anything has to be started for these settings."""
    return uses_sandbox(settings) or "mongodb_uri" not in settings.model_fields_set


def choose_home(settings: Settings, data: Path | None = None, root: Path | None = None) -> Home:
    """The home of a set of conversations; each set has its own, so that two never mix.

    `<root>/sample` for the sample, `<root>/<folder's name>` for a folder of conversations, `<root>/own` for
    the user's own source.

    Args:
        settings: what the environment says.
        data: folder to seed the sandbox from.
        root: where homes are; CAI_HOME when None.

    Raises:
        StackError: the folder holds no conversations, or a source of one's own is set as well.
    """
    root = (root or HomeSettings().cai_home).expanduser().resolve()
    if data is None:
        return Home(root / ("sample" if uses_sandbox(settings) else "own"))
    if not uses_sandbox(settings):
        name = "SOURCE=files" if settings.source == "files" else "NOCODB_BASE_URL"
        raise StackError(f"--data seeds the sandbox, but {name} is set; unset it or leave --data out")
    data = data.expanduser().resolve()
    missing = [n for n in ("conversations.parquet", "messages.parquet") if not (data / n).is_file()]
    if missing:
        raise StackError(f"{data} holds no {' and no '.join(missing)}; give a folder with the two files")
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in data.name).lstrip(".") or "data"
    return Home(root / (f"data-{name}" if name in ("sample", "own") else name), data)


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
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # half written when the machine stopped: it names nobody
        return None


def running_stack(home: Home) -> Running | None:
    """The stack that runs over this home, or None."""
    state = _read_state(home)
    return state if state and state.owner.alive else None


def _write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)


def _human(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 / 10 else f"{size / 1024**2:.0f} MiB"


def check_disk(path: Path, needed: int = MIN_FREE_BYTES) -> int:
    """Free bytes on the disk of `path`, which is made when it is not there.

    Raises:
        StackError: the folder cannot be made or written, or less than `needed` bytes are free.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
    except OSError as error:
        raise StackError(
            f"cannot write in {path}: {error.strerror or error}; set CAI_HOME to a folder you can write"
        ) from error
    free = shutil.disk_usage(path).free
    if free < needed:
        raise StackError(
            f"{_human(free)} free on the disk of {path}, at least {_human(needed)} is needed; "
            "free some space or set CAI_HOME to a folder on another disk"
        )
    return free


def pseudonym_key(home: Home) -> str:
    """The home's own key for PSEUDONYM_KEY, made once: with another key, a user would be another person."""
    try:
        return home.key_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        _write_private(home.key_file, secrets.token_hex(32) + "\n")
        return home.key_file.read_text(encoding="ascii").strip()


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
            self._check_identity()
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

    def _check_identity(self) -> None:
        """A home keeps to the conversations and the days it was made for."""
        wanted = {
            "data": str(self.home.data) if self.home.data else None,
            "report_timezone": self._settings.report_timezone,
        }
        try:
            made_for = json.loads(self.home.identity_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            _write_private(self.home.identity_file, json.dumps(wanted, indent=1) + "\n")
            return
        except ValueError:
            raise StackError(f"{self.home.identity_file} is damaged; remove {self.home.path}") from None
        names = {"data": "conversations of", "report_timezone": "REPORT_TIMEZONE"}
        for key, value in wanted.items():
            if made_for.get(key) != value:
                raise StackError(
                    f"{self.home.path} was made with {names[key]} {made_for.get(key)}, not {value}, "
                    "and the two do not mix; set CAI_HOME to another folder, or remove this one"
                )

    def _start_servers(self) -> None:
        if "mongodb_uri" not in self._settings.model_fields_set:
            from cai_assets.resources.secantus import SecantusProcess

            database = SecantusProcess(self.home.mongo).start()
            self._servers.append(database)
            self._children.append(self._watch("SecantusDB", database.pid))
            self.environment["MONGODB_URI"] = database.uri
            self.started.append("SecantusDB")
        if uses_sandbox(self._settings):
            from cai_assets.sandbox.process import SandboxProcess

            # Not `stop_with_parent`: that leaves it in the terminal's group, where Ctrl-C would end it before
            # the work that needs it. The watchdog does the same without that.
            sandbox = SandboxProcess.start(
                self.home.data or "sample", log_file=self.home.logs / "sandbox.log", stop_with_parent=False
            )
            self._servers.append(sandbox)
            self._children.append(self._watch("sandbox", sandbox.pid))
            own_dify = "dify_base_url" in self._settings.model_fields_set
            for name, value in sandbox.environment().items():
                # The sandbox's keys are of no use to a Dify of one's own.
                if not (own_dify and name.startswith("DIFY_")):
                    self.environment[name] = value
            self.started.append("the sandbox's NocoDB" if own_dify else "the sandbox's NocoDB and Dify")

    def _write_state(self) -> None:
        if self._lock is not None:
            state = Running(
                Process.of(self._command, os.getpid()),
                self.environment,
                (*self._children, *self._adopted),
                self._ui,
            )
            _write_private(self.home.state_file, json.dumps(asdict(state), indent=1) + "\n")


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


def kept_here(home: Home, settings: Settings) -> dict[str, str]:
    """Variables that say where this home's things are kept, unless the settings say so.

    Reading them needs no server: the lake and Dagster's instance are files (or the user's own servers).
    """
    given = settings.model_fields_set
    offers: dict[str, str] = {}
    if "pseudonym_key" not in given and home.path.is_dir():
        offers["PSEUDONYM_KEY"] = pseudonym_key(home)
    if needs_servers(settings):  # else everything is set by hand, and `dagster dev` sees the same
        offers["PARQUET_BASE_DIR"] = str(home.lake)
    if uses_sandbox(settings):
        # In servers of one's own, sample data gets places of its own.
        if "mongodb_uri" in given:
            offers["MONGODB_DATABASE"] = f"{settings.mongodb_database}_{home.path.name}"
        if settings.s3_enabled:
            offers["S3_PREFIX"] = f"{settings.s3_prefix}/{home.path.name}"
    offered = {name: value for name, value in offers.items() if name.lower() not in given}
    return offered | {"DAGSTER_HOME": str(dagster_home(home))}


def dagster_home(home: Home) -> Path:
    """The folder of Dagster's instance."""
    given = HomeSettings().dagster_home
    return given.expanduser().resolve() if given is not None else home.dagster


def prepare_dagster_home(home: Home) -> None:
    """Make the instance's folder with its `dagster.yaml`; one named by DAGSTER_HOME is left as it is."""
    if HomeSettings().dagster_home is None:
        home.dagster.mkdir(parents=True, exist_ok=True)
        template = files("cai_assets").joinpath("templates/dagster.yaml").read_text(encoding="utf-8")
        (home.dagster / "dagster.yaml").write_text(template, encoding="utf-8")
