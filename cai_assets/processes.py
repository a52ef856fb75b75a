"""Child processes: telling them apart from later ones with the same id, and ending them for sure.

Ids are reused by the system, so a process is known by its id and the moment it started. Which processes there
are, and why, belongs to those who start them (`stack.py`).

Run as a program (`python -m cai_assets.processes`) this is the watchdog: it reads `pid started` lines until
its standard input closes, which happens when the process that wrote them is gone, however it went, and then
ends each of them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 10.0  # the database writes a checkpoint when asked to stop: 2.6 s were measured with 1.3 GB


def started_at(pid: int) -> str | None:
    """When a process started, as the system writes it; None when there is none (or only its remains).

    Linux says it in field 22 of `/proc/PID/stat` (proc(5)), counted from the machine's start; elsewhere `ps`
    says it.
    """
    if sys.platform.startswith("linux"):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # The second field is the program's name in brackets and may hold spaces and brackets itself.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    answer = subprocess.run(  # noqa: S603  a number is the only argument
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if len(answer) < 2 or answer[0].startswith("Z") else answer[1].strip()


@dataclass(frozen=True)
class Process:
    """One process.

    Attributes:
        name: what it is, for people.
        pid: its id.
        started: what `started_at` said when it was noted; a process with the same id and another value is
            somebody else's.
    """

    name: str
    pid: int
    started: str

    @classmethod
    def of(cls, name: str, pid: int) -> "Process":
        """Note a process that runs now.

        Raises:
            ProcessLookupError: it is gone already.
        """
        started = started_at(pid)
        if started is None:
            raise ProcessLookupError(f"{name} (process {pid}) ended as soon as it was started")
        return cls(name, pid, started)

    @property
    def alive(self) -> bool:
        """Whether it, and not a later process with its id, is running."""
        return started_at(self.pid) == self.started

    @property
    def leads_group(self) -> bool:
        """Whether its children can be reached together with it."""
        try:
            return os.getpgid(self.pid) == self.pid
        except ProcessLookupError:
            return False


def _reap(process: Process) -> None:
    # A child stays in the table until its parent has asked for its end; others' children cannot be asked.
    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(process.pid, os.WNOHANG)


def _signal(process: Process, group: bool, number: int) -> bool:
    """Send a signal to the process or its whole group; whether there was still somebody to get it."""
    try:
        if group:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def end(processes: Iterable[Process], grace_s: float = GRACE_S) -> list[Process]:
    """End processes: SIGTERM in the order given, SIGKILL to those that are still there after `grace_s`.

    A process that leads a group is ended with all of its group.

    Returns:
        Those that had to be killed.
    """
    # Asked once, here: an id that answers now to the noted start cannot pass to another before it was reaped,
    # and a group's id is not given away while the group has a member.
    waiting = [(process, process.leads_group) for process in processes if process.alive]
    for process, group in waiting:
        _signal(process, group, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while waiting and time.monotonic() < deadline:
        time.sleep(0.05)
        for process, _ in waiting:
            _reap(process)
        waiting = [(p, group) for p, group in waiting if p.alive or (group and _signal(p, group, 0))]
    for process, group in waiting:
        _signal(process, group, signal.SIGKILL)
        _reap(process)
    return [process for process, _ in waiting]


class Watchdog:
    """A small process that ends the others when this one is gone, also by a crash or SIGKILL.

    It leads its own session: Ctrl-C in the terminal reaches the command alone, which then stops everything
    in order.
    """

    def __init__(self) -> None:
        self._popen = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The watchdog's own process id."""
        return self._popen.pid

    def watch(self, process: Process) -> None:
        """End this process too, when the time comes."""
        if self._popen.stdin is None:
            raise ValueError("the watchdog is closed")
        self._popen.stdin.write(f"{process.pid} {process.started}\n".encode())
        self._popen.stdin.flush()

    def close(self) -> None:
        """Let it go; it ends what is still there of those it watched."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        self._popen.wait()


def _watch() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched = []
    for line in sys.stdin:
        pid, _, started = line.strip().partition(" ")
        watched.append(Process("watched", int(pid), started))
    end(watched)


if __name__ == "__main__":
    _watch()
