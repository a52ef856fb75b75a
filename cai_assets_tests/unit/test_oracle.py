"""The oracle itself: the true values of the real data sets, and small cases worked out by hand."""

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets_tests import oracle
from cai_assets_tests.conftest import shared_data, shared_path

NOON = datetime(2025, 3, 20, 12, tzinfo=UTC)


def conversation(**given: Any) -> dict[str, Any]:
    return {"conversation_id": "c", "user_id": "u", "status": "open", "started_at": NOON, **given}


def message(seq: int, sender: str, at: float, **given: Any) -> dict[str, Any]:
    """A message of conversation `c`, `at` seconds after noon."""
    return {
        "message_id": f"m{seq:02}",
        "conversation_id": "c",
        "seq": seq,
        "sender_type": sender,
        "sender_id": f"{sender}-1",
        "created_at": NOON + timedelta(seconds=at),
        **given,
    }


def said(*senders: tuple[str, float]) -> list[dict[str, Any]]:
    return [message(i + 1, sender, at) for i, (sender, at) in enumerate(senders)]


def event(before: str, after: str, **later: float) -> dict[str, Any]:
    return {"from": before, "to": after, "at": (NOON + timedelta(**later)).isoformat(), "actor": "agent-1"}


@pytest.mark.parametrize("name", ["star", "bcontrast"])
def test_golden_values_of_real_conversations(name: str) -> None:
    expected = json.loads(shared_path("reference", "golden_metrics.json").read_text())[name]
    found = oracle.golden(*oracle.load(shared_data(name)))
    assert list(found) == list(expected)
    for key, value in expected.items():
        if isinstance(value, int):
            assert found[key] == value, key
        else:
            assert found[key] == pytest.approx(value, abs=1e-3), key


def test_a_bot_answers_then_a_human_after_the_handoff() -> None:
    rows = said(
        ("user", 0), ("bot", 2), ("user", 30), ("bot", 33), ("agent", 93), ("user", 120), ("agent", 150)
    )
    facts = oracle.conversation_facts(conversation(), rows)
    assert facts.first_response_s == 2
    assert facts.first_human_response_s == 93
    assert facts.human_response_after_handoff_s == 60
    assert (facts.messages, facts.user_messages, facts.bot_messages, facts.agent_messages) == (7, 3, 2, 2)
    assert (facts.user_turns, facts.agents, facts.outcome) == (3, 1, "agent_open")
    assert facts.touches is None
    waits = oracle.conversation_waits("c", rows)
    assert [(w.turn_no, w.reply_s, w.human_reply_s, w.replier_type) for w in waits] == [
        (1, 2, None, "bot"),
        (2, 3, 63, "bot"),
        (3, 30, 30, "agent"),
    ]


def test_successive_messages_of_one_side_are_one_wait_that_starts_at_the_first() -> None:
    rows = said(("user", 0), ("user", 50), ("agent", 60), ("agent", 70), ("user", 80), ("user", 90))
    waits = oracle.conversation_waits("c", rows)
    assert [w.reply_s for w in waits] == [60, None]
    assert waits[1].replied_at is None
    assert waits[1].waiting_since == NOON + timedelta(seconds=80)


def test_an_agent_who_begins_starts_no_clock() -> None:
    facts = oracle.conversation_facts(conversation(), said(("agent", 0), ("user", 500), ("agent", 520)))
    assert facts.first_message_at == NOON
    assert facts.first_response_s == 20
    only_agent = oracle.conversation_facts(conversation(), said(("agent", 0)))
    assert only_agent.first_response_s is None
    assert (only_agent.outcome, only_agent.unanswered, only_agent.user_turns) == ("agent_open", False, 0)


