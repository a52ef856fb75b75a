"""When a text needs a translation, under which keys one is kept, and whether an answer is one.

Pure rules; asking and storing belong to `resources/enrichment_translations.py`.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from cai_assets.domain.languages import LANGUAGES, UNDETERMINED, detect, primary_language
from cai_assets.domain.workflows import OUTPUT_TEXT, OUTPUT_TEXTS

# Addresses are the same in every language.
_ADDRESS = re.compile(r"https?://\S+|www\.\S+|\S+@\S+\.\S+")
# What a template or an anonymiser puts into a text and no translation may lose: {name}, {{name}}, %(name)s,
# %s, <NAME>, #NAME#, [NAME]. Lower-case <b> and [ok] are not among them: they are words or markup.
_PLACEHOLDER = re.compile(
    r"\{\{?\w+\}?\}|%\(\w+\)[sd]|%[sd](?!\w)|<[A-Z][A-Z0-9_]+>|#[A-Z][A-Z0-9_]+#|\[[A-Z][A-Z0-9_]+\]"
)
# Digits with what groups them inside: 1,234.50 and 12:30 and 2024-05-01 are one number each.
_NUMBER = re.compile(r"\d+(?:[.,:/\u00a0\u202f'\u2019-]?\d+)*")
# A number of four digits in a row, or of five in groups, is a year, a price, an order or a telephone number
# and must survive. Shorter ones are lawfully written out ("at 3" becomes "um drei") or take another clock
# ("9:00 pm" becomes "21:00 Uhr": 300 of 17,700 human translations of chats).
_LONG_NUMBER_DIGITS: Final = 4
# A translation this many times longer than its text is a lecture, not a translation; short texts get leave.
# One so many times shorter has lost most of it, as where the model ran into its limit.
_LONGEST_RATIO: Final = 8
_LENGTH_LEAVE: Final = 200
# Confidence from which an answer is taken to be in the language that was detected. Of 14,401 human
# translations of chats between German and English none is refused by it (at 0.6: six, names of dishes).
_SURE: Final = 0.9
# Languages that the classifier takes for each other even in longer texts.
_NEAR: Final = (
    frozenset(("bs", "hr", "sr", "sl")),
    frozenset(("cs", "sk")),
    frozenset(("da", "no", "sv")),
    frozenset(("id", "ms")),
    frozenset(("es", "pt", "gl", "ca")),
    frozenset(("af", "nl")),
    frozenset(("az", "tr")),
    frozenset(("bg", "mk")),
    frozenset(("hi", "mr", "ne")),
    frozenset(("ru", "uk", "be")),
)


def _key(*parts: str) -> str:
    # The unit separator cannot be confused with a part's own characters.
    return blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


def memory_key(text_hash: str, source: str, target: str, prompt_version: str) -> str:
    """`_id` in `translation_memory`: one text, asked in one way, is paid for once."""
    return _key(text_hash, source, target, prompt_version)


def translation_id(message_id: str, target: str, prompt_version: str) -> str:
    """`_id` in `translations`: one per message, target language and prompt version."""
    return f"{message_id}|{target}|{prompt_version}"


def has_words(text: str | None) -> bool:
    """Whether there is anything to translate: not empty, and not only numbers, signs, addresses or emoji."""
    if not text or not text.strip():
        return False
    rest = _PLACEHOLDER.sub(" ", _ADDRESS.sub(" ", text))
    return any(character.isalpha() for character in rest)


def needs_translation(text: str | None, language: str, target: str) -> bool:
    """Whether a message is to be translated.

    Args:
        text: what was written.
        language: its effective language; `und` counts as another language than the target, as it may be one.
        target: language wanted, BCP 47; region and script do not matter.
    """
    return language != primary_language(target) and has_words(text)


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(c)) for c in text if c.isdecimal())


def _digits(text: str) -> Counter[str]:
    """The long numbers of a text as bare ASCII digits, so that 1,234 equals 1.234 and ١٢٣٤ equals 1234."""
    found: Counter[str] = Counter()
    for match in _NUMBER.finditer(text):
        digits = _ascii_digits(match.group())
        grouped = len(match.group()) > len(digits)
        if len(digits) >= _LONG_NUMBER_DIGITS + grouped:
            found[digits] += 1
    return found


def _lost(before: Counter[str], after: Counter[str], also_in: str) -> list[str]:
    return [item for item, count in before.items() if after[item] < count and item not in also_in]


def listed_texts(texts: Sequence[str]) -> str:
    """Texts as a workflow takes them that is asked about several: a JSON list."""
    return json.dumps(list(texts), ensure_ascii=False)


def packed(texts: Sequence[str], most: int, characters: int) -> Iterator[list[int]]:
    """The places of the texts of each call, in order.

    Args:
        texts: of one language.
        most: texts of one call.
        characters: of its JSON list; a text that is longer by itself goes alone.
    """
    together: list[int] = []
    length = 0
    for place, text in enumerate(texts):
        own = len(listed_texts([text]))  # with brackets, which stand for the comma and the space between two
        if together and (len(together) >= most or length + own > characters):
            yield together
            together, length = [], 0
        together.append(place)
        length += own
    if together:
        yield together


def answer_in(outputs: Mapping[str, Any], place: int, of: int) -> object:
    """The answer for one text in a workflow's outputs.

    Args:
        outputs: `text`, or `texts` as a list or its JSON.
        place: of the text among those that were asked about, from 0.
        of: how many these were.

    Raises:
        ValueError: there are more or fewer answers than texts, so that none can be told from another.
    """
    if OUTPUT_TEXTS not in outputs:
        if of > 1:
            raise ValueError(f"the answer has no output {OUTPUT_TEXTS} for {of} texts")
        return outputs.get(OUTPUT_TEXT)
    answers = outputs[OUTPUT_TEXTS]
    if isinstance(answers, str):
        try:
            answers = json.loads(answers)
        except ValueError:
            raise ValueError(f"the answer's output {OUTPUT_TEXTS} is no JSON") from None
    if not isinstance(answers, list) or len(answers) != of:
        given = len(answers) if isinstance(answers, list) else type(answers).__name__
        raise ValueError(f"the answer has {given} translations for {of} texts")
    return answers[place]


def _foreign(answer: str, source: str, target: str) -> str | None:
    """The language of an answer that is surely not in the target language, or None."""
    wanted = primary_language(target)
    found = detect(answer)
    if found.confidence < _SURE or found.language in (UNDETERMINED, wanted):
        return None
    if found.language == source:
        return found.language
    near = any(found.language in group and wanted in group for group in _NEAR)
    # A target that the classifier does not know would always be taken for another.
    return None if near or wanted not in LANGUAGES else found.language


def refusal(text: str, answer: object, source: str, target: str) -> str | None:
    """Why an answer is not a translation of the text; None where it may be one.

    Args:
        text: what was asked.
        answer: what the workflow gave as its output.
        source: language of the text, `und` where it could not be told.
        target: language wanted, BCP 47.

    Returns:
        The reason without a word of either text, as it is stored and shown.
    """
    if not isinstance(answer, str):
        return f"the answer's text is {type(answer).__name__}, not text"
    if not answer.strip():
        return "the answer is empty"
    if any("\ud800" <= character <= "\udfff" for character in answer):
        return "the answer holds half a character (a lone surrogate)"
    if len(answer) > _LONGEST_RATIO * len(text) + _LENGTH_LEAVE:
        return f"the answer is {len(answer)} characters long for a text of {len(text)}"
    if len(text) > _LONGEST_RATIO * len(answer) + _LENGTH_LEAVE:
        return f"the answer is only {len(answer)} characters long for a text of {len(text)}"
    if (foreign := _foreign(answer, source, target)) is not None:
        return f"the answer is in {foreign}, not in {target}"
    lost = _lost(Counter(_PLACEHOLDER.findall(text)), Counter(_PLACEHOLDER.findall(answer)), "")
    if lost:
        return f"the answer lost {len(lost)} of the text's placeholders"
    # A date may be written in another order and a long number be grouped otherwise: all digits in a row, and
    # the digits of each group sorted, are looked through before a number counts as lost.
    groups = [sorted(digits) for digits in _digits(answer)]
    lost = _lost(_digits(text), _digits(answer), _ascii_digits(answer))
    missing = [number for number in lost if sorted(number) not in groups]
    if missing:
        return f"the answer lost {len(missing)} of the text's numbers"
    return None
