"""Questions that somebody asked before: their runs are found and waited for, and nothing is asked twice."""

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cai_assets.resources import dify_errors as errors
from cai_assets.resources.dify import DifyClient
from cai_assets_tests.fixtures.dify_replay import ReplayServer, Reply, stream

RUN = "0de0a377-f1a8-43d2-a723-cc685ed1fb7b"
POST = "POST /v1/workflows/run"
LOGS = "GET /v1/workflows/logs"
DETAIL = f"GET /v1/workflows/run/{RUN}"
BROKEN = Reply(b"<html>bad gateway</html>", 502, "text/html")
EMPTY = Reply(b'{"total":0,"data":[]}')

Clients = Callable[..., DifyClient]


def detail(status: str, **data: Any) -> Reply:
    fields = {"outputs": {"text": "done"}, "error": None, "total_tokens": 27} | data
    return Reply(json.dumps({"id": RUN, "status": status, **fields}).encode())


LOGGED = Reply(
    json.dumps(
        {
            "total": 1,
            "data": [
                {
                    "workflow_run": {"id": RUN, "status": "running"},
                    "created_by_end_user": {"session_id": "u:1"},
                }
            ],
        }
    ).encode()
)


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def test_its_run_is_found_under_any_of_its_tries(replay: ReplayServer, replay_client: Clients) -> None:
    replay.reply(LOGS, EMPTY, LOGGED)
    replay.always[DETAIL] = detail("succeeded")
    result = replay_client(max_retries=2).adopt("u", ago(1))
    assert result is not None
    assert (result.outputs, result.usage.tokens) == ({"text": "done"}, 27)
    # The last try first: it is the one whose end was not seen.
    users = [one.query.split("session_id=")[1].split("&")[0] for one in replay.asked(LOGS)]
    assert users == ["u%3A3", "u%3A2", "u%3A1"]
    assert result.attempts[0].user == "u:2"
    assert not replay.asked(POST)


def test_run_that_is_known_needs_no_log(replay: ReplayServer, replay_client: Clients) -> None:
    replay.always[DETAIL] = detail("succeeded")
    assert replay_client().adopt("u:1", ago(1), RUN) is not None
    assert not replay.asked(LOGS)


def test_nothing_came_of_it_once_the_grace_has_passed(replay: ReplayServer, replay_client: Clients) -> None:
    client = replay_client(timeouts={"grace": 0.4, "poll": 0.05}, max_retries=0)
    assert client.adopt("u", ago(60)) is None
    assert len(replay.asked(LOGS)) == 1
    # Young questions may still be queued, and a queued run has no row.
    assert client.adopt("u", ago(0)) is None
    assert len(replay.asked(LOGS)) > 3


def test_log_that_cannot_be_read_is_no_sign_that_nothing_runs(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.always[LOGS] = BROKEN
    with pytest.raises(errors.ServerFailedError) as caught:
        replay_client(max_retries=1).adopt("u", ago(60))
    assert caught.value.pending
    assert not replay.asked(POST)


def test_failed_run_is_accounted_for_and_may_be_asked_anew(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.always[DETAIL] = detail("failed", error="boom", outputs={})
    with pytest.raises(errors.NothingCameOfItError, match="boom") as caught:
        replay_client().adopt("u:1", ago(60), RUN)
    assert [(one.workflow_run_id, one.usage.tokens) for one in caught.value.attempts] == [(RUN, 27)]
    assert not caught.value.pending


def test_run_that_runs_too_long_is_dead_and_one_that_may_end_is_not(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.always[DETAIL] = detail("running", outputs={}, total_tokens=0)
    client = replay_client(timeouts={"total": 0.5, "poll": 0.02})
    with pytest.raises(errors.OutcomeUnknownError) as caught:
        client.adopt("u:1", ago(0.1), RUN)
    assert caught.value.pending
    with pytest.raises(errors.NothingCameOfItError):
        client.adopt("u:1", ago(10), RUN)
    # Not seen is not dead.
    replay.always[DETAIL] = BROKEN
    with pytest.raises(errors.OutcomeUnknownError):
        client.adopt("u:1", ago(10), RUN)


def test_lost_question_is_not_asked_again_while_the_log_cannot_be_read(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.always[POST] = stream(cut=True)
    replay.always[LOGS] = BROKEN
    client = replay_client(timeouts={"grace": 0.1, "total": 0.6, "poll": 0.02})
    with pytest.raises(errors.OutcomeUnknownError, match="nor could it be looked for") as caught:
        client.run({}, "u")
    assert len(replay.asked(POST)) == 1
    assert caught.value.pending


@pytest.mark.parametrize("pending", [True, False])
def test_tells_whether_a_try_may_still_come_to_light(
    pending: bool, replay: ReplayServer, replay_client: Clients
) -> None:
    busy = Reply(b'{"code":"rate_limit_error","message":"","status":429}', 429)
    replay.always[POST] = stream(cut=True) if pending else busy
    with pytest.raises(errors.DifyTransientError) as caught:
        replay_client(timeouts={"grace": 0.05, "poll": 0.02}, max_retries=1).run({}, "u")
    assert caught.value.pending is pending


def test_no_more_than_so_many_are_asked_at_once(replay: ReplayServer, replay_client: Clients) -> None:
    together: list[int] = []
    under_way = 0
    lock = threading.Lock()

    def begin() -> None:
        nonlocal under_way
        with lock:
            under_way += 1
            together.append(under_way)
        time.sleep(0.05)
        with lock:
            under_way -= 1

    done = json.dumps({"workflow_run_id": RUN, "task_id": "t", "data": json.loads(detail("succeeded").body)})
    replay.always[POST] = Reply(done.encode(), before=begin)
    client = replay_client(most_at_once=2, response_mode="blocking")
    threads = [threading.Thread(target=client.run, args=({}, f"u{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(together), max(together)) == (8, 2)
