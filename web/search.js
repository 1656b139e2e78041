/** What was said: the turns that have the words, newest first. A click opens the call at the turn. */

import {
  Busy,
  Dates,
  SearchBox,
  Text,
  Time,
  Trouble,
  Wrong,
  agents,
  api,
  asked,
  clock,
  contradiction,
  daysAgo,
  go,
  html,
  link,
  nameOf,
  plain,
  useEffect,
  useRef,
  useState,
} from "./app.js";
import { markedWords, roleOf } from "./transcript.js";

const ANSWERS = 40; // of the API that one search asks for: each takes 20 seconds at most
const NAMES = ["q", "role", "agent", "from", "to"];

/** The turns of one search as far as they were found. */
class Found {
  constructor(filters) {
    Object.assign(this, { key: JSON.stringify(filters), filters, hits: [], next: undefined, bytes: 0, scroll: 0 });
  }

  get ended() {
    return this.next === null;
  }

  /** Search on until something is found. An answer without hits tells only how far the search has got. */
  async more(progress, goesOn) {
    for (let answers = 0; answers < ANSWERS && !this.ended && goesOn(); answers += 1) {
      const { hits, next, searched } = await api(["search"], { ...asked(this.filters), cursor: this.next });
      this.hits.push(...hits);
      Object.assign(this, { next: next ?? null, back: searched.from, bytes: this.bytes + searched.bytes });
      for (const hit of hits) if (hit.agent_id) agents.add(hit.agent_id);
      progress();
      if (hits.length) return;
    }
  }
}

let found = new Found({});

const filtersOf = (query) =>
  Object.fromEntries(NAMES.filter((name) => query[name]).map((name) => [name, query[name]]));

export default function Said({ query }) {
  const filters = filtersOf(query);
  if (found.key !== JSON.stringify(filters)) found = new Found(filters);
  const [, redraw] = useState(0);
  const [loading, setLoading] = useState(false);
  const [error, setError] = useState(null);
  const list = found;
  const open = useRef(true);
  const wrong = contradiction(filters);
  const search = async () => {
    const isCurrent = () => open.current && list === found;
    setError(null);
    setLoading(true);
    await list.more(() => redraw(Math.random()), isCurrent).catch((problem) => isCurrent() && setError(problem));
    if (isCurrent()) setLoading(false);
  };
  useEffect(() => {
    open.current = true;
    return () => (open.current = false);
  }, []);
  useEffect(() => {
    setError(null);
    setLoading(false);
    if (!filters.q) document.getElementById("search").focus();
    if (!filters.q || wrong) return undefined;
    if (list.next === undefined) search();
    else window.scrollTo(0, list.scroll);
    if (list.opened) document.querySelector(`[data-hit="${CSS.escape(list.opened)}"]`)?.focus({ preventScroll: true });
    const remember = () => (list.scroll = window.scrollY);
    window.addEventListener("scroll", remember, { passive: true });
    return () => window.removeEventListener("scroll", remember);
  }, [list]);
  const looked = (words) => go(link(["search"], { ...filters, q: words.trim() }));
  return html`
    <h1 class="hidden">What was said</h1>
    <${SearchBox} said shown=${filters.q || ""} search=${looked} clear=${() => looked("")} filters=${filters}
      hint="Words of one turn; in quotes, if in this order" />
    <${Narrow} filters=${filters} />
    ${wrong && html`<${Wrong}>${wrong}<//>`}
    ${filters.q && !wrong && html`<${Progress} list=${list} loading=${loading} />`}
    ${list.hits.length > 0 && html`<${Hits} list=${list} />`}
    ${loading && html`<${Busy} text="Searching…" />`}
    ${error && html`<${Trouble} error=${error} again=${search} />`}
    ${!loading && !error && !wrong && html`<${End} list=${list} search=${search} />`}
  `;
}

const ROLES = { Anyone: "", Caller: "user", Agent: "agent" };
const PERIODS = { "Any time": undefined, "7 days": 6, "30 days": 29, "90 days": 89 };

/** Who said it, when, and in calls of which agent. */
function Narrow({ filters }) {
  const to = (changed) => link(["search"], { ...filters, ...changed });
  const choice = (label, href, current) =>
    html`<a class="button" aria-current=${current ? "true" : undefined} href=${href}>${label}</a>`;
  const period = ([label, days]) => {
    const from = days === undefined ? "" : daysAgo(days);
    return choice(label, to({ from, to: "" }), (filters.from || "") === from && !filters.to);
  };
  const role = ([label, id]) => choice(label, to({ role: id }), (filters.role || "") === id);
  const known = [...new Set([...agents, filters.agent].flat())].filter(Boolean).sort();
  return html`<div class="filters" role="group" aria-label="Narrow the search">
    <span class="segments" role="group" aria-label="Who said it">${Object.entries(ROLES).map(role)}</span>
    <span class="segments">${Object.entries(PERIODS).map(period)}</span>
    <${Dates} range=${filters} set=${(changed) => go(to(changed))} />
    <select aria-label="Agent" class=${filters.agent && "set"} onChange=${(event) => go(to({ agent: event.target.value }))}>
      <option value="">Any agent</option>
      ${known.map((id) => html`<option value=${id} selected=${filters.agent === id}>${id}</option>`)}
    </select>
  </div>`;
}

/** How much was found, and what was searched for it. */
function Progress({ list, loading }) {
  const count = list.hits.length;
  const turns = `${count || "No"} ${count === 1 ? "turn" : "turns"}`;
  const back = list.back && html`, searched back to <${Time} at=${list.back} />, ${sizeOf(list.bytes)} read`;
  return html`<p class="bar muted small" role="status">
    <span>${loading && !count ? "Searching" : turns}${back}${loading ? "…" : ""}</span>
  </p>`;
}

function sizeOf(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const [size, unit] = bytes < 1e6 ? [bytes / 1e3, "KB"] : bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${unit}`;
}

