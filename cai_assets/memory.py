"""Limits of memory as the settings write them: `4GB`, `512 MiB`, `80%`.

What is kept within them is the matter of who reads them: the engines, and files as a source.
"""

import os
import re
from pathlib import Path
from typing import Final

# What DuckDB takes of the machine where nothing is set.
UNSET: Final = "80%"


def in_bytes(limit: str) -> int:
    """A limit in bytes.

    Args:
        limit: units of 1,000 as `16GB`, of 1,024 as `16GiB`, or a share of this machine's memory (of the
            container's, where that is less) as `80%`.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s?(?:%|([KMGT])(i?)B)", limit)
    assert found is not None  # noqa: S101  the settings let nothing else pass
    number, unit, binary = found.groups()
    if unit is None:
        return int(_memory() * float(number) / 100)
    return int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit) + 1))


def share(limit: str, among: int) -> str:
    """A part of a limit, for one of several that work at the same time.

    Args:
        limit: as `4GB` or `80%`.
        among: how many there are.
    """
    number, unit = re.fullmatch(r"([\d.]+)\s?(\D+)", limit).groups()  # type: ignore[union-attr]
    return f"{float(number) / among:.4g}{unit}"


def _memory() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group = Path("/sys/fs/cgroup/memory.max")  # of a container; "max" where there is no limit
    if group.is_file() and (told := group.read_text().strip()).isdigit():
        memory = min(memory, int(told))
    return memory
