"""Business hours through the graph: a changed setting is told, used at once, and marks facts as stale."""

import json
from typing import Any

import dagster as dg

from cai_assets.opening_hours import read_calendars
from cai_assets.partitions import days_between
from cai_assets.resources.business_days import NO_HOURS
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.platform import SAMPLE_DAYS, Platform, PlatformFactory

ALWAYS = json.dumps(
    {"week": {day: ["00:00-24:00"] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}}
)
MORNINGS = json.dumps({"week": {"thu": ["06:00-12:00"], "fri": ["06:00-12:00"]}})
CALENDAR, STAGED = dg.AssetKey(["settings", "business_day"]), dg.AssetKey(["facts", "stg_messages"])
FACTS = "group:facts"


def told(platform: Platform, key: dg.AssetKey, tag: str) -> str | None:
    event = platform.instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        return None
    return (event.asset_materialization.tags or {}).get(tag)


def of_calendar(platform: Platform) -> tuple[str | None, str | None]:
    """The version of the hours, and that which the newest facts were made with."""
    return (
        told(platform, CALENDAR, "dagster/data_version"),
        told(platform, STAGED, f"dagster/input_data_version/{CALENDAR.to_user_string()}"),
    )


def changed(platform: Platform, **values: Any) -> Platform:
    """The same installation with other settings."""
    return Platform(platform.settings.model_copy(update=values), platform.instance)


def business_and_calendar(platform: Platform, column: str) -> list[tuple[float | None, float | None]]:
    table = platform.table("facts", "fct_conversation")
    names = column.replace("_s", "_bh_s"), column
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def test_changed_hours_are_told_before_the_facts_are_made(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    days = (SAMPLE_DAYS[0], days_between(*SAMPLE_DAYS)[1])
    open_always = make_platform(six_days_sandbox, business_hours=ALWAYS)
    open_always.run(*days, select="not group:marts and not group:reports")
    first = of_calendar(open_always)
    assert first[0] == first[1] not in (None, NO_HOURS)
    for column in ("first_response_s", "human_response_after_handoff_s", "resolution_last_s"):
        pairs = business_and_calendar(open_always, column)
        assert [pair for pair in pairs if pair[0] != pair[1]] == []
        assert any(pair[0] for pair in pairs)

    mornings = changed(open_always, business_hours=read_calendars(MORNINGS))
    mornings.run(days[0], select=FACTS)
    second = of_calendar(mornings)
    assert second[0] == second[1] != first[0]
    mornings.run(days[1], select=FACTS)
    assert of_calendar(mornings) == second
    pairs = business_and_calendar(mornings, "resolution_last_s")
    assert all(business is None or business <= calendar for business, calendar in pairs)
    before = mornings.values()

    # other processes are handed the same table
    changed(mornings, max_workers=2).run(*days, select=FACTS)
    assert mornings.values() == before