def test_notes_system_and_deleted_messages_touch_no_clock() -> None:
    rows = [
        message(1, "system", -5),
        message(2, "user", 0),
        message(3, "agent", 1, private=True),
        message(4, "bot", 2, deleted_at=NOON),
        message(5, "agent", 10, is_private=False),
        message(6, "system", 900),
    ]
    facts = oracle.conversation_facts(conversation(), rows)
    assert (facts.messages, facts.bot_messages, facts.first_response_s) == (2, 0, 10)
    assert (facts.first_message_at, facts.last_message_at) == (NOON, NOON + timedelta(seconds=10))


def test_seq_orders_what_happened_in_the_same_second() -> None:
    rows = [message(2, "bot", 0, message_id="a"), message(1, "user", 0, message_id="b")]
    (wait,) = oracle.conversation_waits("c", rows)
    assert (wait.reply_s, wait.replier_type) == (0, "bot")


def test_the_last_version_of_a_message_counts_once() -> None:
    old = message(1, "user", 0)
    rows = [message(1, "user", 40, updated_at=NOON + timedelta(hours=1)), old, message(2, "agent", 60), old]
    facts = oracle.conversation_facts(conversation(), rows)
    assert (facts.messages, facts.first_response_s) == (2, 20)


def test_idle_time_counts_at_most_five_minutes_a_gap() -> None:
    facts = oracle.conversation_facts(conversation(), said(("user", 0), ("agent", 100), ("user", 86_400)))
    assert facts.active_s == 400


def test_nothing_said_is_nothing_measured() -> None:
    facts = oracle.conversation_facts(
        conversation(status="resolved", ended_at=NOON + timedelta(hours=1)), [message(1, "system", 0)]
    )
    assert facts.empty
    assert facts.outcome == "empty"
    assert facts.resolves == 1
    assert {facts.first_response_s, facts.active_s, facts.resolution_last_s, facts.touches} == {None}


@pytest.mark.parametrize(
    ("status", "senders", "outcome"),
    [
        ("resolved", ["system"], "empty"),
        ("resolved", ["user"], "unanswered"),
        ("abandoned", ["user"], "unanswered"),
        ("resolved", ["user", "bot"], "contained"),
        ("resolved", ["bot"], "agent_resolved"),
        ("resolved", ["user", "bot", "agent"], "agent_resolved"),
        ("abandoned", ["user", "bot"], "abandoned"),
        ("pending", ["user", "bot", "agent"], "agent_open"),
        ("open", ["user", "bot"], "bot_open"),
        ("unattended", ["bot"], "bot_open"),
    ],
)
def test_outcome_by_precedence(status: str, senders: list[str], outcome: str) -> None:
    rows = said(*((sender, i) for i, sender in enumerate(senders)))
    assert oracle.conversation_facts(conversation(status=status), rows).outcome == outcome
    assert oracle.outcomes([conversation(status=status)], rows) == Counter([outcome])


def test_resolution_without_events_is_the_end_or_else_the_last_message() -> None:
    rows = said(("user", 0), ("agent", 60))
    ended = conversation(status="resolved", ended_at=NOON + timedelta(seconds=90))
    assert oracle.conversation_facts(ended, rows).resolution_first_s == 90
    open_end = oracle.conversation_facts(conversation(status="resolved", status_events="[]"), rows)
    assert (open_end.resolution_last_s, open_end.resolves, open_end.touches) == (60, 1, 1)
    assert oracle.conversation_facts(conversation(), rows).resolves == 0
    ended_before = conversation(status="resolved", ended_at=NOON - timedelta(seconds=1))
    assert oracle.conversation_facts(ended_before, rows).resolution_last_s is None


