"""Files in the store that do not count yet: their names, how they get there, and what a commit would change.

No transaction is made here; that is `delta_log`'s.
"""

import contextlib
import re
import uuid
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from cai_assets.failures import CaiError
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.parquet_writer import Part
from cai_assets.schemas.base import Table

_CONTENT_NAME = re.compile(r"(?P<folder>.*/)?part-\d{5}-(?P<digest>[0-9a-f]{20})-[0-9a-f]{8}\.parquet")


@dataclass(frozen=True)
class DataFile:
    """A Parquet file in the store.

    Attributes:
        path: below the table's folder, with slashes.
        rows: rows in it.
        size: bytes.
    """

    path: str
    rows: int
    size: int

    @property
    def content(self) -> str:
        """Folder and digest of the bytes; files of equal content are equal. The path, for a foreign file."""
        match = _CONTENT_NAME.fullmatch(self.path)
        return f"{match['folder'] or ''}{match['digest']}" if match else self.path


Parts: TypeAlias = Mapping[str, tuple[DataFile, ...]]
"""Files by partition, in order of their rows."""


@dataclass(frozen=True)
class Staged:
    """Files that lie in the store but do not count yet: what `LakeTable.commit` takes.

    It can be sent between processes, so that many write and one commits.

    Attributes:
        parts: by partition, its files; a partition without rows has one empty file.
        whole: whether partitions that are not named here go away.
        sent: paths of the files that were written for it; the others the table holds already.
        counts: what was counted on the way, for the metadata (items that were masked, by kind).
    """

    parts: Parts
    whole: bool = False
    sent: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a commit of staged parts would change.

    Attributes:
        changed: partitions that get these files.
        unchanged: partitions that hold files of the same content already.
        removed: partitions that go away.
    """

    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]

    @classmethod
    def of(cls, live: Parts, parts: Parts, *, whole: bool) -> "Plan":
        """Compare what is with what shall be; `whole`: what is not named goes away."""
        same = {partition for partition, files in parts.items() if same_content(files, live.get(partition))}
        return cls(
            changed=tuple(sorted(parts.keys() - same)),
            unchanged=tuple(sorted(same)),
            removed=tuple(sorted(live.keys() - parts.keys())) if whole else (),
        )

    @property
    def touched(self) -> tuple[str, ...]:
        """The partitions that a transaction has to name."""
        return (*self.changed, *self.removed)


def same_content(files: tuple[DataFile, ...], others: tuple[DataFile, ...] | None) -> bool:
    """Whether two parts hold the same bytes in the same order."""
    return others is not None and [f.content for f in files] == [f.content for f in others]


class Publisher:
    """Sends finished parts to the store in the background, as many at once as the store has workers.

    A part that the table holds already is not sent: the files that are there stand for it. When the block
    ends with an error, what was sent is taken back.

    Attributes:
        sent: paths of the files that were sent, below the table's folder.
    """

    def __init__(self, store: ObjectStore, table: Table, spec: ParquetSpec, live: Parts) -> None:
        """Start the workers.

        Args:
            store: where to send.
            table: whose parts they are.
            spec: the layout.
            live: what the table holds.
        """
        self._store = store
        self._table = table
        self._spec = spec
        self._live = live
        # A name is used once, so no file is ever replaced under a reader, and none that was removed is
        # taken up again while vacuum is about to delete it.
        self._nonce = uuid.uuid4().hex[:8]
        self._parts: dict[str, tuple[DataFile, ...]] = {}
        self.sent: list[str] = []
        # With one worker there is no other thread: a debugger sees all that happens, in order.
        self._pool = (
            ThreadPoolExecutor(store.workers, thread_name_prefix="publish") if store.workers > 1 else None
        )
        self._under_way: set[Future[None]] = set()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if kind is not None:
            for path in self.sent:
                # What is left counts for nothing and goes with the next vacuum; the first error matters.
                with contextlib.suppress(CaiError, OSError):
                    self._store.delete(*self._table.path, path)

    def publish(self, part: Part) -> None:
        """Send a part's files, or note that the table holds them; an error may come with a later call."""
        folder = self._spec.folder(self._table, part.partition)
        files = tuple(
            DataFile(f"{folder}part-{index:05}-{file.digest}-{self._nonce}.parquet", file.rows, file.size)
            for index, file in enumerate(part.files)
        )
        live = self._live.get(part.partition)
        if live is not None and same_content(files, live):
            self._parts[part.partition] = live
            discard(part)
            return
        self._parts[part.partition] = files
        for written, file in zip(part.files, files, strict=True):
            self._wait(at_most=2 * self._store.workers)
            self.sent.append(file.path)
            send = partial(self._store.publish, written.path, *self._table.path, file.path)
            if self._pool is None:
                send()
            else:
                self._under_way.add(self._pool.submit(send))

    def finish(self) -> Parts:
        """Wait until all is in the store for good, and give what a commit takes."""
        self._wait(at_most=0)
        if self.sent:
            self._store.settle(*self._table.path, self.sent)
        return self._parts

    def _wait(self, at_most: int) -> None:
        while len(self._under_way) > at_most:
            done, self._under_way = wait(self._under_way, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()


def discard(part: Part) -> None:
    """Remove a part's files from the local folder."""
    for file in part.files:
        file.path.unlink()
