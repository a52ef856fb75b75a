"""The reports as tables on the terminal: the rows of `dbt_like_sql/reports`, and how they are printed."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlglot
from rich.console import Console
from rich.table import Table as Grid
from sqlglot import exp

from cai_assets.commands.common import show
from cai_assets.domain.groups import is_withheld, published
from cai_assets.domain.pages import duration, number, share
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import load_queries
from cai_assets.failures import PermanentError
from cai_assets.partitions import days_between
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.facts import OUTCOMES
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

QUERIES = (
    "headline",
    "volume_by_day",
    "response_clocks",
    "targets",
    "outcomes_by_day",
    "resolution_by_channel",
    "languages",
    "categories",
    "top_users",
)
NEEDED = (
    ("facts", "fct_conversation"),
    ("facts", "fct_wait"),
    ("marts", "volume"),
    ("marts", "response"),
    ("marts", "language"),
    ("marts", "user"),
)
DAILY_ROWS = 31  # more days than this are shown by month
TOP_USERS = 10

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class _Shown:
    """A column of a printed table: heading, how a row's value is read, and whether it is text."""

    heading: str
    value: Callable[[Mapping[str, Any]], str]
    text: bool = False


def missing_tables(settings: Settings) -> list[str]:
    """Tables that the reports need and that were never materialised."""
    store = ObjectStore.from_settings(settings)
    return ["/".join(path) for path in NEEDED if not LakeTable(store, TABLES[path]).exists()]


def report_rows(settings: Settings, first: str | None, last: str | None) -> dict[str, list[dict[str, Any]]]:
    """Rows of every report query.

    Args:
        settings: where the lake is, zone, targets.
        first: first local day, or None for all days.
        last: last local day, or None for all days.

    Returns:
        Rows by query. With days: the conversations that started on them, whenever their messages were
        written (facts), and what happened on them (marts by day). `top_users` is always over all days.

    Raises:
        PermanentError: the store cannot be read.
    """
    store = ObjectStore.from_settings(settings)
    days = days_between(first, last) if first and last else None

    def files(path: tuple[str, str]) -> Sequence[str]:
        table = LakeTable(store, TABLES[path])
        return table.files(days if TABLES[path].partition_by == "partition" else None)

    queries = {query.name: query for query in load_queries("reports")}
    rows: dict[str, list[dict[str, Any]]] = {}
    with DuckDBEngine.from_settings(settings, prepare=store.duckdb_setup) as engine:
        for name in QUERIES:
            query = queries[name]
            sql = within_days(query.sql) if days else query.sql
            parameters = {"first_day": first, "last_day": last} if sql != query.sql else {}
            inputs = {path: files(path) for path in query.inputs}
            rows[name] = engine.query(sql, inputs, parameters).to_pylist()
    if is_withheld(rows["headline"][0], settings.min_group_size):
        raise PermanentError(
            f"withheld: these days are of fewer than {settings.min_group_size} users (MIN_GROUP_SIZE)"
        )
    return published(rows, settings.min_group_size)[0]


def within_days(sql: str) -> str:
    """The query with every mart that has a `report_date` cut down to `$first_day` to `$last_day`.

    Marts are whole tables, so a range of days cannot be chosen by their files.
    """
    tree = sqlglot.parse_one(sql, read="duckdb")
    cut = False
    for table in list(tree.find_all(exp.Table)):
        declared = TABLES.get((table.db, table.name))
        if declared is None or "report_date" not in declared.by_name:
            continue
        days = "report_date between cast($first_day as date) and cast($last_day as date)"
        chosen = exp.select("*").from_(table.copy()).where(days, dialect="duckdb")
        table.replace(chosen.subquery(table.alias_or_name))
        cut = True
    return tree.sql(dialect="duckdb") if cut else sql


