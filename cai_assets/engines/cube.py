"""The dashboard's cube: counts and histograms by day, channel, language and category, packed for a page.

The queries are `dbt_like_sql/reports/cube_*.sql`; here their days and dimensions become numbers of cells. How
numbers become bytes is `domain.packing`'s, how they are shown the page's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import sqlglot

from cai_assets.domain.packing import Packer, pack_cells
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.following import DIMENSIONS, OTHER
from cai_assets.engines.models import Query, TablePath, load_queries

Files = Callable[[TablePath], Sequence[str]]

# A page can be filtered by so many values of a dimension; rarer ones share one. 24 x 24 x 24 cells a day
# are the
# bound of what a page holds for each table and day.
MOST_VALUES = 24
# Of more conversations the page holds the newest days alone: its size is bounded, whatever the lake holds.
MOST_CONVERSATIONS = 1_000_000

# The additive log-histogram: bucket 0 holds 0 s, every other b holds 1.02 ^ (b - 1000) to 1.02 ^ (b - 999)
# seconds,
# so that its middle is within 1 % of all in it.
HISTOGRAM = """
select
    report_date, channel, language, category, clock, replier,
    case when duration_s > 0 then cast(floor(ln(duration_s) / ln(1.02) + 1e-9) as bigint) + 1000 else 0 end as
    bucket,
    count(*) as n
from (
{durations}
) as durations
where duration_s is not null
group by all
"""

# What histograms give within 1 % is exact here, where nothing is filtered.
EXACT = """
with duration as (
{durations}
), placed as (
    select clock, 'all' as dimension, '' as place, duration_s from duration
    union all
    select clock, 'day' as dimension, cast(report_date as varchar) as place, duration_s from duration
    union all
    select clock, 'channel' as dimension, channel as place, duration_s from duration
    where starts_with(clock, 'resolution')
    union all
    select clock, 'category' as dimension, category as place, duration_s from duration
    where clock = 'resolution_last'
    union all
    select clock, 'agent' as dimension, replier as place, duration_s from duration
    where clock = 'reply' and replier <> 'nobody'
)
select
    clock, dimension, place,
    quantile_cont(duration_s, 0.5) as p50_s,
    quantile_cont(duration_s, 0.9) as p90_s,
    quantile_cont(duration_s, 0.95) as p95_s,
    quantile_cont(duration_s, 0.99) as p99_s,
    max(duration_s) as max_s,
    count(*) as n
