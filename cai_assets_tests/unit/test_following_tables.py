"""Tables over all days follow the facts: once for a change, of whichever day, and only behind sound facts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData

from cai_assets.automation import refresh_days, tables_follow
from cai_assets.conditions import DAILY_REPORT
from cai_assets.definitions import build_definitions
from cai_assets.partitions import RANGE_END, RANGE_START
from cai_assets.settings import Settings

OLD, OLDER, RECENT = "2021-02-03", "2020-12-24", "2024-05-03"
CONVERSATIONS = dg.AssetKey(["facts", "fct_conversation"])
VOLUME = dg.AssetKey(["marts", "volume"])


@dataclass
class Daemon:
    """What the daemon does for `tables_follow`, one tick at a time, over events instead of work."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    cursor: object = None

    def __post_init__(self) -> None:
        graph = self.definitions.resolve_asset_graph()
        self.facts = {key for key in graph.materializable_asset_keys if key.path[0] == "facts"}
        self.whole = {
            key
            for key in graph.materializable_asset_keys
            if key.path[0] in {"marts", "reports"} and key != DAILY_REPORT
        }

    def ask(self, hours: float = 0) -> set[dg.AssetKey]:
        """One tick, so many hours from now: what it asks for."""
        result = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            asset_selection=tables_follow.asset_selection,
            cursor=self.cursor,
            evaluation_time=datetime.now(UTC) + timedelta(hours=hours),
        )
        self.cursor = result.cursor
        asked = {key for key in self.whole if result.get_num_requested(key)}
        assert result.total_requested == len(asked)
        return asked

    def tick(self) -> set[dg.AssetKey]:
        """One tick, and what it asks for is made before the next."""
        asked = self.ask()
        if asked:
            self.made(dict.fromkeys(asked), tables_follow.run_tags)
        return asked

    def until_quiet(self) -> list[set[dg.AssetKey]]:
        """Ticks until one asks for nothing; what each of the others asked for."""
        rounds = []
        while asked := self.tick():
            rounds.append(asked)
            assert len(rounds) < 5, "it goes on asking"
        return rounds

    def made(
        self,
        keys: Mapping[dg.AssetKey, str | None],
        tags: Mapping[str, str] | None = None,
        *,
        checked: Mapping[dg.AssetKey, bool] | None = None,
    ) -> None:
        """A run that made these, of these days, and what its blocking checks of some of them told."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        run = self.instance.create_run_for_job(
            job, tags=dict(tags or {}), asset_selection=frozenset(keys), status=dg.DagsterRunStatus.STARTED
        )

        def tell(kind: dg.DagsterEventType, data: Any) -> None:
            event = dg.DagsterEvent(kind.value, job_name=run.job_name, event_specific_data=data)
            self.instance.report_dagster_event(event, run_id=run.run_id)

        for key, day in keys.items():
            made = dg.AssetMaterialization(key, partition=day)
            tell(dg.DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(made))
        for key, passed in (checked or {}).items():
            evaluation = dg.AssetCheckEvaluation(
                asset_key=key, check_name="schema_holds", passed=passed, metadata={}
            )
            tell(dg.DagsterEventType.ASSET_CHECK_EVALUATION, evaluation)
        self.instance.report_run_canceled(run)

    def make_in(self, run: dg.DagsterRun, key: dg.AssetKey, day: str, *, checked: bool = False) -> None:
        """A run under way has made one table's day, and has checked it or will do so later."""

        def tell(kind: dg.DagsterEventType, data: Any) -> None:
            event = dg.DagsterEvent(kind.value, job_name=run.job_name, event_specific_data=data)
            self.instance.report_dagster_event(event, run_id=run.run_id)

        made = StepMaterializationData(dg.AssetMaterialization(key, partition=day))
        tell(dg.DagsterEventType.ASSET_MATERIALIZATION, made)
        checks = self.definitions.resolve_asset_graph().get_check_keys_for_assets({key}) if checked else ()
        for check in checks:
            evaluation = dg.AssetCheckEvaluation(
                asset_key=key, check_name=check.name, passed=True, metadata={}
            )
            tell(dg.DagsterEventType.ASSET_CHECK_EVALUATION, evaluation)

    def failed(self, keys: set[dg.AssetKey]) -> None:
        """A run of these that failed before it made any."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        run = self.instance.create_run_for_job(
            job,
            tags=tables_follow.run_tags,
            asset_selection=frozenset(keys),
            status=dg.DagsterRunStatus.STARTED,
        )
        self.instance.report_run_failed(run)

    def refresh(self, *days: str, checked: Mapping[dg.AssetKey, bool] | None = None) -> None:
        """A run that made the facts of these days, one after the other."""
        for day in days:
            self.made(dict.fromkeys(self.facts, day), checked=checked)

    def behind(self) -> set[dg.AssetKey]:
        """Tables that were last made before the facts."""

        def latest(key: dg.AssetKey) -> float:
            event = self.instance.get_latest_materialization_event(key)
            return event.timestamp if event else 0.0

        newest = max(latest(key) for key in self.facts)
        return {key for key in self.whole if latest(key) < newest}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(Settings(_env_file=None))


@pytest.fixture
def daemon(definitions: dg.Definitions) -> Iterator[Daemon]:
    with dg.DagsterInstance.ephemeral() as instance:
        ready = Daemon(definitions, instance)
        assert ready.tick() == set(), "a new installation has nothing to follow"
        yield ready


def test_facts_of_any_day_are_followed_once(daemon: Daemon) -> None:
    for days in ([OLD], [RECENT, OLDER], [OLD]):
        daemon.refresh(*days)
        assert daemon.tick() == daemon.whole, days
        assert daemon.tick() == set(), "nothing is made twice for the same change"


def test_many_runs_in_a_row_are_followed_once_when_the_last_has_ended(daemon: Daemon) -> None:
    job = daemon.definitions.resolve_job_def(refresh_days.name)
    run = daemon.instance.create_run_for_job(
        job, tags={RANGE_START: OLD, RANGE_END: OLD}, status=dg.DagsterRunStatus.STARTED
    )
    for day in (OLDER, RECENT):
        daemon.refresh(day)
        assert daemon.tick() == set(), "a run still makes facts"
    daemon.instance.report_run_canceled(run)
    assert daemon.tick() == daemon.whole
    assert daemon.tick() == set()


def test_a_run_that_has_made_some_facts_is_followed_by_no_table_before_it_ends(daemon: Daemon) -> None:
    job = daemon.definitions.resolve_job_def(refresh_days.name)
    run = daemon.instance.create_run_for_job(
        job, tags={RANGE_START: OLD, RANGE_END: OLD}, status=dg.DagsterRunStatus.STARTED
    )
    for key in sorted(daemon.facts):
        daemon.make_in(run, key, OLD, checked=True)
        assert daemon.tick() == set(), f"{key.to_user_string()} is not the last of the run"
    daemon.make_in(run, DAILY_REPORT, OLD)
    daemon.instance.report_run_canceled(run)
    assert daemon.tick() == daemon.whole
    assert daemon.tick() == set()


def test_facts_that_their_run_has_not_checked_yet_are_not_followed(daemon: Daemon) -> None:
    job = daemon.definitions.resolve_job_def(refresh_days.name)
    tags = {RANGE_START: OLD, RANGE_END: OLD}
    run = daemon.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    for key in {*daemon.facts, DAILY_REPORT}:
        daemon.make_in(run, key, OLD)
    assert daemon.tick() == set(), "all facts are there, none is checked"
    daemon.instance.report_run_canceled(run)
    assert daemon.tick() == daemon.whole


def test_a_failed_blocking_check_of_facts_holds_tables_back_until_it_passes(daemon: Daemon) -> None:
    daemon.refresh(OLD, checked={CONVERSATIONS: False})
    assert CONVERSATIONS in daemon.facts
    held = {key for key in daemon.whole if CONVERSATIONS in parents(daemon, key)}
    asked = daemon.tick()
    assert held
    assert not asked & held
    daemon.refresh(OLD, checked={CONVERSATIONS: True})
    assert set().union(*daemon.until_quiet()) == daemon.whole


def test_marts_that_failed_a_check_are_made_anew_together_with_their_reports(daemon: Daemon) -> None:
    daemon.refresh(OLD)
    daemon.made(dict.fromkeys(daemon.ask()), tables_follow.run_tags, checked={VOLUME: False})
    daemon.tick()
    daemon.refresh(RECENT)
    assert daemon.tick() == daemon.whole


def test_a_table_that_failed_is_tried_again_by_itself_every_six_hours(daemon: Daemon) -> None:
    daemon.refresh(OLD)
    marts = {key for key in daemon.whole if key.path[0] == "marts"}
    daemon.made(dict.fromkeys(daemon.ask() - {VOLUME}), tables_follow.run_tags)
    daemon.failed({VOLUME})
    assert VOLUME not in daemon.ask(), "not at once"
    for hours in (6, 12):
        assert daemon.ask(hours) & marts == {VOLUME}, "what did not fail is left alone"
        daemon.failed({VOLUME})
        assert VOLUME not in daemon.ask(hours + 0.001), "once in six hours"
    daemon.made({VOLUME: None}, tables_follow.run_tags)
    assert VOLUME not in daemon.ask(18), "it is made"


def test_the_next_morning_tries_what_failed_even_where_nothing_changed(daemon: Daemon) -> None:
    daemon.refresh(RECENT)
    daemon.failed(daemon.ask())
    assert daemon.tick() == set()
    daemon.refresh(RECENT)  # `daily_safety` makes the facts of the last days anew, whatever is in them
    assert daemon.tick() == daemon.whole


def test_what_made_the_facts_and_the_tables_is_not_followed(daemon: Daemon) -> None:
    daemon.made({**dict.fromkeys(daemon.facts, OLD), **dict.fromkeys(daemon.whole)})
    assert daemon.tick() == set(), "one run"
    daemon.refresh(OLD)
    daemon.made(dict.fromkeys(daemon.whole))
    assert daemon.tick() == set(), "a backfill in several runs"


def test_facts_that_come_while_tables_are_made_are_not_forgotten(daemon: Daemon) -> None:
    daemon.refresh(OLD)
    assert daemon.ask() == daemon.whole
    daemon.refresh(RECENT)  # before the run that was asked for has made anything, or while it reads
    daemon.made(dict.fromkeys(daemon.whole), tables_follow.run_tags)
    assert set().union(*daemon.until_quiet()) == daemon.whole


def test_facts_that_come_right_after_are_followed_too(daemon: Daemon) -> None:
    daemon.refresh(OLD)
    daemon.tick()
    daemon.refresh(RECENT)
    rounds = daemon.until_quiet()
    assert set().union(*rounds) == daemon.whole
    assert len(rounds) <= 2
    assert daemon.behind() == set()


def parents(daemon: Daemon, key: dg.AssetKey) -> set[dg.AssetKey]:
    return set(daemon.definitions.resolve_asset_graph().get(key).parent_keys)


def test_every_asset_has_one_trigger(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    asked_for = definitions.resolve_job_def(refresh_days.name).asset_layer.selected_asset_keys
    following = {key for key in graph.materializable_asset_keys if graph.get(key).automation_condition}
    assert asked_for | following == graph.materializable_asset_keys
    assert not asked_for & following
