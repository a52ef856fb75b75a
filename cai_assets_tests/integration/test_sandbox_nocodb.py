"""The sandbox's NocoDB over HTTP, held to what was measured on NocoDB 0.301.3."""

import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
import requests

from cai_assets.failures import PermanentError
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.sandbox import NocoDBCalls, write_small_folder


@pytest.fixture
def calls(small_sandbox):
    made = NocoDBCalls(small_sandbox)
    yield made
    made.session.close()


@pytest.fixture
def own(tmp_path):
    """A sandbox whose rows a test may change."""
    with SandboxProcess.start(write_small_folder(tmp_path, conversations=20)) as sandbox:
        made = NocoDBCalls(sandbox)
        yield sandbox, made
        made.session.close()


# -- lists


def test_v1_and_v2_list_the_same_rows(calls):
    first = calls.list(calls.conversations, limit=1)
    assert first.json() == {
        "list": [
            {
                "Id": 1,
                "CreatedAt": "2025-01-01 00:00:00+00:00",
                "UpdatedAt": None,
                "conversation_id": "c-000000",
                "user_id": "u-0",
                "channel": "web",
                "status": "open",
                "started_at": "2025-01-01 00:00:00+00:00",
                "ended_at": "2025-01-01T00:05:00.250000+00:00",
                "status_events": [{"from": "open", "to": "resolved", "at": "2025-01-01T00:00:00+00:00"}],
                "tags": None,
                "csat_score": 5,
            }
        ],
        "pageInfo": {"totalRows": 500, "page": 1, "pageSize": 1, "isFirstPage": True, "isLastPage": False},
    }
    assert calls.get(f"/api/v2/tables/{calls.conversations}/records", limit=1).json() == first.json()
    assert first.headers["content-type"] == "application/json; charset=utf-8"
    assert int(first.headers["xc-db-response"]) >= 0
    assert "date" in first.headers
    # The organisation in v1's path is ignored.
    assert (
        calls.get(f"/api/v1/db/data/noco/{calls.base}/{calls.conversations}", limit=1).json() == first.json()
    )


def test_a_page_holds_25_rows_unless_asked_and_1000_at_most(calls):
    assert len(calls.list(calls.messages).json()["list"]) == 25
    page = calls.list(calls.messages, limit=5000).json()
    assert (len(page["list"]), page["pageInfo"]["pageSize"]) == (1000, 1000)
    for wrong in ("abc", "0", "-1"):
        assert calls.list(calls.messages, limit=wrong).json()["pageInfo"]["pageSize"] == 25


def test_offsets_have_their_quirks(calls):
    crooked = calls.list(calls.conversations, limit=3, offset=4).json()["pageInfo"]
    assert crooked == {
        "totalRows": 500,
        "pageSize": 3,
        "isFirstPage": False,
        "isLastPage": False,
        "offset": 4,
    }
    last = calls.list(calls.conversations, limit=100, offset=400).json()["pageInfo"]
    assert (last["page"], last["isLastPage"]) == (5, True)
    assert calls.list(calls.conversations, offset="x").json()["pageInfo"]["page"] == 1
    beyond = calls.list(calls.conversations, offset=500)
    assert (beyond.status_code, beyond.json()["error"]) == (422, "ERR_INVALID_OFFSET_VALUE")
    empty = calls.list(calls.conversations, where="(Id,gt,500)").json()
    assert (empty["list"], empty["pageInfo"]["isLastPage"]) == ([], True)


def test_a_keyset_walk_sees_every_row_once(calls):
    seen, last = [], 0
    while True:
        page = calls.list(
            calls.messages, where=f"(Id,gt,{last})", sort="Id", limit=400, fields="Id,message_id"
        ).json()
        seen += [row["message_id"] for row in page["list"]]
        last = page["list"][-1]["Id"]
        if page["pageInfo"]["isLastPage"]:
            break
    assert len(seen) == len(set(seen)) == 1500
    newest = calls.list(calls.messages, sort="-Id", limit=1, fields="Id").json()["list"]
    assert newest == [{"Id": last}] == [{"Id": 1500}]


