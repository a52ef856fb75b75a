"""Percentiles from the additive log-histogram of `marts/response_histogram`, within 1 %. No table is read.

Buckets of several days, channels or languages are added, and the percentile is taken of the sum: percentiles
themselves cannot be added or averaged.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final

BASE: Final = 1.02
"""Bucket k holds durations from BASE^k up to BASE^(k+1) seconds."""

ZERO_BUCKET: Final = -1047
"""The bucket of 0 s, which counts as a nanosecond; that of the shortest duration, 1 µs, is -698."""


def bucket(seconds: float) -> int:
    """The bucket of a duration.

    Raises:
        ValueError: it is negative.
    """
    if seconds < 0:
        raise ValueError(f"a duration of {seconds} s has no bucket")
    return math.floor(math.log(seconds or 1e-9) / math.log(BASE) + 1e-9)


def merged(rows: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Buckets `(bucket, n)` of any rows added up, in rising order."""
    total: dict[int, int] = {}
    for place, n in rows:
        total[place] = total.get(place, 0) + n
    return dict(sorted(total.items()))


def percentile(buckets: Mapping[int, int], q: float) -> float | None:
    """The q-quantile in seconds, off by at most 1 %; None where nothing was measured.

    It is interpolated between the closest ranks, as the exact percentiles of the marts are.

    Args:
        buckets: durations by bucket.
        q: 0 to 1.

    Raises:
        ValueError: q is outside.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile lies between 0 and 1, not at {q}")
    total = sum(buckets.values())
    if not total:
        return None
    rank = q * (total - 1)
    below = _of_rank(buckets, math.floor(rank))
    above = _of_rank(buckets, math.ceil(rank))
    return below + (above - below) * (rank - math.floor(rank))


def _of_rank(buckets: Mapping[int, int], rank: int) -> float:
    """What stands for the duration of that rank, from 0: the geometric middle of its bucket."""
    passed = 0
    for place in sorted(buckets):
        passed += buckets[place]
        if rank < passed:
            return 0.0 if place == ZERO_BUCKET else float(BASE ** (place + 0.5))
    raise ValueError(f"there is no rank {rank} among {passed}")
