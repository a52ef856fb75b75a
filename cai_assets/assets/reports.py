"""The reports layer: what people read. Numbers come from `dbt_like_sql`; pages and charts from `domain`."""

import base64
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import dagster as dg

from cai_assets.assets.analytics import AS_OF, FACT, model_parameters
from cai_assets.assets.common import BY_MONTHS, report_asset
from cai_assets.domain import charts, pages, sheets
from cai_assets.domain.groups import group_of_mart, is_withheld, published
from cai_assets.engines.cube import MOST_CONVERSATIONS, build_cube
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.exports import CONVERSATIONS, NAMES
from cai_assets.engines.exports import sheets as export_sheets
from cai_assets.engines.following import newest
from cai_assets.engines.origins import REPORTED
from cai_assets.engines.reports import run_queries
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.metadata import IDS, NUMBERS, TEXTS
from cai_assets.partitions import DAILY
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.plain_copies import FOLDER, copy_plainly
from cai_assets.resources.published import Published, publish
from cai_assets.schemas import marts
from cai_assets.schemas.base import Table
from cai_assets.schemas.standing import versions
from cai_assets.schemas.tables import MARTS
from cai_assets.settings import Settings

# A page lists this many conversations with their transcripts: some 2 MB of HTML. The facts hold all of them.
LISTED_CONVERSATIONS = 200
WORKBOOK = "cai-export.xlsx"
WORKBOOK_CONVERSATIONS = 100_000
SETTLED_AFTER = timedelta(days=7)
DIMENSIONS = ("channel", "language", "bot", "clock", "hours")

DAILY_QUERIES = ("headline", "response_clocks", "hours", "conversations", "transcripts")


def _plain(value: Any) -> Any:
    """A value as MongoDB keeps it: days as text, money as text."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date | Decimal):
        return str(value)
    return value


def _as_of(duckdb: DuckDBEngine, conversations: Sequence[str]) -> datetime | None:
    """The latest change of the source, UTC; None where there is no conversation."""
    microseconds = duckdb.query(AS_OF, {FACT: conversations})["as_of_us"][0].as_py()
    return datetime.fromtimestamp(microseconds / 1e6, UTC) if microseconds else None


def _stamps(context: dg.AssetExecutionContext) -> dict[str, Any]:
    return {"built_at": datetime.now(UTC), "run_id": context.run.run_id}


def _published(done: Published) -> dict[str, Any]:
    return {
        "dagster/row_count": done.written + done.unchanged,
        "written": done.written,
        "unchanged": done.unchanged,
        "removed": done.removed,
    }


def report_documents(
    table: Table, rows: list[dict[str, Any]], *, zone: str, as_of: datetime | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A mart's rows as documents: `_id`, and report, grain, date, zone, dims, metrics and their versions."""
    definitions = versions(table)
    for row in rows:
        dims = {name: row[name] for name in DIMENSIONS if name in row}
        metrics = {k: _plain(v) for k, v in row.items() if k not in {*dims, "month", "report_date"}}
        day = row["report_date"]
        identity = "|".join([table.name, "day", day.isoformat(), zone, *dims.values()])
        begun = datetime.combine(day, datetime.min.time(), UTC)
        settled = as_of is not None and begun + SETTLED_AFTER < as_of
        yield (
            identity,
            {
                "report": table.name,
                "grain": "day",
                "date": day.isoformat(),
                "timezone": zone,
                "dims": dims,
                "metrics": metrics,
                "definition_v": definitions,
                "settled": settled,
            },
        )


@report_asset(
    "analytics_reports",
    holds=NUMBERS,
    description="The marts' rows as MongoDB documents, for services that read reports from there.",
    kinds={"mongodb"},
    ins={
        **{table.name: dg.AssetIn(list(table.path)) for table in REPORTED},
        "conversations": dg.AssetIn(list(FACT)),
    },
)
def analytics_reports(
    context: dg.AssetExecutionContext,
    mongo: dg.ResourceParam[MongoStore],
    duckdb: dg.ResourceParam[DuckDBEngine],
    settings: dg.ResourceParam[Settings],
    conversations: LakeFiles,
    **inputs: Any,
) -> dg.MaterializeResult[None]:
    """One document a row of the reported marts."""
    loaded: Mapping[str, LakeFiles] = inputs
    as_of = _as_of(duckdb, conversations.files)

    def documents() -> Iterator[tuple[str, dict[str, Any]]]:
        for table in REPORTED:
            source = f"select * from {table.layer}.{table.name}"  # noqa: S608  names of declared tables
            rows = duckdb.query(source, {table.path: loaded[table.name].files})
            rows = group_of_mart(table.name, settings.min_group_size).published_table(rows)
            yield from report_documents(table, rows.to_pylist(), zone=settings.report_timezone, as_of=as_of)

    stamps = {**_stamps(context), "input_watermark": as_of}
    done = publish(mongo, "analytics_reports", documents(), stamps=stamps)
    watermark = {"as_of": dg.MetadataValue.timestamp(as_of)} if as_of else {}
    return dg.MaterializeResult(metadata={**_published(done), **watermark})


