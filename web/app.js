/** What all views share, the router, and the list of calls. The state of every view is in the URL's hash, which
 *  browsers keep to themselves: no server logs the numbers and words in it. */

import { h, html, render, useEffect, useErrorBoundary, useMemo, useRef, useState } from "./vendor/preact-htm.js";

export { html, useEffect, useMemo, useRef, useState };

// ------------------------------------------------------------------ the API

const API = document.querySelector("meta[name=api]").content;
const ADVICE = {
  0: "Check the connection and that the page's server is still running, then try again.",
  401: "Sign in again, or start the page again with credentials that are valid.",
  403: "Ask whoever runs the archive for access to it.",
  404: "It may have been erased, or you may not see it.",
  429: "Too many requests at once. Wait a few seconds, then try again.",
};

/** An answer that is an error, in the words of the API's problem details. */
export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    Object.assign(this, { status, title, detail });
  }
}

/** Get `path`, a list of its segments, with `query`, whose empty values are left out. Throws Problem. */
export async function api(path, query = {}) {
  const url = `${API}/${path.map(encodeURIComponent).join("/")}${search(query)}`;
  const answer = await fetch(url, { headers: { accept: "application/json" } }).catch(() => {
    throw new Problem(0, "The server cannot be reached", "");
  });
  const body = await answer.json().catch(() => null);
  if (answer.ok && body) return body;
  throw new Problem(
    answer.ok ? 502 : answer.status,
    body?.title || `The server answered ${answer.status}`,
    body?.detail,
  );
}

function search(query) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((each) => [name, each]));
  const kept = pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
}

// ------------------------------------------------------------------ places

export const link = (path, query = {}) => `#/${path.map(encodeURIComponent).join("/")}${search(query)}`;

export function go(href, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href);
  window.dispatchEvent(new Event("hashchange"));
}

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const values = {};
  for (const [name, value] of new URLSearchParams(query))
    values[name] = name in values ? [values[name], value].flat() : value;
  return { path: path.split("/").map(decoded), query: values };
}

function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

// ------------------------------------------------------------------ how values are written

