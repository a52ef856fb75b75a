"""Which values go together: what a value becomes where another kind is wanted, and what is refused.

What stands in a text of SQL is read in `expressions` and `moments`; here are the rules that they share.
"""

from typing import Protocol

from sqlglot import exp

from cai_assets.engines.portable.kinds import FLOAT, INT, NULL, Kind
from cai_assets.engines.portable.plan import Call, Expr, Lit
from cai_assets.engines.portable.vocabulary import Refusal, shown


class Refused(Exception):  # noqa: N818  it never leaves the readers
    """One construct that cannot be read."""

    def __init__(self, node: exp.Expr, mend: str) -> None:
        super().__init__(str(node))
        self.refusal = Refusal(shown(node), mend)


class Reader(Protocol):
    """Reads what an expression is made of."""

    def read(self, node: exp.Expr) -> Expr:
        """The expression."""

    def read_as(self, node: exp.Expr, kind: Kind, mend: str) -> Expr:
        """The expression as that kind, or refused with that mend."""


def fitted(value: Expr, kind: Kind) -> Expr | None:
    """The value as that kind where nothing is lost and every engine does it by itself, else None."""
    if value.kind == kind:
        return value
    if value.kind == NULL:
        return Call("null_to", (value,), kind)
    if (value.kind, kind) == (INT, FLOAT):
        if isinstance(value, Lit) and isinstance(value.value, int):
            return Lit(float(value.value), FLOAT)
        return Call("int_to_float", (value,), FLOAT)
    return None


def sure(value: Expr, kind: Kind) -> Expr:
    """`fitted`, of kinds that are known to be common."""
    found = fitted(value, kind)
    assert found is not None  # noqa: S101
    return found


def refuse_points(node: exp.Expr, left: Expr, right: Expr) -> None:
    """Refuse 0.5 beside an integer: it is a decimal in some engines, so the result would be one too."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Lit) and one.is_point and other.kind != FLOAT:
            raise Refused(node, f"{one.value:e} beside whole numbers: with a point alone it is a decimal")
