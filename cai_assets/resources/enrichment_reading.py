"""Reading documents for the enrichment: one bounded range and one cursor a partition."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from pymongo.errors import PyMongoError

from cai_assets.resources.mongo import MongoStore

Item = TypeVar("Item")


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


def live(mongo: MongoStore, name: str, partition: str) -> Iterator[dict[str, Any]]:
    """The live documents of a partition.

    Dead ones are left out here and not by the query: the embedded server uses an index only where it holds
    every field that is asked for, and would else scan the whole collection for every day.
    """
    return (one for one in find(mongo, name, {"partition": partition}) if not one["deleted_at"])


def chunks(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in lists of `size`."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk
