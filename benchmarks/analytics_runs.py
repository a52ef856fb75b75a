"""What `analytics.py` runs, each in a process of its own: the platform, and the peers it is compared with.

`python analytics_runs.py NAME WISH` (JSON) does one run into an empty folder and prints a line
of JSON. What is timed is the work alone: not the start of Python, not the imports. Every run reads the Delta
lake's Parquet files, writes Parquet (zstd 3, row groups of 131,072) and says what it wrote, so that values
can be compared.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cai_assets.assets.analytics import AS_OF, FACT, model_parameters
from cai_assets.domain.days import DAYS_PER_RUN
from cai_assets.engines.choice import Engines
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.duckdb_text import duckdb_type, no_rows, order, quoted, text
from cai_assets.engines.models import CLOCK_PARAMETERS, DUCKDB_ALONE, Model, TablePath, load_models
from cai_assets.engines.spread import Spread
from cai_assets.ranges import stage_model
from cai_assets.resources.business_days import keep_business_days
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.object_store import LocalStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.settings import BUSINESS_DAY
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

ROW_GROUP = 131_072
CORE = (
    ("facts", "stg_messages"),
    ("facts", "fct_conversation"),
    ("facts", "fct_wait"),
    ("facts", "fct_traffic"),
    ("marts", "volume"),
    ("marts", "response"),
)
"""The models that are written a second time, in pandas."""

Wish = Mapping[str, Any]


class Watch:
    """Wall and CPU seconds of the work, by part."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Time a part; parts of one name are added up."""
        wall, cpu = time.perf_counter(), _cpu()
        try:
            yield
        finally:
            self.wall[part] = self.wall.get(part, 0.0) + time.perf_counter() - wall
            self.cpu[part] = self.cpu.get(part, 0.0) + _cpu() - cpu


def _cpu() -> float:
    """User and system seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


Made = dict[TablePath, list[str]]
"""The files of each table that a run made."""


def settings_of(wish: Wish) -> Settings:
    """The platform's settings: its defaults, and what the wish names."""
    return Settings(_env_file=None, **wish["settings"])


def lake_files(lake: Path) -> Made:
    """Files of what the models begin with: the lake was written once, so all that lie there count."""
    return {
        path: sorted(str(file) for file in lake.joinpath(*path).rglob("*.parquet"))
        for path in TABLES
        if path[0] in ("lake", "settings")
    }


def values_of(model: Model, settings: Settings, as_of: Callable[[], int]) -> dict[str, Any]:
    """The model's parameters; business hours are not set, so no business time has passed."""
    values = model_parameters(settings)
    if CLOCK_PARAMETERS & set(model.parameters):
        values |= {"as_of_us": as_of(), "as_of_business_us": 0}
    return {name: values[name] for name in model.parameters}


# -- the platform


class Platform:
    """The lake's tables and the engine, put together as the assets put them."""

    def __init__(
        self, lake: LocalStore, out: LocalStore, settings: Settings, spread: Spread, engine: DuckDBEngine
    ) -> None:
        self._lake, self._out = lake, out
        self._settings = settings
        self._spread = spread
        self._engine = engine
        self._spec = ParquetSpec.from_settings(settings)
        self._business_days = keep_business_days(self.table(BUSINESS_DAY.path), settings)

    def table(self, path: TablePath) -> LakeTable:
        """A table: the lake's where the lake is, the others beside it."""
        store = self._lake if path[0] == "lake" else self._out
        return LakeTable(store, TABLES[path], self._spec)

    def facts(self, days: Sequence[str]) -> None:
        """Make the facts of these days, a transaction a table."""
        for path, model in load_models().items():
            if path[0] == "facts":
                inputs, target = self._inputs(model, days), self.table(path)
                values = values_of(model, self._settings, self.as_of)
                staged = stage_model(
                    self._spread, model, inputs, values, target, self._settings, days, engine=self._engine
                )
                target.commit(staged)

    def marts(self) -> None:
        """Make the marts over all that there is."""
        for path, model in load_models().items():
            if path[0] == "marts":
                files = {key: found.files for key, found in self._inputs(model, None).items()}
                values = values_of(model, self._settings, self.as_of)
                self.table(path).replace(None, self._engine.run(model, files, values, table=TABLES[path]))

    def as_of(self) -> int:
        """The latest change of the source."""
        found = self._engine.query(AS_OF, {FACT: self.table(FACT).files()})
        return int(found["as_of_us"][0].as_py())

    def _inputs(self, model: Model, days: Sequence[str] | None) -> dict[TablePath, LakeFiles]:
        return {
            path: self._business_days.files if path == BUSINESS_DAY.path else self.table(path).select(days)
            for path in model.inputs
        }


