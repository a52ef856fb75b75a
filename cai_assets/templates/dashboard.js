// What the page shows: filters, figures, tables, charts, conversations. The sums are dashboard_data.js's.
const $ = id => document.getElementById(id);
const DIMENSIONS = ["channel", "language", "category"];
const OUTCOMES = ["contained", "outcome_agent_resolved", "outcome_agent_open", "outcome_bot_open",
  "outcome_abandoned", "outcome_unanswered", "outcome_empty"];
const CLOCKS = { first: "First response", first_human: "First human response",
  after_handoff: "Human response after hand-off", reply: "Reply to a user turn" };
for (const [name, title] of Object.entries({ ...CLOCKS })) CLOCKS[name + "_business"] = title + ", business hours";
const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const LISTED_AT_ONCE = 25;
let data, meta, listed, state, result, drawn = 0;
const shown = {};  // rows behind each table, for its CSV

// -- elements and texts

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

const label = name => CLOCKS[name] || name.replaceAll("_", " ");
const metric = name => meta.metrics[name] || { title: label(name), heading: label(name), definition: "" };
const languages = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });
function languageName(code) {
  if (code === "und") return "undetermined";
  try { return languages.of(code); } catch (error) { if (error instanceof RangeError) return code; throw error; }
}
const valueName = (dimension, value) => dimension === "language" ? languageName(value) : label(value);

function number(value, digits) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const fixed = digits === undefined ? (Number.isInteger(value) ? 0 : 2) : digits;
  return value.toLocaleString("en-US", { minimumFractionDigits: fixed, maximumFractionDigits: fixed }).replaceAll(",", "\u2009");
}
function share(value) { return value === null || value === undefined ? "–" : number(100 * value, 1) + " %"; }
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return (seconds === Math.floor(seconds) || seconds >= 10 ? seconds.toFixed(0) : seconds.toFixed(1)) + " s";
  const whole = Math.round(seconds), days = Math.floor(whole / 86400);
  const hours = Math.floor(whole % 86400 / 3600), minutes = Math.floor(whole % 3600 / 60), left = whole % 60;
  if (days) return days + " d " + hours + " h";
  if (hours) return hours + " h " + String(minutes).padStart(2, "0") + " min";
  return left ? minutes + " min " + String(left).padStart(2, "0") + " s" : minutes + " min";
}
const FORMATS = { n: number, s: duration, "%": share, money: value => number(value, 4) };
const longDay = iso => { const [y, m, d] = iso.split("-").map(Number); return d + " " + MONTHS[m - 1] + " " + y; };
function periodName(period, grain) {
  const [y, m, d] = period.key.split("-").map(Number);
  if (grain === "month") return MONTHS[m - 1] + " " + y;
  return (grain === "week" ? "week of " : "") + d + " " + MONTHS[m - 1] + " " + y;
}
const ratio = (part, of) => of ? (part || 0) / of : null;

// -- the state, which is the address's hash

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  const day = (name, otherwise) => {
    const text = given.get(name);
    if (!/^\d{4}-\d\d-\d\d$/.test(text || "") || Number.isNaN(Date.parse(text))) return otherwise;
    return Math.min(Math.max(data.dayOf(text), 0), data.days - 1);
  };
  const last = Math.max(data.days - 1, 0);
  let from = day("from", 0), to = day("to", last);
  if (from > to) [from, to] = [to, from];
  const read = { from, to, what: given.get("what"), detail: given.get("detail") };
  for (const name of DIMENSIONS)
    read[name] = new Set(given.getAll(name).filter(value => data.header.dimensions[name].includes(value)));
  read.clock = given.get("clock") in CLOCKS ? given.get("clock") : "reply";
  return read;
}

function hashOf(change = {}) {
  const next = { ...state, ...change }, query = new URLSearchParams();
  if (next.from > 0) query.set("from", data.iso(next.from));
  if (next.to < data.days - 1) query.set("to", data.iso(next.to));
  for (const name of DIMENSIONS) for (const value of [...next[name]].sort()) query.append(name, value);
  if (next.clock !== "reply") query.set("clock", next.clock);
  if (next.what) query.set("what", next.what);
  if (next.detail !== null && next.detail !== undefined) query.set("detail", next.detail);
  return "#" + query;
}

function go(change) {
  const next = hashOf(change);
  if (next === (location.hash || "#")) return;
  if (next === "#") history.pushState(null, "", location.pathname + location.search);
  else history.pushState(null, "", next);
  update();
}

// -- tables

// A number that leads to its conversations.
function followed(text, what, detail, change = {}) {
  const hash = hashOf({ ...change, what, detail: detail ?? null });
  return element("a", { class: "num", href: hash, title: "Show these conversations" }, text);
}

