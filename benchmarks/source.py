"""From the source to documents, beside what the two servers can do at most.

Proves three claims about raw/* and documents/*, materialised as Dagster assets from a NocoDB to a MongoDB, at
the pace that NocoDB allows (docs/adr/0037):

- rows a second are at least 80 % of the slower of two ceilings, measured in the same run: the same pages
  fetched and thrown away (the addresses are recorded and asked for again, at the same pace and by as many
  threads), and the same documents inserted by a bare bulk write (same server, same indexes, same batches);
- memory does not grow with the range: the peak of a process that reads ten times the days is within 1.3 times
  (`--memory`);
- MongoDB to Arrow by `read_batches` keeps 90 % of bare pymongoarrow's speed on the same batches.

    python benchmarks/source.py                        at NocoDB's own pace, 4 requests a second
    python benchmarks/source.py --pace 0 --nocodb told.json --data folder
                                                       a real NocoDB without any pace, as fast as it answers
    python benchmarks/source.py --pace 0               the sandbox without any pace: the insert is slower;
                                                       on two cores both miss the 80 %
    python benchmarks/source.py --memory               also 1,000,000 rows against 100,000

The NocoDB is the sandbox, unless `--nocodb` names a JSON file with the NOCODB_* variables of a real one that
holds the conversations of `--data`. The MongoDB is the embedded server; MONGODB_URI names another. Prints a
table; exits 1 where a claim does not hold. Two cores are needed, one for the server that is measured.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pymongo
import requests
from pymongo import InsertOne, MongoClient
from rich.console import Console
from rich.table import Table

from cai_assets.resources.rate_limit import RateLimiter
from cai_assets.resources.secantus import SecantusProcess
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.schemas.documents import COLLECTIONS

LEAST_SHARE, MOST_GROWTH, LEAST_ARROW_SHARE = 0.80, 1.30, 0.90
PER_CONVERSATION = 10
FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)
TABLES = ("conversations", "messages")
WORDS = ("lorem", "ipsum", "dolor", "sit", "amet", "sadipscing", "elitr", "sed", "diam", "nonumy", "eirmod")


@dataclass(frozen=True)
class Measured:
    """What a process that materialised the assets tells of itself."""

    seconds: float
    rows: int
    peak_mb: float
    urls: Sequence[str]


def write_source(folder: Path, rows: int, per_day: int) -> list[str]:
    """A data folder of so many messages, as many a day, ten a conversation; returns its days."""
    conversations = max(1, rows // PER_CONVERSATION)
    days = max(1, rows // per_day)
    starts = [FIRST_DAY + timedelta(seconds=86_400 * days * n // conversations) for n in range(conversations)]
    ids = [f"c-{n:07d}" for n in range(conversations)]
    instants = pa.timestamp("us", "UTC")
    folder.mkdir(parents=True)
    pq.write_table(
        pa.table(
            {
                "conversation_id": ids,
                "user_id": [f"u-{n % 5000}" for n in range(conversations)],
                "channel": ["web"] * conversations,
                "status": ["resolved"] * conversations,
                "started_at": pa.array(starts, instants),
                "language": ["de"] * conversations,
            }
        ),
        folder / "conversations.parquet",
    )
    pairs = [(n, seq) for n in range(conversations) for seq in range(PER_CONVERSATION)]
    pq.write_table(
        pa.table(
            {
                "message_id": [f"m-{n:07d}-{seq}" for n, seq in pairs],
                "conversation_id": [ids[n] for n, _ in pairs],
                "seq": pa.array([seq for _, seq in pairs], pa.int32()),
                "sender_type": ["user" if seq % 2 else "agent" for _, seq in pairs],
                "text": [
                    " ".join(WORDS[(n * 7 + seq + k * k) % len(WORDS)] for k in range(12)) for n, seq in pairs
                ],
                "created_at": pa.array(
                    [starts[n] + timedelta(seconds=30 * seq) for n, seq in pairs], instants
                ),
            }
        ),
        folder / "messages.parquet",
    )
    return [(FIRST_DAY + timedelta(days=n)).date().isoformat() for n in range(days)]


def peak_mib() -> float:
    """The most memory this process had resident, MiB.

    Not by getrusage: its figure counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def materialise(first: str, last: str, told: Path) -> None:
    """The measured process: raw and documents of the days as one Dagster run, as the environment says."""
    import dagster as dg

    from cai_assets.definitions import build_definitions
    from cai_assets.settings import Settings

    urls: list[str] = []
    get = requests.Session.get

    def recording(self: requests.Session, url: str, **options: Any) -> requests.Response:
        urls.append(url)
        return get(self, url, **options)

    requests.Session.get = recording  # type: ignore[method-assign, assignment]
    definitions = build_definitions(Settings(_env_file=None))  # type: ignore[call-arg]
    keys = [dg.AssetKey([layer, name]) for layer in ("raw", "documents") for name in TABLES]
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(keys))
    with dg.DagsterInstance.ephemeral() as instance:
        started = time.perf_counter()
        result = job.execute_in_process(
            instance=instance,
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
        )
        seconds = time.perf_counter() - started
    counts = [
        event.event_specific_data.materialization.metadata["dagster/partition_row_count"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None and event.asset_key.path[0] == "documents"
    ]
    peak_mb = peak_mib()
    told.write_text(json.dumps({"seconds": seconds, "rows": sum(counts), "peak_mb": peak_mb, "urls": urls}))


def measure(environment: Mapping[str, str], days: Sequence[str], folder: Path) -> Measured:
    """Materialise in a process of its own."""
    told = folder / f"{uuid.uuid4().hex}.json"
    command = [sys.executable, __file__, "--materialise", days[0], days[-1], str(told)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, cwd=folder
    )
    if done.returncode:
        sys.exit(f"the measured process failed:\n{done.stderr[-4000:]}")
    return Measured(**json.loads(told.read_text()))


def fetch_bare(measured: Measured, token: str, pace: float, threads: int) -> float:
    """Seconds to ask for the same pages again, at the same pace, and to throw the answers away."""
    session = requests.Session()
    session.headers["xc-token"] = token
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=threads))
    limiter = RateLimiter(pace)

    def fetch(url: str) -> None:
        limiter.acquire()
        session.get(url, timeout=60).raise_for_status()

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fetch, measured.urls))
    return time.perf_counter() - started


