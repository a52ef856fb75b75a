"""Metrics of how long users waited: the four clocks of marts.response, in calendar and in business time.

Where a value is of one clock, its name says so (`reply_p50_s`, in business time `reply_bh_p50_s`);
`response_*` are of the clock and the hours of their row. The SQL of `response_*` is of the clock `reply` and
of calendar time; for the others read the mart, or the columns of the facts.
"""

from cai_assets.schemas.metrics.declaring import (
    NUMBER,
    Metric,
    conversations,
    quantile,
    ratio,
    statistic,
    total,
)

_WAITS = "facts.fct_wait where traffic_class = 'live'"
_REPLY = "clock = 'reply' and hours = 'calendar'"
_TALKS = "facts.fct_conversation where is_counted"


def _response(name: str, title: str, heading: str, definition: str, expression: str) -> Metric:
    return statistic(
        f"response_{name}",
        title,
        f"{definition} Percentiles are exact and interpolated linearly; they must not be averaged.",
        sql=f"select {expression} from {_WAITS}",
        heading=heading,
    )


def _clock(name: str, title: str, meaning: str, column: str, source: str) -> tuple[Metric, ...]:
    """Median and 90th percentile of a clock, in calendar time and in business time."""
    return (
        *_percentiles(name, title, f"{meaning}. A clock that nobody stopped has none", column, source),
        *_percentiles(
            f"{name}_bh",
            f"{title} in business time",
            f"{meaning}, within BUSINESS_HOURS alone. A clock that nobody stopped has none",
            column.removesuffix("_s") + "_bh_s",
            source,
        ),
    )


def _percentiles(name: str, title: str, meaning: str, column: str, source: str) -> tuple[Metric, ...]:
    return tuple(
        statistic(
            f"{name}_p{percent}_s",
            f"{title}, {'median' if percent == 50 else f'{percent}th percentile'}",
            f"{'Median' if percent == 50 else f'{percent}th percentile'} of the time {meaning}.",
            sql=quantile(column, percent / 100, source),
            heading=f"{title}, median" if percent == 50 else f"{title}, p{percent}",
            made_of=(f"{source.split()[0]}.{column}",),
        )
        for percent in (50, 90)
    )


def _target(n: int) -> tuple[Metric, ...]:
    limit = f"$target_{n}_us"
    decided = f"(replied_at_us is not null or $as_of_us - waiting_since_us > {limit})"
    within = f"replied_at_us - waiting_since_us <= {limit}"
    name = ("first", "second", "third")[n - 1]
    return (
        conversations(
            f"within_target_{n}",
            f"Within target {n}",
            f"Clocks that stopped within the {name} of RESPONSE_TARGETS.",
            mart="response",
            where=_REPLY,
            facts=f"select count(*) from {_WAITS} and {within}",
            unit="waits",
        ),
        conversations(
            f"decided_{n}",
            f"Decided by target {n}",
            f"Clocks that stopped, or have run for longer than the {name} of RESPONSE_TARGETS at as_of.",
            mart="response",
            where=_REPLY,
            facts=f"select count(*) from {_WAITS} and {decided}",
            unit="waits",
        ),
        ratio(
            f"within_target_{n}_pct",
            f"Within target {n}, share",
            f"Share of clocks that stopped within the {name} of RESPONSE_TARGETS among those decided: one "
            "that still runs and is younger than the target counts on neither side.",
            numerator=f"within_target_{n}",
            denominator=f"decided_{n}",
            mart="response",
            where=_REPLY,
            facts=(
                f"select sum(case when {within} then 1 else 0 end) "
                f"/ nullif(sum(case when {decided} then 1 else 0 end), 0) from {_WAITS}"
            ),
        ),
    )


METRICS = (
    *_clock(
        "first_response",
        "First response",
        "from the user's first message to the first message of a bot or an agent at or after it",
        "first_response_s",
        _TALKS,
    ),
    *_clock(
        "first_human_response",
        "First human response",
        "from the user's first message to the first message of an agent at or after it",
        "first_human_response_s",
        _TALKS,
    ),
    *_clock(
        "after_handoff",
        "Human response after hand-off",
        "from the last bot message before the first agent's (else the user's first) to that agent's message",
        "human_response_after_handoff_s",
        _TALKS,
    ),
    *_clock(
        "reply",
        "Reply time",
        "from the first message of a user turn to the next message of a bot or an agent",
        "reply_s",
        _WAITS,
    ),
    conversations(
        "response_n",
        "Waits answered",
        "Clocks that stopped: a bot or an agent answered.",
        mart="response",
        where=_REPLY,
        column="n",
        facts=f"select count(replied_at_us) from {_WAITS}",
        unit="waits",
        heading="Answered",
    ),
    conversations(
        "response_n_open",
        "Waits open",
        "Clocks still running: nobody answered. For first_human those that no bot answered either; for "
        "after_handoff always 0, as a hand-off is only seen when an agent answers.",
        mart="response",
        where=_REPLY,
        column="n_open",
        facts=f"select count(*) from {_WAITS} and replied_at_us is null",
        unit="waits",
        heading="Open",
    ),
    total(
        "response_sum_s",
        "Time waited",
        "Sum of the durations of the clocks that stopped; over response_n, the mean of any rows.",
        unit="s",
        sql=f"select sum(sum_s) from marts.response where {_REPLY}",
        facts=f"select sum(reply_s) from {_WAITS}",
        type=NUMBER,
        nullable=True,
    ),
    statistic(
        "response_avg_s",
        "Response time, mean",
        "Mean duration of the clocks that stopped.",
        sql=f"select avg(reply_s) from {_WAITS}",
        heading="Mean",
    ),
    _response(
        "p50_s",
        "Response time, median",
        "Median",
        "Median of the clocks that stopped.",
        "quantile_cont(reply_s, 0.5)",
    ),
    _response(
        "p90_s",
        "Response time, 90th percentile",
        "p90",
        "90th percentile of the clocks that stopped.",
        "quantile_cont(reply_s, 0.9)",
    ),
    _response(
        "p95_s",
        "Response time, 95th percentile",
        "p95",
        "95th percentile of the clocks that stopped.",
        "quantile_cont(reply_s, 0.95)",
    ),
    _response(
        "p99_s",
        "Response time, 99th percentile",
        "p99",
        "99th percentile of the clocks that stopped.",
        "quantile_cont(reply_s, 0.99)",
    ),
    statistic(
        "response_max_s",
        "Response time, longest",
        "Longest duration of a clock that stopped.",
        sql=f"select max(reply_s) from {_WAITS}",
        heading="Longest",
    ),
    *_target(1),
    *_target(2),
    *_target(3),
)
