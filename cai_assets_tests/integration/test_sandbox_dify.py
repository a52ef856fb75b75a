"""The sandbox's Dify over HTTP: runs, streams, faults. Its form is compared in test_sandbox_dify_contract."""

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from cai_assets.sandbox.config import TRANSLATION_LIST_KEY
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.sandbox import DifyCalls, write_small_folder


@pytest.fixture
def dify(small_sandbox):
    return DifyCalls(small_sandbox)


@contextmanager
def slow_sandbox(folder, **settings):
    folder.mkdir(exist_ok=True)
    with SandboxProcess.start(write_small_folder(folder, conversations=2), **settings) as sandbox:
        yield sandbox


def result_of(dify, response):
    return dify.events(response)[-1]["data"]


# -- answers


def test_both_modes_translate_and_tell_what_it_cost(dify):
    blocking = dify.run("blocking").json()["data"]
    streamed = result_of(dify, dify.run("streaming"))
    absent = requests.post(
        f"{dify.url}/workflows/run",
        json={"inputs": {"text": "Hallo!", "target_language": "en"}, "user": 7},
        headers=dify.headers,
        timeout=30,
    ).json()["data"]
    for data in (blocking, streamed, absent):
        assert (data["status"], data["outputs"]["text"]) == ("succeeded", "Hello!")
        assert data["total_tokens"] == data["outputs"]["usage"]["total_tokens"] > 0
        assert data["outputs"]["usage"]["total_price"].startswith("0.0000")
    assert streamed["created_by"]["user"] == "u1"


def test_the_result_is_not_what_the_chunks_add_up_to(dify):
    events = dify.events(dify.run(text="Wo ist mein Paket?", target_language="en"))
    chunks = "".join(event["data"]["text"] for event in events[1:] if event["event"] == "text_chunk")
    assert chunks.startswith("Where is my parcel?\n{")
    assert events[-1]["data"]["outputs"]["text"] == "Where is my parcel?"


def test_an_unknown_text_is_a_failed_run_in_http_200(dify):
    response = dify.run("blocking", text="unbekannt", target_language="en")
    data = response.json()["data"]
    assert (response.status_code, data["status"], data["outputs"]) == (200, "failed", {})
    assert "No translation into 'en' is known" in data["error"]


def test_the_category_app_chooses_among_the_names_it_is_given(small_sandbox):
    category = DifyCalls(small_sandbox, "CATEGORY")
    names = json.dumps(["delivery", "billing", "other"])
    data = category.run("blocking", transcript="user: Wo ist mein Paket?", categories=names).json()["data"]
    assert data["outputs"]["category"] == "delivery"
    assert 0.5 < data["outputs"]["confidence"] <= 1
    assert data["outputs"]["usage"]["total_tokens"] > 0
    wrong = category.run("blocking", transcript="x", categories="delivery").json()["data"]
    assert (wrong["status"], wrong["error"][:38]) == ("failed", "The input categories cannot be read: E")


def test_undeclared_inputs_are_dropped_and_nul_is_stripped(dify):
    run = dify.run("blocking", text="Hallo\0!", target_language="en", extra="x").json()
    assert run["data"]["outputs"]["text"] == "Hello!"
    inputs = json.loads(dify.get(f"workflows/run/{run['workflow_run_id']}").json()["inputs"])
    assert {name for name in inputs if not name.startswith("sys.")} == {"text", "target_language"}


def test_the_sample_is_translated_and_categorised(sample_sandbox):
    info = sample_sandbox.info()
    assert info["dify"]["parallel_texts"] > 100
    assert info["nocodb"]["tables"]["conversations"]["rows"] > 10
    category = DifyCalls(sample_sandbox, "CATEGORY")
    data = category.run(
        "blocking", transcript="user: アプリでエラーが出ます。", categories='["technical", "other"]'
    )
    assert data.json()["data"]["outputs"]["category"] == "technical"


# -- runs that are looked up later


