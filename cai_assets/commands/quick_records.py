"""Dagster's SQLite records, written at a bearable cost while a run goes on in this process. No run here.

Dagster opens and closes a connection for every event, and a range of days over the whole graph has thousands.
Two habits of SQLite make each cost disk flushes: a commit waits for the disk (`synchronous=FULL`), and
closing the last connection folds the write-ahead log into the database. Measured on two busy cores, 24 assets
over 16 days: 50 to 57 s with them, 16 to 33 s without.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine


def _no_flush_per_commit(connection: Any, _: Any) -> None:
    # In write-ahead mode a crash of the program loses nothing with this; a power cut may lose the records'
    # last moments, never their consistency (sqlite.org/pragma.html#pragma_synchronous).
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous = normal")


@contextlib.contextmanager
def quick_records(folder: Path) -> Iterator[Callable[[], None]]:
    """Keep the records' databases open, and let commits not wait for the disk, for as long as the block runs.

    Args:
        folder: Dagster's instance; without SQLite files in it, nothing is done.

    Yields:
        a function to call when a further database may have been made: every run has its own.
    """
    held: dict[Path, sqlite3.Connection] = {}

    def hold() -> None:
        for path in folder.rglob("*.db"):
            if path not in held:
                held[path] = sqlite3.connect(path, check_same_thread=False)
                held[path].execute("select count(*) from sqlite_master").fetchall()  # opens the log as well

    event.listen(Engine, "connect", _no_flush_per_commit)
    try:
        hold()
        yield hold
    finally:
        event.remove(Engine, "connect", _no_flush_per_commit)
        for connection in held.values():
            connection.close()
