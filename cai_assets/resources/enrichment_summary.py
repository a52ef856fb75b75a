"""What the enrichment did, in numbers that the UI shows. Nothing of a text is in them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cai_assets.domain.languages import UNDETERMINED
from cai_assets.domain.ledger import UNKNOWN, Latencies, Usage
from cai_assets.resources.dify_runs import Attempt


@dataclass(slots=True)
class LanguageSummary:
    """Languages of the live messages of some partitions.

    Attributes:
        messages: live messages.
        detected_now: of which detected in this run; the others had been before.
        by_language: messages by detected language, `und` among them.
        agreeing: messages whose detected language is the declared one.
        disagreeing: messages whose detected and declared languages differ; `und` and undeclared ones are
            neither.
    """

    messages: int = 0
    detected_now: int = 0
    by_language: Counter[str] = field(default_factory=Counter)
    agreeing: int = 0
    disagreeing: int = 0

    def metadata(self) -> dict[str, Any]:
        """For the UI: counts, and shares of 0 to 1."""
        compared = self.agreeing + self.disagreeing
        return {
            "messages": self.messages,
            "detected_now": self.detected_now,
            "undetermined": self.by_language[UNDETERMINED],
            "languages": dict(self.by_language.most_common()),
            **({"declared_agreement": self.agreeing / compared} if compared else {}),
        }


@dataclass(slots=True)
class Counts:
    """What became of the units (messages or conversations) of one partition.

    Attributes:
        needing: units that need an answer.
        done: of which have one now.
        cached: answers taken from the memory in this run.
        failed: asked without a usable answer.
        skipped: not asked: no key, or no budget left.
    """

    needing: int = 0
    done: int = 0
    cached: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def left(self) -> int:
        """What a later run will take up."""
        return self.needing - self.done

    def metadata(self) -> dict[str, Any]:
        """For the UI: counts, and whether all is done."""
        return {
            "needing": self.needing,
            "done": self.done,
            "cached": self.cached,
            "failed": self.failed,
            "skipped": self.skipped,
            "left": self.left,
            "complete": self.left == 0,
            **({"coverage": self.done / self.needing} if self.needing else {}),
        }

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            self.needing + other.needing,
            self.done + other.done,
            self.cached + other.cached,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )


@dataclass(slots=True)
class EnrichmentSummary:
    """What a run of translations or categories did.

    Attributes:
        by_partition: counts of each partition.
        asked: calls made.
        usage: tokens and price of all of them, also of failed runs; None where Dify never said.
        unknown_usage: calls whose usage Dify did not say.
        latencies: of the calls that were answered.
        reason: why something was skipped, where it was.
    """

    by_partition: dict[str, Counts] = field(default_factory=dict)
    asked: int = 0
    usage: Usage = UNKNOWN
    unknown_usage: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    reason: str | None = None

    def of(self, partition: str) -> Counts:
        """The counts of a partition, to be added to."""
        return self.by_partition.setdefault(partition, Counts())

    @property
    def total(self) -> Counts:
        """Sum over the partitions."""
        return sum(self.by_partition.values(), Counts())

    def note_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Take in the runs of one call."""
        for attempt in attempts:
            self.asked += attempt.requests > 0
            self.usage += attempt.usage
            self.unknown_usage += attempt.usage.tokens is None
            if attempt.error is None:
                self.latencies.add((attempt.latency_ms,))

    def metadata(self) -> dict[str, Any]:
        """For the UI: counts, tokens, price, latencies in ms; what is not known is left out."""
        known = {
            "tokens": self.usage.tokens,
            "price": None if self.usage.price is None else float(self.usage.price),
            "currency": self.usage.currency,
            "latency_p50_ms": self.latencies.quantile(0.5),
            "latency_p95_ms": self.latencies.quantile(0.95),
            "skipped_because": self.reason,
        }
        return {
            **self.total.metadata(),
            "asked": self.asked,
            "calls_of_unknown_usage": self.unknown_usage,
            **{name: value for name, value in known.items() if value is not None},
        }

    def progress(self) -> str:
        """One line for the log."""
        total = self.total
        price = (
            "" if self.usage.price is None else f", {self.usage.price:f} {self.usage.currency or ''}".rstrip()
        )
        unknown = f" (unknown of {self.unknown_usage} calls)" if self.unknown_usage else ""
        latency = ""
        for share in (50, 95):
            if (milliseconds := self.latencies.quantile(share / 100)) is not None:
                latency += f", p{share} {milliseconds} ms"
        return (
            f"{total.done} done ({total.cached} from the memory), {total.failed} failed, "
            f"{total.skipped} skipped, {total.left} left; {self.asked} calls, "
            f"{self.usage.tokens or 0} tokens{price}{unknown}{latency}"
        )

    def unfinished(self) -> Iterator[str]:
        """One line for each partition that is done in part."""
        for partition, counts in sorted(self.by_partition.items()):
            if counts.left:
                why = f" ({self.reason})" if counts.skipped and self.reason else ""
                yield (
                    f"{partition} is done in part: {counts.left} of {counts.needing} left, of them "
                    f"{counts.failed} failed, {counts.skipped} not asked{why}; materialise it again to go on"
                )
