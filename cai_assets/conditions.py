"""When tables over all days are made anew, and how old a table may become. What evaluates it is Dagster's."""

from datetime import timedelta

import dagster as dg

ALL_DAYS = {"cai/reads": "all days"}
"""Tag of runs that the condition below started; no day is replaced while one of them reads the facts."""

DAILY_REPORT = dg.AssetKey(["reports", "daily_report"])

# Dagster's own condition forgets a change that comes between the tick that asks for a run and the next one:
# of a trigger and a reset seen together the reset counts, as the times of both are lost where conditions are
# combined. These two are not combined, so their times are compared; facts that came after a run was asked
# for have it asked for again.
_facts_changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated()).allow(
    dg.AssetSelection.groups("facts")
)
_made_by_others = (
    dg.AutomationCondition.newly_updated()
    & ~dg.AutomationCondition.any_new_update_has_run_tags(tag_values=ALL_DAYS)
).with_label("made by a person, or by a backfill of the whole graph")
_changed = (
    _facts_changed.since(dg.AutomationCondition.newly_requested()) & _facts_changed.since(_made_by_others)
) | dg.AutomationCondition.any_deps_updated().since_last_handled()

# What failed is tried again by itself, four times a day at most, whether or not anything changes: the reason
# may have been a server, a disk or a release that is mended by now. Counted since the last request, so that a
# table that waits while a run makes facts is not passed over.
TRIED_AGAIN = "40 */6 * * *"
_failed = dg.AutomationCondition.execution_failed() & dg.AutomationCondition.cron_tick_passed(
    TRIED_AGAIN
).since(dg.AutomationCondition.newly_requested()).with_label("six hours have passed")

# What is missing of the marts a report is made of. Not of the facts: there, a day that nobody asked for yet
# is nothing to wait for, and of the thousands of days since PARTITION_START_DATE some are always missing.
_lacking = dg.AutomationCondition.any_deps_missing().ignore(dg.AssetSelection.groups("facts", "lake"))

# Not "all passed", as in Dagster's own condition: a check tells of the days of its run, and where two runs
# end side by side the later one's counts as not evaluated, so that tables would wait for the next change.
_broken = dg.AutomationCondition.any_deps_match(
    dg.AutomationCondition.any_checks_match(dg.AutomationCondition.check_failed(), blocking_only=True)
    & ~dg.AutomationCondition.will_be_requested()
).with_label("a blocking check of an input failed")

# Runs that refresh days end with the day's report, long after the first facts: a table that waited for the
# facts it reads itself alone would be made in one run, and the tables beside it in another.
_days_are_refreshed = dg.AutomationCondition.asset_matches(
    DAILY_REPORT, dg.AutomationCondition.in_progress()
).with_label("a run makes days anew")

# A table that is made, but not yet checked by the run that made it.
_unchecked = dg.AutomationCondition.any_deps_match(
    dg.AutomationCondition.any_checks_match(dg.AutomationCondition.in_progress(), blocking_only=True)
).with_label("a blocking check of an input is under way")

FOLLOWS = (
    (_changed | _failed.with_label("failed, and is tried again"))
    & ~_lacking
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
    & ~_days_are_refreshed
    & ~_unchecked
    & ~_broken
).with_label("follows its inputs")
"""`AutomationCondition.eager()` for tables over all days: once, when what they are made of has changed and no
run makes it any more. Other than `eager()`, old days count like the latest, days that were never made are not
waited for, a table does not follow inputs whose blocking check failed, and one that failed is tried again."""

NEWEST_DAY = dg.AssetCheckKey(dg.AssetKey(["nocodb", "conversations"]), "newest_day_is_in_the_lake")
"""The check that looks at the days of the data, not at when tables were made; see `checks.arrival`."""

# `daily_safety` makes facts once a day: a day and two hours without any is late, two missed mornings have
# failed. The window moves with the clock and knows no day, so the hours of summer time do not matter.
FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
"""How old facts and reports may become. Dagster looks at the newest materialisation of any day; whether the
newest day is there is told by the check `newest_day_is_in_the_lake`."""
