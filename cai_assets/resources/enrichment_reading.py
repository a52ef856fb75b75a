"""Reading documents for the enrichment: one bounded range and one cursor a partition."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any, Final, TypeVar, cast

import bson
from pymongo.errors import PyMongoError

from cai_assets.resources.mongo import MongoStore

Item = TypeVar("Item")

# Documents of one answer of the server. Left to itself it gives 16 MB at once, which are many times as much
# as Python objects, and take longer (100,000 documents: 1.1 s instead of 0.45 s).
_BATCH: Final = 5000


def find(mongo: MongoStore, name: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Documents of a collection.

    Whole ones: the embedded server gives 100,000 a second as they are, and a third of that with a projection.

    Raises:
        TransientError: the database cannot be reached.
        PermanentError: it refuses.
    """
    try:
        yield from mongo.collection(name).find(query)
    except PyMongoError as error:
        raise mongo.explain(error) from error


def scan(mongo: MongoStore, name: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Many documents of a collection, the next fetched while these are worked on; errors as for `find`."""
    collection = mongo.collection(name)
    try:
        with (
            ThreadPoolExecutor(1, thread_name_prefix="scan") as ahead,
            closing(collection.find_raw_batches(query, batch_size=_BATCH)) as batches,
        ):
            following = ahead.submit(next, batches, None)
            while (batch := following.result()) is not None:
                following = ahead.submit(next, batches, None)
                yield from bson.decode_all(cast(bytes, batch), collection.codec_options)
    except PyMongoError as error:
        raise mongo.explain(error) from error


def live(mongo: MongoStore, name: str, partition: str) -> Iterator[dict[str, Any]]:
    """The live documents of a partition.

    Dead ones are left out here and not by the query: the embedded server uses an index only where it holds
    every field that is asked for, and would else scan the whole collection for every day.
    """
    return (one for one in scan(mongo, name, {"partition": partition}) if not one["deleted_at"])


def chunks(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in lists of `size`."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk
