"""How answers reach MongoDB: in small batches, each one transaction over all its collections.

An answer, its row in the ledger and the documents that use it are written together or not at all (where the
server has transactions; elsewhere in that order), so a crash leaves neither a paid answer without its row nor
a row without its answer.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from bson import Decimal128
from pymongo import ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, PyMongoError

from cai_assets.domain.ledger import Call, Usage, microseconds
from cai_assets.failures import PermanentError
from cai_assets.resources.dify_runs import Attempt
from cai_assets.resources.mongo import MongoStore, Operation
from cai_assets.settings import Settings

# An answer waits at most this long for others to be written with: a transaction costs the embedded server
# milliseconds whether it holds one answer or fifty.
_LONGEST_WAIT_S: Final = 0.05

# Without transactions this order holds: the answer first, as it is what was paid for; the claim last, as
# others may ask for what is not there once it is given back.
_ORDER: Final = ("translation_memory", "llm_calls", "translations", "categories", "llm_claims")


class Writes:
    """Operations on their way to the database. One thread uses it."""

    def __init__(self, mongo: MongoStore, settings: Settings) -> None:
        self._mongo = mongo
        self._size = settings.batch_size
        self._pending: dict[str, list[Operation]] = {}
        self._count = 0
        self._since = 0.0

    def add(self, collection: str, operation: Operation) -> None:
        """Take in one operation."""
        if not self._count:
            self._since = time.monotonic()
        self._pending.setdefault(collection, []).append(operation)
        self._count += 1

    def add_calls(self, calls: Iterable[Call]) -> None:
        """Take in rows of the ledger."""
        for call in calls:
            self.add("llm_calls", replacement(ledger_document(call)))

    @property
    def due_in(self) -> float | None:
        """Seconds until what waits shall be written; 0 where enough waits, None where nothing does."""
        if not self._count:
            return None
        if self._count >= self._size:
            return 0.0
        return max(0.0, self._since + _LONGEST_WAIT_S - time.monotonic())

    def flush(self) -> None:
        """Write all that waits, as one transaction.

        Raises:
            TransientError: the database cannot be reached.
            PermanentError: it refuses.
        """
        if not self._count:
            return
        pending = [(name, self._pending[name]) for name in _ORDER if name in self._pending]
        self._pending, self._count = {}, 0

        def body(session: ClientSession | None) -> None:
            for name, operations in pending:
                self._mongo.collection(name).bulk_write(operations, ordered=False, session=session)

        try:
            self._mongo.run_batch(body)
        except BulkWriteError as error:
            first = (error.details or {}).get("writeErrors", [{}])[0]
            raise PermanentError(
                f"MongoDB refused a write of the enrichment (code {first.get('code')}): {first.get('errmsg')}"
            ) from error


def replacement(document: Mapping[str, Any]) -> ReplaceOne[dict[str, Any]]:
    """Write a document, whatever stood there."""
    return ReplaceOne({"_id": document["_id"]}, dict(document), upsert=True)


def first_of(document: Mapping[str, Any]) -> UpdateOne:
    """Write a document unless one of its id is there."""
    fields = {name: value for name, value in document.items() if name != "_id"}
    return UpdateOne({"_id": document["_id"]}, {"$setOnInsert": fields}, upsert=True)


def ledger_document(call: Call) -> dict[str, Any]:
    """A row of the ledger as MongoDB holds it: the price as Decimal128, which it can add up."""
    fields = call.fields()
    price = fields["price"]
    return {"_id": call.call_id, **fields, "price": None if price is None else Decimal128(price)}


def calls_of(
    attempts: Iterable[Attempt], unit: Call, problem: str | None = None, *, place: int = 0, of: int = 1
) -> list[Call]:
    """The rows of one call: one for each of its runs.

    Args:
        attempts: the runs in order.
        unit: what is the same in all of them.
        problem: why the answer of the last run is none, though the run succeeded.
        place: of the text among those that were asked about together, from 0; its row has its part of the
            usage.
        of: how many these were.
    """
    rows = []
    for attempt in attempts:
        error = attempt.error if attempt.error is not None else problem
        call_id = attempt.workflow_run_id or attempt.user
        rows.append(
            replace(
                unit,
                call_id=call_id if of == 1 else f"{call_id}/{place}",
                status="ok" if error is None else "failed",
                created_at=attempt.created_at,
                usage=attempt.usage.share(place, of),
                workflow_run_id=attempt.workflow_run_id,
                latency_ms=attempt.latency_ms,
                attempts=attempt.requests if place == 0 else 0,
                error=error,
            )
        )
    return rows


def spent_by(mongo: MongoStore, run_id: str) -> Usage:
    """What a run of the platform has used by the ledger: its earlier assets, and tries that broke.

    Raises:
        TransientError: the database cannot be reached.
        PermanentError: it refuses.
    """
    return _spent(mongo, {"run_id": run_id})


def spent_on(mongo: MongoStore, day: date, zone: ZoneInfo) -> Usage:
    """What all runs asked for on a local day have used by the ledger; errors as for `spent_by`."""
    bounds = [datetime(one.year, one.month, one.day, tzinfo=zone) for one in (day, day + timedelta(days=1))]
    first, end = (microseconds(one.astimezone(UTC)) for one in bounds)
    return _spent(mongo, {"created_us": {"$gte": first, "$lt": end}})


def _spent(mongo: MongoStore, query: Mapping[str, Any]) -> Usage:
    tokens, price = 0, Decimal(0)
    try:
        for row in mongo.collection("llm_calls").find(query, {"tokens": 1, "price": 1}):
            tokens += row.get("tokens") or 0
            price += row["price"].to_decimal() if row.get("price") is not None else 0
    except PyMongoError as error:
        raise mongo.explain(error) from error
    return Usage(tokens, price)


def now() -> datetime:
    """This instant in UTC."""
    return datetime.now(UTC)