def test_fields_and_sort_name_columns(calls):
    page = calls.list(calls.conversations, fields="Id,csat_score", sort="csat_score,-Id", limit=500).json()[
        "list"
    ]
    assert page[0] == {"Id": 500, "csat_score": None}
    assert page[-1] == {"Id": 1, "csat_score": 5}
    for query in ({"fields": "nope"}, {"sort": "nope"}):
        refused = calls.list(calls.conversations, **query)
        assert (refused.status_code, refused.json()["error"]) == (404, "ERR_FIELD_NOT_FOUND")


@pytest.mark.parametrize(
    ("where", "count"),
    [
        # Measured on Postgres: 500 rows every 7 minutes, one of them at exactly 11:56:00 of the second day.
        ("(started_at,gte,exactDate,2025-01-02 11:56:00+00:00)", 192),
        ("(started_at,gt,exactDate,2025-01-02 11:56:00+00:00)", 191),
        ("(started_at,lte,exactDate,2025-01-02 11:56:00+00:00)", 309),
        ("(started_at,gte,exactDate,2025-01-02T11:56:00Z)", 192),
        ("(started_at,gt,exactDate,2025-01-02)", 88),
        ("(started_at,eq,exactDate,2025-01-02 11:56:00)", 206),
        ("(started_at,is,null)", 500),
        ("(ended_at,blank)", 0),
        ("(channel,eq,whats,app)", 100),
        ("(channel,eq,phone (in))", 100),
        ('(channel,eq,"whats,app")', 0),
        ('@(channel,eq,"whats,app")', 100),
        ('(channel,eq,O\'Neil "x")', 100),
        ("(channel,in,web,phone (in))~and(Id,gt,495)", 2),
        ("((Id,gt,490)~or(Id,lt,5))~and(status,eq,open)", 2),
    ],
)
def test_filters_count_as_measured(calls, where, count):
    assert calls.count(calls.conversations, where) == count
    assert calls.list(calls.conversations, where=where).json()["pageInfo"]["totalRows"] == count


def test_a_raw_plus_is_a_space(calls):
    url = f"{calls.base_url}/api/v1/db/data/v1/{calls.base}/{calls.conversations}"
    raw = calls.session.get(f"{url}?where=(started_at,gte,exactDate,2025-01-02 11:56:00+00:00)", timeout=30)
    assert (raw.status_code, raw.json()["error"]) == (422, "ERR_FILTER_VERIFICATION_FAILED")


# -- errors


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("(nope,eq,1)", "Column alias 'nope' not found."),
        ("(Conversation_id,eq,1)", "Column alias 'Conversation_id' not found."),
        ("(status,foo,1)", "foo is not supported."),
        ("(status,eq", "Invalid filter format."),
    ],
)
def test_refused_filters_have_the_short_error_body(calls, where, message):
    refused = calls.list(calls.conversations, where=where)
    assert (refused.status_code, refused.json()) == (422, {"msg": message})


def test_tables_and_bases_answer_to_ids_and_before_the_token_is_looked_at(calls):
    for headers in ({}, {"xc-token": "wrong"}):
        with requests.Session() as stranger:
            stranger.headers.update(headers)
            url = f"{calls.base_url}/api/v1/db/data/v1/{calls.base}"
            by_title = stranger.get(f"{url}/messages", timeout=30)
            assert by_title.status_code == 404
            assert by_title.json() == {
                "error": "ERR_TABLE_NOT_FOUND",
                "message": "Table 'messages' not found",
            }
            base = stranger.get(
                f"{calls.base_url}/api/v1/db/data/v1/conversations/{calls.messages}", timeout=30
            )
            assert (base.status_code, base.json()["error"]) == (404, "ERR_BASE_NOT_FOUND")
            refused = stranger.get(f"{url}/{calls.messages}", timeout=30)
            assert refused.status_code == 401
            assert refused.json() == {
                "error": "ERR_AUTHENTICATION_REQUIRED",
                "message": "Authentication required - Invalid token",
            }


