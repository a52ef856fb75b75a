"""The tables that people take away: what the dashboard shows without a filter, and one row per conversation.

A sheet is a SELECT over report queries, each standing for its rows of the days asked for. How sheets become
files
is `domain.sheets`'s.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any

import pyarrow as pa

from cai_assets.domain.groups import group_of_sheet
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import TablePath, load_queries

Files = Callable[..., Sequence[str]]
"""The files of a table, of some partitions (`partitions=`) or all."""

FACT = ("facts", "fct_conversation")

_PERCENTILES = (
    "quantile_cont(duration_s, 0.5) as {0}p50_s, quantile_cont(duration_s, 0.9) as {0}p90_s, "
    "quantile_cont(duration_s, 0.95) as {0}p95_s, quantile_cont(duration_s, 0.99) as {0}p99_s, "
    "max(duration_s) as {0}max_s"
).format("response_")
_TARGETS = ", ".join(
    f"sum(within_target_{n}) / nullif(sum(decided_{n}), 0) as within_target_{n}_pct" for n in (1, 2, 3)
)
# Clocks in the order in which a conversation meets them; those of resolutions are a sheet of their own.
_CLOCK_NO = (
    "list_position(['first', 'first_human', 'after_handoff', 'reply', 'first_business', "
    "'first_human_business', "
    "'after_handoff_business', 'reply_business'], clock)"
)


def _sums(*names: str) -> str:
    return ", ".join(f"cast(coalesce(sum({name}), 0) as bigint) as {name}" for name in names)


def _responses(grain: str) -> str:
    """Answered, open, percentiles and targets of each clock, by further columns or by none."""
    keys = f"{grain}, clock" if grain else "clock"
    on = " and ".join(f"counts.{key.strip()} = times.{key.strip()}" for key in keys.split(","))
    named = "".join(f"counts.{key.strip()}, " for key in keys.split(","))
    return f"""
    with counts as (
        select {keys}, {_sums("response_n", "response_n_open")}, {_TARGETS} from [cube_clocks] group by all
    ), times as (
        select {keys}, {_PERCENTILES} from [durations] where duration_s is not null group by all
    )
    select {named}counts.* exclude ({keys}), times.* exclude ({keys})
    from counts left join times on {on}
    order by {"counts." + grain + ", " if grain else ""}{_CLOCK_NO.replace("clock)", "counts.clock)")}
    """


def _resolution(by: str) -> str:
    counts = _sums(
        *("conversations", "conversations_started", "resolved", "reopened", "settled", "durable"),
        *("bot_conversations", "contained", "handed_off", "resolution_events"),
        *("zero_touch", "one_touch", "two_touch", "multi_touch", "csat_answered", "csat_positive"),
    )
    return f"""
    with counts as (
        select {by}, {counts},
            sum(resolved) / nullif(sum(conversations_started), 0) as resolution_rate,
            sum(durable) / nullif(sum(settled), 0) as durable_rate,
            sum(contained) / nullif(sum(bot_conversations), 0) as containment_rate,
            sum(csat_positive) / nullif(sum(csat_answered), 0) as csat
        from [cube_conversations] group by all
    ), times as (
        select {by},
            quantile_cont(case when clock = 'resolution_first' then duration_s end, 0.5) as
            resolution_first_p50_s,
            quantile_cont(case when clock = 'resolution_last' then duration_s end, 0.5) as
            resolution_last_p50_s,
            quantile_cont(case when clock = 'resolution_last' then duration_s end, 0.9) as
            resolution_last_p90_s
        from [durations] group by all
    )
    select counts.*, times.* exclude ({by})
    from counts left join times on counts.{by} = times.{by}
    order by counts.conversations desc, counts.{by}
    """


SHEETS: Mapping[str, tuple[str, str]] = {
    "volume": (
        "Conversations and messages per day",
        f"""
        with counted as (
            select report_date, conversations, conversations_started from [cube_conversations]
            union all by name
            select report_date, conversations_active, user_messages, bot_messages, agent_messages, waits
            from [cube_traffic]
        ), users as (
            select report_date, count(distinct user_no) as users_writing from [cube_users] group by all
        ), daily as (
            select report_date, {_sums("conversations", "conversations_started", "conversations_active")},
                cast(coalesce(sum(user_messages + bot_messages + agent_messages), 0) as bigint) as messages,
                {_sums("user_messages", "bot_messages", "agent_messages", "waits")}
            from counted group by all
        ), spine as (
            select cast(unnest(generate_series(min(report_date), max(report_date), interval 1 day)) as date)
                as report_date
            from daily
        )
        select report_date, coalesce(columns(* exclude (report_date)), 0)
        from spine left join daily using (report_date) left join users using (report_date)
        order by report_date
        """,
    ),
    "clocks": ("Response times by clock", _responses("")),
    "responses": ("Response times per day and clock", _responses("report_date")),
    "outcomes": (
        "How conversations ended",
        """
        with counted as (
            unpivot (
                select cast(sum(contained) as bigint) as contained,
                    cast(sum(outcome_agent_resolved) as bigint) as agent_resolved,
                    cast(sum(outcome_agent_open) as bigint) as agent_open,
                    cast(sum(outcome_bot_open) as bigint) as bot_open,
                    cast(sum(outcome_abandoned) as bigint) as abandoned,
                    cast(sum(outcome_unanswered) as bigint) as unanswered,
                    cast(sum(outcome_empty) as bigint) as empty
                from [cube_conversations]
            ) on contained, agent_resolved, agent_open, bot_open, abandoned, unanswered, empty
            into name outcome value conversations
        )
        select outcome, conversations, conversations / nullif(sum(conversations) over (), 0) as share from
        counted
        """,
    ),
    "outcomes_by_day": (
        "How conversations ended, per day",
        f"""
        select report_date, {
            _sums(
                "conversations",
                "contained",
                "outcome_agent_resolved",
                "outcome_agent_open",
                "outcome_bot_open",
                "outcome_abandoned",
                "outcome_unanswered",
                "outcome_empty",
            )
        }
        from [cube_conversations] group by all order by report_date
        """,
    ),
    "resolution": ("Resolution and containment by channel", _resolution("channel")),
    "languages": (
        "Languages and translation",
        f"""
        select spoken as language, {
            _sums(
                "messages",
                "user_messages",
                "needing_translation",
                "translated",
                "translation_failed",
                "translation_skipped",
                "detection_compared",
                "detection_agreeing",
            )
        },
            sum(translated) / nullif(sum(needing_translation), 0) as translation_coverage,
            sum(detection_agreeing) / nullif(sum(detection_compared), 0) as detection_agreement
        from [cube_speech] group by all order by messages desc, language
        """,
    ),
    "categories": ("Categories", _resolution("category")),
    "agents": (
        "Agents",
        f"""
        with counts as (
            select agent,
                {_sums("agent_conversations", "agent_messages", "resolved", "resolution_events")}
            from [cube_agents] group by all
        ), times as (
            select replier as agent, count(*) as response_n, quantile_cont(duration_s, 0.5) as reply_p50_s,
                quantile_cont(duration_s, 0.9) as reply_p90_s
            from [durations]
            where clock = 'reply' and replier <> 'nobody' and duration_s is not null group by all
        )
        select agent, agent_conversations, agent_messages, coalesce(response_n, 0) as response_n, reply_p50_s,
        reply_p90_s,
            resolved, resolution_events
        from counts left join times using (agent) order by agent_conversations desc, agent
        """,
    ),
    "users": (
        "Users who wrote, per day, and those who never had before",
        """
        select report_date, count(distinct user_no) as users_writing,
            count(distinct case when first_seen = report_date then user_no end) as new_users
        from [cube_users] inner join [cube_members] using (user_no) group by all order by report_date
        """,
    ),
    "segments": (
        "Segments of users",
        """
        select segment, count(distinct user_no) as users_writing
        from [cube_users] inner join [cube_members] using (user_no) group by all order by users_writing
        desc, segment
        """,
    ),
    "retention": (
        "Users by the month in which they first wrote, and those who wrote so many months later",
        """
        select strftime(first_seen, '%Y-%m') as cohort, date_diff('month', first_seen, report_date) as
        months_later,
            count(distinct user_no) as users_writing
        from [cube_users] inner join [cube_members] using (user_no) group by all order by all
        """,
    ),
    "costs": (
        "Cost of language models",
        f"""
        select purpose, model, currency, {
            _sums("llm_calls", "llm_requests", "llm_answers", "llm_failures", "llm_cached", "tokens")
        }, cast(sum(price_units) as decimal(38, 0)) / 100000000 as price
        from [cube_costs] group by all order by price desc, purpose, model
        """,
    ),
    "heatmap": (
        "Messages of users by weekday (1 is Monday) and hour",
        """
        select isodow(report_date) as local_isodow, local_hour,
            cast(sum(user_messages) as bigint) as user_messages
        from [cube_traffic] group by all order by all
        """,
    ),
}
CONVERSATIONS = "conversations"
NAMES = (*SHEETS, CONVERSATIONS)
TITLES: Mapping[str, str] = {
    **{name: title for name, (title, _) in SHEETS.items()},
    CONVERSATIONS: "One row per conversation",
}

# The fact as people read it: instants as times (UTC), live traffic alone.
_CONVERSATION_ROWS = """
select
    partition as start_date,
    columns(c -> not ends_with(c, '_us') and c not in ('partition', 'traffic_class', 'is_counted')),
    make_timestamp(started_us) as started_at,
    make_timestamp(ended_us) as ended_at,
    make_timestamp(first_message_at_us) as first_message_at,
    make_timestamp(last_message_at_us) as last_message_at,
    make_timestamp(first_user_at_us) as first_user_at,
    make_timestamp(first_any_at_us) as first_any_at,
    make_timestamp(first_human_at_us) as first_human_at,
    make_timestamp(handoff_at_us) as handoff_at,
    make_timestamp(first_resolved_us) as first_resolved_at,
    make_timestamp(last_resolved_us) as last_resolved_at
