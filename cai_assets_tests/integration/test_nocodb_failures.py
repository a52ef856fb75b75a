"""What passes is tried again, the rest says what to mend, and answers that would lose rows are refused."""

import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import quote, urlencode

import pytest
import requests

from cai_assets.failures import PermanentError, TransientError
from cai_assets.resources.source import (
    MESSAGES,
    SourceAccessError,
    SourceError,
    SourceGuardError,
    SourceMissingError,
)
from cai_assets.sandbox.config import NOCODB_TOKEN
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.sources import DAY

NEXT = DAY + timedelta(days=1)
IDS = [f"c{n:03d}" for n in range(60)]


@pytest.fixture(scope="module")
def _sandbox(many_folder):
    with SandboxProcess.start(many_folder) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_sandbox):
    yield _sandbox
    _sandbox.faults()


@pytest.fixture
def own_sandbox(many_folder):
    """One whose rows a test may change."""
    with SandboxProcess.start(many_folder) as sandbox:
        yield sandbox


@pytest.fixture
def opened(open_nocodb):
    """Small pages and batches, so that there are several to fail."""
    return partial(open_nocodb, page_rows=100, batch_ids=20, way="batches")


@pytest.fixture(params=["batches", "scan"])
def way(request):
    """Each of the ways to read messages must hold what the test says."""
    return request.param


def read_all(source):
    stream = source.messages(IDS)
    rows = list(stream)
    assert stream.source_rows == len(rows) == len({row.id for row in rows})
    return stream, rows


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "code": 429, "retry_after": 0.02, "next": 2},
        {"kind": "status", "code": 429, "next": 1},
        {"kind": "status", "code": 500, "html": False, "next": 2},
        {"kind": "status", "code": 502, "next": 2},
        {"kind": "cut", "next": 2},
        {"kind": "cut", "probability": 0.1},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_what_can_pass_is_tried_again_and_nothing_is_lost(sandbox, opened, fault, way):
    source = opened(sandbox, max_retries=8, way=way)
    source.check()
    sandbox.faults({"service": "nocodb", **fault}, seed=3)
    stream, rows = read_all(source)
    assert len(rows) == 720
    assert stream.requests > 9


def test_what_does_not_pass_ends_as_transient_with_its_reason(sandbox, opened):
    source = opened(sandbox, max_retries=1)
    sandbox.faults({"service": "nocodb", "kind": "status", "code": 503})
    with pytest.raises(
        TransientError, match="cannot list the bases: NocoDB failed with 503: a body of text/html"
    ):
        source.check()


def test_a_throttled_server_is_obeyed_by_all_threads(sandbox, opened, way):
    sandbox.faults(rate_limit={"requests": 5, "per_seconds": 0.2, "block_seconds": 0.3})
    source = opened(sandbox, max_retries=40, way=way)  # eight threads are refused at once on a busy machine
    _, rows = read_all(source)
    assert len(rows) == 720
    paced = opened(sandbox, nocodb_max_requests_per_second=20, way=way)
    sandbox.faults(rate_limit={"requests": 5, "per_seconds": 0.2, "block_seconds": 30})
    started = time.monotonic()
    stream, _ = read_all(paced)
    assert stream.requests == (11 if way == "batches" else 10)
    assert time.monotonic() - started >= (stream.requests + 5) * 0.05


def test_rows_deleted_between_pages_make_the_batch_be_read_again(own_sandbox, opened, way):
    source = opened(own_sandbox, io_threads=1, batch_ids=60, way=way)
    source.check()
    # `rows` of the page that was served: gone from the server, and the next page's count agrees all the same.
    own_sandbox.faults({"service": "nocodb", "kind": "delete_rows", "rows": 5, "next": 1, "skip": 2})
    stream, rows = read_all(source)
    assert len(rows) == 720
    assert len(read_all(source)[1]) == 715
    assert stream.requests == 2 + 8


def test_rows_made_while_reading_wait_for_the_next_read(own_sandbox, opened, way):
    source = opened(own_sandbox, io_threads=1, batch_ids=60, way=way)
    source.check()
    own_sandbox.faults({"service": "nocodb", "kind": "insert_rows", "rows": 3, "next": 4, "skip": 2})
    assert len(read_all(source)[1]) == 720
    assert len(read_all(source)[1]) == 732


