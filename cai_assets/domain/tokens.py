"""Cutting texts into terms, as `dbt_like_sql/facts/fct_term.sql` does, for what needs them in Python.

A test holds both to one oracle. Which terms matter is told elsewhere.
"""

import re
import sys
import unicodedata
from functools import cache
from itertools import pairwise

LONGEST = 40
"""Characters of the longest word that is a term; longer ones are codes."""

_PAIRED = (
    *("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC ITERATION", "HIRAGANA", "KATAKANA"),
    *("HALFWIDTH KATAKANA LETTER", "HANGUL", "HALFWIDTH HANGUL", "THAI", "LAO", "KHMER", "MYANMAR"),
)
_MASKED = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|#[a-z0-9_]+#|\[(?:email|phone|card|iban|token|number)\]")


def terms(text: str) -> list[str]:
    """The terms of a text, in its order, repeated ones repeatedly.

    A term is a word (letters and marks, apostrophes inside) in lower case and NFC; in scripts without spaces
    between words and in Hangul two neighbouring characters, or the one there is. Masks, links, addresses,
    words with a digit or an underscore and words over 40 characters are no terms.
    """
    words, paired, codes = _patterns()
    readable = unicodedata.normalize("NFC", _MASKED.sub(" ", text.lower())).replace("’", "'")
    found: list[str] = []
    for piece in words.findall(readable):
        if codes.search(piece):
            continue
        if len(piece) > 1 and paired.match(piece):
            found += [first + second for first, second in pairwise(piece)]
        elif len(piece) <= LONGEST:
            found.append(piece)
    return found


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Words, characters that go by pairs, and what makes a word a code. Built once, in 0.3 s."""
    spaced, paired, numbers = [], [], []
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)[0]
        if category not in "LMN":
            continue
        if category == "N":
            numbers.append(code)
        if category != "N" and unicodedata.name(character, "").startswith(_PAIRED):
            paired.append(code)
        else:
            spaced.append(code)
    word = f"[{_ranges(spaced)}_\u200c\u200d]"
    pairs = f"[{_ranges(paired)}]+"
    return (
        re.compile(f"{pairs}|{word}+(?:'{word}+)*"),
        re.compile(pairs),
        re.compile(f"[{_ranges(numbers)}_]"),
    )


def _ranges(codes: list[int]) -> str:
    """Rising code points as the inside of a class of a regular expression."""
    parts: list[list[int]] = []
    for code in codes:
        if parts and code == parts[-1][1] + 1:
            parts[-1][1] = code
        else:
            parts.append([code, code])
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in parts)
