"""`cai serve`: the reports over HTTP, read only, from disk and from S3."""

import gzip
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn

from cai_assets.commands.serve import listen
from cai_assets.commands.serving import PAGE_SIZE, build_app, span_of
from cai_assets.failures import CaiError
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.dashboard import Dashboard
from cai_assets_tests.fixtures.ui import clean_environment, free_port

Get = Callable[..., requests.Response]


def filled(settings: Settings, dashboard: Dashboard) -> Settings:
    """The same settings, once their store holds the dashboard's lake and reports."""
    from cai_assets.resources.object_store import ObjectStore

    store = ObjectStore.from_settings(settings)
    for path in dashboard.warehouse.files:
        if path[0] in ("lake", "facts"):
            table = LakeTable(store, TABLES[path])
            rows = dashboard.warehouse.read(*path)
            days = sorted(set(rows["partition"].to_pylist()))
            table.replace(days, rows, metadata={})
    store.write_file("reports/dashboard.html", dashboard.page.read_bytes())
    store.write_file("reports/daily_report/2025-03-20.html", b"<html>" + b"x" * 5000)
    store.write_file("reports/exports/volume.csv", b"a,b\r\n" + b"1,2\r\n" * 1000)
    store.write_file("reports/exports/cai-export.xlsx", bytes(range(256)) * 20_000)
    store.write_file("secret.txt", b"not a report")
    return settings


def running(settings: Settings, **options: Any) -> Iterator[Get]:
    socket_ = listen("127.0.0.1", 0)
    config = uvicorn.Config(build_app(settings, **options), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket_]})
    thread.start()
    address = f"http://127.0.0.1:{socket_.getsockname()[1]}"

    def get(path: str, method: str = "GET", **headers: str) -> requests.Response:
        sent = requests.Request(method, address).prepare()
        sent.url = address + path  # as it is: requests would take out `..`
        sent.headers.update({key.replace("_", "-"): value for key, value in headers.items()})
        with requests.Session() as session:
            return session.send(sent, timeout=60, allow_redirects=False)

    yield get
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def settings(dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("served")
    made = Settings(_env_file=None, parquet_base_dir=folder / "lake", report_timezone="Europe/Berlin")
    return filled(made, dashboard)


@pytest.fixture(scope="module")
def get(settings: Settings) -> Iterator[Get]:
    yield from running(settings, hosts=["127.0.0.1"])


def test_a_page_is_compressed_for_those_who_can_read_it_and_not_sent_twice(
    get: Get, settings: Settings
) -> None:
    plain = get("/daily_report/2025-03-20.html", accept_encoding="identity")
    packed = get("/daily_report/2025-03-20.html", accept_encoding="gzip")
    assert plain.status_code == packed.status_code == 200
    assert plain.content == packed.content == b"<html>" + b"x" * 5000
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < 200
    assert plain.headers["etag"] != packed.headers["etag"]
    for answer, accept in ((plain, "identity"), (packed, "gzip")):
        again = get(
            "/daily_report/2025-03-20.html", accept_encoding=accept, if_none_match=answer.headers["etag"]
        )
        assert (again.status_code, again.content) == (304, b"")
    since = get("/daily_report/2025-03-20.html", if_modified_since=plain.headers["last-modified"])
    assert since.status_code == 304
    page = settings.parquet_base_dir / "reports/daily_report/2025-03-20.html"
    page.write_bytes(page.read_bytes() + b"new")
    changed = get(
        "/daily_report/2025-03-20.html", accept_encoding="gzip", if_none_match=packed.headers["etag"]
    )
    assert changed.content.endswith(b"new")
    page.write_bytes(b"<html>" + b"x" * 5000)


@pytest.mark.parametrize("path", ["/exports/cai-export.xlsx", "/dashboard.html"])
def test_a_part_of_a_file_can_be_asked_for(get: Get, path: str) -> None:
    whole = get(path, accept_encoding="identity")
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, part in (("5-9", slice(5, 10)), ("100-", slice(100, None)), ("-7", slice(-7, None))):
        answer = get(path, range=f"bytes={asked}")
        assert answer.status_code == 206
        assert answer.content == whole.content[part]
        assert answer.headers["content-range"].endswith(f"/{len(whole.content)}")
    assert get(path, range=f"bytes={len(whole.content)}-").status_code == 416
    assert get(path, range="bytes=0-1", if_range='"another"').status_code == 200
    head = get(path, "HEAD", accept_encoding="identity")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(whole.content)))


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-99", (2, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=-", None),
        ("x=1-2", None),
    ],
)
def test_ranges_are_read_as_http_says(header: str, span: tuple[int, int] | None) -> None:
    assert span_of(header, 10) == span
    with pytest.raises(ValueError, match="10-"):
        span_of("bytes=10-", 10)


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/exports",
        "/exports/",
        "//etc/passwd",
    ],
)
def test_what_is_no_report_is_not_there(get: Get, path: str) -> None:
    answer = get(path)
    assert answer.status_code == 404
    assert "There is no such page" in answer.text
    assert "not a report" not in answer.text


