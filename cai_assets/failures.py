"""What can go wrong, told apart by what helps: trying again, or mending something first.

Only exception types and the retry rule belong here. Resources raise these; assets let them pass, so that
Dagster retries the transient ones and stops at once on the permanent ones.
"""

import random
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

P = ParamSpec("P")
T = TypeVar("T")


class CaiError(Exception):
    """Root of the platform's own errors; the message names the thing and the mend."""


class PermanentError(CaiError):
    """Trying again cannot help: a wrong token, a missing table, a refused input."""


class TransientError(CaiError):
    """May pass by itself: a cut connection, a server error, a limit.

    Attributes:
        retry_after: seconds the server asked to wait, or None.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def retrying(max_retries: int, delay: float, *, longest: float = 60.0) -> Retrying:
    """A tenacity loop that tries again on `TransientError`, with exponential backoff and full jitter.

    Args:
        max_retries: further tries after the first.
        delay: seconds before the first retry at most; doubled each time up to `longest`. A server's own
            wish (`retry_after`) is honoured instead where it is longer.
        longest: upper bound of one wait without such a wish, seconds.
    """

    def wait(state: RetryCallState) -> float:
        ceiling = min(longest, delay * 2 ** (state.attempt_number - 1))
        backoff = random.uniform(ceiling / 2, ceiling)  # noqa: S311  jitter, not a secret
        error = state.outcome.exception() if state.outcome else None
        return max(backoff, getattr(error, "retry_after", None) or 0.0)

    return Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(max_retries + 1),
        wait=wait,
        reraise=True,
    )


def call_with_retries(
    max_retries: int, delay: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call `function` under `retrying`; the last error is raised as it was."""
    return retrying(max_retries, delay)(function, *args, **kwargs)
