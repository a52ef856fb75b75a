"""The checks that warn, and the one of the newest day, on a real platform: they tell, and stop nothing."""

from typing import Any

import dagster as dg

from cai_assets.conditions import NEWEST_DAY
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.platform import SAMPLE_DAYS, Platform, PlatformFactory

FIRST, LAST = SAMPLE_DAYS
UNTIL_LAKE = "key:raw/* or key:documents/* or key:enrichment/* or key:lake/*"


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {
        f"{one.asset_key.to_user_string()}: {one.check_name}": one
        for one in result.get_asset_check_evaluations()
    }


def looked(platform: Platform) -> Any:
    """The hourly look at the newest day."""
    job = platform.definitions.resolve_job_def("look_for_newest_day")
    result = job.execute_in_process(instance=platform.instance, raise_on_error=False)
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.asset_check_key == NEWEST_DAY
    assert result.success is evaluation.passed, "a missing day ends the run as failed, and so it is told"
    return evaluation


def test_a_sound_range_passes_them_all_and_the_days_after_it_are_missed(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    platform = make_platform(six_days_sandbox)
    found = verdicts(platform.run(FIRST, FIRST, select=UNTIL_LAKE))
    assert {name for name, one in found.items() if not one.passed} == set()
    assert found["lake/translations: enough_is_translated"].metadata["coverage"].value == 1.0
    missed = looked(platform)
    assert not missed.passed
    assert (
        f"newest day of the lake is {FIRST}; the source has conversations of 2025-03-21" in missed.description
    )
    assert missed.metadata["missing_days"].value == 5
    platform.run(LAST, LAST, select=UNTIL_LAKE)
    assert looked(platform).passed


def test_without_keys_nothing_warns_of_coverage_and_a_spent_budget_does(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    silent = make_platform(six_days_sandbox, dify_translation_api_key=None, dify_category_api_key=None)
    found = verdicts(silent.run(FIRST, FIRST, select=UNTIL_LAKE))
    assert {name for name, one in found.items() if not one.passed} == set()
    assert "DIFY_TRANSLATION_API_KEY is not set" in str(
        found["lake/translations: enough_is_translated"].description
    )
    poor = make_platform(six_days_sandbox, dify_budget_tokens=1)
    result = poor.run(FIRST, FIRST, select=UNTIL_LAKE)
    assert result.success, "they stop nothing"
    warned = {name: one for name, one in verdicts(result).items() if not one.passed}
    assert set(warned) == {
        "lake/translations: enough_is_translated",
        "lake/translations: budget_suffices",
        "lake/categories: enough_is_categorised",
        "lake/categories: budget_suffices",
    }
    assert {one.severity for one in warned.values()} == {dg.AssetCheckSeverity.WARN}
    assert "DIFY_BUDGET_TOKENS=1" in str(warned["lake/translations: budget_suffices"].description)


def test_quarantined_rows_and_orphans_are_told_and_stop_nothing(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess
) -> None:
    platform = make_platform(six_days_sandbox)
    with platform.mongo() as store:
        store.collection("without_day").insert_one({"_id": "messages:1", "table": "messages"})
    result = platform.run(FIRST, FIRST, select="key:raw/* or key:documents/*")
    with platform.mongo() as store:
        entry = {"table": "messages", "partition": FIRST, "row": "{}"}
        store.collection("quarantine").insert_many(
            [
                {**entry, "_id": "messages:a", "reason": "orphan: its conversation 'x' does not live"},
                *(
                    {**entry, "_id": f"messages:{n}", "reason": f"created_at: 'secret {n}' is no time"}
                    for n in range(5)
                ),
            ]
        )
    assert result.success
    found = {f"{one.asset_key.path[-1]}: {one.check_name}": one for one in platform.check(FIRST, FIRST)}
    quarantine = found["messages: few_rows_are_quarantined"]
    assert (quarantine.passed, quarantine.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"most on {FIRST} (5), mostly: created_at." in str(quarantine.description)
    assert "secret" not in str(quarantine.description)
    orphans = found["messages: messages_have_their_conversation"]
    assert (orphans.passed, orphans.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"messages that wait for their conversation: 1, most on {FIRST} (1)" in str(orphans.description)
    assert "messages of conversations that the source does not have: 1." in str(orphans.description)
