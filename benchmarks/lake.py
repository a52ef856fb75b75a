"""How fast the lake is, as ratios against a peer in the same run, each with the bar that it is held to.

    python benchmarks/lake.py                  all of it, some five minutes on two cores
    python benchmarks/lake.py write read       some of it
    python benchmarks/lake.py --json

Peer and platform take turns, and medians are compared, so that what else the machine does falls on both. CPU
seconds are those of the process and its children. Exit code 1 when a bar is missed.
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import SecretStr

from cai_assets.domain.lake import to_lake
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import load_models
from cai_assets.engines.spread import Spread
from cai_assets.ranges import stage_model
from cai_assets.resources.object_store import LocalStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas import lake
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

FIRST = date(2024, 1, 1)
STAGING = ("facts", "stg_messages")
WORDS = np.array(
    re.findall(
        r"\w+",
        "The order is late, please help with my account refund. Where can I find it? Thanks for your reply. "
        "We will look into this at once and write again tomorrow. Hello, the delivery address and the "
        "invoice number changed.",
    )
)


@dataclass(frozen=True)
class Result:
    """One comparison.

    Attributes:
        name: what was compared.
        ours: seconds (or MB) of the platform, the median.
        peer: the same of the peer, or the limit.
        ratio: the figure that the bar is for; of ours to the peer's, or where it is "to" the other way round.
        bar: what it is held to, as "<= 1.25".
        cpu_ratio: the ratio of CPU seconds, where these were measured.
        holds: whether the bar is kept.
    """

    name: str
    ours: float
    peer: float
    ratio: float
    bar: str
    holds: bool
    cpu_ratio: float | None = None


def days(count: int) -> list[str]:
    """So many days."""
    return [(FIRST + timedelta(days=n)).isoformat() for n in range(count)]


def numbered(prefix: str, numbers: np.ndarray, width: int) -> pa.Array:
    """Texts as `prefix00000012`."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, digits, "")


def messages(rows: int, day: str, seed: int = 0) -> pa.RecordBatch:
    """Messages of one day in the lake's schema, sorted by its key: some 220 bytes each."""
    random = np.random.default_rng([seed, *day.encode()])
    conversation = np.arange(rows) // 8
    start = int(datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()) * 1_000_000
    created = pa.array(start + conversation * 1_000 + np.arange(rows) % 8, pa.int64())
    texts = [" ".join(line) for line in WORDS[random.integers(0, len(WORDS), (min(rows, 20_000), 12))]]
    hashes = pa.array([f"{n:032x}" for n in random.integers(0, 2**62, min(rows, 20_000))])
    spread = pa.array(random.integers(0, len(texts), rows))
    stamps = created.cast(lake.MESSAGES.arrow_schema.field("created_at").type)
    columns = {
        "partition": pa.array([day]).take(pa.array(np.zeros(rows, np.int64))),
        "conversation_id": numbered(f"{day}-", conversation, 8),
        "message_id": numbered(f"{day}-", np.arange(rows), 10),
        "seq": pa.array((np.arange(rows) % 8).astype(np.int32)),
        "sender_type": pa.array(["user", "agent", "bot", "user"]).take(pa.array(np.arange(rows) % 4)),
        "sender_id": numbered("person-", random.integers(0, 20_000, rows), 5),
        "is_private": pa.array(np.zeros(rows, bool)),
        "text": pa.array(texts).take(spread),
        "text_hash": hashes.take(spread),
        "language": pa.array(["en", "de", None]).take(pa.array(random.integers(0, 3, rows))),
        "language_detected": pa.array(["en", "de"]).take(pa.array(random.integers(0, 2, rows))),
        "language_confidence": pa.array(random.random(rows)),
        "created_at": stamps,
        "updated_at": pa.nulls(rows, stamps.type),
        "source_updated_at": stamps,
        "content_hash": hashes.take(spread),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=lake.MESSAGES.arrow_schema)


def conversations(of: pa.Table) -> pa.Table:
    """The conversations of messages."""
    first = of.filter(pc.equal(of["seq"], 0))
    rows = first.num_rows
    values = {
        "partition": first["partition"],
        "conversation_id": first["conversation_id"],
        "user_id": first["sender_id"],
        "status": pa.array(["open"] * rows),
        "traffic_class": pa.array(["live"] * rows),
        "started_at": first["created_at"],
        "source_updated_at": first["created_at"],
        "content_hash": first["content_hash"],
    }
    schema = lake.CONVERSATIONS.arrow_schema
    return pa.table(
        [values.get(field.name, pa.nulls(rows, field.type)) for field in schema], schema=schema
    )  # fmt: skip


def cpu_seconds() -> float:
    """CPU seconds of this process and of the children that have ended."""
    of = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in of)


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    action()
    return time.perf_counter() - wall, cpu_seconds() - cpu


