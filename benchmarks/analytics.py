"""Facts and marts: how fast they are made, beside bare DuckDB and other tools, and in how much memory.

Proves four claims over a lake of a year of made-up conversations:

1. all facts and marts, staged and committed as the assets do it, take at most 1.15 times as long as one bare
   DuckDB script that runs the same SQL texts, reads the same Parquet files and writes the same layout (a
   folder a day for facts, a month for marts; zstd 3; the declared order), from 1,000,000 messages on. With
   fewer, a file a table and day, synced to disk and logged, costs more than its rows: shown, without a bar;
2. other ways to make the same tables, in a table: the same script with one file a model, dbt-duckdb, Polars
   (ENGINE=cudf without a GPU), PySpark on this machine (ENGINE=spark), and the core models in pandas. Their
   values are compared with the platform's: whole numbers, texts and days exactly, others to 1e-9;
3. the facts of one day are made anew in under 1 % of the time of the whole year, from 1,000,000 messages on;
4. the largest size goes through with DUCKDB_MEMORY_LIMIT=1GB, in at most 1.75 GB.

    python benchmarks/analytics.py                                     1,000,000 and 10,000,000 messages
    python benchmarks/analytics.py --messages 100000 --rounds 1        a look whether it works
    python benchmarks/analytics.py --peers dbt pandas --skip memory
    python benchmarks/analytics.py --lakes ~/lakes --skip script peers claim 4 alone, of a lake that stays

Each run is a process of its own. Wall and CPU seconds are those of the work, without the start of Python and
imports; for dbt the whole command. Memory is the sum of the high-water marks (VmHWM) of the processes of a
run, but for those that lived less than a tenth of a second.
Platform and script take turns. dbt needs an environment of its own, which is made the first time
(`--dbt` names another). Exits 1 where a claim does not hold or a value differs.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pyarrow.types as pt
from analytics_lake import DAYS, ZONE, day_names

from cai_assets.engines.duckdb_text import quoted, scan
from cai_assets.schemas.base import Table
from cai_assets.schemas.tables import TABLES

HERE = Path(__file__).resolve().parent
SLOWER_AT_MOST, DAY_AT_MOST = 1.15, 0.01
HELD_FROM = 1_000_000
MEMORY_LIMIT, PEAK_AT_MOST_MB = "1GB", 1750.0
DBT = ("dbt-duckdb==1.11.1", "dbt-core>=1.10,<1.12", f"duckdb=={duckdb.__version__}", "pytz")
LOOK_EVERY_S = 0.05
FULL = ("facts", "marts")


@dataclass(frozen=True)
class Run:
    """What a run took.

    Attributes:
        out: the folder it wrote into.
        wall: seconds of each of its parts.
        cpu: CPU seconds of each.
        peak_mb: sum of the high-water marks of its processes, MB.
        files: what it wrote, by table.
    """

    out: Path
    wall: Mapping[str, float]
    cpu: Mapping[str, float]
    peak_mb: float
    files: Mapping[str, Sequence[str]] = field(repr=False)

    def seconds(self, *parts: str) -> float:
        """Wall seconds of these parts, or of all."""
        return sum(self.wall[part] for part in parts or self.wall)

    def cpu_seconds(self, *parts: str) -> float:
        """CPU seconds of these parts, or of all."""
        return sum(self.cpu[part] for part in parts or self.cpu)


@dataclass(frozen=True)
class Claim:
    """A claim and how it came out.

    Attributes:
        name: what is claimed.
        figure: what was measured.
        bar: what it may be at most; None where it is told and not held to anything.
        told: the numbers behind it.
    """

    name: str
    figure: float
    bar: float | None
    told: str

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.bar is None or self.figure <= self.bar


PEERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "flat": ("bare", {}, "bare DuckDB, one file a model: all models"),
    "dbt": ("dbt", {}, "dbt-duckdb, one file a model: all models"),
    "polars": (
        "engine",
        {"engine": "cudf", "enable_gpu": False},
        "Polars by ENGINE=cudf: all models but those of DuckDB alone",
    ),
    "spark": (
        "engine",
        {"engine": "spark"},
        "PySpark local by ENGINE=spark: all but those of DuckDB alone",
    ),
    "pandas": ("pandas", {}, "pandas by hand: 6 core models, no business time"),
}


class Bench:
    """Runs over one lake, each in a process of its own."""

    def __init__(self, folder: Path, lakes: Path, messages: int, dbt: Path | None) -> None:
        self.messages = messages
        self._folder = folder / str(messages)
        self._dbt = dbt
        self._made = 0
        self.lake = lakes / f"{messages}-messages"
        self.days = day_names(DAYS)

    def make(self) -> None:
        """Make the lake, unless an earlier call has: it is whole where it has its name."""
        if self.lake.exists():
            print(f"{self.messages:,} messages: the lake is there.", flush=True)
            return
        started = time.perf_counter()
        making = self.lake.with_name(f"{self.lake.name}-making")
        if making.exists():
            shutil.rmtree(making)
        wish = {"folder": str(making), "messages": self.messages, "days": DAYS}
        subprocess.run([sys.executable, str(HERE / "analytics_lake.py"), json.dumps(wish)], check=True)
        making.rename(self.lake)
        took = time.perf_counter() - started
        print(f"{self.messages:,} messages: the lake took {took:.0f} s to make.", flush=True)

    def run(self, what: str, settings: Mapping[str, Any] | None = None, **more: Any) -> Run:
        """One run, into a folder of its own.

        Args:
            what: one of `analytics_runs.RUNS`.
            settings: beyond the defaults.
            more: what else the run wants to know.
        """
        self._made += 1
        out = self._folder / f"{what}-{self._made}"
        wish = {
            "lake": str(self.lake),
            "out": str(out),
            "days": self.days,
            "settings": {"report_timezone": ZONE, **(settings or {})},
            "dbt": str(self._dbt),
            **more,
        }
        command = [sys.executable, str(HERE / "analytics_runs.py"), what, json.dumps(wish)]
        with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as noise:
            process = subprocess.Popen(command, stdout=told, stderr=noise, text=True)
            peaks = watched(process)
            if process.returncode:
                noise.seek(0)
                raise SystemExit(f"{noise.read()[-8000:]}\nthe run {what} failed, see above")
            told.seek(0)
            found = json.loads(told.read().splitlines()[-1])
        peaks[process.pid] = found.pop("peak_kib")
        return Run(out=out, peak_mb=sum(peaks.values()) / 1024, **found)

    def forget(self, *runs: Run) -> None:
        """Remove what runs wrote."""
        for run in runs:
            assert run.out.parent == self._folder
            shutil.rmtree(run.out)


def watched(process: subprocess.Popen[str]) -> dict[int, int]:
    """VmHWM of each process of a run as last seen (KiB), until the run has ended.

    One that was seen only once is left out: between fork and exec a child shows the memory of its parent.
    """
    peaks: dict[int, int] = {}
    seen: Counter[int] = Counter()
    while process.poll() is None:
        for pid in tree(process.pid):
            if peak := high_water(pid):
                peaks[pid] = peak
                seen[pid] += 1
        time.sleep(LOOK_EVERY_S)
    return {pid: peak for pid, peak in peaks.items() if seen[pid] > 1}


def tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:  # it has ended meanwhile
            continue
        for child in found:
            yield from tree(int(child))


def high_water(pid: int) -> int:
    """VmHWM of a process in KiB; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)