const formats = (options) => new Intl.DateTimeFormat(undefined, options);
const CLOCK = formats({ hour: "2-digit", minute: "2-digit" });
const DAY = formats({ weekday: "short", day: "numeric", month: "short" });
const DAY_OF_YEAR = formats({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
const MOMENT = formats({ dateStyle: "medium", timeStyle: "short" });

/** The day of `date` in the viewer's zone, as 2026-11-22. */
export const isoDay = (date) =>
  [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, "0")).join("-");

export function daysAgo(days) {
  const date = new Date();
  date.setDate(date.getDate() - days);
  return isoDay(date);
}

/** A day of the URL in words; what is no day stays as it is. */
function dayOf(day) {
  const date = new Date(`${day}T00:00`);
  return Number.isNaN(date.getTime()) ? day : dayName(date).replace(/^\w+day, /, "");
}

function dayName(date) {
  const day = isoDay(date);
  const named = { [daysAgo(0)]: "Today, ", [daysAgo(1)]: "Yesterday, " }[day] || "";
  return named + (date.getFullYear() === new Date().getFullYear() ? DAY : DAY_OF_YEAR).format(date);
}

/** Seconds as 1:02:03 or 2:03. */
export function clock(seconds) {
  if (typeof seconds !== "number") return "–";
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const tail = `${hours ? String(minutes).padStart(2, "0") : minutes}:${String(whole % 60).padStart(2, "0")}`;
  return hours ? `${hours}:${tail}` : tail;
}

/** The seconds in "10", "1.5 min", "1:30" or "1:00:00": a number alone is minutes. NaN if it is none of them. */
export function secondsOf(text) {
  const minutes = /^(\d+(?:[.,]\d+)?) *(?:m|min|mins|minutes?)?$/i.exec(text);
  if (minutes) return Math.round(Number(minutes[1].replace(",", ".")) * 60);
  if (!/^\d+(:[0-5]\d){1,2}$/.test(text)) return NaN;
  return text.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
}

/** A time in the viewer's zone; UTC is in its title. */
export function Time({ at, format = MOMENT }) {
  const date = new Date(at);
  if (!at || Number.isNaN(date.getTime())) return "–";
  const utc = `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  return html`<time datetime=${at} title=${utc}>${format.format(date)}</time>`;
}

/** Text of others without what turns the text around it, or hides: overrides of direction, control characters. */
export const plain = (text) =>
  String(text ?? "").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

/** Whether `caller` is a number that one may see: masked ones have an ellipsis. */
export const isNumber = (caller) => Boolean(caller) && !caller.includes("…");

/** Text of others in a line of ours, whatever direction it runs in. */
export const Text = ({ children }) => html`<bdi>${plain([children].flat().join(""))}</bdi>`;

/** What a call is called everywhere. */
export const nameOf = (call) => call.title || call.summary || call.conversation_id;

export const OUTCOMES = { success: "Success", failure: "Failure", unknown: "Unknown" };
const AUDIO = { archived: "Recorded", pending: "Pending", unavailable: "Unavailable", none: "None" };
const AUDIO_DOTS = { archived: "quiet-good", pending: "pending", unavailable: "bad", none: "none" };

/** A dash that says why there is no value. */
export const None = ({ why }) => html`<span title=${why}>–</span>`;

export const Outcome = ({ value }) =>
  value
    ? html`<span class=${`dot ${value}`}>${OUTCOMES[value] || plain(value)}</span>`
    : html`<${None} why="Not evaluated" />`;
export const Audio = ({ value }) =>
  value ? html`<span class=${`dot ${AUDIO_DOTS[value] || "none"}`}>${AUDIO[value] || plain(value)}</span>` : "–";

// ------------------------------------------------------------------ parts of every view

const ICONS = {
  search: "M7 12.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11Zm4-1.5 3.5 3.5",
  wave: "M1.5 6.5v3M5 4v8M8.5 2v12M12 5v6M15 7v2",
  left: "M10 3 5 8l5 5",
  right: "m6 3 5 5-5 5",
  down: "M8 2v9m-4-4 4 4 4-4M2.5 14h11",
  cross: "m4 4 8 8m0-8-8 8",
  play: "M4 2.2v11.6a.6.6 0 0 0 .9.5l9.5-5.8a.6.6 0 0 0 0-1L4.9 1.7a.6.6 0 0 0-.9.5Z",
  pause: "M3 2h3.5v12H3zM9.5 2H13v12H9.5z",
  keys: "M1.5 4h13v8h-13zM4 7h.01M6.7 7h.01M9.3 7h.01M12 7h.01M5 9.7h6",
  link: "m6 10 4-4M7.5 4.5l1.4-1.4a2.8 2.8 0 0 1 4 4l-1.4 1.4M8.5 11.5l-1.4 1.4a2.8 2.8 0 0 1-4-4l1.4-1.4",
  chevron: "m4.5 6.5 3.5 3.5 3.5-3.5",
  check: "m3 8.5 3.5 3.5L13 4.5",
  again: "M13.5 8A5.5 5.5 0 1 1 8 2.5c2 0 3.6 1 4.7 2.5M13 2v3h-3",
};

export const Icon = ({ name }) =>
  html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;

export const Busy = ({ text = "Loading…" }) =>
  html`<div class="busy" role="status"><span class="hidden">${text}</span></div>`;

/** What went wrong, in the API's words, and what to do about it. */
export function Trouble({ error, again }) {
  const helps = again && ![400, 404].includes(error.status);
  const told = error.detail ?? error.message;
  const isRefused = error.status === 400 && told; // the detail says what was wrong with what was asked for
  const advice = ADVICE[error.status] || (error.status >= 500 ? "Try again in a moment." : "");
  return html`<div class="notice bad" role="alert">
    <h3>${isRefused ? html`<${Text}>${told}<//>` : error.title || "The page has a fault"}</h3>
    ${!isRefused && html`<p><${Text}>${told}<//></p>`}
    ${advice && html`<p>${advice}</p>`}
    ${helps && html`<button onClick=${again}><${Icon} name="again" />Try again</button>`}
  </div>`;
}

/** Load with `load` whenever `key` changes: what it made, or the error, and a way to load again. */
export function useLoaded(load, key) {
  const [state, set] = useState({});
  const [tries, setTries] = useState(0);
  useEffect(() => {
    let current = true;
    set((before) => (before.key === key ? { key } : {}));
    load((value) => current && set({ key, value, partial: true })).then(
      (value) => current && set({ key, value }),
      (error) => current && set((before) => ({ key, error, value: before.value })),
    );
    return () => (current = false);
  }, [key, tries]);
  return { ...(state.key === key ? state : {}), again: () => setTries(tries + 1) };
}

/** Save calls as a file; how is in a module of its own. */
export const exportCalls = (...what) => import("./export.js").then((module) => module.exportCalls(...what));

/** What is wrong with a range before it is asked for; "" if nothing is. */
export function contradiction({ from, to, min_seconds: shortest, max_seconds: longest }) {
  if (from && to && from > to) return "The start date is after the end date.";
  if (shortest && longest && Number(shortest) > Number(longest))
    return "The shortest length is more than the longest length.";
  return "";
}

export const Wrong = ({ children }) => html`<p class="wrong" id="wrong" role="alert">${children}</p>`;

// ------------------------------------------------------------------ the list of calls

const FILTERS = ["caller", "text", "agent", "from", "to", "min_seconds", "max_seconds", "outcome", "audio"];
const ENOUGH = 25; // calls that one "Load more" looks for
const PAGES = 6; // and the pages that it asks for at most: a filter that matches little gives short pages
export const agents = new Set(); // those that any view has seen, for the menus

/** The calls of one filter as far as they were loaded. Next and previous in a call go along it. */
class Listing {
  constructor(filters) {
    Object.assign(this, { key: search(filters), filters, calls: [], next: undefined, scroll: 0 });
  }

  get ended() {
    return this.next === null;
  }

  async more(progress = () => {}) {
    const goal = this.calls.length + ENOUGH;
    for (let page = 0; page < PAGES && !this.ended && this.calls.length < goal; page += 1) {
      const answer = await api(["calls"], { ...asked(this.filters), cursor: this.next });
      const known = new Set(this.calls.map((call) => call.conversation_id));
      this.calls.push(...answer.calls.filter((call) => !known.has(call.conversation_id)));
      this.next = answer.next ?? null;
      for (const call of answer.calls) if (call.agent_id) agents.add(call.agent_id);
      progress();
    }
  }

  /** Whether it is known that no call is `step` places after the call `id`. */
  ends(id, step) {
    const at = this.calls.findIndex((call) => call.conversation_id === id);
    return at >= 0 && (step < 0 ? at === 0 : this.ended && at === this.calls.length - 1);
  }

  /** The call `step` places after the call `id`; null if there is none, undefined if `id` was not found itself. */
  async neighbour(id, step) {
    const at = () => this.calls.findIndex((call) => call.conversation_id === id);
    for (let round = 0; round < 5 && !this.ended && (at() < 0 || !this.calls[at() + step]); round += 1)
      await this.more();
    return at() < 0 ? undefined : this.calls[at() + step] || null;
  }
}

let listing = new Listing({});

export const filtersIn = (query) =>
  Object.fromEntries(FILTERS.filter((name) => query[name]).map((name) => [name, query[name]]));

export function listingOf(filters) {
  if (listing.key !== search(filters)) listing = new Listing(filters);
  return listing;
}

/** Filters as the API wants them: days of the viewer's zone become moments. */
export function asked(filters) {
  const moment = (day, time) => (/^\d{4}-\d{2}-\d{2}$/.test(day || "") ? isoMoment(`${day}T${time}`) : day);
  return { ...filters, from: moment(filters.from, "00:00:00"), to: moment(filters.to, "23:59:59.999") };
}

function isoMoment(local) {
  const date = new Date(local);
  return Number.isNaN(date.getTime()) ? local : date.toISOString();
}

/** What was typed: the id of a call, a number, or words. */
function meant(typed) {
  const text = typed.trim();
  if (/^conv_\w{6,}$/.test(text)) return { id: text };
  return /^\+?[\d\s().-]{5,}$/.test(text) && text.replace(/\D/g, "").length > 4
    ? { caller: text.replace(/[^\d+]/g, "") }
    : { text };
}

function Calls({ query }) {
  const filters = filtersIn(query);
  const [, redraw] = useState(0);
  const [loading, setLoading] = useState(false);
  const [error, setError] = useState(null);
  const list = listingOf(filters);
  const wrong = contradiction(filters);
  const load = async () => {
    setError(null);
    setLoading(true);
    await list.more(() => redraw(Math.random())).catch((problem) => list === listing && setError(problem));
    if (list === listing) setLoading(false);
  };
  useEffect(() => {
    if (wrong) return undefined;
    if (list.next === undefined) load();
    else window.scrollTo(0, list.scroll);
    const remember = () => (list.scroll = window.scrollY);
    window.addEventListener("scroll", remember, { passive: true });
    return () => window.removeEventListener("scroll", remember);
  }, [list]);
  useEffect(() => {
    const row = list.opened && document.querySelector(`[data-call="${CSS.escape(list.opened)}"] .what a`);
    if (!row || document.activeElement?.closest("input, select")) return;
    list.opened = null;
    row.focus();
  }, [list, list.calls.length]);
  const refresh = () => {
    listing = new Listing(filters);
    redraw(Math.random());
  };
  const save = (kind, label) => html`<button class="quiet" disabled=${!list.calls.length}
    onClick=${() => exportCalls(list.calls, kind)}><${Icon} name="down" />${label}</button>`;
  return html`
    <h1 class="hidden">Calls</h1>
    <${Search} filters=${filters} />
    <${Filters} filters=${filters} wrong=${wrong} />
    <${Chips} filters=${filters} />
    <div class="bar">
      <span class="stack">
        <span class="muted small" role="status">${wrong ? "" : counted(list, loading)}</span>
        ${
          filters.caller &&
          list.calls.length > 0 &&
          html`<a class="link small" href=${link(["callers", filters.caller])}>About this caller</a>`
        }
      </span>
      <button class="quiet" aria-label="Refresh" onClick=${refresh}>
        <${Icon} name="again" /><span>Refresh</span>
      </button>
      ${save("csv", "CSV")}${save("json", "JSON")}
    </div>
    ${list.calls.length > 0 && html`<${CallTable} calls=${list.calls} filters=${filters} />`}
    ${loading && html`<${Busy} />`}
    ${error && html`<${Trouble} error=${error} again=${load} />`}
    ${!loading && !error && !wrong && html`<${End} list=${list} load=${load} />`}
  `;
}

function counted(list, loading) {
  if (!list.calls.length) return loading ? "Looking for calls…" : "No calls";
  const matching = Object.keys(list.filters).length > 0;
  const count = `${list.calls.length} ${matching ? "matching " : ""}${list.calls.length === 1 ? "call" : "calls"}`;
  if (list.ended) return `${count}${matching ? "" : " in all"}`;
  return `${count} so far, newest first${loading ? ", looking for more…" : ""}`;
}

/** What stands below the list: how far it goes, or why it is empty. */
function End({ list, load }) {
  if (list.next === undefined || (list.ended && list.calls.length)) return null;
  const oldest = list.calls.at(-1)?.started_at;
  if (!list.ended)
    return html`<div class="more">
      <button onClick=${load}>${list.calls.length ? "Load more" : "Keep looking"}</button>
      <span class="muted small">
        ${oldest ? html`Looked back to <${Time} at=${oldest} />` : "Nothing found yet; there are older calls."}
      </span>
    </div>`;
  if (!Object.keys(list.filters).length)
    return html`<div class="notice empty">
      <h3>No calls yet</h3>
      <p class="muted">Calls appear here a few seconds after they end.</p>
    </div>`;
  return html`<div class="notice empty">
    <h3>No call matches</h3>
    <p class="muted">${hint(list.filters)}</p>
    <a class="button" href=${link([""])}>Clear all filters</a>
  </div>`;
}

function hint({ caller, text }) {
  if (caller || /^[\d\s().+-]+$/.test(text || ""))
    return "A caller is found by the whole number with its country code, such as +1 202 555 0142.";
  if (text)
    return "This finds words of titles and summaries. To find what was said in calls, choose “What was said” above.";
  return "Remove a filter, or choose more days.";
}

/** The box shows the words, or else the number. A search replaces what the box showed; chips show the rest. */
function Search({ filters }) {
  const shown = filters.text || filters.caller || "";
  const replaced = filters.text ? { text: "" } : { caller: "" };
  const search = (typed) => {
    const { id, ...found } = meant(typed);
    go(id ? link(["calls", id]) : link([""], { ...filters, ...replaced, ...found }));
  };
  const clear = () => go(link([""], { ...filters, ...replaced }));
  return html`<${SearchBox} shown=${shown} search=${search} clear=${clear} filters=${filters}
    hint="Number, or words of title and summary" />`;
}

/** A box for words, and where they are looked for: in what is known of the calls, or in `said`, what was said in them. */
export function SearchBox({ shown, search, clear, hint, filters, said }) {
  const [typed, setTyped] = useTyped(shown);
  const submit = (event) => {
    event.preventDefault();
    search(typed);
  };
  const { agent, from, to } = filters;
  const words = typed.trim();
  const place = (label, href, current) =>
    html`<a class="button" aria-current=${current ? "true" : undefined} href=${href}>${label}</a>`;
  return html`<form class="search" role="search" onSubmit=${submit}>
      <${Icon} name="search" />
      <input type="search" id="search" aria-label=${said ? "Search what was said" : "Search calls"} maxlength="200"
        autocomplete="off" spellcheck=${false} placeholder=${hint} value=${typed}
        onInput=${(event) => setTyped(event.target.value)}
        onSearch=${(event) => !event.target.value && shown && clear()} />
      <button>Search</button>
    </form>
    <div class="segments places" role="group" aria-label="Where to search">
      ${place("Numbers and summaries", link([""], said ? { text: words, agent, from, to } : filters), !said)}
      ${place("What was said", link(["search"], said ? filters : { q: words, agent, from, to }), said)}
    </div>`;
}

const CHIPS = {
  caller: (value) => `Number ${value}`,
  text: (value) => `Words “${value}”`,
  agent: (value) => `Agent ${[value].flat().join(", ")}`,
  from: (value) => `From ${dayOf(value)}`,
  to: (value) => `To ${dayOf(value)}`,
  min_seconds: (value) => `At least ${clock(Number(value))} min`,
  max_seconds: (value) => `At most ${clock(Number(value))} min`,
  outcome: (value) => `Outcome ${OUTCOMES[value] || value}`,
  audio: (value) => `Audio ${AUDIO[value] || value}`,
};

/** What the list is filtered by; a click takes a filter away. */
function Chips({ filters }) {
  const chip = ([name, value]) => {
    return html`<li><a class="chip" href=${link([""], { ...filters, [name]: "" })} title="Remove this filter">
      <span class="hidden">Remove: </span><${Text}>${CHIPS[name](value)}<//><${Icon} name="cross" />
    </a></li>`;
  };
  const active = Object.entries(filters);
  if (!active.length) return null;
  return html`<ul class="chips" aria-label="Active filters">
    ${active.map(chip)}
    ${active.length > 1 && html`<li><a class="link small" href=${link([""])}>Clear filters</a></li>`}
  </ul>`;
}

const PERIODS = { "Any time": undefined, Today: 0, "7 days": 6, "30 days": 29 };

function Filters({ filters, wrong }) {
  const [open, setOpen] = useState(false); // on a small screen the filters are folded
  const [typo, setTypo] = useState(null); // a length that cannot be read: which one, and what was typed
  const set = (changed) => go(link([""], { ...filters, ...changed }));
  const chosen = [filters.agent || []].flat();
  const known = [...new Set([...agents, ...chosen])].sort();
  const select = (name, label, options) => html`<select aria-label=${label} class=${filters[name] && "set"}
      value=${filters[name] || ""} onChange=${(event) => set({ [name]: event.target.value })}>
    <option value="">${label}</option>
    ${options.map(([id, text]) => html`<option value=${id} selected=${filters[name] === id}>${text}</option>`)}
  </select>`;
  const crossed = Number(filters.min_seconds) > Number(filters.max_seconds);
  const length = (name, label, hint) => html`<${Field} class="short" placeholder=${hint} aria-label=${label}
    value=${filters[name] ? clock(Number(filters[name])) : ""} wrong=${typo?.name === name || crossed}
    commit=${(typed) => {
      const seconds = typed.trim() && secondsOf(typed.trim());
      setTypo(Number.isNaN(seconds) ? { name, typed } : null);
      if (!Number.isNaN(seconds)) set({ [name]: seconds });
    }} />`;
  const told = typo
    ? `“${plain(typo.typed)}” is not a length. Write minutes, such as 10, or minutes and seconds, such as 1:30.`
    : wrong;
  const count = Object.keys(filters).filter((name) => name !== "text" && name !== "caller").length;
  return html`<button class="fold" aria-expanded=${open ? "true" : "false"} aria-controls="filters"
    onClick=${() => setOpen(!open)}>Filters${count ? ` (${count})` : ""}<${Icon} name="chevron" /></button>
  <div class=${`filters ${open ? "" : "folded"}`} id="filters" role="group" aria-label="Filters">
    <span class="segments">
      ${Object.keys(PERIODS).map((label) => html`<${Period} label=${label} filters=${filters} />`)}
    </span>
    <${Dates} range=${filters} set=${set} />
    ${select(
      "agent",
      chosen.length > 1 ? `${chosen.length} agents` : "Any agent",
      known.map((id) => [id, id]),
    )}
    ${select("outcome", "Any outcome", Object.entries(OUTCOMES))}
    ${select("audio", "Any audio", Object.entries(AUDIO))}
    <span class="pair">
      <label>Length (min) ${length("min_seconds", "Shortest, in minutes", "0")}</label>
      <label>to ${length("max_seconds", "Longest, in minutes", "any")}</label>
    </span>
  </div>
  ${told && html`<${Wrong}>${told}<//>`}`;
}

function Period({ label, filters }) {
  const from = PERIODS[label] === undefined ? "" : daysAgo(PERIODS[label]);
  const current = (filters.from || "") === from && !filters.to ? "true" : undefined;
  return html`<a class="button" aria-current=${current} href=${link([""], { ...filters, from, to: "" })}>${label}</a>`;
}

/** What is being typed, until another value is given. An effect also runs late after the first drawing, and would then
 *  remove what was typed meanwhile. */
function useTyped(value) {
  const [typed, setTyped] = useState(value);
  const given = useRef(value);
  useEffect(() => {
    if (given.current !== value) setTyped(value);
    given.current = value;
  }, [value]);
  return [typed, setTyped];
}

/** An input that keeps what is being typed while the page around it is drawn again. */
function Field({ value, commit, wrong, class: name = "", ...rest }) {
  const [typed, setTyped] = useTyped(value);
  const input = (event) => setTyped(event.target.value);
  const aria = wrong ? { "aria-invalid": "true", "aria-describedby": "wrong" } : {};
  return html`<input ...${rest} ...${aria} class=${`${name} ${value && name ? "set" : ""}`} value=${typed}
    onInput=${input} onChange=${(event) => commit(event.target.value)} />`;
}

/** From and to. While a year is typed the browser already tells the years 2, 20 and 202. */
export function Dates({ range, set }) {
  const commit = (name) => (day) => (day === "" || day > "1999") && set({ [name]: day });
  const { from = "", to = "" } = range;
  const wrong = from && to && from > to;
  return html`<span class="pair">
    <label>From <${Field} type="date" value=${from} max=${to} wrong=${wrong} commit=${commit("from")} /></label>
    <label>to <${Field} type="date" value=${to} min=${from} wrong=${wrong} commit=${commit("to")} /></label>
  </span>`;
}

/** Calls by day. `filters`: what opening a call, or a click on a value, adds to. */
export function CallTable({ calls, filters }) {
  const days = new Map();
  for (const call of calls) {
    const date = new Date(call.started_at || call.archived_at);
    const day = Number.isNaN(date.getTime()) ? "" : isoDay(date);
    days.set(day, [...(days.get(day) || []), call]);
  }
  const columns = ["time", "caller", "what", "agent", "length", "outcome", "audio", "cost"];
  return html`<table class="calls">
    <colgroup>${columns.map((name) => html`<col class=${name} />`)}</colgroup>
    <thead><tr>
      <th>Time</th><th>Caller</th><th>Call</th><th class="agent">Agent</th><th class="num length">Length</th>
      <th>Outcome</th><th>Audio</th><th class="num" title="The cost in ElevenLabs credits">Credits</th>
    </tr></thead>
    ${[...days].map(
      ([day, rows]) => html`<tbody key=${day}>
      <tr class="day"><th colspan="8" scope="rowgroup"><${Day} day=${day} filters=${filters} /></th></tr>
      ${rows.map((call) => html`<${Row} key=${call.conversation_id} call=${call} filters=${filters} />`)}
    </tbody>`,
    )}
  </table>`;
}

function Day({ day, filters }) {
  const name = day ? dayName(new Date(`${day}T00:00`)) : "Time unknown";
  return html`<${Value} filters=${filters} name=${["from", "to"]} value=${day}>${name}<//>`;
}

/** A value that filters the list by itself; plain if there is none. */
function Value({ filters, name, value, children }) {
  if (!value) return children;
  const added = Object.fromEntries([name].flat().map((each) => [each, value]));
  return html`<a class="value" title="Show only these" href=${link([""], { ...filters, ...added })}>${children}</a>`;
}

function Row({ call, filters }) {
  const { caller, title, summary } = call;
  const value = (name, shown) => html`<${Value} filters=${filters} name=${name} value=${call[name]}>${shown}<//>`;
  const number = html`<${Text}>${caller || "No number"}<//>`;
  return html`<tr class="call" data-call=${call.conversation_id}>
    <td class="time cut muted"><${Time} at=${call.started_at} format=${CLOCK} /></td>
    <td class="caller cut">${isNumber(caller) ? value("caller", number) : number}</td>
    <td class="what">
      <a href=${link(["calls", call.conversation_id], filters)}>
        <${Text}>${nameOf(call)}<//>
      </a>
      ${title && summary && html`<p dir="auto">${plain(summary)}</p>`}
    </td>
    <td class="agent"><${Value} filters=${filters} name="agent" value=${call.agent_id}>${call.agent_id}<//></td>
    <td class="num length">${clock(call.duration_secs)}</td>
    <td class="outcome cut">${value("outcome", html`<${Outcome} value=${call.outcome} />`)}</td>
    <td class="audio cut">${value("audio", html`<${Audio} value=${call.audio} />`)}</td>
    <td class="num cost muted">${call.cost ?? html`<${None} why="The cost is not known" />`}</td>
  </tr>`;
}

// ------------------------------------------------------------------ the page

const VIEWS = {
  calls: "./call.js",
  callers: "./caller.js",
  search: "./search.js",
  statistics: "./statistics.js",
};
const loaded = {};

/** The view of `path`. Only the list of calls is here: the other views are loaded when they are first opened. */
function View({ path, query }) {
  const [name, id] = path;
  const file = id || name === "statistics" || name === "search" ? VIEWS[name] : undefined;
  const { error, again } = useLoaded(async () => (loaded[file] ??= file && (await import(file)).default), file);
  const [fault, retry] = useErrorBoundary();
  const title = { statistics: "Statistics", search: "What was said", callers: "Caller" }[name] || (id ? "Call" : "Calls");
  useEffect(() => void (document.title = `${title} · AgenticMemory`), [title, id]);
  if (fault || error) return html`<${Trouble} error=${fault || error} again=${fault ? retry : again} />`;
  if (!file) return html`<${Calls} query=${query} />`;
  return loaded[file] ? h(loaded[file], { key: path.join("/"), id, query }) : html`<${Busy} />`;
}

const HELP = {
  "/": "Search, in the list",
  Space: "Play or pause",
  "← →": "5 seconds back or on",
  "j k": "Next or previous turn",
  "n p": "Older or newer call",
  Esc: "From a call back to the list or the search",
  "?": "Show or hide this",
};

function Keys() {
  const row = ([keys, does]) => html`<dt>
      ${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}
    </dt>
    <dd>${does}</dd>`;
  return html`<dialog id="keys" aria-label="Keys">
    <h3>Keys</h3>
    <dl>${Object.entries(HELP).map(row)}</dl>
    <button onClick=${showKeys}>Close</button>
  </dialog>`;
}

export function showKeys() {
  const dialog = document.getElementById("keys");
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

function Page() {
  const [at, move] = useState(place);
  const main = useRef();
  useEffect(() => {
    const changed = () => move(place());
    const keyed = (event) => {
      if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey) return;
      if (event.key === "?") showKeys();
      if (event.key !== "/" || event.target.closest("dialog")) return;
      event.preventDefault();
      document.getElementById("search")?.focus();
    };
    window.addEventListener("hashchange", changed);
    window.addEventListener("keydown", keyed);
  }, []);
  const [name] = at.path;
  const opened = useRef(at.path.join("/"));
  useEffect(() => {
    const isNew = opened.current !== at.path.join("/"); // a new view is read out, from the row that has the focus
    if (isNew && !main.current.contains(document.activeElement)) main.current.focus({ preventScroll: true });
    opened.current = at.path.join("/");
  }, [at]);
  const fresh = (event) => {
    listing = new Listing({});
    if (location.hash === event.currentTarget.hash) move(place());
  };
  const item = (label, path, current) =>
    html`<a href=${link(path)} aria-current=${current ? "page" : undefined} onClick=${fresh}>${label}</a>`;
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return html`
    <a class="skip hidden" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <a class="brand" href=${link([""])} aria-label="AgenticMemory" onClick=${fresh}>
        <${Icon} name="wave" /><span>AgenticMemory</span>
      </a>
      <nav aria-label="Main">
        ${item("Calls", [""], name !== "statistics")}${item("Statistics", ["statistics"], name === "statistics")}
      </nav>
    </header>
    <main id="main" ref=${main} tabindex="-1">
      <${View} key=${at.path.join("/")} path=${at.path} query=${at.query} />
    </main>
    <${Keys} />
  `;
}

const root = document.getElementById("page");
root.replaceChildren();
history.scrollRestoration = "manual";
render(html`<${Page} />`, root);
