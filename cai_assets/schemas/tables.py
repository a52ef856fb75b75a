"""All declared Parquet tables by their path. Declarations stand in the modules of their layers."""

from collections.abc import Mapping

from cai_assets.schemas import content, facts, lake, marts, marts_people, marts_traffic, raw, settings
from cai_assets.schemas.base import Table

MODULES = (raw, lake, settings, facts, marts, marts_people, marts_traffic, content)

TABLES: Mapping[tuple[str, str], Table] = {table.path: table for module in MODULES for table in module.TABLES}
"""Every Parquet table by `(layer, name)`."""

MARTS: tuple[Table, ...] = tuple(table for table in TABLES.values() if table.layer == "marts")
"""The marts, of whichever module."""
