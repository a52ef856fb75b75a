"""Every recorded exchange with a real Dify, played back to the byte, has the outcome that was observed."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from cai_assets.domain.ledger import Usage
from cai_assets.resources import dify_errors as errors
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.dify_inputs import form_of
from cai_assets_tests.conftest import REPOSITORY, shared_path
from cai_assets_tests.fixtures.dify_replay import KEY, Recording, ReplayServer, Reply, form, read_recording

PIECES = (1, 7, 4096)
FOLDER = REPOSITORY.parent / "shared" / "reference" / "dify_recordings"
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))
# Streams are played in several sizes of pieces, an answer in one piece once. Where the folder is not there,
# one case is left, which says so.
PLAYS = [
    (name, piece)
    for name in NAMES
    for piece in (PIECES if (FOLDER / f"{name}.chunks.json").exists() else PIECES[-1:])
] or [("01_echo_blocking", PIECES[-1])]

# What does not succeed, and how it is told.
FAILING: dict[str, tuple[type[Exception], str]] = {
    "04_bad_key": (errors.AuthenticationError, "Access token is invalid"),
    "05_no_auth": (errors.AuthenticationError, "Authorization header must be provided"),
    "06_basic_auth": (errors.AuthenticationError, "scheme must be 'Bearer'"),
    "07_missing_input_blocking": (errors.InvalidInputError, "message is required in input form"),
    "08_missing_input_streaming": (errors.ConnectionLostError, "broke during an event stream"),
    "09_no_user": (errors.InvalidInputError, "Arg user must be provided"),
    "11_user_long": (errors.ServerFailedError, "500 unknown"),
    "12_no_inputs": (errors.InvalidInputError, "Field required"),
    "13_inputs_list": (errors.InvalidInputError, "valid dictionary"),
    "14_bad_mode": (errors.InvalidInputError, "'blocking' or 'streaming'"),
    "15_bad_select": (errors.InvalidInputError, "must be one of the following"),
    "16_number_in_text": (errors.InvalidInputError, "must be a string"),
    "17_too_long": (errors.InvalidInputError, "less than 4000 characters"),
    "18_number_bad": (errors.InvalidInputError, "must be a valid number"),
    "19_number_object": (errors.ServerFailedError, "500 internal_server_error"),
    "20_unpublished_blocking": (errors.WrongAppError, "Workflow not published"),
    "21_unpublished_streaming": (errors.WrongAppError, "Workflow not published"),
    "22_broken_json": (errors.InvalidInputError, "400 bad_request"),
    "23_no_ctype": (errors.InvalidInputError, "415 unsupported_media_type"),
    "24_json_array": (errors.ServerFailedError, "500 unknown"),
    "26_404": (errors.WrongAddressError, "DIFY_BASE_URL"),
    "27_405": (errors.InvalidInputError, "405 method_not_allowed"),
    "34_code_fail_blocking": (errors.WorkflowFailedError, "RuntimeError: boom x"),
    "35_code_fail_streaming": (errors.WorkflowFailedError, "RuntimeError: boom x"),
    "36_http_refused_blocking": (errors.WorkflowInterruptedError, "Connection refused"),
    "37_http_500_blocking": (errors.WorkflowInterruptedError, "Reached maximum retries"),
    "38_partial_succeeded_blocking": (errors.PartialSuccessError, "partial-succeeded"),
    "39_partial_succeeded_streaming": (errors.PartialSuccessError, "partial-succeeded"),
    "40_node_retry_streaming": (errors.WorkflowInterruptedError, "Reached maximum retries"),
    "52_get_run_other_app_key": (errors.NotFoundError, "Workflow run not found"),
    "53_get_run_missing": (errors.NotFoundError, "Workflow run not found"),
    "54_get_run_bad_id": (errors.NotFoundError, "is no id of a workflow run"),
    "56_logs_bad_limit": (errors.InvalidInputError, "less than or equal to 100"),
    "57c_logs_partial": (errors.InvalidInputError, "'succeeded', 'failed' or 'stopped'"),
    "63_run_by_unknown_id": (errors.NotFoundError, "Workflow not found with id"),
    "64_run_by_bad_id": (errors.InvalidInputError, "Invalid workflow_id format"),
    "66_stop_no_user": (errors.InvalidInputError, "Arg user must be provided"),
    "67_chat_endpoint_on_workflow_app": (errors.WrongAppError, "not_chat_app"),
    "69_events_wrong_user": (errors.NotFoundError, "Workflow run not found"),
    "71_upload_no_file": (errors.FileRefusedError, "no_file_uploaded"),
    "72_upload_wrong_field": (errors.FileRefusedError, "no_file_uploaded"),
    "74_upload_too_large": (errors.FileRefusedError, "413 file_too_large"),
    "81_run_file_other_user": (errors.FileRefusedError, "Invalid upload file"),
    "82_run_file_wrong_type": (errors.FileRefusedError, "file type does not match"),
    "84_run_file_unknown": (errors.FileRefusedError, "Invalid upload file"),
    "94_rate_limited_429": (errors.RateLimitedError, "Too many requests"),
    "95_limit1_streaming_always_rejected": (errors.RateLimitedError, "Too many requests"),
    "97_app_max_execution_time_5s_blocking": (errors.WorkflowInterruptedError, "Stopped by user"),
    "97_app_max_execution_time_5s_streaming": (errors.WorkflowInterruptedError, "Stopped by user"),
    "98_workflow_max_execution_time_5s_blocking": (errors.WorkflowInterruptedError, "Maximum execution time"),
    "98_workflow_max_execution_time_5s_streaming": (
        errors.WorkflowInterruptedError,
        "Maximum execution time",
    ),
    "a4_llm_ratelimit_blocking": (errors.WorkflowInterruptedError, "rate limit reached"),
    "a5_llm_ratelimit_streaming": (errors.WorkflowInterruptedError, "rate limit reached"),
    "a6_llm_autherr_blocking": (errors.WorkflowFailedError, "Incorrect model credentials"),
}

# What runs cost where the recording tells; a run without a model tells nothing, and 0 is not taken for it.
USAGE = {
    "a1_llm_blocking": Usage(25),
    "a2_llm_streaming": Usage(27, Decimal("0.0000072"), "USD", "gpt-4o-mini"),
    "a3_llm_usage_output_blocking": Usage(23, Decimal("0.0000048"), "USD"),
}


@pytest.fixture
def recording(request: pytest.FixtureRequest) -> Recording:
    return read_recording(shared_path("reference", "dify_recordings", f"{request.param}.txt"))


def _play(recording: Recording, replay: ReplayServer, piece: int | None) -> None:
    recording.reply.piece = piece if recording.streamed else None
    replay.reply(f"{recording.method} {recording.path}", recording.reply)


def _ask(recording: Recording, client: DifyClient, replay: ReplayServer) -> Any:
    """Make the client send what was recorded, or what comes nearest to it."""
    path = recording.path.removeprefix("/v1")
    if path.endswith("/run") and recording.method == "POST":
        try:
            asked = json.loads(recording.request)
        except ValueError:
            asked = {}
        inputs = asked.get("inputs") if isinstance(asked, dict) else {}
        inputs = inputs if isinstance(inputs, dict) else {}
        replay.always["GET /v1/parameters"] = form(**dict.fromkeys(inputs))
        by_id = path.split("/")[2] if path.count("/") == 3 else None
        mode = "streaming" if recording.streamed else "blocking"
        return client.run(inputs, "u1", workflow_id=by_id, response_mode=mode)  # type: ignore[arg-type]
    if path == "/files/upload":
        return client.upload_file("a.txt", b"x", "u1", "text/plain")
    if match := re.fullmatch(r"/workflow/(.+)/events", path):
        state = {"id": match.group(1), "status": "running", "outputs": {}}
        replay.reply(f"GET /v1/workflows/run/{match.group(1)}", _json_reply(state))
        return client.result_of(match.group(1), "u1")
    if match := re.fullmatch(r"/workflows/run/(.+)", path):
        return client.run_detail(match.group(1))
    if path == "/workflows/logs":
        return client.logs()
    if match := re.fullmatch(r"/workflows/tasks/(.+)/stop", path):
        return client.stop(match.group(1), "u1")
    named = {"/info": client.info, "/parameters": client.parameters}
    return named[path]() if path in named else client._http.call(recording.method, path)


def _json_reply(body: Any) -> Reply:
    return Reply(json.dumps(body).encode())


def _finished(recording: Recording) -> dict[str, Any]:
    """The end of a run, read from the recording without the client."""
    text = recording.reply.body.decode()
    if not recording.streamed:
        return json.loads(text)["data"]
    ends = [line for line in text.split("\n") if '"workflow_finished"' in line]
    return json.loads(ends[-1].removeprefix("data: "))["data"]


def test_every_recording_is_played() -> None:
    shared_path("reference", "dify_recordings")
    assert len(NAMES) == 95
    assert set(FAILING) <= set(NAMES)


@pytest.mark.parametrize(("recording", "piece"), PLAYS, indirect=["recording"])
def test_outcome_is_the_observed_one(
    recording: Recording, piece: int, replay: ReplayServer, replay_client: Callable[..., DifyClient]
) -> None:
    _play(recording, replay, piece)
    client = replay_client(max_retries=0, timeouts={"grace": 0.05, "stopped": 0.05, "total": 0.5})
    if recording.name in FAILING:
        kind, text = FAILING[recording.name]
        with pytest.raises(kind, match=re.escape(text)) as caught:
            _ask(recording, client, replay)
        assert type(caught.value) is kind
        assert KEY not in str(caught.value)
        assert "input_value={" not in str(caught.value)
        return
    answer = _ask(recording, client, replay)
    if hasattr(answer, "outputs") and hasattr(answer, "attempts"):
        end = _finished(recording)
        assert answer.outputs == end["outputs"]
        assert answer.workflow_run_id == end["id"]
        assert answer.status == "succeeded"
        assert answer.usage == USAGE.get(recording.name, Usage())
        assert [attempt.error for attempt in answer.attempts] == [None]


def test_stream_keeps_line_separators_of_unicode(
    replay: ReplayServer, replay_client: Callable[..., DifyClient]
) -> None:
    recording = read_recording(shared_path("reference", "dify_recordings", "02_echo_streaming.txt"))
    _play(recording, replay, 7)
    answer = _ask(recording, replay_client(), replay)
    assert answer.outputs["text"] == "Hallo Welt — grüße 👋 \u2028 line"


def test_form_is_read_from_the_recorded_parameters() -> None:
    recording = read_recording(shared_path("reference", "dify_recordings", "59_parameters.txt"))
    fields = form_of(json.loads(recording.reply.body))
    assert [(one.variable, one.type, one.required, one.max_length) for one in fields] == [
        ("message", "paragraph", True, 4000),
        ("target_language", "select", True, None),
        ("count", "number", False, None),
    ]
    assert fields[1].options == ("en", "de", "fr")


def test_log_of_the_recording_is_read(replay: ReplayServer, replay_client: Callable[..., DifyClient]) -> None:
    recording = read_recording(shared_path("reference", "dify_recordings", "55_logs.txt"))
    _play(recording, replay, None)
    entries, total = replay_client().logs(limit=2)
    assert total == 6
    assert [(one.status, one.user, one.tokens) for one in entries] == [("succeeded", "u1", None)] * 2
