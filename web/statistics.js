/** Statistics: what the agents did, a day at a time, as charts and as a table. Days are those of UTC, as the API has them. */

import uPlot from "./vendor/uplot.js";
import {
  Busy,
  Dates,
  Icon,
  Trouble,
  api,
  clock,
  csv,
  go,
  html,
  link,
  save,
  useEffect,
  useLoaded,
  useMemo,
  useRef,
  useState,
} from "./app.js";

document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: "vendor/uplot.css" }));

const DAY_MS = 86_400_000;
const SHOWN = 5; // agents with a colour of their own; the rest are one
const utc = (options) => new Intl.DateTimeFormat(undefined, { ...options, timeZone: "UTC" });
const DATE = utc({ weekday: "short", day: "numeric", month: "short" });
const WEEKDAY = utc({ weekday: "long" });
const NUMBER = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const number = (value) => NUMBER.format(value);
const day = (daysAgo) => new Date(Date.now() - daysAgo * DAY_MS).toISOString().slice(0, 10);

/** All rows of a range, page after page; `progress` gets those so far. */
async function rowsOf(query, progress) {
  const rows = [];
  for (let cursor; cursor !== null;) {
    const page = await api(["stats"], {
      ...query,
      from: `${query.from}T00:00:00Z`,
      to: `${query.to}T23:59:59Z`,
      cursor,
    });
    page.rows.forEach((row) => add(rows, row));
    cursor = page.next ?? null;
    if (cursor !== null) progress([...rows]);
  }
  return rows;
}

/** Add a row; a day may go on in the next page. */
function add(rows, row) {
  const place = rows.findIndex((each) => each.day === row.day && each.agent_id === row.agent_id);
  if (place < 0) rows.push(row);
  else rows[place] = { ...row, ...sum([rows[place], row]) };
}

export default function Statistics({ query }) {
  const range = { from: query.from || day(29), to: query.to || day(0), agent: query.agent };
  const {
    value: rows,
    error,
    partial,
    again,
  } = useLoaded((progress) => rowsOf(range, progress), JSON.stringify(range));
  const loading = !error && (partial || !rows);
  useEffect(() => window.scrollTo(0, 0), []);
  return html`
    <h1 class="hidden">Statistics</h1>
    <${Range} range=${range} rows=${rows || []} />
    <${Comparison} agent=${range.agent} />
    ${loading && html`<${Busy} text="Counting calls…" />`}
    ${error && html`<${Trouble} error=${error} again=${again} />`}
    ${rows && html`<${Figures} rows=${rows} range=${range} loading=${loading} />`}
  `;
}

const PERIODS = [[7, "7 days"], [30, "30 days"], [90, "90 days"]]; // prettier-ignore

