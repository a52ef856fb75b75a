"""The dashboard in a real browser: every number, over any filter, is that of SQL over the facts."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from cai_assets_tests.fixtures.browser import NEEDS_BROWSER, WAIT_MS, OpenPage, Watched
from cai_assets_tests.fixtures.dashboard import LISTED, TARGETS, Dashboard

pytestmark = NEEDS_BROWSER

PHONE_WIDTH = 390
CHARTS = ("volume", "messages", "responses", "outcomes", "users", "costs")
TABLES = (
    *("volume", "clocks", "responses", "outcomes", "resolution", "languages", "categories", "agents"),
    *("users", "segments", "retention", "costs", "heatmap"),
)
RANDOM_VIEWS = 50
# A value of the histogram's middle is within 1 % of all in its bucket: 1.02 ** 0.5 - 1.
CLOSE = 0.00996

READ = """() => {
  const tables = {};
  for (const table of document.querySelectorAll("main table[id]")) {
    const rows = {};
    for (const row of table.tBodies[0].rows) {
      const cells = [...row.cells].filter(cell => cell.dataset.v !== undefined);
      rows[row.dataset.key] = cells.map(cell => cell.dataset.v === "" ? null : Number(cell.dataset.v));
    }
    tables[table.id.slice(2)] = rows;
  }
  const figures = {};
  for (const cell of document.querySelectorAll("#figures dd"))
    figures[cell.id.slice(7)] = cell.dataset.v === "" ? null : Number(cell.dataset.v);
  return {tables, figures, approximate: document.querySelector("main").innerText.includes("≈")};
}"""


@dataclass(frozen=True)
class Setting:
    """A view: days and the values of each dimension; none of a dimension is all."""

    first: date
    last: date
    chosen: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clock: str = "reply"

    @property
    def hash(self) -> str:
        """As the address has it."""
        parts = [("from", self.first.isoformat()), ("to", self.last.isoformat()), ("clock", self.clock)]
        return "#" + urlencode([*parts, *((k, v) for k, values in self.chosen.items() for v in values)])

    def where(self, day: str, alias: str = "f") -> str:
        """The condition in SQL."""
        conditions = [f"{day} between date '{self.first}' and date '{self.last}'"]
        columns = {
            "channel": f"{alias}.channel",
            "language": f"{alias}.language",
            "category": f"coalesce({alias}.category, 'not categorised')",
        }
        for name, values in self.chosen.items():
            texts = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
            conditions.append(f"{columns[name]} in ({texts})")
        return " and ".join(conditions)

    def period(self, day: str) -> str:
        """The key of a day's period in SQL: the day, its Monday, its month."""
        count = (self.last - self.first).days + 1
        grain = "day" if count <= 92 else "week" if count <= 731 else "month"
        return f"cast(cast(date_trunc('{grain}', {day}) as date) as varchar)"


def loaded(watched: Watched) -> Watched:
    watched.page.wait_for_selector("body[data-drawn=yes]", timeout=WAIT_MS)
    return watched


def shown(watched: Watched, setting: Setting) -> dict[str, Any]:
    """What the page shows once it has drawn the view."""
    watched.page.evaluate(
        "hash => { document.body.dataset.drawn = 'no'; location.hash = hash; }", setting.hash
    )
    loaded(watched)
    found: dict[str, Any] = watched.page.evaluate(READ)
    return found


JOINED = "inner join facts.fct_conversation as f using (partition, conversation_id)"
FACTS = "facts.fct_conversation as f"
LIVE = "traffic_class = 'live'"
MESSAGES = f"""
    (select * exclude (channel) from facts.stg_messages where is_counted and {LIVE}) as m {JOINED}
"""
RESPONSES = f"(select * exclude (channel, language) from facts.fct_response where {LIVE}) as r {JOINED}"
BORN = f"""{MESSAGES}
    inner join (select user_id as born_id, min(local_date) as born from facts.user_day group by 1)
    on m.user_id = born_id
"""
PERCENTILES = (0.5, 0.9, 0.95, 0.99)


