"""Charts hold what is shown, pages are whole by themselves, and texts of users stay texts."""

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
        *(
            "unanswered",
            "waits_open",
            "resolved",
            "contained",
            "bot_conversations",
            "handed_off",
            "needing_translation",
        ),
        *("translated", "csat_answers"),
    ),
    0,
) | dict.fromkeys(
    (
        *("first_response_p50_s", "first_response_p90_s", "reply_p50_s", "reply_p90_s", "resolution_p50_s"),
        "csat_avg",
    )
)
TABLES = dict.fromkeys(
    (
        *("response_clocks", "targets", "resolution_by_channel", "languages", "segments", "top_users"),
        "days",
    ),
    (),
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


def test_a_day_without_conversations_keeps_its_place() -> None:
    rows = [
        {"report_date": day, "user_messages": 1, "bot_messages": 0, "agent_messages": 2}
        for day in (DAY, OTHER)
    ]
    spec = charts.messages(rows)
    assert spec["encoding"]["x"]["scale"]["domain"] == ["2025-03-20", "2025-03-21", "2025-03-22"]
    assert sum(row["messages"] for row in spec["data"]["values"]) == 6


def test_a_day_on_which_nobody_waited_breaks_the_line() -> None:
    rows = [{"report_date": day, "p50_s": 5.0, "p90_s": 90.0} for day in (DAY, OTHER)]
    values = charts.replies(rows)["data"]["values"]
    assert [row["seconds"] for row in values] == [5.0, 90.0, None, None, 5.0, 90.0]


@pytest.mark.parametrize("longest", [0.4, 59, 4000, 86_400 * 400])
def test_the_axis_of_durations_reaches_the_longest(longest: float) -> None:
    spec = charts.replies([{"report_date": DAY, "p50_s": 0, "p90_s": longest}])
    axis = spec["encoding"]["y"]
    assert axis["scale"]["domainMax"] >= longest
    assert max(axis["axis"]["values"]) <= axis["scale"]["domainMax"]


def test_more_days_than_there_are_bands_for_are_drawn_along_time() -> None:
    rows = [
        {"report_date": day, "user_messages": 1, "bot_messages": 0, "agent_messages": 0}
        for day in (date(2023, 1, 1), date(2025, 1, 1))
    ]
    x = charts.messages(rows)["encoding"]["x"]
    assert (x["type"], x["timeUnit"]) == ("temporal", "utcyearmonthdate")


EVERY_CHART: dict[str, Any] = {
    "volume": [{"report_date": DAY, "channel": "web_chat", "conversations_started": 3}],
    "messages": [{"report_date": DAY, "user_messages": 3, "bot_messages": 1, "agent_messages": 0}],
    "replies": [{"report_date": DAY, "p50_s": 3.5, "p90_s": 7000.0}],
    "outcomes": [{"report_date": DAY, "outcome": "agent_resolved", "conversations": 2}],
    "languages": [{"language": "de", "messages": 7}],
    "categories": [{"category": "not categorised", "conversations": 7}],
    "heatmap": [{"local_isodow": 7, "local_hour": 23, "user_messages": 4}],
    "hours": [{"local_hour": 5, "user_messages": 1, "bot_messages": 0, "agent_messages": 0}],
}


@pytest.mark.parametrize("name", EVERY_CHART)
def test_every_chart_is_drawn_of_one_row_and_left_out_without(name: str) -> None:
    spec = getattr(charts, name)(EVERY_CHART[name])
    assert spec["data"]["values"]
    # Static drawing has no container to follow.
    assert pages.svg({**spec, "width": 400}).startswith("<svg")
    assert getattr(charts, name)([])["data"]["values"] == []


def dashboard(charts_of_page: dict[str, Any], **tables: Any) -> str:
    return pages.dashboard_page(
        headline=HEADLINE,
        tables={**TABLES, **tables},
        charts=charts_of_page,
        first_day=None,
        last_day=None,
        zone="UTC",
        targets=(60, 300, 900),
        as_of=None,
    )


def test_an_empty_dashboard_says_so_and_divides_by_nothing() -> None:
    page = dashboard({"chart-volume": charts.volume([])})
    assert "No conversations yet: materialise some days." in page
    assert 'class="chart"' not in page
    assert "Nothing yet." in page


def test_names_of_users_and_channels_cannot_become_markup() -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    volume = charts.volume([{"report_date": DAY, "channel": evil, "conversations_started": 1}])
    page = dashboard({"chart-volume": volume}, segments=[{"segment": evil, **dict.fromkeys(SEGMENT, 1)}])
    assert "<img src=x" not in page


SEGMENT = ("members", "conversations", "messages", "sessions")


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
