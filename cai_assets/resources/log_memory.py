"""The newest state of a table's Delta log as this process saw it last, and whether it is the newest still.

Opening a log reads all entries since its last checkpoint (3.5 ms on a disk, a request each on S3), and a run
looks into the logs of its inputs at every step. What the entries say is `delta_log`'s.
"""

import hashlib
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from cai_assets.resources.log_entries import entry_path
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.staging import Parts
from cai_assets.schemas.base import Table


@dataclass(frozen=True)
class State:
    """Which files count at a version.

    Attributes:
        version: the version, counting from 0.
        parts: the files, by partition; the key is `WHOLE` for a table without partitions.
        fits: the declaration that the table was found to have the columns of; None where nobody looked.
    """

    version: int
    parts: Parts
    fits: Table | None


@dataclass(frozen=True)
class _Seen:
    state: State
    digest: bytes


_SEEN: WeakKeyDictionary[ObjectStore, dict[tuple[str, str], _Seen]] = WeakKeyDictionary()


def remember(store: ObjectStore, table: tuple[str, str], state: State) -> None:
    """Note a state that is in the log; not where its entry is gone, as after a checkpoint and 30 days."""
    digest = _digest(store, table, state.version)
    seen = _SEEN.setdefault(store, {})
    if digest is None:
        seen.pop(table, None)
    else:
        seen[table] = _Seen(state, digest)


def recall(store: ObjectStore, table: tuple[str, str]) -> State | None:
    """The state that was noted, if it is the newest still; None if the log has to be read.

    It is while its entry is there, with the bytes it had (the table may have been moved away and made anew),
    and none follows. Entries are removed from the oldest on, so none that followed is gone before this one.
    """
    seen = _SEEN.get(store, {}).get(table)
    if seen is None or _digest(store, table, seen.state.version) != seen.digest:
        return None
    following = store.read(*table, entry_path(seen.state.version + 1))
    return seen.state if following is None else None


def _digest(store: ObjectStore, table: tuple[str, str], version: int) -> bytes | None:
    said = store.read(*table, entry_path(version))
    return None if said is None else hashlib.sha256(said).digest()