def insert_bare(source: str, database: str, target: str, batch_size: int) -> float:
    """Seconds to insert the same documents, with the same indexes; the better of one and two writers."""
    with MongoClient(source) as client:
        documents = {name: list(client[database][name].find()) for name in TABLES}
    with MongoClient(target) as client:
        transactions = "setName" in client.admin.command("hello")
        return min(_insert(client, documents, batch_size, writers, transactions) for writers in (1, 2))


def _insert(
    client: MongoClient[dict[str, Any]],
    documents: Mapping[str, list[dict[str, Any]]],
    batch_size: int,
    writers: int,
    transactions: bool,
) -> float:
    target = client[f"bare_{uuid.uuid4().hex[:8]}"]
    seconds = 0.0
    for name, rows in documents.items():
        collection = target.create_collection(name)
        collection.create_indexes(
            [
                pymongo.IndexModel(
                    [(one, 1) for one in index.fields], **({"sparse": True} if index.sparse else {})
                )
                for index in COLLECTIONS[name].indexes
            ]
        )

        def put(batch: list[InsertOne[dict[str, Any]]], collection: Any = collection) -> None:
            if not transactions:
                collection.bulk_write(batch, ordered=False)
                return
            with client.start_session() as session, session.start_transaction():
                collection.bulk_write(batch, ordered=True, session=session)

        batches = [
            [InsertOne(row) for row in rows[start : start + batch_size]]
            for start in range(0, len(rows), batch_size)
        ]
        started = time.perf_counter()
        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(put, batches))
        seconds += time.perf_counter() - started
    client.drop_database(target.name)
    return seconds


