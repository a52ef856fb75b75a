"""Failures reach a webhook: a real server on loopback, real runs that fail, the sensor tick by tick."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from pydantic import SecretStr

from cai_assets import alerts as module
from cai_assets.alerts import alerts
from cai_assets.conditions import FRESH
from cai_assets.failures import PermanentError, TransientError
from cai_assets.io_managers.failing import told_apart
from cai_assets.resources.webhook import Webhook
from cai_assets.settings import Settings

TOKEN = "T0KEN-of-the-webhook"
PASSWORD = "p4ssword-of-mongodb"
PRIVATE = "my daughter is ill"


@dataclass
class Chat:
    """An incoming webhook.

    Attributes:
        answers: status codes of the next posts; 200 when there are none left.
        bodies: what was posted, whatever was answered.
    """

    answers: list[int] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    @property
    def texts(self) -> list[str]:
        return [str(body["text"]) for body in self.bodies]


@pytest.fixture
def chat() -> Iterator[Chat]:
    made = Chat()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            assert self.path.endswith(TOKEN)
            made.bodies.append(json.loads(body))
            self.send_response(made.answers.pop(0) if made.answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}/services/{TOKEN}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@dg.asset(key=["raw", "conversations"], partitions_def=dg.DailyPartitionsDefinition("2025-01-01"))
def unreachable() -> None:
    with told_apart():
        raise PermanentError(f"table conversations of mongodb://me:{PASSWORD}@db/ is gone\nand more lines")


@dg.asset(key=["facts", "fct_wait"])
def surprised() -> None:
    raise KeyError(PRIVATE)


@dg.asset(key=["marts", "volume"], freshness_policy=FRESH)
def volume() -> None:
    """A mart."""


@dg.asset_check(asset=volume, blocking=True)
def adds_up() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="<!channel> 3 rows are wrong on 2025-01-02.")


@dataclass
class Watched:
    """An installation with the sensor switched on."""

    instance: dg.DagsterInstance
    chat: Chat
    settings: Settings
    cursor: str | None = None

    def __post_init__(self) -> None:
        self.definitions = dg.Definitions(
            assets=[unreachable, surprised, volume], asset_checks=[adds_up], executor=dg.in_process_executor
        )
        self.tick()

    def tick(self) -> list[str]:
        """One tick; what it posted."""
        before = len(self.chat.texts)
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            definitions=self.definitions,
            resources={"settings": self.settings},
        ) as context:
            result: Any = alerts(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return self.chat.texts[before:]

    def run(self, asset: Any, **tags: str) -> str:
        """A run that fails."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(
            instance=self.instance, asset_selection=[asset.key], raise_on_error=False, tags=tags
        )
        assert not done.success
        return done.run_id


RANGE = {
    "dagster/asset_partition_range_start": "2025-01-02",
    "dagster/asset_partition_range_end": "2025-01-04",
}


@pytest.fixture
def watched(chat: Chat, tmp_path: Path) -> Iterator[Watched]:
    settings = Settings(
        _env_file=None,
        alert_webhook_url=chat.url,
        dagster_ui_url="https://dagster.example/",
        mongodb_uri=f"mongodb://me:{PASSWORD}@db/",
    )
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Watched(instance, chat, settings)


def test_a_failed_run_is_told_with_its_days_its_step_its_reason_and_a_link(watched: Watched) -> None:
    run_id = watched.run(unreachable, **RANGE)
    (text,) = watched.tick()
    assert text.splitlines() == [
        "a materialisation failed for 2025-01-02 to 2025-01-04",
        "step raw/conversations: table conversations of mongodb://me:********@\u200bdb/ is gone",
        f"https://dagster.example/runs/{run_id}",
    ]
    assert watched.tick() == []


