"""How one value of a source row becomes a typed value, one function per kind of `schemas.documents`.

Every function takes the value as the source's JSON holds it and raises ValueError, with the expectation in
words, where it is none; what becomes of a row is decided in `domain.documents`.
"""

import json
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

from cai_assets.domain.timestamps import parse_timestamp
from cai_assets.schemas.documents import Kind, SourceField

Parser: TypeAlias = Callable[[Any], Any]

MAX_ID_BYTES = 1024
FIRST_YEAR, LAST_YEAR = 1900, 2199
"""Instants outside are sentinels or slips (0001-01-01, 9999-12-31); readers of nanoseconds end at 2262."""
MAX_DEPTH = 90
"""MongoDB refuses documents nested deeper than 100."""

_TRUE = {True, "1", "true"}  # 1 and 1.0 equal True
_FALSE = {False, "0", "false"}


def parse_id(value: Any) -> str:
    """A business id: text, or a whole number, kept to the letter; not blank, at most 1024 bytes of UTF-8."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("missing" if value is None else f"{_shown(value)} is no text")  # noqa: TRY004
    if not value.strip():
        raise ValueError("empty")
    if len(_utf8(value)) > MAX_ID_BYTES:
        raise ValueError(f"longer than {MAX_ID_BYTES} bytes")
    return value


def parse_text(value: Any) -> str | None:
    """Text as it is, blank text included; a number becomes its digits; None stays None."""
    if isinstance(value, str):
        if not value.isascii():
            _utf8(value)
        return value
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(value)
    raise ValueError(f"{_shown(value)} is no text")


def parse_enum(values: tuple[str, ...]) -> Parser:
    """One of few words, whatever its case and the blanks around it; blank and None are None."""
    known = {word: word for word in values}

    def parse(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise ValueError(f"{_shown(value)} is none of {', '.join(values)}")  # noqa: TRY004
        word = known.get(value) or known.get(value.strip().lower())
        if word is None and value.strip():
            raise ValueError(f"{_shown(value)} is none of {', '.join(values)}")
        return word

    return parse


def parse_instant(value: Any) -> datetime | None:
    """An instant in UTC, to the microsecond, of the years 1900 to 2199; see `parse_timestamp`."""
    instant = parse_timestamp(value)
    if instant is not None and not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise ValueError(f"the year {instant.year} is outside {FIRST_YEAR} to {LAST_YEAR}")
    return instant


def parse_bool(value: Any) -> bool | None:
    """true, 1, "1" or "true", and their opposites; None and blank text are None."""
    if value is None:
        return None
    word = value.strip().lower() if isinstance(value, str) else value
    if word == "":
        return None
    if isinstance(word, str | int | float):
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise ValueError(f"{_shown(value)} is neither true nor false")


def parse_number(value: Any) -> float | None:
    """A finite number, or text that is one; None and blank text are None."""
    number = _number(value)
    return None if number is None else float(number)


def parse_int32(value: Any) -> int | None:
    """A whole number of 32 bits, or text that is one; None and blank text are None."""
    number = _number(value)
    if number is None:
        return None
    if number != int(number) or not -(2**31) <= number < 2**31:
        raise ValueError(f"{_shown(value)} is no whole number of 32 bits")
    return int(number)


def parse_tags(value: Any) -> list[str] | None:
    """Labels from a list, its JSON text, or "a,b"; blanks around them and empty ones go; None stays None."""
    if value is None:
        return None
    labels = value
    if isinstance(value, str):
        labels = None
        if value.lstrip().startswith("["):
            labels = _json(value, or_else=None)  # "[new], billing" is a list by commas all the same
        if not isinstance(labels, list):
            labels = value.split(",")
    if not isinstance(labels, list):
        raise ValueError(f"{_shown(value)} is no list of labels")  # noqa: TRY004
    texts = (parse_text(label) for label in labels)
    return [text.strip() for text in texts if text and text.strip()]


def parse_status_events(value: Any) -> list[dict[str, Any]] | None:
    """Changes of status, in order of time, from a list or its JSON text.

    Takes `{"from", "to", "at", "actor"}` or `{"from_status", "to_status", …}`; gives `from_status`,
    `to_status` (lower case), `at`, `at_us` (microseconds since 1970) and `actor`. Events of one instant keep
    their order.
    """
    events = _json(value) if isinstance(value, str) and value.strip() else value
    if events is None or events == "":
        return None
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError(f"{_shown(value)} is no list of events")
    parsed = []
    for number, event in enumerate(events):
        try:
            parsed.append(_status_event(event))
        except ValueError as error:
            raise ValueError(f"event {number}: {error}") from None
    return sorted(parsed, key=lambda event: event["at_us"])


def _status_event(event: dict[str, Any]) -> dict[str, Any]:
    at = parse_instant(event.get("at"))
    to_status = _word(event.get("to_status", event.get("to")))
    if at is None or to_status is None:
        raise ValueError("`at` and `to` are needed")
    return {
        "from_status": _word(event.get("from_status", event.get("from"))),
        "to_status": to_status,
        "at": at,
        "at_us": microseconds(at),
        "actor": parse_text(event.get("actor")),
    }


def parse_attrs(value: Any) -> dict[str, Any] | None:
    """A JSON object, or its text, kept as it is; None and blank text are None."""
    attrs = _json(value) if isinstance(value, str) and value.strip() else value
    if attrs is None or attrs == "":
        return None
    if not isinstance(attrs, dict):
        raise ValueError(f"{_shown(value)} is no JSON object")  # noqa: TRY004
    _check_storable(attrs)
    return attrs


def parser_of(field: SourceField) -> Parser:
    """The function that reads one field: its default in place of None, or a refusal where None may not be."""
    plain: Parser = parse_enum(field.values or ()) if field.kind == "enum" else _PARSERS[field.kind]
    if field.default is not None:
        return lambda value: field.default if (parsed := plain(value)) is None else parsed
    if field.may_be_null or field.kind == "id":
        return plain

    def required(value: Any) -> Any:
        parsed = plain(value)
        if parsed is None:
            raise ValueError("missing")
        return parsed

    return required


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exactly."""
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