// Columns: {head, tip?, kind?, get(row), link?(row), text?}. The rows are kept for CSV and read by tests.
function table(id, columns, rows, options = {}) {
  const box = $(id + "-box");
  shown[id] = { columns, rows };
  if (!rows.length) { box.replaceChildren(element("p", { class: "empty" }, "Nothing in this view.")); return; }
  const most = options.bar ? Math.max(...rows.map(row => options.bar(row) || 0), 1) : 0;
  const head = element("tr", {}, ...columns.map(column => element("th",
    { scope: "col", class: column.text ? "text" : null, title: column.tip || null }, column.head)));
  const body = rows.map(row => element("tr", { "data-key": row.key }, ...columns.map((column, n) => {
    const found = column.get(row);
    const value = found !== null && typeof found === "object" ? found.value : found;
    const approximate = found !== null && typeof found === "object" && !found.exact && value !== null;
    const text = column.text ? value : (approximate ? "≈\u2009" : "") + FORMATS[column.kind || "n"](value);
    const link = column.link && value ? column.link(row) : null;
    const cell = element(n ? "td" : "th", { class: column.text ? "text" : null, scope: n ? null : "row",
      "data-v": column.text ? null : (value ?? "") }, link ? followed(text, ...link) : column.toggle ? column.toggle(row) : text);
    if (options.bar && n === 0) {
      const part = 100 * (options.bar(row) || 0) / most;
      cell.append(element("span", { class: "bar", "aria-hidden": "true", style: "--w:" + part.toFixed(2) + "%;--c:" + (row.colour || "var(--c1)") }));
    }
    return cell;
  })));
  box.replaceChildren(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": options.name || id },
    element("table", { id }, element("thead", {}, head), element("tbody", {}, ...body))));
}

const counted = (name, link, more = {}) => ({ head: metric(name).heading, tip: metric(name).definition,
  get: row => row[name] || 0, link, ...more });
const rated = (name, part, of, head = metric(name).heading) => ({ head, tip: metric(name).definition, kind: "%",
  get: row => ratio(row[part], row[of]) });
const timed = (name, place) => ({ head: metric(name).heading, tip: metric(name).definition, kind: "s",
  get: row => ({ value: row.times.values[place] ?? null, exact: row.times.exact }) });