def test_either_header_carries_the_token_and_xc_token_wins(calls, small_sandbox):
    token = small_sandbox.environment()["NOCODB_API_TOKEN"]
    url = f"{calls.base_url}/api/v2/tables/{calls.messages}/records/count"
    bearer, other = {"Authorization": f"bearer {token}"}, {"Authorization": "Bearer x"}
    for headers, status in (
        ({"xc-token": token}, 200),
        (bearer, 200),
        ({"xc-token": token, **other}, 200),
        ({"xc-token": "x", **bearer}, 401),
        ({"xc-auth": token}, 401),
    ):
        assert requests.get(url, headers=headers, timeout=30).status_code == status


def test_unknown_routes_and_versions_differ(calls):
    unknown = calls.get("/api/v1/nope")
    assert (unknown.status_code, unknown.json()) == (404, {"msg": "Cannot GET /api/v1/nope"})
    assert calls.get("/api/v9/nope").json()["error"] == "INVALID_API_VERSION"
    assert calls.get("/api/v1/health").json()["message"] == "OK"


def test_urls_above_16_kilobytes_are_refused(calls):
    def answer(characters):
        return calls.list(
            calls.messages, where=f"(conversation_id,in,{'c' * characters})", limit=1
        ).status_code

    assert (answer(13_000), answer(27_000)) == (200, 431)


def test_an_unchanged_page_is_not_sent_again(calls):
    first = calls.list(calls.messages, limit=2)
    url, tag = first.url, first.headers["etag"]
    assert tag.startswith('W/"')
    again = calls.session.get(url, headers={"If-None-Match": tag}, timeout=30)
    assert (again.status_code, again.content) == (304, b"")


# -- meta


def test_the_meta_api_names_tables_and_columns(calls):
    assert calls.get("/api/v2/meta/bases/").json()["list"][0]["id"] == calls.base
    tables = calls.get(f"/api/v2/meta/bases/{calls.base}/tables").json()["list"]
    assert {table["title"]: table["id"] for table in tables} == {
        "conversations": calls.conversations,
        "messages": calls.messages,
    }
    columns = {c["title"]: c for c in calls.get(f"/api/v2/meta/tables/{calls.messages}").json()["columns"]}
    assert (columns["Id"]["uidt"], columns["Id"]["pk"]) == ("ID", True)
    assert (columns["UpdatedAt"]["uidt"], columns["UpdatedAt"]["system"]) == ("LastModifiedTime", True)
    assert (columns["text"]["uidt"], columns["text"]["system"]) == ("LongText", False)
    for path in ("/api/v2/meta/bases/", f"/api/v2/meta/bases/{calls.base}/tables"):
        assert requests.get(f"{calls.base_url}{path}", timeout=30).status_code == 401


# -- writing


def test_rows_are_inserted_edited_and_deleted(own):
    _, calls = own
    made = calls.write(
        "POST",
        calls.messages,
        [{"message_id": "new", "conversation_id": "c-000001", "text": "x", "nope": 1, "seq": "7"}],
    )
    assert (made.status_code, made.json()) == (200, [{"Id": 61}])
    row = calls.get(f"/api/v2/tables/{calls.messages}/records/61").json()
    assert (row["seq"], row["private"], row["UpdatedAt"]) == (7, None, None)
    age = datetime.now(UTC) - datetime.fromisoformat(row["CreatedAt"])
    assert abs(age.total_seconds()) < 60
    assert calls.count(calls.messages, "(conversation_id,eq,c-000001)") == 4

    assert calls.write("PATCH", calls.messages, {"Id": 61, "conversation_id": "c-000002"}).json() == {
        "Id": 61
    }
    assert calls.count(calls.messages, "(conversation_id,eq,c-000001)") == 3
    changed = calls.list(calls.messages, where=f"(UpdatedAt,gte,exactDate,{row['CreatedAt']})").json()["list"]
    assert [each["Id"] for each in changed] == [61]

    assert calls.write("DELETE", calls.messages, [{"Id": 61}]).json() == [{"Id": 61}]
    gone = calls.get(f"/api/v1/db/data/v1/{calls.base}/{calls.messages}/61")
    assert (gone.status_code, gone.json()["error"]) == (404, "ERR_RECORD_NOT_FOUND")
    assert calls.count(calls.messages, "(Id,gt,0)") == 60