def ours(wish: Wish, out: Path, watch: Watch) -> Made:
    """Facts a month of days at a time and marts whole, staged and committed as the assets do it."""
    settings = settings_of(wish)
    stores = [LocalStore(folder, workers=settings.io_workers) for folder in (Path(wish["lake"]), out)]
    days = wish["days"]
    with Spread.from_settings(settings) as spread, DuckDBEngine.from_settings(settings) as engine:
        platform = Platform(*stores, settings, spread, engine)
        with watch.on("facts"):
            for start in range(0, len(days), DAYS_PER_RUN):
                platform.facts(days[start : start + DAYS_PER_RUN])
        with watch.on("marts"):
            platform.marts()
        if wish.get("again"):
            with watch.on("one day: facts"):
                platform.facts(wish["again"])
            with watch.on("one day: marts"):
                platform.marts()
    return {path: platform.table(path).files() for path in load_models()}


# -- bare DuckDB


def copy_to(model: Model, target: str, *, hive: bool) -> str:
    """`copy (the model's text, in declared columns and order) to Parquet`."""
    table = TABLES[model.key]
    columns = ", ".join(
        f"cast({quoted(c.name)} as {duckdb_type(c.type)}) as {quoted(c.name)}" for c in table.columns
    )
    options = f"format parquet, compression zstd, compression_level 3, row_group_size {ROW_GROUP}"
    if hive:
        options += f", partition_by ({table.partition_by}), write_partition_columns true"
    rows = f"select {columns} from (\n{model.sql}\n) order by {order(table)}"  # noqa: S608  of the package
    return f"copy ({rows}) to {text(target)} ({options})"


def bare(wish: Wish, out: Path, watch: Watch) -> Made:
    """One script on one DuckDB connection: a view per input, a COPY per model, over all days at once.

    Each model reads the Parquet files before it. With `hive` a folder a day (facts) or month (marts), as the
    platform keeps them; without, one file a model, the least that anybody could write.
    """
    settings = settings_of(wish)
    made: Made = {}
    with watch.on("all"), duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'; set preserve_insertion_order = false")
        connection.execute(f"set temp_directory = {text(str(out / 'spill'))}")
        for layer in ("lake", "settings", "facts", "marts"):
            connection.execute(f"create schema {layer}")
        for path, files in lake_files(Path(wish["lake"])).items():
            _view(connection, path, files)

        def as_of() -> int:
            return int(connection.execute(AS_OF).fetchall()[0][0])

        for path, model in load_models().items():
            hive = bool(wish.get("hive") and TABLES[path].partition_by)
            target = out / (".".join(path) + ("" if hive else ".parquet"))
            connection.execute(copy_to(model, str(target), hive=hive), values_of(model, settings, as_of))
            made[path] = sorted(map(str, target.rglob("*.parquet"))) if hive else [str(target)]
            _view(connection, path, made[path])
    return made


def _view(connection: duckdb.DuckDBPyConnection, path: TablePath, files: Sequence[str]) -> None:
    listed = ", ".join(map(text, files))
    rows = f"from read_parquet([{listed}], hive_partitioning = false)" if files else no_rows(TABLES[path])
    connection.execute(f"create view {quoted(path[0])}.{quoted(path[1])} as {rows}")


# -- other frames and tools


