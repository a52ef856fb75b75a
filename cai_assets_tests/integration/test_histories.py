"""Whatever happens to the source, in whatever order and with whatever faults: documents end equal to it."""

import random
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient

from cai_assets.domain.changes import Found, requests_for
from cai_assets.domain.days import day_bounds, day_of
from cai_assets.domain.documents import documents_from_raw
from cai_assets.failures import CaiError
from cai_assets.resources.changes import Cursor, first_cursor, poll
from cai_assets.resources.dirty_days import DirtyDays, utc_now
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.nocodb import NocoDBSource
from cai_assets.resources.raw_rows import conversation_days, spooled
from cai_assets.resources.source import Source
from cai_assets.resources.sweep import sweep
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.schemas import raw
from cai_assets_tests.fixtures.sources import nocodb_settings
from cai_assets_tests.histories import DOINGS, KEEPING, Writer, canonical, expected, stored

ZONE = ZoneInfo("Europe/Berlin")
STAMPS = {"ingested_at", "changed_at", "run_id", "revision"}
BELONG_TO_RUNS = {"at", "run_id"}

FAULTS: Sequence[dict[str, Any]] = (
    {"kind": "status", "code": 429, "retry_after": 0.01, "probability": 0.05},
    {"kind": "status", "code": 503, "probability": 0.05},
    {"kind": "status", "code": 500, "html": False, "probability": 0.03},
    {"kind": "cut", "probability": 0.05},
    {"kind": "duplicate_rows", "probability": 0.03},
    {"kind": "short_page", "probability": 0.03},
    {"kind": "delete_rows", "probability": 0.04},
    {"kind": "insert_rows", "probability": 0.04},
    {"kind": "update_rows", "probability": 0.05},
)


@dataclass
class Loop:
    """What the sensor and its runs do, without Dagster: look, mark, refresh what is asked for."""

    source: Source
    store: MongoStore
    way: "Way"
    dice: random.Random
    cursor: Cursor | None = None
    refreshed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.marks = DirtyDays(self.store)

    def tick(self) -> None:
        """One evaluation of the sensor, and the runs that it asks for. Failures are for the next one."""
        try:
            self.look()
            self.refresh_dirty()
        except CaiError:
            return

    def look(self, *, quiet: bool = False) -> None:
        if self.cursor is None:
            cursor = first_cursor(self.source)
            self._sweep()
            self.cursor = cursor
        if self.way.polls:
            self.cursor, looked = poll(self.source, self.store, self.cursor, ZONE, until=float("inf"))
            self.marks.mark(looked.found, now=utc_now())
        if self.way.sweeps and (quiet or not self.way.polls or self.dice.random() < 0.2):
            self._sweep()

    def _sweep(self) -> None:
        swept = sweep(self.source, self.store, ZONE, contents=self.way.contents)
        self.marks.mark(swept.found, now=utc_now())

    def refresh_dirty(self) -> None:
        later = datetime.now(UTC) + timedelta(days=1)  # no patience for pauses between attempts
        for request in requests_for(self.marks.all(), now=later, busy=(), longest=31):
            self.marks.requested(request, now=utc_now())
            self.refresh(request.days)

    def refresh(self, days: Sequence[str]) -> None:
        run_id = uuid.uuid4().hex
        standing = self.marks.reading(days)
        stream = self.source.conversations(day_bounds(days[0], ZONE)[0], day_bounds(days[-1], ZONE)[1])
        rows = ((day_of(row.started_at, ZONE), row) for row in stream)
        with spooled(raw.CONVERSATIONS, rows, batch_rows=100) as spool:
            conversations = spool.batches().read_all()
        assert stream.source_rows == conversations.num_rows
        self.marks.read("conversations", standing, run_id=run_id)
        standing = self.marks.reading(days)
        owners = conversation_days(conversations.to_batches())
        rows = (
            (day, row)
            for row in self.source.messages(list(owners))
            for day in owners[str(row.values["conversation_id"])]
        )
        with spooled(raw.MESSAGES, rows, batch_rows=100) as spool:
            messages = spool.batches().read_all()
        self.marks.read("messages", standing, run_id=run_id)
        self._replace("conversations", conversations, days, run_id)
        live = self.store.read_arrow("conversations", days)
        homes = dict(zip(live["conversation_id"].to_pylist(), live["partition"].to_pylist(), strict=True))
        self._replace("messages", messages, days, run_id, live_conversations=homes)
        self.refreshed.update(days)

    def _replace(self, name: Any, rows: Any, days: Sequence[str], run_id: str, **more: Any) -> None:
        batch = documents_from_raw(rows, name, partitions=days, **more)
        done = self.store.replace_partitions(batch, run_id=run_id, now=utc_now())
        found = Found()
        for day in done.elsewhere:
            found.add({day: "superseded"}, uuid.uuid4().hex)
        self.marks.mark(found, now=utc_now())
        self.marks.arrived(name, days, run_id=run_id)

    def until_quiet(self) -> None:
        """Tick until nothing is dirty; bounded, as it must come to rest."""
        for _ in range(12):
            self.look(quiet=True)
            if not self.marks.all():
                return
            self.refresh_dirty()
        raise AssertionError(f"still dirty: {self.marks.all()}")


