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
RUN_MS = 300_000  # a run of one table takes 15 s, on a busy machine much more
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
    # Of a graph this wide the UI draws what is in sight alone; the list of a layer has all of it.
    watched.see(re.compile("^fct_"))
    watched.shoot("graph")
    place = f"{ui.address}/locations/__repository__@cai_assets.definitions/asset-groups"
    for layer in LAYERS[1:]:
        names = {name for of, name in TABLES if of == layer} or set(REPORTS if layer == "reports" else ())
        watched.page.goto(f"{place}/{layer}/list", wait_until="domcontentloaded")
        for name in sorted(names):
            watched.see(f"{layer} / {name}")
    assert watched.page.get_by_text("Join the Dagster community").count() == 0
    no_pop_up(watched)
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


def no_pop_up(watched: Watched) -> None:
    """No dialog over the page, and no banner that warns."""
    assert watched.page.get_by_role("dialog").count() == 0
    # Next.js reads each new page's name to those who cannot see it by an alert that nobody sees.
    assert watched.page.locator("[role=alert]:not(#__next-route-announcer__)").count() == 0


def shown_markdown(watched: Watched, key: str) -> Any:
    """The dialog in which the UI shows a text or a picture of the metadata."""
    row = watched.page.get_by_role("row").filter(has_text=key)
    row.get_by_text("Show Markdown").first.click(timeout=WAIT_MS)
    return watched.page.get_by_role("dialog")


def test_numbers_of_the_days_are_plotted(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    for name, plotted in {
        "facts/fct_conversation": ["dagster/partition_row_count"],
        "reports/daily_report": ["conversations", "messages", "first_response_p50_s", "translated"],
    }.items():
        watched = open_page(f"{ui.address}/assets/{name}", width=1500, height=1400)
        plots = watched.page.get_by_role("button", name="Plots").first
        plots.click(timeout=WAIT_MS)
        playwright_api.expect(watched.page.locator("canvas").first).to_be_visible(timeout=WAIT_MS)
        for number_of in plotted:
            watched.see(number_of)
        assert watched.page.locator("canvas").count() >= len(plotted)
        plots.evaluate("e => e.scrollIntoView()")
        watched.shoot(f"plots_{name.partition('/')[2]}")
        local_only(watched, ui)
        no_pop_up(watched)


def test_columns_are_followed_to_the_fields_of_the_source_and_the_code_is_named(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    watched = open_page(f"{ui.address}/assets/marts/volume", width=1500, height=1400)
    for text in ("cai/grain: all_days", "cai/holds: numbers", "data", "DuckDB", "volume.sql"):
        watched.see(re.compile(text))
    no_pop_up(watched)
    origins = shown_markdown(watched, "columns_come_from")
    row = origins.get_by_role("row").filter(has_text="user_messages").last
    playwright_api.expect(row).to_contain_text("facts.fct_traffic.user_messages", timeout=WAIT_MS)
    playwright_api.expect(row).to_contain_text("messages.sender_type")
    watched.shoot("column_lineage")
    watched.page.goto(
        f"{ui.address}/assets/marts/volume?view=lineage&lineageScope=upstream&lineageDepth=9",
        wait_until="domcontentloaded",
    )
    for name in ("fct_traffic", "stg_messages"):
        watched.see(name)
    watched.shoot("lineage")
    local_only(watched, ui)


def test_a_day_s_report_has_its_picture_and_the_place_of_its_page(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    day = UI_DAYS[1]
    address = f"{ui.address}/assets/reports/daily_report?view=partitions&partition={day}"
    watched = open_page(address, width=1500, height=1100)
    watched.see(str(ui.home / "lake/reports/daily_report" / f"{day}.html"))
    watched.see(str(ui.home / "lake/reports/dashboard.html"))
    picture = shown_markdown(watched, "messages_by_hour").locator("img")
    playwright_api.expect(picture).to_be_visible(timeout=WAIT_MS)
    assert picture.evaluate("e => e.naturalWidth") > 300
    watched.shoot("daily_report_picture")
    local_only(watched, ui)


def materialise(watched: Watched, ui: UserInterface, asset: str, days: str) -> Any:
    """Open an asset's dialog and choose days in it; the dialog."""
    watched.page.goto(f"{ui.address}/assets/{asset}?view=partitions", wait_until="domcontentloaded")
    button = watched.page.get_by_role("button", name=re.compile("Materialize")).first
    playwright_api.expect(button).to_be_enabled(timeout=WAIT_MS)
    button.click()
    dialog = watched.page.get_by_role("dialog")
    playwright_api.expect(dialog).to_contain_text("Partition selection", timeout=WAIT_MS)
    box = dialog.get_by_placeholder(re.compile("^ex: "))
    box.fill(days)
    box.press("Enter")
    box.press("Tab")
    return dialog


def launched(watched: Watched, dialog: Any, button: str, mutation: str) -> dict[str, Any]:
    """What the UI's own request answers when its button is clicked."""

    def is_it(response: Any) -> bool:
        return "/graphql" in response.url and mutation in (response.request.post_data or "")

    with watched.page.expect_response(is_it, timeout=WAIT_MS) as waiting:
        dialog.get_by_role("button", name=re.compile(button)).click()
    (answer,) = waiting.value.json()["data"].values()
    return dict(answer)


def test_a_day_is_materialised_by_clicking(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    day = UI_DAYS[2]
    watched = open_page(ui.address, width=1500, height=1000)
    dialog = materialise(watched, ui, "facts/fct_wait", day)
    playwright_api.expect(dialog.get_by_text("1 partition", exact=True)).to_be_visible(timeout=WAIT_MS)
    watched.shoot("materialise_a_day")
    answer = launched(watched, dialog, "Launch 1 run", "LaunchPipelineExecution")
    assert answer["__typename"] == "LaunchRunSuccess", answer
    watched.page.goto(f"{ui.address}/runs/{answer['run']['id']}", wait_until="domcontentloaded")
    ended = watched.page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first
    playwright_api.expect(ended).to_be_visible(timeout=RUN_MS)
    playwright_api.expect(ended).to_have_text("Success")
    watched.shoot("run")
    local_only(watched, ui)


def test_a_range_is_backfilled_by_the_dialog(
    ui: UserInterface, ui_backfill: Backfill, open_page: OpenPage
) -> None:
    watched = open_page(ui.address, width=1500, height=1000)
    dialog = materialise(watched, ui, "facts/user_day", f"[{UI_DAYS[0]}...{UI_DAYS[4]}]")
    playwright_api.expect(dialog.get_by_text("5 partitions", exact=True)).to_be_visible(timeout=WAIT_MS)
    watched.shoot("backfill_dialog")
    answer = launched(watched, dialog, "Launch backfill", "LaunchPartitionBackfill")
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    watched.page.goto(f"{ui.address}/runs/b/{answer['backfillId']}", wait_until="domcontentloaded")
    status = watched.page.get_by_text("Status", exact=True).locator("xpath=..")
    playwright_api.expect(status).to_contain_text(
        re.compile("Completed|Success|Succeeded|Failed|Canceled"), timeout=RUN_MS
    )
    assert not re.search("Failed|Canceled", status.inner_text()), status.inner_text()
    playwright_api.expect(watched.page.get_by_text("100% completed", exact=True)).to_be_visible(
        timeout=WAIT_MS
    )
    watched.shoot("backfill")
    local_only(watched, ui)


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