@dataclass(frozen=True)
class Turns:
    """Times of two that took turns: medians, and the median of the ratios of each turn.

    Neighbours in time share what else the machine does, so their ratio is steadier than that of the medians.
    """

    ours: float
    peer: float
    ratio: float
    cpu_ratio: float


def in_turn(
    rounds: int, ours: Callable[[], object], peer: Callable[[], object], tidy: Callable[[], object] = int
) -> Turns:
    """Run both in turn, each first in half of the rounds; `tidy` after each, untimed."""
    times: list[list[tuple[float, float]]] = [[], []]
    for turn in range(-1, rounds):  # the first warms up
        found = {}
        for which in (0, 1) if turn % 2 else (1, 0):
            found[which] = timed((ours, peer)[which])
            tidy()
        if turn >= 0:
            for which, seconds in found.items():
                times[which].append(seconds)
    pairs = list(zip(*times, strict=True))
    return Turns(
        ours=statistics.median(mine[0] for mine, _ in pairs),
        peer=statistics.median(theirs[0] for _, theirs in pairs),
        ratio=statistics.median(mine[0] / theirs[0] for mine, theirs in pairs),
        cpu_ratio=statistics.median(mine[1] / theirs[1] for mine, theirs in pairs),
    )


def at_most(name: str, bar: float, turns: Turns) -> Result:
    """A comparison whose ratio of ours to the peer's must not pass the bar."""
    return Result(name, turns.ours, turns.peer, turns.ratio, f"<= {bar}", turns.ratio <= bar, turns.cpu_ratio)


