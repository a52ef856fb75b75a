"""The translation documents of one partition in little memory: what stands, what is obsolete."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from cai_assets.domain.translation import translation_id
from cai_assets.resources.enrichment_reading import scan
from cai_assets.resources.mongo import MongoStore


def state_of(conversation_id: str, text_hash: str, source: str, status: str, error: str | None) -> int:
    """All that a translation document says but its text and its partition, in 64 bits, for this process."""
    return hash((conversation_id, text_hash, source, status, error))


class Stored:
    """What is stored for a partition: a number for each document, not the documents.

    A document of the present target language and prompt version stands while it says what it would say now.
    One of another prompt version stands as well, until it is asked for anew.

    Args:
        mongo: the database.
        partition: day.
        target: language wanted.
        version: prompt version in force.
    """

    def __init__(self, mongo: MongoStore, partition: str, target: str, version: str) -> None:
        self._target = target
        self._version = version
        self._current: dict[str, int] = {}
        self._older: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self._foreign: list[str] = []
        for one in scan(mongo, "translations", {"partition": partition}):
            state = state_of(
                one["conversation_id"],
                one["text_hash"],
                one["source_language"],
                one["status"],
                one.get("error"),
            )
            if one["target_language"] != target:
                self._foreign.append(one["_id"])
            elif one["prompt_version"] == version:
                self._current[one["message_id"]] = state
            else:
                self._older[one["message_id"]].append((one["_id"], state))
        self._kept: set[str] = set()

    def stands(self, message_id: str, conversation_id: str, text_hash: str, source: str, anew: bool) -> bool:
        """Whether a message has its translation; what stands is not obsolete. To be asked once a message.

        Args:
            message_id: of a live message of the partition.
            conversation_id: its conversation.
            text_hash: of its text now.
            source: its language now.
            anew: whether only one of the present prompt version will do.
        """
        wanted = state_of(conversation_id, text_hash, source, "ok", None)
        if self._current.get(message_id) == wanted:
            del self._current[message_id]
            return True
        older = [one for one, state in self._older.get(message_id, ()) if state == wanted]
        # While it is asked for anew, and where that fails, the older one still serves.
        self._kept.update(older[:1])
        return bool(older) and not anew

    def of(self, message_id: str) -> tuple[int | None, tuple[str, ...]]:
        """What a message's document says now, and the ids of what a new one replaces."""
        return self._current.get(message_id), tuple(one for one, _ in self._older.get(message_id, ()))

    def obsolete(self, wanted: Iterable[str]) -> Iterator[str]:
        """Documents that belong to nothing any more.

        Args:
            wanted: messages that are to be translated; their documents are replaced, not removed.
        """
        todo = set(wanted)
        yield from self._foreign
        for message_id in self._current:
            if message_id not in todo:
                yield translation_id(message_id, self._target, self._version)
        for older in self._older.values():
            for one, _ in older:
                if one not in self._kept:
                    yield one
