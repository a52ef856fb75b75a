"""Asking Dify many things at once: threads, a bounded window, one question at a time for each text.

What is asked and what becomes of the answers belongs to `enrichment_translations` and
`enrichment_categories`.
"""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal

from cai_assets.domain.ledger import UNKNOWN, Budget
from cai_assets.failures import CaiError, PermanentError, TransientError
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.dify_errors import ConfigurationError, DifyError, OutcomeUnknownError
from cai_assets.resources.dify_http import Timeouts
from cai_assets.resources.dify_runs import Attempt
from cai_assets.settings import Settings

# Units that wait beside those under way, so that a fast server is kept busy while answers are written.
_WINDOW_PER_WORKER: Final = 8
# Failures in a row that could pass, with none that succeeded between, after which Dify counts as down; each
# has been retried for about a minute by then.
_LEAST_IN_A_ROW: Final = 3


@dataclass(frozen=True, slots=True)
class Known:
    """What became known of a unit just before it was asked.

    Attributes:
        value: its answer, which came from elsewhere meanwhile; None where there is none.
        unresolved: a run of it whose end was not seen, as (workflow run id, user).
    """

    value: Any = None
    unresolved: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing to ask.

    Attributes:
        key: identity; of equal keys only one is asked at a time, in the whole process.
        inputs: of the workflow.
        user: unique for this unit and run.
        characters: length of what is asked about, for the budget.
        payload: the asker's own.
    """

    key: str
    inputs: Mapping[str, Any]
    user: str
    characters: int
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit.

    Attributes:
        kind: `answered` (see outputs), `known` (see value), `failed`, `refused` (the budget), `aborted`.
        outputs: of the workflow.
        value: what `Known` gave.
        attempts: the runs it took.
        reason: why there is no answer.
        unresolved: a run whose end was not seen.
    """

    kind: Literal["answered", "known", "failed", "refused", "aborted"]
    outputs: Mapping[str, Any] | None = None
    value: Any = None
    attempts: Sequence[Attempt] = ()
    reason: str | None = None
    unresolved: tuple[str, str] | None = None