@pytest.mark.parametrize("path", ["/dashboard.html", "/nope", "/conversations", "/exports/volume.csv", "/"])
def test_every_answer_keeps_browsers_from_the_network_and_from_guessing(get: Get, path: str) -> None:
    headers = get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_nothing_can_be_written_and_no_other_name_is_served(get: Get) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert get("/dashboard.html", method).status_code == 405
    assert get("/dashboard.html", host="evil.example").status_code == 400


def test_the_dashboard_knows_that_it_is_served(get: Get) -> None:
    assert get("/").headers["location"] == "dashboard.html"
    text = get("/dashboard.html").text
    assert 'data-conversations="page"' in text
    assert 'data-conversations="none"' not in text


def test_all_conversations_are_there_page_by_page_with_their_transcripts(
    get: Get, dashboard: Dashboard
) -> None:
    wanted = [
        row[0]
        for row in dashboard.rows(
            """select conversation_id from facts.fct_conversation
            where is_counted and outcome = 'agent_resolved' and channel = 'email'
            and first_message_date between '2025-01-25' and '2025-04-30'
            order by started_us desc, conversation_id"""
        )
    ]
    assert wanted
    query = "what=outcome&detail=agent_resolved&channel=email&from=2025-01-25&to=2025-04-30"
    pages = -(-len(wanted) // PAGE_SIZE)
    texts = [get(f"/conversations?{query}&page={n}").text for n in range(1, pages + 1)]
    shown = "".join(texts)
    places = [shown.index(f'<details id="{name}">') for name in wanted]
    assert places == sorted(places)
    assert shown.count("<details id=") == len(wanted)
    ((said,),) = dashboard.rows(
        f"""select text from lake.messages where conversation_id = '{wanted[-1]}' and not is_private
        order by created_at, seq, message_id limit 1"""
    )
    assert said.split("\n")[0].split("'")[0].split("&")[0] in shown
    assert get(f"/conversations?{query}&page={pages + 1}").status_code == 404
    assert get("/conversations?from=yesterday").status_code == 400
    assert get("/conversations?what=nothing").text.count("<details id=") == 0


def test_single_conversations_are_refused_where_groups_are_asked_for(settings: Settings) -> None:
    careful = settings.model_copy(update={"min_group_size": 3})
    for get in running(careful):
        assert get("/conversations").status_code == 403
        assert 'data-conversations="none"' in get("/dashboard.html").text


def test_reports_on_s3_are_served_like_those_on_disk(weed: Any, dashboard: Dashboard) -> None:
    bucket = weed.bucket()
    settings = Settings(
        _env_file=None,
        s3_enabled=True,
        s3_bucket=bucket,
        s3_prefix="some where",
        s3_endpoint_url=weed.endpoint,
        aws_access_key_id="test-key",
        aws_secret_access_key="test-secret-'quoted'",
        report_timezone="Europe/Berlin",
    )
    for get in running(filled(settings, dashboard)):
        assert get("/dashboard.html").content.count(b'data-conversations="page"') == 1
        assert get("/exports/cai-export.xlsx", range="bytes=250-260").content == bytes(
            [*range(250, 256), *range(5)]
        )
        assert get("/conversations?what=csat").text.count("<details id=") == PAGE_SIZE
        assert get("/nope").status_code == 404


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(settings: Settings, tmp_path: Path, ending: int) -> None:
    port = free_port()
    home = tmp_path / "home"
    (home / "own" / "dagster").mkdir(parents=True)
    environment = clean_environment() | {
        "CAI_HOME": str(home),
        "MONGODB_URI": "mongodb://127.0.0.1:1",
        "SOURCE": "files",
        "SOURCE_DIR": str(tmp_path),
        "PARQUET_BASE_DIR": str(settings.parquet_base_dir),
        "PSEUDONYM_KEY": "a key for tests",
    }
    command = [sys.executable, "-m", "cai_assets.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/exports/volume.csv", timeout=10)
                break
            except requests.ConnectionError:
                assert process.poll() is None, process.communicate()
                time.sleep(0.1)
        assert answer.text.startswith("a,b")
        process.send_signal(ending)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"http://127.0.0.1:{port}" in out


def test_a_port_that_is_taken_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(CaiError, match="choose another with --port"),
    ):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(CaiError, match="is no address"):
        listen("no such host", 1)


def test_a_compressed_answer_is_gzip(get: Get) -> None:
    with requests.get(get("/exports/volume.csv").url, stream=True, timeout=30) as answer:
        assert gzip.decompress(answer.raw.read()).startswith(b"a,b")
