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

  each("conversations", (row, end, day, place, { columns }) => {
    const period = spans.of[day], channel = channelOf[place], category = categoryOf[place];
    for (const name in columns) {
      const column = columns[name];
      for (let i = row; i < end; i++) {
        const value = column[i];
        if (!value) continue;
        total(name, value);
        out.byPeriod.add(period, name, value);
        out.byChannel.add(channel, name, value);
        out.byCategory.add(category, name, value);
        if (name === "conversations_started") out.channelByPeriod.add(period, channel, value);
      }
    }
  });
  each("clocks", (row, end, day, place, { columns, values }) => {
    for (let i = row; i < end; i++) {
      const clock = values.clock[columns.clock[i]];
      for (const name in columns) {
        if (name === "clock") continue;
        out.byClock.add(clock, name, columns[name][i]);
        if (clock === state.clock && name.startsWith("response_n"))
          out.byPeriod.add(spans.of[day], "clock_" + name, columns[name][i]);
      }
    }
  });
  each("traffic", (row, end, day, place, { columns }) => {
    const period = spans.of[day], weekday = data.weekday(day);
    for (let i = row; i < end; i++) {
      for (const name in columns) {
        if (name === "local_hour") continue;
        const value = columns[name][i];
        total(name, value);
        out.byPeriod.add(period, name, value);
        if (name.endsWith("messages")) { total("messages", value); out.byPeriod.add(period, "messages", value); }
      }
      out.byHour.add(weekday + "-" + columns.local_hour[i], "user_messages", columns.user_messages[i]);
    }
  });
  each("speech", (row, end, day, place, { columns, values }) => {
    for (let i = row; i < end; i++) for (const name in columns) {
      if (name === "spoken") continue;
      out.bySpoken.add(values.spoken[columns.spoken[i]], name, columns[name][i]);
      if (!name.endsWith("messages")) total(name, columns[name][i]);
    }
  });
  each("agents", (row, end, day, place, { columns, values }) => {
    for (let i = row; i < end; i++) for (const name of ["agent_conversations", "agent_messages", "resolved"])
      out.byAgent.add(values.agent[columns.agent[i]], name, columns[name][i]);
  });
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
  const whole = !filtered && from === 0 && to === data.days - 1;
  const exact = (clock, dimension, place) => data.header.exact[clock]?.[dimension]?.[place];
  // [p50, p90, p95, p99, longest], and whether it is exact.
  out.percentiles = (clock, dimension = "all", place = "", key = clock) => {
    const known = dimension === "day" ? !filtered && exact(clock, "day", place) : whole && exact(clock, dimension, place);
    return known ? { values: known, exact: true } : { values: percentiles(held.get(key)), exact: false };
  };
  out.answered = who => (held.get("agent\u0000" + who) || []).reduce((sum, n) => sum + n, 0);

  // Users: distinct ones, those of each period, new ones, their segments, and who came back.
  const users = data.members.first_seen.length, seen = new Uint8Array(users), stamp = new Int32Array(users).fill(-1);
  const monthly = new Int32Array(users).fill(-1), months = [];
  const first = data.first ? new Date(data.first) : new Date(0);
  for (let day = 0; day < data.days; day++) { const at = data.date(day); months.push(at.getUTCFullYear() * 12 + at.getUTCMonth()); }
  each("users", (row, end, day, place, { columns }) => {
    const period = spans.of[day], month = months[day];
    for (let i = row; i < end; i++) {
      const user = columns.user_no[i];
      if (!seen[user]) {
        seen[user] = 1;
        total("users_writing", 1);
        const segment = data.members.segments[data.members.segment[user]];
        out.bySegment[segment] = (out.bySegment[segment] || 0) + 1;
      }
      if (stamp[user] !== period) {
        stamp[user] = period;
        out.byPeriod.add(period, "users_writing", 1);
        const begun = data.members.first_seen[user] - 1;
        if (begun >= from && begun <= to && spans.of[begun] === period) out.byPeriod.add(period, "new_users", 1);
      }
      if (monthly[user] !== month) {
        monthly[user] = month;
        const cohort = data.members.cohort[user];
        let row = out.retention.get(cohort);
        if (!row) out.retention.set(cohort, row = []);
        row[month - cohort] = (row[month - cohort] || 0) + 1;
      }
    }
  });
  return out;
}
