"""Where the lake's bytes are: what a store can do, and the one on a local disk.

The store knows folders, files, their durability and what their errors mean. The one on S3 is in `s3`; which
files of a table count is `storage`'s.
"""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs
from typing_extensions import override

from cai_assets.failures import CaiError, PermanentError, TransientError
from cai_assets.resources.scratch import scratch_folder, sweep_scratch
from cai_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class StoredFile:
    """A file that lies in a table's folder, whether it counts or not.

    Attributes:
        path: below the table's folder, with slashes.
        size: bytes.
        written_at: when it was last written, UTC.
    """

    path: str
    size: int
    written_at: datetime


@dataclass(frozen=True)
class Exchange:
    """A folder that this process and a cluster both see.

    Attributes:
        address: as a cluster names it: an absolute path or an s3:// address.
        filesystem: opens it here.
        path: as the file system wants it.
    """

    address: str
    filesystem: pafs.FileSystem
    path: str


class ObjectStore(ABC):
    """A place for tables: a folder of a disk or a prefix of a bucket.

    Paths of files are relative to their table's folder, with slashes. A store can be sent to another process.

    Attributes:
        workers: files that may be on their way to the store at once.
    """

    workers: int

    @staticmethod
    def from_settings(settings: Settings) -> "ObjectStore":
        """The store the settings name: S3 where S3_ENABLED, else the folder PARQUET_BASE_DIR.

        Nothing is touched yet; `check` does that.

        Raises:
            PermanentError: the settings cannot make a store.
        """
        if settings.s3_enabled:
            from cai_assets.resources.s3 import S3Store  # boto3 takes 0.3 s to import

            return S3Store.from_settings(settings)
        return LocalStore(settings.parquet_base_dir, workers=settings.io_workers)

    @abstractmethod
    def uri(self, layer: str, name: str) -> str:
        """Address of a table's folder for people and for Delta: file:// or s3://."""

    @abstractmethod
    def location(self, layer: str, name: str, path: str = "") -> str:
        """What engines open: an absolute path or an s3:// address, never percent-encoded."""

    @abstractmethod
    def storage_options(self) -> dict[str, str]:
        """Options of delta-rs; they may hold credentials and are made anew for each use."""

    @abstractmethod
    def scan_options(self) -> dict[str, str]:
        """Options of Polars' scans, made anew for each use as `storage_options` are."""

    @abstractmethod
    def filesystem(self) -> pafs.FileSystem:
        """The pyarrow file system that opens `native_path` of this store's locations."""

    @abstractmethod
    def native_path(self, location: str) -> str:
        """A location as `filesystem` wants it."""

    @abstractmethod
    def publish(self, spooled: Path, layer: str, name: str, path: str) -> None:
        """Put a spooled file in its final place; the whole file is there or nothing of it."""

    @abstractmethod
    def settle(self, layer: str, name: str, paths: Sequence[str]) -> None:
        """Return when the names of published files survive a loss of power (their bytes do already)."""

    @abstractmethod
    def flush(self, layer: str, name: str, path: str) -> None:
        """Return when one file that something else wrote, and its name, survive a loss of power."""

    @abstractmethod
    def write_file(self, path: str, data: bytes) -> str:
        """Put one file that belongs to no table, such as a page, in place of the one that may be there.

        Args:
            path: below the store's root, with slashes.
            data: its bytes; people see all of them or the old ones.

        Returns:
            where it is: an absolute path or an s3:// address.
        """

    @abstractmethod
    def read(self, layer: str, name: str, path: str) -> bytes | None:
        """All bytes of one small file; None if it is not there."""

    @abstractmethod
    def delete(self, layer: str, name: str, path: str) -> None:
        """Remove one file; it is no error if it is not there."""

    def list_files(self, layer: str, name: str) -> list[StoredFile]:
        """Every file below a table's folder, in order of its path; none where there is no folder."""
        root = self.native_path(self.location(layer, name)).rstrip("/")
        with self.errors(f"listing {self.location(layer, name)}"):
            selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
            found = [info for info in self.filesystem().get_file_info(selector) if info.is_file]
        return sorted(
            (
                StoredFile(info.path.removeprefix(root).lstrip("/"), info.size, info.mtime.astimezone(UTC))
                for info in found
            ),
            key=lambda file: file.path,
        )

    @abstractmethod
    def sweep(self, before: datetime) -> int:
        """Remove what writers who were killed left outside the tables: files on their way, half an upload.

        Args:
            before: uploads begun later may still be under way and stay. Local files on their way are locked
                by who writes them, so theirs are told from those of the dead whatever their age.

        Returns:
            how many uploads or folders were removed.
        """

    @abstractmethod
    def check(self) -> str:
        """Write, read and delete a probe.

        Returns:
            a line for people: where the store is.

        Raises:
            PermanentError: saying what is wrong and how to mend it.
        """

    @abstractmethod
    def explain(self, error: Exception, doing: str) -> CaiError | None:
        """The platform's error for what a library raised, or None where it is no matter of the store."""

    @abstractmethod
    def duckdb_setup(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Make a DuckDB connection able to open this store's locations with `read_parquet`."""

    @abstractmethod
    def _spool_base(self) -> Path:
        """Folder for files on their way; on the disk of the store where it has one."""

    @contextlib.contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn the libraries' errors inside into `PermanentError` or `TransientError` where they are known.

        Args:
            doing: what is done, as "writing lake.messages".
        """
        try:
            yield
        except CaiError:
            raise
        except Exception as error:
            known = self.explain(error, doing)
            if known is None:
                raise
            raise known from error

    @abstractmethod
    def exchange(self) -> AbstractContextManager[Exchange]:
        """A folder that a cluster sees too, for what it writes and this process reads; removed at the end."""

    @contextlib.contextmanager
    def spool(self) -> Iterator[Path]:
        """A local folder of one's own for files being written; removed at the end.

        Folders that a killed process left behind are removed too: their lock is free.
        """
        with contextlib.ExitStack() as stack:
            with self.errors("making a folder for files on their way"):
                folder = stack.enter_context(scratch_folder(self._spool_base()))
            yield folder


class LocalStore(ObjectStore):
    """Tables in the folder `<base>/<layer>/<name>` of a POSIX file system."""

    def __init__(self, base: Path, *, workers: int = 1) -> None:
        """Name the folder; nothing is touched yet.

        Args:
            base: made when first needed; a relative one is below the working directory.
            workers: files synced to disk at once.

        Raises:
            PermanentError: the path holds a `%`, which Delta's library decodes once too often.
        """
        self.base = base.expanduser().absolute()
        self.workers = workers
        if "%" in str(self.base):
            raise PermanentError(f"PARQUET_BASE_DIR: {self.base} holds a '%'; choose a path without")

    def __repr__(self) -> str:
        return f"LocalStore({str(self.base)!r})"

    @override
    @contextlib.contextmanager
    def exchange(self) -> Iterator[Exchange]:
        with self.spool() as folder:
            yield Exchange(str(folder), pafs.LocalFileSystem(), str(folder))

    @override
    def uri(self, layer: str, name: str) -> str:
        return (self.base / layer / name).as_uri()

    @override
    def location(self, layer: str, name: str, path: str = "") -> str:
        return str(self.base / layer / name / path)

    @override
    def storage_options(self) -> dict[str, str]:
        return {}

    @override
    def scan_options(self) -> dict[str, str]:
        return {}

    @override
    def filesystem(self) -> pafs.FileSystem:
        return pafs.LocalFileSystem()

    @override
    def native_path(self, location: str) -> str:
        return location

    @override
    def publish(self, spooled: Path, layer: str, name: str, path: str) -> None:
        target = Path(self.location(layer, name, path))
        with self.errors(f"writing {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            _fsync(spooled)
            spooled.replace(target)

    @override
    def settle(self, layer: str, name: str, paths: Sequence[str]) -> None:
        root = Path(self.location(layer, name))
        folders = {(root / path).parent for path in paths} | {root}
        with self.errors(f"writing {root}"):
            if self.workers == 1:
                for folder in sorted(folders):
                    _fsync(folder)
                return
            with ThreadPoolExecutor(self.workers, thread_name_prefix="settle") as pool:
                list(pool.map(_fsync, sorted(folders)))

    @override
    def flush(self, layer: str, name: str, path: str) -> None:
        target = Path(self.location(layer, name, path))
        with self.errors(f"writing {target}"):
            _fsync(target)
            _fsync(target.parent)

    @override
    def write_file(self, path: str, data: bytes) -> str:
        target = self.base / path
        with self.errors(f"writing {target}"), self.spool() as folder:
            target.parent.mkdir(parents=True, exist_ok=True)
            spooled = folder / "file"
            spooled.write_bytes(data)
            _fsync(spooled)
            spooled.replace(target)
            _fsync(target.parent)
        return str(target)

    @override
    def read(self, layer: str, name: str, path: str) -> bytes | None:
        source = Path(self.location(layer, name, path))
        with self.errors(f"reading {source}"):
            try:
                return source.read_bytes()
            except FileNotFoundError:
                return None

    @override
    def delete(self, layer: str, name: str, path: str) -> None:
        target = Path(self.location(layer, name, path))
        with self.errors(f"deleting {target}"):
            target.unlink(missing_ok=True)

    @override
    def sweep(self, before: datetime) -> int:
        with self.errors(f"sweeping {self.base}"):
            return sweep_scratch(self._spool_base())

    @override
    def check(self) -> str:
        probe = self.base / f".probe-{uuid.uuid4().hex}"
        with self.errors("checking PARQUET_BASE_DIR"):
            try:
                self.base.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # below what makes no folders, as /proc
                raise PermanentError(
                    f"PARQUET_BASE_DIR={self.base} cannot be made ({error.strerror}); set it to another folder"
                ) from error
            try:
                probe.write_bytes(b"probe")
                _fsync(probe)
                if probe.read_bytes() != b"probe":
                    raise PermanentError(f"{self.base}: a file read back is not what was written")
            finally:
                probe.unlink(missing_ok=True)
        return f"local disk {self.base} ({_free(self.base)} free)"

    @override
    def explain(self, error: Exception, doing: str) -> CaiError | None:
        number = error.errno if isinstance(error, OSError) else None
        text = str(error)
        if number in _NO_SPACE or "No space left on device" in text or "Disk quota exceeded" in text:
            return PermanentError(
                f"{doing}: the disk of {self.base} is full ({_free(self.base)} free); make room, or set "
                "PARQUET_BASE_DIR to a larger disk"
            )
        if number in _NO_ACCESS or "Permission denied" in text or "Read-only file system" in text:
            return PermanentError(
                f"{doing}: {self.base} cannot be written ({text}); give this user the right to, or set "
                "PARQUET_BASE_DIR to another folder"
            )
        if number in (errno.ENOTDIR, errno.EEXIST):
            return PermanentError(f"{doing}: a file stands where a folder should be ({text})")
        if number in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE):
            return TransientError(f"{doing}: {text}")
        return None

    @override
    def duckdb_setup(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Nothing to do: DuckDB opens local paths."""

    @override
    def _spool_base(self) -> Path:
        return self.base / ".spool"


def local_spool_base() -> Path:
    """Where stores without a disk of their own spool: a folder of this user below TMPDIR."""
    return Path(tempfile.gettempdir()) / f"cai-spool-{os.getuid()}"


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(path: Path) -> str:
    existing: Any = path
    while not existing.exists():
        existing = existing.parent
    return f"{shutil.disk_usage(existing).free / 2**20:,.0f} MiB"
