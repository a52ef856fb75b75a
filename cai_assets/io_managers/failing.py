"""How failures inside a step end: tried again, or stopped at once. No IO manager here."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from cai_assets.failures import PermanentError, TransientError

# The clients retry within seconds to minutes; a whole step is tried again for what outlasts that,
# such as a server's restart.
STEP_RETRIES = 2
STEP_RETRY_SECONDS = 30


@contextmanager
def told_apart() -> Iterator[None]:
    """Let transient failures be tried again and permanent ones end the step at once, with their message."""
    try:
        yield
    except TransientError as error:
        raise dg.RetryRequested(STEP_RETRIES, STEP_RETRY_SECONDS) from error
    except PermanentError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
