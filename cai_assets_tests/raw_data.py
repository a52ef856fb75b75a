"""Raw rows for tests of the documents layer."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from cai_assets.schemas import raw

NOW = datetime(2024, 6, 1, 12, 0, 0, 123000, tzinfo=UTC)


def conversation(**values: Any) -> dict[str, Any]:
    """A source row of a conversation with what is required, and `values` over it."""
    return {
        "conversation_id": "c1",
        "user_id": "u1",
        "status": "open",
        "started_at": "2024-05-01 10:00:00+00:00",
        **values,
    }


def message(**values: Any) -> dict[str, Any]:
    """A source row of a message with what is required, and `values` over it."""
    return {
        "message_id": "m1",
        "conversation_id": "c1",
        "sender_type": "user",
        "text": "Hello",
        "created_at": "2024-05-01 10:00:01+00:00",
        **values,
    }


def raw_rows(rows: Iterable[tuple[str, int, int | None, Any]]) -> pa.Table:
    """The raw table of `(day, row number, minutes of its UpdatedAt or None, values or JSON text)`."""
    first = datetime(2024, 1, 1, tzinfo=UTC)
    columns: dict[str, list[Any]] = {name: [] for name in raw.CONVERSATIONS.by_name}
    for day, number, minutes, values in rows:
        columns["partition"].append(day)
        columns["id"].append(number)
        columns["created_at"].append(first)
        columns["updated_at"].append(None if minutes is None else first + timedelta(minutes=minutes))
        columns["extracted_at"].append(NOW)
        columns["row"].append(values if isinstance(values, str) else json.dumps(values))
    return pa.table(columns, schema=raw.CONVERSATIONS.arrow_schema)
