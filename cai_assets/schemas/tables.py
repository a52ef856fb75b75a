"""All declared Parquet tables by their path. Declarations stand in the modules of their layers."""

from collections.abc import Mapping

from cai_assets.schemas import facts, lake, marts, raw, settings
from cai_assets.schemas.base import Table

TABLES: Mapping[tuple[str, str], Table] = {
    table.path: table for module in (raw, lake, settings, facts, marts) for table in module.TABLES
}
"""Every Parquet table by `(layer, name)`."""
