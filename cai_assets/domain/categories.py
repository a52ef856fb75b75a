"""What a conversation is about: the taxonomy, the transcript to ask about, what counts as an answer.

Pure rules; asking and storing belong to `resources/enrichment_categories.py`. The taxonomy is
`taxonomy.json` beside this module; whoever changes it raises its version, which makes every conversation be
categorised anew and keeps what the older version said.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final

UNKNOWN_CATEGORY: Final = "unknown"

# Longest transcript that is asked about, in characters; a workflow's form must allow as many. Of 7,230 real
# support conversations one is longer; the median has 900.
TRANSCRIPT_CHARACTERS: Final = 4000
# Longest piece of one message in it, so that a pasted log does not push all else out.
_LINE_CHARACTERS: Final = 600
_GAP: Final = "[...]"
# The matter is named at the start; how it ended is at the end.
_HEAD_SHARE: Final = 0.7


@dataclass(frozen=True, slots=True)
class Category:
    """One category: its name as stored, what it covers, and words that give it away without a model."""

    name: str
    description: str
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class Taxonomy:
    """The list of categories and its version."""

    version: str
    categories: tuple[Category, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the file's order."""
        return tuple(category.name for category in self.categories)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a conversation is about.

    Attributes:
        category: a name of the taxonomy, or `unknown`.
        confidence: 0 to 1, or None where nobody said.
    """

    category: str
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a transcript: who wrote it (a `sender_type`) and what, in the language to read it in."""

    sender_type: str
    text: str


def parse_taxonomy(text: str) -> Taxonomy:
    """Read a taxonomy from its JSON text.

    Raises:
        ValueError: it is no such file, has no version, or names a category twice or `unknown`.
    """
    content = json.loads(text)
    taxonomy = Taxonomy(
        str(content["version"]),
        tuple(
            Category(str(one["name"]), str(one["description"]), tuple(str(word) for word in one["keywords"]))
            for one in content["categories"]
        ),
    )
    names = taxonomy.names
    if not taxonomy.version or not names:
        raise ValueError("the taxonomy needs a version and at least one category")
    if len(set(names)) != len(names) or UNKNOWN_CATEGORY in names:
        raise ValueError(f"the taxonomy's names must differ, and {UNKNOWN_CATEGORY!r} is taken: {names}")
    return taxonomy


@cache
def load_taxonomy() -> Taxonomy:
    """The taxonomy that ships with the package."""
    return parse_taxonomy(files("cai_assets.domain").joinpath("taxonomy.json").read_text(encoding="utf-8"))


def category_id(conversation_id: str, taxonomy_version: str) -> str:
    """`_id` in `categories`: one per conversation and taxonomy version."""
    return f"{conversation_id}|{taxonomy_version}"


def transcript(lines: Iterable[Line]) -> str:
    """What is asked about: `user: ...` and `staff: ...` lines in order, at most TRANSCRIPT_CHARACTERS.

    System messages and empty texts are left out. A long conversation loses its middle.
    """
    written = []
    for line in lines:
        text = " ".join(line.text.split())
        if line.sender_type == "system" or not text:
            continue
        if len(text) > _LINE_CHARACTERS:
            text = f"{text[: _LINE_CHARACTERS - len(_GAP) - 1]} {_GAP}"
        written.append(f"{'user' if line.sender_type == 'user' else 'staff'}: {text}")
    if sum(map(len, written)) + len(written) <= TRANSCRIPT_CHARACTERS:
        return "\n".join(written)
    room = TRANSCRIPT_CHARACTERS - len(_GAP) - 2
    head = _whole_lines(written, int(room * _HEAD_SHARE))
    left = room - sum(len(line) + 1 for line in head)
    tail = _whole_lines(written[len(head) :][::-1], left)[::-1]
    return "\n".join([*head, _GAP, *tail])


def _whole_lines(lines: Sequence[str], room: int) -> list[str]:
    kept = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept


def input_hash(transcript_text: str, taxonomy: Taxonomy, prompt_version: str) -> str:
    """What a decision rests on: while it is the same, nothing is asked again."""
    parts = (transcript_text, taxonomy.version, *taxonomy.names, prompt_version)
    return blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def decide(category: object, confidence: object, taxonomy: Taxonomy) -> Decision | str:
    """A workflow's answer as a decision, or the reason why it is none.

    Args:
        category: the workflow's output; case and surrounding space do not matter. `unknown` is an answer.
        confidence: number or numeric text of 0 to 1; anything else counts as not said.
        taxonomy: what it may choose from.
    """
    if not isinstance(category, str):
        return f"the answer's category is {type(category).__name__}, not text"
    wanted = category.strip().casefold()
    by_name = {name.casefold(): name for name in (*taxonomy.names, UNKNOWN_CATEGORY)}
    if wanted not in by_name:
        # The answer may quote the transcript, so it is not shown.
        return f"the answer is none of the {len(taxonomy.names)} categories of taxonomy {taxonomy.version}"
    return Decision(by_name[wanted], _confidence(confidence))


def _confidence(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number <= 1 else None


@cache
def _pattern(category: Category) -> re.Pattern[str] | None:
    if not category.keywords:
        return None
    # Words from their start: "deliver" also finds "delivery"; longer ones first, so that they count as they
    # stand.
    words = sorted((re.escape(word.strip().casefold()) for word in category.keywords), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(words)})")


def decide_by_rule(transcript_text: str, taxonomy: Taxonomy) -> Decision:
    """What the words alone say: the category whose keywords occur most often, the first named on a tie.

    Its confidence is the share of that category among all keywords found, halved: a rule is never surer
    than an even chance.
    """
    text = transcript_text.casefold()
    hits = [
        (len(pattern.findall(text)) if (pattern := _pattern(category)) else 0)
        for category in taxonomy.categories
    ]
    total = sum(hits)
    if not total:
        return Decision(UNKNOWN_CATEGORY, None)
    best = max(range(len(hits)), key=lambda index: (hits[index], -index))
    return Decision(taxonomy.categories[best].name, round(hits[best] / total / 2, 6))
