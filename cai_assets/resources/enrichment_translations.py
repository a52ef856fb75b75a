"""Translations of some partitions: what needs one, the memory, Dify, the documents that come of it.

The rules are `domain.translation`'s, the claims, threads and writes `enrichment_loop`'s. A text is asked
once, however often it occurs; every further message that has it is served from the memory and says so in the
ledger.
"""

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from pymongo import DeleteOne

from cai_assets.domain.languages import Detection, detect, effective_language, primary_language
from cai_assets.domain.ledger import Call, cached_call_id
from cai_assets.domain.redaction import outgoing, without_placeholders
from cai_assets.domain.translation import (
    answer_in,
    listed_texts,
    memory_key,
    needs_translation,
    packed,
    refusal,
    translation_id,
)
from cai_assets.domain.workflows import (
    TRANSLATION_INPUTS,
    TRANSLATION_SOURCE,
    TRANSLATION_TARGET,
    TRANSLATION_TEXT,
    TRANSLATION_TEXTS,
)
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.enrichment_asking import Outcome, Unit
from cai_assets.resources.enrichment_loop import AskingLoop, Wanted
from cai_assets.resources.enrichment_reading import chunks, find, live
from cai_assets.resources.enrichment_stored import Stored, state_of
from cai_assets.resources.enrichment_summary import Counts, EnrichmentSummary
from cai_assets.resources.enrichment_writes import calls_of, first_of, ledger_document, now, replacement
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings

# Messages and keys of the memory that are looked up at once.
_LOOKUP: Final = 500
# Most characters of one call that asks about several texts: models get careless with longer ones.
_MOST_CHARACTERS: Final = 6000


@dataclass(frozen=True, slots=True)
class _Need:
    """A message that needs a translation and has none that stands.

    Attributes:
        state: what its translation document says now, as `state_of`; None where there is none.
        older: ids of documents of other prompt versions, which go once this one is translated.
    """

    message_id: str
    conversation_id: str
    partition: str
    text: str
    text_hash: str
    source: str
    key: str
    state: int | None
    older: tuple[str, ...]


