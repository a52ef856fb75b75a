"""What people see after a backfill, in a real browser: the Dagster UI, the dashboard, a daily report."""

import re
from typing import Any

import duckdb
import pytest

from cai_assets.domain.formats import number, share
from cai_assets.schemas.tables import TABLES
from cai_assets_tests.fixtures.browser import NEEDS_BROWSER, WAIT_MS, OpenPage, Watched
from cai_assets_tests.fixtures.ui import UI_DAYS, Backfill, UserInterface

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")

PHONE_WIDTH = 390
LAYERS = ("nocodb", "raw", "documents", "enrichment", "lake", "facts", "marts", "reports")
REPORTS = ("analytics_reports", "user_analytics", "daily_report", "dashboard", "exports")

pytestmark = NEEDS_BROWSER


def local_only(watched: Watched, ui: UserInterface) -> None:
    host = ui.address.removeprefix("http://")
    own = (f"http://{host}/", f"ws://{host}/", "data:", f"blob:http://{host}/")
    assert [address for address in watched.requests if not address.startswith(own)] == []


# -- the Dagster UI


def test_the_graph_shows_every_layer_and_every_asset(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    watched = open_page(f"{ui.address}/asset-groups", width=2600, height=3000)
    for layer in LAYERS:
        watched.see(layer)
    watched.page.keyboard.press("Alt+e")  # expand all groups
    watched.page.wait_for_url(re.compile("expanded="), timeout=WAIT_MS)
    watched.page.reload(wait_until="domcontentloaded")  # with all groups open from the start, all fits
    watched.see("fct_conversation")
    watched.shoot("graph")
    # Of a graph this wide the UI draws what is in sight alone; the list of a layer has all of it.
    place = f"{ui.address}/locations/__repository__@cai_assets.definitions/asset-groups"
    for layer in LAYERS[1:]:
        names = {name for of, name in TABLES if of == layer} or set(REPORTS if layer == "reports" else ())
        watched.page.goto(f"{place}/{layer}/list", wait_until="domcontentloaded")
        for name in sorted(names):
            watched.see(f"{layer} / {name}")
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
    conversations, bots, contained = sums(
        *(ui, ("marts", "containment"), "conversations", "bot_conversations", "contained")
    )
    messages, by_users = sums(ui, ("marts", "volume"), "messages", "user_messages")
    answered, unanswered = sums(
        *(ui, ("marts", "response"), "n", "n_open"), where="clock = 'first' and hours = 'calendar'"
    )
    needing, translated = sums(ui, ("marts", "language"), "needing_translation", "translated")
    started, resolved = sums(ui, ("marts", "resolution"), "started", "resolved")
    assert min(conversations, bots, contained, messages, by_users, answered, needing, resolved) > 0
    shown = {
        "conversations": number(conversations),
        "messages": number(messages),
        "resolution_rate": share(resolved, started),
        "containment_rate": share(contained, bots),
        "translation_coverage": share(translated, needing),
    }
    assert {name: figure(watched, f"figure-{name}") for name in shown} == shown
    first = watched.page.locator("#t-clocks tbody tr").first.locator("th, td").all_inner_texts()
    assert first[:3] == ["First response", number(answered), number(unanswered)]
    exports = ui.home / "lake/reports/exports"
    assert {"cai-export.xlsx", "conversations.csv", "volume.csv"} <= {p.name for p in exports.iterdir()}
    assert watched.problems == []


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
    watched.page.get_by_role("link", name=day, exact=True).click()
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
