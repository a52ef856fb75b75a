"""Take the README's pictures anew from a running `make up` over sample conversations (`make demo` before it).

    .venv/bin/python docs/pictures.py [http://127.0.0.1:3000] [.cai/sample/lake/reports/dashboard.html]

Needs Debian's Chromium, as the browser tests do. Look at what it wrote before you commit it.
"""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from cai_assets_tests.fixtures.browser import ARGUMENTS, CHROMIUM, WAIT_MS

IMAGES = Path(__file__).with_name("images")


def graph(page: Page, ui: str) -> None:
    """All that a day's report is made of: every layer is in it. The whole graph is too wide for a page."""
    page.set_viewport_size({"width": 2300, "height": 1250})
    asset = f"{ui}/assets/reports/daily_report"
    page.goto(f"{asset}?view=lineage&lineageScope=upstream&lineageDepth=12", wait_until="domcontentloaded")
    for name in ("nocodb", "stg_messages", "business_day", "daily_report"):
        page.get_by_text(name, exact=True).first.wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(5000)  # states of the assets come one by one
    page.screenshot(path=IMAGES / "graph.png", clip={"x": 370, "y": 180, "width": 1800, "height": 1065})


def fact(page: Page, ui: str) -> None:
    """A daily table with the plots of its numbers."""
    page.set_viewport_size({"width": 1500, "height": 1000})
    page.goto(f"{ui}/assets/reports/daily_report", wait_until="domcontentloaded")
    page.get_by_role("button", name="Plots").first.click(timeout=WAIT_MS)
    page.locator("canvas").first.wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(2000)  # lines are drawn from left to right
    page.screenshot(path=IMAGES / "plots.png")


def dashboard(page: Page, file: Path) -> None:
    """The dashboard's first screen."""
    page.set_viewport_size({"width": 1280, "height": 1150})
    page.goto(file.resolve().as_uri())
    page.wait_for_selector("body[data-drawn=yes]", timeout=WAIT_MS)
    page.screenshot(path=IMAGES / "dashboard.png")


def main() -> None:
    """Take all of them."""
    ui = sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://127.0.0.1:3000"
    file = Path(sys.argv[2] if len(sys.argv) > 2 else ".cai/sample/lake/reports/dashboard.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        page = browser.new_page()
        graph(page, ui)
        fact(page, ui)
        dashboard(page, file)
        browser.close()


if __name__ == "__main__":
    main()
