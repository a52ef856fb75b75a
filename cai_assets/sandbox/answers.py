"""What the models behind the sandbox's workflows answer, without a model: looked up, or found by rules.

Deterministic throughout: an answer depends on the inputs alone, never on what was asked before. No HTTP here.
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cai_assets.domain.redaction import Redactor
from cai_assets.sandbox.rules import categorise, names_of
from cai_assets.settings import Settings

# gpt-4o-mini's list prices, in the unit Dify prints: US dollars per token times 1e-6.
_PROMPT_PRICE, _COMPLETION_PRICE = "0.15", "0.60"
# What the fixed part of a prompt costs, tokens (measured: 20 for a one-line system prompt and a short text).
_FIXED_PROMPT_TOKENS = 16
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Answer:
    """What a workflow ends with.

    Attributes:
        text: what the model wrote.
        outputs: of the End node, without `usage`.
        prompt: the system prompt.
        error: why the model node failed; then nothing else counts.
    """

    text: str
    outputs: Mapping[str, Any]
    prompt: str
    error: str | None = None


class Translator:
    """Translations by exact lookup in parallel texts (columns of `seed.PARALLEL`).

    A text whose e-mail addresses, numbers and the like the platform masked is found by what it is then, and
    answered with its translation masked likewise.
    """

    def __init__(self, parallel: pa.Table) -> None:
        self._exact: dict[tuple[str, str, str], str] = {}
        self._any_source: dict[tuple[str, str], str] = {}
        self._known: set[tuple[str, str]] = set()
        keys = ["source_language", "target_language", "source_text", "target_text"]
        counted = parallel.group_by(keys).aggregate([([], "count_all")])
        # Of several translations of one text the most frequent wins, then the smallest: the order of the
        # rows, and so of the data files, does not matter.
        counted = counted.take(
            pc.sort_indices(counted, sort_keys=[("count_all", "descending"), ("target_text", "ascending")])
        )
        totals: dict[tuple[str, str], dict[str, int]] = {}
        mask = Redactor("mask", Settings.model_fields["redact_phone_regions"].default).text
        for source, target, text, translated, count in zip(
            *(counted[name].to_pylist() for name in [*keys, "count_all"]), strict=True
        ):
            if text is None or translated is None:
                continue
            source, target = _language(source), _language(target)
            for asked, answered in dict.fromkeys(((text, translated), (mask(text), mask(translated)))):
                asked = _normal(asked)
                self._exact.setdefault((source, target, asked), answered)
                self._known.add((source, asked))
                by_text = totals.setdefault((target, asked), {})
                by_text[answered] = by_text.get(answered, 0) + count
        for key, choices in totals.items():
            self._any_source[key] = min(choices, key=lambda choice: (-choices[choice], choice))

    def __len__(self) -> int:
        return len(self._exact)

    def __call__(self, inputs: Mapping[str, Any]) -> Answer:
        """`text` in `target_language`; `source_language` may be wrong or absent."""
        source, target = _language(inputs.get("source_language")), _language(inputs["target_language"])
        text = _normal(inputs["text"])
        found = self._exact.get((source, target, text))
        if found is None:
            found = self._any_source.get((target, text))
        if found is None and (target, text) in self._known:
            found = inputs["text"]  # it is in the target language already
        prompt = f"Translate to {target}. Reply with the translation only."
        if found is None:
            error = (
                f"No translation into {target!r} is known for this text ({len(text)} characters, source "
                f"language {source or 'not given'!r}): the sandbox translates the {len(self)} parallel texts "
                "that it was started with, and nothing else."
            )
            return Answer("", {}, prompt, error)
        return Answer(found, {"text": found}, prompt)

    def several(self, inputs: Mapping[str, Any]) -> Answer:
        """The texts of `texts`, a JSON list; where one of them fails, all do."""
        prompt = f"Translate each to {_language(inputs['target_language'])}. Reply with a JSON list only."
        try:
            texts = json.loads(inputs["texts"])
        except ValueError as error:
            return Answer("", {}, prompt, f"The input texts is no JSON: {error}")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return Answer("", {}, prompt, "The input texts is no list of texts")
        answers = [self({**inputs, "text": text}) for text in texts]
        failed = next((answer for answer in answers if answer.error is not None), None)
        if failed is not None:
            return Answer("", {}, prompt, failed.error)
        found = [answer.text for answer in answers]
        return Answer(json.dumps(found, ensure_ascii=False), {"texts": found}, prompt)


def categoriser(inputs: Mapping[str, Any]) -> Answer:
    """The category of `transcript` among `categories`, by the rules of rules.py."""
    prompt = "Choose the one category that fits the conversation. Reply with its name only."
    try:
        names = names_of(inputs["categories"])
    except ValueError as error:
        return Answer("", {}, prompt, f"The input categories cannot be read: {error}")
    name, confidence = categorise(inputs["transcript"], names)
    return Answer(name, {"category": name, "confidence": confidence}, prompt)


def usage(prompt: str, question: str, text: str, latency: float) -> dict[str, Any]:
    """Dify's `usage` object of a model call: tokens, prices as decimal texts, seconds.

    Args:
        prompt: system prompt.
        question: what the user's part of the prompt held.
        text: the answer.
        latency: seconds the model took.
    """
    asked = _FIXED_PROMPT_TOKENS + _tokens(prompt) + _tokens(question)
    answered = _tokens(text)
    # Units of 1e-7 dollars, as Dify rounds to seven decimals (half up): 0.15e-6 is 1.5 of them, 0.60e-6 is 6.
    prompt_price, completion_price = (asked * 15 + 5) // 10, answered * 6
    return {
        "prompt_tokens": asked,
        "prompt_unit_price": _PROMPT_PRICE,
        "prompt_price_unit": "0.000001",
        "prompt_price": _price(prompt_price),
        "completion_tokens": answered,
        "completion_unit_price": _COMPLETION_PRICE,
        "completion_price_unit": "0.000001",
        "completion_price": _price(completion_price),
        "total_tokens": asked + answered,
        "total_price": _price(prompt_price + completion_price),
        "currency": "USD",
        "latency": round(latency, 3),
        "time_to_first_token": round(latency / 10, 3),
        "time_to_generate": round(latency - latency / 10, 3),
    }


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _price(units: int) -> str:
    return f"{units // 10**7}.{units % 10**7:07d}"


def _language(tag: Any) -> str:
    """The primary subtag, lower case: `en` for `en-US`."""
    return str(tag or "").replace("_", "-").split("-")[0].lower()


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()
