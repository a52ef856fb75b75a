"""Faults on request: which request of the sandbox goes wrong, and how.

The rules and their bookkeeping, and the faults of a connection (status, cut, slow, silence), which are the
same for both servers. What a fault does to a page of rows is done in nocodb.py, to a run in dify.py and
workflows.py.

A set of faults is JSON, for `GET` and `PUT /sandbox/faults` and for `SandboxConfig.faults`:

    {"seed": 7, "rate_limit": {"requests": 5, "per_seconds": 1, "block_seconds": 30},
     "rules": [{"service": "nocodb", "kind": "status", "code": 429, "retry_after": 1, "next": 2},
               {"service": "dify", "kind": "cut_after", "probability": 0.05}]}

Every rule has `service` and `kind`, and says how often it strikes: `next` (that many requests, then never
again) or `probability` (of each request, drawn from `seed`; the default is 1); `skip` lets that many matching
requests pass first, `path` restricts it to requests whose path holds the text.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# A connection's faults, the same for both services.
TRANSPORT_KINDS: Mapping[str, str] = {
    "status": "answers `code` (429, 500, 502, ...), in HTML unless the code is 429 or `html` is false",
    "cut": "the connection is closed without an answer",
    "slow": "the answer comes `seconds` later",
    "silence": "no answer for `seconds`, then the connection is closed",
}
NOCODB_KINDS: Mapping[str, str] = {
    "delete_rows": "`rows` rows of the page that was just served are deleted after it",
    "insert_rows": "`rows` copies of the page's last row, with new business ids, are inserted after it",
    "update_rows": "`rows` rows of the page get a new UpdatedAt after it",
    "duplicate_rows": "the page repeats its last `rows` rows",
    "short_page": "the page lacks its last `rows` rows and still says it is not the last",
}
DIFY_KINDS: Mapping[str, str] = {
    "too_many": "400 `Too many requests`, as above the app's concurrency limit",
    "cut_before": "the stream is cut after its first ping, before any event; the run completes",
    "cut_after": "the stream is cut after `workflow_started`; the run completes",
    "cut_late": "the stream is cut just before `workflow_finished`; the run completes",
    "hang": "pings stop after the first; the run never starts and the stream closes without an event",
    "failed": "the run fails with `error`, in HTTP 200",
    "partial": "the run is partial-succeeded",
    "stopped": "the answer says `Stopped by user.`, the run goes on and succeeds",
    "paused": "the run waits for a person (`workflow_paused`)",
    "gateway": "a proxy answers 504 with a page; the run completes",
    "error_event": "an `error` event in place of the result",
    "empty": "the run succeeds with an empty text",
    "duplicate_events": "every event is sent twice",
}


class FaultError(ValueError):
    """A rule that cannot be understood; the message lists what can."""


@dataclass
class Rule:
    """One fault and how often it strikes; `seen` and `fired` count."""

    service: Literal["nocodb", "dify"]
    kind: str
    probability: float = 1.0
    next: int | None = None
    skip: int = 0
    path: str = ""
    code: int = 503
    retry_after: float | None = None
    html: bool = True
    seconds: float = 1.0
    rows: int = 1
    error: str = "Error code: 429 - rate limit reached for requests"
    seen: int = 0
    fired: int = 0

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Rule":
        """A rule from JSON.

        Raises:
            FaultError: an unknown service, kind or name.
        """
        known = [item.name for item in fields(cls) if item.name not in ("seen", "fired")]
        unknown = sorted(set(given) - set(known) - {"seen", "fired"})
        if unknown:
            raise FaultError(f"Unknown in a fault rule: {', '.join(unknown)}. Known: {', '.join(known)}.")
        own = {"nocodb": NOCODB_KINDS, "dify": DIFY_KINDS}.get(str(given.get("service")))
        if own is None:
            raise FaultError(f"A fault rule needs service nocodb or dify, not {given.get('service')!r}.")
        kinds = {**TRANSPORT_KINDS, **own}
        if given.get("kind") not in kinds:
            choices = "; ".join(f"{name}: {meaning}" for name, meaning in kinds.items())
            raise FaultError(f"No fault {given.get('kind')!r} of {given['service']}. There are {choices}.")
        return cls(**{name: given[name] for name in known if name in given})

    def strikes(self, draw: Callable[[], float]) -> bool:
        """Whether this request is struck; counts it either way."""
        self.seen += 1
        if self.seen <= self.skip or (self.next is not None and self.fired >= self.next):
            return False
        if self.probability < 1.0 and draw() >= self.probability:
            return False
        self.fired += 1
        return True


@dataclass(frozen=True)
class RateLimit:
    """NocoDB 0.301.4's throttle: above `requests` per `per_seconds`, 429 for `block_seconds`."""

    requests: int = 5
    per_seconds: float = 1.0
    block_seconds: float = 30.0