def test_a_run_is_found_by_its_id_its_user_and_its_words(dify):
    user = f"job:{uuid.uuid4()}"
    run_id = dify.run(user=user).content.decode().split('"workflow_run_id":"')[1][:36]
    found = dify.get(f"workflows/run/{run_id}").json()
    assert (found["status"], found["outputs"]["text"]) == ("succeeded", "Hello!")
    logged = dify.logged(user)
    assert (logged["total"], logged["data"][0]["workflow_run"]["id"]) == (1, run_id)
    assert dify.logged("nobody")["total"] == 0
    assert dify.get("workflows/logs", keyword=run_id).json()["total"] == 1
    assert dify.get("workflows/logs", keyword="hallo", status="failed").json()["total"] == 0
    assert dify.get("workflows/logs", created_at__after="2999-01-01T00:00:00Z").json()["total"] == 0


def test_the_logs_have_pages(dify):
    user = f"job:{uuid.uuid4()}"
    ids = [dify.run("blocking", user=user).json()["workflow_run_id"] for _ in range(3)]
    pages = [
        dify.get("workflows/logs", created_by_end_user_session_id=user, limit=2, page=page).json()
        for page in (1, 2)
    ]
    assert [page["has_more"] for page in pages] == [True, False]
    assert [row["workflow_run"]["id"] for page in pages for row in page["data"]] == ids[::-1]


def test_a_run_goes_on_when_its_client_has_gone_and_can_be_rejoined(tmp_path):
    with slow_sandbox(tmp_path, latency=1.0, ping_seconds=0.2) as sandbox:
        dify = DifyCalls(sandbox)
        with dify.run(user="gone", stream=True) as response:
            lines = response.iter_lines()
            first = next(json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
        run_id = first["workflow_run_id"]
        assert dify.get(f"workflows/run/{run_id}").json()["status"] == "running"
        assert dify.logged("gone")["data"][0]["workflow_run"]["status"] == "running"
        assert dify.get(f"workflow/{run_id}/events", user="someone").status_code == 404
        events = dify.events(dify.get(f"workflow/{run_id}/events", user="gone"))
        assert events[0] == events[1] == "event: ping"
        kinds = [event["event"] for event in events if event != "event: ping"]
        assert (kinds[0], kinds[-1]) == ("text_chunk", "workflow_finished")
        assert events[-1]["data"]["outputs"]["text"] == "Hello!"
        assert events[-1]["task_id"] == first["task_id"]
        again = dify.events(dify.get(f"workflow/{run_id}/events", user="gone"))
        assert [event["event"] for event in again] == ["workflow_finished"]
        assert again[0]["task_id"] == run_id


def test_a_snapshot_repeats_what_was_missed(tmp_path):
    with slow_sandbox(tmp_path, latency=0.8) as sandbox:
        dify = DifyCalls(sandbox)
        with dify.run(stream=True) as response:
            first = next(json.loads(line[6:]) for line in response.iter_lines() if line.startswith(b"data: "))
        path = f"workflow/{first['workflow_run_id']}/events"
        events = dify.events(dify.get(path, user="u1", include_state_snapshot="true"))
        assert events[1] == first


def test_a_run_can_be_stopped(tmp_path):
    with slow_sandbox(tmp_path, latency=20) as sandbox:
        dify = DifyCalls(sandbox)
        with dify.run(stream=True) as response:
            lines = response.iter_lines()
            first = next(json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
            stop = f"{dify.url}/workflows/tasks/{first['task_id']}/stop"
            answer = requests.post(stop, json={"user": "anyone"}, headers=dify.headers, timeout=30)
            assert answer.json() == {"result": "success"}
            last = json.loads([line for line in lines if line.startswith(b"data: ")][-1][6:])
        assert (last["event"], last["data"]["status"]) == ("workflow_finished", "stopped")
        assert last["data"]["error"] == "Stopped by user."


# -- limits


def test_above_its_limit_an_app_answers_400(tmp_path):
    with slow_sandbox(tmp_path, latency=0.5, concurrency_limit=2) as sandbox:
        dify = DifyCalls(sandbox)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: dify.run("blocking"), range(6)))
        refused = [answer.json() for answer in answers if answer.status_code == 400]
        assert len(refused) == 4
        assert refused[0]["code"] == "invalid_param"
        assert refused[0]["message"].startswith("Too many requests. Please try again later.")
        assert dify.run("blocking").status_code == 200


