"""The client over connections that break: no run is asked for twice while one may be under way."""

import json
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from cai_assets.domain.ledger import Usage
from cai_assets.failures import PermanentError, TransientError
from cai_assets.resources import dify_errors as errors
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.dify_inputs import InputFile
from cai_assets.resources.dify_runs import CancelledRunError
from cai_assets_tests.fixtures.dify_replay import (
    KEY,
    ReplayServer,
    Reply,
    event,
    form,
    stream,
    wait_until,
)

RUN = "0de0a377-f1a8-43d2-a723-cc685ed1fb7b"
OTHER = "617737f0-3317-4494-8b21-1b9a9948b424"
POST = "POST /v1/workflows/run"
LOGS = "GET /v1/workflows/logs"
DETAIL = f"GET /v1/workflows/run/{RUN}"
EVENTS = f"GET /v1/workflow/{RUN}/events"
ACCOUNT = {"total_tokens": 27, "total_price": "0.0000072", "currency": "USD"}

Clients = Callable[..., DifyClient]


def started(run: str = RUN) -> dict[str, Any]:
    return event("workflow_started", run)


def node(run: str = RUN) -> dict[str, Any]:
    return event("node_finished", run, outputs={"text": "x", "usage": ACCOUNT}, status="succeeded")


def finished(run: str = RUN, status: str = "succeeded", **data: Any) -> dict[str, Any]:
    fields = {"outputs": {"text": "done"}, "error": None, "total_tokens": 27} | data
    return event("workflow_finished", run, status=status, **fields)


def detail(status: str, run: str = RUN, **data: Any) -> Reply:
    fields = {"outputs": {"text": "done"}, "error": None, "total_tokens": 27} | data
    return Reply(json.dumps({"id": run, "status": status, **fields}).encode())


def log_of(run: str, status: str = "running") -> Reply:
    entry = {"workflow_run": {"id": run, "status": status}, "created_by_end_user": {"session_id": "u"}}
    return Reply(json.dumps({"total": 1, "data": [entry]}).encode())


def test_result_comes_from_the_end_alone_and_unknown_events_are_passed_over(
    replay: ReplayServer, replay_client: Clients
) -> None:
    chunk = event("text_chunk", RUN, text="do")
    replay.reply(
        POST, stream(started(), chunk, chunk, event("reasoning_chunk", RUN), node(), finished(), piece=7)
    )
    result = replay_client().run({"text": "a"}, "u")
    assert result.outputs == {"text": "done"}
    assert result.usage == Usage(27, Decimal("0.0000072"), "USD")
    assert replay.asked(POST)[0].json["user"] == "u:1"


def test_one_connection_serves_several_streams(replay: ReplayServer, replay_client: Clients) -> None:
    replay.reply(POST, stream(started(), finished()), stream(started(OTHER), finished(OTHER)))
    client = replay_client()
    client.run({}, "u")
    sessions = client._http._sessions
    assert [client.run({}, "v").workflow_run_id, len(sessions)] == [OTHER, 1]


@pytest.mark.parametrize(
    "cut", ["after the first event", "in the middle of the last event", "without an end"]
)
def test_cut_stream_of_a_finished_run_is_not_asked_again(
    cut: str, replay: ReplayServer, replay_client: Clients
) -> None:
    whole = stream(started(), node(), finished())
    if cut == "after the first event":
        broken = stream(started(), cut=True)
    elif cut == "in the middle of the last event":
        broken = Reply(whole.body[:-40], content_type=whole.content_type, piece=11, cut=True)
    else:
        broken = stream(started(), node())
    replay.reply(POST, broken)
    replay.always[DETAIL] = detail("succeeded")
    result = replay_client().run({}, "u")
    assert result.outputs == {"text": "done"}
    assert len(replay.asked(POST)) == 1
    # The price was in the part that came; the run's detail has none.
    assert result.usage.price == (None if cut == "after the first event" else Decimal("0.0000072"))


def test_cut_stream_of_a_running_run_is_listened_to_again(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, stream(started(), cut=True))
    replay.reply(DETAIL, detail("running", outputs={}), detail("running", outputs={}))
    replay.reply(EVENTS, stream(node(), cut=True), stream(finished()))
    result = replay_client().run({}, "u")
    assert (result.outputs, result.usage.tokens) == ({"text": "done"}, 27)
    assert len(replay.asked(POST)) == 1
    assert replay.asked(EVENTS)[0].query == "user=u%3A1"