# -- values


def differences(ours: Run, theirs: Run) -> list[str]:
    """In what the tables of two runs differ; only tables and columns that both have are compared."""
    found = []
    for name, files in theirs.files.items():
        layer, _, table = name.partition(".")
        columns = pq.read_schema(files[0]).names
        wrong = differing(TABLES[layer, table], columns, ours.files[name], files)
        found += [f"{name}: {rows:,} rows {what}" for what, rows in wrong.items() if rows]
    return found


def differing(
    table: Table, columns: Sequence[str], ours: Sequence[str], theirs: Sequence[str]
) -> dict[str, int]:
    """Rows that one side lacks, and rows that differ, by column."""
    key = list(dict.fromkeys([*filter(None, [table.partition_by]), *table.key]))
    parts = ["count(*) filter (where a.there is null or b.there is null) as missing"]
    compared = [column for column in table.columns if column.name in columns and column.name not in key]
    for column in compared:
        a, b = (f"{side}.{quoted(column.name)}" for side in "ab")
        differ = f"{a} is distinct from {b}"
        if pt.is_floating(column.type):
            differ += f" and coalesce(abs({a} - {b}) > 1e-9 * greatest(abs({a}), abs({b})), true)"
        parts.append(f"count(*) filter (where a.there and b.there and {differ}) as {quoted(column.name)}")
    on = " and ".join(f"a.{quoted(name)} is not distinct from b.{quoted(name)}" for name in key)
    a, b = (f"(select *, true as there from {scan(files)})" for files in (ours, theirs))  # noqa: S608  of runs
    sql = f"select {', '.join(parts)} from {a} as a full join {b} as b on {on}"  # noqa: S608  of declarations
    with duckdb.connect() as connection:
        (row,) = connection.execute(sql).fetchall()
    names = ["are on one side only", *(f"differ in {column.name}" for column in compared)]
    return {name: rows for name, rows in zip(names, row, strict=True) if rows}


