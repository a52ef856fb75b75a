"""Tables of the lake by the names people type, for the commands that look after them. No output here."""

from collections.abc import Sequence
from typing import Any

from cai_assets.commands.completing import table_path
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings


def lake_table(settings: Settings, name: str) -> LakeTable:
    """The table that `layer/name` or `layer.name` names.

    Raises:
        click.UsageError: no table is declared under it; the message names those that are alike.
    """
    return LakeTable(
        ObjectStore.from_settings(settings), TABLES[table_path(name)], ParquetSpec.from_settings(settings)
    )


def lake_tables(settings: Settings, names: Sequence[str]) -> list[LakeTable]:
    """The tables of these names; all where none is named."""
    return [lake_table(settings, name) for name in names or ["/".join(path) for path in TABLES]]


def shown(value: Any) -> str:
    """A number as people read it; nothing for None."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{float(value):,.6g}"
