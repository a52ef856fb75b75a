"""What calls of language models cost: usage and the rows of the ledger. No network, no database.

A row stands for one run of a workflow that was asked for (also a failed one), for the part of one text in a
run that was asked about several, or for one message that was served from the translation memory. Unknown
usage is None and never 0: Dify says 0 where a provider gives none. Limits of what may be used are
`domain.budget`'s.
"""

import math
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
        model: the language model, as Dify names it; the first where there were several.
    """

    tokens: int | None = None
    price: Decimal | None = None
    currency: str | None = None
    model: str | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """Both together; what one side does not know, the other stands for."""
        return Usage(
            _sum(self.tokens, other.tokens),
            _sum(self.price, other.price),
            self.currency or other.currency,
            self.model or other.model,
        )

    def or_else(self, other: "Usage") -> "Usage":
        """This usage, with what it does not know taken from another account of the same run."""
        return Usage(
            self.tokens if self.tokens is not None else other.tokens,
            self.price if self.price is not None else other.price,
            self.currency or other.currency,
            self.model or other.model,
        )

    def share(self, place: int, of: int) -> "Usage":
        """The part of one of the `of` texts that were asked about together, by its place from 0.

        The parts of all places add up to the whole, to the last token and the last hundred-millionth. They
        are even, so that a part can be told without the other texts.
        """
        if of == 1:
            return self
        units = None if self.price is None else int(self.price / _PRICE_UNIT)
        price = None if units is None else _part(units, place, of) * _PRICE_UNIT
        tokens = None if self.tokens is None else _part(self.tokens, place, of)
        return Usage(tokens, price, self.currency, self.model)


UNKNOWN: Final = Usage()


def _part(whole: int, place: int, of: int) -> int:
    return whole * (place + 1) // of - whole * place // of


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
        attempts: requests sent for it; 0 where it was cached, and for all but the first text of a run that
            was asked about several.
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
            "model": self.usage.model,
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