def deleting(own_sandbox, times, way="batches"):
    """A bend that deletes a row not yet read after each first page (of a scan: of its last window)."""
    left = list(range(700, 700 - times, -1))

    def bend(exchange):
        if (
            exchange.is_page
            and exchange.query.get("where", "").count("Id,gt") == (way == "scan")
            and (way == "batches" or "(Id,gt,400)" in exchange.query["where"])
            and left
            and exchange.query["sort"] == "Id"
        ):
            requests.delete(
                f"{own_sandbox.base_url}/api/v2/tables/mmessages000001/records",
                json=[{"Id": left.pop(0)}],
                headers={"xc-token": NOCODB_TOKEN},
                timeout=10,
            ).raise_for_status()

    return bend


def test_a_count_that_moves_is_read_again(own_sandbox, opened, through, way):
    proxy = through(own_sandbox.base_url)
    source = opened(own_sandbox, nocodb_base_url=proxy.base_url, io_threads=1, batch_ids=60, way=way)
    source.check()
    proxy.after = deleting(own_sandbox, 2, way)
    stream, rows = read_all(source)
    assert len(rows) == 718
    assert stream.requests > 2 + 8


def test_a_count_that_never_rests_ends_as_transient_and_names_it(own_sandbox, opened, through):
    proxy = through(own_sandbox.base_url)
    source = opened(own_sandbox, nocodb_base_url=proxy.base_url, io_threads=1, batch_ids=60)
    source.check()
    proxy.after = deleting(own_sandbox, 100)
    with pytest.raises(TransientError, match=r"'messages' .*were left and then .* in 3 tries"):
        list(source.messages(IDS))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "short_page", "rows": 1, "skip": 2}, "a page of 99 rows where 100 were asked for"),
        ({"kind": "duplicate_rows", "rows": 2, "skip": 2}, r"Id \d+ comes after Id \d+"),
    ],
)
def test_pages_that_would_lose_or_repeat_rows_are_refused(sandbox, opened, fault, message, way):
    source = opened(sandbox, io_threads=1, way=way)
    source.check()
    sandbox.faults({"service": "nocodb", **fault})
    with pytest.raises(SourceGuardError, match=message):
        list(source.messages(IDS))


def empty_although_counted(served):
    """A bend that takes the rows, not their count, from the first so many answers; None: from all."""

    def bend(exchange):
        if exchange.is_page and exchange.answer["list"] and (served is None or bend.done < served):
            bend.done += 1
            exchange.answer = {**exchange.answer, "list": []}

    bend.done = 0
    return bend


