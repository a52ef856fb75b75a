"""The store on S3 or a server that speaks its protocol.

Three libraries reach it, each where it is best: boto3 puts and deletes (retries, multipart, errors by code),
pyarrow and DuckDB read, delta-rs keeps the log by conditional puts. All take the endpoint, the addressing
and the credentials from here. A server that ignores `If-None-Match` must not be used: two writers could then
write the same version of a table's log. What the libraries' errors mean is in `s3_errors`.
"""

import contextlib
import importlib.util
import mimetypes
import posixpath
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import boto3
import botocore.exceptions as boto_errors
import pyarrow.fs as pafs
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from pydantic import SecretStr
from typing_extensions import override

from cai_assets.failures import CaiError, PermanentError, TransientError
from cai_assets.resources import s3_errors
from cai_assets.resources.object_store import Exchange, ObjectStore, local_spool_base
from cai_assets.resources.s3_errors import Place
from cai_assets.resources.scratch import sweep_scratch
from cai_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60
_EXCHANGE = ".exchange"  # below the prefix: what clusters write for this process to read
_ATTEMPTS = 5  # of one request, by each library itself, with backoff
_MULTIPART_BYTES = 64 * 1024 * 1024


class S3Store(ObjectStore):
    """Tables below `s3://<bucket>/<prefix>/<layer>/<name>`.

    Credentials are the settings' where given, else those that boto3 finds: environment, profile, role. They
    are looked up for each use, so that those of a role may change in between, and are never shown.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        region: str = "us-east-1",
        endpoint: str | None = None,
        access_key_id: SecretStr | None = None,
        secret_access_key: SecretStr | None = None,
        workers: int = 1,
    ) -> None:
        """Name the place; nothing is touched yet.

        Args:
            bucket: an existing bucket.
            prefix: of all keys, without slashes around it; may be empty.
            region: of the bucket.
            endpoint: http:// or https:// address of an S3-compatible server; it is addressed path-style.
            access_key_id: with its secret, or neither.
            secret_access_key: of the key.
            workers: files sent at once.

        Raises:
            PermanentError: a key without its secret or the other way round.
        """
        if (access_key_id is None) != (secret_access_key is None):
            raise PermanentError(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together: set both, or neither to use a "
                "profile or a role"
            )
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.region = region
        self.endpoint = endpoint
        self.workers = workers
        self._key = access_key_id
        self._secret = secret_access_key
        self._boto: Any = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The store of S3_*, AWS_* and IO_THREADS.

        Raises:
            PermanentError: no bucket, or half of the credentials.
        """
        if not settings.s3_bucket:
            raise PermanentError("S3_BUCKET is not set")
        return cls(
            settings.s3_bucket,
            settings.s3_prefix,
            region=settings.aws_region,
            endpoint=settings.s3_endpoint_url,
            access_key_id=settings.aws_access_key_id,
            secret_access_key=settings.aws_secret_access_key,
            workers=settings.io_workers,
        )

    def __repr__(self) -> str:
        return f"S3Store({self._address()!r}, endpoint={self.endpoint!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_boto": None}  # clients hold sockets and cannot be sent

    # -- addresses

    def _address(self) -> str:
        return f"s3://{posixpath.join(self.bucket, self.prefix)}".rstrip("/")

    def _key_of(self, layer: str, name: str, path: str = "") -> str:
        return posixpath.join(self.prefix, layer, name, path).strip("/")

    @override
    def uri(self, layer: str, name: str) -> str:
        return f"s3://{self.bucket}/{self._key_of(layer, name)}"

    @override
    def location(self, layer: str, name: str, path: str = "") -> str:
        return f"s3://{self.bucket}/{self._key_of(layer, name, path)}"

    @override
    def native_path(self, location: str) -> str:
        return location.removeprefix("s3://")

    # -- the libraries

    def _credentials(self) -> tuple[str, str, str | None]:
        found = self._session().get_credentials()
        if found is None:
            raise PermanentError(
                "no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this "
                "machine a profile (AWS_PROFILE) or a role"
            )
        frozen = found.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    def _session(self) -> Any:
        with self.errors("looking for AWS credentials"):
            session = boto3.Session(region_name=self.region)
            if self._key is None or self._secret is None:
                return session
            found = session.get_credentials()
            if found is not None and found.access_key == self._key.get_secret_value():
                return session  # the environment's own key: it may have a session token beside it
            return boto3.Session(
                aws_access_key_id=self._key.get_secret_value(),
                aws_secret_access_key=self._secret.get_secret_value(),
                region_name=self.region,
            )

    def _client(self) -> Any:
        if self._boto is None:
            self._credentials()  # tells at once, and by name, when there are none
            self._boto = self._session().client(
                "s3",
                endpoint_url=self.endpoint,
                config=Config(
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    read_timeout=_READ_TIMEOUT_S,
                    retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
                    max_pool_connections=max(10, 2 * self.workers),
                    s3={"addressing_style": "path" if self.endpoint else "auto"},
                    # Compatible servers do not all know the checksums that newer clients add unasked.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        return self._boto

    @override
    def storage_options(self) -> dict[str, str]:
        key, secret, token = self._credentials()
        options = {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": self.region,
            "aws_conditional_put": "etag",
            "connect_timeout": f"{_CONNECT_TIMEOUT_S}s",
            "timeout": f"{_READ_TIMEOUT_S}s",
            "max_retries": str(_ATTEMPTS),
        }
        if token:
            options["AWS_SESSION_TOKEN"] = token
        if self.endpoint:
            options["AWS_ENDPOINT_URL"] = self.endpoint
            options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = "false"
            options["AWS_ALLOW_HTTP"] = str(self.endpoint.startswith("http://")).lower()
        return options

    @override
    def scan_options(self) -> dict[str, str]:
        own = {"aws_conditional_put", "connect_timeout", "timeout", "max_retries"}  # delta-rs' alone
        return {key.lower(): value for key, value in self.storage_options().items() if key not in own}

    @override
    def filesystem(self) -> pafs.FileSystem:
        key, secret, token = self._credentials()
        server = urlsplit(self.endpoint) if self.endpoint else None
        return pafs.S3FileSystem(
            access_key=key,
            secret_key=secret,
            session_token=token,
            region=self.region,
            endpoint_override=server.netloc + server.path if server else None,
            scheme=server.scheme if server else "https",
            connect_timeout=_CONNECT_TIMEOUT_S,
            request_timeout=_READ_TIMEOUT_S,
        )

    @override
    def duckdb_setup(self, connection: "duckdb.DuckDBPyConnection") -> None:
        connection.execute(f"load {_quoted(_httpfs_extension())}")
        key, secret, token = self._credentials()
        options = {
            "key_id": key,
            "secret": secret,
            "region": self.region,
            "scope": f"s3://{self.bucket}",
            **({"session_token": token} if token else {}),
        }
        if self.endpoint:
            server = urlsplit(self.endpoint)
            options |= {"endpoint": server.netloc + server.path, "url_style": "path"}
            options["use_ssl"] = str(server.scheme == "https").lower()
        listed = ", ".join(f"{name} {_quoted(value)}" for name, value in options.items())
        connection.execute(f"create or replace secret cai_lake (type s3, provider config, {listed})")

    # -- files

    @override
    def publish(self, spooled: Path, layer: str, name: str, path: str) -> None:
        location = self.location(layer, name, path)
        with self.errors(f"writing {location}"):
            self._client().upload_file(
                str(spooled),
                self.bucket,
                self._key_of(layer, name, path),
                Config=TransferConfig(
                    multipart_threshold=_MULTIPART_BYTES,
                    multipart_chunksize=_MULTIPART_BYTES,
                    use_threads=self.workers > 1,
                ),
            )
        spooled.unlink()

    @override
    def settle(self, layer: str, name: str, paths: Sequence[str]) -> None:
        """Nothing to do: what S3 has acknowledged is kept."""

    @override
    def flush(self, layer: str, name: str, path: str) -> None:
        """Nothing to do: what S3 has acknowledged is kept."""

    @override
    def write_file(self, path: str, data: bytes) -> str:
        key = posixpath.join(self.prefix, path)
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        with self.errors(f"writing s3://{self.bucket}/{key}"):
            self._client().put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=kind)
        return f"s3://{self.bucket}/{key}"

    @override
    def read(self, layer: str, name: str, path: str) -> bytes | None:
        with self.errors(f"reading {self.location(layer, name, path)}"):
            client = self._client()
            try:
                answer = client.get_object(Bucket=self.bucket, Key=self._key_of(layer, name, path))
            except client.exceptions.NoSuchKey:
                return None
            return bytes(answer["Body"].read())

    @override
    def delete(self, layer: str, name: str, path: str) -> None:
        with self.errors(f"deleting {self.location(layer, name, path)}"):
            self._client().delete_object(Bucket=self.bucket, Key=self._key_of(layer, name, path))

    @override
    @contextlib.contextmanager
    def exchange(self) -> Iterator[Exchange]:
        key = posixpath.join(self.prefix, _EXCHANGE, uuid.uuid4().hex)
        try:
            yield Exchange(f"s3://{self.bucket}/{key}", self.filesystem(), f"{self.bucket}/{key}")
        finally:
            self._delete_below(f"{key}/")

    def _delete_below(self, prefix: str, before: datetime | None = None) -> int:
        """Delete the objects whose keys begin so, if they are older than that; how many there were."""
        deleted = 0
        with self.errors(f"deleting s3://{self.bucket}/{prefix}"):
            client = self._client()
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            for one in (one for page in pages for one in page.get("Contents", ())):
                if before is None or one["LastModified"] < before:
                    client.delete_object(Bucket=self.bucket, Key=one["Key"])
                    deleted += 1
        return deleted

    @override
    def sweep(self, before: datetime) -> int:
        swept = sweep_scratch(self._spool_base())
        swept += self._delete_below(posixpath.join(self.prefix, _EXCHANGE) + "/", before)
        prefix = f"{self.prefix}/" if self.prefix else ""
        with self.errors(f"sweeping {self._address()}"):
            client = self._client()
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
            for upload in (one for page in pages for one in page.get("Uploads", ())):
                if upload["Initiated"] < before:
                    client.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    swept += 1
        return swept

    @override
    def check(self) -> str:
        key = posixpath.join(self.prefix, f".probe-{uuid.uuid4().hex}")
        address = self._address()
        try:
            # Each by its name: a role may hold some of these rights and lack others.
            with self.errors(f"listing {address}"):
                client = self._client()
                # First: some servers would make the bucket for the first object that is put.
                client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
            with self.errors(f"writing an object to {address}"):
                client.put_object(Bucket=self.bucket, Key=key, Body=b"probe")
            try:
                with self.errors(f"reading an object of {address}"):
                    body = client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                with self.errors(f"writing conditionally to {address}"):
                    self._check_conditional_put(key)
            except BaseException:
                # What was found first is what is told; whether this works too is asked where all else does.
                with contextlib.suppress(boto_errors.BotoCoreError, boto_errors.ClientError):
                    client.delete_object(Bucket=self.bucket, Key=key)
                raise
            with self.errors(f"deleting an object of {address}"):
                client.delete_object(Bucket=self.bucket, Key=key)
            if body != b"probe":
                raise PermanentError(f"{address}: an object read back is not what was written")
        except TransientError as error:
            raise PermanentError(str(error)) from error
        return f"{self._address()} at {self.endpoint or 'AWS ' + self.region}"

    def _check_conditional_put(self, key: str) -> None:
        try:
            self._client().put_object(Bucket=self.bucket, Key=key, Body=b"second", IfNoneMatch="*")
        except boto_errors.ClientError as error:
            if s3_errors.code_of(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
                return
            raise
        raise PermanentError(
            f"{self._address()}: the server ignores If-None-Match, so two writers could overwrite "
            "each other's commits unseen; use a server with conditional writes"
        )

    # -- errors

    @override
    def explain(self, error: Exception, doing: str) -> CaiError | None:
        return s3_errors.explain(
            error, doing, Place(self.bucket, self._address(), self.endpoint, self.region)
        )

    @override
    def _spool_base(self) -> Path:
        return local_spool_base()


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _httpfs_extension() -> str:
    """Path of DuckDB's httpfs extension inside its wheel, loadable without network.

    Raises:
        PermanentError: the wheel is not there, or is another version's.
    """
    import duckdb

    package = importlib.util.find_spec("duckdb_extension_httpfs")
    if package is None or package.origin is None:
        raise PermanentError("DuckDB cannot read S3: install duckdb-extension-httpfs")
    path = Path(package.origin).parent / "extensions" / f"v{duckdb.__version__}" / "httpfs.duckdb_extension"
    if not path.is_file():
        raise PermanentError(
            f"DuckDB cannot read S3: duckdb-extension-httpfs is not of DuckDB's version {duckdb.__version__}"
        )
    return str(path)