def test_the_same_failure_is_told_once_in_six_hours_whatever_its_days(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (2, 3, 4):
        watched.run(unreachable, **{**RANGE, "dagster/asset_partition_range_start": f"2025-01-0{day}"})
    assert len(watched.tick()) == 1
    watched.run(surprised)
    assert len(watched.tick()) == 1, "another failure is news"
    watched.run(unreachable, **RANGE)
    assert watched.tick() == []
    later = time.time() + 6 * 3600 + 1
    monkeypatch.setattr(module.time, "time", lambda: later)
    watched.run(unreachable, **RANGE)
    (text,) = watched.tick()
    assert "Still the same: 4 times" in text


def test_what_an_unforeseen_error_says_is_not_told(watched: Watched) -> None:
    watched.run(surprised)
    (text,) = watched.tick()
    assert "step facts/fct_wait: KeyError (the run's log has its text)" in text
    assert PRIVATE not in text


def test_a_failed_blocking_check_is_told_by_name_and_calls_nobody(watched: Watched) -> None:
    watched.run(volume)
    (text,) = watched.tick()
    assert "marts/volume: check adds_up: ‹!channel› 3 rows are wrong on 2025-01-02." in text
    assert "<" not in text


def test_a_run_that_is_started_again_by_itself_is_not_told(watched: Watched) -> None:
    watched.run(unreachable, **RANGE, **{"dagster/will_retry": "true"})
    assert watched.tick() == []


def test_what_failed_before_the_sensor_was_switched_on_is_not_told(watched: Watched) -> None:
    watched.run(surprised)
    watched.cursor = None
    assert watched.tick() == []
    watched.run(unreachable, **RANGE)
    assert len(watched.tick()) == 1


def test_failed_backfills_and_late_tables_are_told(watched: Watched) -> None:
    for number, status in enumerate((BulkActionStatus.COMPLETED_FAILED, BulkActionStatus.COMPLETED_SUCCESS)):
        watched.instance.add_backfill(
            PartitionBackfill(
                backfill_id=f"nightly{number}",
                status=status,
                from_failure=False,
                tags={},
                backfill_timestamp=time.time(),
                asset_selection=[volume.key],
            )
        )
    (text,) = watched.tick()
    assert text.splitlines()[0] == "backfill nightly0 failed"
    assert text.endswith("https://dagster.example/runs/b/nightly0")
    watched.instance._report_runless_asset_event(
        FreshnessStateChange(
            key=volume.key,
            previous_state=FreshnessState.WARN,
            new_state=FreshnessState.FAIL,
            state_change_timestamp=time.time(),
        )
    )
    (text,) = watched.tick()
    assert text.startswith("1 table is older than it may be\nmarts/volume\n")
    assert watched.tick() == []


def test_a_server_that_is_busy_is_asked_again(watched: Watched) -> None:
    watched.chat.answers = [503, 429]
    watched.run(surprised)
    texts = watched.tick()
    assert len(texts) == 3
    assert len(set(texts)) == 1


def test_what_could_not_be_posted_is_told_later_and_nothing_twice(watched: Watched) -> None:
    watched.run(unreachable, **RANGE)
    watched.run(surprised)
    watched.chat.answers = [200, 404]
    assert len(watched.tick()) == 2, "the first is told, the second refused"
    watched.chat.answers = [404]
    with pytest.raises(PermanentError, match=r"127\.0\.0\.1 answers 404") as refused:
        watched.tick()
    assert TOKEN not in str(refused.value)
    (text,) = watched.tick()
    assert "fct_wait" in text


def test_an_address_where_nobody_answers_is_named_without_its_token() -> None:
    with pytest.raises(TransientError, match=r"nobody\.invalid cannot be reached") as failed:
        Webhook(SecretStr(f"http://nobody.invalid/{TOKEN}"), delay=0).post("x")
    assert TOKEN not in repr(failed.value)
    assert failed.value.__cause__ is None


def test_without_an_address_nobody_is_told(watched: Watched) -> None:
    watched.run(surprised)
    settings = Settings(_env_file=None)
    with dg.build_sensor_context(watched.instance, resources={"settings": settings}) as context:
        result: Any = alerts(context)
    assert isinstance(result, dg.SkipReason)
    assert watched.chat.texts == []


def test_a_wrong_address_is_refused_at_start_without_being_printed() -> None:
    with pytest.raises(ValueError, match="does not start with http") as refused:
        Settings(_env_file=None, alert_webhook_url=f"hooks.example/{TOKEN}")
    assert TOKEN not in str(refused.value.errors(include_input=False))
