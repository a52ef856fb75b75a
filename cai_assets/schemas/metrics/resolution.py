"""Metrics of what was resolved, how soon, by how many hands, and whether it lasted."""

from cai_assets.schemas.metrics.declaring import (
    NUMBER,
    Metric,
    conversations,
    distinct,
    quantile,
    ratio,
    statistic,
    total,
)

_TALKS = "facts.fct_conversation where is_counted and not is_empty"
_SETTLED = "(is_undone or $as_of_us - last_resolved_us > 604800000000)"


def _percentile(which: str, percent: int, *, business: bool = False) -> Metric:
    name = "Median" if percent == 50 else f"{percent}th percentile"
    title = f"{which.title()} resolution{' in business time' if business else ''}"
    hours = ", within BUSINESS_HOURS alone" if business else ""
    bh, short = ("_bh", " in business time") if business else ("", "")
    return statistic(
        f"resolution_{which}{bh}_p{percent}_s",
        f"{title}, {name.lower()}",
        f"{name} of the time from a conversation's first counted message to its {which} resolve{hours}, "
        "exact and interpolated linearly; one that was never resolved has none.",
        sql=quantile(f"resolution_{which}{bh}_s", percent / 100, _TALKS),
        heading=f"{which.title()}{short}, median" if percent == 50 else f"{which.title()}{short}, p{percent}",
    )


def _durable(percent: int) -> Metric:
    name = "Median" if percent == 50 else f"{percent}th percentile"
    return statistic(
        f"resolution_durable_p{percent}_s",
        f"Durable resolution, {name.lower()}",
        f"{name} of the time from first counted message to last resolve of the durable resolutions, exact "
        "and interpolated linearly.",
        sql=quantile(
            "resolution_last_s", percent / 100, f"{_TALKS} and resolves > 0 and {_SETTLED} and not is_undone"
        ),
        heading="Durable, median" if percent == 50 else f"Durable, p{percent}",
    )


def _touched(name: str, title: str, words: str, condition: str) -> Metric:
    return conversations(
        name,
        title,
        f"Resolved conversations with {words} up to the last resolve; turns of bots are none.",
        mart="resolution",
        facts=f"select count(*) from {_TALKS} and resolves > 0 and touches {condition}",
    )


METRICS = (
    conversations(
        "resolved",
        "Conversations resolved",
        "Conversations resolved at least once, whatever came later.",
        mart="resolution",
        facts=f"select count(*) from {_TALKS} and resolves > 0",
        heading="Resolved",
    ),
    ratio(
        "resolution_rate",
        "Resolved",
        "Share of the conversations started that were resolved at least once.",
        numerator="resolved",
        denominator="conversations_started",
        mart="resolution",
        columns=("resolved", "started"),
        facts=f"select sum(case when resolves > 0 then 1 else 0 end) / nullif(count(*), 0) from {_TALKS}",
    ),
    conversations(
        "reopened",
        "Conversations reopened",
        "Conversations reopened within 7 days of a resolve at least once; a later reopening is an episode of "
        "its own.",
        mart="resolution",
        facts=f"select count(*) from {_TALKS} and reopens > 0",
        heading="Reopened",
    ),
    ratio(
        "reopen_rate",
        "Reopened",
        "Share of the resolved conversations that were reopened within 7 days at least once.",
        numerator="reopened",
        denominator="resolved",
        mart="resolution",
    ),
    conversations(
        "settled",
        "Resolutions decided",
        "Resolved conversations whose durability is decided: the last resolve was reopened within 7 days, or "
        "7 days have passed at as_of.",
        mart="resolution",
        facts=f"select count(*) from {_TALKS} and resolves > 0 and {_SETTLED}",
    ),
    conversations(
        "durable",
        "Durable resolutions",
        "Decided conversations whose last resolve was not reopened within 7 days.",
        mart="resolution",
        facts=f"select count(*) from {_TALKS} and resolves > 0 and {_SETTLED} and not is_undone",
    ),
    ratio(
        "durable_rate",
        "Durable",
        "Share of the decided resolutions that lasted: not reopened within 7 days of the last resolve.",
        numerator="durable",
        denominator="settled",
        mart="resolution",
    ),
    conversations(
        "resolution_events",
        "Resolves",
        "Times that a conversation was resolved; one that is resolved again counts again.",
        mart="resolution",
        facts=f"select sum(resolves) from {_TALKS}",
        unit="events",
    ),
    distinct(
        "resolution_users",
        "Users with a resolved conversation",
        "Distinct users with a conversation that was resolved at least once. Those of several rows must not "
        "be added.",
        sql=f"select count(distinct user_id) from {_TALKS} and resolves > 0",
    ),
    conversations(
        "resolution_n",
        "Resolutions with a duration",
        "Conversations with a last resolve that is not before the first counted message.",
        mart="resolution",
        facts=f"select count(resolution_last_s) from {_TALKS}",
    ),
    _percentile("first", 50),
    _percentile("first", 90),
    _percentile("last", 50),
    _percentile("last", 90),
    _durable(50),
    _durable(90),
    _percentile("first", 50, business=True),
    _percentile("first", 90, business=True),
    _percentile("last", 50, business=True),
    _percentile("last", 90, business=True),
    total(
        "resolution_last_sum_s",
        "Time to last resolve",
        "Sum of the times from first counted message to last resolve; over resolution_n, the mean.",
        unit="s",
        sql="select sum(last_sum_s) from marts.resolution",
        facts=f"select sum(resolution_last_s) from {_TALKS}",
        type=NUMBER,
        nullable=True,
    ),
    _touched("zero_touch", "Resolved without an agent", "no turn of an agent", "= 0"),
    _touched("one_touch", "One-touch resolutions", "one turn of an agent", "= 1"),
    _touched("two_touch", "Two-touch resolutions", "two turns of an agent", "= 2"),
    _touched("multi_touch", "Multi-touch resolutions", "three or more turns of an agent", "> 2"),
)