class Expected:
    """The same numbers by SQL over the facts."""

    def __init__(self, dashboard: Dashboard, setting: Setting) -> None:
        self.dashboard, self.setting = dashboard, setting
        self.as_of_us = int(dashboard.as_of.timestamp() * 1e6)

    def rows(
        self, select: str, source: str, day: str, *, more: str = "true", group: str = ""
    ) -> dict[str, list[Any]]:
        """Rows by their first column."""
        tail = f"group by {group}" if group else ""
        sql = f"select {select} from {source} where {self.setting.where(day)} and {more} {tail}"
        return {str(row[0]): list(row[1:]) for row in self.dashboard.rows(sql)}

    def one(self, select: str, source: str, day: str, more: str = "true") -> list[Any]:
        return self.rows(f"'all', {select}", source, day, more=more)["all"]

    def volume(self) -> dict[str, list[Any]]:
        period = self.setting.period
        talks = self.rows(
            f"{period('first_message_date')}, count(*), count(*) filter (not is_empty)",
            *(FACTS, "first_message_date"),
            more="is_counted",
            group="1",
        )
        said = self.rows(
            f"""{period("local_date")}, count(distinct (conversation_id, local_date)), count(*),
                count(*) filter (sender_type = 'user'), count(*) filter (sender_type = 'bot'),
                count(*) filter (sender_type = 'agent')""",
            *(MESSAGES, "local_date"),
            group="1",
        )
        return {key: [*talks.get(key, [0, 0]), *said.get(key, [0] * 5)] for key in talks | said}

    def times(self, key: str, more: str, of: str = "stopped_us - since_us") -> dict[str, list[Any]]:
        values = ", ".join(f"quantile_cont(({of}) / 1e6, {p})" for p in PERCENTILES)
        return self.rows(f"{key}, {values}, max({of}) / 1e6", RESPONSES, "report_date", more=more, group="1")

    def clocks(self) -> dict[str, list[Any]]:
        found = {}
        targets = ", ".join(
            f"""count(*) filter (stopped_us - since_us <= {t}e6)
                / nullif(count(*) filter (stopped_us is not null or {self.as_of_us} - since_us > {t}e6), 0)"""
            for t in TARGETS
        )
        counts = self.rows(
            f"clock, count(stopped_us), count(*) filter (stopped_us is null), {targets}",
            *(RESPONSES, "report_date"),
            group="1",
        )
        for key, times in self.times("clock", "true").items():
            found[key] = [*counts[key][:2], *times, *counts[key][2:]]
        business = self.rows(
            "clock, count(stopped_us), count(*) filter (stopped_us is null)",
            *(RESPONSES, "report_date"),
            more="since_business_us is not null",
            group="1",
        )
        of = "stopped_business_us - since_business_us"
        for key, times in self.times("clock", "since_business_us is not null", of).items():
            found[f"{key}_business"] = [*business[key], *times, None, None, None]
        for clock in ("first", "first_human", "after_handoff", "reply"):
            found.setdefault(clock, [0, 0, *[None] * 8])
        return found

    def responses(self) -> dict[str, list[Any]]:
        key, more = self.setting.period("report_date"), f"clock = '{self.setting.clock}'"
        counts = self.rows(
            f"{key}, count(stopped_us), count(*) filter (stopped_us is null)",
            *(RESPONSES, "report_date"),
            more=more,
            group="1",
        )
        times = self.times(key, more)
        return {key: [*found, *times[key][:4]] for key, found in counts.items()}

    def outcomes(self) -> dict[str, list[Any]]:
        found = self.rows("outcome, count(*)", FACTS, "first_message_date", more="is_counted", group="1")
        whole = sum(row[0] for row in found.values())
        return {key: [count, count / whole] for key, (count,) in found.items()}

    def resolution(self) -> dict[str, list[Any]]:
        settled = f"(is_undone or {self.as_of_us} - last_resolved_us > 7 * 86400e6)"
        return self.rows(
            f"""f.channel, count(*) filter (not is_empty),
            count(*) filter (resolves > 0 and not is_empty),
            count(*) filter (resolves > 0 and not is_empty) / nullif(count(*) filter (not is_empty), 0),
            count(*) filter (reopens > 0 and not is_empty),
            count(*) filter (resolves > 0 and not is_empty and {settled} and not is_undone)
                / nullif(count(*) filter (resolves > 0 and not is_empty and {settled}), 0),
            count(*) filter (bot_messages > 0 and user_messages > 0),
            count(*) filter (outcome = 'contained'),
            count(*) filter (outcome = 'contained')
                / nullif(count(*) filter (bot_messages > 0 and user_messages > 0), 0),
            count(*) filter (handed_off and bot_messages > 0 and user_messages > 0),
            quantile_cont(resolution_first_s, 0.5), quantile_cont(resolution_last_s, 0.5),
            quantile_cont(resolution_last_s, 0.9)""",
            *(FACTS, "first_message_date"),
            more="is_counted",
            group="1",
        )

    def languages(self) -> dict[str, list[Any]]:
        return self.rows(
            """m.language, count(*), count(*) filter (sender_type = 'user'), count(*) filter
            (needs_translation),
            count(*) filter (translation_status = 'ok'), count(*) filter (translation_status = 'failed'),
            count(*) filter (translation_status = 'skipped'),
            count(*) filter (translation_status = 'ok') / nullif(count(*) filter (needs_translation), 0),
            count(*) filter (detection_agrees) / nullif(count(detection_agrees), 0)""",
            *(MESSAGES, "local_date"),
            group="1",
        )

    def categories(self) -> dict[str, list[Any]]:
        return self.rows(
            """coalesce(f.category, 'not categorised'), count(*),
            count(*) filter (resolves > 0 and not is_empty) / nullif(count(*) filter (not is_empty), 0),
            count(*) filter (outcome = 'contained')
                / nullif(count(*) filter (bot_messages > 0 and user_messages > 0), 0),
            quantile_cont(resolution_last_s, 0.5),
            count(*) filter (csat_score >= 4) / nullif(count(csat_score), 0), count(csat_score)""",
            *(FACTS, "first_message_date"),
            more="is_counted",
            group="1",
        )

    def agents(self) -> dict[str, list[Any]]:
        first = f"""(select * exclude (channel), min(message_no) over (partition by conversation_id,
        sender_id) as n
            from facts.stg_messages where is_counted and traffic_class = 'live' and sender_type = 'agent')
            as m {JOINED}"""
        said = self.rows(
            "sender_id, count(*) filter (message_no = n), count(*)", first, "local_date", group="1"
        )
        waits = f"(select * exclude (channel, language) from facts.fct_wait where {LIVE}) as w {JOINED}"
        replies = self.rows(
            "replier_id, count(reply_s), quantile_cont(reply_s, 0.5), quantile_cont(reply_s, 0.9)",
            *(waits, "local_date"),
            more="replier_type = 'agent'",
            group="1",
        )
        names = """(select sender_id from facts.stg_messages
            where sender_type = 'agent' and is_counted and traffic_class = 'live'
            union select agent_id from facts.fct_conversation where is_counted and agent_id is not null)"""
        credit = "coalesce(last_resolved_by, case when agent_messages > 0 then last_agent_id end)"
        resolved = self.rows(
            f"{credit}, count(*)",
            *(FACTS, "first_message_date"),
            more=f"is_counted and not is_empty and resolves > 0 and {credit} in {names}",
            group="1",
        )
        each = "coalesce(actor, case when agent_messages > 0 then last_agent_id end)"
        resolves = self.rows(
            f"{each}, count(*)",
            f"""{FACTS} left join (
                select partition, conversation_id, actor from facts.fct_status_event
                where to_status = 'resolved'
            ) as e using (partition, conversation_id)""",
            "first_message_date",
            more=f"is_counted and not is_empty and resolves > 0 and {each} in {names}",
            group="1",
        )
        nothing = [0, 0], [0, None, None], [0], [0]
        parts = said, replies, resolved, resolves
        return {
            key: [n for part, none in zip(parts, nothing, strict=True) for n in part.get(key, none)]
            for key in said | resolves
        }

    def users(self) -> dict[str, list[Any]]:
        period = self.setting.period
        found = self.rows(
            f"""{period("local_date")}, count(distinct m.user_id), count(distinct m.user_id) filter (
                {period("born")} = {period("local_date")} and born between '{self.setting.first}' and
                '{self.setting.last}')""",
            *(BORN, "local_date"),
            more="sender_type = 'user'",
            group="1",
        )
        return {key: [users, new, users - new] for key, (users, new) in found.items()}

    def segments(self) -> dict[str, list[Any]]:
        source = f"{MESSAGES} inner join marts.user as u on m.user_id = u.user_id"
        return self.rows(
            "segment, count(distinct m.user_id)", source, "local_date", more="sender_type = 'user'", group="1"
        )

    def costs(self) -> dict[str, list[Any]]:
        # A run about several conversations counts once, with the first of its rows.
        calls = f"""(select *, min(case when status <> 'cached' then call_id end) over (
            partition by coalesce(workflow_run_id, call_id), local_date, purpose, model, currency
        ) as first_id from facts.fct_llm_call) as c {JOINED}"""
        return self.rows(
            """purpose || '|' || coalesce(model, 'unknown') || '|' || coalesce(currency, 'unknown'),
            count(*) filter (c.status <> 'cached' and call_id = first_id),
            count(*) filter (c.status = 'ok'), count(*) filter (c.status = 'failed'),
            count(*) filter (c.status = 'cached'), coalesce(sum(c.tokens), 0)::bigint,
            coalesce(sum(c.price), 0)::double""",
            *(calls, "first_message_date"),
            group="1",
        )

    def heatmap(self) -> dict[str, list[Any]]:
        found = self.rows(
            "local_isodow || '-' || local_hour, count(*)",
            *(MESSAGES, "local_date"),
            more="sender_type = 'user'",
            group="1",
        )
        return {str(d): [found.get(f"{d}-{h}", [0])[0] for h in range(24)] for d in range(1, 8)}

    def retention(self) -> dict[str, list[Any]]:
        found = self.rows(
            """strftime(born, '%Y-%m') || ' ' || date_diff('month', born, local_date),
            count(distinct m.user_id)""",
            *(BORN, "local_date"),
            more="sender_type = 'user'",
            group="1",
        )
        counts: dict[str, dict[int, int]] = {}
        for key, (count,) in found.items():
            cohort, months = key.split(" ")
            counts.setdefault(cohort, {})[int(months)] = count
        kept = {cohort: row for cohort, row in counts.items() if row.get(0)}
        most = max((max(row) for row in kept.values()), default=0)
        end = self.setting.last.year * 12 + self.setting.last.month - 1
        return {
            cohort: [
                row[0],
                *(
                    row.get(k, 0) / row[0] if int(cohort[:4]) * 12 + int(cohort[5:]) - 1 + k <= end else None
                    for k in range(1, most + 1)
                ),
            ]
            for cohort, row in kept.items()
        }

    def figures(self) -> dict[str, Any]:
        talks = self.one(
            """count(*), count(*) filter (not is_empty), count(*) filter (resolves > 0 and not is_empty),
            count(*) filter (outcome = 'unanswered'), count(*) filter (outcome = 'contained'),
            count(*) filter (bot_messages > 0 and user_messages > 0),
            count(*) filter (csat_score >= 4), count(csat_score)""",
            *(FACTS, "first_message_date", "is_counted"),
        )
        said = self.one(
            """count(*), count(distinct m.user_id) filter (sender_type = 'user'),
            count(*) filter (translation_status = 'ok'), count(*) filter (needs_translation)""",
            *(MESSAGES, "local_date"),
        )
        return {
            "conversations": talks[0],
            "messages": said[0],
            "users_writing": said[1],
            "outcome_unanswered": talks[3],
            "resolution_rate": talks[2] / talks[1] if talks[1] else None,
            "containment_rate": talks[4] / talks[5] if talks[5] else None,
            "translation_coverage": said[2] / said[3] if said[3] else None,
            "csat": talks[6] / talks[7] if talks[7] else None,
        }


