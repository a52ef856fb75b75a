"""Many texts searched for in many bytes at once: what proves that nothing of a person is left. Pure.

A needle is found by eight of its bytes, looked up for every place of a buffer by numpy, and then compared
whole; the time hardly grows with the number of needles. What a find means is the searcher's to judge.
"""

import html
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Kind: TypeAlias = Literal["user", "pseudonym", "conversation", "message", "text"]

ANCHOR: Final = 8
"""Bytes by which a needle is found; shorter ones are compared with whole values only."""
LEAST_TEXT: Final = 24
"""Bytes of a text that is looked for inside others; of shorter ones ("thanks!") only whole values count."""
_BLOCK: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Needle:
    """Something that must not be found.

    Attributes:
        kind: what it is.
        value: as people would write it.
    """

    kind: Kind
    value: str

    @property
    def inside(self) -> bool:
        """Whether it is looked for inside longer values too."""
        return len(self.value.encode("utf-8", "replace")) >= (LEAST_TEXT if self.kind == "text" else ANCHOR)


@dataclass(frozen=True, slots=True)
class _Spelling:
    needle: Needle
    bytes: bytes
    anchor_at: int


@dataclass
class Needles:
    """Needles ready to be searched for.

    Attributes:
        all: the needles.
        whole: the needles by their value, for whole values.
    """

    all: frozenset[Needle]
    whole: dict[str, Needle] = field(default_factory=dict, repr=False)
    _anchors: dict[int, list[_Spelling]] = field(default_factory=dict, repr=False)
    _words: npt.NDArray[np.uint64] = field(default_factory=lambda: np.array([], dtype=np.uint64), repr=False)

    @classmethod
    def of(cls, needles: Iterable[Needle]) -> "Needles":
        """Make them ready: every needle in its spellings (as it is, in JSON, in HTML)."""
        made = cls(frozenset(one for one in needles if one.value))
        anchors: dict[int, list[_Spelling]] = defaultdict(list)
        for needle in made.all:
            made.whole[needle.value] = needle
            if not needle.inside:
                continue
            for spelling in _spellings(needle.value):
                at = (len(spelling) - ANCHOR) // 2
                word = int.from_bytes(spelling[at : at + ANCHOR], "little")
                anchors[word].append(_Spelling(needle, spelling, at))
        made._anchors = dict(anchors)
        made._words = np.array(sorted(anchors), dtype=np.uint64)
        return made

    def without(self, needles: Iterable[Needle]) -> "Needles":
        """The same without some."""
        return Needles.of(self.all - set(needles))

    def inside(self, data: bytes | memoryview) -> Iterator[tuple[Needle, int]]:
        """Needles found in bytes, each with its place; one that stands several times comes as often.

        An id counts only where no further letter or digit touches it: "user-12" is not found in "user-123".
        """
        view = memoryview(data).cast("B")
        for needle, start, end in self._matches(view):
            if needle.kind == "text" or not (_touches(view, start - 1) or _touches(view, end)):
                yield needle, start

    def in_cells(
        self, data: bytes | memoryview, offsets: npt.NDArray[np.int64]
    ) -> Iterator[tuple[Needle, int]]:
        """Needles found in cells that lie side by side, each with the number of its cell.

        Args:
            data: the cells' bytes.
            offsets: where each cell begins, and where the last one ends.
        """
        view = memoryview(data).cast("B")
        for needle, start, end in self._matches(view):
            cell = int(np.searchsorted(offsets, start, side="right")) - 1
            if not 0 <= cell < len(offsets) - 1 or end > offsets[cell + 1]:
                continue
            touched = (start > offsets[cell] and _touches(view, start - 1)) or (
                end < offsets[cell + 1] and _touches(view, end)
            )
            if needle.kind == "text" or not touched:
                yield needle, cell

    def _matches(self, view: memoryview) -> Iterator[tuple[Needle, int, int]]:
        if not len(self._words):
            return
        for start in range(0, max(0, len(view) - ANCHOR + 1), _BLOCK):
            block = np.frombuffer(view[start : start + _BLOCK + ANCHOR - 1], dtype=np.uint8)
            for place in self._places(block):
                yield from self._at(view, start + int(place))

    def _places(self, block: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Where in a block eight bytes stand that are some needle's."""
        found = []
        for shift in range(ANCHOR):
            count = (len(block) - shift) // ANCHOR
            if count > 0:
                words = block[shift : shift + count * ANCHOR].view(np.uint64)
                hits = np.searchsorted(self._words, words)
                hits[hits == len(self._words)] = 0
                found.append(np.flatnonzero(self._words[hits] == words) * ANCHOR + shift)
        return np.sort(np.concatenate(found)) if found else np.array([], dtype=np.int64)

    def _at(self, view: memoryview, place: int) -> Iterator[tuple[Needle, int, int]]:
        word = int.from_bytes(view[place : place + ANCHOR], "little")
        for spelling in self._anchors[word]:
            start = place - spelling.anchor_at
            end = start + len(spelling.bytes)
            if start >= 0 and view[start:end] == spelling.bytes:
                yield spelling.needle, start, end


def _touches(view: memoryview, place: int) -> bool:
    """Whether the byte there would make an id another one; letters beyond ASCII count too."""
    if not 0 <= place < len(view):
        return False
    one = view[place]
    return one >= 0x80 or chr(one).isalnum()


def _spellings(value: str) -> set[bytes]:
    written = {
        value,
        json.dumps(value, ensure_ascii=False)[1:-1],
        json.dumps(value)[1:-1],
        html.escape(value),
        # As Jinja escapes.
        html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    }
    return {spelled for one in written if len(spelled := one.encode("utf-8", "replace")) >= ANCHOR}
