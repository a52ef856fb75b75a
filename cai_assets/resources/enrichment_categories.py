"""Categories of conversations: transcripts, Dify, rules where it is off, people above all.

The rules are `domain.categories`', the threads and writes `enrichment_loop`'s. A conversation is asked about
again only when what would be asked has changed, or when only a rule decided.
"""

import json
import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo import DeleteOne, UpdateOne

from cai_assets.domain.categories import (
    Decision,
    Line,
    Taxonomy,
    category_id,
    decide,
    decide_by_rule,
    input_hash,
    load_taxonomy,
    transcript,
)
from cai_assets.domain.ledger import Call
from cai_assets.domain.redaction import outgoing
from cai_assets.domain.workflows import (
    CATEGORY_INPUTS,
    CATEGORY_NAMES,
    CATEGORY_TRANSCRIPT,
    OUTPUT_CATEGORY,
    OUTPUT_CONFIDENCE,
)
from cai_assets.failures import PermanentError
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.enrichment_asking import Outcome, Unit
from cai_assets.resources.enrichment_loop import AskingLoop, Wanted
from cai_assets.resources.enrichment_reading import chunks, find, live
from cai_assets.resources.enrichment_summary import EnrichmentSummary
from cai_assets.resources.enrichment_writes import calls_of, now, replacement
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings

_LOOKUP: Final = 500


@dataclass(frozen=True, slots=True)
class _Question:
    """A conversation that is to be decided; `stored` is its document now, if there is one."""

    conversation_id: str
    partition: str
    transcript: str
    input_hash: str
    stored: Mapping[str, Any] | None


