"""Replacing the documents of whole partitions, and counting them: raw = live + quarantined + superseded.

What is to become of a document is decided in `domain.versions`; here it is read, written and counted. Several
runs may replace different days at once: every document has a `revision`, a change is written only over the
revision it was decided on, and what did not match is read and decided again.
"""

import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import bson
from bson.errors import BSONError
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, PyMongoError

from cai_assets.domain.documents import DocumentBatch, PartitionDocuments, Reject, Version, clean_reason
from cai_assets.domain.versions import Decision, decide
from cai_assets.failures import PermanentError, TransientError
from cai_assets.resources.mongo_writes import Document, Operation, bulk, command_of, unfit_for_bson
from cai_assets.schemas.documents import SCHEMA_VERSION

if TYPE_CHECKING:
    from cai_assets.resources.mongo import MongoStore

MAX_ATTEMPTS = 10
"""Rounds of reading and deciding again, before two runs that write the same ids are called a conflict."""
_DUPLICATE_KEY = 11000
_DERIVED = ("language_detected", "language_confidence")
"""What enrichment wrote about a text; a changed text loses it."""


@dataclass
class WriteCounts:
    """What replacing one partition did, in documents of that partition.

    `rows` = `live` + `quarantined` + `superseded` + `erased`, the last of persons who were erased.
    `inserted` + `updated` + `unchanged` = `live`, where `updated` counts changed, revived and arrived
    documents; `deleted` ones are gone from the source, or live on another day now.
    """

    rows: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    quarantined: int = 0
    superseded: int = 0
    erased: int = 0
    live: int = 0

    def __add__(self, other: "WriteCounts") -> "WriteCounts":
        return WriteCounts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass
class Replacement:
    """What `replace_partitions` did.

    Attributes:
        partitions: counts by replaced day.
        elsewhere: by other days, how many ids went away from them or came back to them, because a row of a
            replaced day is newer than theirs, or went. What was made of those days' documents is stale.
    """

    partitions: dict[str, WriteCounts] = field(default_factory=dict)
    elsewhere: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> WriteCounts:
        """The sum over the replaced days."""
        return sum(self.partitions.values(), WriteCounts())


@dataclass
class _Stamps:
    run_id: str
    now: datetime


