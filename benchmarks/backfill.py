"""A year in one go: the whole graph over 365 days, beside a bare script and beside Dagster alone.

    python benchmarks/backfill.py                                365 days, some ten minutes on two cores
    python benchmarks/backfill.py --days 30                      a look whether it works
    python benchmarks/backfill.py --profile folder               also where the CPU seconds go, by cProfile

Measured, each in a process of its own and over servers of its own (the sandbox's NocoDB and Dify, the
embedded MongoDB, without any pace):

- the graph: every asset and check of the code location over all days, in the runs of `cai backfill`, with
  records in SQLite as `cai` keeps them;
- the script: the same work in plain loops (`backfill_script.py`), for as many days at a time;
- Dagster's own share: the same graph, its bodies empty. Assets, checks, partitions and events are the same,
  also what materialisations and checks tell, as recorded from the real bodies.

Proves three claims:

1. the graph takes at most 1.3 times the script's seconds and Dagster's own share together, in wall and CPU;
2. the graph and the script make the same tables (whole numbers, texts and days exactly, others to 1e-9; but
   for stamps of the run, and for which of several messages with one text paid for it) and the same reports;
3. there is one run for each `--days-per-run` days, and one for the tables over all days.

Wall and CPU seconds are those of the measured process, without the start of Python, imports and the loading
of definitions. CPU of the servers is told beside it. Memory is the process's high-water mark (VmHWM).
Exits 1 where a claim does not hold.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analytics import differing

from cai_assets.domain.days import DAYS_PER_RUN, days_between
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.resources.secantus import SecantusProcess
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.sandbox.sample import generate
from cai_assets.schemas.base import Table
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

HERE = Path(__file__).resolve().parent
FIRST = "2024-03-01"
MOST = 1.3
# Stamps and ids of the run itself.
VOLATILE = {"extracted_at", "call_id", "workflow_run_id", "latency_ms", "source_id", "created_at_ms"}
# Which of several messages with one text pays for it is a matter of threads: so is what is summed of it.
LEDGER = {("lake", "llm_calls"), ("facts", "fct_llm_call"), ("marts", "cost")}
OF_LEDGER = {
    ("facts", "fct_conversation"): {"llm_cost", "llm_currency", "tokens"},
    ("marts", "language"): {"cached", "tokens", "price", "lag_p50_s", "lag_p95_s"},
    ("marts", "category"): {"tokens", "price"},
    ("marts", "user"): {"tokens", "price"},
}


@dataclass(frozen=True)
class Run:
    """What one of the three took.

    Attributes:
        wall: seconds.
        cpu: CPU seconds of its process.
        servers_cpu: of the source, Dify and MongoDB.
        peak_mb: its high-water mark.
        told: what else it tells.
        settings: what it ran with.
    """

    wall: float
    cpu: float
    servers_cpu: float
    peak_mb: float
    told: Mapping[str, Any]
    settings: Settings

    @property
    def events(self) -> int:
        """Rows of the event log."""
        return sum(self.told.get("events", {}).values())


class Bench:
    """Runs over one sample, in a folder."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._data = folder / "data"
        self._data.mkdir()
        sample = generate(days=options.days, start=FIRST, conversations_per_day=options.conversations_per_day)
        sample.write(self._data)
        self.messages = sample.messages.num_rows
        started = sample.conversations["started_at"].to_pylist()
        self.days = days_between(FIRST, max(started).date().isoformat())[: options.days]

    def run(self, what: str, title: str, *, empty: bool = False, servers: bool = True) -> Run:
        """One run, over servers that hold nothing yet."""
        place = self._folder / title
        place.mkdir()
        wish = {
            "days": self.days,
            "days_per_run": self._options.days_per_run,
            "empty": empty,
            "recorded": str(self._folder / "recorded.json"),
            "profile": str(self._options.profile / f"{title}.prof") if self._options.profile else None,
        }
        with (
            SecantusProcess(place / "mongo") as mongo,
            SandboxProcess.start(self._data) as sandbox,
        ):
            variables = {
                **sandbox.environment(),
                "NOCODB_MAX_REQUESTS_PER_SECOND": "100000",
                "MONGODB_URI": mongo.uri,
                "PARQUET_BASE_DIR": str(place / "lake"),
                "PSEUDONYM_KEY": "a key for benchmarks",
                "DAGSTER_HOME": str(place / "dagster"),
            }
            (place / "dagster").mkdir()
            shutil.copy(HERE.parent / "cai_assets/templates/dagster.yaml", place / "dagster")
            before = cpu_of(mongo.pid) + cpu_of(sandbox.pid)
            done = subprocess.run(
                [sys.executable, "-W", "ignore", str(HERE / "backfill_runs.py"), what, json.dumps(wish)],
                env={**_plain_environment(), **variables},
                cwd=place,
                capture_output=True,
                text=True,
                check=False,
            )
            servers_cpu = cpu_of(mongo.pid) + cpu_of(sandbox.pid) - before
        if done.returncode:
            raise SystemExit(f"{done.stderr[-6000:]}\nthe run {title} failed, see above")
        told = json.loads(done.stdout.splitlines()[-1])
        known = {name.lower(): value for name, value in variables.items()}
        settings = Settings(_env_file=None, **{k: v for k, v in known.items() if k in Settings.model_fields})
        return Run(told.pop("wall"), told.pop("cpu"), servers_cpu, told.pop("peak_mb"), told, settings)


