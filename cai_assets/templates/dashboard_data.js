// What the page computes with: its columns, the filters, and the sums over whatever they leave. No element here.
"use strict";

const PERCENTS = [0.5, 0.9, 0.95, 0.99];
const BUCKET_BASE = 1.02, BUCKET_OF_ONE_SECOND = 1000, DAY_MS = 86400000;

async function unzipped(id) {
  const text = document.getElementById(id).textContent.trim();
  let bytes;
  if (Uint8Array.fromBase64) bytes = Uint8Array.fromBase64(text);
  else {
    const raw = atob(text);
    bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function unzippedJson(id) { return JSON.parse(new TextDecoder().decode(await unzipped(id))); }

// A column out of its byte planes; see domain/packing.py.
function column(buffer, place) {
  const bytes = new Uint8Array(buffer), n = place.n, at = place.at;
  let values;
  if (place.type === "u1") values = bytes.slice(at, at + n);
  else if (place.type === "u2") {
    values = new Uint16Array(n);
    for (let i = 0; i < n; i++) values[i] = bytes[at + i] | bytes[at + n + i] << 8;
  } else if (place.type === "u4") {
    values = new Uint32Array(n);
    for (let i = 0; i < n; i++)
      values[i] = bytes[at + i] | bytes[at + n + i] << 8 | bytes[at + 2 * n + i] << 16 | bytes[at + 3 * n + i] << 24;
  } else {
    const whole = new Uint8Array(8 * n);
    for (let p = 0; p < 8; p++) for (let i = 0; i < n; i++) whole[8 * i + p] = bytes[at + p * n + i];
    values = new Float64Array(whole.buffer);
  }
  if (!place.steps) return values;
  const summed = new Float64Array(n);
  for (let i = 0, sum = 0; i < n; i++) summed[i] = sum += values[i];
  return summed;
}

// Steps of a rising column, which begin anew with each cell and each further text.
function risen(table, name) {
  const steps = table.columns[name], texts = Object.keys(table.values).map(key => table.columns[key]);
  const values = new Uint32Array(steps.length);
  let i = 0;
  for (let c = 0; c < table.runs.length; c++) {
    const end = i + table.runs[c];
    let sum = 0;
    for (let first = true; i < end; i++, first = false) {
      let anew = first;
      for (let t = 0; t < texts.length; t++) anew ||= texts[t][i] !== texts[t][i - 1];
      sum = anew ? steps[i] : sum + steps[i];
      values[i] = sum;
    }
  }
  table.columns[name] = values;
}

class Data {
  constructor(header, buffer) {
    this.header = header;
    this.tables = {};
    for (const [name, described] of Object.entries(header.tables)) {
      const table = {
        cells: column(buffer, described.cells), runs: column(buffer, described.runs),
        values: described.values, columns: {},
      };
      for (const [key, place] of Object.entries(described.columns)) table.columns[key] = column(buffer, place);
      this.tables[name] = table;
    }
    risen(this.tables.durations, "bucket");
    risen(this.tables.traffic, "local_hour");
    risen(this.tables.users, "user_no");
    this.buckets = this.tables.durations.columns.bucket.reduce((most, b) => b > most ? b : most, 0) + 1;
    this.members = { segments: header.members.segments };
    for (const key of ["first_seen", "cohort", "segment"]) this.members[key] = column(buffer, header.members[key]);
    this.first = header.first_day ? Date.parse(header.first_day) : 0;
    this.days = header.days;
    this.sizes = ["channel", "language", "category"].map(name => header.dimensions[name].length);
    this.size = this.sizes[0] * this.sizes[1] * this.sizes[2];
  }

  date(day) { return new Date(this.first + day * DAY_MS); }
  iso(day) { return this.date(day).toISOString().slice(0, 10); }
  dayOf(iso) { return Math.round((Date.parse(iso) - this.first) / DAY_MS); }
  weekday(day) { return (this.date(day).getUTCDay() + 6) % 7 + 1; }
}

// Days, weeks (from Monday) or months: as fine as a chart can show.
function periods(data, from, to) {
  const count = to - from + 1;
  const grain = count <= 92 ? "day" : count <= 731 ? "week" : "month";
  const of = new Int32Array(Math.max(data.days, 1)).fill(-1), found = [];
  let last = null;
  for (let day = from; day <= to; day++) {
    const at = data.date(day);
    const key = grain === "day" ? data.iso(day)
      : grain === "week" ? data.iso(day - data.weekday(day) + 1) : data.iso(day).slice(0, 7);
    if (key !== last) found.push({ key, from: day, to: day, at });
    last = key;
    found[found.length - 1].to = day;
    of[day] = found.length - 1;
  }
  return { grain, of, list: found };
}

class Sums {
  constructor() { this.by = new Map(); }
  at(key) {
    let found = this.by.get(key);
    if (!found) this.by.set(key, found = {});
    return found;
  }
  add(key, name, value) { const row = this.at(key); row[name] = (row[name] || 0) + value; }
}

// A value of the histogram's middle: within 1 % of all in the bucket.
const middle = bucket => bucket === 0 ? 0 : BUCKET_BASE ** (bucket - BUCKET_OF_ONE_SECOND + 0.5);

function percentiles(histogram) {
  if (!histogram) return [null, null, null, null, null];
  let n = 0, top = 0;
  for (let b = 0; b < histogram.length; b++) if (histogram[b]) { n += histogram[b]; top = b; }
  if (!n) return [null, null, null, null, null];
  const ranked = rank => {
    for (let b = 0, seen = 0; b < histogram.length; b++) if ((seen += histogram[b]) > rank) return middle(b);
    return middle(top);
  };
  const found = PERCENTS.map(p => {
    const place = p * (n - 1), low = Math.floor(place), part = place - low;
    const value = ranked(low);
    return part ? value * (1 - part) + ranked(low + 1) * part : value;
  });
  return [...found, middle(top)];
}

// Everything shown, over the cells that the filters leave.
function summed(data, state) {
  const { from, to } = state, spans = periods(data, from, to), size = data.size;
  const [, languages, categories] = data.sizes;
  const allowed = new Uint8Array(size), channelOf = new Uint8Array(size), categoryOf = new Uint8Array(size);
  const chosen = ["channel", "language", "category"].map((name, n) => {
    const flags = new Uint8Array(data.sizes[n]).fill(state[name].size ? 0 : 1);
    data.header.dimensions[name].forEach((value, i) => { if (state[name].has(value)) flags[i] = 1; });
    return flags;
  });
  for (let place = 0; place < size; place++) {
    channelOf[place] = Math.floor(place / (languages * categories));
    categoryOf[place] = place % categories;
    const language = Math.floor(place / categories) % languages;
    allowed[place] = chosen[0][channelOf[place]] & chosen[1][language] & chosen[2][categoryOf[place]];
  }
  const each = (name, visit) => {
    const table = data.tables[name], { cells, runs } = table;
    for (let c = 0, row = 0; c < cells.length; c++) {
      const end = row + runs[c], day = Math.floor(cells[c] / size), place = cells[c] - day * size;
      if (day >= from && day <= to && allowed[place]) visit(row, end, day, place, table);
      row = end;
    }
  };
  const out = {
    spans, total: {}, byPeriod: new Sums(), byChannel: new Sums(), byCategory: new Sums(), channelByPeriod: new Sums(),
    byClock: new Sums(), byHour: new Sums(), bySpoken: new Sums(), byAgent: new Sums(), byCost: new Sums(),
    costByPeriod: new Sums(), bySegment: {}, retention: new Map(),
  };
  const total = (name, value) => { out.total[name] = (out.total[name] || 0) + value; };

  // The rows that the filters leave: their numbers, and the day and the place of each. Sums of a column are then
  // loops over plain arrays: a million rows take milliseconds.
  const left = name => {
    let n = 0;
    each(name, (row, end) => { n += end - row; });
    const rows = new Uint32Array(n), days = new Int32Array(n), places = new Int32Array(n);
    n = 0;
    each(name, (row, end, day, place) => {
      for (let i = row; i < end; i++, n++) { rows[n] = i; days[n] = day; places[n] = place; }
    });
    return { n, rows, days, places, columns: data.tables[name].columns, values: data.tables[name].values };
  };
  const keyed = (found, source, by) => {
    const keys = new Int32Array(found.n);
    for (let i = 0; i < found.n; i++) keys[i] = by[source[i]];
    return keys;
  };
  const coded = (found, codes) => {
    const keys = new Int32Array(found.n);
    for (let i = 0; i < found.n; i++) keys[i] = codes[found.rows[i]];
    return keys;
  };
  const sumInto = (found, name, keys, count, into, keyName = key => key, as = name) => {
    const column = found.columns[name], { n, rows } = found, sums = new Float64Array(count);
    for (let i = 0; i < n; i++) sums[keys[i]] += column[rows[i]];
    for (let key = 0; key < count; key++) if (sums[key]) into.add(keyName(key), as, sums[key]);
    return sums;
  };
  const whole = sums => sums.reduce((all, value) => all + value, 0);
  const periodCount = spans.list.length;

  let rows = left("conversations"), period = keyed(rows, rows.days, spans.of);
  const channel = keyed(rows, rows.places, channelOf), category = keyed(rows, rows.places, categoryOf);
  for (const name in rows.columns) {
    total(name, whole(sumInto(rows, name, period, periodCount, out.byPeriod)));
    sumInto(rows, name, channel, data.sizes[0], out.byChannel);
    sumInto(rows, name, category, categories, out.byCategory);
  }
  const both = period.map((p, i) => p * data.sizes[0] + channel[i]);
  sumInto(rows, "conversations_started", both, periodCount * data.sizes[0], { add: (key, _, value) =>
    out.channelByPeriod.add(Math.floor(key / data.sizes[0]), key % data.sizes[0], value) });

  rows = left("clocks");
  const clocks = rows.values.clock, chosenClock = clocks.indexOf(state.clock), clock = coded(rows, rows.columns.clock);
  for (const name in rows.columns) if (name !== "clock") sumInto(rows, name, clock, clocks.length, out.byClock, key => clocks[key]);
  // Of the chosen clock by period; the others go to a period of their own, which nobody reads.
  const ofClock = keyed(rows, rows.days, spans.of).map((p, i) => clock[i] === chosenClock ? p : periodCount);
  for (const name of ["response_n", "response_n_open"]) sumInto(rows, name, ofClock, periodCount + 1, out.byPeriod, key => key, "clock_" + name);

  rows = left("traffic");
  period = keyed(rows, rows.days, spans.of);
  for (const name in rows.columns) {
    if (name === "local_hour") continue;
    const sums = sumInto(rows, name, period, periodCount, out.byPeriod);
    total(name, whole(sums));
    if (name.endsWith("messages")) {
      total("messages", whole(sums));
      sums.forEach((value, key) => { if (value) out.byPeriod.add(key, "messages", value); });
    }
  }
  const weekdays = Int32Array.from({ length: data.days }, (_, day) => data.weekday(day) * 24);
  const hours = keyed(rows, rows.days, weekdays).map((first, i) => first + rows.columns.local_hour[rows.rows[i]]);
  sumInto(rows, "user_messages", hours, 8 * 24, out.byHour, key => Math.floor(key / 24) + "-" + key % 24);

  rows = left("speech");
  const spoken = rows.values.spoken, said = coded(rows, rows.columns.spoken);
  for (const name in rows.columns) {
    if (name === "spoken") continue;
    const sums = sumInto(rows, name, said, spoken.length, out.bySpoken, key => spoken[key]);
    if (!name.endsWith("messages")) total(name, whole(sums));
  }

  rows = left("agents");
  const agents = rows.values.agent, agent = coded(rows, rows.columns.agent);
  for (const name of ["agent_conversations", "agent_messages", "resolved", "resolution_events"])
    sumInto(rows, name, agent, agents.length, out.byAgent, key => agents[key]);

  each("costs", (row, end, day, place, { columns, values }) => {
    for (let i = row; i < end; i++) {
      const purpose = values.purpose[columns.purpose[i]], currency = values.currency[columns.currency[i]];
      const key = [purpose, values.model[columns.model[i]], currency].join("\u0000");
      for (const name in columns) if (!(name in values)) out.byCost.add(key, name, columns[name][i]);
      out.costByPeriod.add(spans.of[day], purpose + "\u0000" + currency, columns.price_units[i]);
    }
  });

  // Histograms: of each clock, of the chosen one by period, of resolutions by channel and category, of agents.
  const histogram = () => new Float64Array(data.buckets);
  const held = new Map();
  const of = key => { let h = held.get(key); if (!h) held.set(key, h = histogram()); return h; };
  each("durations", (row, end, day, place, { columns, values }) => {
    const { clock, replier, bucket, n } = columns;
    for (let i = row; i < end;) {
      const c = clock[i], r = replier[i], name = values.clock[c], who = values.replier[r], into = [of(name)];
      if (name === state.clock) into.push(of("period\u0000" + spans.of[day]));
      if (name === "resolution_last" || name === "resolution_first")
        into.push(of(name + "\u0000channel\u0000" + channelOf[place]));
      if (name === "resolution_last") into.push(of("category\u0000" + categoryOf[place]));
      if (who !== "nobody") into.push(of("agent\u0000" + who));
      for (; i < end && clock[i] === c && replier[i] === r; i++)
        for (let k = 0; k < into.length; k++) into[k][bucket[i]] += n[i];
    }
  });
  const filtered = state.channel.size || state.language.size || state.category.size;
  const everything = !filtered && from === 0 && to === data.days - 1;
  const exact = (clock, dimension, place) => data.header.exact[clock]?.[dimension]?.[place];
  // [p50, p90, p95, p99, longest], and whether it is exact.
  out.percentiles = (clock, dimension = "all", place = "", key = clock) => {
    const known = dimension === "day" ? !filtered && exact(clock, "day", place) : everything && exact(clock, dimension, place);
    return known ? { values: known, exact: true } : { values: percentiles(held.get(key)), exact: false };
  };
  out.answered = who => (held.get("agent\u0000" + who) || []).reduce((sum, n) => sum + n, 0);

  // Users: distinct ones, those of each period, new ones, their segments, and who came back.
  const users = data.members.first_seen.length, seen = new Uint8Array(users), stamp = new Int32Array(users).fill(-1);
  const monthly = new Int32Array(users).fill(-1), months = [];
  for (let day = 0; day < data.days; day++) { const at = data.date(day); months.push(at.getUTCFullYear() * 12 + at.getUTCMonth()); }
  const segments = new Float64Array(data.members.segments.length), firstSeen = data.members.first_seen;
  const writing = new Float64Array(periodCount), fresh = new Float64Array(periodCount);
  each("users", (row, end, day, place, { columns }) => {
    const at = spans.of[day], month = months[day], numbers = columns.user_no;
    for (let i = row; i < end; i++) {
      const user = numbers[i];
      if (!seen[user]) { seen[user] = 1; segments[data.members.segment[user]]++; }
      if (stamp[user] !== at) {
        stamp[user] = at;
        writing[at]++;
        const begun = firstSeen[user] - 1;
        if (begun >= from && begun <= to && spans.of[begun] === at) fresh[at]++;
      }
      if (monthly[user] !== month) {
        monthly[user] = month;
        const cohort = data.members.cohort[user];
        let counts = out.retention.get(cohort);
        if (!counts) out.retention.set(cohort, counts = []);
        counts[month - cohort] = (counts[month - cohort] || 0) + 1;
      }
    }
  });
  writing.forEach((value, at) => { if (value) out.byPeriod.add(at, "users_writing", value); });
  fresh.forEach((value, at) => { if (value) out.byPeriod.add(at, "new_users", value); });
  segments.forEach((value, n) => { if (value) out.bySegment[data.members.segments[n]] = value; });
  total("users_writing", whole(segments));
  return out;
}