// Text that a spreadsheet would run as a formula is kept from it by an apostrophe.
function csvCell(value, isText) {
  let text = value === null || value === undefined ? "" : String(value);
  if (isText && /^[\s]*[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}
function csv(id) {
  const { columns, rows } = shown[id];
  const lines = [columns.map(column => csvCell(column.head, true)).join(",")];
  for (const row of rows) lines.push(columns.map(column => {
    const found = column.get(row);
    return csvCell(found !== null && typeof found === "object" ? found.value : found, column.text);
  }).join(","));
  return "\ufeff" + lines.join("\r\n") + "\r\n";
}
function download(id) {
  const address = URL.createObjectURL(new Blob([csv(id)], { type: "text/csv;charset=utf-8" }));
  element("a", { href: address, download: id + ".csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// A row's name that sets or lifts the filter of its dimension.
const toggling = dimension => row => {
  const on = state[dimension].has(row.key);
  return element("button", { type: "button", class: "pickrow", "aria-pressed": String(on),
    title: on ? "Show all again" : "Show this alone",
    onclick: () => go({ [dimension]: on ? new Set() : new Set([row.key]) }) }, row.name);
};

// -- charts

const colour = n => "var(--c" + (n % 8 + 1) + ")";
const themed = {
  font: "system-ui, sans-serif", background: null, view: { stroke: null },
  axis: { labelColor: "var(--soft)", titleColor: "var(--soft)", labelFontSize: 11, titleFontWeight: "normal",
    gridColor: "var(--line)", domainColor: "var(--line)", tickColor: "var(--line)" },
  legend: { labelColor: "var(--ink)", labelFontSize: 11, symbolType: "square", orient: "top", title: null, labelLimit: 180 },
  tooltip: { theme: "custom" },
};
const specs = {};

async function chart(id, values, { domain, colours, title, kind, axisTitle, stack = true, clickable = true }) {
  const box = $(id), spans = result.spans;
  const empty = !values.some(row => row.value);
  box.hidden = empty;
  if (empty) { (await specs[id])?.finalize(); delete specs[id]; return; }
  const names = spans.list.map(period => periodName(period, spans.grain).replace("week of ", ""));
  const several = new Set(spans.list.map(period => period.key.slice(0, 4))).size > 1;
  const short = names.map(name => several || spans.grain === "month" ? name : name.replace(/ \d{4}$/, ""));
  const width = box.clientWidth || 400, step = Math.max(1, Math.ceil(short.length * (several ? 78 : 52) / width));
  const rows = values.map(row => ({ ...row, at: short[row.period], name: names[row.period],
    said: kind === "s" ? duration(row.value) : number(row.value, kind === "money" ? 4 : undefined) }));
  const x = { field: "at", type: "ordinal", sort: null, scale: stack ? { domain: short, paddingInner: 0.15, paddingOuter: 0.1 } : { domain: short, padding: 0.5 },
    axis: { title: null, labelAngle: 0, ticks: false, grid: false, labelPadding: 7, values: short.filter((_, n) => n % step === 0), labelOverlap: true } };
  const y = { field: "value", type: "quantitative", stack: stack ? "zero" : null,
    axis: { title: axisTitle || null, tickCount: 5, domain: false, ticks: false } };
  if (kind === "s") {
    const top = Math.max(...rows.map(row => row.value || 0), 1);
    const ticks = [0, 1, 10, 60, 600, 3600, 21600, 86400, 604800, 2592000].filter(tick => tick <= top * 1.2);
    y.scale = { type: "symlog", domainMin: 0, domainMax: Math.max(top, ticks[ticks.length - 1]) };
    Object.assign(y.axis, { values: ticks, labelExpr: "datum.value < 60 ? datum.value + ' s' : datum.value < 3600 ? datum.value / 60 + ' min' : datum.value < 86400 ? datum.value / 3600 + ' h' : datum.value / 86400 + ' d'" });
  } else if (kind !== "money") Object.assign(y.axis, { tickMinStep: 1,
    labelExpr: "datum.value >= 10000 ? format(datum.value / 1000, ',') + ' k' : format(datum.value, ',')" });
  const encoding = { x, y,
    color: { field: "series", type: "nominal", scale: { domain, range: colours }, legend: domain.length > 1 ? {} : null },
    order: stack ? { field: "place", type: "quantitative" } : undefined,
    tooltip: [{ field: "name", title: spans.grain }, { field: "series", title: " " }, { field: "said", title: title }] };
  const spec = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", width: "container", height: 210,
    autosize: { type: "fit-x", contains: "padding" }, padding: { left: 0, top: 4, right: 10, bottom: 2 },
    data: { values: rows }, config: themed, encoding,
    mark: stack ? { type: "bar", cursor: clickable ? "pointer" : null } : { type: "line", point: { size: 36, filled: true }, strokeWidth: 2, interpolate: "linear" } };
  const before = specs[id];
  specs[id] = (async () => {
    (await before)?.finalize();
    const made = await vegaEmbed(box, spec, { actions: false, renderer: "svg", ast: true, tooltip: { theme: "custom" } });
    if (clickable) made.view.addEventListener("click", (event, item) => {
      const period = spans.list[item?.datum?.period];
      if (period) go({ from: period.from, to: period.to });
    });
    const svg = box.querySelector("svg");
    svg.setAttribute("aria-hidden", "true");  // the table below it says the same, in words
    return made;
  })();
  await specs[id];
}

// -- what is shown

function figure(id, name, value, kind, small, link, exact = true, title = metric(name).title) {
  const text = (exact || value === null ? "" : "≈\u2009") + FORMATS[kind](value);
  return element("div", { class: "figure", title: metric(name).definition }, element("dt", {}, title),
    element("dd", { id: "figure-" + id, "data-v": value ?? "" }, link && value ? followed(text, ...link) : text,
      element("small", {}, small)));
}

function currencies() {
  const by = {};
  for (const [key, row] of result.byCost.by) {
    const currency = key.split("\u0000")[2];
    by[currency] = (by[currency] || 0) + row.price_units;
  }
  return Object.entries(by).filter(([, units]) => units).sort((a, b) => b[1] - a[1]);
}

function showFigures() {
  const all = result.total, first = result.percentiles("first"), reply = result.percentiles("reply");
  const resolution = result.percentiles("resolution_last"), clock = name => result.byClock.by.get(name) || {};
  const money = currencies();
  const within = time => "90 % within " + duration(time.values[1]);
  $("figures").replaceChildren(
    figure("conversations", "conversations", all.conversations || 0, "n", number(all.outcome_empty || 0) + " of them empty", ["conversations"]),
    figure("messages", "messages", all.messages || 0, "n", number(all.user_messages || 0) + " by users", ["messages"]),
    figure("users_writing", "users_writing", all.users_writing || 0, "n", number([...result.byPeriod.by.values()].reduce((sum, row) => sum + (row.new_users || 0), 0)) + " for the first time", ["messages", "user"]),
    figure("first_response_p50_s", "first_response_p50_s", first.values[0], "s", within(first), ["clock_first", "stopped"], first.exact),
    figure("reply_p50_s", "reply_p50_s", reply.values[0], "s", within(reply), ["clock_reply", "stopped"], reply.exact),
    figure("within_target_1_pct", "within_target_1_pct", ratio(clock("reply").within_target_1, clock("reply").decided_1), "%", "of the waits decided", ["clock_reply"], true, "Replies within " + duration(meta.targets[0])),
    figure("outcome_unanswered", "outcome_unanswered", all.outcome_unanswered || 0, "n", number(clock("reply").response_n_open || 0) + " waits without reply", ["outcome", "unanswered"]),
    figure("resolution_rate", "resolution_rate", ratio(all.resolved, all.conversations_started), "%", "median " + (resolution.exact ? "" : "≈\u2009") + duration(resolution.values[0]), ["resolved"]),
    figure("containment_rate", "containment_rate", ratio(all.contained, all.bot_conversations), "%", number(all.handed_off || 0) + " handed over", ["outcome", "contained"]),
    figure("translation_coverage", "translation_coverage", ratio(all.translated, all.needing_translation), "%", number(all.needing_translation || 0) + " messages need it", ["translation_ok"]),
    figure("csat", "csat", ratio(all.csat_positive, all.csat_answered), "%", number(all.csat_answered || 0) + " answers, mean " + number(all.csat_answered ? all.csat_sum / all.csat_answered : null), ["csat"]),
    figure("price", "price", money.length ? money[0][1] / 1e8 : null, "money", money.length ? money[0][0] + (money.length > 1 ? ", and " + (money.length - 1) + " other currencies" : "") + ", for these conversations" : "nothing was paid for", ["model"]),
  );
}

const periodRows = () => result.spans.list.map((period, n) => ({ ...(result.byPeriod.by.get(n) || {}),
  key: period.key, name: periodName(period, result.spans.grain), span: { from: period.from, to: period.to }, n,
  times: result.percentiles(state.clock, result.spans.grain, period.key, "period\u0000" + n) }));
const ofPeriod = () => ({ head: result.spans.grain[0].toUpperCase() + result.spans.grain.slice(1), text: true, get: row => row.name });
const inPeriod = (what, detail) => row => [what, detail, row.span];
const series = (rows, names, naming) => rows.flatMap(row => names.map((name, place) => ({ period: row.n, place, series: naming(name), value: row[name] || 0 })));

async function showVolume(rows) {
  table("t-volume", [ofPeriod(), counted("conversations", inPeriod("conversations")), counted("conversations_started"),
    counted("conversations_active", inPeriod("messages")), counted("messages", inPeriod("messages")),
    counted("user_messages", inPeriod("messages", "user")), counted("bot_messages", inPeriod("messages", "bot")),
    counted("agent_messages", inPeriod("messages", "agent"))], rows);
  const channels = data.header.dimensions.channel.map((name, n) => [n, label(name)])
    .filter(([n]) => result.byChannel.by.has(n));
  const values = rows.flatMap(row => channels.map(([n, name], place) => ({ period: row.n, place, series: name,
    value: result.channelByPeriod.by.get(row.n)?.[n] || 0 })));
  await chart("c-volume", values, { domain: channels.map(([, name]) => name), colours: channels.map(([n]) => colour(n)), title: "conversations" });
  const senders = ["user_messages", "bot_messages", "agent_messages"], named = { user_messages: "users", bot_messages: "bots", agent_messages: "agents" };
  await chart("c-messages", series(rows, senders, name => named[name]), { domain: ["users", "bots", "agents"],
    colours: ["var(--c1)", "var(--c3)", "var(--c6)"], title: "messages" });
}

const clockDrill = name => "clock_" + name.replace("_business", "");
async function showResponses(rows) {
  const clocks = Object.keys(CLOCKS).filter(name => !name.endsWith("_business") || result.byClock.by.has(name)).map(name => ({ ...(result.byClock.by.get(name) || {}), key: name, name: CLOCKS[name], times: result.percentiles(name) }));
  table("t-clocks", [{ head: "Clock", text: true, get: row => row.name },
    counted("response_n", row => [clockDrill(row.key), "stopped"]), counted("response_n_open", row => [clockDrill(row.key), "open"]),
    timed("response_p50_s", 0), timed("response_p90_s", 1), timed("response_p95_s", 2), timed("response_p99_s", 3), timed("response_max_s", 4),
    ...meta.targets.map((target, n) => ({ head: "within " + duration(target), tip: metric(`within_target_${n + 1}_pct`).definition, kind: "%",
      get: row => ratio(row["within_target_" + (n + 1)], row["decided_" + (n + 1)]) }))], clocks);
  if ($("clock").options.length === 0) for (const [name, title] of Object.entries(CLOCKS))
    if (!name.endsWith("_business") || data.tables.clocks.values.clock.includes(name)) $("clock").append(element("option", { value: name }, title));
  $("clock").value = state.clock;
  table("t-responses", [ofPeriod(),
    counted("clock_response_n", inPeriod(clockDrill(state.clock), "stopped"), { head: metric("response_n").heading, tip: metric("response_n").definition }),
    counted("clock_response_n_open", inPeriod(clockDrill(state.clock), "open"), { head: metric("response_n_open").heading, tip: metric("response_n_open").definition }),
    timed("response_p50_s", 0), timed("response_p90_s", 1), timed("response_p95_s", 2), timed("response_p99_s", 3)], rows);
  const values = rows.flatMap(row => [["median", 0], ["90th percentile", 1]].map(([series, place]) =>
    ({ period: row.n, place, series, value: row.times.values[place] ?? null })));
  await chart("c-responses", values, { domain: ["median", "90th percentile"], colours: ["var(--c1)", "var(--c6)"], title: CLOCKS[state.clock], kind: "s", stack: false });
}

async function showOutcomes(rows) {
  const of = name => name.replace("outcome_", ""), all = result.total;
  table("t-outcomes", [{ head: "Outcome", text: true, get: row => row.name },
    { head: metric("conversations").heading, tip: metric("conversations").definition, get: row => row.value, link: row => ["outcome", row.key] },
    { head: "Share", kind: "%", get: row => ratio(row.value, all.conversations) }],
  OUTCOMES.map((name, n) => ({ key: of(name), name: label(of(name)), value: all[name] || 0, colour: `var(--o${n + 1})` })), { bar: row => row.value });
  await chart("c-outcomes", series(rows, OUTCOMES, name => label(of(name))), { domain: OUTCOMES.map(name => label(of(name))),
    colours: OUTCOMES.map((_, n) => `var(--o${n + 1})`), title: "conversations" });
  const channels = data.header.dimensions.channel.map((name, n) => ({ ...(result.byChannel.by.get(n) || {}), key: name, name: label(name), n,
    first: result.percentiles("resolution_first", "channel", name, "resolution_first\u0000channel\u0000" + n),
    times: result.percentiles("resolution_last", "channel", name, "resolution_last\u0000channel\u0000" + n) })).filter(row => row.conversations);
  const alone = row => ({ channel: new Set([row.key]) });
  table("t-resolution", [{ head: "Channel", text: true, get: row => row.name, toggle: toggling("channel") },
    counted("conversations_started", row => ["conversations", null, alone(row)]), counted("resolved", row => ["resolved", null, alone(row)]),
    rated("resolution_rate", "resolved", "conversations_started", "Resolved, share"), counted("reopened", row => ["reopened", null, alone(row)]),
    rated("durable_rate", "durable", "settled"), counted("bot_conversations", row => ["bot", null, alone(row)]),
    counted("contained", row => ["outcome", "contained", alone(row)]), rated("containment_rate", "contained", "bot_conversations"),
    counted("handed_off", row => ["bot", "handed_off", alone(row)]),
    { ...timed("resolution_first_p50_s", 0), get: row => ({ value: row.first.values[0] ?? null, exact: row.first.exact }) },
    timed("resolution_last_p50_s", 0), timed("resolution_last_p90_s", 1)], channels, { bar: row => row.conversations_started });
}

function showLanguages() {
  const rows = [...result.bySpoken.by].map(([key, row]) => ({ ...row, key, name: languageName(key) })).sort((a, b) => b.messages - a.messages || (a.key < b.key ? -1 : 1));
  table("t-languages", [{ head: "Language of the message", text: true, get: row => row.name },
    counted("messages", row => ["spoken", row.key]), counted("user_messages"), counted("needing_translation"),
    counted("translated", row => ["translation_ok", row.key]), counted("translation_failed", row => ["translation_failed", row.key]),
    counted("translation_skipped", row => ["translation_skipped", row.key]), rated("translation_coverage", "translated", "needing_translation"),
    rated("detection_agreement", "detection_agreeing", "detection_compared")], rows, { bar: row => row.messages });
}

function showCategories() {
  const rows = data.header.dimensions.category.map((name, n) => ({ ...(result.byCategory.by.get(n) || {}), key: name, name: label(name),
    times: result.percentiles("resolution_last", "category", name, "category\u0000" + n) })).filter(row => row.conversations)
    .sort((a, b) => b.conversations - a.conversations || (a.key < b.key ? -1 : 1));
  const alone = row => ({ category: new Set([row.key]) });
  table("t-categories", [{ head: "Category", text: true, get: row => row.name, toggle: toggling("category") },
    counted("conversations", row => ["conversations", null, alone(row)]), rated("resolution_rate", "resolved", "conversations_started"),
    rated("containment_rate", "contained", "bot_conversations"), { ...timed("resolution_last_p50_s", 0), head: metric("resolution_last_p50_s").title }, rated("csat", "csat_positive", "csat_answered"),
    counted("csat_answered", row => ["csat", null, alone(row)])], rows, { bar: row => row.conversations });
}

function showAgents() {
  const rows = [...result.byAgent.by].map(([key, row]) => ({ ...row, key, name: key, answered: result.answered(key),
    times: result.percentiles("reply", "agent", key, "agent\u0000" + key) }))
    .sort((a, b) => b.agent_conversations - a.agent_conversations || (a.key < b.key ? -1 : 1));
  table("t-agents", [{ head: "Agent", text: true, get: row => row.name }, counted("agent_conversations", row => ["agent", row.key]),
    counted("agent_messages", row => ["agent", row.key], { head: metric("messages").heading }), { head: "Waits answered", tip: metric("response_n").definition, get: row => row.answered },
    timed("reply_p50_s", 0), timed("reply_p90_s", 1), counted("resolved", row => ["resolved", row.key], { tip: "Conversations whose last resolve is the agent's: by the event, else by the agent's being the last to write." }),
    counted("resolution_events", row => ["resolves", row.key], { tip: "Resolves by the agent, also of conversations that another resolved again later." })],
  rows, { bar: row => row.agent_conversations });
}

async function showUsers(rows) {
  for (const row of rows) row.returning_users = (row.users_writing || 0) - (row.new_users || 0);
  table("t-users", [ofPeriod(), counted("users_writing", inPeriod("messages", "user")),
    counted("new_users"),
    counted("returning_users")], rows);
  await chart("c-users", series(rows, ["new_users", "returning_users"], name => name === "new_users" ? "new" : "returning"),
    { domain: ["new", "returning"], colours: ["var(--c2)", "var(--c1)"], title: "users" });
  const segments = data.members.segments.filter(name => result.bySegment[name]).map(name => ({ key: name, name: label(name), value: result.bySegment[name] }));
  table("t-segments", [{ head: "Segment", text: true, get: row => row.name },
    { head: metric("users_writing").heading, tip: metric("users_writing").definition, get: row => row.value }],
  segments.sort((a, b) => b.value - a.value), { bar: row => row.value });
  const cohorts = [...result.retention].filter(([, row]) => row[0]).sort((a, b) => a[0] - b[0]).slice(-12);
  const most = Math.max(0, ...cohorts.map(([, row]) => row.length - 1));
  const columns = [{ head: "First month", text: true, get: row => row.name }, { head: "Users", get: row => row.counts[0] }];
  for (let k = 1; k <= most; k++) columns.push({ head: k + (k === 1 ? " month later" : " months"), kind: "%", get: row => k < row.reach ? ratio(row.counts[k], row.counts[0]) : null });
  const last = data.date(state.to), lastMonth = last.getUTCFullYear() * 12 + last.getUTCMonth();
  table("t-retention", columns, cohorts.map(([month, counts]) => ({ key: Math.floor(month / 12) + "-" + String(month % 12 + 1).padStart(2, "0"),
    name: MONTHS[month % 12] + " " + Math.floor(month / 12), counts, reach: lastMonth - month + 1 })));
}

async function showCosts(rows) {
  const costs = [...result.byCost.by].map(([key, row]) => {
    const [purpose, model, currency] = key.split("\u0000");
    return { ...row, key: [purpose, model, currency].join("|"), purpose, model, currency, price: row.price_units / 1e8 };
  }).sort((a, b) => b.price - a.price || (a.key < b.key ? -1 : 1));
  table("t-costs", [{ head: "Purpose", text: true, get: row => row.purpose }, { head: "Model", text: true, get: row => row.model },
    counted("llm_calls", row => ["model", row.model]), counted("llm_answers"), counted("llm_failures"), counted("llm_cached"), counted("tokens"),
    { head: metric("price").heading, tip: metric("price").definition, kind: "money", get: row => row.price }, { head: "Currency", text: true, get: row => row.currency }], costs);
  const money = currencies(), currency = money.length ? money[0][0] : null;
  const purposes = [...new Set(costs.filter(row => row.currency === currency).map(row => row.purpose))].sort();
  const values = rows.flatMap(row => purposes.map((purpose, place) => ({ period: row.n, place, series: purpose,
    value: (result.costByPeriod.by.get(row.n)?.[purpose + "\u0000" + currency] || 0) / 1e8 })));
  await chart("c-costs", values, { domain: purposes, colours: ["var(--c1)", "var(--c2)", "var(--c3)"], title: currency || "", kind: "money", axisTitle: currency });
}

function showHeatmap() {
  const most = Math.max(1, ...[...result.byHour.by.values()].map(row => row.user_messages));
  const rows = WEEKDAYS.map((name, n) => ({ key: String(n + 1), name }));
  const at = (row, hour) => result.byHour.by.get(row.key + "-" + hour)?.user_messages || 0;
  const columns = [{ head: "Weekday", text: true, get: row => row.name }];
  for (let hour = 0; hour < 24; hour++) columns.push({ head: String(hour), tip: `${hour}:00 to ${hour}:59`, get: row => at(row, hour), link: row => ["hour", row.key + "-" + hour] });
  table("t-heatmap", columns, rows, { name: "Messages of users by weekday and hour" });
  const cells = document.querySelectorAll("#t-heatmap td");
  for (const cell of cells) cell.style.setProperty("--v", (60 * Number(cell.dataset.v) / most).toFixed(1) + "%");
}

// -- conversations and their transcripts

function localTime(us) { return new Date(us / 1000).toLocaleString("en-GB", { timeZone: meta.zone, day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" }); }

function transcript(conversation) {
  const rows = conversation.transcript.map(([at, sender, text, translation]) => element("tr", { class: sender },
    element("td", { class: "when" }, localTime(at)), element("td", { class: "who" }, sender),
    element("td", { class: "said", dir: "auto" }, text || ""), element("td", { class: "translation", dir: "auto" }, translation || "")));
  if (!rows.length) return element("p", { class: "empty" }, "No messages.");
  return element("table", { class: "transcript" }, element("thead", {}, element("tr", {}, ...["Time", "From", "Message", "Translation"].map((name, n) =>
    element("th", { scope: "col", class: ["when", "who"][n] || null }, name)))), element("tbody", {}, ...rows));
}

function matches(conversation) {
  for (const name of DIMENSIONS) {
    const known = data.header.dimensions[name].includes(conversation[name]) ? conversation[name] : "(other)";
    if (state[name].size && !state[name].has(known)) return false;
  }
  const what = state.what || "conversations", from = data.iso(state.from), to = data.iso(state.to);
  return conversation.followed.some(([kind, detail, day]) => kind === what && (state.detail === null || detail === state.detail) && from <= day && day <= to);
}

function showConversations() {
  const found = data.days ? listed.filter(matches) : [];
  const chosen = state.what && state.what !== "conversations" ? label(state.what) + (state.detail ? ": " + label(state.detail) : "") : "all";
  $("chosen").replaceChildren("Shown: ", element("b", {}, chosen),
    ...(state.what ? [" ", element("button", { type: "button", onclick: () => go({ what: null, detail: null }) }, "show all")] : []));
  const served = document.body.dataset.conversations === "page";
  const note = served ? [element("a", { id: "all-conversations", href: "conversations?" + hashOf({ what: state.what || "conversations" }).slice(1) }, "All conversations of this view, page by page"), ". "] : [];
  $("listing").replaceChildren(...note, `This file carries the newest ${number(listed.length)} conversations with their transcripts; ${number(found.length)} of them match`,
    served ? "." : ". All of them: run ", ...(served ? [] : [element("code", {}, "cai serve"), "."]));
  $("conversation-list").replaceChildren(...found.slice(0, LISTED_AT_ONCE).map(line));
  if (found.length > LISTED_AT_ONCE) $("conversation-list").append(element("button", { type: "button", id: "more",
    onclick: event => { event.target.remove(); $("conversation-list").append(...found.slice(LISTED_AT_ONCE).map(line)); } }, `Show ${number(found.length - LISTED_AT_ONCE)} more`));
}

function line(conversation) {
  const box = element("details", { id: "conversation-" + conversation.id }, element("summary", {},
    element("span", { class: "when" }, localTime(conversation.started_us)), " ", element("code", {}, conversation.id), " ",
    element("span", { class: "tags" }, ...[label(conversation.channel), languageName(conversation.language), label(conversation.category)].map(text => element("span", {}, text)),
      element("span", { class: conversation.outcome }, label(conversation.outcome))), " ",
    element("span", { class: "soft" }, "user ", element("code", { title: conversation.user }, conversation.user.slice(0, 10)), ", " + number(conversation.messages) + (conversation.messages === 1 ? " message" : " messages")
      + (conversation.first_response_s === null ? "" : ", first response after " + duration(conversation.first_response_s)))));
  box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(transcript(conversation)); });
  return box;
}

// -- filters

function buildFilters() {
  for (const name of DIMENSIONS) {
    const box = $("pick-" + name);
    box.replaceChildren(...data.header.dimensions[name].filter(value => value !== "(other)" || meta.folded.includes(name)).map((value, n) => element("label", {},
      element("input", { type: "checkbox", name, value, onchange: () => {
        const set = new Set([...box.querySelectorAll("input:checked")].map(input => input.value));
        go({ [name]: set });
      } }), " " + valueName(name, value))));
  }
  const edge = data.days ? [data.iso(0), data.iso(data.days - 1)] : ["", ""];
  for (const name of ["from", "to"]) {
    $(name).min = edge[0]; $(name).max = edge[1];
    $(name).addEventListener("change", () => { if ($(name).value) go(ordered({ [name]: Math.min(Math.max(data.dayOf($(name).value), 0), data.days - 1) })); });
  }
  const last = data.days - 1;
  for (const [id, days] of [["last-7", 7], ["last-30", 30], ["last-90", 90]]) {
    $(id).addEventListener("click", () => go({ from: Math.max(0, last - days + 1), to: last }));
    $(id).hidden = days >= data.days;
  }
  $("all-days").addEventListener("click", () => go({ from: 0, to: last }));
  $("filters").addEventListener("submit", event => event.preventDefault());
  $("reset").addEventListener("click", () => go({ from: 0, to: last, channel: new Set(), language: new Set(), category: new Set(), what: null, detail: null }));
  $("clock").addEventListener("change", event => go({ clock: event.target.value }));
  document.addEventListener("click", event => {
    for (const open of document.querySelectorAll("details.pick[open]")) if (!open.contains(event.target)) open.open = false;
  });
  document.addEventListener("keydown", event => {
    const open = document.querySelector("details.pick[open]");
    if (event.key === "Escape" && open) { open.open = false; open.querySelector("summary").focus(); }
  });
  for (const button of document.querySelectorAll("button[data-csv]")) button.addEventListener("click", () => download(button.dataset.csv));
}
function ordered(change) {
  const next = { from: state.from, to: state.to, ...change };
  return next.from <= next.to ? next : "from" in change ? { from: next.from, to: next.from } : { from: next.to, to: next.to };
}

function showFilters() {
  if (!data.days) return;
  $("from").value = data.iso(state.from); $("to").value = data.iso(state.to);
  for (const name of DIMENSIONS) {
    for (const input of $("pick-" + name).querySelectorAll("input")) input.checked = state[name].has(input.value);
    const names = [...state[name]].map(value => valueName(name, value));
    $("said-" + name).textContent = names.length === 0 ? "all" : names.length <= 2 ? names.join(", ") : names.length + " chosen";
  }
  const filtered = DIMENSIONS.some(name => state[name].size), whole = state.from === 0 && state.to === data.days - 1;
  $("reset").disabled = !filtered && whole && !state.what;
  $("view").textContent = `${longDay(data.iso(state.from))} to ${longDay(data.iso(state.to))}` + (filtered ? ", filtered" : "")
    + (!filtered && whole && result.spans.grain === "day" ? ". Every number is exact." : ". Counts are exact; times marked ≈ are within 1 %.");
}

async function update() {
  const turn = ++drawn;
  document.body.dataset.drawn = "no";
  const before = state;
  state = readState();
  result = summed(data, state);
  showFilters(); showFigures();
  const rows = periodRows();
  showLanguages(); showCategories(); showAgents(); showHeatmap(); showConversations();
  for (const show of [showVolume, showResponses, showOutcomes, showUsers, showCosts]) {
    await show(rows);
    if (turn !== drawn) return;
  }
  document.body.dataset.drawn = "yes";
  document.body.dataset.turn = turn;
  if (before && state.what && (before.what !== state.what || before.detail !== state.detail)) $("conversations").scrollIntoView();
}

async function begin() {
  meta = JSON.parse($("meta").textContent);
  const [header, buffer, carried] = await Promise.all([unzippedJson("header"), unzipped("cube"), unzippedJson("carried")]);
  data = new Data(header, buffer);
  listed = carried;
  buildFilters();
  window.addEventListener("hashchange", update);
  window.addEventListener("popstate", event => { if (event.state === null) update(); });
  await update();
  document.body.dataset.ready = Math.round(performance.now());
}
begin().catch(error => {
  $("view").textContent = "This page could not be drawn: " + error.message;
  document.body.dataset.drawn = "failed";
  throw error;
});
