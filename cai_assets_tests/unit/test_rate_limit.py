"""The pace holds for all threads together, by a clock of the test's own."""

import threading
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cai_assets.resources.rate_limit import RateLimiter


class Clock:
    """Seconds that pass only when someone sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(st.floats(0.5, 50), st.lists(st.floats(0, 3), min_size=1, max_size=40))
def test_no_second_sees_more_calls_than_allowed_whatever_the_pauses_between(rate, pauses):
    clock = Clock()
    limiter = RateLimiter(rate, clock=clock, sleep=clock.sleep)
    times = []
    for pause in pauses:
        clock.now += pause
        limiter.acquire()
        times.append(clock.now)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(gap >= 1 / rate - 1e-6 for gap in gaps)


def test_a_caller_that_is_late_anyway_does_not_wait():
    clock = Clock()
    limiter = RateLimiter(2, clock=clock, sleep=clock.sleep)
    limiter.acquire()
    clock.now += 10
    limiter.acquire()
    assert clock.now == 110


def test_a_pause_holds_everyone_and_is_not_shortened_by_another():
    clock = Clock()
    limiter = RateLimiter(10, clock=clock, sleep=clock.sleep)
    limiter.pause(30)
    limiter.pause(1)
    limiter.acquire()
    assert clock.now == 130


def test_threads_share_one_pace():
    slots: list[float] = []

    class Waiting(threading.local):
        until = 0.0

    waiting = Waiting()

    def clock() -> float:
        return waiting.until  # every thread starts at 0 and jumps to its slot

    def sleep(seconds: float) -> None:
        waiting.until += seconds
        slots.append(waiting.until)

    limiter = RateLimiter(4, clock=clock, sleep=sleep)
    threads = [threading.Thread(target=limiter.acquire) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One of the nine took the free slot at 0 without waiting.
    assert sorted(round(slot, 6) for slot in slots) == [0.25 * n for n in range(1, 9)]