class _Claims:
    """Keys that are being asked somewhere in this process, until their answer is written."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._held: set[str] = set()

    def take(self, key: str, given_up: threading.Event) -> bool:
        """Wait until nobody holds the key, and hold it; False where waiting was given up."""
        with self._change:
            while key in self._held:
                if given_up.is_set():
                    return False
                self._change.wait(0.5)
            self._held.add(key)
            return True

    def release(self, keys: Sequence[str]) -> None:
        with self._change:
            self._held.difference_update(keys)
            self._change.notify_all()


_CLAIMS: Final = _Claims()


class AskingPool:
    """Threads that ask. One thread submits and takes outcomes; claims are released by `written`.

    Args:
        client: who is asked.
        workers: questions under way at once.
        budget: what may still be spent.
        look_up: tells what is known of a unit, in the asking thread, once nobody else is asking for it.
        scope: keeps keys of different databases and purposes apart.
    """

    def __init__(
        self,
        client: DifyClient,
        workers: int,
        budget: Budget,
        look_up: Callable[[Unit], Known],
        scope: str,
    ) -> None:
        self._client = client
        self._budget = budget
        self._look_up = look_up
        self._scope = scope
        self._outcomes: queue.SimpleQueue[tuple[Unit, Outcome]] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="dify")
        self._window = workers * (1 + _WINDOW_PER_WORKER)
        self._most_in_a_row = max(_LEAST_IN_A_ROW, workers)
        self._given_up = threading.Event()
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._held: set[str] = set()
        self.under_way = 0
        self.broken: CaiError | None = None

    @property
    def full(self) -> bool:
        """Whether outcomes must be taken before more is submitted."""
        return self.under_way >= self._window

    def submit(self, unit: Unit) -> None:
        """Ask for a unit as soon as a thread is free."""
        self.under_way += 1
        self._threads.submit(self._work, unit)

    def take(self, timeout: float) -> list[tuple[Unit, Outcome]]:
        """Outcomes that have come, waiting at most `timeout` seconds for the first."""
        taken: list[tuple[Unit, Outcome]] = []
        try:
            taken.append(self._outcomes.get(timeout=timeout))
            while True:
                taken.append(self._outcomes.get_nowait())
        except queue.Empty:
            pass
        self.under_way -= len(taken)
        return taken

    def written(self, keys: Sequence[str]) -> None:
        """The outcomes of these units are in the database (or there is nothing to write): others may ask."""
        with self._lock:
            held = [self._scope + key for key in keys if self._scope + key in self._held]
            self._held.difference_update(held)
        _CLAIMS.release(held)

    def cancel(self) -> None:
        """Stop the runs under way and ask nothing more; outcomes still come."""
        self._given_up.set()
        self._client.cancel()

    def close(self) -> None:
        """Wait for the threads and give back every claim."""
        self._given_up.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            held, self._held = list(self._held), set()
        _CLAIMS.release(held)

    def _work(self, unit: Unit) -> None:
        try:
            outcome = self._outcome(unit)
        except BaseException as error:  # noqa: BLE001  a thread's failure must reach the thread that waits for it
            self._break(
                error if isinstance(error, CaiError) else PermanentError(f"asking Dify broke: {error!r}")
            )
            outcome = Outcome("aborted")
        self._outcomes.put((unit, outcome))

    def _outcome(self, unit: Unit) -> Outcome:
        if self._given_up.is_set() or not _CLAIMS.take(self._scope + unit.key, self._given_up):
            return Outcome("aborted")
        with self._lock:
            self._held.add(self._scope + unit.key)
        known = self._look_up(unit)
        if known.value is not None:
            return Outcome("known", value=known.value)
        if known.unresolved is not None and (found := self._resolved(*known.unresolved)) is not None:
            return found
        reservation = self._budget.reserve(unit.characters)
        if reservation is None:
            return Outcome("refused", reason=self._budget.reason)
        attempts: Sequence[Attempt] = ()
        try:
            outcome = self._ask(lambda: self._client.run(unit.inputs, unit.user))
            attempts = outcome.attempts
            return outcome
        finally:
            used = sum((attempt.usage for attempt in attempts), UNKNOWN)
            self._budget.settle(reservation, unit.characters, used, asked=_may_have_run(attempts))

    def _resolved(self, workflow_run_id: str, user: str) -> Outcome | None:
        """The answer of a run that was lost sight of; None where it gave none, so that it is asked anew."""
        outcome = self._ask(lambda: self._client.result_of(workflow_run_id, user))
        return outcome if outcome.kind != "failed" or outcome.unresolved is not None else None

    def _ask(self, ask: Callable[[], Any]) -> Outcome:
        try:
            result = ask()
        except ConfigurationError as error:
            self._break(error)
            return Outcome("aborted", attempts=error.attempts)
        except OutcomeUnknownError as error:
            self._note_failure(error)
            last = error.attempts[-1] if error.attempts else None
            unresolved = (error.workflow_run_id, last.user) if error.workflow_run_id and last else None
            return Outcome("failed", attempts=error.attempts, reason=_lasting(error), unresolved=unresolved)
        except DifyError as error:
            self._note_failure(error)
            if self._given_up.is_set():
                return Outcome("aborted", attempts=error.attempts)
            return Outcome("failed", attempts=error.attempts, reason=_lasting(error))
        with self._lock:
            self._in_a_row = 0
        return Outcome("answered", outputs=result.outputs, attempts=result.attempts)

    def _note_failure(self, error: DifyError) -> None:
        if not isinstance(error, TransientError):
            return
        with self._lock:
            self._in_a_row += 1
            down = self._in_a_row >= self._most_in_a_row
        if down:
            self._break(
                TransientError(f"Dify failed {self._in_a_row} times in a row; the last time: {error}")
            )

    def _break(self, error: CaiError) -> None:
        with self._lock:
            self.broken = self.broken or error
        self._given_up.set()


def _lasting(error: DifyError) -> str:
    """The reason without the run's id (the ledger has it): failing again in the same way changes nothing."""
    return str(error).replace(f" {error.workflow_run_id}", "")


def _may_have_run(attempts: Sequence[Attempt]) -> bool:
    return any(attempt.workflow_run_id is not None for attempt in attempts)


def open_client(settings: Settings, purpose: Literal["translation", "category"]) -> DifyClient | None:
    """The client of a workflow, or None where its key is not set.

    Raises:
        PermanentError: there is a key and no DIFY_BASE_URL.
    """
    key = settings.dify_translation_api_key if purpose == "translation" else settings.dify_category_api_key
    if key is None:
        return None
    if settings.dify_base_url is None:
        raise PermanentError(
            f"DIFY_{purpose.upper()}_API_KEY is set but DIFY_BASE_URL is not: write http(s)://.../v1"
        )
    return DifyClient(
        settings.dify_base_url,
        key,
        response_mode=settings.dify_response_mode,
        timeouts=Timeouts(),
        max_retries=settings.max_retries,
        retry_delay=settings.retry_delay,
    )


def check_contract(client: DifyClient, purpose: str, names: Sequence[str]) -> None:
    """Make sure that a workflow declares the inputs it will be given.

    Raises:
        ConfigurationError: naming those that it lacks, and those that it asks for and will not get.
    """
    form = {field.variable: field for field in client.form()}
    missing = [name for name in names if name not in form]
    asked = [name for name, field in form.items() if field.required and name not in names]
    if missing or asked:
        parts = [f"does not declare {', '.join(missing)}"] if missing else []
        parts += [f"requires {', '.join(asked)}, which it will not get"] if asked else []
        raise ConfigurationError(
            f"Dify: the {purpose} workflow {' and '.join(parts)}; its Start node must have {', '.join(names)}"
        )