function Range({ range, rows }) {
  const set = (changed) => go(link(["statistics"], { ...range, ...changed }));
  const agents = [...new Set([...rows.map((row) => row.agent_id), range.agent].flat())].filter(Boolean).sort();
  return html`<div class="filters" role="group" aria-label="Range">
    <span class="segments">${PERIODS.map(([days, label]) => {
      const current = range.from === day(days - 1) && range.to === day(0);
      return html`<a class="button" aria-current=${current ? "true" : undefined} href=${link(["statistics"], { agent: range.agent, from: day(days - 1), to: day(0) })}>${label}</a>`;
    })}</span>
    <${Dates} range=${range} set=${set} />
    <select aria-label="Agent" class=${range.agent && "set"} onChange=${(event) => set({ agent: event.target.value })}>
      <option value="">All agents</option>
      ${agents.map((id) => html`<option value=${id} selected=${range.agent === id}>${id}</option>`)}
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
    timed.reduce((so_far, row) => so_far + row.average_secs * row.calls, 0),
    timed.reduce((so_far, row) => so_far + row.calls, 0),
  ];
  return { ...total, average_secs: calls ? seconds / calls : null };
}

const rate = (total) => (total.calls ? `${Math.round((total.success / total.calls) * 100)} %` : "–");

/** Today, which is not over, beside the whole of the same weekday before. */
function Comparison({ agent }) {
  const days = [day(0), day(7)];
  const load = () => Promise.all(days.map((each) => rowsOf({ from: each, to: each, agent }, () => {})));
  const { value, error, again } = useLoaded(load, JSON.stringify([days, agent]));
  if (error) return html`<${Trouble} error=${error} again=${again} />`;
  const [today, before] = (value || [[], []]).map(sum);
  const weekday = WEEKDAY.format(new Date(days[1]));
  const tile = (label, text) =>
    html`<div class="tile"><dt class="small muted">${label}</dt><dd><strong>${value ? text(today) : "–"}</strong><span class="small muted">${value ? text(before) : "–"} last ${weekday}</span></dd></div>`;
  return html`<section aria-labelledby="today">
    <div class="bar"><h2 id="today">Today so far, and the whole of last ${weekday}, ${DATE.format(new Date(days[1]))} (UTC)</h2></div>
    <dl class="tiles">
      ${tile("Calls", (total) => number(total.calls))}
      ${tile("Minutes", (total) => number(total.minutes))}
      ${tile("Successful", rate)}
      ${tile("Average length", (total) => clock(total.average_secs))}
      ${tile("Cost", (total) => number(total.cost))}
    </dl>
  </section>`;
}

// ------------------------------------------------------------------ charts

function Figures({ rows, range, loading }) {
  const total = sum(rows);
  const days = useMemo(() => daysBetween(range.from, range.to), [range.from, range.to]);
  const agents = useMemo(() => series(rows, days), [rows, days]);
  if (!rows.length)
    return loading
      ? null
      : html`<div class="notice empty"><h3>No calls in this range</h3><p class="muted">Choose more days, or another agent.</p></div>`;
  const by = (name) => agents.map(({ label, color, each }) => ({ label, color, values: each.map((one) => one[name]) }));
  const all = days.map((each) => sum(rows.filter((row) => row.day === each)));
  const outcomes = [["Success", "success", "good"], ["Failure", "failure", "bad"], ["Unknown", "unknown", "c6"]]
    .map(([label, name, color]) => ({ label, color, values: all.map((one) => one[name]) })); // prettier-ignore
  const length = agents.map(({ label, color, each }) => ({
    label,
    color,
    values: each.map((one) => one.average_secs),
  }));
  return html`<section aria-labelledby="range">
    <div class="bar">
      <h2 id="range" role="status">${DATE.format(new Date(days[0]))} to ${DATE.format(new Date(days.at(-1)))}: ${number(total.calls)} calls, ${number(total.minutes)} minutes, ${rate(total)} successful, ${clock(total.average_secs)} on average, cost ${number(total.cost)}${loading ? ". Still counting…" : ""}</h2>
    </div>
    <div class="charts">
      <${Chart} title="Calls" days=${days} series=${by("calls")} stacked whole />
      <${Chart} title="Outcomes" days=${days} series=${outcomes} stacked whole />
      <${Chart} title="Minutes" days=${days} series=${by("minutes")} stacked />
      <${Chart} title="Average length" days=${days} series=${length} format=${clock} />
      <${Chart} title="Cost" days=${days} series=${by("cost")} stacked />
      <${Chart} title="Calls with a recording" days=${days} series=${by("with_audio")} stacked whole />
    </div>
    <${Table} rows=${rows} />
  </section>`;
}

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

/** Bars on top of each other, or lines. The values under the pointer are shown beside it. */
function Chart({ title, days, series, format = number, stacked = false, whole = false }) {
  const area = useRef();
  const [at, setAt] = useState(null);
  useEffect(() => {
    const draw = () => {
      area.current.replaceChildren();
      return new uPlot(
        options(area.current, series, format, stacked, steps(format, whole), setAt),
        heights(days, series, stacked),
        area.current,
      );
    };
    let plot = draw();
    const again = () => {
      plot.destroy();
      plot = draw();
    };
    const sizes = new ResizeObserver(() => plot.setSize({ width: area.current.clientWidth, height: 200 }));
    sizes.observe(area.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", again);
    return () => {
      sizes.disconnect();
      dark.removeEventListener("change", again);
      plot.destroy();
    };
  }, [days, series.map((each) => [each.label, ...each.values]).join()]);
  return html`<figure class="chart">
    <figcaption><h3>${title}</h3><span class="legend">${series.map(({ label, color }) => html`<span><i class=${`swatch ${color.length > 2 ? `c${color}` : color}`}></i>${label}</span>`)}</span></figcaption>
    <div class="area" ref=${area} aria-hidden="true"></div>
    ${at && html`<${Tip} at=${at} day=${days[at.index]} series=${series} format=${format} />`}
  </figure>`;
}

function Tip({ at, day, series, format }) {
  const place = useRef();
  useEffect(
    () =>
      Object.assign(
        place.current.style,
        at.right ? { left: "", right: `${at.right}px` } : { left: `${at.left}px`, right: "" },
      ) && undefined,
    [at],
  );
  return html`<div class="tip" ref=${place}><strong>${DATE.format(new Date(day))}</strong><table>
    ${series.map(({ label, color, values }) => html`<tr><td><i class=${`swatch ${color.length > 2 ? `c${color}` : color}`}></i>${label}</td><td class="num">${values[at.index] === null ? "–" : format(values[at.index])}</td></tr>`)}
  </table></div>`;
}

/** What is drawn: stacked bars stand on those after them, so that each is drawn as high as it and they are together. */
function heights(days, series, stacked) {
  const times = days.map((each) => Date.parse(each) / 1000);
  if (!stacked) return [times, ...series.map(({ values }) => values)];
  return [
    times,
    ...series.map((_, place) =>
      days.map((_, index) => series.slice(place).reduce((total, { values }) => total + values[index], 0)),
    ),
  ];
}

/** The steps between the lines of an axis; undefined leaves them to uPlot. */
const steps = (format, whole) =>
  format === clock
    ? [10, 30, 60, 120, 300, 600, 1200, 1800, 3600]
    : whole
      ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000]
      : undefined;

function options(element, series, format, stacked, incrs, setAt) {
  const style = getComputedStyle(element);
  const color = (name) => paint(style, `--${name}`);
  const axis = {
    stroke: color("muted"),
    font: `12px ${style.fontFamily}`,
    grid: { stroke: color("line"), width: 1 },
    ticks: { show: false },
  };
  const bars = stacked
    ? { paths: uPlot.paths.bars({ size: [0.72, 28], align: 0 }), points: { show: false } }
    : { points: { show: true, size: 5 }, width: 1.5, spanGaps: true };
  return {
    width: element.clientWidth, height: 200, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
    legend: { show: false }, padding: [8, 8, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { show: !stacked } },
    scales: { x: { range: (_, low, high) => [low - DAY_MS / 2000, high + DAY_MS / 2000] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, size: 28, space: 64, incrs: [1, 2, 3, 7, 14, 28, 56].map((days) => (days * DAY_MS) / 1000), values: (_, ticks) => ticks.map((tick) => SHORT.format(new Date(tick * 1000))) },
      { ...axis, size: 52, space: 36, incrs, values: (_, ticks) => ticks.map(format) },
    ],
    series: [{}, ...series.map((each) => ({ stroke: color(each.color), fill: stacked ? color(each.color) : undefined, width: 0, ...bars, points: { fill: color(each.color), ...bars.points } }))],
    hooks: {
      setCursor: [(plot) => {
        const { idx: index, left } = plot.cursor;
        if (index === null || index === undefined || left < 0) return setAt(null);
        const x = left + plot.bbox.left / devicePixelRatio;
        return setAt(x > element.clientWidth / 2 ? { index, right: element.clientWidth - x + 12 } : { index, left: x + 12 });
      }],
    },
  }; // prettier-ignore
}

const SHORT = utc({ day: "numeric", month: "short" });

/** A colour of the style sheet as a canvas takes it: light-dark() is resolved only where a colour is applied. */
function paint(style, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color || style.color;
}

// ------------------------------------------------------------------ the same as a table

const COLUMNS = [
  ["day", "Day"], ["agent_id", "Agent"], ["calls", "Calls"], ["minutes", "Minutes"], ["success", "Success"], ["failure", "Failure"],
  ["unknown", "Unknown"], ["average_secs", "Average s"], ["with_audio", "Recorded"], ["cost", "Cost"],
]; // prettier-ignore

function Table({ rows }) {
  const sorted = [...rows].sort((one, other) => (other.day + other.agent_id < one.day + one.agent_id ? -1 : 1));
  return html`<details class="figures">
    <summary>All figures as a table</summary>
    <p class="bar"><span class="muted small">A row a day and agent; days are UTC.</span><button class="quiet" onClick=${() =>
      save("statistics.csv", "text/csv", [
        "\ufeff",
        ...csv(
          COLUMNS.map(([name]) => name),
          sorted,
        ),
      ])}><${Icon} name="down" />CSV</button></p>
    <div class="scroll" tabindex="0" role="region" aria-label="Figures"><table>
      <thead><tr>${COLUMNS.map(([, label], place) => html`<th class=${place > 1 && "num"}>${label}</th>`)}</tr></thead>
      <tbody>${sorted.map((row) => html`<tr>${COLUMNS.map(([name], place) => html`<td class=${place > 1 && "num"}>${row[name]}</td>`)}</tr>`)}</tbody>
    </table></div>
  </details>`;
}