def latest_change(run: Run) -> int:
    """The latest change of the source, by the facts of a run."""
    files = scan(run.files["facts.fct_conversation"])
    with duckdb.connect() as connection:
        return int(connection.execute(f"select max(source_updated_us) from {files}").fetchall()[0][0])  # noqa: S608


# -- claims


def against_script(bench: Bench, rounds: int) -> tuple[list[Claim], Run, list[str]]:
    """Claims 1 and 3: the platform and the script in turns. Also the platform's last run."""
    again = [bench.days[len(bench.days) // 2]]
    turns: list[tuple[Run, Run]] = []
    for turn in range(rounds):
        found: dict[str, Run] = {}
        for what in ("ours", "bare") if turn % 2 == 0 else ("bare", "ours"):
            found[what] = bench.run(what, **({"again": again} if what == "ours" else {"hive": True}))
        if turns:
            bench.forget(*turns[-1])
        turns.append((found["ours"], found["bare"]))
    ratio = statistics.median(mine.seconds(*FULL) / script.seconds() for mine, script in turns)
    cpu = statistics.median(mine.cpu_seconds(*FULL) / script.cpu_seconds() for mine, script in turns)
    day = statistics.median(mine.seconds("one day: facts") / mine.seconds(*FULL) for mine, _ in turns)
    mine, script = turns[-1]
    held = bench.messages >= HELD_FROM
    size = f"{bench.messages:,} messages"
    claims = [
        Claim(
            f"{size}: all facts and marts, to the bare script",
            ratio,
            SLOWER_AT_MOST if held else None,
            f"CPU {cpu:.2f}; facts {mine.seconds('facts'):.1f} s, marts {mine.seconds('marts'):.1f} s, "
            f"script {script.seconds():.1f} s; peak {mine.peak_mb:,.0f} MB, script {script.peak_mb:,.0f} MB",
        ),
        Claim(
            f"{size}: facts of one of {len(bench.days)} days, to all",
            day,
            DAY_AT_MOST if held else None,
            f"{mine.seconds('one day: facts'):.2f} s; the marts over all days after it "
            f"{mine.seconds('one day: marts'):.1f} s",
        ),
    ]
    wrong = [f"{size}: script: {one}" for one in differences(mine, script)]
    bench.forget(script)
    return claims, mine, wrong


def beside(bench: Bench, mine: Run, peers: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Claim 2: the table of other ways, and in what their values differ."""
    rows = [_row("the platform: all models", mine.seconds(*FULL), mine.cpu_seconds(*FULL), mine.peak_mb)]
    wrong: list[str] = []
    as_of = latest_change(mine)
    show_rows(rows, head=True)
    for name in peers:
        what, settings, title = PEERS[name]
        run = bench.run(what, settings, as_of=as_of)
        rows.append(_row(title, run.seconds(), run.cpu_seconds(), run.peak_mb))
        show_rows(rows[-1:])
        wrong += [f"{name}: {one}" for one in differences(mine, run)]
        bench.forget(run)
    return rows, wrong


def _row(title: str, wall: float, cpu: float, peak: float) -> dict[str, Any]:
    return {"what": title, "wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_mb": round(peak)}


def in_little_memory(bench: Bench) -> Claim:
    """Claim 4."""
    run = bench.run("ours", {"duckdb_memory_limit": MEMORY_LIMIT})
    bench.forget(run)
    return Claim(
        f"{bench.messages:,} messages with DUCKDB_MEMORY_LIMIT={MEMORY_LIMIT}: peak MB",
        run.peak_mb,
        PEAK_AT_MOST_MB,
        f"{run.seconds():.1f} s, CPU {run.cpu_seconds():.1f} s",
    )


def dbt_of(folder: Path) -> Path:
    """dbt, in an environment of its own: its pins are not the platform's."""
    found = folder.absolute() / "bin" / "dbt"
    if not found.is_file():
        print(f"Making {folder} with dbt.", flush=True)
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        python = str(folder / "bin" / "python")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *DBT], check=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, and print each result as it comes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, nargs="+", default=[1_000_000, 10_000_000], help="sizes")
    parser.add_argument("--rounds", type=int, default=3, help="of platform and script")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="of the table")
    parser.add_argument("--peers-at", type=int, help="size of the table; the first if not given")
    parser.add_argument(
        "--skip", nargs="*", choices=["script", "peers", "memory"], default=[], help="what to leave out"
    )
    parser.add_argument("--folder", type=Path, help="where to work; some 8 GB at 10,000,000 messages")
    parser.add_argument("--lakes", type=Path, help="folder of lakes that are kept, for parts run one by one")
    parser.add_argument("--dbt", type=Path, help="folder of an environment with dbt-duckdb")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    options = parser.parse_args(arguments)
    peers = [] if "peers" in options.skip else options.peers
    dbt = dbt_of(options.dbt or HERE.parent / ".venv" / "dbt") if "dbt" in peers else None
    sizes = sorted(options.messages)
    claims: list[Claim] = []
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    for kept in filter(None, [options.folder, options.lakes]):
        kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cai-analytics-benchmark-", dir=options.folder) as folder:
        for messages in sizes:
            largest = messages == sizes[-1]
            bench = Bench(Path(folder), (options.lakes or Path(folder)).absolute(), messages, dbt)
            bench.make()
            beside_at = bool(peers) and messages == (options.peers_at or sizes[0])
            mine = None
            if "script" not in options.skip:
                found, mine, differ = against_script(bench, options.rounds)
                claims += found
                show(found)
                wrong += show_differences(differ)
            if beside_at:
                mine = mine or bench.run("ours")
                rows, differ = beside(bench, mine, peers)
                wrong += show_differences(differ)
            if mine:
                bench.forget(mine)
            if largest and "memory" not in options.skip:
                claims.append(in_little_memory(bench))
                show(claims[-1:])
            if not options.lakes:
                shutil.rmtree(bench.lake)
    if options.json:
        told = {"claims": [{**asdict(one), "holds": one.holds} for one in claims], "table": rows}
        options.json.write_text(json.dumps({**told, "differs": wrong}, indent=2) + "\n")
    return 0 if all(one.holds for one in claims) and not wrong else 1


def show(claims: Sequence[Claim]) -> None:
    """Print claims."""
    for one in claims:
        kept = "    " if one.bar is None else "ok  " if one.holds else "MISS"
        bar = "" if one.bar is None else f" (<= {one.bar:g})"
        print(f"{kept} {one.name}: {one.figure:,.4g}{bar}; {one.told}", flush=True)


def show_differences(wrong: list[str]) -> list[str]:
    """Print and return in what values differ."""
    for one in wrong:
        print(f"DIFFERS {one}", flush=True)
    return wrong


def show_rows(rows: Sequence[Mapping[str, Any]], *, head: bool = False) -> None:
    """Print rows of the table."""
    if head:
        print(f"     {'':<62}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}")
    for one in rows:
        print(f"     {one['what']:<62}{one['wall_s']:>9}{one['cpu_s']:>9}{one['peak_mb']:>9,}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
