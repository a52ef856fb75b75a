"""Where a person is: in which documents, in which tables and days, and which texts are theirs.

Nothing is changed here. What is removed, and how, is in `erasure_mongo` and `erasure_lake`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from cai_assets.domain.erasure import (
    CONVERSATION_COLUMNS,
    PERSON_COLUMNS,
    ROWS_OF_SOURCE,
    Person,
    holds_persons,
    values_of,
)
from cai_assets.domain.needles import Needle
from cai_assets.domain.pseudonyms import pseudonym
from cai_assets.domain.redaction import Redactor
from cai_assets.resources.enrichment_reading import chunks, find, scan
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.mongo_writes import Document
from cai_assets.resources.storage import LakeTable

_IDS_OF_A_QUERY: Final = 1000
_BATCH_ROWS: Final = 10_000
Found: TypeAlias = dict[str, list[Document]]


@dataclass
class Scope:
    """All that is a person's.

    Attributes:
        person: who, with the conversations found so far.
        documents: by collection, what was found of the person in MongoDB.
        rows: by table ("layer/name"), rows by day; the empty day for a table without days.
        needles: ids and texts, for the proof.
        reassigned: conversations that were the person's and are somebody else's now; they stay theirs.
    """

    person: Person
    documents: Found = field(default_factory=dict)
    rows: dict[str, Counter[str]] = field(default_factory=dict)
    needles: set[Needle] = field(default_factory=set)
    reassigned: set[str] = field(default_factory=set)

    @property
    def days(self) -> set[str]:
        """Days whose documents or rows are the person's."""
        in_tables = {day for counts in self.rows.values() for day in counts if day}
        return in_tables | {day for some in self.documents.values() for one in some for day in _days_of(one)}

    def source_rows(self, table: str) -> set[int]:
        """Numbers of the source's rows that a table's documents, or rows without one, came from."""
        kept = (one for name in ("quarantine", "without_day") for one in self.documents.get(name, ()))
        of_table = [one for one in kept if one["table"] == table]
        return {one["source_id"] for one in (*self.documents.get(table, ()), *of_table)}

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the person is there."""
        return not any(self.documents.values()) and not any(self.rows.values())


def _days_of(document: Mapping[str, Any]) -> Iterator[str]:
    if document.get("partition"):
        yield document["partition"]
    yield from (entry["partition"] for entry in document.get("superseded") or ())


# -- MongoDB


def user_of(store: MongoStore, wanted: str, key: bytes) -> str | None:
    """The user id behind a pseudonym, from the conversations and quarantined rows; None where there is none.

    Every user is hashed for it: a million takes some seconds.
    """
    for one in find_fields(store, "conversations", {}, "user_id", "superseded.fields.user_id"):
        named = {
            one.get("user_id"),
            *(e["fields"].get("user_id") for e in one.get("superseded") or () if "fields" in e),
        }
        for user_id in filter(None, named):
            if pseudonym(user_id, key) == wanted:
                return str(user_id)
    for name in ("quarantine", "without_day"):
        for one in find_fields(store, name, {}, "row"):
            values = values_of(one["row"])
            for field_name in ("user_id", "sender_id"):
                value = values.get(field_name)
                if isinstance(value, str | int) and pseudonym(str(value), key) == wanted:
                    return str(value)
    return None


def find_fields(store: MongoStore, name: str, query: Mapping[str, Any], *fields: str) -> Iterator[Document]:
    """Some fields of documents."""
    from pymongo.errors import PyMongoError

    try:
        yield from store.collection(name).find(query, dict.fromkeys(fields, 1))
    except PyMongoError as error:
        raise store.explain(error) from error


def in_mongo(store: MongoStore, scope: Scope) -> None:
    """Add what MongoDB holds of the person to the scope."""
    user_id = scope.person.user_id
    conversations = {}
    if user_id is not None:
        conversations = {one["_id"]: one for one in find(store, "conversations", {"user_id": user_id})}
        reassigned = find(store, "conversations", {"superseded.fields.user_id": user_id})
        others = {one["_id"]: one for one in reassigned if one["_id"] not in conversations}
        scope.reassigned = {key for key, one in others.items() if one.get("deleted_at") is None}
    else:
        others = {}
    known = scope.person.conversations - scope.reassigned
    for part in chunks(sorted(known - conversations.keys()), _IDS_OF_A_QUERY):
        for one in find(store, "conversations", {"_id": {"$in": list(part)}}):
            if user_id is None:
                conversations[one["_id"]] = one
    scope.person = replace(scope.person, conversations=known | conversations.keys())
    scope.documents["conversations"] = [*conversations.values(), *others.values()]
    scope.documents["messages"] = list(_messages(store, scope.person))
    for name in ("translations", "categories", "llm_calls"):
        scope.documents[name] = list(_of_conversations(store, name, "conversation_id", scope.person))
    for name in ("quarantine", "without_day"):
        scope.documents[name] = [one for one in scan(store, name, {}) if _is_kept_row(scope.person, one)]
    scope.documents["translation_memory"] = list(_memory(store, scope))
    scope.documents["llm_claims"] = list(_claims(store, scope))
    analysed = {"_id": scope.person.pseudonym}
    scope.documents["user_analytics"] = list(find(store, "user_analytics", analysed))


def _messages(store: MongoStore, person: Person) -> Iterator[Document]:
    seen: set[str] = set()
    queries: list[Document] = []
    for part in chunks(sorted(person.conversations), _IDS_OF_A_QUERY):
        queries += [
            {"conversation_id": {"$in": list(part)}},
            {"superseded.fields.conversation_id": {"$in": list(part)}},
        ]
    if person.user_id is not None:
        queries += [{"sender_id": person.user_id}, {"superseded.fields.sender_id": person.user_id}]
    for query in queries:
        for one in find(store, "messages", query):
            if one["_id"] not in seen and any(is_message(person, version) for version in versions_of(one)):
                seen.add(one["_id"])
                yield one


def versions_of(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The live version of a document, and the superseded ones that are kept whole."""
    return [document, *(one["fields"] for one in document.get("superseded") or () if "fields" in one)]