def close(found: float | None, wanted: float | None, *, exact: bool) -> bool:
    if found is None or wanted is None:
        return found is None and wanted is None
    return abs(found - wanted) <= (1e-9 if exact else CLOSE) * abs(wanted) + 1e-9


# Columns, among those with numbers, that are times: exact without a filter, else within 1 %.
TIMES = {
    "clocks": range(2, 7),
    "responses": range(2, 6),
    "resolution": range(9, 12),
    "categories": (3,),
    "agents": (3, 4),
}


def differences(found: dict[str, Any], expected: Expected, *, exact: bool) -> Iterator[str]:
    """What the page shows and SQL does not give."""
    for name, value in expected.figures().items():
        if not close(found["figures"][name], value, exact=True):
            yield f"{name}: {found['figures'][name]} is not {value}"
    for name in TABLES:
        wanted, rows = getattr(expected, name)(), found["tables"].get(name, {})
        for key in sorted(wanted.keys() | rows.keys()):
            row, truth = rows.get(key), wanted.get(key)
            if row is None or truth is None:
                # A period without anything, an outcome that nobody met, is a row of zeros.
                if any((row or truth)[n] for n in range(len(row or truth))):
                    yield f"{name} {key}: {row} is not {truth}"
                continue
            if len(row) != len(truth):
                yield f"{name} {key}: {row} has other columns than {truth}"
                continue
            for n, (value, right) in enumerate(zip(row, truth, strict=True)):
                if not close(value, right, exact=exact or n not in TIMES.get(name, ())):
                    yield f"{name} {key} column {n}: {value} is not {right}"


