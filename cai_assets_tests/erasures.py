"""Erasing in tests: an eraser over a platform, and a search that shares nothing with the platform's own."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import bson
import pyarrow.parquet as pq

from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.resources.erasing import Eraser, Places
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.source import open_source
from cai_assets.schemas.documents import COLLECTIONS
from cai_assets_tests.fixtures.platform import Platform

ABOVE = "group:lake or group:facts or group:marts or group:reports"


@contextmanager
def eraser(
    platform: Platform, *, tell: Callable[[str], None] = lambda _: None, source: bool = True
) -> Iterator[Eraser]:
    """An eraser over a platform; tables are made again as `cai erase` does, day by day."""

    def refresh(days: Sequence[str]) -> None:
        for day in days:
            assert platform.run(day, select=ABOVE).success

    with platform.mongo() as store, closing(open_source(platform.settings)) as opened:
        tables = ParquetIOManager.from_settings(platform.settings).tables()
        places = Places(store, tables, refresh, source=opened if source else None)
        yield Eraser(places, platform.settings, logging.getLogger("tests"), tell=tell)


def everything(platform: Platform) -> Iterator[tuple[str, Any]]:
    """All that is kept, as `(where, value)`.

    Every row of every Parquet file, whether it counts or not, the text of every other file, every document.
    """
    base = Path(platform.settings.parquet_base_dir)
    for path in sorted(base.rglob("*")):
        if path.is_file():
            where = str(path.relative_to(base))
            if path.suffix == ".parquet":
                for row in pq.ParquetFile(path).read().to_pylist():
                    yield where, row
            else:
                yield where, path.read_text(encoding="utf-8", errors="replace")
    with platform.mongo() as store:
        for name in COLLECTIONS:
            for document in store.collection(name).find():
                yield f"mongodb/{name}", document


def places_with(platform: Platform, wanted: set[str]) -> set[str]:
    """Where any of some texts stands, plainly or escaped; by `repr`, JSON and the words themselves."""
    spelled = {form for one in wanted for form in (one, json.dumps(one)[1:-1], one.replace("'", "&#39;"))}
    found = set()
    for where, value in everything(platform):
        text = value if isinstance(value, str) else _text(value)
        if any(one in text for one in spelled):
            found.add(where)
    return found


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}\n{_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return "\n".join(map(_text, value))
    return "" if isinstance(value, bson.Decimal128) else str(value)


def users(store: MongoStore) -> dict[str, list[str]]:
    """Conversations by user."""
    found: dict[str, list[str]] = {}
    for one in store.collection("conversations").find({}, {"user_id": 1}):
        found.setdefault(one["user_id"], []).append(one["_id"])
    return found
