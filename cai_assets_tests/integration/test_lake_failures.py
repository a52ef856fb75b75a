"""Crashes, full disks, wrong credentials, cut connections: a clear error, and the table as it was."""

import http.server
import json
import logging
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
import requests
from pydantic import SecretStr

from cai_assets.failures import PermanentError, TransientError
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.object_store import LocalStore, ObjectStore
from cai_assets.resources.s3 import S3Store
from cai_assets.resources.storage import LakeTable
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.lake import ACCESS_KEY, EVENTS, SECRET_KEY, S3Server, days, events
from cai_assets_tests.fixtures.proxy import relay_to

DAYS = days(4)
CHILD = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_a_live_writer_keeps_its_folder_when_others_sweep(local_store: LocalStore) -> None:
    with local_store.spool() as mine:
        (mine / "file").write_bytes(b"x")
        os.utime(mine, (0, 0))
        with local_store.spool() as other:
            assert (mine / "file").exists()
            assert mine != other
    assert not mine.exists()


# -- the disk

ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from cai_assets.failures import PermanentError
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.object_store import LocalStore
from cai_assets.resources.storage import LakeTable
from cai_assets_tests.fixtures.lake import EVENTS, days, events
import os
disk = Path(sys.argv[1])
table = LakeTable(LocalStore(disk / "lake"), EVENTS)
table.replace(days(1), events({days(1)[0]: 10}))
before = table.files()
(disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 65536))
try:
    table.replace(days(1), events({days(1)[0]: 200_000}))
except PermanentError as error:
    print("full:", error)
assert table.files() == before and table.dataset().to_table().num_rows == 10
os.unlink(disk / "ballast")
table.replace(days(1), events({days(1)[0]: 100}))
assert table.row_counts() == {days(1)[0]: 100}
left = [path for path in (disk / "lake/.spool").iterdir()]
assert not left, left
"""

ON_A_READ_ONLY_DISK = """
import subprocess, sys
from pathlib import Path
from cai_assets.failures import PermanentError
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.object_store import LocalStore
from cai_assets.resources.storage import LakeTable
from cai_assets_tests.fixtures.lake import EVENTS, days, events
disk = Path(sys.argv[1])
table = LakeTable(LocalStore(disk / "lake"), EVENTS)
table.replace(days(1), events({days(1)[0]: 10}))
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
for act in (lambda: table.replace(days(1), []), table.store.check):
    try:
        act()
    except PermanentError as error:
        print("read-only:", error)
assert table.dataset().to_table().num_rows == 10
"""


def on_a_disk_of_its_own(tmp_path: Path, script: str) -> str:
    """Run a script with a file system of 8 MiB mounted in a namespace of its own; what it printed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=8m tmpfs '{disk}' && exec \"$@\""
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, mount, "sh", "true"]).returncode:
        pytest.skip("needs mounts in a user namespace (unshare)")
    done = subprocess.run(
        [*unshare, mount, "sh", sys.executable, "-c", script, str(disk)],
        capture_output=True,
        text=True,
        env=CHILD,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_is_named_and_the_table_is_as_it_was(tmp_path: Path) -> None:
    said = on_a_disk_of_its_own(tmp_path, ON_A_SMALL_DISK)
    assert f"the disk of {tmp_path}/disk/lake is full (" in said
    assert "PARQUET_BASE_DIR" in said


def test_a_read_only_disk_is_named_and_the_table_is_as_it_was(tmp_path: Path) -> None:
    said = on_a_disk_of_its_own(tmp_path, ON_A_READ_ONLY_DISK).splitlines()
    assert len(said) == 2
    assert all(f"{tmp_path}/disk/lake cannot be written" in line for line in said)


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "lake").write_bytes(b"")
    store = LocalStore(tmp_path / "lake")
    for act in (store.check, lambda: LakeTable(store, EVENTS).replace(DAYS, [])):
        with pytest.raises(PermanentError, match="a file stands where a folder should be"):
            act()


