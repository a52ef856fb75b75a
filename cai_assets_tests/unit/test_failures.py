"""What may pass is tried again, what cannot is not."""

from collections.abc import Callable

import pytest

from cai_assets.failures import PermanentError, TransientError, call_with_retries


def failing(times: int, error: Exception) -> tuple[list[int], Callable[[], str]]:
    calls: list[int] = []

    def function() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return calls, function


def test_a_transient_failure_is_tried_again_until_it_passes() -> None:
    calls, function = failing(2, TransientError("busy"))
    assert call_with_retries(2, 0.0, function) == "done"
    assert len(calls) == 3


def test_the_last_error_is_raised_as_it_was() -> None:
    error = TransientError("busy")
    calls, function = failing(9, error)
    with pytest.raises(TransientError) as raised:
        call_with_retries(3, 0.0, function)
    assert raised.value is error
    assert len(calls) == 4


def test_a_permanent_failure_ends_at_once() -> None:
    calls, function = failing(9, PermanentError("wrong token"))
    with pytest.raises(PermanentError):
        call_with_retries(5, 0.0, function)
    assert len(calls) == 1


def test_a_servers_own_wish_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    _, function = failing(1, TransientError("slow down", retry_after=7.0))
    call_with_retries(1, 0.1, function)
    assert waits == [7.0]
