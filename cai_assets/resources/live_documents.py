"""Live documents of some partitions, to be read when and where they are wanted: the counterpart of LakeFiles.

How documents become Arrow data is in `mongo_arrow`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cai_assets.resources.mongo import MongoStore


@dataclass(frozen=True)
class LiveDocuments:
    """Live documents of some partitions of a collection; nothing is read yet.

    Attributes:
        store: where they are.
        name: the platform's name of the collection.
        partitions: the days.
    """

    store: MongoStore
    name: str
    partitions: tuple[str, ...]

    def batches(self, chunk_size: int, partitions: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The documents of some of the partitions (None: all), `chunk_size` at a time in lake types."""
        wanted = self.partitions if partitions is None else partitions
        return self.store.read_batches(self.name, wanted, chunk_size)

    def to_table(self) -> pa.Table:
        """All of them in memory; see `MongoStore.read_arrow`."""
        return self.store.read_arrow(self.name, self.partitions)

    def counts(self) -> Mapping[str, int]:
        """Documents by partition."""
        return self.store.live_counts(self.name, self.partitions)
