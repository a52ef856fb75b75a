"""The phrase book: what users, bots and agents say in the sample, in every language.

The sentences themselves are data (`phrases.json`): each is written in every language with the same slots,
such as `{order}`, whose values are the same everywhere, so they translate each other truly. Who says what,
and when, does not belong here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Phrase:
    """One sentence in every language.

    Attributes:
        texts: Language (BCP 47) → template, in the order of `PhraseBook.languages`.
        has_slots: Whether the templates have slots; all have the same.
    """

    texts: Mapping[str, str]
    has_slots: bool

    def render(self, language: str, slots: Mapping[str, str]) -> str:
        """The sentence in one language, with its slots filled."""
        template = self.texts[language]
        return template.format_map(slots) if self.has_slots else template


@dataclass(frozen=True)
class Topic:
    """What is said about one matter.

    Attributes:
        name: The category of conversations about it.
        parts: Role in the conversation (`problem`, `ask`, `detail`, `answer`, `followup`,
            `followup_answer`) → phrases that can play it.
        fits: For each `problem`, the places in `answer` that answer it.
    """

    name: str
    parts: Mapping[str, tuple[Phrase, ...]]
    fits: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class PhraseBook:
    """All phrases.

    Attributes:
        languages: Languages in which every phrase is written; English is the first.
        common: Role → phrases that serve every topic.
        topics: The topics in the order of the file.
    """

    languages: tuple[str, ...]
    common: Mapping[str, tuple[Phrase, ...]]
    topics: tuple[Topic, ...]

    def __iter__(self) -> Iterator[Phrase]:
        """Every phrase, common ones first."""
        for phrases in self.common.values():
            yield from phrases
        for topic in self.topics:
            for phrases in topic.parts.values():
                yield from phrases


@cache
def load_phrases() -> PhraseBook:
    """The phrase book that ships with the package."""
    raw = json.loads(files("cai_assets.sandbox").joinpath("phrases.json").read_text(encoding="utf-8"))
    languages = tuple(raw["languages"])

    def phrases(entries: list[dict[str, str]]) -> tuple[Phrase, ...]:
        return tuple(
            Phrase({language: entry[language] for language in languages}, "{" in entry["en"])
            for entry in entries
        )

    topics = []
    for name, parts in raw["topics"].items():
        fits = tuple(tuple(places) for places in parts.pop("fits"))
        topics.append(Topic(name, {role: phrases(entries) for role, entries in parts.items()}, fits))
    common = {role: phrases(entries) for role, entries in raw["common"].items()}
    return PhraseBook(languages, common, tuple(topics))