class Databases:
    """Stores over databases of their own, dropped at the end."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._made: list[MongoStore] = []

    def new(self) -> MongoStore:
        client: MongoClient = MongoClient(self._uri, serverSelectionTimeoutMS=5000)
        name = f"history_{uuid.uuid4().hex[:12]}"
        store = MongoStore(client, name, batch_size=20, workers=2, max_retries=2, retry_delay=0.01)
        store.ensure_indexes()
        self._made.append(store)
        return store

    def drop(self) -> None:
        while self._made:
            store = self._made.pop()
            store.client.drop_database(store.database.name)
            store.close()


@pytest.fixture
def databases(mongo_uri: str) -> Iterator[Databases]:
    made = Databases(mongo_uri)
    yield made
    made.drop()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    from cai_assets_tests.fixtures.sandbox import write_small_folder

    folder = write_small_folder(tmp_path_factory.mktemp("histories"), conversations=3)
    with SandboxProcess.start(folder, hang_seconds=0.2) as running:
        yield running


def documents(store: MongoStore) -> dict[str, list[dict[str, Any]]]:
    """All that a rebuild must give too: live and superseded documents, quarantine, rows without a day."""
    found = {}
    for name in ("conversations", "messages"):
        live = store.collection(name).find({"deleted_at": None})
        found[name] = [{k: v for k, v in one.items() if k not in STAMPS} for one in live]
    for name in ("quarantine", "without_day"):
        rows = store.collection(name).find()
        found[name] = [{k: v for k, v in one.items() if k not in BELONG_TO_RUNS} for one in rows]
    return {name: sorted(rows, key=lambda one: one["_id"]) for name, rows in found.items()}


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What only one side holds, in words."""
    told = []
    for name in ours:
        one, other = ({canonical(row) for row in side[name]} for side in (ours, theirs))
        told += [f"only by changes, {name}: {row}" for row in sorted(one - other)]
        told += [f"only by a rebuild, {name}: {row}" for row in sorted(other - one)]
    return told


@dataclass(frozen=True)
class Way:
    """How changes are found in a history.

    Attributes:
        polls: the sensor looks at what was written.
        sweeps: numbers of all rows are compared.
        contents: the sweep reads whole rows.
        deletions: rows are deleted, by hand and between pages.
    """

    polls: bool = True
    sweeps: bool = True
    contents: bool = False
    deletions: bool = True


WAYS = {
    "polls and sweeps": Way(),
    "polls alone, as nothing is deleted": Way(sweeps=False, deletions=False),
    "sweeps of contents alone": Way(polls=False, contents=True),
}


