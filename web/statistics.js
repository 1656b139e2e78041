/** Statistics: what the agents did, a day at a time, as charts and as a table. Days are those of UTC, as in the API. */

import {
  Busy,
  Dates,
  Icon,
  None,
  Trouble,
  Wrong,
  agents,
  api,
  clock,
  contradiction,
  go,
  html,
  link,
  useEffect,
  useLoaded,
  useMemo,
} from "./app.js";
import { csv, save } from "./export.js";
import { Chart, DAY_MS, WEEKDAY, dateOf, number } from "./chart.js";

const SHOWN = 5; // agents with a colour of their own; the rest are one
const day = (daysAgo) => new Date(Date.now() - daysAgo * DAY_MS).toISOString().slice(0, 10);

/** All rows of a range. What takes longer than one answer is asked for again. */
async function rowsOf(query) {
  const span = { from: `${query.from}T00:00:00Z`, to: `${query.to}T23:59:59Z` };
  for (let cursor; ;) {
    const answer = await api(["stats"], { ...query, ...span, cursor });
    cursor = answer.next ?? null;
    if (cursor === null) return answer.rows;
  }
}

export default function Statistics({ query }) {
  const range = { from: query.from || day(29), to: query.to || day(0), agent: query.agent };
  const wrong = contradiction(range);
  const { value: rows, error, again } = useLoaded(async () => (wrong ? [] : rowsOf(range)), JSON.stringify(range));
  const loading = !error && !rows;
  useEffect(() => window.scrollTo(0, 0), []);
  return html`
    <h1 class="hidden">Statistics</h1>
    <${Range} range=${range} rows=${rows || []} />
    ${wrong && html`<${Wrong}>${wrong}<//>`}
    ${loading && html`<${Busy} text="Counting calls…" />`}
    ${error && html`<${Trouble} error=${error} again=${again} />`}
    ${!wrong && !error && html`<${Period} rows=${rows || []} range=${range} loading=${loading} />`}
    <${Comparison} agent=${range.agent} />
    ${rows?.length > 0 && !wrong && html`<${Figures} rows=${rows} range=${range} />`}
  `;
}

const PERIODS = { 7: "7 days", 30: "30 days", 90: "90 days" };

function Range({ range, rows }) {
  const set = (changed) => go(link(["statistics"], { ...range, ...changed }));
  for (const row of rows) agents.add(row.agent_id);
  const known = [...new Set([...agents, range.agent].flat())].filter(Boolean).sort();
  const period = ([days, label]) => {
    const to = { agent: range.agent, from: day(days - 1), to: day(0) };
    const current = range.from === to.from && range.to === to.to ? "true" : undefined;
    return html`<a class="button" aria-current=${current} href=${link(["statistics"], to)}>${label}</a>`;
  };
  return html`<div class="filters" role="group" aria-label="Range">
    <span class="segments">${Object.entries(PERIODS).map(period)}</span>
    <${Dates} range=${range} set=${set} />
    <select aria-label="Agent" class=${range.agent && "set"} onChange=${(event) => set({ agent: event.target.value })}>
      <option value="">All agents</option>
      ${known.map((id) => html`<option value=${id} selected=${range.agent === id}>${id}</option>`)}
    </select>
  </div>`;
}

// ------------------------------------------------------------------ sums

const SUMMED = ["calls", "minutes", "success", "failure", "unknown", "with_audio", "cost"];

function sum(rows) {
  const total = Object.fromEntries(
    SUMMED.map((name) => [name, rows.reduce((so_far, row) => so_far + (Number(row[name]) || 0), 0)]),
  );
  const timed = rows.filter((row) => typeof row.average_secs === "number");
  const [seconds, calls] = [
    timed.reduce((so_far, row) => so_far + row.average_secs * row.timed, 0),
    timed.reduce((so_far, row) => so_far + row.timed, 0),
  ];
  return { ...total, average_secs: calls ? seconds / calls : null };
}

const rate = (total) => (total.calls ? `${Math.round((total.success / total.calls) * 100)} %` : "–");

function Tile({ label, value, why, children }) {
  return html`<div class="tile">
    <dt class="small muted">${label}</dt>
    <dd><strong>${value === "–" ? html`<${None} why=${why} />` : value}</strong>${children}</dd>
  </div>`;
}

// What AWS costs for a call of two minutes, in dollars of us-east-1, by the prices on the stack's dashboard: $0.000054 for
// S3, SQS, SNS and DynamoDB; $0.000006 for six requests of 512 KB at the HTTP API, one with the transcript and five with
// the recording (2.5 MB in base64); $0.00009 for five functions, about 7 GB-seconds in all; $0.00005 for a month of the
// recording and its tags. Not Mem0, logs and alarms.
const AWS_PER_CALL = 0.0002;
const DOLLARS = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD", maximumSignificantDigits: 2 });

const TILES = [
  ["Calls", (total) => number(total.calls)],
  ["Minutes", (total) => number(total.minutes)],
  ["Successful", rate],
  ["Average length", (total) => clock(total.average_secs)],
  ["ElevenLabs, credits", (total) => number(total.cost)],
  ["AWS, estimate", (total) => DOLLARS.format(total.calls * AWS_PER_CALL)],
];

const COSTS =
  "Credits are what ElevenLabs says that the calls cost. The cost of AWS is a rough estimate, 0.02 cents a call; the " +
  "stack's dashboard has a better one.";

/** The sums of the period that was chosen. */
function Period({ rows, range, loading }) {
  const total = sum(rows);
  const [from, to] = [range.from, range.to].map((each) => dateOf(new Date(each)));
  const tile = ([label, text]) =>
    html`<${Tile} label=${label} value=${rows.length ? text(total) : "–"} why=${empty} />`;
  const empty = loading ? "Still counting" : "No calls in this range";
  return html`<section class="period" aria-labelledby="range">
    <div class="bar">
      <h2 id="range" role="status">
        ${from} to ${to}<span class="muted">${loading ? ", still counting…" : " (UTC)"}</span>
      </h2>
    </div>
    ${
      rows.length || loading
        ? html`<dl class="tiles">${TILES.map(tile)}</dl>`
        : html`<div class="notice empty">
            <h3>No calls in this range</h3>
            <p class="muted">Choose more days, or another agent.</p>
          </div>`
    }
    ${rows.length > 0 && html`<p class="small muted">${COSTS}</p>`}
  </section>`;
}

/** Today, which is not over, beside the whole of the same weekday before. */
function Comparison({ agent }) {
  const days = [day(0), day(7)];
  const load = () => Promise.all(days.map((each) => rowsOf({ from: each, to: each, agent })));
  const { value, error, again } = useLoaded(load, JSON.stringify([days, agent]));
  if (error) return html`<${Trouble} error=${error} again=${again} />`;
  const [today, before] = (value || [[], []]).map(sum);
  const date = new Date(days[1]);
  const why = value ? "No calls yet today" : "Still counting";
  const tile = ([label, text]) => html`<${Tile} label=${label} value=${value ? text(today) : "–"} why=${why}>
    <span class="small muted">${value ? text(before) : "–"} last ${WEEKDAY.format(date)}</span>
  <//>`;
  return html`<section class="today" aria-labelledby="today">
    <div class="bar">
      <h2 id="today">Today so far<span class="muted">, and the whole of ${dateOf(date)} (UTC)</span></h2>
    </div>
    <dl class="tiles">${TILES.map(tile)}</dl>
  </section>`;
}

