"""Which days a check looks at. What it looks for is in the modules beside."""

from collections.abc import Sequence

import dagster as dg


def days_of_run(context: dg.AssetCheckExecutionContext) -> Sequence[str] | None:
    """The days that the run materialises, or None where it has none, as when a check is executed by itself.

    Checks have no partitions of their own: of a partitioned check, Dagster 1.13 takes one result for each
    day, and shows all days of a range as skipped where a run checked them together.
    """
    return context.partition_keys if context.has_partition_key or context.has_partition_key_range else None
