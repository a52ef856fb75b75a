"""An even pace for requests, shared by all threads of a client. What a request is does not belong here."""

import threading
import time
from collections.abc import Callable


class RateLimiter:
    """Lets calls begin at most `per_second` times a second, evenly spaced, whoever makes them.

    Even spacing rather than a bucket: NocoDB counts within fixed windows of a second, so a burst after a
    pause would pass a limit that its average keeps.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make a limiter.

        Args:
            per_second: most calls a second.
            clock: monotonic seconds.
            sleep: waits that many seconds.
        """
        self._interval = 1.0 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next = clock()
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Wait for the next free slot; slots are given in the order of asking."""
        with self._lock:
            slot = max(self._next, self._clock())
            self._next = slot + self._interval
        while (wait := slot - self._clock()) > 0:
            self._sleep(wait)

    def pause(self, seconds: float) -> None:
        """Give no slot for so long, to anyone: the server refuses all of the token's requests meanwhile."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)