@pytest.fixture
def opened(dashboard: Dashboard, open_page: OpenPage) -> Callable[..., Watched]:
    def opening(hash: str = "", **options: Any) -> Watched:  # noqa: A002  it is the address's hash
        return loaded(open_page(dashboard.page.as_uri() + hash, offline=True, **options))

    return opening


def bounds(dashboard: Dashboard) -> tuple[date, date]:
    assert dashboard.cube.first_day is not None
    assert dashboard.cube.last_day is not None
    return dashboard.cube.first_day, dashboard.cube.last_day


def test_without_a_filter_every_number_is_exactly_that_of_the_facts(
    dashboard: Dashboard, opened: Callable[..., Watched]
) -> None:
    watched = opened()
    setting = Setting(*bounds(dashboard))
    found = watched.page.evaluate(READ)
    assert set(found["tables"]) == set(TABLES)
    # The range is shown by weeks here, whose percentiles are those of merged histograms.
    weekly = Setting(*bounds(dashboard))
    problems = [
        p for p in differences(found, Expected(dashboard, setting), exact=True) if "responses" not in p
    ]
    assert problems == []
    assert list(differences(found, Expected(dashboard, weekly), exact=False)) == []
    calls = dashboard.rows(
        "select purpose || '|' || model || '|' || currency, sum(calls)::bigint from marts.cost group by 1"
    )
    assert {key: row[0] for key, row in found["tables"]["costs"].items()} == dict(calls)


