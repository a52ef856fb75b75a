"""Chance that falls the same way on every machine and every Python: draws, picks, delays from a text seed.

Only `random.Random.random` is used, the one method whose sequence Python promises to keep for a seed; and
only the four operations, which IEEE 754 defines to the last bit (`log` and `exp` differ between C libraries).
What is drawn does not belong here.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


def scramble(number: int) -> int:
    """A 64-bit hash of a number (splitmix64's finaliser), for traits that belong to the number for good."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


class Dice:
    """A stream of draws that depends on the text of its seed alone."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed).random  # noqa: S311  nothing here is secret

    def below(self, n: int) -> int:
        """An integer in `[0, n)`."""
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """An integer in `[low, high]`."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, each as likely."""
        return items[int(self.random() * len(items))]

    def quantile(self, points: Sequence[int]) -> int:
        """A number whose evenly spaced quantiles, from the least to the greatest value, are the points."""
        place = self.random() * (len(points) - 1)
        below = int(place)
        return int(points[below] + (points[below + 1] - points[below]) * (place - below))

    def deck(self, n: int, shares: Sequence[tuple[T, float]]) -> list[T]:
        """`n` values in random order, each as often as its share says, to within one.

        Drawing without this would leave a rare value out of a small day, or give it thrice.

        Args:
            n: Number of values.
            shares: Values with their shares, which sum to 1.
        """
        values = [value for value, _ in shares]
        bounds = list(accumulate(share for _, share in shares))[:-1]
        offset = self.random()
        cards = [values[bisect_right(bounds, (i + offset) / n)] for i in range(n)]
        for i in range(n - 1, 0, -1):
            j = int(self.random() * (i + 1))
            cards[i], cards[j] = cards[j], cards[i]
        return cards
