"""The embedded document server: SecantusDB as a process of its own, for the demo and the tests.

Starting, finding and stopping that process belongs here, and nothing of what is stored in it; the platform
talks to it over a socket with pymongo like to any MongoDB. It is beta software and a single node: production
sets MONGODB_URI.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cai_assets.failures import PermanentError

EXECUTABLE = "secantusd-rs"
START_SECONDS = 60.0  # 0.3 s usually; recovery of 128 MB of log after a kill takes about a second
STOP_SECONDS = 60.0  # 2.6 s with a million documents
_LISTENING = re.compile(r"listening on (\S+):(\d+)")


def find_executable() -> Path:
    """The server's program: beside the running Python, else on the PATH.

    Raises:
        PermanentError: the `embedded` extra is not installed.
    """
    beside = shutil.which(EXECUTABLE, path=sysconfig.get_path("scripts"))
    found = beside or shutil.which(EXECUTABLE)
    if found is None:
        raise PermanentError(
            f"the embedded document server ({EXECUTABLE}) is not installed: "
            "pip install 'cai_assets[embedded]', or set MONGODB_URI to a MongoDB"
        )
    return Path(found)


class SecantusProcess:
    """One server over one directory, started by `start` and stopped by its own pid.

    Every acknowledged write is on disk (`--sync-on-commit`); without that flag a killed server lost the last
    moments. A directory holds `data/` (the server's files), `server.log`, an empty `server.toml` and, while
    it runs, `server.json` (`{"pid", "uri"}`), by which other processes find it.

    Args:
        directory: made if missing; its files survive restarts. One server per directory (it locks it).
        port: TCP port on 127.0.0.1; 0 takes a free one.
        durable: False trades the last moments before a crash for speed (throw-away data only).
        arguments: further ones of the program.
    """

    def __init__(
        self, directory: Path | str, *, port: int = 0, durable: bool = True, arguments: Sequence[str] = ()
    ) -> None:
        self.directory = Path(directory)
        self.port = port
        self._durable = durable
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._uri: str | None = None

    @property
    def uri(self) -> str:
        """The `mongodb://` address; only while started."""
        if self._uri is None:
            raise PermanentError("the embedded document server is not started")
        return self._uri

    @property
    def pid(self) -> int:
        """The server's process id; only while started."""
        if self._process is None:
            raise PermanentError("the embedded document server is not started")
        return self._process.pid

    def start(self, *, watched: Callable[[int], object] = lambda _: None) -> Self:
        """Start the server and wait until it listens.

        Args:
            watched: called with its process id at once, so that it is ended should we be killed now.

        Raises:
            PermanentError: not installed, the directory is in another server's hands, the port is taken, or
                the server ended or kept silent; the message holds the end of its log.
        """
        if self._process is not None:
            return self
        executable = find_executable()
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        log_path = self.directory / "server.log"
        configuration = self.directory / "server.toml"
        configuration.touch()  # an empty one of ours; else it would take up one of the working directory
        command = [str(executable), "--config", str(configuration)]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--storage-path", str(data)]
        command += ["--log-level", "WARNING", "--log-file-max", "128MB", "--cache-size", "256M"]
        if self._durable:
            command.append("--sync-on-commit")
        command += self._arguments
        with log_path.open("ab") as log:  # appended: it may be that of a running server, left undisturbed
            start_of_ours = log.tell()
            # A session of its own: Ctrl-C in a terminal reaches the owner alone, who then stops the server.
            self._process = subprocess.Popen(  # noqa: S603  our own program, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            watched(self._process.pid)
            host, port = self._wait_until_listening(log_path, start_of_ours)
        except BaseException:
            self.stop()
            raise
        self._uri = f"mongodb://{host}:{port}/"
        record = {"pid": self._process.pid, "uri": self._uri}
        (self.directory / "server.json").write_text(json.dumps(record), encoding="utf-8")
        return self

    def _wait_until_listening(self, log_path: Path, start: int) -> tuple[str, int]:
        assert self._process is not None  # noqa: S101  set by the only caller
        deadline = time.monotonic() + START_SECONDS
        while True:
            ended = self._process.poll()
            text = log_path.read_bytes()[start:].decode("utf-8", errors="replace")
            if found := _LISTENING.search(text):
                return found[1], int(found[2])
            if ended is not None:
                raise PermanentError(self._explain(text, ended))
            if time.monotonic() > deadline:
                raise PermanentError(
                    f"the embedded document server did not listen within {START_SECONDS:.0f} s; "
                    f"its log {log_path} ends: {text[-500:]!r}"
                )
            time.sleep(0.02)

    def _explain(self, log: str, code: int) -> str:
        if "already being managed by another process" in log or "Device or resource busy" in log:
            other = running_server(self.directory)
            who = f" (pid {other[0]}, {other[1]})" if other else ""
            return (
                f"{self.directory} is in use by another embedded document server{who}: stop that one, "
                "set MONGODB_URI to it, or choose another directory"
            )
        if "Address already in use" in log:
            return f"port {self.port} on 127.0.0.1 is already in use: free it or choose another port"
        return f"the embedded document server ended with code {code}: {log.strip()[-500:]}"

    def stop(self) -> None:
        """Ask the server to end (SIGTERM) and wait for it; does nothing where it does not run."""
        process, self._process, self._uri = self._process, None, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # its write-ahead log makes the next start whole again
                process.wait()
        other = _read_record(self.directory)
        if other is not None and other[0] == process.pid:
            (self.directory / "server.json").unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def running_server(directory: Path | str) -> tuple[int, str] | None:
    """`(pid, uri)` of the server that says it serves `directory`, if that process is alive; else None."""
    record = _read_record(Path(directory))
    if record is None:
        return None
    try:
        os.kill(record[0], 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # alive, another user's
    return record


def _read_record(directory: Path) -> tuple[int, str] | None:
    try:
        record = json.loads((directory / "server.json").read_text(encoding="utf-8"))
        return int(record["pid"]), str(record["uri"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # never started, or a record cut short by a crash: as good as none
