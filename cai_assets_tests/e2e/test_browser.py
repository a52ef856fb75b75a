"""What people see, in a real browser: the Dagster UI, the dashboard, a daily report. Screenshots are kept."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cai_assets.domain.formats import number, share
from cai_assets.schemas.tables import TABLES
from cai_assets_tests.conftest import REPOSITORY
from cai_assets_tests.fixtures.ui import UI_DAYS, Backfill, UserInterface

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")

CHROMIUM = Path("/usr/bin/chromium")
# No sandbox: tests may run as root in a container. The rest keeps the browser itself off the network.
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PHONE_WIDTH = 390
WAIT_MS = 60_000
LAYERS = ("nocodb", "raw", "documents", "enrichment", "lake", "facts", "marts", "reports")
REPORTS = ("analytics_reports", "user_analytics", "daily_report", "dashboard")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Debian's Chromium at {CHROMIUM}"),
]


@dataclass
class Watched:
    """A page, and what it did.

    Attributes:
        page: Playwright's.
        requests: every address it asked for.
        problems: what it wrote to the console as a warning or an error, and exceptions.
    """

    page: Any
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda message: (
                self.problems.append(f"{message.type}: {message.text} ({message.location})")
                if message.type in ("error", "warning")
                else None
            ),
        )

    def shoot(self, name: str, *, full_page: bool = False) -> None:
        """Keep a screenshot as test artefact."""
        folder = Path(os.environ.get("CAI_TEST_ARTEFACTS") or REPOSITORY / "test-artefacts")
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png", full_page=full_page)

    def see(self, text: str | re.Pattern[str]) -> None:
        """Wait until a text can be seen; elements that only measure its width cannot."""
        found = self.page.get_by_text(text, exact=isinstance(text, str)).filter(visible=True)
        playwright_api.expect(found.first).to_be_visible(timeout=WAIT_MS)


OpenPage = Callable[..., Watched]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=str(CHROMIUM), headless=True, args=list(ARGUMENTS)
        )
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    contexts = []

    def opened(address: str, *, width: int = 1280, height: int = 900, **options: Any) -> Watched:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        watched = Watched(context.new_page())
        watched.page.goto(address, wait_until="domcontentloaded")
        return watched

    yield opened
    for context in contexts:
        context.close()


def local_only(watched: Watched, ui: UserInterface) -> None:
    host = ui.address.removeprefix("http://")
    own = (f"http://{host}/", f"ws://{host}/", "data:", f"blob:http://{host}/")
    assert [address for address in watched.requests if not address.startswith(own)] == []


# -- the Dagster UI


def test_the_graph_shows_every_layer_and_every_asset(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    watched = open_page(f"{ui.address}/asset-groups", width=1500, height=2000)
    for layer in LAYERS:
        watched.see(layer)
    watched.page.keyboard.press("Alt+e")  # expand all groups
    watched.page.wait_for_url(re.compile("expanded="), timeout=WAIT_MS)
    watched.page.reload(wait_until="domcontentloaded")  # with all groups open from the start, all fits
    for name in sorted(
        {name for layer, name in TABLES if layer != "reports"} | {"dashboard", "daily_report"}
    ):
        watched.see(name)
    watched.shoot("graph")
    assert watched.page.get_by_text("Join the Dagster community").count() == 0
    local_only(watched, ui)
    assert watched.problems == []


def test_the_page_of_an_asset_tells_what_it_is_and_that_its_checks_passed(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    table = TABLES["facts", "fct_conversation"]
    watched = open_page(f"{ui.address}/assets/facts/fct_conversation", width=1500, height=1100)
    watched.see(table.description)
    for column in table.columns[:3]:
        watched.see(column.name)
        watched.see(column.description)
    watched.shoot("asset")
    address = f"{ui.address}/assets/facts/fct_conversation"
    watched.page.goto(f"{address}?view=checks", wait_until="domcontentloaded")
    watched.see("lake_rows_equal_fact_rows")
    watched.see("Succeeded")
    assert watched.page.get_by_text(re.compile("^(Skipped|Failed|Execution failed)$")).count() == 0
    watched.shoot("asset_checks")
    day = UI_DAYS[1]
    watched.page.goto(f"{address}?view=partitions&partition={day}", wait_until="domcontentloaded")
    rows = duckdb.execute(
        "select count(*) from read_parquet($files) where partition = $day",
        {"files": ui.files(table.path), "day": day},
    ).fetchall()[0][0]
    watched.see("dagster/partition_row_count")
    row = watched.page.locator("tr").filter(has_text="dagster/partition_row_count")
    playwright_api.expect(row.first).to_contain_text(str(rows))
    watched.shoot("asset_partition")
    local_only(watched, ui)
    assert watched.problems == []


# -- the dashboard


def figure(watched: Watched, name: str) -> str:
    """A headline number, without the small print below it."""
    return watched.page.locator(f"#{name}").evaluate("e => e.firstChild.textContent.trim()")


def query(ui: UserInterface, sql: str, **paths: tuple[str, str]) -> tuple[Any, ...]:
    """The row of a query over tables of the lake, read as anyone with DuckDB reads them."""
    with duckdb.connect() as connection:
        for name, path in paths.items():
            source = f"read_parquet({ui.files(path)!r}, hive_partitioning=false)"
            connection.execute(f"create view {name} as select * from {source}")
        return connection.execute(sql).fetchall()[0]


def sums(ui: UserInterface, path: tuple[str, str], *columns: str, where: str = "true") -> tuple[Any, ...]:
    parts = ", ".join(f"sum({column})::bigint" for column in columns)
    return query(ui, f"select {parts} from mart where {where}", mart=path)


def test_the_dashboard_shows_the_numbers_of_the_marts(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    watched = open_page((ui.home / "lake/reports/dashboard.html").as_uri())
    watched.page.wait_for_selector("body[data-drawn=yes]", timeout=WAIT_MS)
    conversations, bots, contained, handed_off = sums(
        *(ui, ("marts", "containment"), "conversations", "bot_conversations", "contained", "handed_off")
    )
    messages, by_users = sums(ui, ("marts", "volume"), "messages", "user_messages")
    answered, unanswered = sums(
        ui, ("marts", "response"), "n", "n_open", where="clock = 'first' and hours = 'calendar'"
    )
    (open_waits,) = sums(ui, ("marts", "response"), "n_open", where="clock = 'reply' and hours = 'calendar'")
    needing, translated = sums(ui, ("marts", "language"), "needing_translation", "translated")
    started, resolved = sums(ui, ("marts", "resolution"), "started", "resolved")
    assert min(conversations, bots, contained, messages, answered, needing, resolved) > 0
    shown = {
        "conversations": number(conversations),
        "messages": number(messages),
        "unanswered": number(unanswered),
        "resolved": share(resolved, started),
        "contained": share(contained, bots),
        "translated": share(translated, needing),
    }
    assert {name: figure(watched, name) for name in shown} == shown
    small = watched.page.locator("#messages small, #unanswered small, #contained small, #translated small")
    assert [re.sub(r"[^\d]*$", "", text) for text in small.all_inner_texts()] == [
        *(number(by_users), number(open_waits), number(handed_off), number(needing))
    ]
    first = watched.page.locator("#table-clocks tbody tr").first.locator("td").all_inner_texts()
    assert first[:3] == ["First response", number(answered), number(unanswered)]
    watched.shoot("dashboard", full_page=True)


@pytest.mark.parametrize("width", [1280, PHONE_WIDTH])
def test_the_dashboard_draws_every_chart_at_any_width_and_asks_nobody(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage, width: int
) -> None:
    page = (ui.home / "lake/reports/dashboard.html").as_uri()
    watched = open_page(page, width=width, offline=True)
    watched.page.wait_for_selector("body[data-drawn=yes]", timeout=WAIT_MS)
    charts = watched.page.locator(".chart")
    drawn = watched.page.locator(".chart svg")
    assert charts.count() == drawn.count() == 7
    for box in (charts.nth(n).bounding_box() for n in range(charts.count())):
        assert box["height"] > 100
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    assert watched.requests == [page]
    assert watched.problems == []
    if width == PHONE_WIDTH:
        watched.shoot("dashboard_phone", full_page=True)


def test_days_are_the_same_days_wherever_the_dashboard_is_read(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    page = (ui.home / "lake/reports/dashboard.html").as_uri()
    labels = []
    for zone in ("America/Los_Angeles", "Asia/Tokyo"):
        watched = open_page(page, timezone_id=zone)
        watched.page.wait_for_selector("body[data-drawn=yes]", timeout=WAIT_MS)
        labels.append(watched.page.locator("#chart-volume .role-axis-label text").all_text_contents())
    assert labels[0] == labels[1]
    assert "20 Mar" in labels[0]


# -- a daily report


def test_the_dashboard_leads_to_the_transcripts_of_a_day_with_their_translations(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    day, conversation, text, translation = query(
        ui,
        """select m.partition, m.conversation_id, m.text, t.text
           from messages as m join translations as t on t.message_id = m.message_id
           join conversations as c on c.conversation_id = m.conversation_id
           where t.status = 'ok' and m.sender_type = 'user' and m.language = 'ar' and not m.is_private
               and c.is_counted
           order by m.partition, m.conversation_id, m.created_at limit 1""",
        messages=("lake", "messages"),
        translations=("lake", "translations"),
        conversations=("facts", "fct_conversation"),
    )
    watched = open_page((ui.home / "lake/reports/dashboard.html").as_uri())
    watched.page.get_by_role("link", name=day).click()
    watched.page.wait_for_url(f"**/daily_report/{day}.html")
    told = watched.page.locator(f'details[id="{conversation}"]')
    said = told.locator("tr", has_text=text).first
    assert not said.is_visible()
    told.locator("summary").click()
    playwright_api.expect(said).to_be_visible()
    original, beside = said.locator(".said"), said.locator(".translation")
    assert (original.inner_text(), beside.inner_text()) == (text, translation)
    left, right = original.bounding_box(), beside.bounding_box()
    assert left["x"] + left["width"] <= right["x"] + 1
    assert left["y"] == right["y"]
    assert original.evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert beside.evaluate("e => getComputedStyle(e).direction") == "ltr"
    watched.page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    watched.shoot("daily_report", full_page=True)
    counted = query(
        ui,
        f"select count(*), sum(messages)::bigint from facts where partition = '{day}' and is_counted",
        facts=("facts", "fct_conversation"),
    )
    assert (figure(watched, "conversations"), figure(watched, "messages")) == tuple(map(number, counted))
    watched.page.set_viewport_size({"width": PHONE_WIDTH, "height": 800})
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= PHONE_WIDTH
    above, below = original.bounding_box(), beside.bounding_box()
    assert above["y"] + above["height"] <= below["y"] + 1
    watched.shoot("daily_report_phone", full_page=True)
    assert watched.problems == []
    assert [address for address in watched.requests if not address.startswith("file:")] == []
