"""One unit of work at Dify until its end: its tries, the runs they started, and what became of each.

The rule held here: a POST is never sent again while a run that it may have started has not ended. Dify has no
idempotency key, every POST is a new run that is paid for, and a run goes on when its caller is gone.

What an attempt, a result and the log are belongs to `dify_runs`; requests, pauses and bytes to `dify_http`.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import requests
import urllib3
from tenacity import retry_if_exception_type

from cai_assets.domain.ledger import UNKNOWN, Usage
from cai_assets.failures import retrying
from cai_assets.resources.dify_errors import (
    ConfigurationError,
    ConnectionLostError,
    DifyError,
    DifyFailure,
    DifyPermanentError,
    DifyTransientError,
    NotFoundError,
    NothingCameOfItError,
    OutcomeUnknownError,
    error_of,
    run_error,
)
from cai_assets.resources.dify_events import ENDED, BrokenStreamError, RunFold, RunState, events, run_state
from cai_assets.resources.dify_http import DifyHttp, EventBytes, LostError
from cai_assets.resources.dify_runs import (
    Attempt,
    CancelledRunError,
    Runs,
    Slot,
    WorkflowResult,
    log_page,
    run_path_id,
)

_LONGEST_POLL_S: Final = 10.0

Found = TypeVar("Found", bound=WorkflowResult | None)


class Asking:
    """One unit of work until its end: its tries, what they cost, and where its runs got to."""

    def __init__(
        self,
        http: DifyHttp,
        runs: Runs,
        user: str,
        *,
        max_retries: int,
        retry_delay: float,
        path: str = "",
        body: Mapping[str, Any] | None = None,
        allow_partial: bool = False,
        numbered: bool = True,
    ) -> None:
        self._http = http
        self._runs = runs
        self._times = http.timeouts
        self._max_retries = max_retries
        self._retry_delay = retry_delay
        self._path = path
        self._body = body or {}
        self._user = user
        self._allow_partial = allow_partial
        self._numbered = numbered
        self._attempts: list[Attempt] = []
        self._lost: list[str] = []
        self._number = 0
        self._refused = 0
        self._age = 0.0
        self._slot = Slot(None)
        self._began = 0.0

    def result(self) -> WorkflowResult:
        """Ask, and ask again after failures that can pass; errors as for `DifyClient.run`."""
        attempts = retrying(self._max_retries, self._retry_delay).copy(
            retry=retry_if_exception_type(DifyTransientError), sleep=self._runs.sleep
        )
        return self._noting_attempts(lambda: attempts(self._attempt))

    def result_of(self, workflow_run_id: str, user: str) -> WorkflowResult:
        """Wait for the end of a run that was asked for before under that user."""
        return self._noting_attempts(lambda: self._await(workflow_run_id, user))

    def adopt(self, asked_at: datetime, workflow_run_id: str | None) -> WorkflowResult | None:
        """The result of a question that was asked before, see `DifyClient.adopt`."""
        self._lost.append(self._user)  # until it is known what came of it
        return self._noting_attempts(lambda: self._adopt(asked_at, workflow_run_id))

    def _noting_attempts(self, ask: Callable[[], Found]) -> Found:
        try:
            return ask()
        except DifyError as error:
            error.attempts = tuple(self._attempts)
            error.pending = bool(self._lost) or isinstance(error, OutcomeUnknownError | CancelledRunError)
            raise

    def _adopt(self, asked_at: datetime, workflow_run_id: str | None) -> WorkflowResult | None:
        self._age = age = max(0.0, (datetime.now(UTC) - asked_at).total_seconds())
        runs = (
            [(workflow_run_id, self._user)]
            if workflow_run_id is not None
            else self._runs_of_tries(time.monotonic() + self._times.grace - age)
        )
        failure: DifyFailure | None = None
        for run_id, user in runs:
            try:
                return self._await(run_id, user, time.monotonic() + self._times.total - age)
            except (CancelledRunError, ConfigurationError):
                raise
            except OutcomeUnknownError as error:
                if age < self._times.total or not error.seen:
                    raise
                failure = error
            except (DifyPermanentError, DifyTransientError) as error:
                failure = error
        self._lost.clear()
        if failure is not None:
            # What it used is told by its attempts; that it failed is no failure of the new question.
            raise NothingCameOfItError(str(failure)) from failure
        return None

    def _runs_of_tries(self, give_up: float) -> list[tuple[str, str]]:
        """Run and user of each try of a question, the last first; waits for one until `give_up`."""
        find = retrying(self._max_retries, self._retry_delay).copy(sleep=self._runs.sleep)
        users = [f"{self._user}:{number}" for number in range(self._max_retries + 1, 0, -1)]
        while True:
            self._check_cancelled()
            found = [(run_id, user) for user in users if (run_id := find(self._find_run, user)) is not None]
            if found or time.monotonic() >= give_up:
                return found
            self._runs.cancelled.wait(min(self._times.poll, max(0.0, give_up - time.monotonic())))

    def _await(self, run_id: str, user: str, deadline: float | None = None) -> WorkflowResult:
        fold = RunFold(workflow_run_id=run_id)
        deadline = self._deadline() if deadline is None else deadline
        return self._settled(user, fold, lambda: self._await_end(fold, user, deadline), requests_sent=0)

    def _attempt(self) -> WorkflowResult:
        self._check_cancelled()
        for user in self._lost:
            # A run that was queued when its connection broke may have come to light since.
            if (run_id := self._find_run(user)) is not None:
                self._lost.remove(user)
                return self._await(run_id, user)
        self._number += 1
        user = f"{self._user}:{self._number}" if self._numbered else self._user
        fold = RunFold()
        return self._settled(user, fold, lambda: self._ask(fold, user), requests_sent=1)

    def _settled(
        self, user: str, fold: RunFold, ask: Callable[[], RunState], requests_sent: int
    ) -> WorkflowResult:
        """Bring one run to its end and write down what it was."""
        self._began, created_at = time.monotonic(), datetime.now(UTC)

        def note(run_id: str | None, usage: Usage, error: str | None) -> None:
            latency = round((time.monotonic() - self._began) * 1000)
            sent = requests_sent + self._refused
            self._refused = 0
            self._attempts.append(Attempt(user, run_id, usage, latency, sent, error, created_at))

        try:
            state = self._unless_stopped_by_limit(ask())
            if state.status != "succeeded" and not (
                self._allow_partial and state.status == "partial-succeeded"
            ):
                raise self._failure(state)
        except DifyError as error:
            run_id = error.workflow_run_id or fold.workflow_run_id
            last = self._number > self._max_retries
            if run_id is None and isinstance(error, DifyTransientError) and not last:
                # Nothing was started: no row of its own, but the requests count with the next.
                self._refused += requests_sent
            else:
                note(run_id, error.usage, str(error))
            if isinstance(error, CancelledRunError) and fold.task_id is not None and fold.end is None:
                # It may have started after all others were stopped.
                with suppress(DifyPermanentError, DifyTransientError):
                    self._http.call("POST", f"/workflows/tasks/{fold.task_id}/stop", json={"user": user})
            raise
        finally:
            self._runs.ended(user)
        note(state.workflow_run_id, state.usage, None)
        return WorkflowResult(
            str(state.workflow_run_id), state.status, state.outputs, state.usage, tuple(self._attempts)
        )

    def _failure(self, state: RunState) -> DifyFailure:
        self._check_cancelled(state.workflow_run_id, state.usage)
        if state.status == "error":
            # The event carries Dify's own codes where it has one; without, the worker could not start the
            # run.
            said = {"code": state.code or "unknown", "message": state.error or ""}
            status = 400 if state.code in ("invalid_param", "bad_request") else 500
            error = error_of(status, json.dumps(said).encode(), "the event stream", *self._http.secrets)
            error.workflow_run_id, error.usage = state.workflow_run_id, state.usage
            return error
        return run_error(state.status, state.error, state.workflow_run_id, state.usage, *self._http.secrets)

    def _check_cancelled(self, run_id: str | None = None, usage: Usage = UNKNOWN) -> None:
        if self._runs.cancelled.is_set():
            error = CancelledRunError("Dify: cancelled")
            error.workflow_run_id, error.usage = run_id, usage
            raise error

    def _deadline(self) -> float:
        return time.monotonic() + self._times.total

    # -- asking

    def _ask(self, fold: RunFold, user: str) -> RunState:
        deadline = self._deadline()
        streaming = self._body["response_mode"] == "streaming"
        what = f"POST {self._path}"
        self._slot = self._runs.slot()
        self._began = time.monotonic()
        try:
            self._check_cancelled()
            response = self._http.send(
                "POST",
                self._path,
                json={**self._body, "user": user},
                stream=streaming,
                read_timeout=self._times.queue if streaming else self._times.total,
            )
            with closing(response):
                self._http.check_served(response, what)
                if streaming and _is_stream(response):
                    return self._listen(response, fold, user, deadline)
                return _blocking_state(self._http.json(response, what), what)
        except LostError as lost:
            return self._recover(fold, user, deadline, lost.failure)
        finally:
            self._slot.give_back()

    def _listen(self, response: requests.Response, fold: RunFold, user: str, deadline: float) -> RunState:
        """Follow a stream to its terminal event; raises `LostError` where it ends without one."""
        source = EventBytes(response, deadline, self._runs.cancelled)
        try:
            for event in events(source):
                fold.add(event)
                if fold.task_id is not None and self._runs.started(user, fold.task_id):
                    source.allow_silence(self._times.idle)
                if fold.end is not None:
                    self._slot.give_back()
                    source.drain()
                    return fold.end
        except (BrokenStreamError, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._http.lost("an event stream", error) from None
        raise self._http.lost("an event stream", EOFError())

    # -- finding out

    def _recover(self, fold: RunFold, user: str, deadline: float, failure: DifyFailure) -> RunState:
        """How the run ended whose connection broke; raises `failure` where no run came about."""
        give_up = time.monotonic() + self._times.grace
        wait = self._times.poll
        self._lost.append(user)
        while fold.workflow_run_id is None:
            self._check_cancelled()
            try:
                fold.workflow_run_id = self._find_run(user)
                looked = True
            except DifyTransientError:
                looked = False
            if fold.workflow_run_id is None:
                if looked and time.monotonic() >= give_up:
                    raise failure
                if time.monotonic() >= deadline:
                    # The log could not be read: a run that was perhaps started must not be started again.
                    raise OutcomeUnknownError(f"{failure}; nor could it be looked for in Dify's log")
                self._runs.cancelled.wait(min(wait, max(self._times.poll, give_up - time.monotonic())))
                wait = min(wait * 1.5, _LONGEST_POLL_S)
        self._lost.remove(user)
        return self._await_end(fold, user, max(deadline, give_up))

    def _find_run(self, user: str) -> str | None:
        """The run of a user in Dify's log, or None; raises `DifyTransientError` where it cannot be read."""
        entries, _ = log_page(self._http, user=user)
        # Where the tries share their user, the runs of earlier ones are there too.
        known = {attempt.workflow_run_id for attempt in self._attempts}
        return next((entry.workflow_run_id for entry in entries if entry.workflow_run_id not in known), None)

    def _await_end(self, fold: RunFold, user: str, deadline: float) -> RunState:
        """Look at a run, and listen to it again while it is running, until it ended."""
        run_id = str(fold.workflow_run_id)
        wait = self._times.poll
        missing_until = time.monotonic() + self._times.grace
        while True:
            self._check_cancelled(run_id, fold.node_usage)
            state = self._look(run_id, missing_ok=time.monotonic() < missing_until)
            if state is not None and state.status in ENDED:
                return _with_usage(state, fold.node_usage)
            late = time.monotonic() + wait > deadline
            if (
                state is not None
                and not late
                and (end := self._attach(fold, run_id, user, deadline)) is not None
            ):
                return end
            if late:
                error = OutcomeUnknownError(
                    f"Dify: workflow run {run_id} did not end within {self._times.total:.0f} s; "
                    "it may still succeed"
                )
                error.seen = state is not None
                error.workflow_run_id, error.usage = run_id, fold.node_usage
                raise error
            self._runs.cancelled.wait(wait)
            wait = min(wait * 1.5, _LONGEST_POLL_S)

    def _look(self, run_id: str, *, missing_ok: bool) -> RunState | None:
        try:
            return run_state(self._http.call("GET", f"/workflows/run/{run_path_id(run_id)}"))
        except DifyTransientError:
            return None
        except NotFoundError:
            # The row is written when the run starts, but not before the event that told its id.
            if missing_ok:
                return None
            raise

    def _attach(self, fold: RunFold, run_id: str, user: str, deadline: float) -> RunState | None:
        """GET /workflow/{id}/events: listen from now on; None where that does not lead to the end."""
        try:
            response = self._http.send(
                "GET",
                f"/workflow/{run_path_id(run_id)}/events",
                params={"user": user},
                stream=True,
                read_timeout=self._times.idle,
            )
            with closing(response):
                if response.status_code != 200 or not _is_stream(response):
                    return None
                return self._listen(response, fold, user, deadline)
        except (LostError, ConnectionLostError):
            return None

    def _unless_stopped_by_limit(self, state: RunState) -> RunState:
        """A run that says `stopped` and was not stopped by us may be going on; wait and see."""
        if state.status != "stopped" or state.workflow_run_id is None or self._runs.cancelled.is_set():
            return state
        give_up = time.monotonic() + self._times.stopped - self._age
        while True:
            try:
                seen = self._look(state.workflow_run_id, missing_ok=False)
            except NotFoundError:
                return state
            if seen is not None and seen.status in ENDED and seen.status != "stopped":
                return _with_usage(seen, state.usage)
            if time.monotonic() >= give_up or self._runs.cancelled.wait(self._times.poll):
                return state


def _is_stream(response: requests.Response) -> bool:
    return response.status_code == 200 and response.headers.get("Content-Type", "").startswith(
        "text/event-stream"
    )


def _blocking_state(body: Mapping[str, Any], what: str) -> RunState:
    data = body.get("data")
    if not isinstance(data, Mapping):
        raise LostError(ConnectionLostError(f"Dify: {what} gave a body without data"))
    return run_state(data, body.get("workflow_run_id"), body.get("task_id"))


def _with_usage(state: RunState, known: Usage) -> RunState:
    return RunState(
        state.workflow_run_id,
        state.task_id,
        state.status,
        state.outputs,
        state.error,
        state.usage.or_else(known),
        state.elapsed_s,
    )