def test_a_request_writes_everything_or_nothing(own):
    _, calls = own
    unknown = calls.write("PATCH", calls.messages, [{"Id": 1, "text": "changed"}, {"Id": 999, "text": "x"}])
    assert (unknown.status_code, unknown.json()["error"]) == (404, "ERR_RECORD_NOT_FOUND")
    many = calls.write("POST", calls.messages, [{"text": "x"}] * 101)
    assert (many.status_code, many.json()["error"]) == (422, "ERR_MAX_PAYLOAD_LIMIT_EXCEEDED")
    wrong = calls.write(
        "POST", calls.conversations, [{"user_id": "u"}, {"user_id": "u", "started_at": "not a date"}]
    )
    assert wrong.status_code == 400
    assert calls.count(calls.messages, "(text,eq,changed)~or(text,eq,x)") == 0
    assert calls.count(calls.conversations, "(Id,gt,0)") == 20


def test_instants_are_normalised_to_whole_seconds_of_utc(own):
    _, calls = own
    row = {"Id": 1, "started_at": "2025-03-01T10:00:00.123+02:00", "status_events": '[{"to": "open"}]'}
    assert calls.write("PATCH", calls.conversations, row).status_code == 200
    found = calls.list(calls.conversations, where="(Id,eq,1)").json()["list"][0]
    assert found["started_at"] == "2025-03-01 08:00:00+00:00"
    assert found["status_events"] == [{"to": "open"}]


def test_sqlite_prints_json_booleans_and_bad_dates_its_own_way(tmp_path):
    with SandboxProcess.start(write_small_folder(tmp_path, conversations=20), dialect="sqlite") as sandbox:
        calls = NocoDBCalls(sandbox)
        bad = calls.write("PATCH", calls.conversations, {"Id": 2, "started_at": "not a date"})
        assert bad.status_code == 200
        row = calls.list(calls.conversations, where="(Id,eq,2)").json()["list"][0]
        assert (row["started_at"], row["tags"]) == ("Invalid Date", '["vip"]')
        assert [m["private"] for m in calls.list(calls.messages, limit=3).json()["list"]] == [0, 1, 0]
        made = calls.write("POST", calls.messages, {"text": "x"}).json()["Id"]
        assert calls.get(f"/api/v2/tables/{calls.messages}/records/{made}").json()["private"] == 0
        # gt acts as gte, and "Invalid Date" is in no range of instants.
        assert calls.count(calls.conversations, "(started_at,gt,exactDate,2025-01-01 00:14:00+00:00)") == 18
        assert calls.count(calls.conversations, "(started_at,gte,exactDate,2000-01-01 00:00:00+00:00)") == 19
        calls.session.close()


# -- faults


def test_refusals_and_cut_connections_come_on_request(calls, small_sandbox):
    small_sandbox.faults(
        {"service": "nocodb", "kind": "status", "code": 429, "retry_after": 2, "next": 1},
        {"service": "nocodb", "kind": "status", "code": 502, "next": 1},
        {"service": "nocodb", "kind": "cut", "next": 1},
        {"service": "nocodb", "kind": "silence", "seconds": 0.2, "next": 1},
        {"service": "nocodb", "kind": "slow", "seconds": 0.3, "next": 1},
    )
    limited = calls.list(calls.messages)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")
    assert "ThrottlerException" in limited.json()["message"]
    broken = calls.list(calls.messages)
    assert (broken.status_code, broken.headers["content-type"]) == (502, "text/html")
    assert "<h1>502 Bad Gateway</h1>" in broken.text
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            calls.list(calls.messages)
    started = time.monotonic()
    assert calls.list(calls.messages).status_code == 200
    assert time.monotonic() - started >= 0.3
    assert calls.list(calls.messages).status_code == 200