def bench_write(folder: Path, rounds: int) -> Iterator[Result]:
    """A million messages: staged and committed, against pyarrow's ParquetWriter alone."""
    spec = ParquetSpec()

    def tidy() -> None:
        shutil.rmtree(folder / "write")

    for number in (1, 31):
        wanted = days(number)
        data = pa.Table.from_batches([messages(1_000_000 // number, day) for day in wanted])
        parts = [data.slice(n * (1_000_000 // number), 1_000_000 // number) for n in range(number)]
        made = iter(range(1000))

        def ours() -> None:
            store = LocalStore(folder / f"write/{next(made)}", workers=8)  # noqa: B023
            LakeTable(store, lake.MESSAGES, spec).replace(wanted, data)  # noqa: B023

        def peer() -> None:
            place = folder / f"write/{next(made)}"  # noqa: B023
            place.mkdir(parents=True)
            for n, part in enumerate(parts):  # noqa: B023
                options = spec.writer_options(lake.MESSAGES, part.num_rows)
                with pq.ParquetWriter(
                    place / f"{n}.parquet", lake.MESSAGES.arrow_schema, **options
                ) as writer:
                    writer.write_table(part, row_group_size=spec.row_group_rows)

        yield at_most(f"write 1,000,000 messages, {number} days", 1.25, in_turn(rounds, ours, peer, tidy))


QUERY = (
    "select count(*), sum(length(text)), count(distinct conversation_id), max(created_at), "
    "avg(language_confidence) from {}"
)


def bench_read(folder: Path, rounds: int) -> Iterator[Result]:
    """A range of days through the table and the engine, against DuckDB over the same files."""
    wanted = days(60)
    store = LocalStore(folder / "read", workers=2)
    table = LakeTable(store, lake.MESSAGES)
    table.replace(wanted, pa.Table.from_batches([messages(50_000, day) for day in wanted]))
    most = wanted[5:55]
    files = table.files(most)
    engine = DuckDBEngine(threads=2)

    def ours() -> object:
        return engine.query(QUERY.format("lake.messages"), {lake.MESSAGES.path: table.select(most).files})

    def peer() -> object:
        with duckdb.connect(config={"threads": 2}) as connection:
            return connection.execute(
                QUERY.format("read_parquet($files)"), {"files": files}
            ).to_arrow_table()  # fmt: skip

    yield at_most("read 50 of 60 days, 2,500,000 messages", 1.1, in_turn(3 * rounds, ours, peer))


def bench_commit(folder: Path, rounds: int) -> Iterator[Result]:
    """A year of small days in one transaction, against a transaction a day."""
    wanted = days(365)
    data = {day: pa.Table.from_batches([messages(20, day)]) for day in wanted}
    whole = pa.concat_tables(data.values())
    made = iter(range(1000))

    def table() -> LakeTable:
        return LakeTable(LocalStore(folder / f"commit{next(made)}", workers=8), lake.MESSAGES)

    def at_once() -> None:
        table().replace(wanted, whole)

    def one_by_one() -> None:
        target = table()
        for day, rows in data.items():
            target.replace([day], rows)

    turns = in_turn(max(3, rounds // 2), one_by_one, at_once)
    yield Result(
        name="365 days: 365 commits to one",
        ours=turns.peer,
        peer=turns.ours,
        ratio=turns.ratio,
        bar=">= 20",
        holds=turns.ratio >= 20,
        cpu_ratio=turns.cpu_ratio,
    )


def bench_dask(folder: Path, rounds: int) -> Iterator[Result]:
    """Sixty days on two Dask workers, against one."""
    from distributed import LocalCluster

    wanted = days(60)
    store = LocalStore(folder / "dask", workers=2)
    data = pa.Table.from_batches([messages(20_000, day) for day in wanted])
    LakeTable(store, lake.MESSAGES).replace(wanted, data)
    LakeTable(store, lake.CONVERSATIONS).replace(wanted, conversations(data))
    del data
    model = load_models()[STAGING]
    inputs = {path: LakeTable(store, TABLES[path]).select(wanted) for path in model.inputs}
    parameters = dict.fromkeys(model.parameters, "UTC")
    settings = Settings(_env_file=None, processing_threads=1, duckdb_memory_limit="1GB")
    options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=1, **options) as one,
        LocalCluster(n_workers=2, **options) as two,
        Spread(address=one.scheduler_address) as alone,
        Spread(address=two.scheduler_address) as pair,
    ):

        def run(workers: Spread) -> None:
            target = LakeTable(store, TABLES[STAGING])
            staged = stage_model(workers, model, inputs, parameters, target, settings, wanted)
            target.discard(staged)

        turns = in_turn(rounds, lambda: run(alone), lambda: run(pair))
    yield Result(
        name="60 days on 1 Dask worker to 2",
        ours=turns.peer,
        peer=turns.ours,
        ratio=turns.ratio,
        bar=">= 1.6",
        holds=turns.ratio >= 1.6,
    )


def bench_memory(folder: Path, rounds: int, rows: int = 10_000_000) -> Iterator[Result]:
    """Peak memory of ten million messages on their way from the reader to the commit."""
    code = "import sys; from benchmarks.lake import stream; stream(sys.argv[1], int(sys.argv[2]))"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "memory"), str(rows)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    peak = int(done.stdout.split()[-1]) / 1024
    seconds = time.perf_counter() - started
    name = f"peak MB of {rows:,} messages, unsorted, to the commit ({seconds:.0f} s)"
    yield Result(name, peak, 1500.0, peak / 1500.0, "<= 1", peak <= 1500.0)


def stream(folder: str, rows: int) -> None:
    """Take messages through the lake as they come from MongoDB, in batches; print the peak in KiB.

    Args:
        folder: where the lake is made.
        rows: how many, half of them of one day; in no order.
    """
    settings = Settings(_env_file=None, pseudonym_key=SecretStr("a key of the benchmark"))
    wanted = days(6)
    size = settings.chunk_size
    shares = dict.fromkeys(wanted[1:], rows // 10) | {wanted[0]: rows // 2}

    def batches() -> Iterator[pa.RecordBatch]:
        for day, count in shares.items():
            for n in range(count // size):
                batch = messages(size, day, seed=n)
                ids = numbered(f"{day}-", n + np.arange(size) * (count // size), 10)
                batch = batch.set_column(2, lake.MESSAGES.arrow_schema.field(2), ids)
                shuffled = batch.take(pa.array(np.random.default_rng(n).permutation(size)))
                yield to_lake(lake.MESSAGES, shuffled, settings.pseudonym_key)

    table = LakeTable(LocalStore(Path(folder), workers=settings.io_workers), lake.MESSAGES)
    engine = DuckDBEngine(threads=2, batch_rows=size)
    reader = pa.RecordBatchReader.from_batches(lake.MESSAGES.arrow_schema, batches())
    commit = table.commit(table.stage(wanted, engine.sort(reader, lake.MESSAGES)))
    assert commit.row_count == sum(count // size * size for count in shares.values())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


BENCHES: dict[str, Callable[[Path, int], Iterator[Result]]] = {
    "write": bench_write,
    "read": bench_read,
    "commit": bench_commit,
    "dask": bench_dask,
    "memory": bench_memory,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, and print each result as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "names", nargs="*", choices=[*BENCHES, []], help="what to run; everything if not given"
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of a comparison")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    results = []
    with tempfile.TemporaryDirectory(prefix="cai-lake-benchmark-") as folder:
        for name in options.names or BENCHES:
            for result in BENCHES[name](Path(folder), options.rounds):
                results.append(result)
                if not options.json:
                    cpu = "" if result.cpu_ratio is None else f", CPU {result.cpu_ratio:.2f}"
                    kept = "ok  " if result.holds else "MISS"
                    print(f"{kept} {result.name}: {result.ratio:.2f} ({result.bar}{cpu}); ", end="")
                    print(f"ours {result.ours:.3f}, peer {result.peer:.3f}", flush=True)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