@dataclass
class Faults:
    """The rules in force, and what they did (`log`, newest last)."""

    seed: int = 0
    rules: list[Rule] = field(default_factory=list)
    rate_limit: RateLimit | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    _random: random.Random = field(default_factory=random.Random)
    _times: deque[float] = field(default_factory=deque)
    _blocked_until: float = 0.0

    def replace(self, given: Mapping[str, Any]) -> None:
        """Put other rules in force; nothing changes when they are wrong.

        Raises:
            FaultError: what is wrong with them.
        """
        if not isinstance(given, Mapping) or set(given) - {"seed", "rules", "rate_limit", "log", "kinds"}:
            raise FaultError("Faults are a JSON object of seed, rules (a list) and rate_limit.")
        rules = [Rule.parse(rule) for rule in given.get("rules", ())]
        limit = given.get("rate_limit")
        try:
            rate_limit = RateLimit(**limit) if limit else None
        except TypeError as error:
            raise FaultError(f"rate_limit takes requests, per_seconds and block_seconds: {error}") from error
        self.seed, self.rate_limit, self.rules, self.log = int(given.get("seed", 0)), rate_limit, rules, []
        self._random = random.Random(self.seed)  # noqa: S311  a repeatable draw, not a secret
        self._times.clear()
        self._blocked_until = 0.0

    def describe(self) -> dict[str, Any]:
        """The rules with their counts, as JSON."""
        return {
            "seed": self.seed,
            "rules": [asdict(rule) for rule in self.rules],
            "rate_limit": asdict(self.rate_limit) if self.rate_limit else None,
            "log": self.log,
            "kinds": {
                "nocodb": {**TRANSPORT_KINDS, **NOCODB_KINDS},
                "dify": {**TRANSPORT_KINDS, **DIFY_KINDS},
            },
        }

    def draw(self, service: str, kinds: Collection[str], path: str) -> Rule | None:
        """The first rule among `kinds` that strikes this request, or None."""
        for rule in self.rules:
            if (
                rule.service == service
                and rule.kind in kinds
                and rule.path in path
                and rule.strikes(self._random.random)
            ):
                return rule
        return None

    def throttled(self) -> bool:
        """Count one NocoDB request against the rate limit; True when it is above it or blocked."""
        if self.rate_limit is None:
            return False
        now = time.monotonic()
        if now < self._blocked_until:
            return True
        self._times.append(now)
        while self._times[0] <= now - self.rate_limit.per_seconds:
            self._times.popleft()
        if len(self._times) > self.rate_limit.requests:
            self._blocked_until = now + self.rate_limit.block_seconds
            self._times.clear()
            return True
        return False


async def strike(rule: Rule, scope: Scope, send: Send) -> bool:
    """Do a transport fault; True when the request is answered (or will never be), False to go on."""
    if rule.kind == "slow":
        await asyncio.sleep(rule.seconds)
        return False
    if rule.kind == "silence":
        await asyncio.sleep(rule.seconds)
        await cut(scope)
    elif rule.kind == "cut":
        await cut(scope)
    else:
        await _answer_status(rule, send)
    return True


async def cut(scope: Scope) -> None:
    """Close the connection at once, with whatever was sent so far."""
    transport: asyncio.Transport | None = scope.get("state", {}).get("transport")
    if transport is None:
        # Only under a server other than `serve`'s: it turns this into a broken answer.
        raise ConnectionAbortedError("cut on request")
    transport.close()
    # The server learns of the lost connection on the next turns of the loop and then drops what we send.
    for _ in range(3):
        await asyncio.sleep(0)


async def _answer_status(rule: Rule, send: Send) -> None:
    headers = [(b"content-type", b"text/html")]
    if rule.code == 429:
        headers = [(b"content-type", b"application/json; charset=utf-8")]
        body = b'{"statusCode":429,"message":"ThrottlerException: Too Many Requests"}'
    elif rule.html:
        title = f"{rule.code} {_REASONS.get(rule.code, 'Error')}"
        body = (
            f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
            "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        ).encode()
    else:
        headers = [(b"content-type", b"application/json")]
        body = b'{"message":"Internal Server Error","code":"unknown","status":%d}\n' % rule.code
    if rule.retry_after is not None:
        headers.append((b"retry-after", f"{rule.retry_after:g}".encode()))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": rule.code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_REASONS = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Temporarily Unavailable",
            504: "Gateway Time-out", 403: "Forbidden", 404: "Not Found"}  # fmt: skip