def _plain_number(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: number(row[name])


def _seconds(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: duration(row[name])


def _text(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: str(row[name])


def _ratio(part: str, whole: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: share(row[part], row[whole])


def _print(out: Console, title: str, columns: Sequence[_Shown], rows: Rows) -> None:
    grid = Grid(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in columns:
        grid.add_column(column.heading, justify="left" if column.text else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(column.value(row) for column in columns))
    out.print()
    show(grid, out)


def _by_month(rows: Rows) -> list[dict[str, Any]]:
    """Daily counts added up by month; only what is additive is kept."""
    months: dict[str, dict[str, Any]] = {}
    for row in rows:
        month = months.setdefault(row["report_date"].strftime("%Y-%m"), defaultdict(int))
        for name in ("conversations_started", "messages", "user_messages", "bot_messages", "agent_messages"):
            month[name] += row[name]
    return [{"report_date": month, **counts} for month, counts in sorted(months.items())]


def _outcomes(rows: Rows) -> list[dict[str, Any]]:
    """Conversations by outcome over all days, in the order in which outcomes are decided."""
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["outcome"]] += row["conversations"]
    whole = sum(counts.values())
    return [
        {"outcome": name.replace("_", " "), "conversations": counts[name], "whole": whole}
        for name in OUTCOMES
        if counts[name]
    ]


def print_reports(rows: Mapping[str, Rows], settings: Settings, out: Console) -> None:
    """Print all report tables."""
    headline = rows["headline"][0]
    out.print()
    out.print(
        f"[bold]{headline['conversations']:,}[/bold] conversations of "
        f"[bold]{headline['distinct_users']:,}[/bold] users, [bold]{headline['messages']:,}[/bold] messages; "
        f"days in {settings.report_timezone}"
    )
    _print_volume(rows["volume_by_day"], out)
    _print(
        out,
        "Response times",
        [
            _Shown("clock", _text("clock"), text=True),
            _Shown("answered", _plain_number("n")),
            _Shown("open", _plain_number("n_open")),
            *(_Shown(name, _seconds(f"{name}_s")) for name in ("p50", "p90", "p95", "p99", "max")),
        ],
        rows["response_clocks"],
    )
    _print(
        out,
        "Answered within",
        [
            _Shown("clock", lambda row: row["clock"].replace("_", " "), text=True),
            *(
                _Shown(duration(target), _ratio(f"within_target_{n}", f"decided_{n}"))
                for n, target in enumerate(settings.response_targets, 1)
            ),
        ],
        rows["targets"],
    )
    _print_outcomes(rows, out)
    _print_languages(rows["languages"], out)
    _print_categories(rows["categories"], out)
    _print_users(rows["top_users"], out)


def _print_volume(rows: Rows, out: Console) -> None:
    monthly = len(rows) > DAILY_ROWS
    _print(
        out,
        "Volume per month" if monthly else "Volume per day",
        [
            _Shown("month" if monthly else "day", _text("report_date"), text=True),
            _Shown("conversations", _plain_number("conversations_started")),
            _Shown("messages", _plain_number("messages")),
            _Shown("users'", _plain_number("user_messages")),
            _Shown("bots'", _plain_number("bot_messages")),
            _Shown("agents'", _plain_number("agent_messages")),
        ],
        _by_month(rows) if monthly else rows,
    )


def _print_outcomes(rows: Mapping[str, Rows], out: Console) -> None:
    _print(
        out,
        "Outcomes",
        [
            _Shown("outcome", _text("outcome"), text=True),
            _Shown("conversations", _plain_number("conversations")),
            _Shown("share", _ratio("conversations", "whole")),
        ],
        _outcomes(rows["outcomes_by_day"]),
    )
    _print(
        out,
        "Resolution",
        [
            _Shown("channel", _text("channel"), text=True),
            _Shown("started", _plain_number("started")),
            _Shown("resolved", _plain_number("resolved")),
            _Shown("share", _ratio("resolved", "started")),
            _Shown("reopened", _plain_number("reopened")),
            _Shown("contained", _plain_number("contained")),
            _Shown("handed off", _plain_number("handed_off")),
            _Shown("p50", _seconds("last_p50_s")),
            _Shown("p90", _seconds("last_p90_s")),
        ],
        rows["resolution_by_channel"],
    )


def _print_languages(rows: Rows, out: Console) -> None:
    _print(
        out,
        "Languages and translation",
        [
            _Shown("language", _text("language"), text=True),
            _Shown("messages", _plain_number("messages")),
            _Shown("to translate", _plain_number("needing_translation")),
            _Shown("translated", _plain_number("translated")),
            _Shown("failed", _plain_number("failed")),
            _Shown("skipped", _plain_number("skipped")),
            _Shown("coverage", _ratio("translated", "needing_translation")),
        ],
        rows,
    )


def _print_categories(rows: Rows, out: Console) -> None:
    _print(
        out,
        "Categories",
        [
            _Shown("category", _text("category"), text=True),
            _Shown("conversations", _plain_number("conversations")),
            _Shown("resolved", _ratio("resolved", "conversations")),
            _Shown("contained", _ratio("contained", "conversations")),
            _Shown("resolution p50", _seconds("resolution_p50_s")),
        ],
        rows,
    )


def _print_users(rows: Rows, out: Console) -> None:
    _print(
        out,
        f"Top {min(TOP_USERS, len(rows))} users, all days",
        [
            # The first ten characters of a keyed hash tell users apart here; --json has all of it.
            _Shown("user", lambda row: row["user_id"][:10], text=True),
            _Shown("conversations", _plain_number("conversations")),
            _Shown("messages", _plain_number("messages")),
            _Shown("sessions", _plain_number("sessions")),
            _Shown("days", _plain_number("days_active")),
            _Shown("last seen", _text("last_seen"), text=True),
            _Shown("language", _text("preferred_language"), text=True),
            _Shown("segment", lambda row: row["segment"].replace("_", " "), text=True),
        ],
        rows[:TOP_USERS],
    )
