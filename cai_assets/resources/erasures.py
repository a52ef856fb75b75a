"""The collection `erasures`: who was erased (as marks), what was dropped for it, and how far an erasure is.

What a mark is and whose a row is belongs to `domain.erasure`; the work itself is `erasing`'s.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import SecretStr
from pymongo import DeleteOne, ReplaceOne, UpdateOne
from pymongo.errors import PyMongoError

from cai_assets.domain.erasure import Erased, key_mark
from cai_assets.domain.needles import Needle
from cai_assets.domain.pseudonyms import key_of
from cai_assets.failures import PermanentError
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.mongo_writes import Document, Operation

COLLECTION: Final = "erasures"
_NEEDLES_OF_A_DOCUMENT: Final = 500
_LETTERS_OF_A_DOCUMENT: Final = 2_000_000


class Erasures:
    """The records of one database.

    Args:
        store: the database.
    """

    def __init__(self, store: MongoStore) -> None:
        self._store = store
        self._collection = store.collection(COLLECTION)

    # -- who

    def erased(self, pseudonym_key: SecretStr | None) -> Erased | None:
        """Everybody who was erased; None where nobody was.

        Raises:
            PermanentError: somebody was, and the key is missing or another one than then.
        """
        persons: set[str] = set()
        conversations: set[str] = set()
        keys: set[str] = set()
        for one in self._find({"kind": {"$in": ["person", "conversation"]}}):
            kind, _, mark = one["_id"].partition("/")
            (persons if kind == "person" else conversations).add(mark)
            keys.add(one["key"])
        if not persons:
            return None
        key = key_of(pseudonym_key)
        if keys != {key_mark(key)}:
            raise PermanentError(
                f"{len(persons)} persons were erased under another PSEUDONYM_KEY, so they could not be told "
                "and would be imported again: set the key of then, or remove the marks "
                "(`cai erase --forget-marks`) and erase them again under the new key"
            )
        return Erased(key, frozenset(persons), frozenset(conversations))

    def mark(self, person: str, conversations: Iterable[str], key: bytes) -> None:
        """Put up tombstones; those that stand stay.

        Args:
            person: the person's mark.
            conversations: marks of their conversations.
            key: PSEUDONYM_KEY.
        """
        fields = {"key": key_mark(key), "at": datetime.now(UTC)}
        operations: list[Operation] = [
            UpdateOne(
                {"_id": f"person/{person}"}, {"$setOnInsert": {"kind": "person", **fields}}, upsert=True
            )
        ]
        operations += [
            UpdateOne(
                {"_id": f"conversation/{one}"},
                {"$setOnInsert": {"kind": "conversation", **fields}},
                upsert=True,
            )
            for one in sorted(conversations)
        ]
        self._write(operations)

    def forget_marks(self) -> int:
        """Remove all tombstones; how many persons they were for."""
        ids = [one["_id"] for one in self._find({"kind": {"$in": ["person", "conversation"]}})]
        self._write([DeleteOne({"_id": one}) for one in ids])
        return sum(one.startswith("person/") for one in ids)

    def add_conversations(self, marks: Iterable[str], key: bytes) -> None:
        """Put up tombstones of conversations that an erased person began since."""
        fields = {"kind": "conversation", "key": key_mark(key), "at": datetime.now(UTC)}
        self._write(
            [
                UpdateOne({"_id": f"conversation/{one}"}, {"$setOnInsert": fields}, upsert=True)
                for one in sorted(marks)
            ]
        )

    # -- what was dropped: a term of the equations

    def dropped(self, table: str, partitions: Sequence[str]) -> dict[str, int]:
        """By day, raw rows that became no document because their person was erased."""
        found = self._find({"kind": "dropped", "table": table})
        wanted = set(partitions)
        return {one["partition"]: one["n"] for one in found if one["partition"] in wanted}

    def set_dropped(self, table: str, counts: Mapping[str, int]) -> None:
        """Note how many raw rows of these days were dropped; 0 takes the note away."""
        operations: list[Operation] = []
        for day, count in counts.items():
            identity = f"dropped/{table}/{day}"
            note = {"_id": identity, "kind": "dropped", "table": table, "partition": day, "n": count}
            operations.append(
                ReplaceOne({"_id": identity}, note, upsert=True) if count else DeleteOne({"_id": identity})
            )
        self._write(operations)

    # -- how far

    def journal(self, person: str) -> Document | None:
        """The record of a person's erasure: `state` (running, done), `days`, counts, receipt."""
        return next(self._find({"_id": f"journal/{person}"}), None)

    def journals(self) -> list[Document]:
        """All records, the newest first."""
        return sorted(self._find({"kind": "journal"}), key=lambda one: one["began_at"], reverse=True)

    def note(self, person: str, values: Mapping[str, Any]) -> None:
        """Write fields of a person's record; the first call makes it."""
        first = {"kind": "journal", "began_at": datetime.now(UTC)}
        first = {name: value for name, value in first.items() if name not in values}
        self._write(
            [
                UpdateOne(
                    {"_id": f"journal/{person}"}, {"$set": dict(values), "$setOnInsert": first}, upsert=True
                )
            ]
        )

    def keep_needles(self, person: str, needles: Iterable[Needle]) -> None:
        """Keep what the proof searches for, as it is about to be removed everywhere else."""
        self.drop_needles(person)
        operations: list[Operation] = []
        part: list[list[str]] = []
        letters = 0

        def close() -> None:
            nonlocal part, letters
            if part:
                identity = f"needles/{person}/{len(operations):06}"
                kept = {"_id": identity, "kind": "needles", "person": person, "values": part}
                operations.append(ReplaceOne({"_id": identity}, kept, upsert=True))
            part, letters = [], 0

        for one in sorted(needles, key=lambda needle: (needle.kind, needle.value)):
            part.append([one.kind, one.value])
            letters += len(one.value)
            if len(part) >= _NEEDLES_OF_A_DOCUMENT or letters >= _LETTERS_OF_A_DOCUMENT:
                close()
        close()
        self._write(operations)

    def needles(self, person: str) -> frozenset[Needle]:
        """What was kept."""
        found = self._find({"kind": "needles", "person": person})
        return frozenset(Needle(kind, value) for one in found for kind, value in one["values"])

    def drop_needles(self, person: str) -> None:
        """Remove what was kept."""
        ids = [one["_id"] for one in self._find({"kind": "needles", "person": person})]
        self._write([DeleteOne({"_id": one}) for one in ids])

    # --

    def _find(self, query: Mapping[str, Any]) -> Iterator[Document]:
        try:
            yield from self._collection.find(query)
        except PyMongoError as error:
            raise self._store.explain(error) from error

    def _write(self, operations: Sequence[Operation]) -> None:
        if operations:
            self._store.write(COLLECTION, operations).raise_failures()
