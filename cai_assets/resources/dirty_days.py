"""The days that wait to be refreshed, in MongoDB: marked when a change is seen, cleared when it has arrived.

What makes a day dirty is found by `changes` and `sweep`; when to ask for a run is `domain.changes`'.

A mark is cleared by exact bookkeeping, not by clocks, which differ between machines. A mark is a token; a
change that was not seen before puts another in its place. Whoever reads the source for a day notes first
which mark stands (`reading`), and once raw holds what was read, that it was read under this mark (`read`).
When the same run has replaced the documents from it (`arrived`), of both tables, and the mark is still the
same, then the day is clean. A crash in between, a change in between, documents made from another run's raw:
the mark stays, and the day is refreshed once more, which costs a run and loses nothing.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from cai_assets.domain.changes import DirtyDay, Found, RefreshRequest
from cai_assets.resources.mongo import MongoStore

TABLES = ("conversations", "messages")

KEPT_VERSIONS = 2000
"""Of a day, states of rows that are remembered. What is seen again beyond them counts as a new change, which
costs one more run."""


class DirtyDays:
    """The marks of one database."""

    def __init__(self, store: MongoStore) -> None:
        """Use the collection `dirty_days` of this store."""
        self._store = store
        self._collection = store.collection("dirty_days")

    def all(self) -> list[DirtyDay]:
        """Every day that waits, in order.

        Raises:
            TransientError, PermanentError: MongoDB does not answer, or refuses.
        """
        with _Explained(self._store):
            return [_dirty_day(document) for document in self._collection.find().sort("_id")]

    # -- marking

    def mark(self, found: Found, *, now: datetime) -> list[str]:
        """Mark days; a day that is marked for the same states of rows already stays as it is.

        Args:
            found: days with reasons and the states of rows that make them dirty.
            now: the time to stamp.

        Returns:
            The days that got a new mark, in order.
        """
        with _Explained(self._store):
            return [
                day
                for day, reasons in sorted(found.reasons.items())
                if self._mark(day, reasons, found.versions[day], now)
            ]

    def _mark(self, day: str, reasons: Mapping[str, int], versions: set[str], now: datetime) -> bool:
        known = self._collection.find_one({"_id": day}) or {"versions": [], "reasons": {}}
        seen_before = set(known["versions"])
        if seen_before and versions <= seen_before:
            return False
        values = {
            "mark": uuid.uuid4().hex,
            "marked_at": now,
            "versions": sorted(seen_before | versions)[:KEPT_VERSIONS],
            "reasons": {**known["reasons"], **reasons},
        }
        first = {"since": now, "read": {}, "arrived": {}, "attempts": 0}
        self._collection.update_one({"_id": day}, {"$set": values, "$setOnInsert": first}, upsert=True)
        return True

    # -- clearing

    def reading(self, days: Sequence[str]) -> dict[str, str]:
        """The marks that stand before the source is read for these days; those without one are not in it."""
        with _Explained(self._store):
            return {one["_id"]: one["mark"] for one in self._collection.find(_of(days), {"mark": 1})}

    def read(self, table: str, marks: Mapping[str, str], *, run_id: str) -> None:
        """Note that raw holds what was read under these marks.

        Args:
            table: "conversations" or "messages".
            marks: what `reading` gave before the first request.
            run_id: the run, or the first of those that went on with it.
        """
        updates = [
            UpdateOne({"_id": day}, {"$set": {f"read.{table}": {"mark": mark, "run_id": run_id}}})
            for day, mark in marks.items()
        ]
        if updates:
            with _Explained(self._store):
                self._collection.bulk_write(updates, ordered=False)

    def arrived(self, table: str, days: Sequence[str], *, run_id: str) -> list[str]:
        """Note that the documents of these days were replaced from the raw rows that the same run had read.

        Args:
            table: "conversations" or "messages".
            days: the days replaced.
            run_id: as for `read`.

        Returns:
            The days that are clean by that.
        """
        with _Explained(self._store):
            clean = []
            for one in self._collection.find(_of(days)):
                read = one["read"].get(table)
                if read is None or read["run_id"] != run_id:
                    continue  # from another run's raw, which may be older or newer than what is noted
                mark = read["mark"]
                self._collection.update_one({"_id": one["_id"]}, {"$set": {f"arrived.{table}": mark}})
                both = {f"arrived.{name}": mark for name in TABLES}
                if self._collection.delete_one({"_id": one["_id"], "mark": mark, **both}).deleted_count:
                    clean.append(one["_id"])
            return sorted(clean)

    # -- asking for runs

    def requested(self, request: RefreshRequest, *, now: datetime) -> None:
        """Note that a run was asked for."""
        values = {"requested_at": now, "attempts": request.attempt}
        updates = [
            UpdateOne({"_id": day}, {"$set": {**values, "requested_mark": mark}})
            for day, mark in request.marks.items()
        ]
        with _Explained(self._store):
            self._collection.bulk_write(updates, ordered=False)

    # -- sweeps

    def swept(self, without_day: Mapping[str, int], *, now: datetime) -> None:
        """Note that all of the source was compared, and how many of its rows belong to no day, by table."""
        with _Explained(self._store):
            values = {"at": now, "without_day": dict(without_day)}
            self._store.collection("state").update_one({"_id": "sweep"}, {"$set": values}, upsert=True)

    def last_sweep(self) -> datetime | None:
        """When the last sweep ended; None if there was none."""
        with _Explained(self._store):
            found = self._store.collection("state").find_one({"_id": "sweep"})
        return None if found is None else found["at"]


def _of(days: Sequence[str]) -> dict[str, Any]:
    return {"_id": {"$in": list(days)}}


def _dirty_day(document: Mapping[str, Any]) -> DirtyDay:
    return DirtyDay(
        day=document["_id"],
        mark=document["mark"],
        since=document["since"],
        marked_at=document["marked_at"],
        reasons=document["reasons"],
        requested_at=document.get("requested_at"),
        attempts=document["attempts"] if document.get("requested_mark") == document["mark"] else 0,
    )


class _Explained:
    """Turns pymongo's errors into the platform's."""

    def __init__(self, store: MongoStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PyMongoError):
            raise self._store.explain(error) from error


def utc_now() -> datetime:
    """Now, cut to the milliseconds that MongoDB keeps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
