"""Whose rows are to go, and whose must not come back: rows of the source and of the ledger, one by one. Pure.

An erased person is known by a keyed hash alone (a tombstone), as the source may hold the person still. What
is removed where belongs to `resources.erasing`; how files are searched is `domain.needles`'.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cai_assets.domain.parsing import parse_id
from cai_assets.domain.pseudonyms import keyed_hash, pseudonym
from cai_assets.schemas.base import Table

ERASED: Final = "erased"
"""What stands for the conversation in a row of the ledger whose person is erased."""

PERSON_COLUMNS: Final = frozenset(("user_id", "sender_id"))
"""Columns of the lake's tables that hold the pseudonym of a user."""
CONVERSATION_COLUMNS: Final = frozenset(("conversation_id",))
MESSAGE_COLUMNS: Final = frozenset(("message_id",))
OTHER_IDS: Final = frozenset(
    (
        "agent_id",
        "last_agent_id",
        "first_bot_id",
        "replier_id",
        "call_id",
        "workflow_run_id",
        "source_id",
        "id",
    )
)
"""Columns of ids that are no person's: of staff, of calls, of the source's rows."""
TEXT_COLUMNS: Final = frozenset(("text", "error", "row", "tags"))
"""Columns of what people or models wrote."""
ROWS_OF_SOURCE: Final = frozenset((("raw", "conversations"), ("raw", "messages")))
"""Tables whose rows are JSON texts of the source."""
ANONYMISED: Final = frozenset((("lake", "llm_calls"), ("facts", "fct_llm_call")))
"""Tables whose rows stay without the person: the ledger, whose sums are money."""

SUMS: Final = frozenset(
    (
        ("settings", "business_day"),
        ("facts", "fct_traffic"),
        ("facts", "fct_term"),
        *(("marts", name) for name in ("volume", "response", "resolution", "containment", "language")),
        *(("marts", name) for name in ("category", "cost", "agent", "csat", "active_users", "retention")),
        *(("marts", name) for name in ("local_hour", "heatmap", "funnel", "handling", "terms")),
        ("marts", "response_histogram"),
    )
)
"""Tables whose rows are of no single person: they are made again from what is left."""

_KEPT_OF_CALLS: Final = frozenset(
    (
        *("partition", "purpose", "status", "model", "tokens", "price", "currency", "latency_ms", "attempts"),
        *("created_at", "created_us", "run_id"),
    )
)
"""Fields of the ledger that are about the call, not about the person: sums over them stay what they were."""


def person_mark(pseudonym_of_user: str, key: bytes) -> str:
    """The tombstone of a person: a keyed hash of the pseudonym, from which neither it nor the id is told."""
    return keyed_hash(f"person:{pseudonym_of_user}", key)


def conversation_mark(conversation_id: str, key: bytes) -> str:
    """The tombstone of a conversation."""
    return keyed_hash(f"conversation:{conversation_id}", key)


def key_mark(key: bytes) -> str:
    """By which tombstones tell under which key they were made."""
    return keyed_hash("the key of tombstones", key)


@dataclass(frozen=True)
class Erased:
    """Everybody who was erased; tells whose rows must not come in.

    Attributes:
        key: PSEUDONYM_KEY.
        persons: marks of persons.
        conversations: marks of their conversations.
    """

    key: bytes = field(repr=False)
    persons: frozenset[str] = frozenset()
    conversations: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.persons)

    def user(self, value: Any) -> bool:
        """Whether a user id of a source row is that of an erased person."""
        user_id = text_id(value)
        return user_id is not None and person_mark(pseudonym(user_id, self.key), self.key) in self.persons

    def conversation(self, value: Any) -> bool:
        """Whether a conversation id is known to be of an erased person."""
        conversation_id = text_id(value)
        return (
            conversation_id is not None and conversation_mark(conversation_id, self.key) in self.conversations
        )

    def row(self, table: str, values: Mapping[str, Any]) -> bool:
        """Whether a row of the source is of an erased person.

        Args:
            table: "conversations" or "messages".
            values: the row.
        """
        if not self.persons:
            return False
        if table == "conversations":
            return self.user(values.get("user_id"))
        return self.conversation(values.get("conversation_id")) or (
            values.get("sender_type") == "user" and self.user(values.get("sender_id"))
        )

    def json_row(self, table: str, row: str) -> bool:
        """The same of a row as JSON text."""
        return bool(self.persons) and self.row(table, values_of(row))

    def marks_of(self, row: str) -> set[str]:
        """The mark of the conversation that a row, as JSON text, is of; none where it names none."""
        conversation_id = text_id(values_of(row).get("conversation_id"))
        return set() if conversation_id is None else {conversation_mark(conversation_id, self.key)}


@dataclass(frozen=True)
class Person:
    """A person who is being erased.

    Attributes:
        pseudonym: stands for the person outside MongoDB.
        user_id: as the source has it; None where only the pseudonym is known.
        conversations: ids of the person's conversations.
    """

    pseudonym: str
    user_id: str | None
    conversations: frozenset[str] = frozenset()

    def is_row(self, table: str, values: Mapping[str, Any]) -> bool:
        """Whether a row of the source is the person's: theirs, of their conversation, or written by them."""
        if table == "conversations":
            return self._is_user(values.get("user_id"))
        return text_id(values.get("conversation_id")) in self.conversations or (
            values.get("sender_type") == "user" and self._is_user(values.get("sender_id"))
        )

    def is_json_row(self, table: str, row: str) -> bool:
        """The same of a row as JSON text; one that is no JSON is nobody's."""
        return self.is_row(table, values_of(row))

    def _is_user(self, value: Any) -> bool:
        return self.user_id is not None and text_id(value) == self.user_id


def holds_persons(table: Table) -> bool:
    """Whether a table has rows that belong to one person or conversation; the others are sums."""
    return table.path in ROWS_OF_SOURCE or bool(
        table.by_name.keys() & (PERSON_COLUMNS | CONVERSATION_COLUMNS | MESSAGE_COLUMNS)
    )


def text_id(value: Any) -> str | None:
    """An id of a source row as documents have it; None where it is none."""
    try:
        return parse_id(value)
    except ValueError:
        return None


def values_of(row: str) -> Mapping[str, Any]:
    """The values of a row as JSON text; empty where it is no object."""
    try:
        values = json.loads(row)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def anonymous_call(call: Mapping[str, Any], key: bytes, *, shared: bool = False) -> dict[str, Any]:
    """A row of the ledger without the person: what was paid stays, whom for is gone.

    Args:
        call: document of `llm_calls`.
        key: PSEUDONYM_KEY; the new ids are keyed hashes, so that doing it twice gives one row.
        shared: the run was about texts of others too, whose rows name it; the row must count as the same run.
    """
    run = call.get("workflow_run_id")
    kept = {name: value for name, value in call.items() if name in _KEPT_OF_CALLS}
    return {
        "_id": f"{ERASED}-{keyed_hash(str(call['_id']), key)}",
        **kept,
        "conversation_id": ERASED,
        "message_id": None,
        "workflow_run_id": run if run is None or shared else f"{ERASED}-{keyed_hash(str(run), key)}",
        "error": ERASED if call.get("error") is not None else None,
    }