def _plain_environment() -> dict[str, str]:
    """This process's environment without any setting of the platform or of Dagster."""
    names = {name.upper() for name in Settings.model_fields}
    return {k: v for k, v in os.environ.items() if k not in names and not k.startswith(("CAI_", "DAGSTER_"))}


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


# -- values


def differences(ours: Run, theirs: Run) -> list[str]:
    """In what the lakes and the report files of two runs differ."""
    lakes = [ParquetIOManager.from_settings(run.settings) for run in (ours, theirs)]
    wrong = []
    for path, table in TABLES.items():
        name = ".".join(path)
        counts = [lake.row_counts(path) for lake in lakes]
        if counts[0] != counts[1] and path not in LEDGER:
            wrong.append(f"{name}: rows by partition")
        if path in LEDGER:
            if sum(counts[0].values()) != sum(counts[1].values()):
                wrong.append(f"{name}: {sum(counts[0].values())} and {sum(counts[1].values())} rows")
            continue
        if not counts[0]:
            continue
        found = differing(table, compared(table), *(lake.files(path) for lake in lakes))
        wrong += [f"{name}: {rows:,} rows {what}" for what, rows in found.items()]
    for folder in ("daily_report", "exports", "marts"):
        mine, script = ({one.path for one in lake.store.list_files("reports", folder)} for lake in lakes)
        if mine != script or not mine:
            wrong.append(
                f"reports/{folder}: {len(mine)} and {len(script)} files, as {sorted(mine ^ script)[:5]}"
            )
    return wrong


def compared(table: Table) -> list[str]:
    """Columns of a table that both must have alike."""
    left_out = VOLATILE | OF_LEDGER.get(table.path, set())
    return [column.name for column in table.columns if column.name not in left_out]


# -- claims


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=365, help="days (default 365)")
    parser.add_argument(
        "--conversations-per-day", type=int, default=10, help="of some nine messages each (default 10)"
    )
    parser.add_argument(
        "--days-per-run", type=int, default=DAYS_PER_RUN, help=f"days of a run (default {DAYS_PER_RUN})"
    )
    parser.add_argument("--profile", type=Path, help="folder for profiles; timings mean nothing then")
    parser.add_argument("--folder", type=Path, help="where to work; some 500 MB")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    options = parser.parse_args(arguments)
    if options.profile:
        options.profile = options.profile.absolute()
        options.profile.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cai-backfill-benchmark-", dir=options.folder) as name:
        bench = Bench(Path(name), options)
        print(f"{len(bench.days)} days, {bench.messages:,} messages", flush=True)
        runs = {
            "the graph": bench.run("graph", "graph"),
            "the script": bench.run("script", "script"),
            "Dagster's own share": bench.run("graph", "empty", empty=True),
        }
        show(runs)
        ours, script, empty = runs.values()
        wrong = differences(ours, script)
    failed = [f"DIFFERS {one}" for one in wrong]
    ratios = {}
    for what in ("wall", "cpu"):
        whole, bare, own = (getattr(run, what) for run in (ours, script, empty))
        ratios[what] = whole / (bare + own)
        print(
            f"{'ok  ' if ratios[what] <= MOST else 'MISS'} {what}: {whole:.1f} s of the graph to "
            f"{bare:.1f} s of the script and {own:.1f} s of Dagster: {ratios[what]:.2f} (<= {MOST})"
        )
        if ratios[what] > MOST:
            failed.append(f"{what} seconds are {ratios[what]:.2f} times script and Dagster, not {MOST}")
    most = -(-len(bench.days) // options.days_per_run)
    most += most > 1
    if ours.told["runs"] > most:
        failed.append(f"{ours.told['runs']} runs, not {most}")
    if ours.told["checks"] < script.told["checks"]:
        failed.append(f"the graph has {ours.told['checks']} checks, the script {script.told['checks']}")
    for one in failed:
        print(one)
    if options.json:
        told = {
            title: {
                "wall": run.wall,
                "cpu": run.cpu,
                "servers_cpu": run.servers_cpu,
                "peak_mb": run.peak_mb,
                **run.told,
            }
            for title, run in runs.items()
        }
        options.json.write_text(json.dumps({"runs": told, "ratios": ratios, "failed": failed}, indent=2))
    return bool(failed)


def show(runs: Mapping[str, Run]) -> None:
    """Print the table, and the rows of the event log by kind."""
    heads = f"{'servers CPU s':>15}{'peak MB':>9}{'runs':>6}{'events':>8}{'MB':>6}"
    print(f"{'':<22}{'wall s':>8}{'CPU s':>8}{heads}")
    for title, run in runs.items():
        told = run.told
        print(
            f"{title:<22}{run.wall:>8.1f}{run.cpu:>8.1f}{run.servers_cpu:>15.1f}{run.peak_mb:>9,.0f}"
            f"{told.get('runs', ''):>6}{run.events or '':>8}{round(told.get('records_mb', 0)) or '':>6}"
        )
    kinds = next(iter(runs.values())).told["events"]
    print("events: " + ", ".join(f"{rows:,} {kind}" for kind, rows in kinds.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
