"""Dagster's launcher of processes, which also tells whether a run's process is still there.

Dagster's own cannot: where a code server dies together with its runs (a container that is replaced, a machine
that stops), these stay "started" for ever, their days are never asked for again, and marts wait for them.
`dagster.yaml` names this class; with it run monitoring ends such a run, and run retries start it again.
"""

import os
import socket
from collections.abc import Sequence

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from cai_assets.processes import Process, started_at

PROCESS = "cai/process"
"""Tag of a run: its id, and host, id and start of the process that carries it out. The run's id, since a run
that is started again has the tags of the one before."""

MISSES = 2
"""Looks in a row at which nobody knew the run: a server that is busy or restarts is asked once more."""

TIMEOUT_SECONDS = 20


def process_tag(run_id: str) -> dict[str, str]:
    """Tag of a run that this process carries out."""
    own = Process.of("run", os.getpid())
    return {PROCESS: f"{run_id} {socket.gethostname()} {own.pid} {own.started}"}


def note_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note on a run that this process carries it out."""
    instance.add_run_tags(run_id, process_tag(run_id))


def why_gone(run: dg.DagsterRun) -> str | None:
    """Why the process of a run is known to be gone; "" where it is there, None where nothing is known."""
    run_id, host, pid, started = (run.tags.get(PROCESS, "").split(" ", 3) + [""] * 4)[:4]
    if run_id != run.run_id or host != socket.gethostname():
        return None
    return "" if started_at(int(pid)) == started else f"process {pid} of {host} is gone"


def end_lost_runs(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> list[dg.DagsterRun]:
    """Note that runs whose process is gone have failed, as nobody else does where no daemon runs.

    Returns:
        The others.
    """
    left = []
    for run in runs:
        if why := why_gone(run):
            instance.report_run_failed(run, f"{why}: it was killed")
        else:
            left.append(run)
    return left


class WatchedRunLauncher(DefaultRunLauncher):
    """Starts runs as processes of the code server, and finds those that are gone."""

    def __init__(self, inst_data: object = None) -> None:
        """As Dagster makes it from its settings."""
        super().__init__(inst_data)  # type: ignore[arg-type]
        self._missed: dict[str, int] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes, unlike the class above it."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a run that is under way is there.

        By its id where it runs on this machine; else by what its code server knows. A run of which nothing
        can be known counts as running.
        """
        gone = why_gone(run)
        if gone is not None:
            return CheckRunHealthResult(WorkerStatus.FAILED if gone else WorkerStatus.RUNNING, gone or None)
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None or _knows(client, run.run_id):
            self._missed.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._missed[run.run_id] = self._missed.get(run.run_id, 0) + 1
        if self._missed[run.run_id] < MISSES:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server does not know it; asked again")
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server is gone, or was started anew")


def _knows(client: DagsterGrpcClient, run_id: str) -> bool:
    """Whether a code server answers, and has this run.

    One behind a socket stands for several, an old one and its successor, and answers for the last of them;
    that it answers is all that it can say.
    """
    try:
        answer = deserialize_value(
            client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=TIMEOUT_SECONDS),
            CanCancelExecutionResult,
        )
    except DagsterUserCodeUnreachableError:
        return False
    return answer.can_cancel or client.socket is not None