def live_through(seed: int, way: Way, sandbox: SandboxProcess, databases: Databases) -> None:
    """One history: random rows, a loop that keeps up with random doings under faults, and a rebuild."""
    dice = random.Random(seed)
    sandbox.faults()
    writer = Writer.to(sandbox, dice)
    writer.clear()
    writer.fill(conversations=dice.randrange(8), messages=dice.randrange(20))
    settings = nocodb_settings(sandbox, nocodb_max_requests_per_second=10_000, io_threads=2)
    pages = dice.choice([2, 3, 1000])
    with closing(NocoDBSource(settings, page_rows=pages, batch_ids=3, blocked_seconds=0.01)) as source:
        source.overlap = dice.choice([timedelta(0), timedelta(minutes=5)])
        loop = Loop(source, databases.new(), way, dice)
        rules = [{"service": "nocodb", "path": "/api/v1/", **rule} for rule in FAULTS]
        sandbox.faults(*(one for one in rules if way.deletions or one["kind"] != "delete_rows"), seed=seed)
        done = []
        for _ in range(dice.randrange(1, 12)):
            done.append(writer.act(dice.choice(DOINGS if way.deletions else KEEPING)))
            if dice.random() < 0.5:
                loop.tick()
        sandbox.faults()
        loop.until_quiet()
        told = f"history {seed}: {done}"
        assert stored(loop.store) == expected(writer, ZONE), told
        rebuilt = Loop(source, databases.new(), Way(polls=False, contents=True), dice)
        rebuilt.look()
        while rebuilt.marks.all():
            rebuilt.refresh_dirty()
        ours, theirs = documents(loop.store), documents(rebuilt.store)
        if not way.sweeps:  # only a sweep sees that a message lost its conversation
            del ours["without_day"], theirs["without_day"]
        assert not (apart := differing(ours, theirs)), "\n".join([told, *apart])
        before = Counter(loop.refreshed)
        loop.until_quiet()
        assert (loop.marks.all(), loop.refreshed) == ([], before), (
            f"{told}: asked for although nothing changed"
        )
    databases.drop()


@given(doings=st.lists(st.sampled_from(sorted(set(DOINGS))), min_size=1, max_size=8), seed=st.integers(0, 99))
@hypothesis.settings(
    max_examples=15, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_documents_that_followed_equal_a_rebuild(
    doings: list[str], seed: int, sandbox: SandboxProcess, databases: Databases
) -> None:
    dice = random.Random(seed)
    sandbox.faults()
    writer = Writer.to(sandbox, dice)
    writer.clear()
    writer.fill(conversations=4, messages=10)
    settings = nocodb_settings(sandbox, nocodb_max_requests_per_second=10_000)
    with closing(NocoDBSource(settings)) as source:
        loop = Loop(source, databases.new(), Way(), dice)
        loop.until_quiet()
        for doing in doings:
            writer.act(doing)
            if dice.random() < 0.5:
                loop.tick()
        loop.until_quiet()
        rebuilt = Loop(source, databases.new(), Way(), dice)
        rebuilt.until_quiet()
        assert differing(documents(loop.store), documents(rebuilt.store)) == []
    databases.drop()


BLOCK = 25


def live_through_block(first: int, sandbox: SandboxProcess, databases: Databases) -> None:
    for seed in range(first, first + BLOCK):
        live_through(seed, list(WAYS.values())[seed % len(WAYS)], sandbox, databases)


@pytest.mark.parametrize("first", range(0, 200, BLOCK))
def test_documents_end_equal_to_the_source_whatever_happened(
    first: int, sandbox: SandboxProcess, databases: Databases
) -> None:
    live_through_block(first, sandbox, databases)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 1500, BLOCK))
def test_documents_end_equal_to_the_source_in_five_hundred_histories_more(
    first: int, sandbox: SandboxProcess, databases: Databases
) -> None:
    live_through_block(first, sandbox, databases)