from facts.fct_conversation
where is_counted and first_message_date between $first_day and $last_day
order by started_us, conversation_id
"""


@dataclass(frozen=True)
class Sheet:
    """A table to be written.

    Attributes:
        name: as in `NAMES`.
        title: what it is.
        tables: its rows, in parts of one schema; there is at least one.
    """

    name: str
    title: str
    tables: Iterator[pa.Table]


def sheets(
    engine: DuckDBEngine,
    files: Files,
    parameters: Mapping[str, Any],
    names: Sequence[str],
    *,
    as_of: datetime | None,
    partitions: Sequence[str],
    first_day: date | None = None,
    last_day: date | None = None,
    least: int = 1,
) -> Iterator[Sheet]:
    """The sheets of these names, one after the other; rows are computed when they are read.

    Args:
        engine: where the queries run.
        files: the Parquet files of a table.
        parameters: the models' parameters that come from the settings.
        names: which.
        as_of: latest change of the source, UTC.
        partitions: days of the facts, in rising order.
        first_day: first local day on which a thing that is counted began; None for all.
        last_day: the last, included; None for all.
        least: MIN_GROUP_SIZE; rows about fewer are left out, and others beside their totals.

    Raises:
        EngineError: DuckDB refuses a query.
    """
    days = {"first_day": first_day or date.min, "last_day": last_day or date.max}
    values = {**parameters, "as_of_us": int(as_of.timestamp() * 1e6) if as_of else 0}
    for name in names:
        rows = (
            _conversations(engine, files, partitions, days)
            if name == CONVERSATIONS
            else iter([_sheet(engine, files, SHEETS[name][1], values, days)])
        )
        group = group_of_sheet(name, least)
        # A sheet with groups is one table, so that totals are of all its rows.
        yield Sheet(name, TITLES[name], map(group.published_table, rows))


def _sheet(
    engine: DuckDBEngine, files: Files, text: str, values: Mapping[str, Any], days: Mapping[str, date]
) -> pa.Table:
    queries = {query.name: query for query in load_queries("reports")}
    named = sorted(set(re.findall(r"\[(\w+)\]", text)))
    inputs: dict[TablePath, Sequence[str]] = {}
    parameters: dict[str, Any] = {}
    for name in named:
        query = queries[name]
        inputs |= {path: files(path) for path in query.inputs}
        parameters |= {key: values[key] for key in query.parameters}
        rows = f"({query.sql})"
        if "report_date" in query.sql:
            rows = f"(select * from {rows} where report_date between $first_day and $last_day)"
            parameters |= days
        text = text.replace(f"[{name}]", f"{rows} as {name}")
    return engine.query(text, inputs, parameters)


def _conversations(
    engine: DuckDBEngine, files: Files, partitions: Sequence[str], days: Mapping[str, date]
) -> Iterator[pa.Table]:
    """A table a month of starts, so that memory holds one of them."""
    months = [list(group) for _, group in groupby(partitions, key=lambda day: day[:7])] or [[]]
    for month in months:
        yield engine.query(_CONVERSATION_ROWS, {FACT: files(FACT, partitions=month)}, days)
