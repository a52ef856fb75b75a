"""What calls of language models cost: usage, the rows of the ledger, and the budget. No network, no database.

A row stands for one run of a workflow that was asked for (also a failed one), or for one message that was
served from the translation memory. Unknown usage is None and never 0: Dify says 0 where a provider gives
none.
"""

import math
import threading
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any, Final, Literal, TypeVar

Purpose = Literal["translation", "category"]
Number = TypeVar("Number", int, Decimal)

# The scale of schemas.base.MONEY, decimal128(18, 8).
_PRICE_UNIT: Final = Decimal("0.00000001")
_PRICE_CONTEXT: Final = Context(prec=18, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run used; None where nobody said.

    Attributes:
        tokens: prompt and completion together.
        price: in `currency`, eight decimals.
        currency: ISO 4217 code.
    """

    tokens: int | None = None
    price: Decimal | None = None
    currency: str | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """Both together; what one side does not know, the other stands for."""
        return Usage(
            _sum(self.tokens, other.tokens), _sum(self.price, other.price), self.currency or other.currency
        )

    def or_else(self, other: "Usage") -> "Usage":
        """This usage, with what it does not know taken from another account of the same run."""
        return Usage(
            self.tokens if self.tokens is not None else other.tokens,
            self.price if self.price is not None else other.price,
            self.currency or other.currency,
        )


UNKNOWN: Final = Usage()


def _sum(left: Number | None, right: Number | None) -> Number | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right


def money(value: object) -> Decimal | None:
    """A price as a decimal of eight places; None for what is no finite number, or is negative."""
    if value is None or isinstance(value, bool):
        return None
    try:
        # From its text: a float's binary digits would come along otherwise.
        price = Decimal(str(value))
        return (
            price.quantize(_PRICE_UNIT, context=_PRICE_CONTEXT) if price.is_finite() and price >= 0 else None
        )
    except InvalidOperation:
        return None


def usage_of(account: object) -> Usage:
    """Usage from an account as Dify writes it: `{total_tokens, total_price, currency, ...}`.

    A total of 0 tokens is taken for unknown, and its price with it: Dify writes 0 where the provider gave no
    usage, and no model answers for nothing.
    """
    if not isinstance(account, Mapping):
        return UNKNOWN
    tokens = account.get("total_tokens")
    if isinstance(tokens, bool) or not isinstance(tokens, int | float) or tokens <= 0:
        return UNKNOWN
    currency = account.get("currency")
    price = money(account.get("total_price"))
    return Usage(int(tokens), price, currency if price is not None and isinstance(currency, str) else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A row of the ledger (`llm_calls`).

    Attributes:
        call_id: key; the same call always has the same one.
        partition: of the conversation for which it was made.
        purpose: what for.
        status: `ok`, `failed`, or `cached` for a message served from the memory.
        conversation_id: for which it was made.
        message_id: for which it was made; None where it was for the whole conversation.
        run_id: the run of the platform in which it was made; budgets count by it.
        created_at: instant in UTC.
        usage: what it used.
        workflow_run_id: Dify's id of the run.
        latency_ms: from the question to the last event.
        attempts: requests sent for it; 0 where it was cached.
        error: why it failed.
    """

    call_id: str
    partition: str
    purpose: Purpose
    status: Literal["ok", "failed", "cached"]
    conversation_id: str
    message_id: str | None
    run_id: str
    created_at: datetime
    usage: Usage = UNKNOWN
    workflow_run_id: str | None = None
    latency_ms: int | None = None
    attempts: int = 0
    error: str | None = None

    def fields(self) -> dict[str, Any]:
        """The columns of `schemas.lake.LLM_CALLS`, the run, and the instant in whole microseconds.

        The price is still a `Decimal`; how the database holds it is the database's affair. MongoDB cuts dates
        to milliseconds, hence `created_us`.
        """
        return {
            "call_id": self.call_id,
            "partition": self.partition,
            "purpose": self.purpose,
            "status": self.status,
            "conversation_id": self.conversation_id,
            "message_id": self.message_id,
            "workflow_run_id": self.workflow_run_id,
            "tokens": self.usage.tokens,
            "price": self.usage.price,
            "currency": self.usage.currency,
            "latency_ms": self.latency_ms,
            "attempts": self.attempts,
            "error": self.error,
            "created_at": self.created_at,
            "created_us": microseconds(self.created_at),
            "run_id": self.run_id,
        }


def cached_call_id(message_id: str, memory_key: str) -> str:
    """Key of the row that says: this message was served from the memory; there is one, however often."""
    return "cached-" + blake2b(f"{message_id}\x1f{memory_key}".encode(), digest_size=16).hexdigest()


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exactly."""
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


# -- the budget

# Tokens of a prompt that nobody has seen yet, and the most of a character in and out together: Chinese and
# Thai come near one token a character, and a translation is about as long as its text.
_FIRST_FIXED: Final = 300
_MOST_PER_CHARACTER: Final = 2.5
# Where a call was dearer than that (a model that thinks aloud), the next may be dearer by this much again.
_MARGIN: Final = 1.25


class Budget:
    """Tokens and money that one run may still use. Threads share it.

    Every call is paid for beforehand by an estimate and settled afterwards; a call whose estimate does not
    fit any more is refused. A call's tokens are those of the prompt, which no call can undercut (so the
    cheapest one bounds them), and those of its characters. Before the first call is settled there is nothing
    to estimate from, so that one goes alone.

    Args:
        tokens: most tokens, or None for no limit.
        price: most money, or None.
        spent: what the run used before this object was made.
    """

    def __init__(self, tokens: int | None, price: Decimal | None, spent: Usage = UNKNOWN) -> None:
        self._limit_tokens = tokens
        self._limit_price = price
        self._tokens = spent.tokens or 0
        self._price = spent.price or Decimal(0)
        self._reserved: dict[int, int] = {}
        self._next = 0
        self._settled = False
        self._fixed: int | None = None
        self._dearest = 1.0
        self._token_price: Decimal | None = None
        self._exhausted = False
        self._change = threading.Condition()

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self._limit_tokens is not None or self._limit_price is not None

    @property
    def exhausted(self) -> bool:
        """Whether a call was refused; none is allowed after that, so that the rest is left in one piece."""
        return self._exhausted

    @property
    def reason(self) -> str:
        """Why calls are refused, as it is stored with what was left."""
        parts = []
        if self._limit_tokens is not None:
            parts.append(f"DIFY_BUDGET_TOKENS={self._limit_tokens}")
        if self._limit_price is not None:
            parts.append(f"DIFY_BUDGET_PRICE={self._limit_price}")
        return "budget reached: " + ", ".join(parts)

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
            while self._reserved and not self._exhausted and not (self._settled and self._fits(characters)):
                self._change.wait()
            if self._exhausted or not self._fits(characters):
                self._exhausted = True
                self._change.notify_all()
                return None
            estimate = self._estimate(characters)
            self._next += 1
            self._reserved[self._next] = estimate
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
                if usage.price is not None and tokens:
                    self._token_price = max(self._token_price or Decimal(0), usage.price / tokens)
                self._tokens += tokens
                self._price += self._cost(tokens) if usage.price is None else usage.price
            self._change.notify_all()

    def _expected(self, characters: int) -> float:
        return (_FIRST_FIXED if self._fixed is None else self._fixed) + _MOST_PER_CHARACTER * characters

    def _estimate(self, characters: int) -> int:
        return math.ceil(self._dearest * self._expected(characters))

    def _cost(self, tokens: int) -> Decimal:
        return tokens * (self._token_price or Decimal(0))

    def _fits(self, characters: int) -> bool:
        tokens = self._tokens + sum(self._reserved.values()) + self._estimate(characters)
        if self._limit_tokens is not None and tokens > self._limit_tokens:
            return False
        price = self._price + self._cost(tokens - self._tokens)
        return self._limit_price is None or price <= self._limit_price


# -- latencies


@dataclass(slots=True)
class Latencies:
    """Latencies of calls in ms, eight bytes each; quantiles by nearest rank."""

    _values: array = field(default_factory=lambda: array("q"))

    def add(self, milliseconds: Iterable[int]) -> None:
        """Take note of some more."""
        self._values.extend(milliseconds)

    def quantile(self, share: float) -> int | None:
        """The smallest latency that at least that share of the calls did not exceed; None without calls."""
        if not self._values:
            return None
        ranked = sorted(self._values)
        return int(ranked[max(0, math.ceil(share * len(ranked)) - 1)])
