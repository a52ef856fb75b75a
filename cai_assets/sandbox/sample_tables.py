"""The tables of the sample: their columns, and how rows are gathered into them.

Conversations and messages have the source's columns (and `category_gold`, the answer, which no source shows);
`parallel` has those of a set of gold translations. What the rows say does not belong here.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_TIMESTAMP = pa.timestamp("us", "UTC")
_TEXT = pa.string()

CONVERSATIONS = pa.schema(
    [
        pa.field("conversation_id", _TEXT, nullable=False),
        pa.field("user_id", _TEXT, nullable=False),
        ("agent_id", _TEXT),
        ("channel", _TEXT),
        ("language", _TEXT),
        pa.field("status", _TEXT, nullable=False),
        pa.field("started_at", _TIMESTAMP, nullable=False),
        ("ended_at", _TIMESTAMP),
        ("updated_at", _TIMESTAMP),
        ("status_events", _TEXT),
        ("tags", _TEXT),
        ("csat_score", pa.int64()),
        ("csat_at", _TIMESTAMP),
        ("traffic_class", _TEXT),
        ("category_gold", _TEXT),
    ]
)
MESSAGES = pa.schema(
    [
        pa.field("message_id", _TEXT, nullable=False),
        pa.field("conversation_id", _TEXT, nullable=False),
        pa.field("seq", pa.int32(), nullable=False),
        pa.field("sender_type", _TEXT, nullable=False),
        ("sender_id", _TEXT),
        pa.field("text", _TEXT, nullable=False),
        ("language", _TEXT),
        pa.field("created_at", _TIMESTAMP, nullable=False),
        ("updated_at", _TIMESTAMP),
        pa.field("private", pa.bool_(), nullable=False),
    ]
)
PARALLEL = pa.schema(
    [
        pa.field(name, _TEXT, nullable=False)
        for name in ("message_id", "source_language", "target_language", "source_text", "target_text", "kind")
    ]
)


@dataclass(frozen=True)
class SampleData:
    """Sample conversations with their answers.

    Attributes:
        conversations: Schema `CONVERSATIONS`; `status_events` and `tags` are JSON text; instants are UTC.
        messages: Schema `MESSAGES`.
        parallel: Schema `PARALLEL`; for every message in another language its English translation, and for
            every English text its translation into every other language, once for each day on which it
            occurs (at the first message of the day that has it).
    """

    conversations: pa.Table
    messages: pa.Table
    parallel: pa.Table

    def write(self, folder: Path | str) -> None:
        """Write `conversations.parquet`, `messages.parquet` and `translations_gold.parquet` into a folder.

        Args:
            folder: Made where it does not exist; files of these names in it are replaced.

        Raises:
            OSError: The folder or a file cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in (
            ("conversations", self.conversations),
            ("messages", self.messages),
            ("translations_gold", self.parallel),
        ):
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


@dataclass
class Columns:
    """Rows on their way into one table, column by column; instants are seconds since 1970."""

    schema: pa.Schema
    values: dict[str, list[Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.values = {name: [] for name in self.schema.names}

    def add(self, *row: Any) -> None:
        """Add a row, its values in the order of the schema."""
        for column, value in zip(self.values.values(), row, strict=True):
            column.append(value)

    def table(self) -> pa.Table:
        """The rows as a table of the schema."""
        return pa.table(
            [
                pa.array(column, pa.timestamp("s", "UTC")).cast(_TIMESTAMP)
                if kind.type == _TIMESTAMP
                else pa.array(column, kind.type)
                for column, kind in zip(self.values.values(), self.schema, strict=True)
            ],
            schema=self.schema,
        )


class Rows:
    """The rows of one day."""

    def __init__(self) -> None:
        self.conversations = Columns(CONVERSATIONS)
        self.messages = Columns(MESSAGES)
        self.parallel = Columns(PARALLEL)
        self.translated: set[str] = set()  # English texts of the day that have their translations

    def data(self) -> SampleData:
        """The rows as tables."""
        return SampleData(self.conversations.table(), self.messages.table(), self.parallel.table())


def join(parts: list[SampleData]) -> SampleData:
    """Several days as one; none at all gives empty tables."""
    return SampleData(
        pa.concat_tables([CONVERSATIONS.empty_table(), *(part.conversations for part in parts)]),
        pa.concat_tables([MESSAGES.empty_table(), *(part.messages for part in parts)]),
        pa.concat_tables([PARALLEL.empty_table(), *(part.parallel for part in parts)]),
    )
