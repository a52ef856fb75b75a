"""`cai doctor` with one setting wrong at a time, over real servers: it names the setting and shows no secret.

What is wrong in form is `unit/test_broken_settings`'. Nearly all run in this process, as its imports take
seconds; one is a process of its own, as people start it.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from pymongo import MongoClient

from cai_assets.cli import main
from cai_assets.resources.secantus import SecantusProcess
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.settings import load_settings
from cai_assets_tests.fixtures.lake import ACCESS_KEY, SECRET_KEY, S3Server
from cai_assets_tests.unit.test_broken_settings import ANY_TEXT

SECRETS = ("a-token-to-hide", "hidden-word", "hook-to-hide", "k" * 40)

DEAD = "{dead}"  # a port that nobody listens on
FILE = "{file}"  # a file, where a folder is wanted

# The variable that is named: what is set. Those beside it are what makes it matter.
WRONG: dict[str, dict[str, str]] = {
    "NOCODB_BASE_URL": {"NOCODB_BASE_URL": f"http://127.0.0.1:{DEAD}"},
    "NOCODB_API_TOKEN": {"NOCODB_API_TOKEN": "a-token-to-hide"},
    "NOCODB_PROJECT_ID": {"NOCODB_PROJECT_ID": "no such base"},
    "NOCODB_CONVERSATION_TABLE": {"NOCODB_CONVERSATION_TABLE": "no such table"},
    "NOCODB_MESSAGES_TABLE": {"NOCODB_MESSAGES_TABLE": "no such table"},
    "NOCODB_FIELD_MAP": {"NOCODB_FIELD_MAP": '{"messages": {"text": "no such column"}}'},
    "SOURCE_DIR": {"SOURCE": "files", "SOURCE_DIR": f"{FILE}/none"},
    "MONGODB_URI": {"MONGODB_URI": f"mongodb://me:hidden-word@127.0.0.1:{DEAD}"},
    "MONGODB_DATABASE": {"MONGODB_DATABASE": "a b.c"},
    "MONGODB_CONVERSATIONS_COLLECTION": {"MONGODB_CONVERSATIONS_COLLECTION": "quarantine"},
    "MONGODB_MESSAGES_COLLECTION": {"MONGODB_MESSAGES_COLLECTION": "$messages"},
    "MONGODB_CATEGORIES_COLLECTION": {"MONGODB_CATEGORIES_COLLECTION": "messages"},
    "MONGODB_TRANSLATIONS_COLLECTION": {"MONGODB_TRANSLATIONS_COLLECTION": "system.views"},
    "MONGODB_ANALYTICS_REPORTS_COLLECTION": {"MONGODB_ANALYTICS_REPORTS_COLLECTION": "user_analytics"},
    "MONGODB_USER_ANALYTICS_COLLECTION": {"MONGODB_USER_ANALYTICS_COLLECTION": ".users"},
    "DIFY_BASE_URL": {"DIFY_BASE_URL": f"http://127.0.0.1:{DEAD}/v1"},
    "DIFY_TRANSLATION_API_KEY": {"DIFY_TRANSLATION_API_KEY": "a-token-to-hide"},
    "DIFY_CATEGORY_API_KEY": {"DIFY_CATEGORY_API_KEY": "{DIFY_TRANSLATION_API_KEY}"},
    "S3_BUCKET": {"S3_BUCKET": "no-such-bucket"},
    "S3_PREFIX": {"S3_PREFIX": "../lake"},
    "S3_ENDPOINT_URL": {"S3_ENDPOINT_URL": f"http://127.0.0.1:{DEAD}"},
    "AWS_ACCESS_KEY_ID": {"AWS_ACCESS_KEY_ID": "a-token-to-hide"},
    "AWS_SECRET_ACCESS_KEY": {"AWS_SECRET_ACCESS_KEY": "a-token-to-hide"},
    "AWS_REGION": {"S3_ENDPOINT_URL": "{other_region}"},
    "PARQUET_BASE_DIR": {"S3_ENABLED": "false", "PARQUET_BASE_DIR": "/proc/lake"},
    "PARQUET_COMPRESSION": {"PARQUET_COMPRESSION": "zstd:99"},
    "PARTITION_START_DATE": {"PARTITION_START_DATE": "2999-01-01"},
    "REDACT_PHONE_REGIONS": {"REDACT_PHONE_REGIONS": "QX"},
    "ENGINE_PER_TABLE": {"ENGINE_PER_TABLE": '{"marts.nothing": "spark"}'},
    "DUCKDB_MEMORY_LIMIT": {"DUCKDB_MEMORY_LIMIT": "1KB"},
    "SPARK_REMOTE": {"ENGINE": "spark", "SPARK_REMOTE": f"sc://127.0.0.1:{DEAD}"},
    "DASK_SCHEDULER_ADDRESS": {"DASK_SCHEDULER_ADDRESS": f"tcp://127.0.0.1:{DEAD}"},
    "ENABLE_GPU": {"ENABLE_GPU": "true"},
    "LOG_FILE": {"LOG_FILE": f"{FILE}/log"},
    "ALERT_WEBHOOK_URL": {"ALERT_WEBHOOK_URL": f"http://127.0.0.1:{DEAD}/hook-to-hide"},
    "DAGSTER_HOME": {"DAGSTER_HOME": f"{FILE}/dagster"},
    "CAI_HOME": {"CAI_HOME": f"{FILE}/home"},
}

WARNED: dict[str, dict[str, str]] = {
    "CUDA_VISIBLE_DEVICES": {"CUDA_VISIBLE_DEVICES": "7"},
    "DAGSTER_UI_URL": {"DAGSTER_UI_URL": f"http://127.0.0.1:{DEAD}"},
    "PSEUDONYM_KEY": {"PSEUDONYM_KEY": "hidden-word"},
}
"""Those with which the platform works, but not as somebody may think."""

NEVER_WRONG = {"DIFY_PROMPT_VERSION"}
"""A name of one's own, which no server knows."""