def read_arrow(uri: str, database: str, days: Sequence[str], chunk_rows: int) -> tuple[float, float, int]:
    """Best seconds of three: messages to Arrow by bare pymongoarrow and by the platform; and how many."""
    from cai_assets.resources import mongo_arrow
    from cai_assets.resources.mongo import MongoStore

    declared = mongo_arrow._declared("messages")
    bare: list[float] = []
    ours: list[float] = []
    with MongoStore(MongoClient(uri), database) as store:
        collection = store.collection("messages")
        query = {"partition": {"$gte": days[0], "$lte": days[-1]}}
        for _ in range(3):
            started = time.perf_counter()
            schema = mongo_arrow._bson_schema("messages", declared)
            rows = 0
            for raw in collection.find_raw_batches(query, batch_size=chunk_rows):
                context = mongo_arrow.PyMongoArrowContext(schema, codec_options=collection.codec_options)
                context.process_bson_stream(raw)
                rows += context.finish().num_rows
            bare.append(time.perf_counter() - started)
            started = time.perf_counter()
            same = sum(batch.num_rows for batch in store.read_batches("messages", days, chunk_rows))
            ours.append(time.perf_counter() - started)
            assert rows == same, "both must read all messages"
    return min(bare), min(ours), rows


@contextmanager
def mongo(folder: Path) -> Iterator[str]:
    """Address of the MongoDB of MONGODB_URI, else of a new embedded server."""
    if given := os.environ.get("MONGODB_URI"):
        yield given
        return
    with SecantusProcess(folder) as server:
        yield server.uri


@dataclass(frozen=True)
class Given:
    """A NocoDB that runs already: its variables, and a data folder that it holds the rows of."""

    variables: Mapping[str, str]
    data: Path


@contextmanager
def servers(folder: Path, data: Path, given: Given | None = None) -> Iterator[tuple[Mapping[str, str], str]]:
    """Variables of a NocoDB over the data, and the address of a MongoDB."""
    with mongo(folder / "mongo") as uri:
        if given is not None:
            yield given.variables, uri
            return
        with SandboxProcess.start(data) as sandbox:
            yield sandbox.environment(), uri