class Categories:
    """One run over some partitions; see `enrichment.categorise_partitions`."""

    def __init__(
        self,
        mongo: MongoStore,
        settings: Settings,
        run_id: str,
        log: logging.Logger,
        client: DifyClient | None,
        taxonomy: Taxonomy | None = None,
    ) -> None:
        self.summary = EnrichmentSummary()
        self._mongo = mongo
        self._run_id = run_id
        self._settings = settings
        self._outgoing = outgoing(settings)
        self._taxonomy = taxonomy or load_taxonomy()
        self._nonce = uuid.uuid4().hex[:8]
        self._loop = AskingLoop(
            mongo,
            settings,
            run_id,
            log,
            purpose="category",
            inputs=CATEGORY_INPUTS,
            summary=self.summary,
            asker=self,
            client=client,
        )

    def run(self, partitions: Iterable[str]) -> EnrichmentSummary:
        """Bring the categories of these partitions to what their conversations say."""
        self._loop.over(partitions, self._partition)
        return self.summary

    def _partition(self, partition: str) -> None:
        conversations = sorted(document["_id"] for document in live(self._mongo, "conversations", partition))
        transcripts = self._transcripts(partition)
        self._detach(partition, set(conversations))
        for chunk in chunks(conversations, _LOOKUP):
            decided: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
            for one in find(self._mongo, "categories", {"conversation_id": {"$in": list(chunk)}}):
                decided[one["conversation_id"]].append(one)
            for conversation_id in chunk:
                text = transcripts.get(conversation_id, "")
                digest = input_hash(text, self._taxonomy, self._settings.dify_prompt_version)
                document_id = category_id(conversation_id, self._taxonomy.version)
                versions = {one["_id"]: one for one in decided[conversation_id]}
                stored = versions.pop(document_id, None)
                question = _Question(conversation_id, partition, text, digest, stored)
                if not self._carried(question, versions.values()):
                    self._one(question)
                self._loop.breathe()

    def _carried(self, question: _Question, versions: Iterable[Mapping[str, Any]]) -> bool:
        """Whether a person decided under another version of the taxonomy, which holds for this one too."""
        by_person = [one for one in versions if one["source"] == "human"]
        latest = max(by_person, key=lambda one: one["changed_at"], default=None)
        if latest is None or (question.stored is not None and question.stored["source"] == "human"):
            return False
        decision = decide(latest["category"], latest["confidence"], self._taxonomy)
        if isinstance(decision, str):
            return False  # the category is gone: the workflow decides among those that there are
        counts = self.summary.of(question.partition)
        counts.needing += 1
        counts.done += 1
        self._put(question, decision, "human", None, decided_by=latest.get("decided_by"))
        return True

    def _transcripts(self, partition: str) -> dict[str, str]:
        """What was said in each conversation, translated where a translation is there."""
        version, target = self._settings.dify_prompt_version, self._settings.dify_target_language
        translated: dict[tuple[str, str], str] = {}
        for one in find(self._mongo, "translations", {"partition": partition}):
            if one["status"] == "ok" and one["target_language"] == target:
                key = one["message_id"], one["text_hash"]
                # That of an older prompt serves until there is a newer one.
                if one["prompt_version"] == version or key not in translated:
                    translated[key] = one["text"]
        said: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for message in live(self._mongo, "messages", partition):
            # Notes among the staff are not what the conversation with the user is about, and stay inside.
            if message.get("private") or not message.get("text"):
                continue
            seq = message.get("seq")
            text = translated.get((message["_id"], message["text_hash"]), message["text"])
            place = (message["created_us"], seq is None, seq or 0, message["_id"])
            said[message["conversation_id"]].append(
                (*place, Line(message["sender_type"], self._outgoing(text)))
            )
        return {
            conversation_id: transcript(entry[-1] for entry in sorted(entries, key=lambda entry: entry[:-1]))
            for conversation_id, entries in said.items()
        }

    def _detach(self, partition: str, conversations: set[str]) -> None:
        """Take out what was decided, in any version, of conversations that left this partition."""
        for document in find(self._mongo, "categories", {"partition": partition}):
            if document["conversation_id"] in conversations:
                continue
            if document["source"] == "human":
                # A person's word is kept for the day the conversation comes back; no day shows it until then.
                operation: Any = UpdateOne(
                    {"_id": document["_id"], "partition": partition}, {"$set": {"partition": None}}
                )
            else:
                operation = DeleteOne({"_id": document["_id"], "partition": partition})
            self._loop.writes.add("categories", operation)

    def _one(self, question: _Question) -> None:
        counts = self.summary.of(question.partition)
        counts.needing += 1
        stored = question.stored
        if stored is not None and stored["source"] == "human":
            counts.done += 1
            if stored.get("partition") != question.partition:
                self._loop.writes.add(
                    "categories",
                    UpdateOne({"_id": stored["_id"]}, {"$set": {"partition": question.partition}}),
                )
            return
        if not question.transcript:
            counts.done += 1
            self._put(question, decide_by_rule("", self._taxonomy), "rule", None)
        elif self._stands(question):
            counts.done += 1
        elif (reason := self._loop.cannot_ask) is not None:
            self._skip(question, reason)
        else:
            # A run that was asked about another transcript is no answer to this one.
            key = f"{category_id(question.conversation_id, self._taxonomy.version)}|{question.input_hash}"
            self._loop.want(Wanted(key, question))

    @staticmethod
    def _stands(question: _Question) -> bool:
        stored = question.stored
        return (
            stored is not None
            and stored["source"] == "llm"
            and stored["input_hash"] == question.input_hash
            and stored["partition"] == question.partition
        )

    def compose(self, wanted: Sequence[Wanted]) -> list[Unit]:
        """One question a conversation."""
        return [self._unit(one.key, one.payload) for one in wanted]

    def _unit(self, key: str, question: _Question) -> Unit:
        inputs = {
            CATEGORY_TRANSCRIPT: question.transcript,
            CATEGORY_NAMES: json.dumps(self._taxonomy.names, ensure_ascii=False),
        }
        user = f"cai-c-{question.input_hash}-{self._nonce}-{self._user_tail(question)}"
        return Unit((key,), inputs, user, len(question.transcript), payload=question)

    @staticmethod
    def _user_tail(question: _Question) -> str:
        # Equal transcripts of two conversations must not share a user; ids may be longer than Dify allows.
        return uuid.uuid5(uuid.NAMESPACE_OID, question.conversation_id).hex[:12]

    def known(self, wanted: Sequence[Wanted]) -> Mapping[str, Any]:
        """What a person or another run decided meanwhile."""
        questions = {one.payload.conversation_id: one for one in wanted}
        ids = [category_id(conversation_id, self._taxonomy.version) for conversation_id in questions]
        found = {}
        for document in find(self._mongo, "categories", {"_id": {"$in": ids}}):
            one = questions[document["conversation_id"]]
            same = document["source"] == "llm" and document["input_hash"] == one.payload.input_hash
            # What is known already, and asked all the same, belongs to another partition or is out of date.
            if document["source"] == "human" or same:
                found[one.key] = document
        return found

    def take_known(self, key: str, payload: Any, value: Any) -> None:
        """Make a decision that came from elsewhere one of this partition."""
        del key, value
        self.summary.of(payload.partition).done += 1
        self._put_partition(payload)

    def take(self, unit: Unit, outcome: Outcome) -> Sequence[Unit]:
        """Write a decision: the workflow's, or that of the words where it gave none."""
        question: _Question = unit.payload
        counts = self.summary.of(question.partition)
        decision: Decision | str = outcome.reason or "no reason given"
        if outcome.kind == "answered":
            outputs = outcome.outputs or {}
            decision = decide(outputs.get(OUTPUT_CATEGORY), outputs.get(OUTPUT_CONFIDENCE), self._taxonomy)
        problem = decision if isinstance(decision, str) else None
        attempts = [*(attempt for _, attempt in outcome.earlier), *outcome.attempts]
        self._loop.writes.add_calls(calls_of(attempts, self._call(question), problem))
        if isinstance(decision, Decision):
            counts.done += 1
            self._put(question, decision, "llm", None)
        elif outcome.kind == "refused":
            self._skip(question, decision)
        elif outcome.kind != "aborted":
            counts.failed += 1
            self._put(question, self._rule(question), "rule", decision)
        return ()

    def _skip(self, question: _Question, reason: str) -> None:
        self.summary.of(question.partition).skipped += 1
        self.summary.reason = reason
        self._put(question, self._rule(question), "rule", reason)

    def _rule(self, question: _Question) -> Decision:
        return decide_by_rule(question.transcript, self._taxonomy)

    def _call(self, question: _Question) -> Call:
        return Call(
            call_id="",
            partition=question.partition,
            purpose="category",
            status="failed",
            conversation_id=question.conversation_id,
            message_id=None,
            run_id=self._run_id,
            created_at=now(),
        )

    def _put_partition(self, question: _Question) -> None:
        document_id = category_id(question.conversation_id, self._taxonomy.version)
        self._loop.writes.add(
            "categories", UpdateOne({"_id": document_id}, {"$set": {"partition": question.partition}})
        )

    def _put(
        self,
        question: _Question,
        decision: Decision,
        source: str,
        error: str | None,
        decided_by: str | None = None,
    ) -> None:
        document: dict[str, Any] = {
            "partition": question.partition,
            "conversation_id": question.conversation_id,
            "taxonomy_version": self._taxonomy.version,
            "prompt_version": self._settings.dify_prompt_version,
            "category": decision.category,
            "confidence": decision.confidence,
            "source": source,
            "error": error,
            "input_hash": question.input_hash,
            **({"decided_by": decided_by} if decided_by else {}),
        }
        stored = question.stored
        if stored is not None and all(stored.get(name) == value for name, value in document.items()):
            return
        document |= {"run_id": self._run_id, "changed_at": now()}
        document_id = category_id(question.conversation_id, self._taxonomy.version)
        # A person may have decided since it was read: theirs is neither replaced nor made twice.
        if stored is None:
            operation = UpdateOne({"_id": document_id}, {"$setOnInsert": document}, upsert=True)
        else:
            # As a condition of the update: the embedded server scans for a filter beyond `_id`.
            by_person = {"$eq": ["$source", "human"]}
            ours = {"$mergeObjects": ["$$ROOT", {"$literal": document}]}
            operation = UpdateOne(
                {"_id": document_id}, [{"$replaceWith": {"$cond": [by_person, "$$ROOT", ours]}}]
            )
        self._loop.writes.add("categories", operation)


