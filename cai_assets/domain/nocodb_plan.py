"""How to read the messages of some conversations with the fewest requests: by their ids, or all of them.

Only the arithmetic is here. Requests are what is dear: NocoDB lets few through in a second, and answers a
page of 1000 rows in a fraction of that.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Way: TypeAlias = Literal["batches", "scan"]

# A window of a scan holds about so many pages: where Ids have gaps, each window ends with a page that is not
# full, and the rows of a window are in memory together.
WINDOW_PAGES = 4


@dataclass(frozen=True)
class Extent:
    """What a table holds.

    Attributes:
        rows: their number.
        last_id: the highest Id, 0 of an empty table.
    """

    rows: int
    last_id: int


@dataclass(frozen=True)
class ReadPlan:
    """The way that was chosen, and the numbers it was chosen by.

    Attributes:
        way: `batches` of conversation ids, or a `scan` of the whole table by windows of Ids.
        batches: requests of the first way, about.
        scan: requests of the second, about.
        window_ids: width of a scan's windows in Ids.
        why: the choice in words.
    """

    way: Way
    batches: int
    scan: int
    window_ids: int
    why: str

    def numbers(self) -> dict[str, str | int]:
        """For the metadata of what was read."""
        return {"read_by": self.way, "requests_of_batches": self.batches, "requests_of_a_scan": self.scan}


def plan_read(
    *,
    batches: int,
    ids: int,
    in_no_filter: int,
    messages: Extent,
    conversations: int,
    page_rows: int,
    window_rows: int,
    forced: Way | None = None,
) -> ReadPlan:
    """Choose how to read the messages of some conversations.

    Args:
        batches: filters that ask for all of them.
        ids: conversations wanted.
        in_no_filter: further conversations that no filter can ask for.
        messages: the table of messages.
        conversations: how many there are in all; those wanted are taken to have their share of the messages.
        page_rows: rows of a page.
        window_rows: most rows of a window.
        forced: the way to take whatever the numbers say.
    """
    window_ids, scan = scan_of(messages, page_rows, window_rows)
    share = min(1.0, ids / max(1, conversations))
    by_batches = _pages(messages.rows * share / page_rows, parts=batches)
    words = (
        f"a scan of {messages.rows} rows takes about {scan} requests, {batches} batches of ids {by_batches}"
    )
    if in_no_filter:
        why = f"{in_no_filter} conversation ids stand in no filter of NocoDB ({words})"
        return ReadPlan("scan", by_batches, scan, window_ids, why)
    way: Way = forced or ("scan" if scan < by_batches else "batches")
    return ReadPlan(way, by_batches, scan, window_ids, words)


def scan_of(messages: Extent, page_rows: int, window_rows: int) -> tuple[int, int]:
    """How to scan a table by windows of Ids: the Ids of a window, and about how many requests it takes."""
    if not messages.rows:
        return window_rows, 1
    ids_a_row = max(1.0, messages.last_id / messages.rows)
    window_ids = max(1, min(window_rows, round(WINDOW_PAGES * page_rows * ids_a_row)))
    windows = math.ceil(messages.last_id / window_ids)
    if ids_a_row == 1:  # no gaps: every page of a window is full
        return window_ids, max(windows, math.ceil(messages.rows / page_rows))
    return window_ids, _pages(messages.rows / page_rows, parts=windows)


def _pages(full: float, *, parts: int) -> int:
    """Requests for so many pages in so many parts: the last page of each is half full, in the mean."""
    return max(parts, math.ceil(full + parts / 2))
