"""Whatever the graph asks MongoDB for is answered from an index, not by reading a whole collection."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pymongo import MongoClient, monitoring

from cai_assets.resources import mongo_connection
from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.platform import SAMPLE_DAYS, PlatformFactory

# Read whole on purpose: they grow with what is published, not with conversations.
WHOLE = {"state", "analytics_reports", "user_analytics"}
Asked = dict[tuple[str, str], Mapping[str, Any]]


class Questions(monitoring.CommandListener):
    """Every filter that commands carried, one of each shape, by collection."""

    def __init__(self) -> None:
        self.asked: Asked = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        for query in _filters(event.command_name, event.command):
            self.asked[event.command[event.command_name], _shape(query)] = query

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing more to learn."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing more to learn."""


def _filters(name: str, command: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if name == "find":
        yield command.get("filter", {})
    elif name == "aggregate":
        stages = command["pipeline"]
        yield stages[0].get("$match", {}) if stages else {}
    elif name in ("update", "delete"):
        yield from (one["q"] for one in command.get("updates", command.get("deletes", ())))
    elif name in ("findAndModify", "distinct"):
        yield command.get("query", {})


def _shape(query: Mapping[str, Any]) -> str:
    return repr(
        {
            key: sorted(value) if isinstance(value, dict) else type(value).__name__
            for key, value in sorted(query.items())
        }
    )


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Questions:
    """What every client that the platform makes from now on asks."""
    listener = Questions()
    listening = functools.partial(MongoClient, event_listeners=[listener])
    monkeypatch.setattr(mongo_connection, "MongoClient", listening)
    return listener


def test_whatever_the_graph_asks_is_answered_from_an_index(
    six_days_sandbox: SandboxProcess, make_platform: PlatformFactory, questions: Questions, mongo_uri: str
) -> None:
    platform = make_platform(six_days_sandbox)
    first, last = SAMPLE_DAYS
    platform.run(first, last)
    scanned = []
    with MongoClient(mongo_uri) as client:
        database = client[platform.settings.mongodb_database]
        for name in ("conversations", "messages"):  # a change of everything: the next run updates
            database[name].update_many({}, {"$set": {"content_hash": "of another version"}})
        platform.run(first, last, select="group:documents")
        for (collection, shape), query in questions.asked.items():
            plan = str(database[collection].find(query).explain()["queryPlanner"]["winningPlan"])
            if "COLLSCAN" in plan and collection not in WHOLE:
                scanned.append(f"{collection}: {shape}")
    asked = {collection for collection, _ in questions.asked}
    assert {"conversations", "messages", "quarantine", "translation_memory", "llm_calls"} <= asked
    assert scanned == []
