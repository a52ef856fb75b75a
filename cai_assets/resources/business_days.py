"""The table `settings/business_day`, kept in step with BUSINESS_HOURS. What is in it is `domain`'s matter."""

from dataclasses import dataclass, replace
from typing import Final

from cai_assets.domain.business_hours import business_days, open_hours
from cai_assets.opening_hours import fingerprint
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.storage import LakeTable
from cai_assets.settings import Settings

NO_HOURS = "none"

# Three centuries of days in one row group are read whole for a single day of messages, 13 ms each time; of
# groups of 22 years DuckDB reads the one that it joins, in 3 ms.
_ROW_GROUP_ROWS: Final = 8192


@dataclass(frozen=True)
class BusinessDays:
    """Business hours as models get them.

    Attributes:
        files: the table; without files or rows where no hours are set.
        settings: with the hours and the zone.
        version: hash of the hours; `NO_HOURS` where none are set.
        changed: the table was another one before.
        uri: address of the table's folder.
    """

    files: LakeFiles
    settings: Settings
    version: str
    changed: bool
    uri: str

    def business_us(self, at_us: int) -> int:
        """Open microseconds before an instant; 0 where no hours are set, as nothing is measured by them then.

        Args:
            at_us: microseconds since 1970-01-01 UTC.
        """
        hours = self.settings.business_hours
        return 0 if hours is None else open_hours(hours, self.settings.report_timezone).business_us(at_us)


def keep_business_days(table: LakeTable, settings: Settings) -> BusinessDays:
    """Bring the table in step with the settings, where it is not, and give it.

    Several may do so at once: what they write is the same.

    Args:
        table: the lake's table.
        settings: with the hours and the zone.

    Raises:
        BusinessHoursError: the hours make a day that the table cannot hold.
        PermanentError, TransientError: as `LakeTable.replace`.
    """
    hours = settings.business_hours
    version = NO_HOURS if hours is None else fingerprint(hours, settings.report_timezone)
    found = table.select()
    changed = version != _version(found)
    if changed:
        in_groups = LakeTable(table.store, table.table, replace(table.spec, row_group_rows=_ROW_GROUP_ROWS))
        in_groups.replace(
            None, business_days(hours, settings.report_timezone), metadata={"calendar": version}
        )
        found = table.select()
    return BusinessDays(found, settings, version, changed, table.uri)


def _version(found: LakeFiles) -> str:
    for batch in found.batches(["calendar"], 1):
        for value in batch.column("calendar"):
            return str(value)
    return NO_HOURS
