"""Kinds of values in the portable part of SQL: few, and each the same in every engine.

All integers are 64 bits wide, all floats doubles; a local timestamp has no zone, an instant is in UTC.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from cai_assets.failures import PermanentError
from cai_assets.schemas.base import Table


@dataclass(frozen=True)
class Kind:
    """What a value is.

    Attributes:
        name: int, float, decimal, text, bool, date, instant, local (a timestamp of a zone's clock), list,
            struct, or null (of a bare NULL, which fits all).
        scale: of a decimal.
        item: kind of a list's items.
        fields: names and kinds of a struct's fields.
    """

    name: str
    scale: int = 0
    item: "Kind | None" = None
    fields: tuple[tuple[str, "Kind"], ...] = ()

    def __str__(self) -> str:
        """The kind, for people."""
        return f"list of {self.item}" if self.item else self.name

    @property
    def is_number(self) -> bool:
        """Whether it can be reckoned with."""
        return self.name in {"int", "float", "decimal", "null"}


INT = Kind("int")
FLOAT = Kind("float")
TEXT = Kind("text")
BOOL = Kind("bool")
DATE = Kind("date")
INSTANT = Kind("instant")
LOCAL = Kind("local")
NULL = Kind("null")

MONEY_SCALE = 8
MONEY = Kind("decimal", scale=MONEY_SCALE)
"""The only decimal: decimal(18, 8)."""

_SIMPLE = {
    pa.string(): TEXT,
    pa.bool_(): BOOL,
    pa.int32(): INT,
    pa.int64(): INT,
    pa.float64(): FLOAT,
    pa.date32(): DATE,
}


def kind_of(type_: pa.DataType) -> Kind:
    """The kind of a declared Arrow type.

    Raises:
        PermanentError: declarations use no such type.
    """
    if type_ in _SIMPLE:
        return _SIMPLE[type_]
    if pt.is_timestamp(type_):
        return INSTANT if type_.tz else LOCAL
    if pt.is_decimal(type_):
        return Kind("decimal", scale=type_.scale)
    if pt.is_list(type_):
        return Kind("list", item=kind_of(type_.value_type))
    if pt.is_struct(type_):
        return Kind("struct", fields=tuple((field.name, kind_of(field.type)) for field in type_))
    raise PermanentError(f"no kind is known for {type_}; add it to cai_assets/engines/portable/kinds.py")


def schema_of(table: Table) -> dict[str, Kind]:
    """Name and kind of each declared column."""
    return {column.name: kind_of(column.type) for column in table.columns}


def common(kinds: "list[Kind]") -> Kind | None:
    """The kind that all of these fit without loss, or None if there is none."""
    found = NULL
    for kind in kinds:
        if kind in (NULL, found):
            continue
        if found == NULL:
            found = kind
        elif {found.name, kind.name} == {"int", "float"}:
            found = FLOAT
        else:
            return None
    return found