// ------------------------------------------------------------------ charts

function Figures({ rows, range }) {
  const days = useMemo(() => daysBetween(range.from, range.to), [range.from, range.to]);
  const agents = useMemo(() => series(rows, days), [rows, days]);
  const by = (name) => agents.map(({ each, ...agent }) => ({ ...agent, values: each.map((one) => one[name]) }));
  const all = days.map((each) => sum(rows.filter((row) => row.day === each)));
  const outcomes = OUTCOMES.map(([name, label, color]) => ({ label, color, values: all.map((one) => one[name]) }));
  return html`<section aria-label="Day by day">
    <div class="charts">
      <${Chart} title="Calls" days=${days} series=${by("calls")} stacked whole />
      <${Chart} title="Outcomes" days=${days} series=${outcomes} stacked whole />
      <${Chart} title="Minutes" days=${days} series=${by("minutes")} stacked />
      <${Chart} title="Average length" days=${days} series=${by("average_secs")} format=${clock} />
      <${Chart} title="Cost in credits" days=${days} series=${by("cost")} stacked />
      <${Chart} title="Calls with a recording" days=${days} series=${by("with_audio")} stacked whole />
    </div>
    <${Table} rows=${rows} />
  </section>`;
}

const OUTCOMES = [
  ["success", "Success", "good"],
  ["failure", "Failure", "bad"],
  ["unknown", "Unknown", "c6"],
];