def test_the_throttle_of_a_later_version_can_be_switched_on(calls, small_sandbox):
    small_sandbox.faults(rate_limit={"requests": 5, "per_seconds": 5, "block_seconds": 0.5})
    assert [calls.list(calls.messages).status_code for _ in range(7)] == [200] * 5 + [429] * 2
    time.sleep(0.6)
    assert calls.list(calls.messages).status_code == 200


def test_pages_can_be_bent(calls, small_sandbox):
    small_sandbox.faults(
        {"service": "nocodb", "kind": "duplicate_rows", "rows": 2, "next": 1},
        {"service": "nocodb", "kind": "short_page", "rows": 3, "next": 1},
    )
    doubled = calls.list(calls.messages, limit=10, fields="Id").json()["list"]
    assert [row["Id"] for row in doubled] == [*range(1, 11), 9, 10]
    short = calls.list(calls.messages, limit=10, where="(Id,gt,1490)").json()
    assert (len(short["list"]), short["pageInfo"]["isLastPage"]) == (7, False)


def test_rows_change_between_two_pages(own):
    sandbox, calls = own
    for kind in ("delete_rows", "insert_rows", "update_rows"):
        sandbox.faults({"service": "nocodb", "kind": kind, "rows": 4, "next": 1, "path": calls.messages})
        before = calls.list(calls.messages, limit=10).json()
        after = calls.list(calls.messages, limit=10).json()
        log = sandbox._control("GET", "faults")["log"][0]
        assert (log["kind"], len(log["ids"])) == (kind, 4)
        moved = after["pageInfo"]["totalRows"] - before["pageInfo"]["totalRows"]
        assert moved == {"delete_rows": -4, "insert_rows": 4, "update_rows": 0}[kind]
    assert calls.count(calls.messages, "(UpdatedAt,notblank)") == 4
    assert calls.count(calls.messages, "(message_id,like,+)") == 4


# -- the process


def test_a_sandbox_stops_cleanly_and_frees_its_port(tmp_path):
    ready = tmp_path / "ready.json"
    folder = tmp_path / "data"
    folder.mkdir()
    sandbox = SandboxProcess.start(
        write_small_folder(folder, conversations=2), ready_file=ready, stop_with_parent=False
    )
    attached = SandboxProcess.attach(ready)
    assert attached is not None
    assert attached.environment() == sandbox.environment()
    assert attached.pid == sandbox.info()["pid"]
    attached.stop()
    assert sandbox._process is not None
    assert sandbox._process.wait(10) == 0
    with pytest.raises(requests.ConnectionError):
        sandbox.info()
    assert SandboxProcess.attach(ready) is None
    sandbox.stop()
    attached.stop()


def test_a_sandbox_ends_with_the_process_that_started_it(small_folder):
    code = (
        "import os, sys; from cai_assets.sandbox.process import SandboxProcess; "
        f"sandbox = SandboxProcess.start({str(small_folder)!r}); "
        "print(sandbox.base_url, flush=True); os._exit(0)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    deadline = time.monotonic() + 20
    with pytest.raises(requests.ConnectionError):  # noqa: PT012  it goes within a second or so
        while time.monotonic() < deadline:
            requests.get(f"{started.stdout.strip()}/sandbox/info", timeout=5)
            time.sleep(0.1)


def test_a_taken_port_is_named(small_sandbox, small_folder):
    port = int(small_sandbox.base_url.rpartition(":")[2])
    with pytest.raises(PermanentError, match=rf"Port {port} of 127\.0\.0\.1 cannot be used"):
        SandboxProcess.start(small_folder, port=port)


def test_a_sandbox_without_data_says_what_it_needs(tmp_path):
    with pytest.raises(PermanentError, match=r"ended with code 2 .*conversations\.parquet does not exist"):
        SandboxProcess.start(tmp_path)


def test_wrong_faults_are_refused_with_the_choices(small_sandbox):
    with pytest.raises(PermanentError, match=r"No fault 'nope' of dify.*cut_after"):
        small_sandbox.faults({"service": "dify", "kind": "nope"})
