"""The entries of a table's Delta log: where they are, and what one of them says.

How they come about and which files count in the end is `delta_log`'s.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cai_assets.resources.parquet_spec import WHOLE
from cai_assets.resources.staging import DataFile, Parts


def entry_path(version: int) -> str:
    """Where a version's entry is, below the table's folder."""
    return f"_delta_log/{version:020}.json"


@dataclass(frozen=True)
class Change:
    """What one version of a table changed.

    Attributes:
        version: the version, counting from 0.
        at: when it was committed, UTC.
        operation: what made it, in Delta's words, as "WRITE" or "VACUUM END"; "COMPACT" where files were only
            merged, so no row changed.
        properties: what was kept with the commit: asset, run id.
        removed: files that no longer count since, by partition; rows and sizes are not known (0).
        added: files that count since, by partition.
    """

    version: int
    at: datetime
    operation: str
    properties: Mapping[str, str]
    removed: Parts
    added: Parts

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions that were touched, in rising order."""
        return tuple(sorted(self.removed.keys() | self.added.keys()))


def change_of(version: int, entry: bytes, partition_by: str | None) -> Change:
    """What an entry says.

    Args:
        version: its version.
        entry: its bytes: a JSON action a line.
        partition_by: the table's partition column.
    """
    info: dict[str, Any] = {}
    parts: dict[str, dict[str, list[DataFile]]] = {"add": {}, "remove": {}}
    rewrites = True
    for action in (json.loads(line) for line in entry.splitlines() if line):
        info |= action.get("commitInfo", {})
        for kind in action.keys() & parts.keys():
            file = action[kind]
            rewrites &= kind == "remove" or not file["dataChange"]
            partition = (file.get("partitionValues") or {})[partition_by] if partition_by else WHOLE
            rows = json.loads(file.get("stats") or "{}").get("numRecords", 0)
            found = DataFile(file["path"], rows, file.get("size") or 0)
            parts[kind].setdefault(partition, []).append(found)
    return Change(
        version=version,
        at=datetime.fromtimestamp(info.get("timestamp", 0) / 1000, UTC),
        operation="COMPACT" if parts["add"] and rewrites else str(info.get("operation", "unknown")),
        properties={key: str(info[key]) for key in ("asset", "run_id") if key in info},
        removed={key: tuple(files) for key, files in parts["remove"].items()},
        added={key: tuple(files) for key, files in parts["add"].items()},
    )