@report_asset(
    "user_analytics",
    holds=IDS,
    description="One MongoDB document a user: activity, recency, frequency, segment. Ids are keyed hashes.",
    kinds={"mongodb"},
    ins={"users": dg.AssetIn(list(marts.USER.path))},
)
def user_analytics(
    context: dg.AssetExecutionContext,
    mongo: dg.ResourceParam[MongoStore],
    duckdb: dg.ResourceParam[DuckDBEngine],
    users: LakeFiles,
) -> dg.MaterializeResult[None]:
    """The mart of users as documents."""
    rows = duckdb.query("select * from marts.user", {marts.USER.path: users.files}).to_pylist()
    documents = ((row["user_id"], {k: _plain(v) for k, v in row.items()}) for row in rows)
    done = publish(mongo, "user_analytics", documents, stamps=_stamps(context))
    return dg.MaterializeResult(metadata=_published(done))


def _figures(headline: Mapping[str, Any]) -> dict[str, Any]:
    """The headline's numbers as metadata that the UI plots, to milliseconds; the unmeasured is left out."""
    return {name: round(value, 3) for name, value in headline.items() if isinstance(value, int | float)}


def _picture(spec: Mapping[str, Any]) -> dg.MarkdownMetadataValue:
    """A chart as the UI shows it: a picture of some 5 kB in the text itself, kept with the event."""
    data = base64.b64encode(pages.png({**spec, "width": 420, "height": 110})).decode()
    return dg.MetadataValue.md(f"![Messages by hour](data:image/png;base64,{data})")