def test_run_that_cannot_be_listened_to_is_looked_at_until_it_ends(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, stream(started(), cut=True))
    replay.reply(DETAIL, *[detail("running", outputs={})] * 3, Reply(b"<html>", 502, "text/html"))
    replay.always[DETAIL] = detail("succeeded")
    assert replay_client().run({}, "u").outputs == {"text": "done"}
    assert len(replay.asked(POST)) == 1


@pytest.mark.parametrize(
    "lost",
    [
        stream(cut=True),
        Reply(b"<html>504</html>", 504, "text/html"),
        stream(),
        Reply(b"<html>", 200, "text/html"),
    ],
    ids=["cut before the first event", "504 of a proxy", "silence and an end", "page of a proxy"],
)
def test_run_without_a_known_id_is_found_in_the_log(
    lost: Reply, replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, lost)
    replay.reply(LOGS, Reply(b'{"total":0,"data":[]}'), log_of(RUN))
    replay.always[DETAIL] = detail("succeeded")
    assert replay_client().run({}, "u").workflow_run_id == RUN
    assert len(replay.asked(POST)) == 1
    assert "created_by_end_user_session_id=u%3A1" in replay.asked(LOGS)[0].query


def test_run_that_never_was_is_asked_again_under_another_user(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, stream(cut=True), stream(started(), finished()))
    result = replay_client().run({}, "u")
    assert [one.json["user"] for one in replay.asked(POST)] == ["u:1", "u:2"]
    assert [(one.user, one.requests) for one in result.attempts] == [("u:2", 2)]


def test_queued_run_that_comes_to_light_late_is_taken_instead_of_asking_again(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, stream(cut=True))
    # The log is empty while the grace lasts; the run appears before the second try.
    client = replay_client(timeouts={"grace": 0.0}, retry_delay=0.05)
    replay.reply(LOGS, Reply(b'{"total":0,"data":[]}'), log_of(RUN))
    replay.always[DETAIL] = detail("succeeded")
    assert client.run({}, "u").workflow_run_id == RUN
    assert len(replay.asked(POST)) == 1


def test_server_silent_before_the_first_event_counts_as_lost(
    replay: ReplayServer, replay_client: Clients
) -> None:
    release = threading.Event()
    replay.reply(POST, stream(after=lambda: release.wait(5)), stream(started(), finished()))
    try:
        result = replay_client(timeouts={"queue": 0.2}).run({}, "u")
    finally:
        release.set()
    assert [one.requests for one in result.attempts] == [2]


def test_run_silent_after_it_started_is_found_out_about(replay: ReplayServer, replay_client: Clients) -> None:
    release = threading.Event()
    replay.reply(POST, stream(started(), after=lambda: release.wait(5)))
    replay.always[DETAIL] = detail("succeeded")
    try:
        result = replay_client(timeouts={"queue": 4, "idle": 0.2}).run({}, "u")
    finally:
        release.set()
    assert result.attempts[0].latency_ms < 2000
    assert len(replay.asked(POST)) == 1


def test_run_that_does_not_end_is_unknown_and_not_asked_again(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, stream(started(), cut=True))
    replay.always[DETAIL] = detail("running", outputs={})
    with pytest.raises(errors.OutcomeUnknownError, match="may still succeed") as caught:
        replay_client(timeouts={"total": 0.3}).run({}, "u")
    assert len(replay.asked(POST)) == 1
    assert (caught.value.workflow_run_id, caught.value.attempts[0].workflow_run_id) == (RUN, RUN)


@pytest.mark.parametrize(
    "busy",
    [
        Reply(b'{"code":"invalid_param","message":"Too many requests. Please try again.","status":400}', 400),
        Reply(b'{"code":"rate_limit_error","message":"","status":429}', 429, headers={"Retry-After": "0"}),
    ],
)
def test_busy_server_is_asked_again_without_a_row_of_its_own(
    busy: Reply, replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, busy, stream(started(), finished()))
    result = replay_client().run({}, "u")
    assert [(one.workflow_run_id, one.requests, one.error) for one in result.attempts] == [(RUN, 2, None)]


def test_failed_run_that_may_pass_is_asked_again_and_both_are_accounted_for(
    replay: ReplayServer, replay_client: Clients
) -> None:
    failing = finished(OTHER, "failed", error="Error code: 429 - rate limit reached", total_tokens=9)
    replay.reply(POST, stream(started(OTHER), failing), stream(started(), finished()))
    result = replay_client().run({}, "u")
    assert [(one.workflow_run_id, one.usage.tokens, one.requests) for one in result.attempts] == [
        (OTHER, 9, 1),
        (RUN, 27, 1),
    ]
    assert "rate limit" in (result.attempts[0].error or "")


