"""Grouping conversations by what they are about: TF-IDF of their terms, reduced and clustered. Pure.

Rows in, rows out; where they come from, and which device computes, is told elsewhere. scikit-learn is
imported where it is used: it takes a second. The same conversations give the same topics in whatever order
they come: they are sorted, choices are seeded, and ties are broken by name.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cai_assets.domain.tokens import terms

SEED: Final = 0
FITTED: Final = 50_000
"""Conversations that topics are learnt from: of more, those whose id has the least hash. 50,000 take some
300 MB; the others are only told to which topic they belong, batch by batch."""
VOCABULARY: Final = 20_000
"""Terms looked at, the most frequent: bounds the width of every matrix."""
DIMENSIONS: Final = 100
"""Of the space that terms are reduced to before clustering, as is usual for texts."""
COMMON: Final = 0.5
"""A term in more than this share of the conversations says nothing of what one is about."""
TERMS_OF_TOPIC: Final = 20
NO_TOPIC: Final = 0
"""Topic of conversations without a known term."""

Vectors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Document:
    """What one conversation's user wrote.

    Attributes:
        conversation_id: whose it is.
        text: all of it, in the language that is to be compared.
    """

    conversation_id: str
    text: str


@dataclass(frozen=True)
class Member:
    """To which topic a conversation belongs.

    Attributes:
        conversation_id: whose it is.
        topic: number, from 1; `NO_TOPIC` where no term of it is known.
        weight: cosine of the angle to the middle of the topic, -1 to 1; None without a topic.
    """

    conversation_id: str
    topic: int
    weight: float | None


@dataclass(frozen=True)
class Topics:
    """Topics that were learnt.

    Attributes:
        terms: of each topic, from 1, its terms with weights, the most telling first. A weight is the mean
            TF-IDF in the topic less that in all conversations.
        fitted: conversations they were learnt from.
    """

    terms: tuple[tuple[tuple[str, float], ...], ...]
    fitted: int
    _place: Callable[[Sequence[str]], Vectors] = field(repr=False)
    _middles: Vectors = field(repr=False)

    def members(self, documents: Iterable[Document], batch: int = 5_000) -> Iterator[Member]:
        """The topic of each document, batch by batch, as they come.

        Args:
            documents: any, learnt from or not.
            batch: how many are looked at together; changes memory, no value.
        """
        waiting: list[Document] = []
        for document in documents:
            waiting.append(document)
            if len(waiting) == batch:
                yield from self._batch(waiting)
                waiting = []
        if waiting:
            yield from self._batch(waiting)

    def _batch(self, documents: Sequence[Document]) -> Iterator[Member]:
        if not self.terms:
            yield from (Member(one.conversation_id, NO_TOPIC, None) for one in documents)
            return
        vectors = self._place([one.text for one in documents])
        # Rounded, so that which of two equally near topics is taken never hangs on the last bit.
        nearness = np.round(vectors @ self._middles.T, 9)
        for one, vector, row in zip(documents, vectors, nearness, strict=True):
            if not vector.any():
                yield Member(one.conversation_id, NO_TOPIC, None)
            else:
                nearest = int(row.argmax())
                yield Member(one.conversation_id, nearest + 1, float(row[nearest]))


def chosen(ids: Iterable[str], most: int = FITTED) -> frozenset[str]:
    """The conversations to learn from: all, or of more than `most` those whose id has the least hash."""

    def mark(conversation_id: str) -> bytes:
        return hashlib.blake2b(conversation_id.encode(), digest_size=16).digest()

    known = set(ids)
    if len(known) <= most:
        return frozenset(known)
    return frozenset(sorted(known, key=lambda one: (mark(one), one))[:most])


def learn(documents: Iterable[Document], number: int) -> Topics:
    """Learn topics.

    Args:
        documents: those to learn from, in any order.
        number: of topics; fewer where conversations are not so different.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    ordered = sorted(documents, key=lambda one: one.conversation_id)
    cut = [_words(one.text) for one in ordered]
    kept = [words for words in cut if words]
    if not kept:
        return Topics((), len(ordered), lambda texts: np.zeros((len(texts), 0)), np.zeros((0, 0)))
    many = len(kept) >= 50
    tfidf = TfidfVectorizer(
        analyzer=_as_they_are,
        sublinear_tf=True,
        min_df=2 if many else 1,
        max_df=COMMON if many else 1.0,
        max_features=VOCABULARY,
    )
    try:
        weights = tfidf.fit_transform(kept)
    except ValueError as error:
        if "no terms remain" not in str(error):
            raise
        tfidf.set_params(min_df=1, max_df=1.0)
        weights = tfidf.fit_transform(kept)
    reduce = _reduction(weights)
    # Rounded, so that equal conversations are equal points in spite of the last bit.
    points = np.round(reduce(weights), 9)
    known = points.any(axis=1)
    points = points[known]
    labels = _cluster(points, min(number, len(np.unique(points, axis=0))))
    order, topic_terms = _named(weights[known], labels, list(tfidf.get_feature_names_out()))
    middles = _unit(np.stack([points[labels == cluster].mean(axis=0) for cluster in order]))

    def place(texts: Sequence[str]) -> Vectors:
        return reduce(tfidf.transform([_words(text) for text in texts]))

    return Topics(topic_terms, len(ordered), place, middles)


def _words(text: str) -> list[str]:
    """Terms but single letters: those are spelt names, not what it is about."""
    return [term for term in terms(text) if len(term) > 1 or term.lower() == term.upper()]


def _as_they_are(words: list[str]) -> list[str]:
    return words


def _reduction(weights: Any) -> Callable[[Any], Vectors]:
    """From TF-IDF to unit vectors of few dimensions; of few terms, the terms themselves."""
    from sklearn.decomposition import TruncatedSVD

    dimensions = min(DIMENSIONS, weights.shape[1] - 1, weights.shape[0] - 1)
    if dimensions < 2 or weights.shape[1] <= DIMENSIONS:
        return lambda matrix: _unit(np.asarray(matrix.toarray(), dtype=np.float64))
    reducer = TruncatedSVD(dimensions, random_state=SEED).fit(weights)
    return lambda matrix: _unit(np.asarray(reducer.transform(matrix), dtype=np.float64))


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-12)
    return units


def _cluster(vectors: Vectors, number: int) -> npt.NDArray[np.int64]:
    from sklearn.cluster import KMeans

    clusters = KMeans(number, random_state=SEED, n_init=4).fit(vectors)
    return np.asarray(clusters.labels_, dtype=np.int64)


def _named(
    weights: Any, labels: npt.NDArray[np.int64], names: Sequence[str]
) -> tuple[list[int], tuple[tuple[tuple[str, float], ...], ...]]:
    """The clusters in order of their topics, the greatest first, and the terms of each."""
    mean = np.asarray(weights.mean(axis=0)).ravel()
    found: list[tuple[int, tuple[tuple[str, float], ...], int]] = []
    for cluster in np.unique(labels):
        inside = labels == cluster
        more = np.asarray(weights[inside].mean(axis=0)).ravel() - mean
        if inside.all():  # all are about the same: there is nothing to compare with
            more = mean
        telling = sorted(
            ((str(names[int(n)]), round(float(more[n]), 9)) for n in np.flatnonzero(more > 1e-9)),
            key=lambda one: (-one[1], one[0]),
        )
        found.append((int(inside.sum()), tuple(telling[:TERMS_OF_TOPIC]), int(cluster)))
    found.sort(key=lambda one: (-one[0], one[1]))
    return [cluster for _, _, cluster in found], tuple(named for _, named, _ in found)