def is_message(person: Person, fields: Mapping[str, Any]) -> bool:
    """Whether a version of a message is of the person: in their conversation, or written by them."""
    return fields.get("conversation_id") in person.conversations or (
        person.user_id is not None
        and fields.get("sender_type") == "user"
        and fields.get("sender_id") == person.user_id
    )


def is_conversation(person: Person, identity: str, fields: Mapping[str, Any]) -> bool:
    """Whether a version of a conversation is the person's."""
    if person.user_id is None:
        return identity in person.conversations
    return bool(fields.get("user_id") == person.user_id)


def _of_conversations(store: MongoStore, name: str, column: str, person: Person) -> Iterator[Document]:
    for part in chunks(sorted(person.conversations), _IDS_OF_A_QUERY):
        yield from find(store, name, {column: {"$in": list(part)}})


def _is_kept_row(person: Person, entry: Mapping[str, Any]) -> bool:
    row = entry["row"]
    if person.is_json_row(entry["table"], row):
        return True
    if entry.get("conversation_id") in person.conversations and entry["table"] == "messages":
        return True
    if entry["table"] == "conversations" and entry.get("business_id") in person.conversations:
        return not values_of(row)  # cut, or no JSON: its id is all that tells
    if values_of(row):
        return False
    # A row that was cut to its start, or is no JSON: whatever names the person in it counts.
    named = [*person.conversations, *([person.user_id] if person.user_id else [])]
    return any(json.dumps(one)[1:-1] in row for one in named)


def _memory(store: MongoStore, scope: Scope) -> Iterator[Document]:
    """Entries of the memory for texts that nobody else wrote."""
    person = scope.person
    hashes = {
        version["text_hash"]
        for one in scope.documents["messages"]
        for version in versions_of(one)
        if is_message(person, version) and "text_hash" in version
    }
    hashes |= {one["text_hash"] for one in scope.documents["translations"]}
    for part in chunks(sorted(hashes), 20 * _IDS_OF_A_QUERY):
        others = {
            one["text_hash"]
            for one in find_fields(
                store,
                "messages",
                {"text_hash": {"$in": list(part)}},
                *("text_hash", "conversation_id", "sender_type", "sender_id"),
            )
            if not is_message(person, one)
        }
        mine = sorted(set(part) - others)
        yield from find(store, "translation_memory", {"text_hash": {"$in": mine}})


def _claims(store: MongoStore, scope: Scope) -> Iterator[Document]:
    keys = {one["_id"] for one in scope.documents["translation_memory"]}
    for claim in scan(store, "llm_claims", {}):
        key = claim["_id"].rpartition("/")[2]
        conversation_ids = {claim["_id"].split("|")[0].split("/", 1)[-1], key.split("|")[0]}
        if key in keys or conversation_ids & scope.person.conversations:
            yield claim


# -- tables


def in_tables(tables: Iterable[LakeTable], scope: Scope) -> None:
    """Add what the tables hold of the person to the scope: conversations first, their messages after."""
    ordered = sorted(tables, key=lambda table: table.table.path != ("raw", "conversations"))
    for table in ordered:
        if not holds_persons(table.table) or not table.exists():
            continue
        found = _raw_rows(table, scope) if table.table.path in ROWS_OF_SOURCE else _rows(table, scope)
        scope.rows["/".join(table.table.path)] = Counter({day: n for day, n in found.items() if n})


