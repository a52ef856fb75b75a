"""The morning's safety net: which days it asks for, once a day, in the zone of the reports."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from cai_assets import automation
from cai_assets.automation import daily_safety, refresh_days
from cai_assets.definitions import build_definitions
from cai_assets.partitions import RANGE_END, RANGE_START
from cai_assets.settings import Settings

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def asked(instance: dg.DagsterInstance, now: datetime) -> list[tuple[str, str, str]]:
    context = dg.build_schedule_context(instance, scheduled_execution_time=now)
    requests = daily_safety.evaluate_tick(context).run_requests or []
    return [(str(one.run_key), one.tags[RANGE_START], one.tags[RANGE_END]) for one in requests]


def test_the_days_that_still_move_are_one_run(instance: dg.DagsterInstance) -> None:
    now = datetime(2025, 5, 10, 4, tzinfo=ZoneInfo("UTC"))
    ((key, first, last),) = asked(instance, now)
    assert (first, last) == ("2025-05-03", "2025-05-10")
    assert asked(instance, now) == [(key, first, last)], "the same morning asks under the same key"
    assert asked(instance, now.replace(day=11))[0][0] != key


@pytest.mark.parametrize(
    ("month", "day", "first"), [(3, 30, "2025-03-23"), (10, 26, "2025-10-19")], ids=["forward", "back"]
)
def test_the_night_in_which_clocks_change_moves_no_day(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, month: int, day: int, first: str
) -> None:
    monkeypatch.setattr(automation, "DAILY_ZONE", BERLIN)
    for hour in (0, 1, 4, 23):
        ((_, start, end),) = asked(instance, datetime(2025, month, day, hour, tzinfo=BERLIN))
        assert (start, end) == (first, f"2025-{month:02}-{day}"), hour


def test_days_of_a_run_under_way_are_left_to_it(instance: dg.DagsterInstance) -> None:
    job = build_definitions(Settings(_env_file=None)).resolve_job_def(refresh_days.name)
    tags = {RANGE_START: "2025-05-05", RANGE_END: "2025-05-06"}
    instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    now = datetime(2025, 5, 10, 4, tzinfo=ZoneInfo("UTC"))
    assert [one[1:] for one in asked(instance, now)] == [
        ("2025-05-03", "2025-05-04"),
        ("2025-05-07", "2025-05-10"),
    ]
    instance.create_run_for_job(
        job, tags={RANGE_START: "2025-05-01", RANGE_END: "2025-05-31"}, status=dg.DagsterRunStatus.STARTED
    )
    assert asked(instance, now) == []


def test_before_the_first_day_there_is_nothing(instance: dg.DagsterInstance) -> None:
    utc = ZoneInfo("UTC")
    ((_, first, last),) = asked(instance, datetime(2020, 1, 3, 4, tzinfo=utc))
    assert (first, last) == ("2020-01-01", "2020-01-03")
    assert asked(instance, datetime(2019, 12, 31, 4, tzinfo=utc)) == []