class Translations:
    """One run over some partitions; see `enrichment.translate_partitions`."""

    def __init__(
        self,
        mongo: MongoStore,
        settings: Settings,
        run_id: str,
        log: logging.Logger,
        client: DifyClient | None,
        *,
        retranslate: bool = False,
    ) -> None:
        self.summary = EnrichmentSummary()
        self._mongo = mongo
        self._run_id = run_id
        self._target = settings.dify_target_language
        self._version = settings.dify_prompt_version
        self._most_texts = settings.dify_texts_per_call
        self._retranslate = retranslate
        self._outgoing = outgoing(settings)
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
            inputs=TRANSLATION_INPUTS,
            summary=self.summary,
            asker=self,
            client=client,
        )

    def run(self, partitions: Iterable[str]) -> EnrichmentSummary:
        """Bring the translations of these partitions to what their messages need."""
        self._loop.over(partitions, self._partition)
        return self.summary

    # -- what is needed

    def _partition(self, partition: str) -> None:
        counts = self.summary.of(partition)
        stored = Stored(self._mongo, partition, self._target, self._version)
        # All that is to be done is known before the first question: a cursor that is left open while Dify
        # thinks is closed by the server after ten minutes. Texts are read again when it is their turn, so
        # that a partition of any size takes little memory.
        todo: list[tuple[str, str]] = []
        for message, source in self._foreign(partition):
            message_id, text_hash = message["_id"], message["text_hash"]
            stands = stored.stands(
                message_id, message["conversation_id"], text_hash, source, self._retranslate
            )
            sent = without_placeholders(self._outgoing(message["text"]))
            if stands or needs_translation(sent, source, self._target):
                counts.needing += 1
                if stands:
                    counts.done += 1
                else:
                    todo.append((message_id, source))
        for obsolete in stored.obsolete(message_id for message_id, _ in todo):
            # Only if it is still this partition's: the message may have moved to another day.
            self._loop.writes.add("translations", DeleteOne({"_id": obsolete, "partition": partition}))
            self._loop.breathe()
        for chunk in chunks(todo, _LOOKUP):
            self._chunk(list(self._needs(partition, dict(chunk), stored)))

    def _foreign(self, partition: str) -> Iterator[tuple[dict[str, Any], str]]:
        """Messages with a text that is not in the target language, and their languages."""
        declared: Mapping[str, str | None] | None = None
        wanted = primary_language(self._target)
        for message in live(self._mongo, "messages", partition):
            language = message.get("language")
            detected = _detection(message)
            if detected.language == "und" and primary_language(language) is None:
                if declared is None:
                    declared = {
                        one["_id"]: one.get("language")
                        for one in live(self._mongo, "conversations", partition)
                    }
                language = declared.get(message["conversation_id"])
            source = effective_language(language, detected)
            if source != wanted and message.get("text") is not None:
                yield message, source

    def _needs(self, partition: str, sources: Mapping[str, str], stored: Stored) -> Iterator[_Need]:
        for message in find(self._mongo, "messages", {"_id": {"$in": list(sources)}}):
            if message["partition"] != partition or message["deleted_at"] or message.get("text") is None:
                continue  # it has changed since a moment ago, and so will be seen to again
            message_id, source = message["_id"], sources[message["_id"]]
            yield _Need(
                message_id,
                message["conversation_id"],
                partition,
                self._outgoing(message["text"]),
                message["text_hash"],
                source,
                memory_key(message["text_hash"], source, self._target, self._version),
                *stored.of(message_id),
            )

    def _chunk(self, needs: Sequence[_Need]) -> None:
        self._loop.writes.flush()
        self._answers.clear()
        memory = self._remembered({need.key for need in needs})
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
                self._open()
                self._loop.want(Wanted(need.key))
            self._loop.breathe()

    def _open(self) -> None:
        self._loop.open()
        if TRANSLATION_TEXTS in self._loop.inputs:
            self._loop.at_once = self._most_texts * self._loop.workers

    def _remembered(self, keys: Iterable[str]) -> dict[str, str]:
        query = {"_id": {"$in": sorted(keys)}}
        return {one["_id"]: one["text"] for one in find(self._mongo, "translation_memory", query)}

    # -- asking

    def known(self, wanted: Sequence[Wanted]) -> Mapping[str, str]:
        """What another run was answered meanwhile."""
        return self._remembered(one.key for one in wanted)

    def compose(self, wanted: Sequence[Wanted]) -> list[Unit]:
        """One question a text, or as few as may be where the workflow takes a list."""
        needs = [self._waiting[one.key][0] for one in wanted]
        if TRANSLATION_TEXTS not in self._loop.inputs:
            return [self._unit([need]) for need in needs]
        by_source: dict[str, list[_Need]] = defaultdict(list)
        for need in needs:
            by_source[need.source].append(need)
        limit = min(_MOST_CHARACTERS, self._loop.inputs[TRANSLATION_TEXTS] or _MOST_CHARACTERS)
        return [
            self._unit([alike[place] for place in together])
            for alike in by_source.values()
            for together in packed([need.text for need in alike], self._most_texts, limit)
        ]

    def _unit(self, needs: Sequence[_Need]) -> Unit:
        listed = TRANSLATION_TEXTS in self._loop.inputs
        texts = [need.text for need in needs]
        inputs = {
            **({TRANSLATION_TEXTS: listed_texts(texts)} if listed else {TRANSLATION_TEXT: texts[0]}),
            TRANSLATION_SOURCE: needs[0].source,
            TRANSLATION_TARGET: self._target,
        }
        keys = tuple(need.key for need in needs)
        # A question about several is told by a hash of them all, as Dify allows a user 255 characters.
        name = keys[0] if len(keys) == 1 else blake2b("".join(keys).encode(), digest_size=16).hexdigest()
        return Unit(keys, inputs, f"cai-t-{name}-{self._nonce}", sum(map(len, texts)))

    # -- what becomes of it

    def take_known(self, key: str, payload: Any, value: Any) -> None:
        """Serve all that wait for a text from what another run was answered."""
        del payload
        self._answers[key] = value
        for need in self._waiting.pop(key):
            self._serve(need, value)

    def take(self, unit: Unit, outcome: Outcome) -> Sequence[Unit]:
        """Write answers and failures; texts that failed together are asked one by one."""
        of = len(unit.keys)
        for question, attempt in outcome.earlier:
            # The answered one is written below, with what became of its answer.
            if question is not outcome.adopted or attempt.error is not None or outcome.kind != "answered":
                call = self._call(self._waiting[unit.keys[0]][0])
                rows = calls_of([attempt], call, place=question.place, of=question.of)
                self._loop.writes.add_calls(rows)
        problems, answers = self._read(unit, outcome)
        singly = of > 1 and (outcome.lasting or any(problem is _MIXED_UP for problem in problems))
        again = unit.keys if singly and self._loop.cannot_ask is None else ()
        for place, key in enumerate(unit.keys):
            first = self._waiting[key][0]
            self._loop.writes.add_calls(
                calls_of(outcome.attempts, self._call(first), problems[place], place=place, of=of)
            )
            if outcome.adopted is not None and outcome.kind == "answered":
                asked = outcome.adopted
                found = [attempt for question, attempt in outcome.earlier if question is asked][-1:]
                rows = calls_of(found, self._call(first), problems[place], place=asked.place, of=asked.of)
                self._loop.writes.add_calls(rows)
            if not again:
                self._end(key, outcome, problems[place], answers[place])
        return [self._unit([self._waiting[key][0]]) for key in again]

    def _read(self, unit: Unit, outcome: Outcome) -> tuple[list[str | None], list[Any]]:
        """Of each text: why it has no answer (None where it has one), and its answer."""
        if outcome.kind != "answered":
            return [outcome.reason or "no reason given"] * len(unit.keys), [None] * len(unit.keys)
        problems: list[str | None] = []
        answers: list[Any] = []
        for place, key in enumerate(unit.keys):
            need = self._waiting[key][0]
            asked = (
                (outcome.adopted.place, outcome.adopted.of) if outcome.adopted else (place, len(unit.keys))
            )
            try:
                answer = answer_in(outcome.outputs or {}, *asked)
                problem = refusal(need.text, answer, need.source, self._target)
            except ValueError as error:
                answer, problem = None, _MIXED_UP if len(unit.keys) > 1 else str(error)
            answers.append(answer)
            problems.append(problem)
        return problems, answers

    def _end(self, key: str, outcome: Outcome, problem: str | None, answer: Any) -> None:
        needs = self._waiting.pop(key)
        if outcome.kind == "answered" and problem is None:
            self._remember(needs[0], answer, outcome)
            self._put(needs[0], "ok", answer, None)
            for need in needs[1:]:
                self._serve(need, answer)
        elif outcome.kind == "refused":
            for need in needs:
                self._skip(need, problem or "")
        elif outcome.kind != "aborted":
            self._failures[key] = problem or "no reason given"
            for need in needs:
                self._fail(need, self._failures[key])

    def _remember(self, need: _Need, text: str, outcome: Outcome) -> None:
        self._answers[need.key] = text
        attempts = outcome.attempts or [attempt for _, attempt in outcome.earlier]
        self._loop.writes.add(
            "translation_memory",
            replacement(
                {
                    "_id": need.key,
                    "text_hash": need.text_hash,
                    "source_language": need.source,
                    "target_language": self._target,
                    "prompt_version": self._version,
                    "text": text,
                    "workflow_run_id": attempts[-1].workflow_run_id if attempts else None,
                    "run_id": self._run_id,
                    "created_at": now(),
                }
            ),
        )

    def _counts(self, need: _Need) -> Counts:
        return self.summary.of(need.partition)

    def _serve(self, need: _Need, text: str) -> None:
        """Use an answer that was paid for before; the ledger says so once for a message."""
        self._counts(need).cached += 1
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

    def _put(self, need: _Need, status: str, text: str | None, error: str | None) -> None:
        if status == "ok":
            self._counts(need).done += 1
            for older in need.older:
                self._loop.writes.add("translations", DeleteOne({"_id": older}))
        elif need.state == state_of(need.conversation_id, need.text_hash, need.source, status, error):
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


_MIXED_UP: Final = "the answer has more or fewer translations than texts were asked about"


def _detection(message: Mapping[str, Any]) -> Detection:
    """What was detected; detected now where the languages were not materialised before."""
    language = message.get("language_detected")
    if language is None:
        return detect(message.get("text") or "")
    return Detection(language, message.get("language_confidence") or 0.0)
