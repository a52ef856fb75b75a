"""Folders for files on their way that no killed process leaves for ever. What is in them is others'."""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A folder younger than this is never swept: its owner may not have locked it yet.
GRACE_S = 60.0


@contextmanager
def scratch_folder(base: Path) -> Iterator[Path]:
    """A folder of one's own below `base`, removed at the end.

    Folders that killed processes left there are removed too: their locks are free.

    Args:
        base: a folder that holds nothing else; made if need be.

    Raises:
        OSError: it cannot be made.
    """
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    sweep_scratch(base)
    folder = base / uuid.uuid4().hex
    folder.mkdir(mode=0o700)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_scratch(base: Path) -> int:
    """Remove the folders whose owner is gone, which shows by their free lock; how many there were."""
    swept = 0
    for folder in base.iterdir() if base.is_dir() else ():
        try:
            if time.time() - folder.stat().st_mtime < GRACE_S:
                continue
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # its owner has just finished
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
        except BlockingIOError:
            continue  # its owner is alive
        finally:
            os.close(lock)
    return swept
