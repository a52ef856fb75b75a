"""How much language models may still use: limits of tokens and money for a run and for a day.

No network, no database: what was spent before is handed in.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from cai_assets.domain.ledger import UNKNOWN, Usage

# Tokens of a prompt that nobody has seen yet, and the most of a character in and out together: Chinese and
# Thai come near one token a character, and a translation is about as long as its text.
_FIRST_FIXED: Final = 300
_MOST_PER_CHARACTER: Final = 2.5
# Where a call was dearer than that (a model that thinks aloud), the next may be dearer by this much again.
_MARGIN: Final = 1.25
# Calls whose tokens are told and whose price is not, before a limit of money is taken for one that cannot be
# kept.
_MOST_WITHOUT_PRICE: Final = 3


@dataclass(slots=True)
class Limit:
    """The most that may be used in one run, or on one day.

    Attributes:
        name: the setting's name without its unit: `DIFY_BUDGET`, or `DIFY_BUDGET_..._PER_DAY` as `{}`.
        tokens: most tokens, or None.
        price: most money, or None.
        spent: what was used before.
        today: tells the day, for a limit that begins anew with each; None for one that does not.
    """

    name: str
    tokens: int | None
    price: Decimal | None
    spent: Usage = UNKNOWN
    today: Callable[[], date] | None = None

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.tokens is not None or self.price is not None

    def __str__(self) -> str:
        """The settings, as they are written."""
        parts = []
        if self.tokens is not None:
            parts.append(f"{self.name.format('TOKENS')}={self.tokens}")
        if self.price is not None:
            parts.append(f"{self.name.format('PRICE')}={self.price}")
        return ", ".join(parts)


RUN: Final = "DIFY_BUDGET_{}"
DAY: Final = "DIFY_BUDGET_{}_PER_DAY"


class _Spent:
    """What counts against one limit, settled calls alone."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.tokens = limit.spent.tokens or 0
        self.price = limit.spent.price or Decimal(0)
        self._day = limit.today() if limit.today else None

    def turn(self) -> None:
        """Begin anew where the day is another; what is under way counts for the new one."""
        if self.limit.today is not None and (day := self.limit.today()) != self._day:
            self.tokens, self.price, self._day = 0, Decimal(0), day

    def fits(self, tokens: int, price: Decimal) -> bool:
        limit = self.limit
        return (limit.tokens is None or self.tokens + tokens <= limit.tokens) and (
            limit.price is None or self.price + price <= limit.price
        )


class Budget:
    """Tokens and money that may still be used. Threads share it.

    Every call is paid for beforehand by an estimate and settled afterwards; a call whose estimate does not
    fit any more is refused. A call's tokens are those of the prompt, which no call can undercut (so the
    cheapest one bounds them), and those of its characters. Before the first call is settled there is nothing
    to estimate from, so that one goes alone.

    Args:
        limits: all of them hold.
    """

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._spent = [_Spent(limit) for limit in limits if limit.limited]
        self._reserved: dict[int, int] = {}
        self._next = 0
        self._settled = False
        self._fixed: int | None = None
        self._dearest = 1.0
        self._token_price: Decimal | None = None
        self._without_price = 0
        self._reason: str | None = None
        self._change = threading.Condition()

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self._spent)

    @property
    def exhausted(self) -> bool:
        """Whether a call was refused; none is allowed after that, so that the rest is left in one piece."""
        return self._reason is not None

    @property
    def reason(self) -> str:
        """Why calls are refused, as it is stored with what was left."""
        return self._reason or "budget not reached"

    def reserve(self, characters: int) -> int | None:
        """Set aside what a call over a text of that length may use.

        Waits while the first call, or too much to fit another, is under way.

        Returns:
            A number to settle it with, or None where the budget would be passed. What is reserved must be
            settled, or others wait for ever.
        """
        if not self.limited:
            return -1
        with self._change:
            # What is under way was estimated dearly: once it is settled there may be room again.
            while (
                self._reserved
                and not self.exhausted
                and (not self._settled or self._passed(characters) is not None)
            ):
                self._change.wait()
            if not self.exhausted and (passed := self._passed(characters)) is not None:
                self._reason = passed
            if self.exhausted:
                self._change.notify_all()
                return None
            self._next += 1
            self._reserved[self._next] = self._estimate(characters)
            return self._next

    def settle(self, reservation: int, characters: int, usage: Usage, *, asked: bool = True) -> None:
        """Replace an estimate by what was used; where nobody said, the estimate stands.

        Args:
            reservation: what `reserve` gave.
            characters: the same as then.
            usage: of all runs of the call together.
            asked: False where no run came about, which costs nothing.
        """
        if reservation < 0:
            return
        with self._change:
            estimate = self._reserved.pop(reservation)
            if asked:
                self._settled = True
                tokens = estimate if usage.tokens is None else usage.tokens
                if usage.tokens is not None:
                    self._fixed = tokens if self._fixed is None else min(self._fixed, tokens)
                    self._dearest = max(self._dearest, _MARGIN * tokens / self._expected(characters))
                self._without_price += usage.tokens is not None and usage.price is None
                if usage.price is not None and tokens:
                    self._token_price = max(self._token_price or Decimal(0), usage.price / tokens)
                for spent in self._spent:
                    spent.turn()
                    spent.tokens += tokens
                    spent.price += self._cost(tokens) if usage.price is None else usage.price
            self._change.notify_all()

    def _expected(self, characters: int) -> float:
        return (_FIRST_FIXED if self._fixed is None else self._fixed) + _MOST_PER_CHARACTER * characters

    def _estimate(self, characters: int) -> int:
        return math.ceil(self._dearest * self._expected(characters))

    def _cost(self, tokens: int) -> Decimal:
        return tokens * (self._token_price or Decimal(0))

    def _passed(self, characters: int) -> str | None:
        """Why another call must not be made, or None."""
        tokens = sum(self._reserved.values()) + self._estimate(characters)
        priceless = self._token_price is None and self._without_price >= _MOST_WITHOUT_PRICE
        for spent in self._spent:
            spent.turn()
            if not spent.fits(tokens, self._cost(tokens)):
                return f"budget reached: {spent.limit}"
            if priceless and spent.limit.price is not None:
                return (
                    f"{spent.limit} cannot be kept, as Dify tells no price: limit tokens instead, or give "
                    "the LLM node's usage as the workflow's output `usage`"
                )
        return None