from placed
where duration_s is not null
group by all
order by all
"""

WHOLE = """
select {columns} from (
    select *, {place} as place from (
{rows}
    ) as found where report_date is not null and report_date >= $begin
) as placed
group by all order by {order}
"""

# The same with small groups: cells of a day in which fewer than $least users wrote go to the day's rest,
# and the
# rest is kept where so many wrote in it.
PLACED = """
with writing as (
    select report_date, {place} as place, user_no from (
{users}
    ) as found
), enough as (
    select report_date, place from writing group by all having count(distinct user_no) >= $least
), rest as (
    select report_date from writing anti join enough using (report_date, place)
    group by all having count(distinct user_no) >= $least
), placed as (
    select *, {place} as own from (
{rows}
    ) as found where report_date is not null and report_date >= $begin
), kept as (
    select placed.*, case when enough.place is not null then own else {rest} end as place
    from placed
    left join enough on placed.report_date = enough.report_date and own = enough.place
    left join rest on placed.report_date = rest.report_date
    where enough.place is not null or rest.report_date is not null
)
select {columns} from kept group by all order by {order}
"""

DAYS = """
select first_message_date as day, count(*) as conversations
from facts.fct_conversation where is_counted group by all order by day desc
"""


@dataclass(frozen=True)
class CubeTable:
    """A query whose rows are packed.

    Attributes:
        query: its name.
        texts: columns of further texts.
        numbers: columns of further whole numbers that rows are told apart by; the last one rises.
        rising: whether it is kept as steps.
        around: a query around it; the query itself where there is none.
    """

    query: str
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    rising: bool = False
    around: str = "{query}"


TABLES = {
    "conversations": CubeTable("cube_conversations"),
    "clocks": CubeTable("cube_clocks", texts=("clock",)),
    "durations": CubeTable(
        *("durations", ("clock", "replier"), ("bucket",)),
        rising=True,
        around=HISTOGRAM.replace("{durations}", "{query}"),
    ),
    "traffic": CubeTable("cube_traffic", numbers=("local_hour",), rising=True),
    "speech": CubeTable("cube_speech", texts=("spoken",)),
    "agents": CubeTable("cube_agents", texts=("agent",)),
    "users": CubeTable("cube_users", numbers=("user_no",), rising=True),
    "costs": CubeTable("cube_costs", texts=("purpose", "model", "currency")),
}


@dataclass(frozen=True)
class Cube:
    """What the page computes with.

    Attributes:
        header: the tables' descriptions, dimensions, first day and number of days, exact percentiles, users.
        blob: their columns, compressed.
        first_day: the first day it holds; None where there is nothing.
        last_day: the last.
        left_out: whether there are earlier days that it does not hold.
        withheld: conversations that it does not hold, as they are of too small groups.
        counts: rows by table.
    """

    header: dict[str, Any]
    blob: bytes
    first_day: date | None
    last_day: date | None
    left_out: bool
    withheld: int = 0
    counts: dict[str, int] = field(default_factory=dict)


def build_cube(
    engine: DuckDBEngine,
    files: Files,
    parameters: Mapping[str, Any],
    *,
    as_of: datetime | None,
    most_conversations: int = MOST_CONVERSATIONS,
    least: int = 1,
) -> Cube:
    """Compute and pack the cube.

    Args:
        engine: where the queries run.
        files: the Parquet files of a table.
        parameters: the models' parameters that come from the settings.
        as_of: latest change of the source, UTC; decisions that need time to pass are taken then.
        most_conversations: of more, the newest days alone are held.
        least: MIN_GROUP_SIZE. Of a day, cells in which fewer users wrote are counted with its rest, and the
        rest
            is left out where it is of fewer; single users are left out altogether.

    Raises:
        EngineError: DuckDB refuses a query.
    """
    queries = {query.name: query for query in load_queries("reports")}
    values = {**parameters, "as_of_us": int(as_of.timestamp() * 1e6) if as_of else 0}
    names = told_apart(engine, files)
    begin, known = _first_day(engine, files, most_conversations)
    found: dict[str, pa.Table] = {}
    for name, table in TABLES.items():
        found[name] = _rows(engine, queries, table, files, values, names, begin, least)
    held = sum(found["conversations"]["conversations"].to_pylist())
    if least > 1:
        found["users"] = found["users"].slice(0, 0)
    days = [day for table in found.values() for day in _bounds(table)]
    first, last = (min(days), max(days)) if days else (None, None)
    packer = Packer()
    size = int(np.prod([len(names[dimension]) for dimension in DIMENSIONS], dtype=np.int64))
    header: dict[str, Any] = {
        "dimensions": names,
        "first_day": first.isoformat() if first else None,
        "days": (last - first).days + 1 if first and last else 0,
        "tables": {},
    }
    for name, table in TABLES.items():
        placed = _placed(found.pop(name), first, size)
        rising = table.numbers[-1] if table.rising else None
        header["tables"][name] = pack_cells(packer, placed, texts=table.texts, rising=rising)
    header["exact"] = _exact(engine, queries["durations"], files, whole=begin is None, least=least)
    header["members"] = _members(engine, queries["cube_members"], files, packer, first, told=least <= 1)
    return Cube(
        header=header,
        blob=packer.blob(),
        first_day=first,
        last_day=last,
        left_out=begin is not None,
        withheld=known - held,
        counts={name: described["rows"] for name, described in header["tables"].items()},
    )


def _run(engine: DuckDBEngine, query: Query, files: Files, values: Mapping[str, Any], sql: str) -> pa.Table:
    inputs = {path: files(path) for path in query.inputs}
    return engine.query(sql, inputs, values)


def told_apart(engine: DuckDBEngine, files: Files) -> dict[str, list[str]]:
    """The values of each dimension that a page tells apart, the most frequent first; `OTHER` is the last."""
    query = next(query for query in load_queries("reports") if query.name == "cube_dimensions")
    names: dict[str, list[str]] = {dimension: [] for dimension in DIMENSIONS}
    for row in _run(engine, query, files, {}, query.sql).to_pylist():
        names[row["dimension"]].append(row["name"])
    # The last place is always that of the rest: a call may be about a conversation that is not counted.
    return {key: [*known[: MOST_VALUES - 1], OTHER] for key, known in names.items()}


def _first_day(engine: DuckDBEngine, files: Files, most: int) -> tuple[date | None, int]:
    """The day from which the conversations are few enough, None where all are, and how many they are."""
    table = engine.query(DAYS, {("facts", "fct_conversation"): files(("facts", "fct_conversation"))})
    total = 0
    begin: date | None = None
    for day, count in zip(table["day"].to_pylist(), table["conversations"].to_pylist(), strict=True):
        if total + count > most and begin is not None:
            return begin, total
        total += count
        begin = day
    return None, total


def _rows(
    engine: DuckDBEngine,
    queries: Mapping[str, Query],
    table: CubeTable,
    files: Files,
    values: Mapping[str, Any],
    names: Mapping[str, Sequence[str]],
    begin: date | None,
    least: int,
) -> pa.Table:
    """The query's rows by day and place of their dimensions, rare values and small groups together."""
    query = queries[table.query]
    keys = {"report_date", *DIMENSIONS, *table.texts, *table.numbers}
    place = "0"
    for dimension in DIMENSIONS:
        known = names[dimension]
        found = f"coalesce(list_position(${dimension}_names, {dimension}), {len(known)})"
        # DuckDB tells a missing value by NULL or 0, by version; both are the rest.
        at = f"case when {found} = 0 then {len(known)} else {found} end - 1"
        place = f"({place}) * {len(known)} + ({at})"
    told = ", ".join((*table.texts, *table.numbers))
    text = table.around.format(query=query.sql)
    measures = [name for name in _columns(text) if name not in keys]
    sums = ", ".join(
        f"sum({name}) as {name}" if name == "csat_sum" else f"cast(sum({name}) as bigint) as {name}"
        for name in measures
    )
    users = queries["cube_users"]
    sql = (PLACED if least > 1 else WHOLE).format(
        place=place,
        rest=int(np.prod([len(names[dimension]) for dimension in DIMENSIONS])) - 1,
        users=users.sql,
        rows=text,
        columns=", ".join(part for part in ("report_date", "place", told, sums) if part),
        order=", ".join(part for part in ("report_date", "place", told) if part),
    )
    parameters = {
        **{name: values[name] for name in query.parameters},
        **{f"{dimension}_names": list(names[dimension][:-1]) or [""] for dimension in DIMENSIONS},
        "begin": begin or date.min,
        **({"least": least} if least > 1 else {}),
    }
    inputs = {*query.inputs, *users.inputs} if least > 1 else query.inputs
    return engine.query(sql, {path: files(path) for path in inputs}, parameters)


