"""The sandbox's Dify against recorded exchanges with Dify 1.14.2: statuses, headers, bodies, order of events.

What differs by nature (ids, times, texts, token counts) is compared by its shape: the same keys in the same
order, and values of the same kind.
"""

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from cai_assets_tests.conftest import shared_path
from cai_assets_tests.fixtures.sandbox import DifyCalls

# Ours lacks the server's name, and connection handling is uvicorn's.
NOT_COMPARED = {"server", "connection", "date", "content-length", "transfer-encoding"}
# Their content belongs to the workflow, not to the protocol.
FREE = {"inputs", "outputs", "process_data", "text", "from_variable_selector", "execution_metadata"}
GOOD = {"inputs": {"text": "Hallo!", "target_language": "en"}, "response_mode": "blocking", "user": "u1"}
UNKNOWN = "085bf88f-4c52-4dd4-a290-92444e6888a6"


@dataclass
class Recording:
    status: int
    headers: dict[str, str]
    body: str


@pytest.fixture(scope="module")
def recordings() -> Path:
    return shared_path("reference", "dify_recordings")


@pytest.fixture
def dify(small_sandbox):
    return DifyCalls(small_sandbox)


def recording(folder: Path, name: str) -> Recording:
    text = folder.joinpath(f"{name}.txt").read_text()
    head, _, body = text[re.search(r"^HTTP/1\.1 ", text, re.MULTILINE).start() :].partition("\n\n")
    status, *lines = head.split("\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Recording(int(status.split()[1]), {name.lower(): value for name, value in headers.items()}, body)


def headers_of(headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() not in NOT_COMPARED}


def shape(value, key=""):
    """A body without what differs from run to run."""
    if key in FREE:
        return "free"
    if isinstance(value, dict):
        return {name: shape(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool) or value is None:
        return value
    return type(value).__name__


def keys_of(value):
    """Keys in their order, all the way down; a dict's own equality ignores the order."""
    if isinstance(value, dict):
        return [(name, "free" if name in FREE else keys_of(each)) for name, each in value.items()]
    return [keys_of(value[0])] if isinstance(value, list) and value else None


def assert_same_form(ours, recorded):
    assert shape(ours) == shape(recorded)
    assert keys_of(ours) == keys_of(recorded)


def post(dify, path="workflows/run", body=GOOD, headers=None, **other):
    url = f"{dify.url}/{path}"
    given = {**dify.headers, **(headers or {})}
    if isinstance(body, bytes):
        return requests.post(url, data=body, headers=given, timeout=30)
    return requests.post(url, json=body, headers=given, timeout=30, **other)


def upload(dify, name="file", content=b"hello", filename="a.txt", user="u1"):
    data = {"user": user} if user else {}
    files = {name: (filename, content, "text/plain")}
    return requests.post(f"{dify.url}/files/upload", files=files, data=data, headers=dify.headers, timeout=60)


def with_file(dify, user="u1", kind="document", file_id=None):
    file = {"type": kind, "transfer_method": "local_file"}
    file["upload_file_id"] = file_id or upload(dify).json()["id"]
    return post(dify, body={**GOOD, "user": user, "files": [file]})


# -- refusals: the whole body must be the recorded one, but for names of inputs and ids

JSON_TYPE = {"Content-Type": "application/json"}
REFUSALS = {
    "04_bad_key": lambda d: post(d, headers={"Authorization": "Bearer app-wrong"}),
    "05_no_auth": lambda d: requests.post(f"{d.url}/workflows/run", json=GOOD, timeout=30),
    "06_basic_auth": lambda d: post(d, headers={"Authorization": "Basic abc"}),
    "07_missing_input_blocking": lambda d: post(d, body={**GOOD, "inputs": {"target_language": "de"}}),
    "09_no_user": lambda d: post(d, body={k: v for k, v in GOOD.items() if k != "user"}),
    "11_user_long": lambda d: post(d, body={**GOOD, "user": "x" * 256}),
    "12_no_inputs": lambda d: post(d, body={"response_mode": "blocking", "user": "u1"}),
    "13_inputs_list": lambda d: post(d, body={**GOOD, "inputs": []}),
    "14_bad_mode": lambda d: post(d, body={**GOOD, "response_mode": "async"}),
    "16_number_in_text": lambda d: post(d, body={**GOOD, "inputs": {"text": 5, "target_language": "de"}}),
    "17_too_long": lambda d: post(
        d, body={**GOOD, "inputs": {"text": "x" * 50_001, "target_language": "de"}}
    ),
    "22_broken_json": lambda d: post(d, body=b'{"inputs":', headers=JSON_TYPE),
    "23_no_ctype": lambda d: post(d, body=b"inputs=1", headers={"Content-Type": "text/plain"}),
    "24_json_array": lambda d: post(d, body=[1]),
    "26_404": lambda d: post(d, "workflows/nope", {"user": "u1"}),
    "27_405": lambda d: d.get("workflows/run"),
    "53_get_run_missing": lambda d: d.get(f"workflows/run/{UNKNOWN}"),
    "54_get_run_bad_id": lambda d: d.get("workflows/run/not-a-uuid"),
    "56_logs_bad_limit": lambda d: d.get("workflows/logs", limit=500),
    "57c_logs_partial": lambda d: d.get("workflows/logs", limit=1, status="partial-succeeded"),
    "63_run_by_unknown_id": lambda d: post(d, f"workflows/{UNKNOWN}/run"),
    "64_run_by_bad_id": lambda d: post(d, "workflows/abc/run"),
    "65_stop_unknown": lambda d: post(d, "workflows/tasks/nope/stop", {"user": "u1"}),
    "66_stop_no_user": lambda d: post(d, "workflows/tasks/nope/stop", {}),
    "67_chat_endpoint_on_workflow_app": lambda d: post(
        d, "chat-messages", {"inputs": {}, "query": "x", "user": "u1"}
    ),
    "69_events_wrong_user": lambda d: d.get(
        f"workflow/{post(d).json()['workflow_run_id']}/events", user="u2"
    ),
    "71_upload_no_file": lambda d: requests.post(
        f"{d.url}/files/upload", files={"user": (None, "u1")}, headers=d.headers, timeout=30
    ),
    "72_upload_wrong_field": lambda d: upload(d, name="f"),
    "81_run_file_other_user": lambda d: with_file(d, user="u2"),
    "82_run_file_wrong_type": lambda d: with_file(d, kind="image"),
    "84_run_file_unknown": lambda d: with_file(d, file_id=UNKNOWN),
}


def normal(body: str) -> str:
    """Without the names of the recorded app's inputs and pydantic's version."""
    body = re.sub(r"errors\.pydantic\.dev\\/[0-9.]+", "errors.pydantic.dev", body)
    body = body.replace("message in input form", "text in input form").replace(
        "message is required", "text is required"
    )
    return body.replace("less than 4000 characters", "less than 50000 characters").strip()


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_word_for_word(dify, recordings, name):
    recorded, ours = recording(recordings, name), REFUSALS[name](dify)
    assert ours.status_code == recorded.status
    assert normal(ours.text) == normal(recorded.body)
    assert headers_of(ours.headers) == headers_of(recorded.headers)


def test_a_file_above_15_megabytes_is_refused(dify, recordings):
    recorded, ours = (
        recording(recordings, "74_upload_too_large"),
        upload(dify, content=b"x" * (15 * 1024**2 + 1)),
    )
    assert (ours.status_code, ours.text.strip()) == (recorded.status, recorded.body.strip())


def test_the_concurrency_limit_is_a_400(dify, small_sandbox, recordings):
    small_sandbox.faults({"service": "dify", "kind": "too_many", "next": 1})
    recorded, ours = recording(recordings, "94_rate_limited_429"), post(dify)
    assert ours.status_code == recorded.status
    words = [re.sub(r"[0-9a-f-]{36} is \d", "ID is N", text.strip()) for text in (ours.text, recorded.body)]
    assert words[0] == words[1]


# -- answers


ANSWERS = {
    "a3_llm_usage_output_blocking": lambda d: post(d),
    "01_echo_blocking": lambda d: post(d),
    "03_no_response_mode": lambda d: post(d, body={k: v for k, v in GOOD.items() if k != "response_mode"}),
    "10_user_int": lambda d: post(d, body={**GOOD, "user": 5}),
    "62_run_by_id": lambda d: post(d, f"workflows/{post(d).json()['data']['workflow_id']}/run"),
    "80_run_with_file": with_file,
    "51_get_run": lambda d: d.get(f"workflows/run/{post(d).json()['workflow_run_id']}"),
    "57_logs_session": lambda d: (post(d), post(d), d.get("workflows/logs", limit=1))[-1],
    "58_info": lambda d: d.get("info"),
    "60_site": lambda d: d.get("site"),
    "61_meta": lambda d: d.get("meta"),
    "70_upload_ok": upload,
    "73_upload_no_user": lambda d: upload(d, user=None),
    "76_upload_no_ext": lambda d: upload(d, filename="noext"),
    "78_upload_empty": lambda d: upload(d, content=b"", filename="e.txt"),
    "93_stop": lambda d: post(d, "workflows/tasks/nope/stop", {"user": "someone-else"}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_have_the_recorded_form(dify, recordings, name):
    recorded, ours = recording(recordings, name), ANSWERS[name](dify)
    assert ours.status_code == recorded.status
    assert headers_of(ours.headers) == headers_of(recorded.headers)
    assert_same_form(ours.json(), json.loads(recorded.body))
    # One of the two encoders puts spaces after its commas.
    assert (", " in ours.text[:60]) == (", " in recorded.body[:60])
    assert ours.text.isascii()


def test_usage_has_the_recorded_form(dify, recordings):
    recorded = json.loads(recording(recordings, "a3_llm_usage_output_blocking").body)["data"]["outputs"][
        "usage"
    ]
    ours = post(dify).json()["data"]["outputs"]["usage"]
    assert_same_form(ours, recorded)
    for name, value in recorded.items():
        if name.endswith("price") and "unit" not in name:
            assert re.fullmatch(r"\d\.\d{7}", value)
            assert re.fullmatch(r"\d\.\d{7}", ours[name])


def test_parameters_declare_inputs_in_the_recorded_form(dify, recordings):
    recorded = json.loads(recording(recordings, "59_parameters").body)
    ours = dify.get("parameters").json()
    form, recorded_form = ours.pop("user_input_form"), recorded.pop("user_input_form")
    assert_same_form(ours, recorded)
    assert_same_form(form[0], recorded_form[0])
    assert [
        (next(iter(field)), *(next(iter(field.values()))[key] for key in ("variable", "required")))
        for field in form
    ] == [
        ("paragraph", "text", True),
        ("text-input", "source_language", False),
        ("text-input", "target_language", True),
    ]


def test_a_failed_model_is_http_200(dify, small_sandbox, recordings):
    small_sandbox.faults({"service": "dify", "kind": "failed", "next": 1})
    recorded, ours = recording(recordings, "a4_llm_ratelimit_blocking"), post(dify)
    assert ours.status_code == recorded.status == 200
    assert_same_form(ours.json(), json.loads(recorded.body))
    for name in ("status", "outputs", "error", "total_tokens", "total_steps"):
        assert ours.json()["data"][name] == json.loads(recorded.body)["data"][name]


# -- streams


def frames(text: str) -> list[str]:
    return [frame for frame in text.split("\n\n") if frame.strip()]


def events(text: str) -> list[dict]:
    """Events without pings and chunks beyond the first of a row (their number is the text's)."""
    found = [json.loads(frame[6:]) for frame in frames(text) if frame != "event: ping"]
    return [
        next(group)
        for _, group in itertools.groupby(
            found, key=lambda e: e["event"] if e["event"] == "text_chunk" else id(e)
        )
    ]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("a2_llm_streaming", None), ("a5_llm_ratelimit_streaming", "failed"), ("02_echo_streaming", None)],
)
def test_streams_have_the_recorded_events(dify, small_sandbox, recordings, name, fault):
    if fault:
        small_sandbox.faults({"service": "dify", "kind": fault, "next": 1})
    recorded, ours = recording(recordings, name), post(dify, body={**GOOD, "response_mode": "streaming"})
    assert headers_of(ours.headers) == headers_of(recorded.headers)
    ours.encoding = "utf-8"
    assert frames(ours.text)[0] == frames(recorded.body)[0] == "event: ping"
    assert ours.text.endswith("}}\n\n")
    if name != "02_echo_streaming":  # another graph: only its first and last events are alike
        assert [e["event"] for e in events(ours.text)] == [e["event"] for e in events(recorded.body)]
        pairs = list(zip(events(ours.text), events(recorded.body), strict=True))
    else:
        pairs = [(events(ours.text)[at], events(recorded.body)[at]) for at in (0, 1, -3, -2, -1)]
    for each, expected in pairs:
        assert_same_form(each, expected)
        assert each["data"].get("node_type") == expected["data"].get("node_type")
    model = next(
        e for e in events(ours.text) if e["event"] == "node_finished" and e["data"]["node_type"] == "llm"
    )
    if name == "a2_llm_streaming":
        theirs = next(
            e
            for e in events(recorded.body)
            if e["event"] == "node_finished" and e["data"]["node_type"] == "llm"
        )
        for part in ("inputs", "outputs", "process_data", "execution_metadata"):
            assert keys_of({"x": model["data"][part]}) == keys_of({"x": theirs["data"][part]})


def test_line_separators_travel_unescaped(dify):
    text = "Hallo\u2028!"
    body = {**GOOD, "inputs": {"text": text, "target_language": "en"}, "response_mode": "streaming"}
    content = post(dify, body=body).content.decode()
    assert "\u2028" in content
    assert all(frame.startswith("data: {") for frame in content.split("\n\n")[1:-1])


def test_rejoining_a_run_that_ended_gives_one_event(dify, recordings):
    recorded = recording(recordings, "68_events_finished")
    ours = dify.get(f"workflow/{post(dify).json()['workflow_run_id']}/events", user="u1")
    assert headers_of(ours.headers) == headers_of(recorded.headers)
    assert len(frames(ours.text)) == len(frames(recorded.body)) == 1
    assert ours.text.startswith('data: {"event": "workflow_finished", "task_id": "')
    assert_same_form(events(ours.text)[0], events(recorded.body)[0])


def test_refused_inputs_leave_a_stream_with_one_ping(dify, recordings):
    body = {"inputs": {"target_language": "de"}, "response_mode": "streaming", "user": "u1"}
    recorded, ours = recording(recordings, "08_missing_input_streaming"), post(dify, body=body)
    assert headers_of(ours.headers) == headers_of(recorded.headers)
    assert frames(ours.text) == frames(recorded.body) == ["event: ping"]