def _raw_rows(table: LakeTable, scope: Scope) -> Counter[str]:
    name = table.table.name
    found: Counter[str] = Counter()
    selected = table.select()
    suspects = scope.days if name == "messages" else set()
    for day in selected.parts:
        for batch in selected.narrowed([day]).batches(["row"], _BATCH_ROWS):
            for row in _suspicious(batch.column("row"), scope.person, everything=day in suspects):
                if scope.person.is_json_row(name, row):
                    found[day] += 1
                    values = values_of(row)
                    if name == "conversations":
                        conversation_id = str(values.get("conversation_id"))
                        conversations = scope.person.conversations | ({conversation_id} - scope.reassigned)
                        scope.person = replace(scope.person, conversations=conversations)
                    scope.needles |= _needles_of(values)
    return found


def _suspicious(rows: pa.Array, person: Person, *, everything: bool) -> list[str]:
    if everything:
        return list(rows.to_pylist())
    if person.user_id is None:
        return []
    spelled = {json.dumps(person.user_id, ensure_ascii=exact)[1:-1] for exact in (True, False)}
    mask = pc.match_substring(rows, spelled.pop())
    for one in spelled:
        mask = pc.or_(mask, pc.match_substring(rows, one))
    return list(rows.filter(mask).to_pylist())


def _rows(table: LakeTable, scope: Scope) -> Counter[str]:
    found: Counter[str] = Counter()
    selected = table.select()
    by_day = table.table.partition_by == "partition"
    names = [name for name in table.table.by_name if name in PERSON_COLUMNS | CONVERSATION_COLUMNS]
    for day in selected.parts:
        for batch in selected.narrowed([day]).batches(names, _BATCH_ROWS):
            # A mart's month is no day: marts are made again whole.
            found[day if by_day else ""] += pc.sum(holds(batch, scope.person)).as_py() or 0
    return found


def holds(batch: pa.RecordBatch, person: Person) -> pa.Array:
    """Which rows of a table of the lake are the person's, by its columns of persons and conversations."""
    mask = pa.array([False] * batch.num_rows, pa.bool_())
    conversations = pa.array(sorted(person.conversations), pa.string())
    for name in batch.schema.names:
        if name in PERSON_COLUMNS:
            ours = pc.equal(batch.column(name), person.pseudonym)
        elif name in CONVERSATION_COLUMNS:
            ours = pc.is_in(batch.column(name), conversations)
        else:
            continue
        mask = pc.or_(mask, pc.fill_null(ours, fill_value=False))
    return mask


def conversations_by_pseudonym(tables: Iterable[LakeTable], person: Person) -> set[str]:
    """Ids of a person's conversations as the lake has them."""
    found: set[str] = set()
    for table in tables:
        if {"user_id", "conversation_id"} <= table.table.by_name.keys() and table.exists():
            for batch in table.select().batches(["user_id", "conversation_id"], _BATCH_ROWS):
                ours = batch.filter(pc.equal(batch.column("user_id"), person.pseudonym))
                found |= set(ours.column("conversation_id").to_pylist())
    return found


# -- needles


def needles_of(scope: Scope, redactor: Redactor) -> set[Needle]:
    """All that the proof looks for: ids and texts of the person, also as they read when masked."""
    person = scope.person
    found = set(scope.needles) | {Needle("pseudonym", person.pseudonym)}
    if person.user_id is not None:
        found.add(Needle("user", person.user_id))
    found |= {Needle("conversation", one) for one in person.conversations}
    for one in scope.documents.get("conversations", ()):
        for version in versions_of(one):
            if is_conversation(person, one["_id"], version):
                found |= _texts(version.get("csat_comment"))
    for one in scope.documents.get("messages", ()):
        found.add(Needle("message", one["_id"]))
        for version in versions_of(one):
            if is_message(person, version):
                found |= _texts(version.get("text"))
    for name in ("translations", "translation_memory"):
        for one in scope.documents.get(name, ()):
            found |= _texts(one.get("text"))
    for name in ("quarantine", "without_day"):
        for one in scope.documents.get(name, ()):
            found |= _needles_of(values_of(one["row"]))
    masked = (redactor.text(one.value) for one in found if one.kind == "text")
    return found | {Needle("text", one) for one in masked}


def _needles_of(row: Mapping[str, Any]) -> set[Needle]:
    # Not the conversation of a message: the person may have written in somebody else's.
    value = row.get("message_id")
    found = {Needle("message", str(value))} if isinstance(value, str | int) and str(value) else set()
    return found | _texts(row.get("text")) | _texts(row.get("csat_comment"))


def _texts(text: Any) -> set[Needle]:
    return {Needle("text", text)} if isinstance(text, str) and text.strip() else set()


def summary(scope: Scope) -> dict[str, int]:
    """How many documents and rows are the person's, by collection and table."""
    counted = {f"mongodb/{name}": len(some) for name, some in scope.documents.items()}
    return counted | {name: counts.total() for name, counts in scope.rows.items()}
