"""Who asks for what: claims in the database, so that one at a time asks for a text, in whichever process.

A claim is a document that names its holder, and the questions that were sent under it and whose end was not
written down. A holder is a document too, whose count of beats rises every few seconds. What a dead holder has
claimed is taken over together with its questions: the runs that these started at Dify go on, and are looked
for before anybody asks, and pays, again.

What is asked, and what becomes of it, is not known here.
"""

import functools
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pymongo import DeleteMany, DeleteOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, PyMongoError

from cai_assets.failures import PermanentError, TransientError, call_with_retries
from cai_assets.processes import started_at
from cai_assets.resources.enrichment_reading import find
from cai_assets.resources.mongo import MongoStore, Operation

COLLECTION: Final = "llm_claims"

# A holder that did not beat for so long (six beats) is dead, unless it is seen to be before. Long enough for
# a machine that swaps; a holder that wakes up after it writes its answers all the same, at worst twice paid.
LEASE_S: Final = 30.0
_HOLDER: Final = "holder/"
# No run of the platform takes so long.
_FORGOTTEN_AFTER: Final = timedelta(days=14)
_DUPLICATE_KEY: Final = 11000
_RACES: Final = 8


@dataclass(frozen=True, slots=True)
class Question:
    """A question that was sent to Dify.

    Attributes:
        user: under whom it was asked: the unit's user, or that of one try where its run is known.
        place: of the text among those it asked about, from 0.
        of: how many these were.
        asked_at: when, UTC.
        workflow_run_id: its run, where that is known.
    """

    user: str
    place: int
    of: int
    asked_at: datetime
    workflow_run_id: str | None = None

    def document(self) -> dict[str, Any]:
        """As it stands in the claim."""
        return {
            "user": self.user,
            "place": self.place,
            "of": self.of,
            "asked_at": self.asked_at,
            "workflow_run_id": self.workflow_run_id,
        }