def test_a_path_that_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"PARQUET_BASE_DIR: .* holds a '%'"):
        LocalStore(tmp_path / "100%")


# -- S3


def test_check_says_where_the_store_is(lake_store: ObjectStore) -> None:
    said = lake_store.check()
    assert lake_store.native_path(lake_store.location("", "")).rstrip("/") in said
    assert SECRET_KEY not in said


def test_a_page_is_put_in_place_whole(lake_store: ObjectStore) -> None:
    for text in (b"<p>first</p>", b"<p>second</p>"):
        address = lake_store.write_file("reports/page.html", text)
        with lake_store.filesystem().open_input_stream(lake_store.native_path(address)) as stream:
            assert stream.read() == text


def test_a_missing_bucket_is_named(s3_server: S3Server, no_aws_account: None) -> None:
    store = s3_server.store("no-such-bucket")
    table = LakeTable(store, EVENTS)
    for act in (store.check, table.files, lambda: table.replace(DAYS[:1], events({DAYS[0]: 1}))):
        with pytest.raises(PermanentError, match=r"bucket no-such-bucket does not exist \(S3_BUCKET\)"):
            act()


@pytest.fixture
def checking_server(s3_server: S3Server) -> Iterator[S3Server]:
    """The server while it refuses keys it does not know."""
    yield s3_server
    requests.post(f"{s3_server.endpoint}/moto-api/reset-auth", data=b"inf", timeout=10)


def test_wrong_credentials_are_told_and_not_shown(
    checking_server: S3Server, no_aws_account: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "cai_assets")
    good = checking_server.store(checking_server.bucket())
    LakeTable(good, EVENTS).replace(DAYS[:1], events({DAYS[0]: 2}))
    requests.post(f"{checking_server.endpoint}/moto-api/reset-auth", data=b"0", timeout=10)
    store = checking_server.store(good.bucket, key="AKIAWRONGKEY")
    table = LakeTable(store, EVENTS)
    for act in (store.check, table.files, lambda: table.replace(DAYS[:1], events({DAYS[0]: 1}))):
        with pytest.raises(PermanentError, match=r"refuses the credentials \(\w+\); check AWS") as told:
            act()
        shown = f"{told.value!r} {told.value.__cause__!r} {store!r} {caplog.text}"
        assert SECRET_KEY not in shown
    requests.post(f"{checking_server.endpoint}/moto-api/reset-auth", data=b"inf", timeout=10)
    assert LakeTable(good, EVENTS).row_counts() == {DAYS[0]: 2}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_an_unreachable_server_is_named(no_aws_account: None) -> None:
    store = S3Server(f"http://127.0.0.1:{free_port()}").store("bucket")
    with pytest.raises(PermanentError, match=r"no connection to http://127\.0\.0\.1:\d+ \(S3_ENDPOINT_URL\)"):
        store.check()
    with pytest.raises(TransientError, match=r"no connection to http://127\.0\.0\.1:\d+ \(S3_ENDPOINT_URL\)"):
        LakeTable(store, EVENTS).files()


class _InTrouble(http.server.BaseHTTPRequestHandler):
    """Answers everything with 500, as a server that has not opened its volumes yet."""

    def do_GET(self) -> None:
        body = b"<Error><Code>InternalError</Code><Message>please try again</Message></Error>"
        self.send_response(500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_in_trouble_may_be_tried_again(no_aws_account: None) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _InTrouble) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = S3Server(f"http://127.0.0.1:{server.server_port}").store("bucket")
        table = LakeTable(store, EVENTS)
        lost = LakeFiles(EVENTS, {DAYS[0]: (store.location(*EVENTS.path, "a.parquet"),)}, None, store)
        for act in (table.files, lost.to_table):
            with pytest.raises(TransientError, match=r"reading lake\.events: the server answers 500"):
                act()
        server.shutdown()


