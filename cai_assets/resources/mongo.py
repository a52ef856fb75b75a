"""MongoDB: the collections by the platform's names, their indexes, and bulk writing.

What every user of the database needs belongs here. The connection and what its errors mean stand in
`mongo_connection`, replacing partitions of documents in `mongo_documents`, reading Arrow tables in
`mongo_arrow`; the declarations in `schemas.documents`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import bson
import pyarrow as pa
import pymongo
from bson.codec_options import CodecOptions
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, PyMongoError

from cai_assets.domain.documents import DocumentBatch
from cai_assets.failures import PermanentError, TransientError, call_with_retries
from cai_assets.resources import mongo_connection, mongo_documents
from cai_assets.resources.mongo_documents import Replacement
from cai_assets.resources.mongo_writes import (
    Document,
    Operation,
    WriteReport,
    bulk,
    take_result,
    without_unfit,
)
from cai_assets.schemas.documents import COLLECTIONS
from cai_assets.settings import Settings

if TYPE_CHECKING:
    from cai_assets.domain.erasure import Erased

__all__ = ["Document", "MongoStore", "Operation", "WriteReport"]

BATCH_TIMEOUT_S = 90.0
"""Longest one batch may take. Without it `with_transaction` tries for 120 s against a server that died."""

EMBEDDED_WRITERS = 2
"""Batches under way at once on the embedded server: one is written while the next is encoded. More only cost:
it needs 19 µs for a document with one writer, 21 with two and 28 with eight, and eight transactions of 5000
documents did not come to an end in ten minutes."""


class MongoStore:
    """The platform's database; threads may share it. Use as a context manager, or `close` it.

    Args:
        client: connected client; the store closes it.
        database: name of the database.
        names: the platform's collection name → the database's, where they differ.
        batch_size: operations of one bulk write (and one transaction).
        workers: batches under way at once where their order does not matter; fewer on the embedded server.
        max_retries: further tries of a batch after a failure that can pass.
        retry_delay: seconds before the first of them.

    Raises:
        PermanentError: the server refuses the user or the database.
        TransientError: the server cannot be reached.
    """

    def __init__(
        self,
        client: MongoClient[Document],
        database: str,
        *,
        names: Mapping[str, str] | None = None,
        batch_size: int = 1000,
        workers: int = 8,
        max_retries: int = 5,
        retry_delay: float = 1.0,
    ) -> None:
        self.client = client
        self.batch_size = batch_size
        self._max_retries = max_retries
        self._retry_delay = retry_delay
        self._names = dict(names or {})
        self.database: Database[Document] = client.get_database(
            database, codec_options=CodecOptions(tz_aware=True)
        )
        hello = self._ping()
        self.workers = min(workers, EMBEDDED_WRITERS) if hello.get("setName") == "secantus" else workers
        # A replica set or a router of a sharded cluster has transactions, a standalone server has none.
        self.transactions = "setName" in hello or hello.get("msg") == "isdbgrid"

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Connect as MONGODB_URI says and make sure that the indexes exist.

        Raises:
            PermanentError: no MONGODB_URI, or it is malformed, or the server refuses the user.
            TransientError: nothing answers at that address within 5 s.
        """
        client = mongo_connection.connect(settings)
        try:
            store = cls(
                client,
                settings.mongodb_database,
                names={
                    "conversations": settings.mongodb_conversations_collection,
                    "messages": settings.mongodb_messages_collection,
                    "categories": settings.mongodb_categories_collection,
                    "translations": settings.mongodb_translations_collection,
                    "analytics_reports": settings.mongodb_analytics_reports_collection,
                    "user_analytics": settings.mongodb_user_analytics_collection,
                },
                batch_size=settings.batch_size,
                workers=settings.io_workers,
                max_retries=settings.max_retries,
                retry_delay=settings.retry_delay,
            )
            store.ensure_indexes()
        except BaseException:
            client.close()
            raise
        return store

    def _ping(self) -> Mapping[str, Any]:
        try:
            hello: Mapping[str, Any] = self.client.admin.command("hello")
            # `hello` needs no rights; this asks for some, so a wrong password shows here.
            self.database.command("listCollections", nameOnly=True, authorizedCollections=True)
        except PyMongoError as error:
            raise self.explain(error) from None
        return hello

    def explain(self, error: PyMongoError) -> PermanentError | TransientError:
        """The platform's error for one of pymongo's: names the server, never the password."""
        return mongo_connection.explain(error, self.client, self.database.name)

    def collection(self, name: str) -> Collection[Document]:
        """The collection that the platform calls `name` (a key of `schemas.documents.COLLECTIONS`).

        Raises:
            KeyError: no such collection is declared.
        """
        if name not in COLLECTIONS:
            raise KeyError(f"{name!r} is no declared collection; there are {sorted(COLLECTIONS)}")
        return self.database[self._names.get(name, name)]

    def ensure_indexes(self) -> None:
        """Make every declared collection and index that does not exist yet.

        Raises:
            PermanentError: an index of the same name and another shape is there, or no right to make one.
        """
        try:
            existing = set(self.database.list_collection_names())
            for name, declared in COLLECTIONS.items():
                collection = self.collection(name)
                if collection.name not in existing:
                    self._create(collection.name)
                models = [
                    pymongo.IndexModel(
                        [(one, pymongo.ASCENDING) for one in index.fields],
                        **({"unique": True} if index.unique else {}),
                        **({"sparse": True} if index.sparse else {}),
                    )
                    for index in declared.indexes
                ]
                if models:
                    collection.create_indexes(models)
        except PyMongoError as error:
            raise self.explain(error) from error

    def _create(self, name: str) -> None:
        # Made beforehand: inside a transaction older servers cannot make collections.
        try:
            self.database.create_collection(name, check_exists=False)
        except OperationFailure as error:
            if error.code != mongo_connection.NAMESPACE_EXISTS:  # another process was faster
                raise

    def lacking_rights(self) -> list[str]:
        """The actions, by MongoDB's names, that the user may not do in the database; they are tried."""
        try:
            return mongo_connection.lacking_rights(self.database)
        except PyMongoError as error:
            raise self.explain(error) from error

    # -- writing

    def write(self, name: str, operations: Iterable[Operation]) -> WriteReport:
        """Write operations whose order does not matter, in bulk batches, several batches at once.

        A batch is one transaction where the server has them: whole or not at all, and on the embedded
        durable server twenty times faster. A batch in which rows are refused is written again row by row,
        so that its good rows stay.

        Args:
            name: the platform's name of the collection.
            operations: pymongo's operations; taken from the iterable as batches are free.

        Returns:
            Counts, and the refused operations by row: what BSON cannot hold (over 16 MB, integers over 64
            bits, lone surrogates, NUL in a key) and what the server refuses (a duplicate key, …).

        Raises:
            TransientError: the server went away and did not come back within the retries.
            PermanentError: the server refuses the command as such (rights, a full disk).
        """
        report = WriteReport()
        for part in self.parallel(
            lambda batch: self._write_batch(name, *batch), batches_of(operations, self.batch_size)
        ):
            report.merge(part)
        report.failures.sort(key=lambda failure: failure.index)
        return report

    def parallel(self, function: Any, items: Iterable[Any]) -> Iterator[Any]:
        """Results of `function` over `items`, in their order, at most `workers` of them under way."""
        if self.workers == 1:
            yield from map(function, items)
            return
        source = iter(items)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="mongo") as pool:
            waiting = [pool.submit(function, item) for item in islice(source, self.workers)]
            try:
                while waiting:
                    result = waiting.pop(0).result()
                    waiting.extend(pool.submit(function, item) for item in islice(source, 1))
                    yield result
            finally:
                for future in waiting:
                    future.cancel()

    def _write_batch(self, name: str, first: int, operations: Sequence[Operation]) -> WriteReport:
        report = WriteReport()
        places = list(range(first, first + len(operations)))
        rows = list(operations)
        collection = self.collection(name)
        while rows:
            try:
                self.run_batch(partial(bulk, collection, rows), report)
            except BulkWriteError as error:
                if self.transactions:  # nothing of it was kept: again without, which tells all rows apart
                    self._write_plain(collection, rows, places, report)
                else:
                    take_result(error, places, report)
            except (bson.errors.BSONError, DocumentTooLarge, OverflowError, UnicodeEncodeError) as error:
                rows, places = without_unfit(rows, places, report, error)
                continue
            break
        return report

    def _write_plain(
        self,
        collection: Collection[Document],
        rows: Sequence[Operation],
        places: Sequence[int],
        report: WriteReport,
    ) -> None:
        def once() -> None:
            try:
                with pymongo.timeout(BATCH_TIMEOUT_S):
                    report.add(collection.bulk_write(rows, ordered=False).bulk_api_result)
            except BulkWriteError as error:
                take_result(error, places, report)
            except PyMongoError as error:
                raise self.explain(error) from error

        call_with_retries(self._max_retries, self._retry_delay, once)

    def run_batch(self, body: Any, report: WriteReport | None = None, *, transactions: bool = True) -> Any:
        """Run `body(session)` as one transaction, and again on failures that can pass.

        Where the server has no transactions, session is None.

        Args:
            body: does the writing; it may run several times.
            report: gets the counts of what `body` returns (a bulk result), once, after it is committed.
            transactions: False for a batch that is too large for one.

        Raises:
            TransientError: it did not come to an end within the retries.
            PermanentError: the server refuses.
            BulkWriteError: rows were refused; with transactions nothing was kept.
        """

        def once() -> Any:
            try:
                with pymongo.timeout(BATCH_TIMEOUT_S):
                    if not (self.transactions and transactions):
                        return body(None)
                    with self.client.start_session() as session:
                        return session.with_transaction(body)
            except BulkWriteError as error:
                if error.has_error_label("TransientTransactionError"):
                    raise TransientError(f"a write conflict did not pass: {error}") from error
                raise
            except PyMongoError as error:
                raise self.explain(error) from error

        result = call_with_retries(self._max_retries, self._retry_delay, once)
        if report is not None:
            report.add(result.bulk_api_result)
        return result

    # -- documents by partition

    def replace_partitions(self, batch: DocumentBatch, *, run_id: str, now: datetime) -> Replacement:
        """Make the documents of whole partitions equal to their raw rows.

        Unchanged documents are not touched. `ingested_at` stays from the first writing, `changed_at` and
        `run_id` tell the last change. What is gone from the source is marked `deleted_at`, and revived when
        it comes back. Of several rows with one business id the greatest by (written last, row number, day)
        lives; the others are kept in its `superseded` list, and live again when it goes. Rejects replace the
        partition's quarantine. A crash leaves some documents of a day new; doing it again ends it.

        Args:
            batch: what `documents_from_raw` made.
            run_id: of the run that does it.
            now: the time to stamp, cut to milliseconds.

        Raises:
            TransientError: the server went away, or another run keeps writing the same documents.
            PermanentError: the server refuses, or the raw rows contradict themselves.
        """
        return mongo_documents.replace_partitions(self, batch, run_id=run_id, now=now)

    def read_arrow(self, name: str, partitions: Sequence[str]) -> pa.Table:
        """Live documents of partitions, under the names and types of their lake table; not sorted.

        Args:
            name: a collection with a lake table: conversations, messages, translations, categories or
                llm_calls.
            partitions: days.

        Raises:
            PermanentError: a document holds a value of another type than the lake's.
        """
        from cai_assets.resources import (
            mongo_arrow,  # pymongoarrow imports pandas and Polars if it finds them
        )

        return mongo_arrow.read_arrow(self, name, partitions)

    def read_batches(self, name: str, partitions: Sequence[str], chunk_size: int) -> Iterator[pa.RecordBatch]:
        """As `read_arrow`, in batches of at most about `chunk_size` rows; holds one at a time."""
        from cai_assets.resources import mongo_arrow

        return mongo_arrow.read_batches(self, name, partitions, chunk_size)

    def live_ids(self, name: str, partition: str) -> set[str]:
        """Ids of the live documents of one partition."""
        return mongo_documents.live_ids(self, name, partition)

    def live_counts(self, name: str, partitions: Sequence[str]) -> dict[str, int]:
        """Live documents by partition; 0 where there is none."""
        return mongo_documents.live_counts(self, name, partitions)

    def accounted(self, table: str, partitions: Sequence[str]) -> dict[str, dict[str, int]]:
        """What raw rows became, counted anew: `{day: {"live", "quarantined", "superseded"}}`.

        Where rows of erased persons were left out of one of the days, there is "erased" too.
        """
        return mongo_documents.accounted(self, table, partitions)

    def erased(self, pseudonym_key: SecretStr | None) -> "Erased | None":
        """Everybody who was erased; see `Erasures.erased`."""
        from cai_assets.resources.erasures import Erasures

        return Erasures(self).erased(pseudonym_key)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def batches_of(items: Iterable[Any], size: int) -> Iterator[tuple[int, list[Any]]]:
    """`(index of the first, items)` in batches of `size`."""
    source = iter(items)
    first = 0
    while batch := list(islice(source, size)):
        yield first, batch
        first += len(batch)
