"""The loop that both enrichments share: claim, submit, take outcomes, write them, say how far it is.

It owns the claims, the threads, the writes, the budget and the ways out (a broken service, an interrupted
run). What is asked and what an outcome means are its asker's.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from cai_assets.domain.budget import DAY, RUN, Budget, Limit
from cai_assets.domain.ledger import UNKNOWN
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.enrichment_asking import AskingPool, Outcome, Unit, check_contract, open_client
from cai_assets.resources.enrichment_claims import Claims, Question
from cai_assets.resources.enrichment_summary import EnrichmentSummary
from cai_assets.resources.enrichment_writes import Writes, now, spent_by, spent_on
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings

_PROGRESS_EVERY_S: Final = 5.0
# How long runs that were stopped may take to say so before they are left alone.
_LAST_ANSWERS_S: Final = 5.0
# How often what others ask for is looked at, and the day's budget that another run holds.
_LOOK_EVERY_S: Final = 0.25
_SAY_WAITING_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that has no answer yet: its identity, and what its asker needs to ask about it."""

    key: str
    payload: Any = None


class Asker(Protocol):
    """What an enrichment brings to the loop. All of it runs in the loop's thread."""

    def known(self, wanted: Sequence[Wanted]) -> Mapping[str, Any]:
        """What came from elsewhere meanwhile, by key."""
        ...

    def compose(self, wanted: Sequence[Wanted]) -> list[Unit]:
        """The questions to ask: each wanted thing is in exactly one."""
        ...

    def take_known(self, key: str, payload: Any, value: Any) -> None:
        """Use what came from elsewhere."""
        ...

    def take(self, unit: Unit, outcome: Outcome) -> Sequence[Unit]:
        """Turn an outcome into writes (`loop.writes`); return what is to be asked in another way."""
        ...


