"""Charts hold what is shown, pages are whole by themselves, and texts of users stay texts."""

import base64
import hashlib
import html
import re
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cai_assets.domain import charts, formats, pages

DAY = date(2025, 3, 20)
OTHER = date(2025, 3, 22)

HEADLINE = dict.fromkeys(
    (
        *("conversations", "empty_conversations", "messages", "user_messages", "distinct_users"),
        *("unanswered", "waits_open", "resolved", "contained", "bot_conversations", "handed_off"),
        *("needing_translation", "translated", "csat_answers"),
    ),
    0,
) | dict.fromkeys(
    (
        *("first_response_p50_s", "first_response_p90_s", "reply_p50_s", "reply_p90_s", "resolution_p50_s"),
        "csat_avg",
    )
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (0.25, "0.2 s"),
        (48.4, "48 s"),
        (60, "1 min"),
        (394, "6 min 34 s"),
        (11_100, "3 h 05 min"),
        (3600, "1 h 00 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations_are_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


def test_a_message_of_another_day_shows_its_date() -> None:
    zone = ZoneInfo("Europe/Berlin")
    instant = datetime(2025, 3, 20, 23, 30, tzinfo=UTC)
    assert formats.local_time(instant, zone, "2025-03-21") == "00:30:00"
    assert formats.local_time(instant, zone, "2025-03-20") == "21 Mar 00:30:00"
    assert formats.local_time(None, zone) == "–"


def test_the_chart_of_a_day_is_drawn_of_one_row_and_of_none() -> None:
    row = {"local_hour": 5, "user_messages": 1, "bot_messages": 0, "agent_messages": 0}
    spec = charts.hours([row])
    assert [value["messages"] for value in spec["data"]["values"]] == [1]
    assert pages.svg(spec).startswith("<svg")
    assert pages.png(spec).startswith(b"\x89PNG")
    assert charts.hours([])["data"]["values"] == []


EMPTY: dict[str, Any] = {
    "dimensions": {"channel": ["(other)"], "language": ["(other)"], "category": ["(other)"]},
    "first_day": None,
    "days": 0,
    "tables": {},
}


def dashboard(**more: Any) -> str:
    return pages.dashboard_page(
        **{
            "header": EMPTY,
            "cube": b"",
            "carried": [],
            "first_day": None,
            "last_day": None,
            "left_out": False,
            "most": 1000,
            "days": [],
            "zone": "UTC",
            "targets": (60, 300, 900),
            "as_of": None,
            **more,
        }
    )


def test_an_empty_dashboard_says_so() -> None:
    page = dashboard()
    assert "No conversations yet: materialise some days." in page
    assert 'id="withheld"' not in page


def test_the_dashboard_says_what_is_left_out_and_withheld() -> None:
    page = dashboard(first_day=DAY, last_day=OTHER, left_out=True, withheld=7, least=5)
    assert "The page holds the newest 1\u2009000 conversations" in page
    assert "Groups of fewer than 5 users are withheld (MIN_GROUP_SIZE): 7 conversations" in page
    few = dashboard(first_day=DAY, last_day=OTHER, withheld=3, least=5)
    assert "(MIN_GROUP_SIZE): fewer than 5 conversations" in few, (
        "their number would be that of a small group"
    )


def test_the_scripts_of_the_dashboard_are_those_that_its_policy_names() -> None:
    page = dashboard()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_texts_of_conversations_are_no_markup_in_the_dashboard() -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    said = {"created_at": datetime(2025, 3, 20, 8, tzinfo=UTC), "sender_type": "user", "text": evil}
    row = {
        "conversation_id": evil,
        "user_id": evil,
        **dict.fromkeys(("channel", "language", "category", "outcome"), evil),
        "started_us": 0,
        "messages": 1,
        "first_response_s": None,
        "followed": [],
        "transcript": [{**said, "translation": evil}],
    }
    assert "<img src=x" not in dashboard(carried=[row])


def test_transcripts_stay_text_and_read_in_their_own_direction() -> None:
    conversation = {
        "conversation_id": "c1",
        "channel": "web_chat",
        "language": "ar",
        "category": "order",
        "outcome": "unanswered",
        "started_us": 1_742_457_600_000_000,
        "messages": 1,
        "first_response_s": None,
    }
    message = {
        "created_at": datetime(2025, 3, 20, 8, tzinfo=UTC),
        "sender_type": "user",
        "text": "مرحبًا <b>",
        "translation": "Hello <b>",
    }
    page = pages.daily_page(
        day="2025-03-20",
        headline=HEADLINE,
        clocks=[],
        hours_svg="",
        conversations=[conversation, conversation],
        transcripts={"c1": [message]},
        shown=1,
        zone=ZoneInfo("UTC"),
    )
    assert "<b>" not in page
    assert '<td class="said" dir="auto">مرحبًا &lt;b&gt;</td>' in page
    assert "1 further conversations are not listed here" in page
    assert "Thursday, 20 March 2025" in page