LOOKS = {
    "a scan": lambda source: [row.id for row in source.scan(MESSAGES, ("conversation_id",))],
    "conversations by time": lambda source: [row.id for row in source.conversations(DAY, NEXT)],
    "changes": lambda source: [
        row.id for page in source.changes(MESSAGES, datetime(2020, 1, 1, tzinfo=UTC), 0) for row in page.rows
    ],
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_an_answer_without_the_rows_it_counts_is_asked_for_again_and_never_believed(
    sandbox, opened, through, look
):
    proxy = through(sandbox.base_url)
    source = opened(sandbox, nocodb_base_url=proxy.base_url, io_threads=1)
    source.check()
    whole = look(source)
    assert whole
    proxy.after = empty_although_counted(1)
    assert look(source) == whole
    proxy.after = empty_although_counted(None)
    with pytest.raises(TransientError, match=r"counts \d+ rows and (gives|its last page ends at) 0"):
        look(source)


def lacking_where(exchange):
    exchange.query.pop("where", None)


def lacking_sort(exchange):
    if exchange.query.get("sort") == "Id":
        exchange.query["sort"] = "-Id"


def last_page_too_early(exchange):
    if exchange.is_page and exchange.query["sort"] == "Id":
        page = exchange.answer
        page["pageInfo"]["isLastPage"] = True
        exchange.answer = page


def no_page_info(exchange):
    if exchange.is_page:
        exchange.answer = {"list": exchange.answer["list"]}


@pytest.mark.parametrize(
    ("when", "bend", "error", "message"),
    [
        ("before", lacking_where, SourceGuardError, "a conversation that was not asked for"),
        ("before", lacking_sort, SourceGuardError, r"Id \d+ comes after Id \d+"),
        ("after", last_page_too_early, TransientError, "counts 240 rows and its last page ends at 100"),
        ("after", no_page_info, SourceGuardError, "no list with pageInfo.totalRows"),
    ],
)
def test_a_proxy_that_drops_parts_of_the_request_is_noticed(
    sandbox, opened, through, when, bend, error, message
):
    proxy = through(sandbox.base_url)
    source = opened(sandbox, nocodb_base_url=proxy.base_url, page_rows=1000 if bend is lacking_where else 100)
    source.check()
    setattr(proxy, when, bend)
    with pytest.raises(error, match=message):
        list(source.messages(IDS[:20]))


@pytest.mark.parametrize(
    ("bend", "page_rows", "message"),
    [
        (lacking_where, 1000, "row 51 lies outside the Ids asked for, 0 to 50"),
        (lacking_sort, 10, r"Id \d+ comes after Id \d+"),
    ],
)
def test_a_scan_notices_what_a_proxy_drops(sandbox, opened, through, bend, page_rows, message):
    proxy = through(sandbox.base_url)
    source = opened(sandbox, nocodb_base_url=proxy.base_url, page_rows=page_rows, window_rows=50, way="scan")
    source.check()
    proxy.before = bend
    with pytest.raises(SourceGuardError, match=message):
        list(source.messages(IDS))


def test_a_window_that_is_ignored_is_noticed(sandbox, opened, through):
    proxy = through(sandbox.base_url)
    source = opened(sandbox, nocodb_base_url=proxy.base_url)
    proxy.before = lacking_where
    with pytest.raises(SourceGuardError, match="outside the days asked for"):
        list(source.conversations(DAY - timedelta(days=1), DAY))


def test_a_server_that_clamps_pages_is_read_whole(sandbox, opened, through, way):
    def clamp(exchange):
        if "limit" in exchange.query:
            exchange.query["limit"] = str(min(30, int(exchange.query["limit"])))

    proxy = through(sandbox.base_url)
    proxy.before = clamp
    assert len(read_all(opened(sandbox, nocodb_base_url=proxy.base_url, way=way))[1]) == 720


def test_a_server_without_the_v1_address_is_read_by_v2(sandbox, opened, through):
    def no_v1(exchange):
        if exchange.path.startswith("/api/v1/"):
            exchange.status, exchange.answer = 404, {"msg": f"Cannot GET {exchange.path}"}

    proxy = through(sandbox.base_url)
    proxy.before = no_v1
    source = opened(sandbox, nocodb_base_url=proxy.base_url)
    assert source.check().details["api"] == "v2"
    assert len(read_all(source)[1]) == 720
    assert sum(seen.path.startswith("/api/v1/") for seen in proxy.seen) == 2


def answering(status, body, **extra):
    def bend(exchange):
        exchange.status, exchange.body = status, body.encode()
        exchange.extra.update({name.replace("_", "-"): value for name, value in extra.items()})
        if body.startswith("<"):
            exchange.content_type = "text/html"

    return bend


@pytest.mark.parametrize(
    ("bend", "error", "message"),
    [
        (
            answering(403, '{"msg":"Forbidden - x"}'),
            SourceAccessError,
            "403: Forbidden - x.*NOCODB_API_TOKEN.*NOCODB_PROJECT_ID.*viewer role",
        ),
        (answering(404, '{"msg":"Cannot GET /api"}'), SourceMissingError, "without /api"),
        (answering(404, "<html>no</html>"), SourceMissingError, "a body of text/html instead of JSON"),
        (answering(400, '{"error":"ERR_X","message":"m"}'), SourceError, "400: m"),
        (answering(431, " "), SourceError, "431.*too long"),
        (answering(200, "<html>login</html>"), SourceError, "answers with a web page"),
        (
            answering(302, "-", Location="https://other.example/x?y"),
            SourceError,
            "302: go to https://other.example/x",
        ),
        (answering(200, '{"list":[{"id":"p'), TransientError, "broke off or is no JSON"),
        (answering(200, '{"list":[]}', declared="500"), TransientError, "no whole answer"),
        (answering(200, '["list"]'), SourceError, "holds no list"),
    ],
    ids=["403", "404", "404-html", "400", "431", "200-html", "redirect", "half-json", "cut-body", "no-list"],
)
def test_each_refusal_says_what_to_mend(sandbox, opened, through, bend, error, message):
    proxy = through(sandbox.base_url)
    proxy.before = bend
    source = opened(sandbox, nocodb_base_url=proxy.base_url, max_retries=1)
    with pytest.raises(error, match=message):
        source.check()
    # What can pass is tried twice; a token that may not list the bases is tried on the one it was given.
    assert len(proxy.seen) == (2 if error in (TransientError, SourceAccessError) else 1)


def test_neither_the_token_nor_a_stack_trace_reaches_a_message(sandbox, opened, through, caplog):
    proxy = through(sandbox.base_url)
    proxy.before = answering(
        500, f'{{"msg":"token {NOCODB_TOKEN}","innerError":{{"stack":"at /srv/secret.js"}}}}'
    )
    caplog.set_level("DEBUG", logger="cai_assets")
    with pytest.raises(TransientError) as caught:
        opened(sandbox, nocodb_base_url=proxy.base_url, max_retries=1).check()
    told = str(caught.value) + caplog.text
    assert NOCODB_TOKEN not in told
    assert "secret.js" not in told
    assert "token ***" in told
    assert {seen.headers["xc-token"] for seen in proxy.seen} == {NOCODB_TOKEN}
    assert {seen.headers["Authorization"] for seen in proxy.seen} == {f"Bearer {NOCODB_TOKEN}"}


def test_addresses_stay_short_and_name_their_fields(sandbox, opened, through):
    proxy = through(sandbox.base_url)
    source = opened(sandbox, nocodb_base_url=proxy.base_url, batch_ids=10_000)
    long_ids = [f"{n}-ü{'x' * 60}" for n in range(500)] + [f"{n},{'y' * 60}" for n in range(500)]
    assert list(source.messages(long_ids)) == []
    pages = [seen for seen in proxy.seen if seen.is_page]
    assert len(pages) > 8
    assert max(len(urlencode(seen.query, quote_via=quote)) + len(seen.path) for seen in pages) < 12_000
    assert all(seen.query["fields"].startswith("Id") for seen in pages)


def test_an_unreadable_system_time_names_the_row(sandbox, opened, through):
    def bad_time(exchange):
        if exchange.is_page and exchange.query["sort"] == "Id":
            page = exchange.answer
            page["list"][3]["CreatedAt"] = "Invalid Date"
            exchange.answer = page

    proxy = through(sandbox.base_url)
    proxy.after = bad_time
    with pytest.raises(SourceError, match="row 4: CreatedAt: 'Invalid Date'"):
        list(opened(sandbox, nocodb_base_url=proxy.base_url).messages(["c000"]))


def test_an_unreadable_start_belongs_to_no_day_and_is_told(sandbox, opened, through, caplog):
    def bad_start(exchange):
        if exchange.is_page and exchange.query["sort"] == "Id":
            page = exchange.answer
            page["list"][2]["started_at"] = "Invalid Date"
            exchange.answer = page

    proxy = through(sandbox.base_url)
    proxy.after = bad_start
    stream = opened(sandbox, nocodb_base_url=proxy.base_url).conversations(DAY, NEXT)
    assert len(list(stream)) == stream.source_rows == 59
    assert "row 3 has no readable started_at" in caplog.text


def test_attachments_are_kept_without_their_signatures(sandbox, opened, through):
    def attach(exchange):
        if "/meta/tables/mmessages" in exchange.path:
            meta = exchange.answer
            next(c for c in meta["columns"] if c["title"] == "text")["uidt"] = "Attachment"
            exchange.answer = meta
        elif exchange.is_page and exchange.query["sort"] == "Id":
            page = exchange.answer
            for row in page["list"]:
                row["text"] = [{"path": "download/a.png", "title": "a.png", "signedPath": "dltemp/x/1/a.png"}]
            exchange.answer = page

    proxy = through(sandbox.base_url)
    proxy.after = attach
    row = next(iter(opened(sandbox, nocodb_base_url=proxy.base_url).messages(["c000"])))
    assert row.values["text"] == [{"path": "download/a.png", "title": "a.png"}]


def test_a_reader_that_leaves_early_stops_the_threads(sandbox, opened, through, way):
    proxy = through(sandbox.base_url)
    source = opened(sandbox, nocodb_base_url=proxy.base_url, io_threads=4, page_rows=5, batch_ids=10, way=way)
    rows = iter(source.messages(IDS))
    next(rows)
    rows.close()
    deadline = time.monotonic() + 5
    while any(t.name.startswith("nocodb") for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [t for t in threading.enumerate() if t.name.startswith("nocodb")]
    # Six batches of 24 pages would have been 144 requests.
    assert len(proxy.seen) < 140


def test_errors_of_both_kinds_are_the_platforms_own(sandbox, opened):
    with pytest.raises(PermanentError):
        opened(sandbox, nocodb_messages_table="none").check()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "86400"}, 300),
        ({"Retry-After": "-1"}, 0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "soon"}, 0.05),
        ({"Retry-After": "nan"}, 0.05),
        ({}, 0.05),
    ],
)
def test_the_wait_a_server_asks_for_is_kept_within_bounds(sandbox, opened, through, header, seconds):
    proxy = through(sandbox.base_url)
    proxy.before = answering(429, '{"message":"ThrottlerException"}', **header)
    with pytest.raises(TransientError, match="refuses more requests") as caught:
        opened(sandbox, nocodb_base_url=proxy.base_url, max_retries=0).check()
    assert caught.value.retry_after == seconds