def pandas(wish: Wish, out: Path, watch: Watch) -> Made:
    """The core models as somebody would write them in pandas, all days in memory, a Parquet file a table."""
    from analytics_pandas import Core

    settings = settings_of(wish)
    made: Made = {}
    with watch.on("all"):
        files = lake_files(Path(wish["lake"]))
        core = Core(files, zone=settings.report_timezone, targets=settings.response_targets)
        for path in CORE:
            target, table = out / (".".join(path) + ".parquet"), TABLES[path]
            frame = core.table(path)
            schema = pa.schema([field for field in table.arrow_schema if field.name in frame.columns])
            frame = frame.sort_values(list(dict.fromkeys([*filter(None, [table.partition_by]), *table.key])))
            arrow = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
            pq.write_table(arrow, target, compression="zstd", compression_level=3, row_group_size=ROW_GROUP)
            made[path] = [str(target)]
    return made


def engine(wish: Wish, out: Path, watch: Watch) -> Made:
    """Every model by the platform's engine of the settings, all days at once, a Parquet file a table.

    Models that only DuckDB runs (`DUCKDB_ALONE`) are run by it here too, and not compared: they are there
    for those that read them.
    """
    settings = settings_of(wish)
    files = lake_files(Path(wish["lake"]))
    # A local Spark has 1 GB unless it is told otherwise, and a million messages do not go through that.
    (out / "spark-defaults.conf").write_text("spark.driver.memory 6g\n", encoding="utf-8")
    os.environ.setdefault("SPARK_CONF_DIR", str(out))
    with watch.on("all"):
        with Engines(settings, LocalStore(out / "store", workers=1)) as engines:
            for path, model in load_models().items():
                values = values_of(model, settings, lambda: int(wish["as_of"]))
                inputs = {name: files[name] for name in model.inputs}
                rows = engines.of(path)[0].run(model, inputs, values, table=TABLES[path])
                target = out / (".".join(path) + ".parquet")
                options = ParquetSpec().writer_options(TABLES[path], ROW_GROUP)
                with pq.ParquetWriter(target, rows.schema, **options) as writer:
                    for batch in rows:
                        writer.write_batch(batch)
                files[path] = [str(target)]
        _end_jvm()
    return {path: files[path] for path in load_models() if path not in DUCKDB_ALONE}


def _end_jvm() -> None:
    """Wait for the JVM of a local Spark to end, so that its CPU seconds are told."""
    pyspark = sys.modules.get("pyspark")
    gateway = pyspark.SparkContext._gateway if pyspark else None
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()


def dbt(wish: Wish, out: Path, watch: Watch) -> Made:
    """The same texts as a dbt project, external models in Parquet; timed is the whole command `dbt run`."""
    from analytics_dbt import write_project

    settings = settings_of(wish)
    values: dict[str, Any] = {}
    for model in load_models().values():
        values |= values_of(model, settings, lambda: int(wish["as_of"]))
    project = write_project(out, lake_files(Path(wish["lake"])), values)
    with watch.on("all"):
        done = subprocess.run([wish["dbt"], *project.command], cwd=out, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"dbt failed:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
    return {path: [file] for path, file in project.files.items()}


RUNS: dict[str, Callable[[Wish, Path, Watch], Made]] = {
    "ours": ours,
    "bare": bare,
    "pandas": pandas,
    "engine": engine,
    "dbt": dbt,
}


def peak_kib() -> int:
    """Most memory this process ever had, in KiB: its own high-water mark, not that of a parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise OSError("/proc/self/status tells no VmHWM: this benchmark needs Linux")


def main() -> None:
    """Do the run that the command line names, and print what it took."""
    wish = json.loads(sys.argv[2])
    out = Path(wish["out"])
    out.mkdir(parents=True)
    load_models()  # read and parsed once in a process, by the platform as by its peers: no part of the work
    watch = Watch()
    made = RUNS[sys.argv[1]](wish, out, watch)
    files = {".".join(path): list(found) for path, found in made.items()}
    print(json.dumps({"wall": watch.wall, "cpu": watch.cpu, "peak_kib": peak_kib(), "files": files}))


if __name__ == "__main__":
    main()
