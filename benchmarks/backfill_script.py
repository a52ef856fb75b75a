"""The whole graph as one bare script: the platform's own functions in plain loops, and no Dagster run.

What `backfill.py` compares the graph with. It reads the source, keeps documents, asks Dify, writes the lake,
facts and marts, publishes the reports and asks every check's question, in the same order, for as many days
at a time, with the same settings. It has no retries of steps, no records, no metadata, and nobody to show
them to.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from cai_assets.assets.analytics import AS_OF, FACT, model_parameters
from cai_assets.assets.reports import (
    DAILY_QUERIES,
    LISTED_CONVERSATIONS,
    WORKBOOK,
    report_documents,
)
from cai_assets.assets.topics import find_topics
from cai_assets.checks.conservation import FACTS_OF_LAKE
from cai_assets.checks.quality import COVERAGE, UNITS
from cai_assets.checks.sql import schema_query
from cai_assets.domain import charts, pages, sheets, topic_tables
from cai_assets.domain.days import day_bounds, day_of
from cai_assets.domain.documents import DocumentBatch
from cai_assets.engines.cube import MOST_CONVERSATIONS, build_cube
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.exports import NAMES
from cai_assets.engines.exports import sheets as export_sheets
from cai_assets.engines.following import newest
from cai_assets.engines.models import CLOCK_PARAMETERS, Model, SqlTest, load_models, load_queries, load_tests
from cai_assets.engines.origins import REPORTED
from cai_assets.engines.reports import run_queries
from cai_assets.engines.spread import Spread
from cai_assets.ranges import stage_documents, stage_model
from cai_assets.resources.business_days import keep_business_days
from cai_assets.resources.dirty_days import DirtyDays
from cai_assets.resources.enrichment import categorise_partitions, detect_languages, translate_partitions
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.live_documents import LiveDocuments
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.plain_copies import copy_plainly
from cai_assets.resources.published import publish
from cai_assets.resources.quality import rejected, without_day
from cai_assets.resources.raw_rows import conversation_days, spooled
from cai_assets.resources.source import open_source
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas import lake, raw
from cai_assets.schemas.base import Table
from cai_assets.schemas.marts import USER
from cai_assets.schemas.settings import BUSINESS_DAY
from cai_assets.schemas.tables import MARTS, TABLES
from cai_assets.settings import Settings

Days = Sequence[str]
Path = tuple[str, str]


class Script:
    """Everything open that the script uses, and its parts, in the order of the graph."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self.settings = settings
        self.source = stack.enter_context(closing(open_source(settings)))
        self.mongo = stack.enter_context(MongoStore.from_settings(settings))
        self.mongo.ensure_indexes()
        self.store = ObjectStore.from_settings(settings)
        self.spec = ParquetSpec.from_settings(settings)
        self.duckdb = stack.enter_context(
            DuckDBEngine.from_settings(settings, prepare=self.store.duckdb_setup)
        )
        self.spread = stack.enter_context(Spread.from_settings(settings))
        self.business_days = keep_business_days(self.table(BUSINESS_DAY.path), settings)
        self.log = logging.getLogger("script")
        self.dirty = DirtyDays(self.mongo)
        self.parameters = model_parameters(settings)
        self.checks = 0

    def table(self, path: Path) -> LakeTable:
        """A table of the lake."""
        return LakeTable(self.store, TABLES[path], self.spec)

    def files(self, path: Path, partitions: Days | None = None) -> list[str]:
        """Its files."""
        return self.table(path).files(partitions)

    # -- by day

    def days(self, days: Days, run_id: str) -> None:
        """All layers down to the facts and the day's report, for some days, each checked as it is made."""
        self.raw(days, run_id)
        self.documents(days, run_id)
        self.enrich(days, run_id)
        for table in lake.TABLES:
            documents = LiveDocuments(self.mongo, table.name, tuple(days))
            target = self.table(table.path)
            target.commit(stage_documents(self.spread, documents, target, self.settings, days))
            self.check_lake(table, days)
        for path, model in load_models().items():
            if path[0] == "facts":
                target = self.table(path)
                inputs = self.inputs(model, days)
                values = self.values(model)
                target.commit(stage_model(self.spread, model, inputs, values, target, self.settings, days))
                self.check_table(path, days)
        self.daily_report(days)

    def raw(self, days: Days, run_id: str) -> None:
        """The source's rows, verbatim."""
        settings, zone = self.settings, self.settings.timezone
        marks = self.dirty.reading(days)
        stream = self.source.conversations(day_bounds(days[0], zone)[0], day_bounds(days[-1], zone)[1])
        rows = ((day_of(row.started_at, zone), row) for row in stream)
        with spooled(raw.CONVERSATIONS, rows, settings.chunk_size) as spool:
            kept = self.table(raw.CONVERSATIONS.path).replace(days, spool.batches())
        self.dirty.read("conversations", marks, run_id=run_id)
        self.holds(stream.source_rows == kept.row_count)
        marks = self.dirty.reading(days)
        known = self.table(raw.CONVERSATIONS.path).select(days)
        of = conversation_days(known.batches(["partition", "row"], settings.chunk_size))
        stream = self.source.messages(list(of))
        said = ((day, row) for row in stream for day in of[str(row.values["conversation_id"])])
        with spooled(raw.MESSAGES, said, settings.chunk_size) as spool:
            kept = self.table(raw.MESSAGES.path).replace(days, spool.batches())
        self.dirty.read("messages", marks, run_id=run_id)
        self.holds(stream.source_rows == kept.row_count)

    def documents(self, days: Days, run_id: str) -> None:
        """Documents of MongoDB."""
        for name in ("conversations", "messages"):
            found = self.table(("raw", name)).select(days)
            live: dict[str, Any] = {}
            if name == "messages":
                live["live_conversations"] = lambda day: self.mongo.live_ids("conversations", day)
            batch = DocumentBatch(
                name, tuple(days), rows=lambda day, found=found: found.narrowed([day]).to_table(), **live
            )
            self.mongo.replace_partitions(batch, run_id=run_id, now=datetime.now(UTC))
            self.dirty.arrived(name, tuple(days), run_id=run_id)
            kinds = self.mongo.accounted(name, days)
            accounted = {day: sum(counts.values()) for day, counts in kinds.items()}
            self.equal(self.table(("raw", name)).row_counts(days), accounted)
            self.ask(lambda name=name: rejected(self.mongo, name, days))
        self.ask(lambda: (rejected(self.mongo, "messages", days), without_day(self.mongo, "messages")))

    def enrich(self, days: Days, run_id: str) -> None:
        """Languages, translations, categories."""
        detect_languages(self.mongo, days, self.settings, self.log)
        translate_partitions(self.mongo, days, self.settings, run_id, self.log)
        categorise_partitions(self.mongo, days, self.settings, run_id, self.log)

    def daily_report(self, days: Days) -> None:
        """A page a day, and the picture that the UI shows of it."""
        for day in days:
            files = partial(self.files, partitions=[day])
            tables = run_queries(self.duckdb, DAILY_QUERIES, files, self.parameters)
            transcripts: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for row in tables["transcripts"]:
                transcripts[row["conversation_id"]].append(row)
            hours = charts.hours(tables["hours"]) if tables["hours"] else None
            page = pages.daily_page(
                day=day,
                headline=tables["headline"][0],
                clocks=tables["response_clocks"],
                hours_svg=pages.svg(hours) if hours else "",
                conversations=tables["conversations"],
                transcripts=transcripts,
                shown=LISTED_CONVERSATIONS,
                zone=self.settings.timezone,
                least=self.settings.min_group_size,
            )
            self.store.write_file(f"reports/daily_report/{day}.html", page.encode())
            if hours:
                pages.png({**hours, "width": 420, "height": 110})

    # -- over all days

    def whole(self) -> None:
        """Marts, topics and reports."""
        for path, model in load_models().items():
            if path[0] == "marts":
                files = {key: found.files for key, found in self.inputs(model, None).items()}
                rows = self.duckdb.run(model, files, self.values(model), table=TABLES[path])
                self.table(path).replace(None, rows)
                self.check_table(path, None)
        paths = {path for query in load_queries("topics") for path in query.inputs}
        loaded = {path: self.table(path).select(None) for path in paths}
        found, placed = find_topics(self.duckdb, loaded, self.settings.topics)
        for path, table in topic_tables.tables(found, placed).items():
            self.table(path).replace(None, table)
            self.check_table(path, None)
        microseconds = self.as_of()
        as_of = datetime.fromtimestamp(microseconds / 1e6, UTC)
        self.analytics_reports(as_of)
        self.plain_parquet()
        self.dashboard(as_of)
        self.exports(as_of)

    def analytics_reports(self, as_of: datetime) -> None:
        """MongoDB documents of marts and users."""
        zone = self.settings.report_timezone

        def documents() -> Iterator[tuple[str, dict[str, Any]]]:
            for table in REPORTED:
                sql = f"select * from marts.{table.name}"  # noqa: S608  names of declared tables
                rows = self.duckdb.query(sql, {table.path: self.files(table.path)}).to_pylist()
                yield from report_documents(table, rows, zone=zone, as_of=as_of)

        publish(self.mongo, "analytics_reports", documents(), stamps={})
        users = self.duckdb.query("select * from marts.user", {USER.path: self.files(USER.path)}).to_pylist()
        publish(
            self.mongo,
            "user_analytics",
            ((row["user_id"], {name: _plain(value) for name, value in row.items()}) for row in users),
            stamps={},
        )

    def plain_parquet(self) -> None:
        """Plain copies of the marts."""
        for table in MARTS:
            copy_plainly(self.table(table.path).select(None), self.spec)

    def dashboard(self, as_of: datetime) -> None:
        """The page over all days."""
        headline = run_queries(self.duckdb, ["headline"], self.files, {})["headline"][0]
        assert headline
        least = self.settings.min_group_size
        cube = build_cube(self.duckdb, self.files, self.parameters, as_of=as_of, least=least)
        page = pages.dashboard_page(
            header=cube.header,
            cube=cube.blob,
            carried=newest(self.duckdb, self.files, LISTED_CONVERSATIONS),
            first_day=cube.first_day,
            last_day=cube.last_day,
            left_out=cube.left_out,
            most=MOST_CONVERSATIONS,
            days=sorted(
                (f.path.removesuffix(".html") for f in self.store.list_files("reports", "daily_report")),
                reverse=True,
            ),
            zone=self.settings.report_timezone,
            targets=self.settings.response_targets,
            as_of=as_of,
            withheld=cube.withheld,
            least=least,
        )
        self.store.write_file("reports/dashboard.html", page.encode())

    def exports(self, as_of: datetime) -> None:
        """CSV files and a workbook."""
        counts = self.table(FACT).row_counts()
        least = self.settings.min_group_size
        with self.store.spool() as folder:
            book = sheets.Workbook(folder / WORKBOOK, sheets.about(self.settings.report_timezone, as_of))
            names = [WORKBOOK]
            for name in NAMES:
                made = next(
                    export_sheets(
                        *(self.duckdb, self.files, self.parameters, [name]),
                        as_of=as_of,
                        partitions=sorted(counts),
                        least=least,
                    )
                )
                sheets.write_csv(folder / f"{name}.csv", book.passing(name, made.tables))
                names.append(f"{name}.csv")
            book.close()
            for name in names:
                self.store.publish(folder / name, "reports", "exports", name)

    # -- what models are run with

    def inputs(self, model: Model, days: Days | None) -> dict[Path, LakeFiles]:
        """Files of a model's inputs."""
        return {
            path: self.business_days.files if path == BUSINESS_DAY.path else self.table(path).select(days)
            for path in model.inputs
        }

    def as_of(self) -> int:
        """The latest change of the source."""
        return int(self.duckdb.query(AS_OF, {FACT: self.files(FACT)})["as_of_us"][0].as_py())

    def values(self, model: Model) -> Mapping[str, Any]:
        """Values of a model's parameters."""
        values = dict(self.parameters)
        if CLOCK_PARAMETERS & set(model.parameters):
            as_of = self.as_of()
            values |= {"as_of_us": as_of, "as_of_business_us": self.business_days.business_us(as_of)}
        return {name: values[name] for name in model.parameters}

    # -- checks

    def holds(self, passed: bool) -> None:
        """Note a check, and stop where it fails."""
        self.checks += 1
        if not passed:
            raise SystemExit(f"check {self.checks} of the script failed")

    def equal(self, left: Mapping[str, int], right: Mapping[str, int]) -> None:
        """A check that two sides count the same on every day; a day that is absent counts 0."""
        self.holds({k: v for k, v in left.items() if v} == {k: v for k, v in right.items() if v})

    def ask(self, question: Callable[[], object]) -> None:
        """A check that only warns: its question is asked."""
        question()
        self.checks += 1

    def check_table(self, path: Path, days: Days | None) -> None:
        """What a table's declaration promises, and the queries that name it last."""
        self.check_schema(path, days)
        for test in load_tests():
            if test.asset == path:
                self.check_test(test, days)
        if path[0] == "facts" and path[1] in FACTS_OF_LAKE:
            counted = self.table(("lake", FACTS_OF_LAKE[path[1]])).row_counts(days)
            self.equal(counted, self.table(path).row_counts(days))

    def check_schema(self, path: Path, days: Days | None) -> None:
        """No NULL where none may stand, only declared values, no key twice."""
        self.holds(
            self.duckdb.query(schema_query(TABLES[path]), {path: self.files(path, days)}).num_rows == 0
        )

    def check_test(self, test: SqlTest, days: Days | None) -> None:
        """A query of `dbt_like_sql/tests`."""
        inputs = {path: self.files(path, days) for path in test.inputs}
        values = {name: self.parameters[name] for name in test.parameters}
        self.holds(self.duckdb.query(test.sql, inputs, values).num_rows == 0)

    def check_lake(self, table: Table, days: Days) -> None:
        """Documents and rows are as many; coverage and budget."""
        self.check_table(table.path, days)
        self.equal(self.mongo.live_counts(table.name, days), self.table(table.path).row_counts(days))
        if table.name in UNITS:
            unit, answered = UNITS[table.name][:2]
            sql = COVERAGE.format(unit=unit, answered=answered, table=table.name)
            for _ in ("coverage", "budget"):
                self.ask(lambda: self.duckdb.query(sql, {table.path: self.files(table.path, days)}))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    return str(value) if isinstance(value, date | Decimal) else value


def script(settings: Settings, days: Days, days_per_run: int) -> dict[str, Any]:
    """Do all of it, and tell how many checks there were."""
    with ExitStack() as stack:
        work = Script(settings, stack)
        for number, first in enumerate(range(0, len(days), days_per_run)):
            work.days(days[first : first + days_per_run], f"script-{number}")
        work.whole()
        return {"checks": work.checks}
