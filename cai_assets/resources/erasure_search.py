"""The proof of an erasure: every file and every collection is read, and nothing of the person is in them.

Parquet is read cell by cell, all columns of all rows, also of files that do not count any more; other files
byte by byte. What is found in texts of others (who name the person, or wrote the same) is told apart from
what is the person's: the first is a mention, which somebody has to judge, the second must not be.
"""

import csv
import html
import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import bson
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from pymongo.errors import PyMongoError

from cai_assets.domain.erasure import (
    CONVERSATION_COLUMNS,
    MESSAGE_COLUMNS,
    OTHER_IDS,
    PERSON_COLUMNS,
    TEXT_COLUMNS,
    Person,
)
from cai_assets.domain.needles import Needle, Needles
from cai_assets.resources.erasures import COLLECTION
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.object_store import ObjectStore, StoredFile
from cai_assets.schemas.documents import COLLECTIONS

_BATCH_ROWS: Final = 10_000
_BLOCK_BYTES: Final = 8 * 2**20
_OVERLAP_BYTES: Final = 2**16
_LEAST_NODE: Final = 12
_WITH_TEXTS: Final = frozenset(
    (
        *("conversations", "messages", "translations", "translation_memory", "categories", "llm_calls"),
        *("quarantine", "without_day"),
    )
)
"""Collections of texts of many people: what is found there, once the person's are gone, is others'."""
_COLUMNS_OF_KIND: Final[Mapping[str, frozenset[str]]] = {
    "user": PERSON_COLUMNS,
    "pseudonym": PERSON_COLUMNS,
    "conversation": CONVERSATION_COLUMNS,
    "message": MESSAGE_COLUMNS,
}
_ID_COLUMNS: Final = PERSON_COLUMNS | CONVERSATION_COLUMNS | MESSAGE_COLUMNS | OTHER_IDS


@dataclass
class Proof:
    """What a search did and found.

    Attributes:
        files: files read.
        documents: documents read.
        bytes: bytes searched, of Parquet after decompression.
        needles: how many ids and texts were looked for.
        shared: texts that others wrote too, and which therefore stay.
        left: what must not be there, by place and kind.
        mentions: texts of others that name the person, by place.
    """

    files: int = 0
    documents: int = 0
    bytes: int = 0
    needles: int = 0
    shared: int = 0
    left: Counter[str] = field(default_factory=Counter)
    mentions: Counter[str] = field(default_factory=Counter)


Tell = Callable[[Proof], None]


