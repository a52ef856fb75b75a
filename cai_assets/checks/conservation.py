"""Nothing is lost: the equations between layers, counted anew for every day of a run, or all days.

Source = raw is checked where the source is read (`assets/raw.py`): only that run knows its counts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from cai_assets.checks.days import days_of_run
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.resources.mongo import MongoStore

Counts = Mapping[str, int]


def compare(left: str, right: str, counts: Mapping[str, tuple[Counts, Counts]]) -> dg.AssetCheckResult:
    """Whether two sides of an equation are the same on every day.

    Args:
        left: what the first count of each pair counts.
        right: what the second counts.
        counts: table name to the two counts by day; a day that is absent counts 0.
    """
    wrong = []
    totals: dict[str, Any] = {}
    for table, (ours, theirs) in counts.items():
        totals[f"{table}: {left}"] = sum(ours.values())
        totals[f"{table}: {right}"] = sum(theirs.values())
        wrong += [
            f"{table} of {day}: {ours.get(day, 0)} {left}, {theirs.get(day, 0)} {right}"
            for day in sorted({*ours, *theirs})
            if ours.get(day, 0) != theirs.get(day, 0)
        ]
    if not wrong:
        return dg.AssetCheckResult(passed=True, description=f"{left} = {right}.", metadata=totals)
    shown = "; ".join(wrong[:10]) + ("; …" if len(wrong) > 10 else "")
    return dg.AssetCheckResult(
        passed=False,
        description=f"{left} ≠ {right} on {len(wrong)} days: {shown}. Materialise these days from raw on.",
        metadata={**totals, "wrong_days": len(wrong)},
    )


def _documents_check(name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=["documents", name],
        name="raw_rows_are_all_accounted_for",
        description="raw rows = live documents + quarantined rows + superseded versions + erased, by day.",
        blocking=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        mongo: dg.ResourceParam[MongoStore],
        parquet: dg.ResourceParam[ParquetIOManager],
    ) -> dg.AssetCheckResult:
        # Days whose raw rows RAW_RETENTION_DAYS has dropped have nothing to be compared with; documents stay.
        there = parquet.table(("raw", name)).partitions()
        days = sorted(set(there) & set(days_of_run(context) or there))
        raw = parquet.row_counts(("raw", name), days)
        kinds = mongo.accounted(name, days)
        accounted = {day: sum(counts.values()) for day, counts in kinds.items()}
        result = compare("raw rows", "accounted for in MongoDB", {name: (raw, accounted)})
        by_kind: dict[str, int] = {}
        for counts in kinds.values():
            for kind, count in counts.items():
                by_kind[kind] = by_kind.get(kind, 0) + count
        by_kind_metadata = {kind: dg.MetadataValue.int(count) for kind, count in by_kind.items()}
        return result._replace(metadata={**result.metadata, **by_kind_metadata})

    return check


def _lake_check(name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=["lake", name],
        name="live_documents_equal_lake_rows",
        description="live documents = lake rows, for every day.",
        blocking=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        mongo: dg.ResourceParam[MongoStore],
        parquet: dg.ResourceParam[ParquetIOManager],
    ) -> dg.AssetCheckResult:
        days = days_of_run(context) or parquet.table(("lake", name)).partitions()
        lake = parquet.row_counts(("lake", name), days)
        return compare("live documents", "lake rows", {name: (mongo.live_counts(name, days), lake)})

    return check


FACTS_OF_LAKE = {"stg_messages": "messages", "fct_conversation": "conversations", "fct_llm_call": "llm_calls"}


def _facts_check(fact: str, lake: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=["facts", fact],
        name="lake_rows_equal_fact_rows",
        description=f"rows of lake/{lake} = rows of facts/{fact}, for every day.",
        blocking=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext, parquet: dg.ResourceParam[ParquetIOManager]
    ) -> dg.AssetCheckResult:
        days = days_of_run(context)
        ours, theirs = (parquet.row_counts(path, days) for path in (("lake", lake), ("facts", fact)))
        return compare("lake rows", "fact rows", {lake: (ours, theirs)})

    return check


def build_conservation_checks() -> Iterator[dg.AssetChecksDefinition]:
    """All equations of design section 1 that can be counted from what is stored."""
    for name in ("conversations", "messages"):
        yield _documents_check(name)
    for name in ("conversations", "messages", "translations", "categories", "llm_calls"):
        yield _lake_check(name)
    for fact, lake in FACTS_OF_LAKE.items():
        yield _facts_check(fact, lake)