function Hits({ list }) {
  return html`<ol class="hits">
    ${list.hits.map((hit) => html`<${Hit} key=${`${hit.conversation_id}:${hit.index}`} hit=${hit} list=${list} />`)}
  </ol>`;
}

function Hit({ hit, list }) {
  const key = `${hit.conversation_id}:${hit.index}`;
  const href = link(["calls", hit.conversation_id], { ...list.filters, at: hit.at_secs, turn: hit.index });
  const role = roleOf(hit.role);
  return html`<li class=${`hit ${hit.role === "agent" ? "agent" : ""}`}>
    <p class="about muted small">
      ${role && html`<span class="role"><${Text}>${role}<//></span>`}
      ${hit.at_secs !== null && html`<span>at ${clock(hit.at_secs)}</span>`}
      <${Time} at=${hit.started_at} />
      <${Text}>${hit.caller || "No number"}<//>
      <span class="name"><${Text}>${nameOf(hit)}<//></span>
    </p>
    <a href=${href} data-hit=${key} onClick=${() => (list.opened = key)}>
      ${
        hit.message === null
          ? html`<p class="muted">${plain(hit.reason)}</p>`
          : html`<p dir="auto">${markedWords(hit.message, list.filters.q)}</p>`
      }
    </a>
  </li>`;
}

/** What stands below the turns: how to go on, or why there are none. */
function End({ list, search }) {
  const { q } = list.filters;
  const isNarrow = Object.keys(list.filters).length > 1;
  if (!q)
    return html`<div class="notice empty">
      <h3>Find what was said</h3>
      <p class="muted">
        Type words of one turn, such as <b>refund blender</b>. Case and accents do not matter, and the beginning of a word
        is enough. Put words into quotes if they must follow each other.
      </p>
    </div>`;
  if (list.next === undefined) return null;
  if (!list.ended)
    return html`<div class="more">
      <button onClick=${search}>Search older</button>
      <span class="muted small">
        ${list.hits.length ? "There may be older turns." : html`Nothing found since <${Time} at=${list.back} />.`}
      </span>
    </div>`;
  if (list.hits.length) return html`<p class="more muted small">All calls of this time were searched.</p>`;
  return html`<div class="notice empty">
    <h3>Nobody said this</h3>
    <p class="muted">
      A turn must have all the words. Try fewer or other words${isNarrow ? ", or more time" : ""}. A call is found some
      minutes after it ends.
    </p>
    ${isNarrow && html`<a class="button" href=${link(["search"], { q })}>Search all calls</a>`}
  </div>`;
}
