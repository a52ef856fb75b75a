"""Whether the newest day is there: the source's conversations beside the lake's, by the day they began.

Dagster's freshness policies look at when a table was last made, for whichever day; a backfill of last year
makes it look fresh. This looks at the data.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

import dagster as dg

from cai_assets.conditions import NEWEST_DAY
from cai_assets.io_managers.failing import told_apart
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.partitions import DAILY, day_bounds, day_of
from cai_assets.resources.source import Source
from cai_assets.settings import Settings

# A conversation may take so long from the source to the lake: the sensor's half minute, a run under way
# before, the run itself, Dify's answers. Younger ones are not waited for.
GRACE = timedelta(hours=2)
# Days that are named; of more, reading goes no further.
MOST_DAYS = 31


def missing_days(source: Source, newest: str | None, settings: Settings, now: datetime) -> list[str]:
    """Days after the lake's newest on which conversations of the source began, in order.

    Args:
        source: where they come from.
        newest: the lake's newest day; None where the lake is empty.
        settings: for the zone.
        now: the time, UTC.

    Returns:
        `MOST_DAYS` at most.

    Raises:
        SourceError: the source does not answer, or refuses.
    """
    zone = settings.timezone
    first = DAILY.get_first_partition_key() or settings.partition_start_date
    start = day_bounds(newest, zone)[1] if newest else day_bounds(first, zone)[0]

    def days() -> Iterator[str]:
        last = None
        if start < now - GRACE:
            for row in source.conversations(start, now - GRACE):  # in the order of time
                day = day_of(row.started_at, zone)
                if day != last:
                    last = day
                    yield day

    return sorted(set(islice(days(), MOST_DAYS)))


def arrival_verdict(newest: str | None, missing: Sequence[str]) -> dg.AssetCheckResult:
    """What the check says: which days are missing, and what to do."""
    newest_text = f"The newest day of the lake is {newest}" if newest else "The lake holds no day"
    numbers = {"missing_days": len(missing)}
    if not missing:
        text = f"{newest_text}, and the source has none that is newer."
        return dg.AssetCheckResult(passed=True, description=text, metadata=numbers)
    some = ", ".join(missing[:7]) + (", …" if len(missing) > 7 else "")
    text = (
        f"{newest_text}; the source has conversations of {some}. Run `cai backfill --from {missing[0]} "
        f"--to {missing[-1]}`, and look whether the daemon runs and the sensor nocodb_changes is on."
    )
    return dg.AssetCheckResult(
        passed=False, description=text, metadata={**numbers, "first_missing": missing[0]}
    )


@dg.asset_check(
    asset=NEWEST_DAY.asset_key,
    name=NEWEST_DAY.name,
    description=f"No conversation of {GRACE.seconds // 3600} hours ago is of a day newer than the lake's.",
    # Nothing hangs on it: as a blocking check it ends its run as failed, and so it is told.
    blocking=True,
)
def newest_day(
    source: dg.ResourceParam[Source],
    parquet: dg.ResourceParam[ParquetIOManager],
    settings: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """Compare, in days of REPORT_TIMEZONE."""
    newest = max(parquet.table(("lake", "conversations")).partitions(), default=None)
    with told_apart():
        missing = missing_days(source, newest, settings, datetime.now(UTC))
    return arrival_verdict(newest, missing)
