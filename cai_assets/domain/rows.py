"""Source rows as text, and the day and conversation they name: what raw and the search for changes share.

Typing a row is `domain.documents`'.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from cai_assets.domain.days import day_of
from cai_assets.domain.timestamps import timestamp_or_none

_SURROGATE = re.compile("[\ud800-\udfff]")
# Noncharacters, which Unicode keeps for such use, around the four digits of the half.
_MARK = re.compile("\ufdd0([0-9a-f]{4})\ufdd1")

_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
_encode_ascii = json.JSONEncoder(default=str).encode


def row_text(values: Mapping[str, Any]) -> str:
    """A row's values as JSON text; half characters, which no Parquet can hold, are written as escapes."""
    text = _encode(values)
    return _encode_ascii(values) if not text.isascii() and _SURROGATE.search(text) else text


def start_day(values: Mapping[str, Any], zone: ZoneInfo) -> str | None:
    """The local day on which a conversation started; None where its start is no instant of the calendar."""
    instant = timestamp_or_none(values.get("started_at"))
    if instant is None:
        return None
    try:
        return day_of(instant, zone)
    except OverflowError:  # within hours of the years 1 and 9999
        return None


def conversation_of(values: Mapping[str, Any]) -> str | None:
    """The conversation that a row is of or belongs to, as text; None where it names none."""
    value = values.get("conversation_id")
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        return None
    return str(value)


def marked(text: str) -> str:
    """A text that every store can hold: half characters, which are no UTF-8, stand as marks."""
    return _SURROGATE.sub(lambda half: f"\ufdd0{ord(half[0]):04x}\ufdd1", text)


def unmarked(row: str) -> str:
    """JSON text with marks as escapes again."""
    return _MARK.sub(r"\\u\1", row) if "\ufdd0" in row else row