def days_of(data: Path) -> list[str]:
    """Every UTC day from the first to the last on which a conversation of a data folder started."""
    started = pq.read_table(data / "conversations.parquet", columns=["started_at"])["started_at"]
    bounds = pc.min_max(started).as_py()
    first, last = (bounds[end].astimezone(UTC).date() for end in ("min", "max"))
    return [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


def environment_of(
    nocodb: Mapping[str, str], uri: str, folder: Path, pace: float, database: str
) -> dict[str, str]:
    """Variables of the measured process."""
    return {
        **nocodb,
        "MONGODB_URI": uri,
        "MONGODB_DATABASE": database,
        "PARQUET_BASE_DIR": str(folder / "lake" / database),
        "PSEUDONYM_KEY": "a key for benchmarks",
        "NOCODB_MAX_REQUESTS_PER_SECOND": str(pace),
        "DAGSTER_HOME": "",
    }


def speed(rows: int, per_day: int, pace: float, given: Given | None, out: Console) -> list[str]:
    """Print rows a second beside the ceilings; returns the claims that do not hold."""
    failed = []
    with tempfile.TemporaryDirectory(prefix="cai-benchmark-") as name:
        folder = Path(name)
        days = days_of(given.data) if given else write_source(folder / "data", rows, per_day)
        with servers(folder, folder / "data", given) as (nocodb, uri):
            measured = measure(environment_of(nocodb, uri, folder, pace, "measured"), days, folder)
            fetched = fetch_bare(measured, nocodb["NOCODB_API_TOKEN"], pace, threads=8)
            arrow_bare, arrow_ours, messages = read_arrow(uri, "measured", days, chunk_rows=10_000)
            # A server of its own: the embedded one slows down as its cache of 256 MB fills.
            with mongo(folder / "bare") as empty:
                inserted = insert_bare(uri, "measured", empty, batch_size=1000)
    total = measured.rows
    slower = max(fetched, inserted)
    share = slower / measured.seconds
    which = "a given NocoDB" if given else "the sandbox"
    table = Table(title=f"{total:,} rows of {which}, {len(measured.urls)} requests, at most {pace:g}/s")
    for column in ("", "seconds", "rows/s", "share"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("pages fetched and thrown away", f"{fetched:.1f}", f"{total / fetched:,.0f}", "")
    table.add_row("bare bulk insert", f"{inserted:.1f}", f"{total / inserted:,.0f}", "")
    table.add_row(
        "source → raw → documents",
        f"{measured.seconds:.1f}",
        f"{total / measured.seconds:,.0f}",
        f"{share:.2f}",
    )
    table.add_section()
    arrow_share = arrow_bare / arrow_ours
    table.add_row("bare pymongoarrow, messages", f"{arrow_bare:.2f}", f"{messages / arrow_bare:,.0f}", "")
    table.add_row("read_batches", f"{arrow_ours:.2f}", f"{messages / arrow_ours:,.0f}", f"{arrow_share:.2f}")
    out.print(table)
    if share < LEAST_SHARE:
        failed.append(f"rows a second are {share:.2f} of the slower ceiling, not {LEAST_SHARE}")
    if arrow_share < LEAST_ARROW_SHARE:
        failed.append(
            f"read_batches has {arrow_share:.2f} of bare pymongoarrow's speed, not {LEAST_ARROW_SHARE}"
        )
    return failed


def memory(rows: int, per_day: int, out: Console) -> list[str]:
    """Print the peak memory for so many rows and ten times as many; returns the claims that do not hold."""
    peaks = []
    table = Table(title="Peak memory of the process, the same rows a day")
    for column in ("rows", "days", "seconds", "peak MiB"):
        table.add_column(column, justify="right")
    for size in (rows, rows * 10):
        with tempfile.TemporaryDirectory(prefix="cai-benchmark-") as name:
            folder = Path(name)
            days = write_source(folder / "data", size, per_day)
            with servers(folder, folder / "data") as (nocodb, uri):
                measured = measure(environment_of(nocodb, uri, folder, 100_000, "memory"), days, folder)
        peaks.append(measured.peak_mb)
        table.add_row(f"{size:,}", str(len(days)), f"{measured.seconds:.0f}", f"{measured.peak_mb:.0f}")
    out.print(table)
    growth = peaks[1] / peaks[0]
    out.print(f"ten times the range takes {growth:.2f} times the memory")
    return [f"memory grows {growth:.2f} times, not {MOST_GROWTH}"] if growth > MOST_GROWTH else []


def main() -> None:
    """Measure, print, and exit 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="messages (default 100,000)")
    parser.add_argument("--per-day", type=int, default=10_000, help="messages of a day (default 10,000)")
    parser.add_argument("--pace", type=float, default=4, help="requests a second; 0 for no limit (default 4)")
    parser.add_argument("--nocodb", type=Path, help="JSON file with the NOCODB_* variables of a real one")
    parser.add_argument("--data", type=Path, help="with --nocodb: the data folder whose rows it holds")
    parser.add_argument("--memory", action="store_true", help="also measure ten times the range")
    parser.add_argument("--only-memory", action="store_true", help="measure nothing else")
    parser.add_argument("--materialise", nargs=3, metavar=("FIRST", "LAST", "TOLD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.materialise:
        first, last, told = options.materialise
        materialise(first, last, Path(told))
        return
    if (options.nocodb is None) != (options.data is None):
        parser.error("--nocodb and --data go together")
    given = None
    if options.nocodb:
        variables = json.loads(options.nocodb.read_text(encoding="utf-8"))
        given = Given({k: v for k, v in variables.items() if k.startswith("NOCODB_")}, options.data)
    out = Console()
    pace = options.pace or 100_000
    failed = [] if options.only_memory else speed(options.rows, options.per_day, pace, given, out)
    if options.memory or options.only_memory:
        failed += memory(options.rows, options.per_day, out)
    for claim in failed:
        out.print(f"[red]does not hold:[/red] {claim}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
