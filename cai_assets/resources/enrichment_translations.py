"""Translations of some partitions: which messages need one, the memory, Dify, the documents that come of it.

The rules are `domain.translation`'s, the threads and writes `enrichment_loop`'s. A text is asked once,
however often it occurs; every further message that has it is served from the memory and says so in the
ledger.
"""

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from pymongo import DeleteOne

from cai_assets.domain.languages import Detection, detect, effective_language, primary_language
from cai_assets.domain.ledger import Call, cached_call_id
from cai_assets.domain.translation import memory_key, needs_translation, refusal, translation_id
from cai_assets.domain.workflows import (
    OUTPUT_TEXT,
    TRANSLATION_SOURCE,
    TRANSLATION_TARGET,
    TRANSLATION_TEXT,
)
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.enrichment_asking import Known, Outcome, Unit
from cai_assets.resources.enrichment_loop import AskingLoop
from cai_assets.resources.enrichment_reading import chunks, find, live
from cai_assets.resources.enrichment_summary import Counts, EnrichmentSummary
from cai_assets.resources.enrichment_writes import calls_of, first_of, ledger_document, now, replacement
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings

# Keys of the memory that are looked up at once.
_LOOKUP: Final = 500


@dataclass(frozen=True, slots=True)
class _Need:
    """A message that needs a translation and has none that stands.

    Attributes:
        state: what its translation document says now, as `_state`; None where there is none.
    """

    message_id: str
    conversation_id: str
    partition: str
    text: str
    text_hash: str
    source: str
    key: str
    state: bytes | None = field(repr=False)


def _state(
    partition: str, conversation_id: str, text_hash: str, source: str, status: str, error: str | None
) -> bytes:
    """All that a translation document says but its text, in eight bytes."""
    parts = (partition, conversation_id, text_hash, source, status, error or "")
    return blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()