def test_failed_run_that_stays_failed_is_asked_once(replay: ReplayServer, replay_client: Clients) -> None:
    replay.reply(
        POST, stream(started(), finished(status="failed", error="Incorrect model credentials provided"))
    )
    with pytest.raises(errors.WorkflowFailedError, match="credentials") as caught:
        replay_client().run({}, "u")
    assert [one.workflow_run_id for one in caught.value.attempts] == [RUN]
    assert len(replay.asked(POST)) == 1


def test_tries_end_and_tell_what_was_asked(replay: ReplayServer, replay_client: Clients) -> None:
    replay.always[POST] = Reply(b"<html>Bad gateway</html>", 502, "text/html")
    with pytest.raises(errors.ServerFailedError) as caught:
        replay_client(timeouts={"grace": 0}).run({}, "u")
    assert len(replay.asked(POST)) == 3
    assert [(one.requests, one.workflow_run_id) for one in caught.value.attempts] == [(3, None)]


@pytest.mark.parametrize("mode", ["streaming", "blocking"])
def test_stopped_by_the_servers_limit_goes_on_and_succeeds(
    mode: str, replay: ReplayServer, replay_client: Clients
) -> None:
    end = finished(status="stopped", error="Stopped by user.", outputs={})
    blocking = Reply(json.dumps({"task_id": "t", "workflow_run_id": RUN, "data": end["data"]}).encode())
    replay.reply(POST, stream(started(), end) if mode == "streaming" else blocking)
    replay.reply(DETAIL, detail("running", outputs={}), detail("succeeded"))
    assert replay_client(response_mode=mode).run({}, "u").outputs == {"text": "done"}
    assert len(replay.asked(POST)) == 1


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (event("workflow_paused", RUN, outputs={}), errors.WorkflowPausedError),
        (finished(status="partial-succeeded"), errors.PartialSuccessError),
        (
            {
                **started(),
                "event": "error",
                "code": "invalid_param",
                "message": "text is required in input form",
            },
            errors.InvalidInputError,
        ),
    ],
)
def test_other_ends_of_a_stream_are_told_apart(
    end: dict[str, Any], kind: type[Exception], replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, stream(started(), end))
    with pytest.raises(kind):
        replay_client().run({}, "u")
    assert len(replay.asked(POST)) == 1


def test_partial_success_is_a_result_where_the_caller_says_so(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, stream(started(), finished(status="partial-succeeded")))
    assert replay_client().run({}, "u", allow_partial=True).status == "partial-succeeded"


def test_worker_that_cannot_start_is_asked_again(replay: ReplayServer, replay_client: Clients) -> None:
    broken = {"event": "error", "message": "An internal error occurred", "status": 500}
    replay.reply(POST, stream(broken), stream(started(), finished()))
    assert replay_client().run({}, "u").workflow_run_id == RUN


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "input text is required"),
        ({"text": 5}, "must be text, not int"),
        ({"text": "x" * 11}, "has 11 characters; its form allows 10"),
        ({"text": "a", "lang": "xx"}, "must be one of en, de"),
        ({"text": "a", "count": "many"}, "must be a number"),
        ({"text": "a", "txt": "b"}, "no input txt; its Start node declares text, lang, count"),
    ],
)
def test_inputs_that_the_form_refuses_are_not_sent(
    inputs: dict[str, Any], text: str, replay: ReplayServer, replay_client: Clients
) -> None:
    replay.always["GET /v1/parameters"] = form(
        text={"type": "paragraph", "required": True, "max_length": 10},
        lang={"type": "select", "options": ["en", "de"]},
        count={"type": "number"},
    )
    with pytest.raises(errors.InvalidInputError, match=text):
        replay_client().run(inputs, "u")
    assert not replay.asked(POST)


def test_user_that_would_break_the_server_is_not_sent(replay: ReplayServer, replay_client: Clients) -> None:
    with pytest.raises(errors.InvalidInputError, match="255"):
        replay_client().run({}, "x" * 254)
    assert not replay.requests


