"""The settings layer: what settings say, as tables that SQL models join. Only declarations belong here."""

import pyarrow as pa

from cai_assets.schemas.base import Column, Table


def _spans() -> tuple[Column, ...]:
    columns = []
    for n in (1, 2, 3, 4):
        columns += [
            Column(
                f"{name}_{n}_us",
                pa.int64(),
                f"{meaning} of the day's stretch {n}; NULL where there are fewer.",
                "us",
                nullable=True,
            )
            for name, meaning in (("open", "First open instant"), ("close", "First closed instant"))
        ]
    return tuple(columns)


BUSINESS_DAY = Table(
    layer="settings",
    name="business_day",
    description=(
        "BUSINESS_HOURS by local day of the reports (REPORT_TIMEZONE), of all days on which the hours are "
        "known; without rows where none are set. The business time of an instant is cum_before_us and what "
        "of the day's stretches lies before it."
    ),
    columns=(
        Column("local_date", pa.date32(), "Local day."),
        Column(
            "cum_before_us",
            pa.int64(),
            "Open microseconds from the begin of the first calendar to the day's first instant.",
            "us",
        ),
        *_spans(),
        Column("calendar", pa.string(), "Hash of BUSINESS_HOURS and REPORT_TIMEZONE."),
    ),
    key=("local_date",),
    partition_by=None,
)

TABLES = (BUSINESS_DAY,)
