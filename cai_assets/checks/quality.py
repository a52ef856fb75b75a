"""Checks that warn and stop nothing: quarantine, orphans, coverage of the enrichment, budget.

What they find is in the data and is mended at the source, in Dify or in the settings; facts and marts are
right all the same, and say how much of it they stand on.
"""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from cai_assets.checks.days import days_of_run
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.quality import rejected, without_day
from cai_assets.settings import Settings

# A form that was filled in wrongly now and then; more than one row in a hundred is a change at the source.
MOST_QUARANTINED = 0.01
# What Dify answers badly once is asked again by the next run; more than one in twenty left is a fault.
LEAST_COVERED = 0.95
SHOWN_DAYS = 3


def _worst(by_day: Mapping[str, int]) -> str:
    """The days with most, as "2024-05-03 (12), 2024-05-01 (3)"."""
    ordered = sorted(by_day.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{day} ({count:,})" for day, count in ordered[:SHOWN_DAYS]) + (
        ", …" if len(ordered) > SHOWN_DAYS else ""
    )


def _warning(passed: bool, text: str, metadata: Mapping[str, int | float | str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed, severity=dg.AssetCheckSeverity.WARN, description=text, metadata=dict(metadata)
    )


def quarantine_verdict(
    table: str, rows: int, by_day: Mapping[str, int], commonest: str
) -> dg.AssetCheckResult:
    """Whether few enough rows are in quarantine.

    Args:
        table: "conversations" or "messages".
        rows: raw rows of the days.
        by_day: of which in quarantine, orphans left out.
        commonest: what is wrong with most of them.
    """
    held = sum(by_day.values())
    share = held / rows if rows else 0.0
    numbers = {"rows": rows, "quarantined": held, "share": share}
    text = f"{held:,} of {rows:,} rows of {table} are in quarantine ({share:.1%})"
    if share <= MOST_QUARANTINED:
        return _warning(True, f"{text}.", numbers)
    mend = "Correct them at the source: MongoDB's collection quarantine has rows and reasons."
    return _warning(False, f"{text}, most on {_worst(by_day)}, mostly: {commonest}. {mend}", numbers)


def _quarantine_check(name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=["documents", name],
        name="few_rows_are_quarantined",
        description=f"Warns where more than {MOST_QUARANTINED:.0%} of the rows do not validate.",
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        mongo: dg.ResourceParam[MongoStore],
        parquet: dg.ResourceParam[ParquetIOManager],
    ) -> dg.AssetCheckResult:
        days = days_of_run(context) or parquet.table(("raw", name)).partitions()
        found = rejected(mongo, name, days)
        rows = sum(parquet.row_counts(("raw", name), days).values())
        commonest = next((reason for reason, _ in found.reasons.most_common(1)), "")
        return quarantine_verdict(name, rows, found.by_day, commonest)

    return check


@dg.asset_check(
    asset=["documents", "messages"],
    name="messages_have_their_conversation",
    description="Warns of orphans: messages kept aside until their conversation appears.",
)
def messages_have_their_conversation(
    context: dg.AssetCheckExecutionContext,
    mongo: dg.ResourceParam[MongoStore],
    parquet: dg.ResourceParam[ParquetIOManager],
) -> dg.AssetCheckResult:
    """Orphans of the run's days, and messages whose conversation the source does not have at all."""
    days = days_of_run(context) or parquet.table(("raw", "messages")).partitions()
    orphans, homeless = rejected(mongo, "messages", days).orphans, without_day(mongo, "messages")
    numbers = {"orphans": sum(orphans.values()), "without_day": homeless}
    if not any(numbers.values()):
        return _warning(True, "Every message has its conversation.", numbers)
    parts = []
    if orphans:
        count = numbers["orphans"]
        parts.append(f"messages that wait for their conversation: {count:,}, most on {_worst(orphans)}")
    if homeless:
        parts.append(f"messages of conversations that the source does not have: {homeless:,}")
    mend = "Bring the conversations back at the source, or delete the messages there."
    return _warning(False, f"There are {'; '.join(parts)}. {mend}", numbers)


# By day: units that need an answer, of which answered, of which not asked as the budget was spent. A message
# with a translation of an older prompt version beside a failed one of the present is served.
COVERAGE = """
with units as (
    select
        partition,
        {unit} as unit,
        max(case when {answered} then 1 else 0 end) as answered,
        max(case when error like 'budget reached%' then 1 else 0 end) as unpaid,
        max(case when error like 'budget reached%' then error end) as reason
    from lake.{table}
    group by partition, {unit}
)

select
    partition,
    count(*) as needing,
    cast(sum(answered) as bigint) as done,
    cast(sum(case when answered = 0 then unpaid else 0 end) as bigint) as unpaid,
    max(case when answered = 0 then reason end) as reason
from units
group by partition
"""
UNITS = {
    "translations": ("message_id", "status = 'ok'", "texts", "translated", "dify_translation_api_key"),
    "categories": (
        "conversation_id",
        "error is null",
        "conversations",
        "categorised",
        "dify_category_api_key",
    ),
}


def coverage_verdict(
    rows: Sequence[Mapping[str, int | str]], *, what: str, done_word: str, key: str | None
) -> dg.AssetCheckResult:
    """Whether enough is answered.

    Args:
        rows: by day `partition`, `needing`, `done`.
        what: what is counted, as "texts".
        done_word: what became of those that are done, as "translated".
        key: the variable that is not set, where nothing is asked for.
    """
    needing, done = (sum(int(row[name]) for row in rows) for name in ("needing", "done"))
    covered = done / needing if needing else 1.0
    numbers = {"needing": needing, "done": done, "coverage": covered}
    text = f"{done:,} of {needing:,} {what} are {done_word} ({covered:.1%})"
    if key is not None:
        return _warning(True, f"{text}; nobody is asked, as {key} is not set.", numbers)
    if covered >= LEAST_COVERED:
        return _warning(True, f"{text}.", numbers)
    left = {str(row["partition"]): int(row["needing"]) - int(row["done"]) for row in rows}
    mend = "Materialise these days again from enrichment on; the column error tells why if it stays."
    missing = _worst({day: count for day, count in left.items() if count})
    return _warning(False, f"{text}, most are missing on {missing}. {mend}", numbers)


def budget_verdict(rows: Sequence[Mapping[str, int | str]], *, what: str) -> dg.AssetCheckResult:
    """Whether the budget let everything be asked for; `rows` by day with `unpaid` and `reason`."""
    unpaid = {str(row["partition"]): int(row["unpaid"]) for row in rows if row["unpaid"]}
    left = sum(unpaid.values())
    if not left:
        return _warning(True, f"No {what} were left for want of budget.", {"left": 0})
    reason = next(str(row["reason"]) for row in rows if row["unpaid"])
    mend = "Raise the budget, or materialise these days from enrichment on once it begins anew."
    text = f"{left:,} {what} were not asked for, most on {_worst(unpaid)} ({reason}). {mend}"
    return _warning(False, text, {"left": left})


def _by_day(
    context: dg.AssetCheckExecutionContext, duckdb: DuckDBEngine, parquet: ParquetIOManager, name: str
) -> list[dict[str, int | str]]:
    unit, answered = UNITS[name][:2]
    files = parquet.files(("lake", name), days_of_run(context))
    query = COVERAGE.format(unit=unit, answered=answered, table=name)
    rows: list[dict[str, int | str]] = duckdb.query(query, {("lake", name): files}).to_pylist()
    return rows


def _coverage_check(name: str) -> dg.AssetChecksDefinition:
    _, _, what, done_word, variable = UNITS[name]

    @dg.asset_check(
        asset=["lake", name],
        name=f"enough_is_{done_word}",
        description=f"Warns where less than {LEAST_COVERED:.0%} of the {what} are {done_word}.",
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        duckdb: dg.ResourceParam[DuckDBEngine],
        parquet: dg.ResourceParam[ParquetIOManager],
        settings: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        missing = None if getattr(settings, variable) else variable.upper()
        rows = _by_day(context, duckdb, parquet, name)
        return coverage_verdict(rows, what=what, done_word=done_word, key=missing)

    return check


def _budget_check(name: str) -> dg.AssetChecksDefinition:
    what = UNITS[name][2]

    @dg.asset_check(
        asset=["lake", name],
        name="budget_suffices",
        description=f"Warns where {what} were not asked for because DIFY_BUDGET_* was reached.",
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        duckdb: dg.ResourceParam[DuckDBEngine],
        parquet: dg.ResourceParam[ParquetIOManager],
    ) -> dg.AssetCheckResult:
        return budget_verdict(_by_day(context, duckdb, parquet, name), what=what)

    return check


def build_quality_checks() -> Iterator[dg.AssetChecksDefinition]:
    """All checks that warn."""
    for name in ("conversations", "messages"):
        yield _quarantine_check(name)
    yield messages_have_their_conversation
    for name in UNITS:
        yield _coverage_check(name)
        yield _budget_check(name)