def test_over_any_filter_every_number_is_that_of_the_facts(
    dashboard: Dashboard, opened: Callable[..., Watched]
) -> None:
    watched = opened()
    first, last = bounds(dashboard)
    dice = random.Random(20_250_120)
    names = dashboard.cube.header["dimensions"]
    met = set()
    for _ in range(RANDOM_VIEWS):
        begin = first + timedelta(days=dice.randrange((last - first).days + 1))
        end = begin + timedelta(days=dice.randrange((last - begin).days + 1))
        if dice.random() < 0.3:
            begin, end = first, last
        chosen = {
            name: sorted(dice.sample(names[name][:-1], dice.randint(1, 2)))
            for name in names
            if dice.random() < 0.45
        }
        clock = dice.choice(["first", "first_human", "after_handoff", "reply"])
        setting = Setting(begin, end, chosen, clock)
        problems = list(differences(shown(watched, setting), Expected(dashboard, setting), exact=False))
        assert problems == [], setting
        met.add(tuple(sorted(chosen)))
    assert len(met) == 8
    assert watched.problems == []
    assert watched.requests == [dashboard.page.as_uri()]


def test_one_day_without_a_filter_has_its_exact_percentiles(
    dashboard: Dashboard, opened: Callable[..., Watched]
) -> None:
    day = bounds(dashboard)[0] + timedelta(days=9)
    setting = Setting(day, day + timedelta(days=20))
    found = shown(opened(), setting)["tables"]["responses"]
    wanted = Expected(dashboard, setting).responses()
    assert len(wanted) > 10
    for key, row in wanted.items():
        assert all(close(value, right, exact=True) for value, right in zip(found[key], row, strict=True)), key


def test_the_address_holds_the_view_and_the_browsers_back_button_leaves_it(
    dashboard: Dashboard, opened: Callable[..., Watched]
) -> None:
    page = opened().page
    before = page.locator("#figure-conversations").inner_text()
    page.locator("#t-resolution button").first.click()
    page.wait_for_function("location.hash.includes('channel=')")
    page.wait_for_selector("body[data-drawn=yes]")
    filtered = page.locator("#figure-conversations").inner_text()
    assert filtered != before
    other = opened(page.evaluate("location.hash")).page
    assert other.locator("#figure-conversations").inner_text() == filtered
    page.go_back()
    page.wait_for_function("!location.hash.includes('channel=')")
    page.wait_for_selector("body[data-drawn=yes]")
    assert page.locator("#figure-conversations").inner_text() == before


def test_it_can_be_used_by_the_keyboard_alone(opened: Callable[..., Watched]) -> None:
    page = opened().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    summary = page.locator("details.pick summary").first
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "checkbox"
    page.keyboard.press("Space")
    page.wait_for_function("location.hash.includes('channel=')")
    page.wait_for_selector("body[data-drawn=yes]")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    number = page.locator("#t-outcomes a.num").first
    page.locator("section:has(#c-outcomes) details.data summary").focus()
    page.keyboard.press("Enter")
    number.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash.includes('what=outcome')")
    names = page.locator("button, select, input, [role=region]").evaluate_all(
        "all => all.map(e => e.ariaLabel || e.textContent || e.labels[0].textContent)"
    )
    assert all(names)


