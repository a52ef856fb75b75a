"""The raw layer: rows exactly as the source gave them. Typed data does not belong here."""

import pyarrow as pa

from cai_assets.schemas.base import TIMESTAMP, Column, Table, partition_column


def _raw(name: str, what: str) -> Table:
    return Table(
        layer="raw",
        name=name,
        description=f"Verbatim source rows of {what}, one row each, as the source answered.",
        columns=(
            partition_column(),
            Column("id", pa.int64(), "The source's own row number (NocoDB's Id)."),
            Column("created_at", TIMESTAMP, "When the source made the row (its CreatedAt).", nullable=True),
            Column(
                "updated_at", TIMESTAMP, "When the source last changed it (its UpdatedAt).", nullable=True
            ),
            Column("extracted_at", TIMESTAMP, "When the platform read the row."),
            Column("row", pa.string(), "The row as JSON text, field names after NOCODB_FIELD_MAP."),
        ),
        key=("id",),
    )


CONVERSATIONS = _raw("conversations", "conversations that started on the day")
MESSAGES = _raw("messages", "messages of the conversations that started on the day")
TABLES = (CONVERSATIONS, MESSAGES)
