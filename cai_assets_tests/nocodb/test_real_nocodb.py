"""On a real NocoDB: a full load, and then a source that is written to while the sensor follows it."""

import random
import threading
import time
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from cai_assets.failures import CaiError
from cai_assets.resources.source import CONVERSATIONS, MESSAGES, open_source
from cai_assets_tests.fixtures.platform import PlatformFactory
from cai_assets_tests.following import Following
from cai_assets_tests.histories import Writer, expected, stored
from cai_assets_tests.nocodb.conftest import LoadedNocoDB

pytestmark = [pytest.mark.nocodb, pytest.mark.timeout(3000)]

UTC = ZoneInfo("UTC")
DOINGS, DOINGS_A_TICK = 200, 10
UNTIL_DOCUMENTS = "key:raw/* or key:documents/*"


def writer_to(nocodb: LoadedNocoDB, seed: int) -> Writer:
    env = nocodb.environment
    return Writer(
        env["NOCODB_BASE_URL"],
        env["NOCODB_API_TOKEN"],
        env["NOCODB_CONVERSATION_TABLE"],
        env["NOCODB_MESSAGES_TABLE"],
        random.Random(seed),
        nul=False,
    )


def test_documents_equal_the_source_after_200_changes_made_while_the_sensor_runs(
    bcontrast_in_nocodb: LoadedNocoDB, make_platform: PlatformFactory
) -> None:
    platform = make_platform(bcontrast_in_nocodb.environment, nocodb_max_requests_per_second=50)
    following = Following(platform, select=UNTIL_DOCUMENTS)
    begun = time.monotonic()
    following.until_quiet()
    writer = writer_to(bcontrast_in_nocodb, seed=7)
    with platform.mongo() as store:
        talks, texts = stored(store)
        assert (len(talks), len(texts)) == (bcontrast_in_nocodb.conversations, bcontrast_in_nocodb.messages)
        assert (talks, texts) == expected(writer, UTC)
    seconds = time.monotonic() - begun
    print(f"full load: {len(talks) + len(texts)} rows in {seconds:.0f} s, runs {following.days}")

    following.days.clear()
    done: list[str] = []
    failed: list[BaseException] = []
    ticks = 0

    def write() -> None:
        try:
            while len(done) < DOINGS:
                if len(done) < DOINGS_A_TICK * (ticks + 1):
                    done.append(writer.act())
                time.sleep(writer.dice.random() * 0.2)
        except BaseException as error:  # noqa: BLE001  it ends the test, in its own thread
            failed.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    while writing.is_alive():
        try:
            following.tick()
        except CaiError as error:  # rows came and went between two pages; the next tick looks again
            print(f"tick {ticks}: {error}")
        ticks += 1
        time.sleep(1)
    writing.join()
    assert failed == []
    following.until_quiet()
    following.run(dg.RunRequest(job_name="sweep_source"))
    following.until_quiet()
    print(f"{DOINGS} doings, {ticks} ticks, {len(following.days)} runs: {sorted(set(done))}")
    with platform.mongo() as store:
        assert stored(store) == expected(writer, UTC)
    following.days.clear()
    following.run(dg.RunRequest(job_name="sweep_source", run_config={}))
    following.until_quiet()
    assert following.days == [], "nothing changed, and something was asked for"


def test_the_source_can_be_read_by_number_by_id_and_whole(bcontrast_in_nocodb: LoadedNocoDB) -> None:
    from cai_assets.settings import Settings

    values = {name.lower(): value for name, value in bcontrast_in_nocodb.environment.items()}
    source = open_source(Settings(_env_file=None, **values, nocodb_max_requests_per_second=50))
    try:
        whole = list(source.scan(MESSAGES, ("conversation_id",)))
        assert len({row.id for row in whole}) == len(whole) == bcontrast_in_nocodb.messages
        some = [row.id for row in whole[::100]]
        assert [row.id for row in source.rows_by_number(MESSAGES, some)] == some
        owners = sorted({str(row.values["conversation_id"]) for row in whole})[:50]
        found = list(source.conversations_by_id(owners))
        assert sorted(str(row.values["conversation_id"]) for row in found) == owners
        since = max(row.created_at for row in source.scan(CONVERSATIONS, ()) if row.created_at)
        pages = list(source.changes(CONVERSATIONS, since, 0))
        assert pages[-1].last
        assert all(row.created_at and row.created_at >= since for page in pages for row in page.rows)
    finally:
        source.close()
