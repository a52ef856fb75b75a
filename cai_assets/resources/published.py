"""Report documents in MongoDB: a collection made equal to what was computed elsewhere."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo import DeleteOne, ReplaceOne

from cai_assets.resources.mongo import MongoStore


@dataclass(frozen=True)
class Published:
    """What publishing did, in documents."""

    written: int
    unchanged: int
    removed: int


def _hash(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def publish(
    mongo: MongoStore,
    collection: str,
    documents: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    stamps: Mapping[str, Any],
) -> Published:
    """Make a collection hold exactly these documents; those that have not changed are not written.

    Args:
        mongo: the store.
        collection: platform name of the collection.
        documents: `_id` and content.
        stamps: further fields of the documents that are written, as the run; a change of them alone is none.
    """
    held = {
        document["_id"]: document.get("content_hash")
        for document in mongo.collection(collection).find({}, {"content_hash": 1})
    }
    operations: list[Any] = []
    wanted = set()
    for identity, content in documents:
        wanted.add(identity)
        content_hash = _hash(content)
        if held.get(identity) != content_hash:
            document = {"_id": identity, **content, **stamps, "content_hash": content_hash}
            operations.append(ReplaceOne({"_id": identity}, document, upsert=True))
    written = len(operations)
    gone = [identity for identity in held if identity not in wanted]
    operations += [DeleteOne({"_id": identity}) for identity in gone]
    if operations:
        mongo.write(collection, operations).raise_failures()
    return Published(written=written, unchanged=len(wanted) - written, removed=len(gone))