def test_reopened_within_a_week_is_a_reopening_and_later_an_episode() -> None:
    events = [
        event("open", "resolved", hours=1),
        event("resolved", "open", days=7, hours=1),  # exactly a week: still a reopening
        event("open", "resolved", days=8),
        event("resolved", "open", days=16),
        event("open", "resolved", days=17),
    ]
    rows = said(("user", 0), ("agent", 60), ("user", 16 * 86_400), ("agent", 16 * 86_400 + 60))
    facts = oracle.conversation_facts(conversation(status="resolved", status_events=json.dumps(events)), rows)
    assert (facts.resolves, facts.reopens, facts.episodes) == (3, 1, 2)
    assert facts.resolution_first_s == 3600
    assert facts.resolution_last_s == 17 * 86_400
    assert facts.touches == 2
    early = oracle.conversation_facts(conversation(status_events=events[:2]), rows)
    assert (early.resolves, early.reopens, early.touches) == (1, 1, 1)


def test_events_without_a_resolve_outweigh_the_status() -> None:
    rows = said(("user", 0), ("agent", 60))
    facts = oracle.conversation_facts(
        conversation(status="resolved", status_events=[event("open", "pending", hours=1)]), rows
    )
    assert (facts.resolves, facts.resolution_last_s) == (0, None)


def test_sessions_split_at_more_than_half_an_hour_and_belong_to_the_day_they_start() -> None:
    rows = [
        message(1, "user", 11 * 3600 - 600),  # 23:50 in Berlin
        message(2, "agent", 11 * 3600),
        message(3, "user", 11 * 3600 + 1200),  # half an hour after the first, the next day
        message(4, "user", 11 * 3600 + 1200 + 1801),
    ]
    assert [s.messages for s in oracle.sessions([conversation()], rows)] == [2, 1]
    days = oracle.user_days([conversation()], rows, "Europe/Berlin")
    assert {day.isoformat(): (d.messages, d.sessions) for (_, day), d in days.items()} == {
        "2025-03-20": (1, 1),
        "2025-03-21": (2, 1),
    }
    user = oracle.users([conversation()], rows, "Europe/Berlin")["u"]
    assert (user.days_active, user.sessions, user.avg_session_s, user.messages) == (2, 2, 900, 3)


def test_local_hours_over_the_change_of_clocks() -> None:
    rows = [
        message(1, "user", 0, created_at=datetime(2025, 3, 30, 0, 59, tzinfo=UTC)),
        message(2, "user", 0, created_at=datetime(2025, 3, 30, 1, 0, tzinfo=UTC)),
        message(3, "agent", 0, created_at=datetime(2025, 3, 30, 22, 0, tzinfo=UTC)),
    ]
    found = oracle.hourly_traffic(
        [conversation(channel="chat")], rows, "Europe/Berlin", dimensions=["channel"]
    )
    spring = date(2025, 3, 30)
    assert found == {
        (spring, 1, "user", "chat"): 1,
        (spring, 3, "user", "chat"): 1,
        (date(2025, 3, 31), 0, "agent", "chat"): 1,
    }
    volume = oracle.daily_volume([conversation()], rows, "Europe/Berlin")
    assert volume[spring] == {"user": 2, "active": 1, "started": 1}
    assert volume[date(2025, 3, 31)] == {"agent": 1, "active": 1}


def test_quantiles_are_interpolated() -> None:
    assert oracle.quantile([10, None, 20, 40], 0.5) == 20
    assert oracle.quantile([10, 20], 0.9) == pytest.approx(19)
    assert oracle.quantile([None], 0.5) is None


@given(
    senders=st.lists(
        st.tuples(st.sampled_from(["user", "bot", "agent", "system"]), st.integers(0, 900)), max_size=12
    ),
    data=st.data(),
)
def test_order_and_duplicates_of_rows_change_nothing(
    senders: list[tuple[str, int]], data: st.DataObject
) -> None:
    rows = said(*senders)
    again = data.draw(
        st.permutations(rows + data.draw(st.lists(st.sampled_from(rows)) if rows else st.just([])))
    )
    assert oracle.conversation_facts(conversation(), again) == oracle.conversation_facts(conversation(), rows)
    waits = oracle.conversation_waits("c", again)
    assert waits == oracle.conversation_waits("c", rows)
    assert len(waits) == oracle.conversation_facts(conversation(), rows).user_turns