def replace_partitions(
    store: "MongoStore", batch: DocumentBatch, *, run_id: str, now: datetime
) -> Replacement:
    """Make the documents of whole partitions equal to their raw rows. See `MongoStore.replace_partitions`."""
    # MongoDB keeps milliseconds; cut here, so that what is compared later is what was stored.
    now = now.astimezone(UTC).replace(microsecond=now.microsecond // 1000 * 1000)
    from cai_assets.resources.erasures import Erasures  # it needs the store, which needs this module

    erasures = Erasures(store)
    noted = erasures.dropped(batch.table, batch.partitions)
    result = Replacement()
    with _garbage_collected_by_parts() as collect:
        try:
            for part in _ahead(batch.parts(), store.workers > 1):
                replacing = _Replacing(store, batch.table, part, _Stamps(run_id, now))
                if batch.erased is not None and part.erased_conversations:
                    # Before their messages are judged, whose rows do not name the person.
                    erasures.add_conversations(part.erased_conversations, batch.erased.key)
                counts = result.partitions[part.partition] = replacing.run()
                if counts.erased != noted.get(part.partition, 0):
                    erasures.set_dropped(batch.table, {part.partition: counts.erased})
                for day, count in replacing.elsewhere.items():
                    if day not in batch.partitions:
                        result.elsewhere[day] += count
                del part, replacing
                collect()
        except PyMongoError as error:
            raise store.explain(error) from error
    return result


@contextmanager
def _garbage_collected_by_parts() -> Iterator[Callable[[], None]]:
    """Collect garbage when it is asked for instead of whenever there are 700 objects more.

    Millions of dictionaries come and go here, none of them in a circle, and looking for circles among them
    costs (measured by the thread's clock, a message: typing 15.7 µs, and 13.2 µs without; its insert 5.2 µs,
    and 2.2 µs without).
    """
    was_on = gc.isenabled()
    gc.freeze()
    gc.disable()

    def collect() -> None:
        gc.collect(1)

    try:
        yield collect
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def _ahead(parts: Iterator[PartitionDocuments], concurrent: bool) -> Iterator[PartitionDocuments]:
    """The same parts, the next one made while the present one is written: the server is another process."""
    if not concurrent:
        yield from parts
        return
    with ThreadPoolExecutor(1, thread_name_prefix="typing") as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


class _Replacing:
    """The replacement of one partition of one table."""

    def __init__(self, store: "MongoStore", table: str, part: PartitionDocuments, stamps: _Stamps) -> None:
        self.store = store
        self.table = table
        self.partition = part.partition
        self.part = part
        self.rejects = list(part.rejects)
        self.stamps = stamps
        self.collection = store.collection(table)
        self.elsewhere: Counter[str] = Counter()

    def run(self) -> WriteCounts:
        versions: dict[str, list[Version]] = defaultdict(list)
        for version in self.part.versions:
            versions[version.id].append(version)
        known = {document["_id"]: document for document in self._stored_of_partition()}
        ids = sorted({*versions, *known})
        large = {key for key in versions if sum(len(one.row) for one in versions[key]) > _LARGE_LETTERS}
        usual = [key for key in ids if key not in large]
        size = self.store.batch_size
        chunks = [usual[start : start + size] for start in range(0, len(usual), size)]
        chunks += [[key] for key in sorted(large)]
        counts = WriteCounts(
            rows=len(self.part.versions) + len(self.part.rejects) + self.part.erased, erased=self.part.erased
        )
        for decisions, rejects in self.store.parallel(
            lambda chunk: self._write_chunk(
                {key: versions.get(key, []) for key in chunk},
                known,
                transactions=self.store.transactions and large.isdisjoint(chunk),
            ),
            chunks,
        ):
            self._count(decisions.values(), counts)
            self.rejects += rejects
        self._write_quarantine()
        counts.quarantined = len(self.rejects)
        if counts.rows != counts.live + counts.quarantined + counts.superseded + counts.erased:
            raise RuntimeError(f"{self.table} of {self.partition}: rows were lost: {counts}")
        return counts

    def _count(self, decisions: Iterable[Decision], counts: WriteCounts) -> None:
        for decision in decisions:
            counts.superseded += decision.superseded
            if decision.live:
                counts.live += 1
                name = {"insert": "inserted", "set": "updated"}.get(decision.change, "unchanged")
                setattr(counts, name, getattr(counts, name) + 1)
            elif decision.was_live:
                counts.deleted += 1
            self.elsewhere.update(decision.elsewhere)

    # -- reading

    def _stored_of_partition(self) -> Iterator[Document]:
        """Documents that are of the partition or hold superseded versions of it; what deciding needs of them.

        Those with superseded versions come whole, as one of these may live again.
        """
        control = ("partition", "source_id", "source_updated_us", "content_hash", "deleted_at", "revision")
        yield from self.collection.find(
            {"partition": self.partition}, {**dict.fromkeys(control, 1), "superseded": 1}
        )
        yield from self.collection.find({"superseded.partition": self.partition})

    def _stored(self, ids: Sequence[str]) -> dict[str, Document]:
        return {document["_id"]: document for document in self.collection.find({"_id": {"$in": list(ids)}})}

    # -- writing

    def _write_chunk(
        self, versions: dict[str, list[Version]], known: Mapping[str, Document], *, transactions: bool
    ) -> tuple[dict[str, Decision], list[Reject]]:
        rejects: list[Reject] = []
        first: dict[str, Decision] = {}
        stored: Mapping[str, Document] = known
        for _ in range(MAX_ATTEMPTS):
            decisions = {key: decide(self.partition, new, stored.get(key)) for key, new in versions.items()}
            for key, decision in decisions.items():
                if decision.change == "none" and key in first and self._ours(stored.get(key)):
                    decisions[key] = first[key]  # written by the round before, which could not say so
            operations = {
                key: operation
                for key, decision in decisions.items()
                if (operation := self._operation(key, decision, stored.get(key), transactions)) is not None
            }
            done = {key for key in first if decisions.get(key) is first[key]}
            operations = {key: operation for key, operation in operations.items() if key not in done}
            refused = self._write(operations, stored, transactions)
            if refused is None:
                return decisions, rejects
            for key, reason in refused.items():
                # The best version is what was to be stored; the next best may take its place.
                if not versions[key]:
                    raise PermanentError(f"{self.table} {key!r}, of another day before: {reason}")
                version = max(versions[key], key=lambda one: one.rank)
                versions[key].remove(version)
                rejects.append(_rejected(version, reason))
            if not transactions:
                first.update({key: decision for key, decision in decisions.items() if key not in refused})
            stored = self._stored(list(versions))
        raise TransientError(
            f"{self.table} of {self.partition}: other runs keep writing the same documents "
            f"({next(iter(versions))!r} and others)"
        )

    def _ours(self, stored: Document | None) -> bool:
        return (
            stored is not None
            and stored["run_id"] == self.stamps.run_id
            and stored["changed_at"] == self.stamps.now
        )

    def _operation(
        self, key: str, decision: Decision, stored: Document | None, transactions: bool
    ) -> Operation | None:
        """The write that carries a decision out.

        Without transactions it is bound to the revision it was decided on; inside one `_check_revisions` does
        that, as the embedded server reads a whole collection for a filter beyond `_id` (8 updates a second
        among 100,000 documents, 2,600 without).
        """
        if decision.change == "none":
            return None
        now, run_id = self.stamps.now, self.stamps.run_id
        if decision.change == "insert":
            whole = {
                "_id": key, **decision.document, "changed_at": now, "run_id": run_id, "ingested_at": now,
                "schema_version": SCHEMA_VERSION, "deleted_at": None, "revision": 1,
            }  # fmt: skip
            if not whole["superseded"]:
                del whole["superseded"]
            return InsertOne(whole)
        stamps = {"changed_at": now, "run_id": run_id}
        assert stored is not None  # noqa: S101  only an insert is decided without a document
        values: Document = {"revision": stored["revision"] + 1}
        gone = dict.fromkeys(_DERIVED if not decision.same_content and self.table == "messages" else (), "")
        if decision.change == "set":
            values |= {**decision.document, **stamps, "deleted_at": None, "schema_version": SCHEMA_VERSION}
        elif decision.change == "delete":
            values |= {**stamps, "deleted_at": self.stamps.now}
        superseded = decision.document["superseded"]
        values.pop("superseded", None)
        if superseded:
            values["superseded"] = superseded
        else:
            gone["superseded"] = ""
        update = {"$set": values, **({"$unset": gone} if gone else {})}
        guard = {} if transactions else {"revision": stored["revision"]}
        return UpdateOne({"_id": key, **guard}, update)

    def _write(
        self, operations: Mapping[str, Operation], stored: Mapping[str, Document], transactions: bool
    ) -> dict[str, str] | None:
        """Write them all, or say what to do again.

        Returns:
            None when everything is written; else the ids that MongoDB refuses for what they hold, with the
            reason; an empty one means that other runs changed some of the documents in between.
        """
        if not operations:
            return None
        keys = sorted(operations, key=lambda key: command_of(operations[key]))
        rows = [operations[key] for key in keys]
        revisions = {key: stored[key]["revision"] for key in keys if isinstance(operations[key], UpdateOne)}

        def body(session: ClientSession | None) -> None:
            if session is not None and revisions:
                self._check_revisions(revisions, session)
            written = bulk(self.collection, rows, session)
            if written.matched_count != len(revisions):
                raise _ChangedMeanwhileError

        try:
            self.store.run_batch(body, transactions=transactions)
        except _ChangedMeanwhileError:
            return {}
        except BulkWriteError as error:
            problems = error.details.get("writeErrors", ())
            return {
                keys[problem["index"]]: f"MongoDB refuses it: {problem.get('errmsg', problem)}"
                for problem in problems
                if problem.get("code") != _DUPLICATE_KEY
            }
        except (BSONError, OverflowError, UnicodeEncodeError) as error:
            return self._unfit(operations, error)
        return None

    def _check_revisions(self, revisions: Mapping[str, int], session: ClientSession) -> None:
        """Raise where a document is not as it was decided on; a later change ends the transaction."""
        query = {"_id": {"$in": list(revisions)}}
        found = {
            one["_id"]: one["revision"]
            for one in self.collection.find(query, {"revision": 1}, session=session)
        }
        if found != revisions:
            raise _ChangedMeanwhileError

    def _unfit(self, operations: Mapping[str, Operation], error: Exception) -> dict[str, str]:
        bodies = {key: getattr(operation, "_doc") for key, operation in operations.items()}  # noqa: B009
        reasons = {key: unfit_for_bson(body) for key, body in bodies.items()}
        refused = {key: reason for key, reason in reasons.items() if reason is not None}
        if not refused:
            raise PermanentError(f"{self.table} of {self.partition} cannot be encoded: {error}") from error
        return refused

    def _write_quarantine(self) -> None:
        """Make the partition's quarantine equal to its rejects; rows that healed leave it."""
        collection = self.store.collection("quarantine")
        earlier = {
            document["_id"]: document
            for document in collection.find({"table": self.table, "partition": self.partition})
        }
        operations: list[Operation] = []
        for reject in self.rejects:
            entry = _quarantined(self.table, reject)
            old = earlier.pop(entry["_id"], None)
            if old is not None and all(old.get(name) == value for name, value in entry.items()):
                continue
            entry |= {"run_id": self.stamps.run_id, "at": self.stamps.now}
            operations.append(ReplaceOne({"_id": entry["_id"]}, entry, upsert=True))
        operations += [DeleteOne({"_id": key}) for key in earlier]
        self.store.write("quarantine", operations).raise_failures()


# A transaction of one document of 15 MB does not come to an end in the embedded server's cache of 256 MB; one
# of 12 MB does, and without transaction any that MongoDB can hold.
_LARGE_LETTERS = 4_000_000
LARGEST_ROW = 15 * 1024 * 1024
KEPT_OF_LARGE = 1024 * 1024


def _rejected(version: Version, reason: str) -> Reject:
    return Reject(
        version.partition, version.source_id, version.source_updated_us, version.id,
        clean_reason(reason), version.row,
    )  # fmt: skip


def _quarantined(table: str, reject: Reject) -> Document:
    """A reject as a document of the quarantine, without the stamps of the run that puts it there."""
    entry: Document = {
        "_id": f"{table}:{reject.partition}:{reject.source_id}",
        "table": table,
        "partition": reject.partition,
        "source_id": reject.source_id,
        "source_updated_us": reject.source_updated_us,
        "business_id": reject.business_id,
        "reason": reject.reason,
        "row": reject.row,
    }
    if len(bson.encode(entry)) > LARGEST_ROW:
        entry["row"] = reject.row[:KEPT_OF_LARGE]
        entry["reason"] = clean_reason(f"{reject.reason} (cut here to its start; raw holds it whole)")
    return entry


class _ChangedMeanwhileError(Exception):
    """A document is not at the revision that was decided on; the transaction ends without a trace."""


def live_ids(store: "MongoStore", name: str, partition: str) -> set[str]:
    """Ids of a partition's live documents; see `MongoStore.live_ids`."""
    try:
        # The deleted are left out here: the embedded server takes an index only where it has every field.
        found = store.collection(name).find({"partition": partition}, {"_id": 1, "deleted_at": 1})
        return {one["_id"] for one in found if one.get("deleted_at") is None}
    except PyMongoError as error:
        raise store.explain(error) from error


def live_counts(store: "MongoStore", name: str, partitions: Sequence[str]) -> dict[str, int]:
    """Live documents by partition; see `MongoStore.live_counts`."""
    # In two steps: the embedded server takes an index only where it has every field of a filter.
    return _counts(store, name, partitions, {"partition": {"$in": list(partitions)}}, {"deleted_at": None})


def accounted(store: "MongoStore", table: str, partitions: Sequence[str]) -> dict[str, dict[str, int]]:
    """What the raw rows became, by partition; see `MongoStore.accounted`."""
    from cai_assets.resources.erasures import Erasures

    days = list(partitions)
    superseded: list[dict[str, Any]] = [
        {"$match": {"superseded.partition": {"$in": days}}},
        {"$unwind": "$superseded"},
        {"$match": {"superseded.partition": {"$in": days}}},
        {"$group": {"_id": "$superseded.partition", "n": {"$sum": 1}}},
    ]
    kinds = {
        "live": live_counts(store, table, days),
        "quarantined": _counts(store, "quarantine", days, {"table": table, "partition": {"$in": days}}),
        "superseded": _aggregate(store, table, superseded),
    }
    erased = Erasures(store).dropped(table, days)
    if erased:
        kinds["erased"] = erased
    return {day: {kind: counts.get(day, 0) for kind, counts in kinds.items()} for day in days}


def _counts(
    store: "MongoStore", name: str, partitions: Sequence[str], *matches: Mapping[str, Any]
) -> dict[str, int]:
    steps: list[Mapping[str, Any]] = [{"$match": match} for match in matches]
    found = _aggregate(store, name, [*steps, {"$group": {"_id": "$partition", "n": {"$sum": 1}}}])
    return {day: found.get(day, 0) for day in partitions}


def _aggregate(store: "MongoStore", name: str, pipeline: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    try:
        return {row["_id"]: row["n"] for row in store.collection(name).aggregate(pipeline)}
    except PyMongoError as error:
        raise store.explain(error) from error