def test_streams_above_the_workers_wait_after_their_first_ping(tmp_path):
    with slow_sandbox(tmp_path, latency=0.6, workers=1, ping_seconds=0.2) as sandbox:
        dify = DifyCalls(sandbox)
        firsts: list[float] = []
        pings: list[int] = []

        def stream():
            with dify.run(stream=True) as response:
                seen = 0
                for line in response.iter_lines():
                    seen += line == b"event: ping"
                    if line.startswith(b"data: "):
                        firsts.append(time.monotonic())
                        pings.append(seen)
                        break

        threads = [threading.Thread(target=stream) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert abs(firsts[1] - firsts[0]) > 0.4
        # Three more if it pinged while it waits; one more where a busy machine takes 0.2 s to begin.
        assert all(1 <= seen <= 2 for seen in pings)


def test_inputs_a_worker_refuses_leave_a_silent_stream(dify):
    started = time.monotonic()
    response = dify.run(target_language="en")
    assert (response.status_code, response.content) == (200, b"event: ping\n\n")
    assert time.monotonic() - started >= 1.0  # the sandbox's hang_seconds
    assert dify.run("blocking", target_language="en").status_code == 400


# -- faults


@pytest.mark.parametrize(("kind", "events"), [("cut_before", 0), ("cut_after", 1), ("cut_late", None)])
def test_a_cut_stream_leaves_a_run_that_completes(dify, small_sandbox, kind, events):
    small_sandbox.faults({"service": "dify", "kind": kind, "next": 1, "path": "/workflows/run"})
    user, got = f"cut:{uuid.uuid4()}", b""
    response = dify.run(user=user, stream=True)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):  # noqa: PT012  what came before counts
        for piece in response.iter_content(64):
            got += piece
    if events is not None:
        assert got.count(b"data: ") == events
    assert got.startswith(b"event: ping\n\n")
    assert b"workflow_finished" not in got
    row = dify.logged(user)["data"][0]["workflow_run"]
    assert row["status"] == "succeeded"
    assert dify.get(f"workflows/run/{row['id']}").json()["outputs"]["text"] == "Hello!"


def test_a_cut_blocking_call_leaves_a_run_that_completes(dify, small_sandbox):
    small_sandbox.faults({"service": "dify", "kind": "cut_before", "next": 1})
    user = f"cut:{uuid.uuid4()}"
    with pytest.raises(requests.ConnectionError):
        dify.run("blocking", user=user)
    assert dify.logged(user)["data"][0]["workflow_run"]["status"] == "succeeded"


def test_runs_fail_stop_and_half_succeed_on_request(dify, small_sandbox):
    def bent(kind, **more):
        small_sandbox.faults({"service": "dify", "kind": kind, "next": 1, **more})
        return dify.events(dify.run())

    failed = bent("failed", error="Error code: 500 - overloaded")[-1]["data"]
    assert (failed["status"], failed["error"], failed["outputs"]) == (
        "failed",
        "Error code: 500 - overloaded",
        {},
    )
    partial = bent("partial")[-1]["data"]
    assert (partial["status"], partial["exceptions_count"]) == ("partial-succeeded", 1)
    stopped = bent("stopped")[-1]["data"]
    assert (stopped["status"], stopped["error"]) == ("stopped", "Stopped by user.")
    assert dify.get(f"workflows/run/{stopped['id']}").json()["status"] == "succeeded"
    empty = bent("empty")[-1]["data"]
    assert (empty["status"], empty["outputs"]["text"]) == ("succeeded", "")
    error = bent("error_event", error="broken")[-1]
    assert list(error) == ["event", "workflow_run_id", "code", "message", "status"]
    assert error["message"] == "broken"
    doubled = bent("duplicate_events")[1:]
    assert doubled[0::2] == doubled[1::2]
    small_sandbox.faults({"service": "dify", "kind": "too_many", "next": 1})
    assert dify.run().json()["message"].startswith("Too many requests.")
    small_sandbox.faults({"service": "dify", "kind": "hang", "next": 1})
    assert dify.run().content == b"event: ping\n\n"
    small_sandbox.faults({"service": "dify", "kind": "status", "code": 504, "next": 1})
    assert (dify.run().status_code, dify.run().status_code) == (504, 200)


