"""Asking Dify many things at once: threads that ask, adopt what was asked before, and keep the budget.

Who may ask for what is `enrichment_claims`' affair, what is asked and what becomes of the answers that of
`enrichment_translations` and `enrichment_categories`.
"""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from cai_assets.domain.budget import Budget
from cai_assets.domain.ledger import UNKNOWN
from cai_assets.failures import CaiError, PermanentError, TransientError
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.dify_errors import (
    ConfigurationError,
    DifyError,
    DifyPermanentError,
    NothingCameOfItError,
    OutcomeUnknownError,
)
from cai_assets.resources.dify_http import Timeouts
from cai_assets.resources.dify_runs import Attempt, WorkflowResult
from cai_assets.resources.enrichment_claims import Question
from cai_assets.settings import Settings

# Failures in a row that could pass, with none that succeeded between, after which Dify counts as down; each
# has been retried for about a minute by then.
_LEAST_IN_A_ROW: Final = 3


@dataclass(frozen=True, slots=True)
class Unit:
    """One question, about one thing or several.

    Attributes:
        keys: identity of each thing, in the order in which they are asked about.
        inputs: of the workflow.
        user: unique for this unit and run.
        characters: length of what is asked about, for the budget.
        lost: questions about the same, and one thing alone, whose end nobody saw; newest last.
        payload: the asker's own.
    """

    keys: tuple[str, ...]
    inputs: Mapping[str, Any]
    user: str
    characters: int
    lost: tuple[Question, ...] = ()
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit.

    Attributes:
        kind: `answered` (see outputs), `failed`, `refused` (the budget), `aborted`.
        outputs: of the workflow.
        adopted: the lost question that these outputs answer, or that may still be answered, where it was one.
        attempts: the runs it took, of this question.
        earlier: the runs of lost questions that were found, each with its question.
        reason: why there is no answer.
        lasting: whether asking the same again gives the same.
        unresolved: run and user of a question whose end was not seen.
        pending: whether a run of it may still be under way, or come to light.
        begun: False where it was aborted before anything was asked.
    """

    kind: Literal["answered", "failed", "refused", "aborted"]
    outputs: Mapping[str, Any] | None = None
    adopted: Question | None = None
    attempts: Sequence[Attempt] = ()
    earlier: Sequence[tuple[Question, Attempt]] = ()
    reason: str | None = None
    lasting: bool = False
    unresolved: tuple[str, str] | None = None
    pending: bool = False
    begun: bool = True


@dataclass(slots=True)
class _Found:
    """What came of lost questions."""

    earlier: list[tuple[Question, Attempt]] = field(default_factory=list)
    outcome: Outcome | None = None


class AskingPool:
    """Threads that ask. One thread submits and takes outcomes.

    Args:
        client: who is asked.
        workers: questions under way at once.
        budget: what may still be spent.
    """

    def __init__(self, client: DifyClient, workers: int, budget: Budget) -> None:
        self._client = client
        self._budget = budget
        self._outcomes: queue.SimpleQueue[tuple[Unit, Outcome]] = queue.SimpleQueue()
        # Some more than may ask at once: they have the next question ready when a run ends.
        self._threads = ThreadPoolExecutor(workers + workers // 8, thread_name_prefix="dify")
        self._most_in_a_row = max(_LEAST_IN_A_ROW, workers)
        self._given_up = threading.Event()
        self._lock = threading.Lock()
        self._in_a_row = 0
        self.workers = workers
        self.under_way = 0
        self.broken: CaiError | None = None

    @property
    def full(self) -> bool:
        """Whether outcomes must be taken before more is submitted: as many wait as are under way."""
        return self.under_way >= 2 * self.workers

    def submit(self, unit: Unit) -> None:
        """Ask for a unit as soon as a thread is free."""
        self.under_way += 1
        self._threads.submit(self._work, unit)

    def take(self, timeout: float) -> list[tuple[Unit, Outcome]]:
        """Outcomes that have come, waiting at most `timeout` seconds for the first."""
        taken: list[tuple[Unit, Outcome]] = []
        try:
            taken.append(self._outcomes.get(timeout=timeout) if timeout > 0 else self._outcomes.get_nowait())
            while True:
                taken.append(self._outcomes.get_nowait())
        except queue.Empty:
            pass
        self.under_way -= len(taken)
        return taken

    def cancel(self) -> None:
        """Stop the runs under way and ask nothing more; outcomes still come."""
        self._given_up.set()
        self._client.cancel()

    def close(self) -> None:
        """Wait for the threads."""
        self._given_up.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

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
        found = _Found()
        for question in reversed(unit.lost):
            if self._given_up.is_set():
                return Outcome("aborted", earlier=found.earlier, begun=False)
            self._find(question, found)
            if found.outcome is not None:
                return replace(found.outcome, earlier=found.earlier)
        if self._given_up.is_set():
            return Outcome("aborted", earlier=found.earlier, begun=False)
        reservation = self._budget.reserve(unit.characters)
        if reservation is None:
            return Outcome("refused", reason=self._budget.reason, earlier=found.earlier)
        attempts: Sequence[Attempt] = ()
        try:
            outcome = self._ask(lambda: self._client.run(unit.inputs, unit.user))
            attempts = outcome.attempts
            return replace(outcome, earlier=found.earlier)
        finally:
            used = sum((attempt.usage for attempt in attempts), UNKNOWN)
            self._budget.settle(reservation, unit.characters, used, asked=_may_have_run(attempts))

    def _find(self, question: Question, found: _Found) -> None:
        """Look for the run of a lost question: its answer, or that it may still come, ends the matter."""
        outcome = self._ask(
            lambda: self._client.adopt(question.user, question.asked_at, question.workflow_run_id)
        )
        found.earlier += [(question, attempt) for attempt in outcome.attempts]
        if outcome.kind != "failed" or outcome.pending:
            found.outcome = replace(outcome, attempts=(), adopted=question)

    def _ask(self, ask: Callable[[], WorkflowResult | None]) -> Outcome:
        try:
            result = ask()
        except NothingCameOfItError as error:
            return Outcome("failed", attempts=error.attempts)
        except ConfigurationError as error:
            self._break(error)
            return Outcome("aborted", attempts=error.attempts)
        except OutcomeUnknownError as error:
            self._note_failure(error)
            last = error.attempts[-1] if error.attempts else None
            unresolved = (error.workflow_run_id, last.user) if error.workflow_run_id and last else None
            return Outcome(
                "failed", attempts=error.attempts, reason=_lasting(error), unresolved=unresolved, pending=True
            )
        except DifyError as error:
            self._note_failure(error)
            if self._given_up.is_set():
                return Outcome("aborted", attempts=error.attempts)
            return Outcome(
                "failed",
                attempts=error.attempts,
                reason=_lasting(error),
                lasting=isinstance(error, DifyPermanentError),
                pending=error.pending,
            )
        if result is None:
            return Outcome("failed", reason="nothing came of it")
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
        most_at_once=settings.io_workers,
    )


def check_contract(
    client: DifyClient, purpose: str, choices: Sequence[Sequence[str]]
) -> Mapping[str, int | None]:
    """Make sure that a workflow declares the inputs it will be given.

    Args:
        client: of the workflow's app.
        purpose: for the message.
        choices: sets of inputs, any of which will do; the first that fits is taken.

    Returns:
        The inputs it will get, each with the most characters it takes.

    Raises:
        ConfigurationError: naming those that it lacks, and those that it asks for and will not get.
    """
    form = {one.variable: one for one in client.form()}
    problems = []
    for names in choices:
        missing = [name for name in names if name not in form]
        asked = [name for name, one in form.items() if one.required and name not in names]
        if not missing and not asked:
            return {name: form[name].max_length for name in names}
        parts = [f"does not declare {', '.join(missing)}"] if missing else []
        parts += [f"requires {', '.join(asked)}, which it will not get"] if asked else []
        problems.append(" and ".join(parts))
    wanted = ", or ".join(", ".join(names) for names in choices)
    raise ConfigurationError(
        f"Dify: the {purpose} workflow {problems[-1]}; its Start node must have {wanted}"
    )
