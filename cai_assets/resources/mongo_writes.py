"""Bulk writing to MongoDB: what a write did, which rows were refused. Connecting is `mongo_connection`'s."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import bson
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError
from pymongo.results import BulkWriteResult

from cai_assets.failures import PermanentError, TransientError

Document: TypeAlias = dict[str, Any]
Operation: TypeAlias = (
    InsertOne[Document] | ReplaceOne[Document] | UpdateOne | UpdateMany | DeleteOne | DeleteMany
)

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class RowFailure:
    """One operation that the database or BSON refused.

    Attributes:
        index: place of the operation in what was given to `write`.
        code: MongoDB's error code; None where BSON could not hold the document.
        reason: what was wrong.
    """

    index: int
    code: int | None
    reason: str


@dataclass
class WriteReport:
    """What a `write` did, in documents; `failures` lists the operations that were refused, by row."""

    inserted: int = 0
    upserted: int = 0
    matched: int = 0
    modified: int = 0
    deleted: int = 0
    failures: list[RowFailure] = field(default_factory=list)

    def add(self, result: Mapping[str, Any]) -> None:
        """Add pymongo's counts of one bulk result."""
        self.inserted += result.get("nInserted", 0)
        self.upserted += result.get("nUpserted", 0)
        self.matched += result.get("nMatched", 0)
        self.modified += result.get("nModified", 0)
        self.deleted += result.get("nRemoved", 0)

    def merge(self, other: "WriteReport") -> None:
        """Add another report's counts and failures."""
        self.inserted += other.inserted
        self.upserted += other.upserted
        self.matched += other.matched
        self.modified += other.modified
        self.deleted += other.deleted
        self.failures += other.failures

    def raise_failures(self) -> None:
        """Raise where any operation was refused.

        Raises:
            PermanentError: naming how many, and the first with its reason.
        """
        if self.failures:
            first = self.failures[0]
            raise PermanentError(
                f"MongoDB refused {len(self.failures)} operations; the first, number {first.index}: "
                f"{first.reason}"
            )


def unfit_for_bson(document: Mapping[str, Any]) -> str | None:
    """Why MongoDB cannot hold `document`, or None.

    Reasons: over 16 MB, integers over 64 bits, text that is no UTF-8, NUL in a key, nested too deep.
    """
    try:
        size = len(bson.encode(document))
    except (bson.errors.BSONError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    if size > MAX_DOCUMENT_BYTES:
        return f"document of {size:,} bytes, MongoDB holds {MAX_DOCUMENT_BYTES:,}"
    return None


def without_unfit(
    rows: Sequence[Operation], places: Sequence[int], report: WriteReport, error: Exception
) -> tuple[list[Operation], list[int]]:
    """Take out the operations that BSON cannot hold, as failures of the report."""
    kept: list[Operation] = []
    kept_places: list[int] = []
    for row, place in zip(rows, places, strict=True):
        body = getattr(row, "_doc", None)
        parts = {"filter": getattr(row, "_filter", None), "body": body}
        reason = unfit_for_bson(parts)
        if reason is None:
            kept.append(row)
            kept_places.append(place)
        else:
            report.failures.append(RowFailure(place, None, reason))
    if len(kept) == len(rows):  # not a row's fault that we can name
        raise PermanentError(f"a batch could not be encoded: {error}") from error
    return kept, kept_places


def bulk(
    collection: Collection[Document], rows: Sequence[Operation], session: ClientSession | None
) -> BulkWriteResult:
    """Write rows whose order does not matter, inside a transaction or (session None) without.

    The first refused row ends a transaction. Unordered, pymongo would send the next command into it all the
    same, and the answer, that there is no such transaction, would pass for a conflict to be tried again
    without end. So a transaction is ordered: inserts, updates, deletions, one command each.
    """
    if session is None:
        return collection.bulk_write(rows, ordered=False)
    return collection.bulk_write(sorted(rows, key=command_of), ordered=True, session=session)


def command_of(row: Operation) -> int:
    """Which command carries an operation: 0 insert, 1 update, 2 delete."""
    if isinstance(row, InsertOne):
        return 0
    return 2 if isinstance(row, DeleteOne | DeleteMany) else 1


def take_result(error: BulkWriteError, places: Sequence[int], report: WriteReport) -> None:
    """Add what an unordered bulk write did and refused to the report.

    Args:
        error: what pymongo raised.
        places: of its rows, in what was given to be written.
        report: gets counts and failures.

    Raises:
        TransientError: the server did not confirm the write.
    """
    details = error.details
    report.add(details)
    for problem in details.get("writeErrors", ()):
        report.failures.append(
            RowFailure(places[problem["index"]], problem.get("code"), str(problem.get("errmsg", problem)))
        )
    if details.get("writeConcernErrors"):
        raise TransientError(
            f"MongoDB did not confirm a write: {details['writeConcernErrors'][0]}"
        ) from error