_PARSERS: dict[Kind, Parser] = {
    "id": parse_id,
    "text": parse_text,
    "instant": parse_instant,
    "bool": parse_bool,
    "int32": parse_int32,
    "number": parse_number,
    "tags": parse_tags,
    "status_events": parse_status_events,
    "attrs": parse_attrs,
}


def _word(value: Any) -> str | None:
    text = parse_text(value)
    return text.strip().lower() or None if text is not None else None


def _number(value: Any) -> int | float | None:
    if value is None or isinstance(value, bool):
        if value is None:
            return None
        raise ValueError(f"{_shown(value)} is no number")
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        try:
            value = float(text) if "_" not in text else None
        except ValueError:
            value = None
    try:
        if isinstance(value, int | float) and math.isfinite(value):
            return value
    except OverflowError:  # a whole number beyond all floats
        pass
    raise ValueError(f"{_shown(value)} is no number")


_REFUSE = object()


def _json(text: str, *, or_else: Any = _REFUSE) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if or_else is _REFUSE:
            raise ValueError(f"no JSON: {error}") from None
        return or_else


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"lone surrogate at character {error.start}: no UTF-8 text can hold it") from None


def _check_storable(value: Any, depth: int = 1) -> None:
    """Raise where MongoDB could not hold it: too deep, NUL in a key, integers over 64 bits, no UTF-8."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        if "$ref" in value and not (isinstance(value["$ref"], str) and "$id" in value):
            raise ValueError("a key $ref that is no reference of MongoDB's, which reads it as one")
        for key, inner in value.items():
            if "\0" in key:
                raise ValueError(f"NUL in the key {_shown(key)}")
            _utf8(key)
            _check_storable(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_storable(inner, depth + 1)
    elif isinstance(value, str):
        _utf8(value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"an integer of {value.bit_length()} bits; 64 is the most")


def _shown(value: Any) -> str:
    """The value in an error's words: at most 40 characters, in ASCII escapes where it is no clean text."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
