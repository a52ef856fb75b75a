"""What a declaration of a table is: columns with type, unit, nullability and meaning.

The declarations themselves stand in the sibling modules, one per layer. From each come the Arrow schema, the
schema check, Dagster's column schema and the data dictionary; nothing else repeats them.
"""

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
MONEY = pa.decimal128(18, 8)


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: lower case; `_id`, `_at`, `_us`, `_s`, `is_`/`has_` mean what they say.
        type: Arrow type.
        description: meaning, for the UI and the data dictionary.
        unit: of numbers, as "s", "us", "tokens", "USD"; None where there is none.
        nullable: whether NULL may stand here.
        values: the only texts allowed, where they are few.
        metric: name of the metric that stands here (`schemas.metrics`); its description and unit are these.
    """

    name: str
    type: pa.DataType
    description: str
    unit: str | None = None
    nullable: bool = False
    values: tuple[str, ...] | None = None
    metric: str | None = None


@dataclass(frozen=True)
class Table:
    """One Parquet table or document collection.

    Attributes:
        layer: asset group and first part of the key.
        name: second part of the key.
        description: grain and meaning.
        columns: in order of the files.
        key: the columns that identify a row; also the sort order of the files after the partition.
        partition_by: "partition" (the day of section 1 of the design), "month" (marts) or None (one part).
    """

    layer: str
    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition_by: Literal["partition", "month"] | None = "partition"
    by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {column.name: column for column in self.columns})
        missing = [
            name for name in (*self.key, *filter(None, [self.partition_by])) if name not in self.by_name
        ]
        if missing:
            raise ValueError(f"{self.layer}/{self.name}: key or partition names unknown columns {missing}")

    @property
    def path(self) -> tuple[str, str]:
        """`(layer, name)`: the parts of the asset key."""
        return (self.layer, self.name)

    @property
    def arrow_schema(self) -> pa.Schema:
        """Arrow schema with nullability, in column order."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])


def partition_column(
    meaning: str = "Local day on which the conversation started (REPORT_TIMEZONE).",
) -> Column:
    """The column by which every daily table is partitioned, as `YYYY-MM-DD`."""
    return Column("partition", pa.string(), meaning)