def test_uploaded_file_is_used_by_exactly_its_user(replay: ReplayServer, replay_client: Clients) -> None:
    replay.reply("POST /v1/files/upload", Reply(b'{"id":"f","name":"a.txt","size":1,"extension":"txt"}', 201))
    replay.reply(POST, stream(cut=True), stream(started(), finished()))
    client = replay_client()
    uploaded = client.upload_file("a.txt", b"x", "u", "text/plain")
    client.run(
        {},
        "u",
        files=[InputFile("document", upload_file_id=uploaded.id), InputFile("image", url="http://x/")],
    )
    posts = replay.asked(POST)
    assert [one.json["user"] for one in posts] == ["u", "u"]
    assert [one["transfer_method"] for one in posts[0].json["files"]] == ["local_file", "remote_url"]
    with pytest.raises(errors.InvalidInputError, match="either an upload_file_id or a url"):
        InputFile("image").payload()


@pytest.mark.parametrize("kind", ["document", "image", "audio", "video", "custom"])
def test_files_of_every_kind_go_by_upload_and_by_address(
    kind: Any, replay: ReplayServer, replay_client: Clients
) -> None:
    replay.reply(POST, stream(started(), finished()))
    files = [InputFile(kind, upload_file_id="f-1"), InputFile(kind, url="http://files.example/f")]
    replay_client().run({}, "u", files=files)
    assert replay.asked(POST)[0].json["files"] == [
        {"type": kind, "transfer_method": "local_file", "upload_file_id": "f-1"},
        {"type": kind, "transfer_method": "remote_url", "url": "http://files.example/f"},
    ]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("provider_not_initialize", errors.ModelUnavailableError),
        ("provider_quota_exceeded", errors.ModelUnavailableError),
        ("model_currently_not_support", errors.ModelUnavailableError),
        ("completion_request_error", errors.WorkflowFailedError),
        ("app_unavailable", errors.WrongAppError),
    ],
)
def test_faults_before_a_run_have_their_types(
    code: str, kind: type[Exception], replay: ReplayServer, replay_client: Clients
) -> None:
    body = {"code": code, "message": "said so", "status": 400}
    replay.always[POST] = Reply(json.dumps(body).encode(), 400)
    with pytest.raises(kind, match="said so"):
        replay_client(max_retries=0).run({}, "u")


def test_redirects_are_not_followed_with_the_key(replay: ReplayServer, replay_client: Clients) -> None:
    elsewhere = ReplayServer()
    try:
        replay.always["GET /v1/info"] = Reply(status=302, headers={"Location": f"{elsewhere.base_url}/info"})
        with pytest.raises(errors.WrongAddressError, match="DIFY_BASE_URL"):
            replay_client().info()
        assert not elsewhere.requests
    finally:
        elsewhere.close()


def test_nobody_listening_is_transient_and_names_the_setting(replay_client: Clients) -> None:
    gone = ReplayServer()
    gone.close()
    client = replay_client(base_url=gone.base_url.replace("http://", "http://me:pass-word@"), max_retries=1)
    with pytest.raises(TransientError, match="DIFY_BASE_URL") as caught:
        client.info()
    assert "pass-word" not in str(caught.value)


def test_secrets_and_quoted_inputs_are_in_no_message(replay: ReplayServer, replay_client: Clients) -> None:
    body = {
        "code": "invalid_param",
        "message": f"1 error [type=missing, input_value={{'text': 'private words'}}, input_type=dict] {KEY}",
    }
    replay.always["GET /v1/info"] = Reply(json.dumps(body).encode(), 400)
    with pytest.raises(PermanentError) as caught:
        replay_client().info()
    assert KEY not in str(caught.value)
    assert "private words" not in str(caught.value)


def test_cancelling_stops_runs_and_ends_waiting(replay: ReplayServer, replay_client: Clients) -> None:
    client = replay_client(timeouts={"idle": 5})
    stopped = threading.Event()
    stop = f"POST /v1/workflows/tasks/t-{RUN}/stop"
    replay.reply(stop, Reply(b'{"result":"success"}', before=stopped.set))
    replay.reply(POST, stream(started(), after=lambda: stopped.wait(5), cut=True))
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            client.run({}, "u")
        except CancelledRunError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: bool(client._runs.under_way()))
    client.cancel()
    thread.join(5)
    assert [type(error) for error in caught] == [CancelledRunError]
    assert replay.asked(stop)[0].json == {"user": "u:1"}
    with pytest.raises(CancelledRunError):
        client.run({}, "v")
    assert len(replay.asked(POST)) == 1


def test_run_started_before_is_waited_for_without_asking(
    replay: ReplayServer, replay_client: Clients
) -> None:
    replay.always[DETAIL] = detail("succeeded")
    result = replay_client().result_of(RUN, "u:1")
    assert (result.outputs, result.attempts[0].requests) == ({"text": "done"}, 0)
    assert not replay.asked(POST)