def test_no_credentials_at_all_say_where_to_set_them(s3_server: S3Server, no_aws_account: None) -> None:
    store = S3Store("bucket", endpoint=s3_server.endpoint)
    with pytest.raises(PermanentError, match="no credentials for S3: set AWS_ACCESS_KEY_ID"):
        store.check()


def test_half_of_the_credentials_is_refused() -> None:
    with pytest.raises(PermanentError, match="AWS_SECRET_ACCESS_KEY belong together"):
        S3Store("bucket", access_key_id=SecretStr("key"))


@pytest.fixture
def role() -> Iterator[str]:
    """The address at which a container finds the credentials of its role."""

    class Role(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            found = {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": "token"}
            body = json.dumps({**found, "Expiration": later}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Role) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/credentials"
        server.shutdown()


@pytest.mark.parametrize("where", ["environment", "profile", "role"])
def test_credentials_are_found_as_boto3_finds_them(
    s3_server: S3Server,
    no_aws_account: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    where: str,
    role: str,
) -> None:
    bucket = s3_server.bucket()
    if where == "role":
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role)
    elif where == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    else:
        (tmp_path / "credentials").write_text(
            f"[platform]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        )
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_PROFILE", "platform")
    store = S3Store(bucket, endpoint=s3_server.endpoint)
    assert store.storage_options().get("AWS_SESSION_TOKEN") == (None if where == "profile" else "token")
    table = LakeTable(store, EVENTS)
    table.replace(DAYS[:1], events({DAYS[0]: 2}))
    assert table.dataset().to_table().num_rows == 2


def test_the_settings_make_the_store(s3_server: S3Server, no_aws_account: None, tmp_path: Path) -> None:
    bucket = s3_server.bucket()
    store = ObjectStore.from_settings(
        Settings.model_validate(
            {
                "s3_enabled": True,
                "s3_bucket": bucket,
                "s3_prefix": "team/platform",
                "s3_endpoint_url": s3_server.endpoint,
                "aws_access_key_id": ACCESS_KEY,
                "aws_secret_access_key": SECRET_KEY,
                "aws_region": "eu-central-1",
                "io_threads": 3,
            }
        )
    )
    assert store.workers == 3
    assert store.storage_options()["AWS_REGION"] == "eu-central-1"
    table = LakeTable(store, EVENTS)
    table.replace(DAYS[:1], events({DAYS[0]: 2}))
    assert table.files()[0].startswith(f"s3://{bucket}/team/platform/lake/events/partition={DAYS[0]}/part-")
    keys = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name="eu-central-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    ).list_objects_v2(Bucket=bucket)["Contents"]
    assert all(key["Key"].startswith("team/platform/lake/events/") for key in keys)
    local = ObjectStore.from_settings(Settings.model_validate({"parquet_base_dir": tmp_path / "here"}))
    assert local.location("lake", "events") == str(tmp_path / "here/lake/events")
    one = {"parquet_base_dir": tmp_path, "enable_multithreading": False}
    assert ObjectStore.from_settings(Settings.model_validate(one)).workers == 1


def test_uploads_cut_in_the_middle_can_be_tried_again(weed: S3Server, no_aws_account: None) -> None:
    bucket = weed.bucket()
    direct = LakeTable(weed.store(bucket), EVENTS)
    direct.replace(DAYS[:1], events({DAYS[0]: 2}))
    with relay_to(weed.endpoint) as relay:
        relay.cut = lambda head: head.startswith("PUT ") and ".parquet" in head.partition("\r\n")[0]
        table = LakeTable(S3Server(relay.endpoint).store(bucket), EVENTS)
        with pytest.raises(TransientError, match=r"writing s3://.*no connection to http://127\.0\.0\.1"):
            table.replace(DAYS[:1], events({DAYS[0]: 5_000}))
        assert len(relay.requests("PUT", ".parquet")) > 1, "the upload was not tried again"
    assert direct.row_counts() == {DAYS[0]: 2}
    assert direct.dataset().to_table().num_rows == 2


def test_a_large_upload_cut_at_its_last_part_leaves_nothing(
    weed: S3Server, no_aws_account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai_assets.resources.s3._MULTIPART_BYTES", 5 * 2**20)
    bucket = weed.bucket()
    direct = LakeTable(weed.store(bucket), EVENTS)
    direct.replace(DAYS[:1], events({DAYS[0]: 2}))
    noise = pa.array([random.Random(n).randbytes(60).hex() for n in range(100_000)])
    large = events({DAYS[0]: 100_000})
    large = large.set_column(large.column_names.index("text"), EVENTS.arrow_schema.field("text"), noise)
    with relay_to(weed.endpoint) as relay:
        relay.cut = lambda head: "partNumber=2" in head.partition("\r\n")[0]
        table = LakeTable(S3Server(relay.endpoint).store(bucket), EVENTS)
        with pytest.raises(TransientError, match="no connection to"):
            table.replace(DAYS[:1], large)
        assert relay.requests("PUT", "partNumber=1")
    assert direct.dataset().to_table().num_rows == 2
    assert len([file for file in direct.store.list_files(*EVENTS.path) if "part-" in file.path]) == 1
    direct.replace(DAYS[:1], large)
    assert direct.dataset().to_table().num_rows == 100_000


def test_the_parts_of_an_upload_whose_sender_died_are_swept(weed: S3Server, no_aws_account: None) -> None:
    store = weed.store(weed.bucket())
    client = store._client()
    key = f"{store.prefix}/lake/events/part.parquet"
    upload = client.create_multipart_upload(Bucket=store.bucket, Key=key)["UploadId"]
    client.upload_part(Bucket=store.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    assert store.sweep(datetime.now(UTC) - timedelta(hours=1)) == 0, "it may still be under way"
    assert store.sweep(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert "Uploads" not in client.list_multipart_uploads(Bucket=store.bucket)


def test_a_true_server_refuses_wrong_credentials_and_the_table_is_as_it_was(
    weed: S3Server, no_aws_account: None
) -> None:
    good = weed.store(weed.bucket())
    LakeTable(good, EVENTS).replace(DAYS[:1], events({DAYS[0]: 2}))
    wrong_secret = S3Store(
        good.bucket,
        good.prefix,
        endpoint=weed.endpoint,
        access_key_id=SecretStr(ACCESS_KEY),
        secret_access_key=SecretStr("not-the-secret"),
    )
    for store in (weed.store(good.bucket, key="AKIAWRONGKEY"), wrong_secret):
        table = LakeTable(store, EVENTS)
        for act in (store.check, table.files, lambda: table.replace(DAYS[:1], events({DAYS[0]: 1}))):  # noqa: B023
            with pytest.raises(PermanentError, match=r"refuses the credentials \(\w+\); check AWS"):
                act()
    assert LakeTable(good, EVENTS).row_counts() == {DAYS[0]: 2}
    missing = weed.store("no-such-bucket")
    with pytest.raises(PermanentError, match=r"bucket no-such-bucket does not exist \(S3_BUCKET\)"):
        LakeTable(missing, EVENTS).replace(DAYS[:1], events({DAYS[0]: 1}))


def test_no_secret_is_in_any_log_or_in_the_table(
    weed: S3Server, no_aws_account: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = weed.store(weed.bucket())
    table = LakeTable(store, EVENTS)
    table.replace(DAYS[:1], events({DAYS[0]: 2}), metadata={"run_id": "r"})
    assert table.select().to_table().num_rows == 2
    table.log.checkpoint()
    kept = b"".join(store.read(*EVENTS.path, file.path) or b"" for file in store.list_files(*EVENTS.path))
    assert caplog.text
    for text in (caplog.text, repr(store), repr(table.select()), kept.decode("latin-1")):
        assert SECRET_KEY not in text