def _columns(sql: str) -> list[str]:
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    return [str(column.alias_or_name) for column in tree.find(sqlglot.exp.Select).selects]  # type: ignore[union-attr]


def _bounds(table: pa.Table) -> list[date]:
    """First and last day of sorted rows."""
    if not table.num_rows:
        return []
    return [table["report_date"][0].as_py(), table["report_date"][-1].as_py()]


def _placed(table: pa.Table, first: date | None, size: int) -> pa.Table:
    """The rows with day and place as one number, the cell."""
    days = table["report_date"].combine_chunks().cast(pa.int32()).to_numpy(zero_copy_only=False)
    origin = (first - date(1970, 1, 1)).days if first else 0
    places = table["place"].combine_chunks().to_numpy(zero_copy_only=False)
    cells = (days.astype(np.int64) - origin) * size + places.astype(np.int64)
    return table.drop_columns(["report_date", "place"]).append_column("cell", pa.array(cells))


def _exact(
    engine: DuckDBEngine, query: Query, files: Files, *, whole: bool, least: int
) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """Exact percentiles: clock, dimension, place, then p50, p90, p95, p99, longest; days alone of a part."""
    found: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for row in _run(engine, query, files, {}, EXACT.format(durations=query.sql)).to_pylist():
        if row["n"] >= least and (whole or row["dimension"] == "day"):
            places = found.setdefault(row["clock"], {}).setdefault(row["dimension"], {})
            places[row["place"]] = [row[f"{name}_s"] for name in ("p50", "p90", "p95", "p99", "max")]
    return found


def _members(
    engine: DuckDBEngine, query: Query, files: Files, packer: Packer, first: date | None, *, told: bool
) -> dict[str, Any]:
    """First day and segment of each user, in order of their numbers."""
    table = _run(engine, query, files, {}, query.sql).slice(0, None if told else 0)
    origin = first or date(1970, 1, 1)
    segments = sorted(set(table["segment"].to_pylist()))
    # Days before the page's first are the day before it: such users are not new on any day shown.
    days = [max((day - origin) // timedelta(days=1), -1) + 1 for day in table["first_seen"].to_pylist()]
    months = [day.year * 12 + day.month - 1 for day in table["first_seen"].to_pylist()]
    return {
        "segments": segments,
        "first_seen": packer.add(np.array(days, np.int64)),
        "cohort": packer.add(np.array(months, np.int64)),
        "segment": packer.add(np.array([segments.index(s) for s in table["segment"].to_pylist()], np.int64)),
    }
