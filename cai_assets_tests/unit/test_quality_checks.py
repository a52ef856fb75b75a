"""What the checks that warn say: what, where, how many, what to do; and where they keep quiet."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from cai_assets.checks.arrival import GRACE, MOST_DAYS, arrival_verdict, missing_days
from cai_assets.checks.quality import budget_verdict, coverage_verdict, quarantine_verdict
from cai_assets.settings import Settings

WARN = dg.AssetCheckSeverity.WARN


def test_quarantine_warns_above_one_row_in_a_hundred() -> None:
    good = quarantine_verdict("messages", 1000, {"2024-05-01": 10}, "text")
    assert (good.passed, good.description) == (True, "10 of 1,000 rows of messages are in quarantine (1.0%).")
    bad = quarantine_verdict("messages", 1000, {"2024-05-01": 3, "2024-05-02": 8}, "created_at")
    assert (bad.passed, bad.severity) == (False, WARN)
    assert bad.description == (
        "11 of 1,000 rows of messages are in quarantine (1.1%), most on 2024-05-02 (8), 2024-05-01 (3), "
        "mostly: created_at. Correct them at the source: MongoDB's collection quarantine has rows and "
        "reasons."
    )
    assert quarantine_verdict("messages", 0, {}, "").passed, "a day without rows"


def day(partition: str, needing: int, done: int, unpaid: int = 0) -> dict[str, Any]:
    reason = "budget reached: DIFY_BUDGET_TOKENS=9" if unpaid else None
    return {"partition": partition, "needing": needing, "done": done, "unpaid": unpaid, "reason": reason}


def test_coverage_warns_below_nineteen_of_twenty_unless_nobody_is_asked() -> None:
    rows = [day("2024-05-01", 100, 95), day("2024-05-02", 100, 94)]
    words = {"what": "texts", "done_word": "translated"}
    assert coverage_verdict(rows[:1], key=None, **words).passed
    bad = coverage_verdict(rows, key=None, **words)
    assert (bad.passed, bad.severity) == (False, WARN)
    assert "189 of 200 texts are translated (94.5%), most are missing on 2024-05-02 (6)" in bad.description
    silent = coverage_verdict(rows, key="DIFY_TRANSLATION_API_KEY", **words)
    assert silent.passed
    assert "DIFY_TRANSLATION_API_KEY is not set" in silent.description
    assert coverage_verdict([], key=None, **words).passed


def test_a_budget_that_was_reached_warns_with_its_name() -> None:
    rows = [day("2024-05-01", 10, 10), day("2024-05-02", 10, 3, unpaid=7)]
    assert budget_verdict(rows[:1], what="texts").passed
    bad = budget_verdict(rows, what="texts")
    assert (bad.passed, bad.severity) == (False, WARN)
    assert "7 texts were not asked for, most on 2024-05-02 (7)" in bad.description
    assert "DIFY_BUDGET_TOKENS=9" in bad.description


class Conversations:
    """A source that holds conversations which started at these instants."""

    def __init__(self, *starts: datetime) -> None:
        self.starts = sorted(starts)
        self.read = 0

    def conversations(self, start: datetime, end: datetime) -> Iterator[SimpleNamespace]:
        for instant in self.starts:
            if start <= instant < end:
                self.read += 1
                yield SimpleNamespace(started_at=instant)


BERLIN = Settings(_env_file=None, report_timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("night", "newest", "newer"),
    [
        # Summer time begins: the 30th has 23 hours, and ends at 22:00 UTC, where the 29th ended at 23:00.
        ("2025-03-30 21:59", "2025-03-30", None),
        ("2025-03-30 22:00", "2025-03-30", "2025-03-31"),
        ("2025-03-29 22:59", "2025-03-29", None),
        ("2025-03-29 23:00", "2025-03-29", "2025-03-30"),
        # It ends: the 26th has 25 hours.
        ("2025-10-26 22:59", "2025-10-26", None),
        ("2025-10-26 23:00", "2025-10-26", "2025-10-27"),
    ],
)
def test_a_day_is_missing_by_the_zones_clock(night: str, newest: str, newer: str | None) -> None:
    started = datetime.fromisoformat(f"{night}+00:00")
    found = missing_days(Conversations(started), newest, BERLIN, started + timedelta(days=1))  # type: ignore[arg-type]
    assert found == ([newer] if newer else [])


def test_conversations_on_their_way_or_to_come_are_not_missed() -> None:
    now = datetime(2025, 5, 2, 1, tzinfo=UTC)
    young, to_come = now - GRACE + timedelta(minutes=1), now + timedelta(days=3)
    source: Any = Conversations(young, to_come)
    assert missing_days(source, "2025-04-30", Settings(_env_file=None), now) == []
    assert missing_days(source, "2025-04-30", Settings(_env_file=None), now + timedelta(minutes=2)) == [
        "2025-05-01"
    ]


def test_an_empty_lake_misses_the_first_days_and_reads_no_more_than_it_names() -> None:
    first = datetime(2025, 1, 1, tzinfo=UTC)
    source: Any = Conversations(*(first + timedelta(days=n) for n in range(100)))
    found = missing_days(source, None, Settings(_env_file=None), datetime(2025, 6, 1, tzinfo=UTC))
    assert (len(found), found[0]) == (MOST_DAYS, "2025-01-01")
    assert source.read == MOST_DAYS


def test_the_verdict_names_the_days_and_the_command() -> None:
    assert arrival_verdict("2025-05-01", []).passed
    bad = arrival_verdict("2025-05-01", ["2025-05-03", "2025-05-04"])
    assert (bad.passed, bad.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "has conversations of 2025-05-03, 2025-05-04" in bad.description
    assert "`cai backfill --from 2025-05-03 --to 2025-05-04`" in bad.description
    assert "The lake holds no day" in arrival_verdict(None, ["2025-05-03"]).description