class _OtherRegion(BaseHTTPRequestHandler):
    """Answers as AWS does to a signature made for another region than the bucket's."""

    def _refuse(self) -> None:
        body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting</Message></Error>"
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_DELETE = do_HEAD = _refuse  # noqa: N815  names that the library asks for

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _SomeRights(BaseHTTPRequestHandler):
    """A bucket that refuses one kind of request, as a role does that lacks a right, and does all else."""

    refused = "nothing"
    objects: ClassVar[dict[str, bytes]] = {}

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        kind = "LIST" if "list-type" in query else self.command
        status, body = 200, b""
        if kind == self.refused:
            status, body = 403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        elif kind == "LIST":
            body = b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"
        elif kind == "PUT" and path in self.objects and self.headers.get("If-None-Match"):
            status, body = 412, b"<Error><Code>PreconditionFailed</Code><Message>there</Message></Error>"
        elif kind == "PUT":
            self.objects[path] = sent
        elif kind == "GET":
            body = self.objects[path]
        else:
            del self.objects[path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_DELETE = _answer  # noqa: N815  names that the library asks for

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def places(
    _small_sandbox: SandboxProcess, mongo_uri: str, weed: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Settings with which everything works, and what stands in braces above."""
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "file").touch()
    other = HTTPServer(("127.0.0.1", 0), _OtherRegion)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # held, but not listened on: nobody else can get it meanwhile
        yield {
            **_small_sandbox.environment(),
            "MONGODB_URI": mongo_uri,
            "MONGODB_DATABASE": "doctor",
            "S3_ENABLED": "true",
            "S3_BUCKET": weed.bucket(),
            "S3_ENDPOINT_URL": weed.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "PSEUDONYM_KEY": "k" * 40,
            "CAI_HOME": str(folder / "home"),
            "dead": str(probe.getsockname()[1]),
            "file": str(folder / "file"),
            "other_region": f"http://127.0.0.1:{other.server_port}",
        }
    other.shutdown()
    other.server_close()


def environment(places: dict[str, str], wrong: dict[str, str]) -> dict[str, str]:
    """Variables that are right but for those that are wrong."""
    filled = {}
    for name, value in wrong.items():
        for key, text in places.items():
            value = value.replace(f"{{{key}}}", text)
        filled[name] = value
    return {name: value for name, value in places.items() if name.isupper()} | filled


@pytest.fixture
def doctor(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs `cai doctor --json` with settings that are wrong: exit code, output, findings."""
    monkeypatch.setattr("cai_assets.engines.spread._CONNECT_TIMEOUT_S", 1)  # 10 s, for clusters far away

    def run(**wrong: str) -> tuple[int, str, list[dict[str, str]]]:
        for name, value in environment(places, wrong).items():
            monkeypatch.setenv(name, value)
        load_settings.cache_clear()
        result = CliRunner().invoke(main, ["doctor", "--json"])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        findings = json.loads(result.stdout) if result.stdout.startswith("[") else []
        return result.exit_code, result.output, findings

    return run


def test_nothing_is_found_where_all_is_well(doctor: Any) -> None:
    code, output, findings = doctor()
    assert (code, [one for one in findings if one["status"] != "ok"]) == (0, []), output


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_setting_is_named_and_ends_with_1(doctor: Any, name: str) -> None:
    code, output, findings = doctor(**WRONG[name])
    assert code == 1, output
    # An error before the first look, of what is wrong in form, is all that is said.
    failed = [one for one in findings if one["status"] == "fail"] or [{"text": output, "mend": ""}]
    assert any(name in one["text"] + one["mend"] for one in failed), failed
    assert not any(secret in output for secret in SECRETS)
    assert "Traceback" not in output


@pytest.mark.parametrize("name", sorted(WARNED))
def test_a_setting_that_does_not_do_what_it_seems_to_is_named(doctor: Any, name: str) -> None:
    code, output, findings = doctor(**WARNED[name])
    warned = [one for one in findings if one["status"] == "warn"]
    assert any(name in one["text"] + one["mend"] for one in warned), output
    assert code == 0
    assert not any(secret in output for secret in SECRETS)


def test_every_variable_that_any_text_fits_is_looked_at() -> None:
    assert set(WRONG) | set(WARNED) | NEVER_WRONG >= ANY_TEXT


def test_where_the_stack_cannot_start_all_else_is_looked_at(doctor: Any) -> None:
    names = ("CAI_HOME", "NOCODB_API_TOKEN", "S3_BUCKET", "ALERT_WEBHOOK_URL", "PARQUET_COMPRESSION")
    wrong = {variable: value for name in names for variable, value in WRONG[name].items()}
    code, output, findings = doctor(**wrong)
    assert code == 1
    failed = "".join(one["text"] + one["mend"] for one in findings if one["status"] == "fail")
    assert all(name in failed for name in names), failed
    assert {"Stack", "MongoDB", "Dify, translation", "Workers", "Not looked at"} <= {
        one["subject"] for one in findings
    }
    (left_out,) = [one for one in findings if one["subject"] == "Not looked at"]
    assert left_out["text"].startswith("Dagster:")
    assert not any(secret in output for secret in SECRETS)


@pytest.mark.parametrize(
    ("refused", "told"),
    [("LIST", "listing s3://"), ("PUT", "writing an object"), ("GET", "reading an object"),
     ("DELETE", "deleting an object"), ("nothing", None)],
)  # fmt: skip
def test_the_right_that_lacks_in_a_bucket_is_named(doctor: Any, refused: str, told: str | None) -> None:
    handler = type("Handler", (_SomeRights,), {"refused": refused, "objects": {}})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        _, _, findings = doctor(S3_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    (lake,) = [one for one in findings if one["subject"] == "Lake"]
    assert lake["status"] == ("fail" if told else "ok"), lake
    assert told is None or (told in lake["text"] and "may read, write and delete" in lake["text"])
    assert bool(handler.objects) is (refused == "DELETE"), "the probe does not stay"


def test_the_right_that_lacks_in_mongodb_is_named(doctor: Any, tmp_path: Path) -> None:
    actions = [
        "listCollections",
        "createCollection",
        "createIndex",
        "listIndexes",
        "insert",
        "find",
        "remove",
    ]
    resource = {"db": "doctor", "collection": ""}
    with SecantusProcess(tmp_path) as server, MongoClient(server.uri) as client:
        privileges = [{"resource": resource, "actions": actions}]
        client["doctor"].command({"createRole": "no_updates", "privileges": privileges, "roles": []})
        for user, role in (("reader", "read"), ("writer", "readWrite"), ("other", "no_updates")):
            roles = [{"role": role, "db": "doctor"}]
            client["admin"].command({"createUser": user, "pwd": "hidden-word", "roles": roles})
    told = {}
    with SecantusProcess(tmp_path, arguments=["--auth"]) as server:
        for user in ("writer", "other", "reader"):
            uri = server.uri.replace("//", f"//{user}:hidden-word@")
            _, output, findings = doctor(MONGODB_URI=uri)
            assert "hidden-word" not in output
            told[user] = [one for one in findings if one["status"] == "fail"]
        _, _, elsewhere = doctor(MONGODB_URI=uri.replace("reader", "writer"), MONGODB_DATABASE="other")
    assert told["writer"] == []
    (rights,) = told["other"]
    assert rights["text"].endswith("may not do these in database doctor: update")
    assert "readWrite on doctor" in rights["mend"]
    (refused,) = told["reader"]
    assert "may not run create" in refused["text"]
    (refused,) = [one for one in elsewhere if one["status"] == "fail"]
    assert "in database 'other'" in refused["text"]
    assert "MONGODB_DATABASE" in refused["text"]


def test_all_that_is_wrong_is_told_in_one_run_of_the_command(places: dict[str, str], tmp_path: Path) -> None:
    names = (
        "NOCODB_API_TOKEN",
        "DIFY_CATEGORY_API_KEY",
        "S3_BUCKET",
        "ALERT_WEBHOOK_URL",
        "DUCKDB_MEMORY_LIMIT",
    )
    wrong = {variable: value for name in names for variable, value in WRONG[name].items()}
    done = subprocess.run(
        [sys.executable, "-m", "cai_assets.cli", "doctor"],
        cwd=tmp_path,
        env={**os.environ, **environment(places, wrong)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "5 failed" in done.stdout, done.stdout
    for name in names:
        assert name in done.stdout
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)
