"""The loop that both enrichments share: submit, take outcomes, write them, say how far it is.

It owns the threads, the writes and the ways out (a broken service, an interrupted run). What a unit is and
what its outcome means are its users'.
"""

import logging
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Literal, Self

from cai_assets.domain.ledger import UNKNOWN, Budget
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.enrichment_asking import (
    AskingPool,
    Known,
    Outcome,
    Unit,
    check_contract,
    open_client,
)
from cai_assets.resources.enrichment_summary import EnrichmentSummary
from cai_assets.resources.enrichment_writes import Writes, spent_by
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings

_PROGRESS_EVERY_S: Final = 5.0
# How long runs that were stopped may take to say so before they are left alone.
_LAST_ANSWERS_S: Final = 5.0


class AskingLoop:
    """Asks, and writes what comes back, until all is written. For one thread.

    `over` is the whole of it: it leaves nothing open. The other methods are for what `over` calls.

    Args:
        mongo: the database.
        settings: for keys, budget, threads.
        run_id: run of the platform; budgets count by it.
        log: gets progress; never a text.
        purpose: which workflow.
        inputs: what its Start node must declare.
        summary: gets calls, usage and latencies.
        look_up: what is known of a unit just before it is asked; runs in the asking thread.
        take: turns an outcome into writes (`loop.writes`); runs in this thread.
        client: instead of one made from the settings; it is not closed.
    """

    def __init__(
        self,
        mongo: MongoStore,
        settings: Settings,
        run_id: str,
        log: logging.Logger,
        *,
        purpose: Literal["translation", "category"],
        inputs: tuple[str, ...],
        summary: EnrichmentSummary,
        look_up: Callable[[Unit], Known],
        take: Callable[[Unit, Outcome], None],
        client: DifyClient | None = None,
    ) -> None:
        self._mongo = mongo
        self._settings = settings
        self._run_id = run_id
        self._log = log
        self._purpose = purpose
        self._inputs = inputs
        self._summary = summary
        self._look_up = look_up
        self._take = take
        self._own = client is None
        self._client = open_client(settings, purpose) if client is None else client
        self._pool: AskingPool | None = None
        self._budget: Budget | None = None
        self._unwritten: list[str] = []
        self._said = time.monotonic()
        self.writes = Writes(mongo, settings)

    def over(self, partitions: Iterable[str], submit_all: Callable[[str], None]) -> None:
        """Go through partitions, and wait until all that was submitted for them is written.

        Args:
            partitions: in this order.
            submit_all: submits the units of one of them.

        Raises:
            PermanentError, TransientError: as for `submit`; what was answered until then is written.
        """
        with self:
            for partition in partitions:
                submit_all(partition)
            self.finish()

    @property
    def cannot_ask(self) -> str | None:
        """Why nothing more is asked, as it is stored with what is skipped; None while it is asked."""
        if self._client is None:
            return f"DIFY_{self._purpose.upper()}_API_KEY is not set"
        if self._budget is not None and self._budget.exhausted:
            return self._budget.reason
        return None

    def submit(self, unit: Unit) -> None:
        """Ask for a unit; waits for room, and takes and writes outcomes meanwhile.

        Raises:
            PermanentError: the workflow or its settings are wrong; nothing more can be asked.
            TransientError: Dify is down.
        """
        pool = self._open()
        while pool.full:
            self._step(pool)
        if pool.broken:
            self.finish()
        pool.submit(unit)
        self.breathe()

    def breathe(self) -> None:
        """Take outcomes that have come, write what is due, say how far it is; does not wait."""
        if self._pool is not None:
            self._take_outcomes(self._pool, timeout=0)
        if self.writes.due_in == 0:
            self.flush()
        self._say()

    def finish(self) -> None:
        """Wait for all outcomes and write them; errors as for `submit`."""
        while self._pool is not None and self._pool.under_way:
            self._step(self._pool)
        self.flush()
        if self._pool is not None and self._pool.broken:
            raise self._pool.broken

    def flush(self) -> None:
        """Write all that waits, and let others ask for what is written."""
        self.writes.flush()
        if self._pool is not None and self._unwritten:
            self._pool.written(self._unwritten)
        self._unwritten = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self._pool is not None:
                self._save_what_came(self._pool)
        finally:
            if self._pool is not None:
                self._pool.close()
            if self._own and self._client is not None:
                self._client.close()

    def _open(self) -> AskingPool:
        if self._pool is None:
            if self._client is None:
                raise RuntimeError("nothing can be asked without a client; see cannot_ask")
            check_contract(self._client, self._purpose, self._inputs)
            limited = (
                self._settings.dify_budget_tokens is not None or self._settings.dify_budget_price is not None
            )
            self._budget = Budget(
                self._settings.dify_budget_tokens,
                self._settings.dify_budget_price,
                spent_by(self._mongo, self._run_id) if limited else UNKNOWN,
            )
            self._pool = AskingPool(
                self._client,
                self._settings.io_workers,
                self._budget,
                self._look_up,
                scope=f"{self._mongo.database.name}/{self._purpose}/",
            )
        return self._pool

    def _step(self, pool: AskingPool) -> None:
        due = self.writes.due_in
        self._take_outcomes(pool, timeout=_PROGRESS_EVERY_S if due is None else due)
        if self.writes.due_in == 0:
            self.flush()
        self._say()

    def _take_outcomes(self, pool: AskingPool, timeout: float) -> None:
        for unit, outcome in pool.take(timeout):
            self._unwritten.append(unit.key)
            self._summary.asked += sum(attempt.requests > 0 for attempt in outcome.attempts)
            self._summary.note_attempts(outcome.attempts)
            self._take(unit, outcome)

    def _save_what_came(self, pool: AskingPool) -> None:
        """On the way out after an error: stop what runs, and keep what was answered all the same."""
        self._log.warning("the %s run is broken off; answers that came are written", self._purpose)
        pool.cancel()
        until = time.monotonic() + _LAST_ANSWERS_S
        while pool.under_way and time.monotonic() < until:
            self._take_outcomes(pool, timeout=0.1)
        self.flush()

    def _say(self) -> None:
        if time.monotonic() - self._said >= _PROGRESS_EVERY_S:
            self._said = time.monotonic()
            self._log.info("%s: %s", self._purpose, self._summary.progress())