class Search:
    """One search. First MongoDB, which tells what others wrote too; then files.

    Args:
        person: who must not be found.
        needles: what is looked for.
        tell: called now and then with what was done so far.
    """

    def __init__(self, person: Person, needles: Iterable[Needle], tell: Tell = lambda _: None) -> None:
        self.proof = Proof()
        self._person = person
        self._needles = Needles.of(needles)
        self._tell = tell
        self._mentioned: set[Needle] = set()
        self.proof.needles = len(self._needles.all)

    # -- MongoDB

    def mongo(self, store: MongoStore) -> None:
        """Every document of every declared collection; needles that others' texts hold are set aside.

        Raises:
            TransientError, PermanentError: MongoDB does not answer, or refuses.
        """
        shared: set[Needle] = set()
        try:
            for name in COLLECTIONS:
                query = {"kind": {"$nin": ["needles", "journal"]}} if name == COLLECTION else {}
                for raw in store.collection(name).find_raw_batches(query, batch_size=1000):
                    shared |= self._documents(name, cast(bytes, raw))
            shared |= self._short_and_shared(store)
        except PyMongoError as error:
            raise store.explain(error) from error
        self.proof.shared = sum(needle.kind == "text" for needle in shared)
        self._mentioned = {needle for needle in shared if needle.kind != "text"}
        self._needles = self._needles.without(needle for needle in shared if needle.kind == "text")

    def _documents(self, name: str, raw: bytes) -> set[Needle]:
        shared: set[Needle] = set()
        self.proof.bytes += len(raw)
        self.proof.documents += sum(1 for _ in _each(raw))
        self._tell(self.proof)
        if next(self._needles.inside(raw), None) is None:
            return shared
        for part in _each(raw):
            for needle in {needle for needle, _ in self._needles.inside(part)}:
                if name not in _WITH_TEXTS:
                    self.proof.left[f"mongodb/{name}: {needle.kind}"] += 1
                    continue
                shared.add(needle)
                if needle.kind == "pseudonym":
                    self.proof.left[f"mongodb/{name}: pseudonym"] += 1
                elif needle.kind == "user":
                    self.proof.mentions[f"mongodb/{name}/{bson.decode(part)['_id']}"] += 1
        return shared

    def _short_and_shared(self, store: MongoStore) -> set[Needle]:
        """Texts too short to be looked for inside others, that others wrote word for word."""
        short = sorted(n.value for n in self._needles.all if n.kind == "text" and not n.inside)
        found: set[str] = set()
        for start in range(0, len(short), 1000):
            query = {"text": {"$in": short[start : start + 1000]}}
            for name in ("messages", "translations", "translation_memory"):
                found |= {one["text"] for one in store.collection(name).find(query, {"text": 1})}
        return {Needle("text", one) for one in found}

    # -- files

    def store(self, store: ObjectStore, files: Iterable[StoredFile]) -> None:
        """Every file of the lake's store, as it was just listed.

        Raises:
            TransientError, PermanentError: the store does not answer, or refuses.
        """
        filesystem = store.filesystem()
        for file in files:
            location = store.native_path(store.location("", "", file.path))
            with store.errors(f"searching {file.path}"):
                self._file(filesystem, location, file.path)

    def folder(self, folder: Path, name: str) -> None:
        """Every file below a local folder; what vanishes meanwhile is passed over."""
        filesystem = pafs.LocalFileSystem()
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                try:
                    self._file(filesystem, str(path), f"{name}/{path.relative_to(folder)}")
                except FileNotFoundError:
                    continue

    def _file(self, filesystem: pafs.FileSystem, location: str, shown: str) -> None:
        self.proof.files += 1
        if shown.endswith(".parquet"):
            self._parquet(filesystem, location, shown)
            return
        with filesystem.open_input_file(location) as source:
            if shown.endswith((".html", ".csv", ".xlsx")):
                data = source.read()
                self._document(data, shown)
                return
            self._bytes(source, shown)

    def _bytes(self, source: Any, shown: str) -> None:
        before = b""
        while block := source.read(_BLOCK_BYTES):
            data = before + block
            self.proof.bytes += len(block)
            self._take(data, shown)
            before = data[-_OVERLAP_BYTES:]

    def _document(self, data: bytes, shown: str) -> None:
        """A page or a sheet: its bytes, and its nodes or cells as whole values."""
        if shown.endswith(".xlsx"):
            for member in _members(io.BytesIO(data)):
                self.proof.bytes += len(member)
                self._take(member, shown)
            return
        self.proof.bytes += len(data)
        self._take(data, shown)
        text = data.decode("utf-8", "replace")
        values: Iterator[str]
        if shown.endswith(".html"):
            values = (html.unescape(node).strip() for node in re.split(r"<[^>]*>", text))
        else:
            values = (cell for row in csv.reader(io.StringIO(text)) for cell in row)
        for value in values:
            needle = self._needles.whole.get(value)
            if (
                needle is not None
                and not needle.inside
                and needle.kind == "text"
                and len(value) >= _LEAST_NODE
            ):
                self.proof.left[f"{shown}: text"] += 1

    def _take(self, data: bytes, shown: str) -> None:
        for needle in {needle for needle, _ in self._needles.inside(data)}:
            if needle in self._mentioned:
                self.proof.mentions[shown] += 1
            else:
                self.proof.left[f"{shown}: {needle.kind}"] += 1
        self._tell(self.proof)

    # -- Parquet

    def _parquet(self, filesystem: pafs.FileSystem, location: str, shown: str) -> None:
        import pyarrow.parquet as pq

        with pq.ParquetFile(location, filesystem=filesystem) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                for name in batch.schema.names:
                    for leaf in leaves(batch.column(name)):
                        self._cells(leaf, name, shown)
                self._tell(self.proof)

    def _cells(self, leaf: pa.Array, column: str, shown: str) -> None:
        cells = leaf.cast(pa.large_binary())
        offsets = np.frombuffer(cells.buffers()[1], dtype=np.int64)[
            cells.offset : cells.offset + len(cells) + 1
        ]
        data = memoryview(cells.buffers()[2] or b"")[offsets[0] : offsets[-1]]
        self.proof.bytes += len(data)
        if column in _ID_COLUMNS:
            self._ids(leaf, column, shown)
            return
        for needle, cell in self._needles.in_cells(data, offsets - offsets[0]):
            self._judge(needle, column, lambda cell=cell: leaf[cell].as_py(), shown)  # type: ignore[misc]
        short = [n.value for n in self._needles.all if n.kind == "text" and not n.inside]
        if short and column in TEXT_COLUMNS:
            found = pc.sum(pc.is_in(leaf.cast(pa.string()), pa.array(short, pa.string()))).as_py()
            if found:
                self.proof.left[f"{shown}: text"] += found

    def _ids(self, leaf: pa.Array, column: str, shown: str) -> None:
        """A column of ids: each kind of id in its own columns, as numbers of different kinds may be equal."""
        wanted = [n.value for n in self._needles.all if column in _COLUMNS_OF_KIND.get(n.kind, ())]
        if wanted:
            found = pc.sum(pc.is_in(leaf.cast(pa.string()), pa.array(wanted, pa.string()))).as_py()
            if found:
                self.proof.left[f"{shown}: {column}"] += found

    def _judge(self, needle: Needle, column: str, cell: Callable[[], Any], shown: str) -> None:
        if (
            needle.kind in ("text", "pseudonym")
            or column not in TEXT_COLUMNS
            or (
                column == "row"
                and any(self._person.is_json_row(table, cell()) for table in ("conversations", "messages"))
            )
        ):
            self.proof.left[f"{shown}: {needle.kind} in {column}"] += 1
        else:
            self.proof.mentions[shown] += 1


def leaves(array: pa.Array) -> Iterator[pa.Array]:
    """The texts of a column, however deep they lie; columns of other types have none."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from leaves(array.dictionary_decode())
    elif pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            yield from leaves(pc.struct_field(array, index))
    elif pa.types.is_map(kind):
        yield from leaves(array.keys)
        yield from leaves(array.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from leaves(array.flatten())
    elif (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        yield array


def _each(raw: bytes) -> Iterator[bytes]:
    """The documents of a raw batch, each as its bytes."""
    place = 0
    while place < len(raw):
        size = int.from_bytes(raw[place : place + 4], "little")
        yield raw[place : place + size]
        place += size


def _members(source: BinaryIO) -> Iterator[bytes]:
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist():
            yield archive.read(name)