def test_runs_are_counted(dify, small_sandbox):
    before = small_sandbox.info()["dify"]["apps"]["translation"]["runs"].get("succeeded", 0)
    for _ in range(3):
        dify.run()
    assert small_sandbox.info()["dify"]["apps"]["translation"]["runs"]["succeeded"] == before + 3


# -- runs that nobody learns the end of


def test_a_paused_run_waits_for_a_person(dify, small_sandbox):
    small_sandbox.faults({"service": "dify", "kind": "paused", "next": 2})
    last = dify.events(dify.run())[-1]
    assert (last["event"], last["data"]["status"]) == ("workflow_paused", "paused")
    body = dify.run("blocking").json()
    assert (body["data"]["status"], body["data"]["finished_at"]) == ("paused", None)
    assert dify.get(f"workflows/run/{body['workflow_run_id']}").json()["status"] == "paused"


@pytest.mark.parametrize("mode", ["streaming", "blocking"])
def test_a_proxy_gives_up_and_the_run_goes_on(mode, dify, small_sandbox):
    small_sandbox.faults({"service": "dify", "kind": "gateway", "next": 1})
    user = f"job:{uuid.uuid4()}"
    response = dify.run(mode, user=user)
    assert (response.status_code, response.headers["content-type"]) == (504, "text/html")
    assert dify.logged(user)["data"][0]["workflow_run"]["status"] == "succeeded"


def test_a_restart_breaks_connections_and_loses_what_runs(tmp_path):
    with slow_sandbox(tmp_path / "restart", latency=30, hang_seconds=0.1) as sandbox:
        dify = DifyCalls(sandbox)
        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(dify.run, mode, user=mode) for mode in ("streaming", "blocking")]
            until = time.monotonic() + 10
            while sandbox.info()["dify"]["apps"]["translation"]["under_way"] < 2:
                assert time.monotonic() < until
                time.sleep(0.02)
            assert sandbox.restart_dify(down_seconds=0.3) == 2
            with pytest.raises(requests.ConnectionError):
                dify.logged("streaming")
            for one in asked:
                with pytest.raises(requests.RequestException):
                    one.result()
        time.sleep(0.3)
        run = dify.logged("streaming")["data"][0]["workflow_run"]
        assert run["status"] == "running"
        assert sandbox.info()["dify"]["apps"]["translation"]["runs"] == {"running": 2}


def test_a_list_of_texts_is_translated_in_one_run(small_sandbox):
    dify = DifyCalls(small_sandbox)
    dify.headers = {"Authorization": f"Bearer {TRANSLATION_LIST_KEY}"}
    texts = json.dumps(["Hallo!", "Wo ist mein Paket?"])
    data = dify.run("blocking", texts=texts, target_language="en").json()["data"]
    assert data["outputs"]["texts"] == ["Hello!", "Where is my parcel?"]
    failed = dify.run("blocking", texts='["Hallo!", "unbekannt"]', target_language="en").json()["data"]
    assert (failed["status"], failed["outputs"]) == ("failed", {})
    wrong = dify.run("blocking", texts="Hallo!", target_language="en").json()["data"]
    assert "no JSON" in wrong["error"]