class AskingLoop:
    """Asks, and writes what comes back, until all is written. For one thread.

    `over` is the whole of it: it leaves nothing open. The other methods are for what `over` calls.

    Args:
        mongo: the database.
        settings: for keys, budget, threads.
        run_id: run of the platform; budgets count by it.
        log: gets progress; never a text.
        purpose: which workflow.
        inputs: sets of inputs that its Start node may declare; the first that it does is used.
        summary: gets calls, usage and latencies.
        asker: whose loop it is.
        client: instead of one made from the settings; it is not closed.

    Attributes:
        writes: what is on its way to the database.
        inputs: those that the workflow declares, each with the most characters it takes; empty until `open`.
        workers: questions under way at once.
        at_once: things that are claimed together; enough for all workers.
    """

    def __init__(
        self,
        mongo: MongoStore,
        settings: Settings,
        run_id: str,
        log: logging.Logger,
        *,
        purpose: Literal["translation", "category"],
        inputs: Sequence[Sequence[str]],
        summary: EnrichmentSummary,
        asker: Asker,
        client: DifyClient | None = None,
    ) -> None:
        self._mongo = mongo
        self._settings = settings
        self._run_id = run_id
        self._log = log
        self._purpose = purpose
        self._choices = inputs
        self._summary = summary
        self._asker = asker
        self._own = client is None
        self._client = open_client(settings, purpose) if client is None else client
        self._pool: AskingPool | None = None
        self._budget: Budget | None = None
        self._claims = Claims(mongo, f"{purpose}/", log)
        self._day: Claims | None = None
        self._wanted: list[Wanted] = []
        self._parked: dict[str, Wanted] = {}
        self._looked = self._said = time.monotonic()
        self.writes = Writes(mongo, settings)
        self.inputs: Mapping[str, int | None] = {}
        self.workers = settings.io_workers
        self.at_once = settings.io_workers

    def over(self, partitions: Iterable[str], want_all: Callable[[str], None]) -> None:
        """Go through partitions, and wait until all that was wanted for them is written.

        Args:
            partitions: in this order.
            want_all: wants what one of them lacks.

        Raises:
            PermanentError, TransientError: as for `want`; what was answered until then is written.
        """
        with self:
            for partition in partitions:
                want_all(partition)
                if self._pool is not None and self._pool.under_way < self.workers:
                    self._begin_wanted()
            self.finish()
        self._log.info("%s: %s", self._purpose, self._summary.progress())
        for line in self._summary.unfinished():
            self._log.warning("%s: %s", self._purpose, line)

    @property
    def cannot_ask(self) -> str | None:
        """Why nothing more is asked, as it is stored with what is skipped; None while it is asked."""
        if self._client is None:
            return f"DIFY_{self._purpose.upper()}_API_KEY is not set"
        if self._budget is not None and self._budget.exhausted:
            return self._budget.reason
        return None

    def open(self) -> None:
        """Look at the workflow and the budget, and make ready to ask; errors as for `want`."""
        if self._pool is not None:
            return
        if self._client is None:
            raise RuntimeError("nothing can be asked without a client; see cannot_ask")
        self.inputs = check_contract(self._client, self._purpose, self._choices)
        self._budget = Budget(self._limits())
        self._pool = AskingPool(self._client, self._settings.io_workers, self._budget)

    def want(self, wanted: Wanted) -> None:
        """Ask for something; waits for room, and takes and writes outcomes meanwhile.

        Raises:
            PermanentError: the workflow or its settings are wrong; nothing more can be asked.
            TransientError: Dify is down.
        """
        self.open()
        self._wanted.append(wanted)
        if len(self._wanted) >= self.at_once:
            self._begin_wanted()

    def breathe(self) -> None:
        """Take outcomes that have come, write what is due, say how far it is; does not wait."""
        if self._pool is not None and self._pool.under_way:
            self._take_outcomes(self._pool, timeout=0)
        if self.writes.due_in == 0:
            self.writes.flush()
        self._say()

    def finish(self) -> None:
        """Wait for all outcomes and write them; errors as for `want`."""
        self._begin_wanted()
        while self._pool is not None and (self._pool.under_way or self._parked):
            if self._pool.broken:
                self._parked.clear()
            self._step(self._pool)
        self.writes.flush()
        if self._pool is not None and self._pool.broken:
            raise self._pool.broken

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
            self._claims.close()
            if self._day is not None:
                self._day.close()
            if self._own and self._client is not None:
                self._client.close()

    # -- asking

    def _begin_wanted(self) -> None:
        wanted, self._wanted = self._wanted, []
        if not wanted or self._pool is None:
            return
        while self._pool.full:
            self._step(self._pool)
        if self._pool.broken:
            self.finish()
        self._begin(self._pool, wanted)

    def _begin(self, pool: AskingPool, wanted: Sequence[Wanted]) -> None:
        """Claim, look once more whether the answer came meanwhile, write down what is asked, and ask."""
        granted = self._claims.take([one.key for one in wanted])
        mine = [one for one in wanted if one.key in granted]
        self._parked.update((one.key, one) for one in wanted if one.key not in granted)
        known = self._asker.known(mine) if mine else {}
        for one in mine:
            self._parked.pop(one.key, None)
            if one.key in known:
                self.writes.add("llm_claims", self._claims.released(one.key))
                self._asker.take_known(one.key, one.payload, known[one.key])
        mine = [one for one in mine if one.key not in known]
        units = self._asker.compose([one for one in mine if not granted[one.key]])
        for one in mine:
            if granted[one.key]:
                units += [replace(unit, lost=granted[one.key]) for unit in self._asker.compose([one])]
        self._submit(pool, units)

    def _submit(self, pool: AskingPool, units: Sequence[Unit]) -> None:
        at = now()
        self._claims.note(
            {
                key: Question(unit.user, place, len(unit.keys), at)
                for unit in units
                for place, key in enumerate(unit.keys)
            }
        )
        for unit in units:
            pool.submit(unit)

    def _step(self, pool: AskingPool) -> None:
        """Wait for an outcome, or until something else is to be done, and do it."""
        due = self.writes.due_in
        timeout = _PROGRESS_EVERY_S if due is None else due
        if self._parked:
            timeout = min(timeout, _LOOK_EVERY_S)
        if pool.under_way:
            self._take_outcomes(pool, timeout)
        else:
            time.sleep(timeout)
        if self.writes.due_in == 0:
            self.writes.flush()
        if self._parked and not pool.full and time.monotonic() - self._looked >= _LOOK_EVERY_S:
            self._begin(pool, list(self._parked.values())[: self.at_once])
            self._looked = time.monotonic()
        self._say()

    def _take_outcomes(self, pool: AskingPool, timeout: float) -> None:
        for unit, outcome in pool.take(timeout):
            attempts = [*(attempt for _, attempt in outcome.earlier), *outcome.attempts]
            self._summary.note_attempts(attempts)
            again = self._asker.take(unit, outcome)
            if again:
                self._submit(pool, again)
            else:
                self._give_back(unit, outcome)

    def _give_back(self, unit: Unit, outcome: Outcome) -> None:
        """Write, together with the outcome, that others may ask; and what may still be answered."""
        for place, key in enumerate(unit.keys):
            if outcome.unresolved is not None:
                run_id, user = outcome.unresolved
                question = outcome.adopted or Question(user, place, len(unit.keys), self._asked_at(outcome))
                operation = self._claims.lost(key, replace(question, user=user, workflow_run_id=run_id))
            elif outcome.pending or (outcome.kind == "aborted" and (outcome.begun or unit.lost)):
                operation = self._claims.lost(key)
            else:
                operation = self._claims.released(key)
            self.writes.add("llm_claims", operation)

    @staticmethod
    def _asked_at(outcome: Outcome) -> datetime:
        return outcome.attempts[-1].created_at if outcome.attempts else now()

    def _save_what_came(self, pool: AskingPool) -> None:
        """On the way out after an error: stop what runs, and keep what was answered all the same."""
        self._log.warning("the %s run is broken off; answers that came are written", self._purpose)
        pool.cancel()
        until = time.monotonic() + _LAST_ANSWERS_S
        while pool.under_way and time.monotonic() < until:
            self._take_outcomes(pool, timeout=0.1)
        self.writes.flush()

    # -- the budget

    def _limits(self) -> list[Limit]:
        settings = self._settings
        limits = []
        run = Limit(RUN, settings.dify_budget_tokens, settings.dify_budget_price)
        if run.limited:
            limits.append(replace(run, spent=spent_by(self._mongo, self._run_id)))
        day = Limit(
            DAY, settings.dify_budget_tokens_per_day, settings.dify_budget_price_per_day, UNKNOWN, self._today
        )
        if day.limited:
            # One run at a time asks under a day's budget: two could pass it together.
            self._day = Claims(self._mongo, "budget/", self._log)
            self._wait_for_the_day(self._day)
            limits.append(replace(day, spent=spent_on(self._mongo, self._today(), settings.timezone)))
        return limits

    def _today(self) -> date:
        return datetime.now(self._settings.timezone).date()

    def _wait_for_the_day(self, day: Claims) -> None:
        said = 0.0
        while "day" not in day.take(["day"]):
            if time.monotonic() - said > _SAY_WAITING_S:
                said = time.monotonic()
                self._log.info("%s: another run asks under the day's budget; waiting for it", self._purpose)
            time.sleep(_LOOK_EVERY_S)

    def _say(self) -> None:
        if time.monotonic() - self._said >= _PROGRESS_EVERY_S:
            self._said = time.monotonic()
            self._log.info("%s: %s", self._purpose, self._summary.progress())