class Translations:
    """One run over some partitions; see `enrichment.translate_partitions`."""

    def __init__(
        self,
        mongo: MongoStore,
        settings: Settings,
        run_id: str,
        log: logging.Logger,
        client: DifyClient | None,
    ) -> None:
        self.summary = EnrichmentSummary()
        self._mongo = mongo
        self._run_id = run_id
        self._target = settings.dify_target_language
        self._version = settings.dify_prompt_version
        self._nonce = uuid.uuid4().hex[:8]
        # By key: who waits for the answer, what was answered since the memory was looked through, what
        # failed.
        self._waiting: dict[str, list[_Need]] = {}
        self._answers: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._loop = AskingLoop(
            mongo,
            settings,
            run_id,
            log,
            purpose="translation",
            inputs=(TRANSLATION_TEXT, TRANSLATION_SOURCE, TRANSLATION_TARGET),
            summary=self.summary,
            look_up=self._look_up,
            take=self._take,
            client=client,
        )

    def run(self, partitions: Iterable[str]) -> EnrichmentSummary:
        """Bring the translations of these partitions to what their messages need."""
        self._loop.over(partitions, self._partition)
        return self.summary

    # -- what is needed

    def _partition(self, partition: str) -> None:
        counts = self.summary.of(partition)
        stored = {
            document["_id"]: _state(
                partition,
                document["conversation_id"],
                document["text_hash"],
                document["source_language"],
                document["status"],
                document.get("error"),
            )
            for document in find(self._mongo, "translations", {"partition": partition})
        }
        # All that is to be done is read before the first question: a cursor that is left open while Dify
        # thinks is closed by the server after ten minutes.
        todo = []
        for need in self._needs(partition, stored):
            counts.needing += 1
            if need.state == self._state_of(need, "ok", None):
                counts.done += 1
            else:
                todo.append(need)
        for obsolete in stored:
            # Only if it is still this partition's: the message may have moved to another day.
            self._loop.writes.add("translations", DeleteOne({"_id": obsolete, "partition": partition}))
            self._loop.breathe()
        for chunk in chunks(todo, _LOOKUP):
            self._chunk(chunk)

    def _needs(self, partition: str, stored: dict[str, bytes]) -> Iterator[_Need]:
        declared: Mapping[str, str | None] | None = None
        for message in live(self._mongo, "messages", partition):
            text = message.get("text")
            language = message.get("language")
            detected = _detection(message)
            if primary_language(language) is None and detected.language == "und":
                if declared is None:
                    declared = {
                        one["_id"]: one.get("language")
                        for one in live(self._mongo, "conversations", partition)
                    }
                language = declared.get(message["conversation_id"])
            source = effective_language(language, detected)
            if text is None or not needs_translation(text, source, self._target):
                continue
            yield _Need(
                message["_id"],
                message["conversation_id"],
                partition,
                text,
                message["text_hash"],
                source,
                memory_key(message["text_hash"], source, self._target, self._version),
                stored.pop(translation_id(message["_id"], self._target, self._version), None),
            )

    def _chunk(self, needs: Sequence[_Need]) -> None:
        self._loop.flush()
        self._answers.clear()
        keys = sorted({need.key for need in needs})
        memory = {
            document["_id"]: document["text"]
            for document in find(self._mongo, "translation_memory", {"_id": {"$in": keys}})
            if "text" in document
        }
        for need in needs:
            known = memory.get(need.key) or self._answers.get(need.key)
            if known is not None:
                self._serve(need, known)
            elif need.key in self._waiting:
                self._waiting[need.key].append(need)
            elif need.key in self._failures:
                self._fail(need, self._failures[need.key])
            elif (reason := self._loop.cannot_ask) is not None:
                self._skip(need, reason)
            else:
                self._waiting[need.key] = [need]
                self._loop.submit(self._unit(need))
            self._loop.breathe()

    def _unit(self, need: _Need) -> Unit:
        inputs = {
            TRANSLATION_TEXT: need.text,
            TRANSLATION_SOURCE: need.source,
            TRANSLATION_TARGET: self._target,
        }
        return Unit(need.key, inputs, f"cai-t-{need.key}-{self._nonce}", len(need.text))

    def _look_up(self, unit: Unit) -> Known:
        for document in find(self._mongo, "translation_memory", {"_id": unit.key}):
            lost = document.get("unresolved")
            return Known(document.get("text"), (lost["workflow_run_id"], lost["user"]) if lost else None)
        return Known()

    # -- what becomes of it

    def _take(self, unit: Unit, outcome: Outcome) -> None:
        needs = self._waiting.pop(unit.key)
        first = needs[0]
        answer: Any = None
        problem = outcome.reason
        if outcome.kind == "answered":
            answer = (outcome.outputs or {}).get(OUTPUT_TEXT)
            problem = refusal(first.text, answer)
        self._loop.writes.add_calls(calls_of(outcome.attempts, self._call(first), problem))
        if outcome.kind == "known":
            self._answers[unit.key] = outcome.value
            for need in needs:
                self._serve(need, outcome.value)
        elif outcome.kind == "answered" and problem is None:
            self._remember(first, answer, outcome)
            self._put(first, "ok", answer, None)
            for need in needs[1:]:
                self._serve(need, answer)
        elif outcome.kind == "refused":
            for need in needs:
                self._skip(need, problem or "")
        elif outcome.kind != "aborted":
            self._failures[unit.key] = problem or "no reason given"
            if outcome.unresolved is not None:
                self._remember_unresolved(first, outcome.unresolved)
            for need in needs:
                self._fail(need, self._failures[unit.key])

    def _remember(self, need: _Need, text: str, outcome: Outcome) -> None:
        self._answers[need.key] = text
        self._loop.writes.add(
            "translation_memory",
            replacement(
                {
                    **self._memory(need),
                    "text": text,
                    "workflow_run_id": outcome.attempts[-1].workflow_run_id if outcome.attempts else None,
                }
            ),
        )

    def _remember_unresolved(self, need: _Need, lost: tuple[str, str]) -> None:
        unresolved = {"workflow_run_id": lost[0], "user": lost[1]}
        self._loop.writes.add(
            "translation_memory", replacement({**self._memory(need), "unresolved": unresolved})
        )

    def _memory(self, need: _Need) -> dict[str, Any]:
        return {
            "_id": need.key,
            "text_hash": need.text_hash,
            "source_language": need.source,
            "target_language": self._target,
            "prompt_version": self._version,
            "run_id": self._run_id,
            "created_at": now(),
        }

    def _counts(self, need: _Need) -> Counts:
        return self.summary.of(need.partition)

    def _serve(self, need: _Need, text: str) -> None:
        """Use an answer that was paid for before; the ledger says so once for a message."""
        counts = self._counts(need)
        counts.cached += 1
        call = self._call(need, cached_call_id(need.message_id, need.key))
        self._loop.writes.add("llm_calls", first_of(ledger_document(call)))
        self._put(need, "ok", text, None)

    def _fail(self, need: _Need, reason: str) -> None:
        self._counts(need).failed += 1
        self._put(need, "failed", None, reason)

    def _skip(self, need: _Need, reason: str) -> None:
        self._counts(need).skipped += 1
        self.summary.reason = reason
        self._put(need, "skipped", None, reason)

    def _call(self, need: _Need, call_id: str = "") -> Call:
        return Call(
            call_id=call_id,
            partition=need.partition,
            purpose="translation",
            status="cached",
            conversation_id=need.conversation_id,
            message_id=need.message_id,
            run_id=self._run_id,
            created_at=now(),
        )

    def _state_of(self, need: _Need, status: str, error: str | None) -> bytes:
        return _state(need.partition, need.conversation_id, need.text_hash, need.source, status, error)

    def _put(self, need: _Need, status: str, text: str | None, error: str | None) -> None:
        if status == "ok":
            self._counts(need).done += 1
        elif need.state == self._state_of(need, status, error):
            return
        self._loop.writes.add(
            "translations",
            replacement(
                {
                    "_id": translation_id(need.message_id, self._target, self._version),
                    "partition": need.partition,
                    "conversation_id": need.conversation_id,
                    "message_id": need.message_id,
                    "text_hash": need.text_hash,
                    "source_language": need.source,
                    "target_language": self._target,
                    "prompt_version": self._version,
                    "status": status,
                    "text": text,
                    "error": error,
                    "run_id": self._run_id,
                    "changed_at": now(),
                }
            ),
        )


def _detection(message: Mapping[str, Any]) -> Detection:
    """What was detected; detected now where the languages were not materialised before."""
    language = message.get("language_detected")
    if language is None:
        return detect(message.get("text") or "")
    return Detection(language, message.get("language_confidence") or 0.0)
