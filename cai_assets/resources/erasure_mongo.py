"""Taking a person out of MongoDB. Every step can be stopped and done again; what is there is found anew.

What is the person's is `erasure_scope`'s to find; which of several versions of an id lives is decided by
`domain.versions`, as everywhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from pymongo import DeleteOne, ReplaceOne, UpdateOne

from cai_assets.domain.erasure import Person, anonymous_call
from cai_assets.domain.versions import decide
from cai_assets.resources.enrichment_reading import find
from cai_assets.resources.erasure_scope import Scope, is_conversation, is_message
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.mongo_writes import Document, Operation

How: TypeAlias = Literal["versions", "delete", "anonymise", "reports", "tokens", "nobody"]

COLLECTIONS_ERASED: Final[Mapping[str, How]] = {
    "conversations": "versions",
    "messages": "versions",
    "translations": "delete",
    "categories": "delete",
    "translation_memory": "delete",
    "llm_calls": "anonymise",
    "llm_claims": "delete",
    "quarantine": "delete",
    "without_day": "delete",
    "user_analytics": "delete",
    "analytics_reports": "reports",
    "dirty_days": "tokens",
    "state": "nobody",
    "erasures": "nobody",
}
"""How a person goes out of each collection: version by version; whole documents; rows of the ledger without
the person; made again with the reports; hashes of rows forgotten, which makes their days be read once more;
or the collection holds nothing of anybody (but for an erasure under way, which cleans up after itself)."""


def remove(store: MongoStore, scope: Scope, key: bytes) -> dict[str, int]:
    """Remove all that a scope found; documents that changed meanwhile are found by the next look.

    Args:
        store: the database.
        scope: what was found.
        key: PSEUDONYM_KEY.

    Returns:
        Documents removed or changed, by collection.

    Raises:
        TransientError, PermanentError: MongoDB does not answer, or refuses.
    """
    done: dict[str, int] = {}
    # Claims and the ledger first: they are found by the conversations, which go last.
    order = sorted(COLLECTIONS_ERASED, key=lambda name: (name == "conversations", name == "messages"))
    for name in order:
        documents = scope.documents.get(name, [])
        operations: list[Operation] = []
        match COLLECTIONS_ERASED[name]:
            case "delete":
                operations = [DeleteOne({"_id": one["_id"]}) for one in documents]
            case "anonymise":
                operations = list(_anonymised(store, documents, key))
            case "versions":
                operations = [_without(name, scope.person, one) for one in documents]
            case "tokens":
                operations = [
                    UpdateOne({"_id": day}, {"$set": {"versions": []}}) for day in sorted(scope.days)
                ]
            case _:
                continue
        if operations:
            store.write(name, operations).raise_failures()
        if documents:
            done[name] = len(documents)
    return done


def _without(name: str, person: Person, document: Document) -> Operation:
    """What becomes of a document: it goes, or lives on in a version that is somebody else's."""

    def ours(fields: Mapping[str, Any]) -> bool:
        if name == "messages":
            return is_message(person, fields)
        return is_conversation(person, document["_id"], fields)

    mine = ours(document)
    # Versions that lost inside their day are kept without fields: whose they were is not known any more. They
    # go with the live version; the day brings back those that are not the person's.
    others = [
        entry
        for entry in document.get("superseded") or ()
        if ("fields" in entry and not ours(entry["fields"])) or ("fields" not in entry and not mine)
    ]
    if not mine:
        keep: Document = {"$unset": ["superseded"]}
        if others:
            keep = {"$set": {"superseded": {"$literal": others}}}
        counted: Document = {"$set": {"revision": {"$add": ["$revision", 1]}}}
        steps: list[Document] = [keep, counted]
        return UpdateOne({"_id": document["_id"]}, steps)
    decision = decide(document["partition"], [], {**document, "superseded": others, "deleted_at": None})
    if decision.change != "set":
        return DeleteOne({"_id": document["_id"]})
    stamps = {str(name): document[name] for name in _STAMPS if name in document}
    lives: Document = {"_id": document["_id"], **stamps, **decision.document, "deleted_at": None}
    lives["revision"] = document["revision"] + 1
    if not lives["superseded"]:
        del lives["superseded"]
    return ReplaceOne({"_id": document["_id"]}, lives)


_STAMPS: Final[tuple[str, ...]] = ("ingested_at", "changed_at", "run_id", "schema_version")


def _anonymised(store: MongoStore, calls: Sequence[Document], key: bytes) -> Iterator[Operation]:
    """Rows of the ledger under new ids; the old ones go. The next try heals a crash between the two."""
    mine = {one["_id"] for one in calls}
    for one in calls:
        run = one.get("workflow_run_id")
        together = "/" in one["_id"] and run is not None
        shared = together and any(
            other["_id"] not in mine and not str(other["conversation_id"]).startswith("erased")
            for other in find(store, "llm_calls", {"_id": {"$gte": f"{run}/", "$lt": f"{run}0"}})
        )
        anonymous = anonymous_call(one, key, shared=shared)
        yield ReplaceOne({"_id": anonymous["_id"]}, anonymous, upsert=True)
        yield DeleteOne({"_id": one["_id"]})