def _place() -> str | None:
    """This machine since its start, and the space of its process ids: where a pid means the same process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


class Claims:
    """The claims of one holder, which is one run of one enrichment. For one thread; close it.

    Args:
        mongo: the database.
        scope: kept apart from equal keys of other purposes by it.
        log: told when the beat stops.
        lease: seconds, see `LEASE_S`.
    """

    def __init__(self, mongo: MongoStore, scope: str, log: logging.Logger, lease: float = LEASE_S) -> None:
        self._mongo = mongo
        self._scope = scope
        self._log = log
        self._lease = lease
        self._me = uuid.uuid4().hex
        self._place = _place()
        self._beats: dict[str, tuple[int, float]] = {}
        self._dead: set[str] = set()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, keys: Sequence[str]) -> dict[str, tuple[Question, ...]]:
        """Claim keys for which nobody alive asks.

        Returns:
            Those that are ours now, each with the questions whose end nobody saw.

        Raises:
            TransientError: the database cannot be reached.
            PermanentError: it refuses.
        """
        self._come_alive()
        granted: dict[str, tuple[Question, ...]] = {}
        wanted = list(dict.fromkeys(keys))
        while wanted:
            self._claim(wanted)
            held: dict[str, list[str]] = {}
            ids = [self._scope + key for key in wanted]
            for claim in find(self._mongo, COLLECTION, {"_id": {"$in": ids}}):
                key = claim["_id"].removeprefix(self._scope)
                if claim["holder"] == self._me:
                    granted[key] = tuple(_question(one) for one in claim.get("lost", ()))
                elif claim["holder"] is not None:
                    held.setdefault(claim["holder"], []).append(key)
            died = self._newly_dead(held)
            wanted = [key for holder in died for key in held[holder]]
        return granted

    def note(self, questions: Mapping[str, Question]) -> None:
        """Write down what is about to be asked, by key; errors as for `take`."""
        self._write(
            UpdateOne({"_id": self._scope + key}, {"$push": {"lost": question.document()}})
            for key, question in questions.items()
        )

    def released(self, key: str) -> Operation:
        """The write that gives a claim back; it belongs into the transaction that writes the answer."""
        return DeleteOne({"_id": self._scope + key})

    def lost(self, key: str, question: Question | None = None) -> Operation:
        """The write that gives a claim back while its question may still be answered.

        Args:
            key: whose.
            question: in place of those that were noted, where more is known of it now.
        """
        fields: dict[str, Any] = {"holder": None}
        if question is not None:
            fields["lost"] = [question.document()]
        return UpdateOne({"_id": self._scope + key}, {"$set": fields})

    def close(self) -> None:
        """Let everybody have what is still claimed, its questions with it."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
            try:
                # A claim whose holder is not there belongs to nobody.
                self._mongo.collection(COLLECTION).delete_one({"_id": _HOLDER + self._me})
            except PyMongoError as error:
                self._log.warning("the claims of this run are free in %.0f s only: %s", self._lease, error)

    # -- holders

    def _come_alive(self) -> None:
        if self._thread is not None:
            return
        holder = {"place": self._place, "pid": os.getpid(), "started": started_at(os.getpid())}
        born = {**holder, "beats": 0, "born_at": datetime.now(UTC)}
        # Holders that were killed leave their document; without it a claim is free as well.
        long_ago = {"born_at": {"$lt": datetime.now(UTC) - _FORGOTTEN_AFTER}}
        self._write(
            [
                UpdateOne({"_id": _HOLDER + self._me}, {"$set": born}, upsert=True),
                DeleteMany(long_ago),
            ]
        )
        self._thread = threading.Thread(target=self._beat, name="dify-claims", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        holders = self._mongo.collection(COLLECTION)
        while not self._closed.wait(self._lease / 6):
            try:
                holders.update_one({"_id": _HOLDER + self._me}, {"$inc": {"beats": 1}})
            except PyMongoError as error:
                self._log.warning("a beat of this run's claims was missed: %s", type(error).__name__)

    def _newly_dead(self, holders: Iterable[str]) -> list[str]:
        names = list(holders)
        ids = [_HOLDER + name for name in names]
        known = (
            {one["_id"]: one for one in find(self._mongo, COLLECTION, {"_id": {"$in": ids}})} if ids else {}
        )
        died = [name for name in names if not self._alive(name, known.get(_HOLDER + name))]
        self._dead.update(died)
        return died

    def _alive(self, name: str, holder: Mapping[str, Any] | None) -> bool:
        if holder is None:
            return False
        if self._place is not None and holder["place"] == self._place:
            started = started_at(holder["pid"])
            if started is None or started != holder["started"]:
                return False
        # Beats are counted and timed here, so that the clocks of machines need not agree.
        now = time.monotonic()
        beats, since = self._beats.get(name, (None, now))
        if beats != holder["beats"]:
            since = now
        self._beats[name] = (holder["beats"], since)
        return now - since < self._lease

    # -- writing

    def _claim(self, keys: Sequence[str]) -> None:
        free = {"$in": [{"$ifNull": ["$holder", None]}, [None, *sorted(self._dead)]]}
        mine = [{"$set": {"holder": {"$cond": [free, self._me, "$holder"]}}}]
        self._write(UpdateOne({"_id": self._scope + key}, mine, upsert=True) for key in sorted(keys))

    def _write(self, operations: Iterable[Operation]) -> None:
        batch = list(operations)
        if batch:
            call_with_retries(_RACES, 0.01, self._write_once, batch)

    def _write_once(self, batch: Sequence[Operation]) -> None:
        try:
            self._mongo.run_batch(functools.partial(_in_bulk, self._mongo, batch))
        except BulkWriteError as error:
            first = (error.details or {}).get("writeErrors", [{}])[0]
            said = f"MongoDB refused a claim (code {first.get('code')}): {first.get('errmsg')}"
            if first.get("code") == _DUPLICATE_KEY:
                raise TransientError(said) from error  # another one made the same claim at the same moment
            raise PermanentError(said) from error


def _in_bulk(mongo: MongoStore, batch: Sequence[Operation], session: ClientSession | None) -> None:
    mongo.collection(COLLECTION).bulk_write(batch, ordered=session is not None, session=session)


def _question(document: Mapping[str, Any]) -> Question:
    return Question(
        document["user"],
        document["place"],
        document["of"],
        document["asked_at"].astimezone(UTC),
        document["workflow_run_id"],
    )