def decide_by_person(
    mongo: MongoStore, settings: Settings, conversation_id: str, category: str, person: str
) -> str:
    """Write down a person's decision, which no run overwrites.

    Args:
        mongo: the database.
        settings: for the prompt version.
        conversation_id: a live conversation.
        category: a name of the taxonomy, or `unknown`.
        person: who decided.

    Returns:
        The conversation's day, which shows the decision once it is materialised.

    Raises:
        PermanentError: no such live conversation, or no such category.
    """
    taxonomy = load_taxonomy()
    decision = decide(category, 1.0, taxonomy)
    if isinstance(decision, str):
        raise PermanentError(f"{category!r} is no category; there are {', '.join(taxonomy.names)}")
    conversation = next(find(mongo, "conversations", {"_id": conversation_id, "deleted_at": None}), None)
    if conversation is None:
        raise PermanentError(
            f"there is no conversation {conversation_id!r}, or the source has deleted it; `cai serve` and "
            "`cai export --what conversations` show the ids there are"
        )
    document = {
        "_id": category_id(conversation_id, taxonomy.version),
        "partition": conversation["partition"],
        "conversation_id": conversation_id,
        "taxonomy_version": taxonomy.version,
        "prompt_version": settings.dify_prompt_version,
        "category": decision.category,
        "confidence": decision.confidence,
        "source": "human",
        "error": None,
        "decided_by": person,
        "changed_at": now(),
    }
    mongo.write("categories", [replacement(document)]).raise_failures()
    return str(conversation["partition"])