def test_a_number_leads_to_its_conversations_and_their_transcripts(
    dashboard: Dashboard, opened: Callable[..., Watched]
) -> None:
    watched = opened()
    page = watched.page
    page.locator("#figure-outcome_unanswered a").click()
    page.wait_for_function("location.hash.includes('what=outcome')")
    page.wait_for_selector("body[data-drawn=yes]")
    ids = page.locator("#conversation-list details").evaluate_all("all => all.map(e => e.id)")
    carried = f"""(select * from facts.fct_conversation where is_counted
        order by started_us desc, conversation_id limit {LISTED})"""
    order = "order by started_us desc, conversation_id"
    sql = f"select conversation_id from {carried} where outcome = 'unanswered' {order}"
    wanted = [row[0] for row in dashboard.rows(sql)]
    assert wanted
    assert [name.removeprefix("conversation-") for name in ids] == wanted[:25]
    first = page.locator("#conversation-list details").first
    first.locator("summary").click()
    # the page learns that it is open in an event of its own, after the click
    first.locator("table.transcript").wait_for()
    said = first.locator("td.said").all_inner_texts()
    texts = dashboard.rows(
        f"""select text from lake.messages where conversation_id = '{wanted[0]}' and not is_private
        order by created_at, seq, message_id"""
    )
    assert said == [text for (text,) in texts]
    assert watched.problems == []


@pytest.mark.parametrize("width", [1320, PHONE_WIDTH])
def test_it_fits_any_width_and_asks_nobody(
    dashboard: Dashboard, opened: Callable[..., Watched], width: int
) -> None:
    watched = opened(width=width)
    for name in CHARTS:
        box = watched.page.locator(f"#c-{name} svg").bounding_box()
        assert box is not None
        assert box["height"] > 100
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    assert watched.requests == [dashboard.page.as_uri()]
    assert watched.problems == []
    watched.shoot(f"dashboard_{width}", full_page=True)


# Elements whose text stands out less than 4.5 to 1 from what is behind it (WCAG AA).
POOR = r"""() => {
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = rgb => {
    const [r, g, b] = rgb.match(/[\d.]+/g).slice(0, 3).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (!/, 0\)$/.test(c) && c !== "transparent") return c;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = "h1, h2, p, th, td, dt, dd, small, summary, button:enabled, label, .tags span";
  return [...document.querySelectorAll(texts)].filter(e => {
    if (!e.checkVisibility() || !e.textContent.trim() || e.closest("#t-heatmap")) return false;
    const [a, b] = [light(getComputedStyle(e).color), light(back(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) < 4.5;
  }).map(e => e.tagName + " " + e.textContent.slice(0, 30));
}"""


def test_dark_and_printed_it_can_be_read(opened: Callable[..., Watched]) -> None:
    for scheme in ("light", "dark"):
        watched = opened(color_scheme=scheme)
        assert watched.page.evaluate(POOR) == [], scheme
        watched.shoot(f"dashboard_{scheme}")
        watched.page.emulate_media(media="print")
        assert watched.page.evaluate(POOR) == [], f"{scheme}, printed"
        assert not watched.page.locator("#filters .row").is_visible()
        back = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert back == "rgb(255, 255, 255)"


def test_days_are_the_same_days_wherever_it_is_read(opened: Callable[..., Watched]) -> None:
    labels = []
    for zone in ("America/Los_Angeles", "Asia/Tokyo"):
        page = opened("#from=2025-03-28&to=2025-04-03", timezone_id=zone).page
        labels.append(
            (page.locator("#c-volume .role-axis-label text").all_text_contents(), page.evaluate(READ))
        )
    assert labels[0] == labels[1]
    assert "28 Mar" in labels[0][0]


def test_a_table_is_downloaded_as_it_is_shown(opened: Callable[..., Watched]) -> None:
    page = opened().page
    with page.expect_download() as waiting:
        page.locator("button[data-csv=t-categories]").click()
    lines = waiting.value.path().read_text("utf-8-sig").splitlines()
    rows = page.evaluate(READ)["tables"]["categories"]
    assert lines[0].startswith("Category,Conversations,")
    assert len(lines) == len(rows) + 1
    assert [float(line.split(",")[1]) for line in lines[1:]] == [row[0] for row in rows.values()]