function daysBetween(from, to) {
  const [start, end] = [Date.parse(from), Date.parse(to)];
  const count = Math.min(731, Math.max(0, Math.round((end - start) / DAY_MS))) || 0;
  return Array.from({ length: count + 1 }, (_, index) =>
    new Date((Number.isNaN(start) ? Date.now() : start) + index * DAY_MS).toISOString().slice(0, 10),
  );
}

/** A series an agent, those with most calls first; each has a sum a day. */
function series(rows, days) {
  const calls = new Map();
  for (const row of rows) calls.set(row.agent_id, (calls.get(row.agent_id) || 0) + row.calls);
  const ranked = [...calls.keys()].sort((one, other) => calls.get(other) - calls.get(one) || (one < other ? -1 : 1));
  const groups = ranked
    .slice(0, SHOWN)
    .map((id, place) => ({ label: id ?? "No agent", color: `c${place + 1}`, ids: [id] }));
  if (ranked.length > SHOWN)
    groups.push({ label: `${ranked.length - SHOWN} other agents`, color: "c6", ids: ranked.slice(SHOWN) });
  return groups.map((group) => ({
    ...group,
    each: days.map((day) => sum(rows.filter((row) => row.day === day && group.ids.includes(row.agent_id)))),
  }));
}

// ------------------------------------------------------------------ the same as a table

const COLUMNS = {
  day: "Day",
  agent_id: "Agent",
  calls: "Calls",
  minutes: "Minutes",
  success: "Success",
  failure: "Failure",
  unknown: "Unknown",
  average_secs: "Average s",
  with_audio: "Recorded",
  cost: "Credits",
};

function Table({ rows }) {
  const sorted = [...rows].sort((one, other) => (other.day + other.agent_id < one.day + one.agent_id ? -1 : 1));
  const names = Object.keys(COLUMNS);
  const side = (name) => (name === "day" || name === "agent_id" ? "" : "num");
  const download = () => save(`statistics-${day(0)}.csv`, "text/csv", ["\ufeff", ...csv(names, sorted)]);
  return html`<details class="figures">
    <summary>All figures as a table</summary>
    <p class="bar">
      <span class="muted small">A row a day and agent; days are UTC.</span>
      <button class="quiet" onClick=${download}><${Icon} name="down" />CSV</button>
    </p>
    <div class="scroll" tabindex="0" role="region" aria-label="Figures">
      <table>
        <thead><tr>${names.map((name) => html`<th class=${side(name)}>${COLUMNS[name]}</th>`)}</tr></thead>
        <tbody>
          ${sorted.map((row) => html`<tr>${names.map((name) => html`<td class=${side(name)}>${row[name]}</td>`)}</tr>`)}
        </tbody>
      </table>
    </div>
  </details>`;
}
