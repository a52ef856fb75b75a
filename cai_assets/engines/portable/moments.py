"""Reading the functions of texts, dates and instants: which there are, and where engines would differ.

Everything else that an expression is made of is read in `expressions`, which looks here for these.
"""

from collections.abc import Callable
from typing import Final

from sqlglot import exp

from cai_assets.engines.portable.fitting import Reader, Refused
from cai_assets.engines.portable.kinds import DATE, INSTANT, INT, LOCAL, TEXT
from cai_assets.engines.portable.plan import Call, Expr, Lit, Param

DATE_FORMATS: Final = ("%Y-%m-%d", "%Y-%m", "%Y")


# -- texts


def _concat(reader: Reader, node: exp.DPipe) -> Expr:
    mend = "cast(x as varchar) || ..."
    return Call("concat", tuple(reader.read_as(n, TEXT, mend) for n in (node.this, node.expression)), TEXT)


def _text(reader: Reader, node: exp.Func) -> Expr:
    value = reader.read_as(node.this, TEXT, "a text")
    return Call("lower", (value,), TEXT) if isinstance(node, exp.Lower) else Call("length", (value,), INT)


def _split_part(reader: Reader, node: exp.SplitPart) -> Expr:
    value = reader.read_as(node.this, TEXT, "a text")
    by, place = reader.read(node.args["delimiter"]), reader.read(node.args["part_index"])
    if not (isinstance(by, Lit) and by.kind == TEXT and by.value):
        raise Refused(node, "a constant delimiter")
    if not (isinstance(place, Lit) and isinstance(place.value, int) and place.value > 0):
        raise Refused(node, "a constant place, from 1")
    return Call("split_part", (value, by, place), TEXT)


# -- dates and instants


def truncated(reader: Reader, node: exp.TimestampTrunc | exp.DateTrunc) -> Expr:
    """The first day of the week or month that a date lies in."""
    unit = node.text("unit").upper()
    if unit not in {"WEEK", "MONTH"}:
        raise Refused(node, "date_trunc('week', ...) or date_trunc('month', ...)")
    day = reader.read_as(node.this, DATE, "a date: cast(x as date)")
    return Call("week" if unit == "WEEK" else "month_start", (day,), DATE)


def _bare_truncated(_: Reader, node: exp.Expr) -> Expr:
    raise Refused(node, "cast(date_trunc(...) as date): it is a timestamp in some engines")


def _date_diff(reader: Reader, node: exp.DateDiff) -> Expr:
    unit = node.text("unit").upper()
    if unit not in {"DAY", "MONTH"}:
        raise Refused(node, "date_diff of 'day' or 'month', or instants in microseconds, subtracted")
    # The parser keeps the later one first.
    start = reader.read_as(node.expression, DATE, "a date: cast(x as date)")
    end = reader.read_as(node.this, DATE, "a date: cast(x as date)")
    return Call("days_between" if unit == "DAY" else "months_between", (start, end), INT)


def _format_date(reader: Reader, node: exp.TimeToStr) -> Expr:
    format_ = reader.read(node.args["format"])
    if not isinstance(format_, Lit) or format_.value not in DATE_FORMATS:
        raise Refused(node, f"one of the formats {', '.join(DATE_FORMATS)}")
    day = reader.read_as(node.this, DATE, "a date: cast(x as date)")
    return Call("format_date", (day, format_), TEXT)


def _extract(reader: Reader, node: exp.Extract) -> Expr:
    part = node.name.lower()
    value = reader.read(node.expression)
    if part == "hour" and value.kind != LOCAL:
        raise Refused(node, "extract(hour from x at time zone $report_timezone)")
    if part not in {"year", "month", "day", "hour", "isodow"} or value.kind not in (LOCAL, DATE):
        raise Refused(node, "year, month, day, isodow of a date or a local timestamp")
    return Call(part, (value,), INT)


def _at_zone(reader: Reader, node: exp.AtTimeZone) -> Expr:
    value, zone = reader.read(node.this), reader.read(node.args["zone"])
    if value.kind != INSTANT or not isinstance(zone, Lit | Param) or zone.kind != TEXT:
        raise Refused(node, "an instant of the lake at time zone $report_timezone")
    return Call("at_zone", (value, zone), LOCAL)


def _anonymous(reader: Reader, node: exp.Anonymous) -> Expr:
    if node.name.lower() != "epoch_us" or len(node.expressions) != 1:
        raise Refused(node, "epoch_us(instant)")
    return Call("epoch_us", (reader.read_as(node.expressions[0], INSTANT, "an instant"),), INT)


MOMENTS: Final[dict[type[exp.Expr], Callable[..., Expr]]] = {
    exp.DPipe: _concat,
    exp.Lower: _text,
    exp.Length: _text,
    exp.SplitPart: _split_part,
    exp.TimestampTrunc: _bare_truncated,
    exp.DateTrunc: _bare_truncated,
    exp.DateDiff: _date_diff,
    exp.TimeToStr: _format_date,
    exp.Extract: _extract,
    exp.AtTimeZone: _at_zone,
    exp.Anonymous: _anonymous,
}
"""What reads each of them."""
