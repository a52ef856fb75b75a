"""What is known of runs at Dify: what was asked, what came of it, Dify's log, and which are under way now.

How a run is asked for and followed to its end belongs to `dify_asking`, how its events read to `dify_events`.
"""

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cai_assets.domain.ledger import Usage
from cai_assets.resources.dify_errors import DifyError, DifyPermanentError, NotFoundError
from cai_assets.resources.dify_http import DifyHttp


class CancelledRunError(DifyPermanentError):
    """The client was cancelled while, or before, the run was under way."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run that was asked for, or was perhaps started; what the ledger has a row for.

    Attributes:
        user: the unique user under which it was asked; finds it in Dify's log.
        workflow_run_id: None where no run is known to have come about.
        usage: what it used.
        latency_ms: from the question to its end.
        requests: POSTs sent for it, refused ones before it included.
        error: why it gave no result; None for the one that did.
        created_at: when it was asked, UTC.
    """

    user: str
    workflow_run_id: str | None
    usage: Usage
    latency_ms: int
    requests: int
    error: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class WorkflowResult:
    """A run that succeeded.

    Attributes:
        workflow_run_id: Dify's id of it.
        status: `succeeded`, or `partial-succeeded` where the caller allowed it.
        outputs: values of the End node.
        usage: of this run.
        attempts: all runs that it took, this one last.
    """

    workflow_run_id: str
    status: str
    outputs: Mapping[str, Any]
    usage: Usage
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A run in Dify's log: its id, status, tokens (None for 0), error, and the user who asked."""

    workflow_run_id: str
    status: str
    tokens: int | None
    error: str | None
    user: str | None


def attempts_of(error: BaseException) -> tuple[Attempt, ...]:
    """The runs that were asked for before `run` gave up with this error."""
    return error.attempts if isinstance(error, DifyError) else ()


class Slot:
    """A place among the runs that may be under way at once; given back once, as soon as its run has ended."""

    def __init__(self, places: threading.Semaphore | None) -> None:
        self._places = places

    def give_back(self) -> None:
        """Let the next run begin."""
        places, self._places = self._places, None
        if places is not None:
            places.release()


class Runs:
    """The runs of a client that are under way, so that they can be stopped. Threads share it.

    Args:
        most_at_once: questions under way together, or None for no limit. A further thread may have its
            question ready by then, so that the server waits for nobody.

    Attributes:
        cancelled: set once no run shall be waited for any more.
    """

    def __init__(self, most_at_once: int | None = None) -> None:
        self.cancelled = threading.Event()
        self._places = None if most_at_once is None else threading.Semaphore(most_at_once)
        self._lock = threading.Lock()
        self._tasks: dict[str, str] = {}

    def started(self, user: str, task_id: str) -> bool:
        """Take note of a run; False where it was known."""
        with self._lock:
            new = user not in self._tasks
            self._tasks[user] = task_id
            return new

    def ended(self, user: str) -> None:
        """Forget a run."""
        with self._lock:
            self._tasks.pop(user, None)

    def under_way(self) -> dict[str, str]:
        """User and task id of each."""
        with self._lock:
            return dict(self._tasks)

    def slot(self) -> Slot:
        """Wait for a place; one that was waited for while all is cancelled is none."""
        while self._places is not None and not self._places.acquire(timeout=1.0):
            if self.cancelled.is_set():
                return Slot(None)
        return Slot(self._places)

    def sleep(self, seconds: float) -> None:
        """Wait, or until all is cancelled."""
        self.cancelled.wait(seconds)


def log_page(
    http: DifyHttp,
    *,
    user: str | None = None,
    keyword: str | None = None,
    status: Literal["succeeded", "failed", "stopped"] | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    page: int = 1,
    limit: int = 20,
) -> tuple[list[LogEntry], int]:
    """One page of GET /workflows/logs; see `DifyClient.logs`."""
    query = {
        "created_by_end_user_session_id": user,
        "keyword": keyword,
        "status": status,
        "created_at__after": None if created_after is None else created_after.isoformat(),
        "created_at__before": None if created_before is None else created_before.isoformat(),
        "page": page,
        "limit": limit,
    }
    body = http.call("GET", "/workflows/logs", params=query)
    return [_log_entry(entry) for entry in body.get("data", ())], int(body.get("total", 0))


def _log_entry(entry: Mapping[str, Any]) -> LogEntry:
    run = entry["workflow_run"]
    return LogEntry(
        workflow_run_id=str(run["id"]),
        status=str(run["status"]),
        tokens=run.get("total_tokens") or None,
        error=run.get("error"),
        user=(entry.get("created_by_end_user") or {}).get("session_id"),
    )


def run_path_id(run_id: str) -> str:
    """The id if it is one; Dify answers others with 500, which would look like a fault of the server.

    Raises:
        NotFoundError: it is none.
    """
    try:
        return str(uuid.UUID(run_id))
    except ValueError:
        raise NotFoundError(f"Dify: {run_id!r} is no id of a workflow run") from None
