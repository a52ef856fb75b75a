"""A sandbox as a process of its own: started on a free loopback port, stopped by its own pid.

Used by the command line and by the tests. The servers themselves are in server.py; nothing here imports them.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

import requests

from cai_assets.domain.days import day_of
from cai_assets.domain.timestamps import TimestampError, parse_timestamp
from cai_assets.failures import PermanentError
from cai_assets.sandbox.config import NOCODB_TOKEN, TABLE_IDS, Dialect, environment


class SandboxProcess:
    """A running sandbox.

    Attributes:
        base_url: `http://127.0.0.1:PORT`, without a path.
        pid: its process id.
    """

    def __init__(
        self,
        base_url: str,
        pid: int,
        process: subprocess.Popen[bytes] | None = None,
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.base_url = base_url
        self.pid = pid
        self._process = process
        self._folder = folder

    @classmethod
    def start(
        cls,
        data: str | Path = "sample",
        *,
        port: int = 0,
        sample_options: Mapping[str, Any] | None = None,
        dialect: Dialect = "postgres",
        latency: float = 0.0,
        concurrency_limit: int = 0,
        workers: int = 0,
        hang_seconds: float = 300.0,
        ping_seconds: float = 10.0,
        faults: Mapping[str, Any] | None = None,
        ready_file: Path | None = None,
        log_file: Path | None = None,
        stop_with_parent: bool = True,
        watched: Callable[[int], object] = lambda _: None,
        timeout: float = 180.0,
    ) -> Self:
        """Start a sandbox and wait until it answers.

        Args:
            data: folder with conversations.parquet and messages.parquet, or `sample`.
            port: on 127.0.0.1; 0 takes a free one.
            sample_options: arguments of `sample.generate`, for `data="sample"`; for example `{"days": 7}`.
            dialect: see `SandboxConfig`, as for the next five.
            latency: seconds.
            concurrency_limit: runs.
            workers: streams.
            hang_seconds: seconds.
            ping_seconds: seconds.
            faults: see `faults.Faults`.
            ready_file: where the sandbox writes pid, address and environment once it answers, for `attach`.
            log_file: where its output goes; by default a temporary file, shown if it does not start.
            stop_with_parent: it ends by itself when this process has gone; False lets it outlive us.
            watched: called with its process id at once, so that it is ended should we be killed now.
            timeout: seconds until it must answer.

        Raises:
            PermanentError: it ended or did not answer in time; the message holds the end of its output.
        """
        folder = tempfile.TemporaryDirectory(prefix="cai-sandbox-")
        ready = ready_file or Path(folder.name, "ready.json")
        ready.unlink(missing_ok=True)
        log = log_file or Path(folder.name, "sandbox.log")
        command = [sys.executable, "-m", "cai_assets.sandbox", "--port", str(port), "--data", str(data)]
        command += ["--ready-file", str(ready), "--dialect", dialect, "--latency", str(latency)]
        command += ["--concurrency-limit", str(concurrency_limit), "--workers", str(workers)]
        command += ["--hang-seconds", str(hang_seconds), "--ping-seconds", str(ping_seconds)]
        command += ["--sample-options", json.dumps(dict(sample_options or {}))]
        command += ["--faults", json.dumps(dict(faults or {}))]
        if stop_with_parent:
            command.append("--stop-with-parent")
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  our own module, arguments passed as a list
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=not stop_with_parent,
            )
        watched(process.pid)
        deadline = time.monotonic() + timeout
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                why = f"ended with code {process.poll()}" if process.poll() is not None else "did not answer"
                process.kill()
                process.wait()
                tail = log.read_text(errors="replace")[-2000:].strip()
                folder.cleanup()
                raise PermanentError(
                    f"The sandbox {why} within {timeout:.0f} s. Its output: {tail or 'none'}"
                )
            time.sleep(0.02)
        return cls(json.loads(ready.read_text())["base_url"], process.pid, process, folder)

    @classmethod
    def attach(cls, ready_file: Path) -> Self | None:
        """The sandbox that wrote `ready_file`, or None when it does not run any more."""
        if not ready_file.exists():
            return None
        found = json.loads(ready_file.read_text())
        sandbox = cls(found["base_url"], found["pid"])
        try:
            answers = sandbox.info()["pid"] == sandbox.pid
        except requests.RequestException:
            return None
        return sandbox if answers else None

    def environment(self) -> dict[str, str]:
        """The settings (environment variables) that point the platform at this sandbox."""
        return environment(self.base_url)

    def info(self) -> dict[str, Any]:
        """What was seeded, the ids and keys, and how often each endpoint was asked."""
        return self._control("GET", "info")

    def days(self, zone: ZoneInfo) -> tuple[str, str] | None:
        """First and last local day on which its conversations start; None where none does."""
        found = set()
        for order in ("started_at", "-started_at"):
            response = requests.get(
                f"{self.base_url}/api/v2/tables/{TABLE_IDS['conversations']}/records",
                params={"sort": order, "fields": "started_at", "limit": "100"},
                headers={"xc-token": NOCODB_TOKEN},
                timeout=30,
            )
            response.raise_for_status()
            for row in response.json()["list"]:
                with contextlib.suppress(TimestampError):  # such a conversation belongs to no day
                    instant = parse_timestamp(row["started_at"])
                    found |= {day_of(instant, zone)} if instant else set()
        return (min(found), max(found)) if found else None

    def faults(self, *rules: Mapping[str, Any], seed: int = 0, **settings: Any) -> dict[str, Any]:
        """Replace the faults in force; without rules: none. See `faults.Faults` for their form."""
        return self._control(
            "PUT", "faults", {"seed": seed, "rules": [dict(rule) for rule in rules], **settings}
        )

    def restart_dify(self, down_seconds: float = 0.0) -> int:
        """Restart its Dify: connections break, runs under way never end; how many these were."""
        answer = self._control("POST", "restart", {"down_seconds": down_seconds})
        return int(answer["lost"])

    def _control(self, method: str, name: str, body: Any = None) -> dict[str, Any]:
        response = requests.request(method, f"{self.base_url}/sandbox/{name}", json=body, timeout=30)
        if response.status_code != 200:
            raise PermanentError(f"The sandbox refused {method} /sandbox/{name}: {response.text}")
        answer: dict[str, Any] = response.json()
        return answer

    def stop(self, timeout: float = 10.0) -> None:
        """End it by its own pid, gently first, and wait until it has gone. Ending it twice is no error."""
        if self._process is None:
            self._stop_attached(timeout)
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._folder is not None:
            self._folder.cleanup()

    def _stop_attached(self, timeout: float) -> None:
        try:
            # The pid may belong to another process by now: only what still answers as this sandbox is ended.
            if self.info()["pid"] != self.pid:
                return
        except requests.RequestException:
            return
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if _ended(self.pid):
                return
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for its parent to take note of its end."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"