@report_asset(
    "daily_report",
    holds=TEXTS,
    description="One HTML page a day: figures, response times, conversations with their transcripts.",
    kinds={"html"},
    partitions_def=DAILY,
    backfill_policy=BY_MONTHS,
    deps=[
        list(FACT),
        ["facts", "stg_messages"],
        ["facts", "fct_wait"],
        ["facts", "fct_traffic"],
        ["lake", "messages"],
        ["lake", "translations"],
    ],
)
def daily_report(
    context: dg.AssetExecutionContext,
    duckdb: dg.ResourceParam[DuckDBEngine],
    parquet: dg.ResourceParam[ParquetIOManager],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """The page of every day of the run, replaced whole."""
    for day in context.partition_keys:
        tables = run_queries(
            duckdb,
            DAILY_QUERIES,
            partial(parquet.files, partitions=[day]),
            model_parameters(settings),
        )
        least = settings.min_group_size
        tables, withheld = published(tables, least)
        headline = tables["headline"][0]
        if is_withheld(headline, least):
            page = pages.withheld_page(f"Conversations of {day}", least)
            address = parquet.store.write_file(f"reports/daily_report/{day}.html", page.encode())
            metadata = {"page": dg.MetadataValue.path(address), "withheld": True}
            context.add_asset_metadata(metadata, partition_key=day)
            continue
        transcripts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in tables["transcripts"]:
            transcripts[row["conversation_id"]].append(row)
        page = pages.daily_page(
            day=day,
            headline=headline,
            clocks=tables["response_clocks"],
            hours_svg=pages.svg(charts.hours(tables["hours"])) if tables["hours"] else "",
            conversations=tables["conversations"],
            transcripts=transcripts,
            shown=LISTED_CONVERSATIONS,
            zone=settings.timezone,
            least=least,
        )
        address = parquet.store.write_file(f"reports/daily_report/{day}.html", page.encode())
        picture = {"messages_by_hour": _picture(charts.hours(tables["hours"]))} if tables["hours"] else {}
        context.add_asset_metadata(
            {
                "page": dg.MetadataValue.path(address),
                "dashboard": dg.MetadataValue.path(parquet.store.location("reports", "dashboard.html")),
                "withheld_rows": withheld,
                **picture,
                **_figures(headline),
            },
            partition_key=day,
        )
    return dg.MaterializeResult()


@report_asset(
    "plain_parquet",
    holds=TEXTS,
    description="The marts as plain Parquet, a hive folder a month, for tools that know no Delta tables.",
    kinds={"parquet"},
    ins={table.name: dg.AssetIn(list(table.path)) for table in MARTS},
)
def plain_parquet(
    parquet: dg.ResourceParam[ParquetIOManager], settings: dg.ResourceParam[Settings], **inputs: Any
) -> dg.MaterializeResult[None]:
    """One folder a mart below reports/marts, replaced file by file."""
    loaded: Mapping[str, LakeFiles] = inputs
    spec = ParquetSpec.from_settings(settings)
    least = settings.min_group_size
    copies = [copy_plainly(loaded[table.name], spec, group_of_mart(table.name, least)) for table in MARTS]
    return dg.MaterializeResult(
        metadata={
            "folder": dg.MetadataValue.path(parquet.store.location(*FOLDER)),
            "dagster/row_count": sum(copy.rows for copy in copies),
            "withheld_rows": sum(copy.withheld for copy in copies),
            "written": sum(copy.written for copy in copies),
            "unchanged": sum(copy.unchanged for copy in copies),
            "removed": sum(copy.removed for copy in copies),
        }
    )


@report_asset(
    "dashboard",
    holds=TEXTS,
    description="The dashboard over all days: one HTML page that holds its data and needs no network.",
    kinds={"html"},
    deps=[
        *(list(table.path) for table in MARTS),
        list(FACT),
        ["facts", "stg_messages"],
        ["facts", "fct_wait"],
        ["facts", "fct_response"],
        ["facts", "fct_llm_call"],
        ["facts", "user_day"],
        ["facts", "fct_status_event"],
        ["lake", "messages"],
        ["lake", "translations"],
    ],
)
def dashboard(
    duckdb: dg.ResourceParam[DuckDBEngine],
    parquet: dg.ResourceParam[ParquetIOManager],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Counts and histograms of all days as one page."""
    least = settings.min_group_size
    headline = run_queries(duckdb, ["headline"], parquet.files, {})["headline"][0]
    if is_withheld(headline, least):
        page = pages.withheld_page("Conversation analytics", least).encode()
        address = parquet.store.write_file("reports/dashboard.html", page)
        return dg.MaterializeResult(metadata={"page": dg.MetadataValue.path(address), "withheld": True})
    as_of = _as_of(duckdb, parquet.files(FACT))
    cube = build_cube(duckdb, parquet.files, model_parameters(settings), as_of=as_of, least=least)
    page = pages.dashboard_page(
        header=cube.header,
        cube=cube.blob,
        # A transcript is about one person.
        carried=newest(duckdb, parquet.files, LISTED_CONVERSATIONS if least <= 1 else 0),
        first_day=cube.first_day,
        last_day=cube.last_day,
        left_out=cube.left_out,
        most=MOST_CONVERSATIONS,
        days=sorted(
            (file.path.removesuffix(".html") for file in parquet.store.list_files("reports", "daily_report")),
            reverse=True,
        ),
        zone=settings.report_timezone,
        targets=settings.response_targets,
        as_of=as_of,
        withheld=cube.withheld,
        least=least,
    ).encode()
    address = parquet.store.write_file("reports/dashboard.html", page)
    return dg.MaterializeResult(
        metadata={
            "page": dg.MetadataValue.path(address),
            "bytes": len(page),
            "cells": sum(cube.counts.values()),
            "withheld_conversations": cube.withheld,
            **_figures(headline),
        }
    )


@report_asset(
    "exports",
    holds=IDS,
    description="What the dashboard shows as CSV files and an XLSX workbook, and one row per conversation.",
    kinds={"csv", "excel"},
    deps=[
        *(list(table.path) for table in MARTS),
        list(FACT),
        ["facts", "stg_messages"],
        ["facts", "fct_wait"],
        ["facts", "fct_response"],
        ["facts", "fct_llm_call"],
        ["facts", "user_day"],
        ["facts", "fct_status_event"],
    ],
)
def exports(
    duckdb: dg.ResourceParam[DuckDBEngine],
    parquet: dg.ResourceParam[ParquetIOManager],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[None]:
    """Every table as reports/exports/NAME.csv and as a sheet of cai-export.xlsx, each file replaced whole."""
    as_of = _as_of(duckdb, parquet.files(FACT))
    counts = parquet.row_counts(FACT)
    facts = sheets.about(settings.report_timezone, as_of)
    files: dict[str, int] = {}
    with parquet.store.spool() as folder:
        book = sheets.Workbook(folder / WORKBOOK, facts)
        for name in NAMES:
            made = next(
                export_sheets(
                    *(duckdb, parquet.files, model_parameters(settings), [name]),
                    as_of=as_of,
                    partitions=sorted(counts),
                    least=settings.min_group_size,
                )
            )
            path = folder / f"{name}.csv"
            tables = made.tables
            # A workbook of more rows takes minutes to write and nobody's Excel opens it; the CSV has them
            # all.
            if name != CONVERSATIONS or sum(counts.values()) <= WORKBOOK_CONVERSATIONS:
                tables = book.passing(name, tables)
            files[path.name] = sheets.write_csv(path, tables).rows
        files[WORKBOOK] = book.close().rows
        for name in files:
            parquet.store.publish(folder / name, "reports", "exports", name)
    parquet.store.settle("reports", "exports", list(files))
    return dg.MaterializeResult(
        metadata={
            "folder": dg.MetadataValue.path(parquet.store.location("reports", "exports")),
            "workbook": dg.MetadataValue.path(parquet.store.location("reports", "exports", WORKBOOK)),
            "dagster/row_count": files[f"{CONVERSATIONS}.csv"],
            "files": dg.MetadataValue.table(
                [dg.TableRecord({"file": name, "rows": rows}) for name, rows in files.items()]
            ),
        }
    )


REPORTS = (analytics_reports, user_analytics, daily_report, dashboard, exports, plain_parquet)
