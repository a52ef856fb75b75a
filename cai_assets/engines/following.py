"""From a number to its conversations: which those are, and their transcripts. No page is made here.

What counts under a number is said once, by `dbt_like_sql/reports/followed.sql`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import TablePath, load_queries

Files = Callable[..., Sequence[str]]
"""The files of a table, of some partitions (`partitions=`) or all."""

Row = dict[str, Any]
DIMENSIONS = ("channel", "language", "category")
OTHER = "(other)"


@dataclass(frozen=True)
class View:
    """What a person looks at: a number, its days and filters.

    Attributes:
        what: as `followed.sql` names it.
        detail: a detail of it; None for all.
        first_day: first local day; None for all.
        last_day: last local day, included; None for all.
        chosen: values of channel, language, category; those of a dimension that is not named are all shown.
        known: the values of a dimension that the dashboard tells apart; `OTHER` stands for all others.
    """

    what: str = "conversations"
    detail: str | None = None
    first_day: date | None = None
    last_day: date | None = None
    chosen: Mapping[str, Sequence[str]] = field(default_factory=dict)
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)


def _query(name: str) -> Any:
    return next(query for query in load_queries("reports") if query.name == name)


def newest(engine: DuckDBEngine, files: Files, most: int) -> list[Row]:
    """The newest conversations, each with what it counts under (`followed`) and its transcript.

    Args:
        engine: where the queries run.
        files: the Parquet files of a table.
        most: how many.
    """
    listed = _query("listed")
    sql = f"select * from ({listed.sql}) as listed limit {int(most)}"
    rows: list[Row] = engine.query(sql, {path: files(path) for path in listed.inputs}).to_pylist()
    days = sorted({row["partition"] for row in rows})
    known = [row["conversation_id"] for row in rows]
    followed = _query("followed")
    inputs = {path: files(path, partitions=days) for path in followed.inputs}
    chosen = (
        f"select conversation_id, what, detail, cast(report_date as varchar) as day from ({followed.sql}) "
        "as f where list_contains($known, conversation_id) and report_date is not null order by all"
    )
    counts: dict[str, list[list[str]]] = defaultdict(list)
    if known:
        for row in engine.query(chosen, inputs, {"known": known}).to_pylist():
            counts[row["conversation_id"]].append([row["what"], row["detail"], row["day"]])
    texts = transcripts(engine, files, rows)
    for row in rows:
        row["followed"] = counts[row["conversation_id"]]
        row["transcript"] = texts.get(row["conversation_id"], [])
    return rows


def transcripts(
    engine: DuckDBEngine, files: Files, rows: Sequence[Mapping[str, Any]]
) -> dict[str, list[Row]]:
    """The messages of conversations in order of time, each beside its translation, by conversation.

    Args:
        engine: where the query runs.
        files: the Parquet files of a table.
        rows: the conversations: `partition` and `conversation_id`.
    """
    if not rows:
        return {}
    query = _query("transcripts")
    days = sorted({row["partition"] for row in rows})
    inputs: dict[TablePath, Sequence[str]] = {path: files(path, partitions=days) for path in query.inputs}
    sql = f"select * from ({query.sql}) as said where list_contains($known, conversation_id)"
    known = [row["conversation_id"] for row in rows]
    found: dict[str, list[Row]] = defaultdict(list)
    for row in engine.query(sql, inputs, {"known": known}).to_pylist():
        found[row.pop("conversation_id")].append(row)
    for messages in found.values():
        messages.sort(key=lambda row: row["place"])
    return dict(found)


def page_of(engine: DuckDBEngine, files: Files, view: View, *, page: int, size: int) -> tuple[int, list[Row]]:
    """Some of the conversations behind a number, the newest first.

    Args:
        engine: where the query runs.
        files: the Parquet files of a table.
        view: the number, its days and filters.
        page: from 1.
        size: conversations of a page.

    Returns:
        how many there are, and those of the page.
    """
    listed, followed = _query("listed"), _query("followed")
    conditions, values = ["what = $what"], {"what": view.what}
    if view.detail is not None:
        conditions.append("detail = $detail")
        values["detail"] = view.detail
    for name, day, sign in (("first_day", view.first_day, ">="), ("last_day", view.last_day, "<=")):
        if day is not None:
            conditions.append(f"report_date {sign} cast(${name} as date)")
            values[name] = day.isoformat()
    kept = ["true"]
    parameters: dict[str, Any] = dict(values)
    for name in DIMENSIONS:
        if view.chosen.get(name):
            condition = f"list_contains(${name}, {name})"
            parameters[name] = list(view.chosen[name])
            if OTHER in view.chosen[name]:
                condition = f"({condition} or not list_contains(${name}_known, {name}))"
                parameters[f"{name}_known"] = list(view.known.get(name, ()))
            kept.append(condition)
    sql = f"""
        with counted as (
            select distinct partition, conversation_id
            from ({followed.sql}) as f where {" and ".join(conditions)}
        )
        select listed.*, count(*) over () as of_all
        from ({listed.sql}) as listed
        inner join counted using (partition, conversation_id)
        where {" and ".join(kept)}
        order by started_us desc, conversation_id asc
        limit {int(size)} offset {int(size) * (page - 1)}
    """
    inputs = {path: files(path) for path in {*listed.inputs, *followed.inputs}}
    rows = engine.query(sql, inputs, parameters).to_pylist()
    total = rows[0]["of_all"] if rows else 0
    for row in rows:
        del row["of_all"]
    return total, rows
