/** A call: its transcript beside its recording, and what is known of it. */

import {
  Audio,
  Busy,
  Icon,
  Outcome,
  Text,
  Time,
  Trouble,
  api,
  clock,
  filtersIn,
  go,
  html,
  link,
  listingOf,
  plain,
  useEffect,
  useLoaded,
  useMemo,
  useRef,
  useState,
} from "./app.js";
import { Player, usePlayer } from "./player.js";

export default function Call({ id, query }) {
  const call = useLoaded(() => api(["calls", id]), id);
  const transcript = useLoaded(() => api(["calls", id, "transcript"]), id);
  useEffect(() => window.scrollTo(0, 0), []);
  const filters = filtersIn(query);
  const body = call.error
    ? html`<${Trouble} error=${call.error} again=${call.error.status === 404 ? undefined : call.again} />`
    : call.value && (transcript.value || transcript.error)
      ? html`<${Opened} call=${call.value} transcript=${transcript} filters=${filters} at=${query.at} />`
      : html`<${Busy} />`;
  return html`<${Neighbours} id=${id} filters=${filters} />${body}`;
}

/** The way back to the list, and along it. */
function Neighbours({ id, filters }) {
  const [note, setNote] = useState("");
  const walk = async (step) => {
    setNote("Looking…");
    const found = await listingOf(filters)
      .neighbour(id, step)
      .catch((problem) => setNote(problem.title));
    if (found === null) setNote(step < 0 ? "No newer call in this list" : "No older call in this list");
    if (found) go(link(["calls", found.conversation_id], filters));
  };
  useKeys({ n: () => walk(1), p: () => walk(-1) });
  return html`<div class="head">
    <a class="button quiet" href=${link([""], filters)}><${Icon} name="left" />${Object.keys(filters).length ? "Filtered calls" : "Calls"}</a>
    <span class="small muted" role="status">${note}</span>
    <button title="Newer call (p)" aria-label="Newer call" onClick=${() => walk(-1)}><${Icon} name="left" /><span>Newer</span></button>
    <button title="Older call (n)" aria-label="Older call" onClick=${() => walk(1)}><span>Older</span><${Icon} name="right" /></button>
  </div>`;
}

const NO_AUDIO = {
  pending: "The recording has not arrived yet.",
  unavailable: "The recording could not be fetched.",
  none: "This call was not recorded.",
};

function Opened({ call, transcript, filters, at }) {
  const id = call.conversation_id;
  const turns = useMemo(() => readable(transcript.value?.turns || []), [transcript.value]);
  const audible = call.audio === "archived" && call.may?.hear !== false;
  const total = Math.max(call.duration_secs || 0, turns.at(-1)?.at_secs || 0);
  const position = { clock: useRef(), strip: useRef(), line: useRef() };
  const list = useRef();
  const dialog = useRef();
  const follow = useFollowing(list);
  const [trouble, setTrouble] = useState(null);
  const player = usePlayer(id, audible, (seconds) => {
    show(position, seconds, total);
    follow.mark(turnAt(turns, seconds, follow.current()), player.playing);
  });
  const jump = (index) => {
    if (!turns[index]) return;
    follow.start();
    follow.mark(index, true);
    player.seek(turns[index].at_secs);
    go(link(["calls", id], { ...filters, at: turns[index].at_secs }), { replace: true });
  };
  const download = (kind) => () => api(["calls", id, kind], { download: 1 }).then(({ url }) => visit(url), setTrouble);
  const keys = () => (dialog.current.open ? dialog.current.close() : dialog.current.showModal());
  useEffect(() => {
    const index = at === undefined ? -1 : turnAt(turns, Number(at), -1);
    if (index < 0) return;
    follow.mark(index, true);
    player.seek(Number(at));
  }, []);
  useKeys({
    " ": () => audible && player.toggle(),
    ArrowLeft: () => player.seek(player.seconds() - 5),
    ArrowRight: () => player.seek(Math.min(player.seconds() + 5, total)),
    j: () => jump(follow.current() + 1),
    k: () => jump(follow.current() - 1),
    "?": keys,
  });
  const note =
    call.audio === "archived" ? "You may not hear recordings." : NO_AUDIO[call.audio] || "There is no recording.";
  const jumping = useRef();
  jumping.current = jump;
  return html`<article>
    <${Heading} call=${call} />
    ${(audible || turns.length > 0 || call.audio !== "none") && html`<${Player} player=${player} audible=${audible} note=${note} turns=${turns} total=${total} position=${position} download=${download("audio")} keys=${keys} />`}
    ${trouble && html`<${Trouble} error=${trouble} />`}
    <div class="call-page">
      <section aria-label="Transcript" ref=${list}>
        ${
          transcript.error
            ? html`<${Trouble} error=${transcript.error} again=${transcript.again} />`
            : html`<${Turns} turns=${turns} href=${(secs) => link(["calls", id], { ...filters, at: secs })} jumping=${jumping} completeness=${call.completeness} />`
        }
      </section>
      <${Details} call=${call} download=${download} />
    </div>
    ${follow.lost && player.playing && html`<button class="follow" onClick=${follow.start}><${Icon} name="down" />Follow the recording</button>`}
    <${Keys} dialog=${dialog} />
  </article>`;
}

/** Show `seconds` without drawing the page again: this runs with every frame. */
function show({ clock: text, strip, line }, seconds, total) {
  const written = clock(seconds);
  if (text.current && text.current.textContent !== written) {
    text.current.textContent = written;
    strip.current?.setAttribute("aria-valuenow", Math.floor(seconds));
    strip.current?.setAttribute("aria-valuetext", written);
  }
  if (line.current) line.current.style.left = `${Math.min(100, (seconds / (total || 1)) * 100)}%`;
}

/** The turn that is heard at `seconds`: the last that began. Of several that began together it stays at `current`. */
function turnAt(turns, seconds, current) {
  let [low, high] = [0, turns.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (turns[middle].at_secs <= seconds + 0.01) low = middle + 1;
    else high = middle;
  }
  return turns[current]?.at_secs === turns[low - 1]?.at_secs ? current : low - 1;
}

/** Mark the turn that is heard and keep it in view, until the reader scrolls away. */
function useFollowing(list) {
  const self = useRef({ index: -1, following: true }).current;
  const [lost, setLost] = useState(false);
  const element = () => list.current?.querySelector(`[data-turn="${self.index}"]`);
  const reveal = () => {
    const far = Math.abs((element()?.getBoundingClientRect().top ?? 0) - innerHeight / 2) > innerHeight * 1.5;
    const calm = far || matchMedia("(prefers-reduced-motion: reduce)").matches;
    element()?.scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
  };
  useEffect(() => {
    const leave = (event) => {
      if (event.type === "keydown" && !/^(Page|Home|End|Arrow(Up|Down))/.test(event.key)) return;
      if (event.type === "pointerdown" && event.target !== document.documentElement) return;
      self.following = false;
      setLost(true);
    };
    const kinds = ["wheel", "touchmove", "keydown", "pointerdown"]; // a press on the scroll bar is one on the document
    for (const kind of kinds) window.addEventListener(kind, leave, { passive: true });
    return () => kinds.forEach((kind) => window.removeEventListener(kind, leave));
  }, []);
  return {
    lost,
    current: () => self.index,
    mark: (index, moving) => {
      if (index === self.index) return;
      element()?.removeAttribute("aria-current");
      self.index = index;
      element()?.setAttribute("aria-current", "true");
      if (self.following && moving) reveal();
    },
    start: () => {
      self.following = true;
      setLost(false);
      reveal();
    },
  };
}

/** Keys of the whole page, except while something is typed. */
function useKeys(keys) {
  const latest = useRef();
  latest.current = keys;
  useEffect(() => {
    const pressed = (event) => {
      const act = latest.current[event.key];
      const typing =
        event.target.closest?.("input, textarea, select") ||
        (event.key === " " && event.target.closest?.("button, summary"));
      if (!act || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (document.querySelector("dialog[open]") && event.key !== "?") return;
      event.preventDefault();
      act();
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, []);
}

function visit(url) {
  if (new URL(url, location.href).protocol.startsWith("http"))
    Object.assign(document.createElement("a"), { href: url, rel: "noreferrer" }).click();
}

function Heading({ call }) {
  useEffect(() => void (document.title = `${plain(call.title || call.conversation_id)} · AgenticMemory`), [call]);
  const known = call.caller && !call.caller.includes("…");
  return html`<header>
    <h1><${Text}>${call.title || call.conversation_id}<//></h1>
    <div class="facts">
      ${known ? html`<a class="link" href=${link(["callers", call.caller])} title="All calls of this caller"><${Text}>${call.caller}<//></a>` : html`<span><${Text}>${call.caller || "No number"}<//></span>`}
      <${Time} at=${call.started_at} />
      <span>${clock(call.duration_secs)}</span>
      ${call.outcome && html`<${Outcome} value=${call.outcome} />`}
      <a href=${link([""], { agent: call.agent_id })} title="Calls of this agent">${call.agent_id}</a>
      ${call.direction && html`<span><${Text}>${call.direction}<//></span>`}
      ${call.language && html`<span><${Text}>${call.language}<//></span>`}
    </div>
  </header>`;
}

// ------------------------------------------------------------------ the transcript

/** The turns that are shown, each with its `tools`. A turn that holds only results of tools called earlier has nothing to
 *  show: they stand with the call of the tool. */
function readable(turns) {
  const calls = new Set(turns.flatMap((turn) => (turn.tool_calls || []).map((call) => call.id)));
  const results = new Map(turns.flatMap((turn) => (turn.tool_results || []).map((result) => [result.id, result])));
  let at = 0; // of a turn without a time: that of the turn before it
  return turns
    .map((turn) => ({
      ...turn,
      at_secs: (at = turn.at_secs ?? at),
      tools: [
        ...(turn.tool_calls || []).map((call) => ({ ...call, result: results.get(call.id) })),
        ...(turn.tool_results || [])
          .filter((result) => !calls.has(result.id))
          .map((result) => ({ name: result.name, result })),
      ],
    }))
    .filter((turn) => turn.message || turn.tools.length);
}

/** All turns. They are made once: which one is heard is marked in the page itself, since an hour has 800 of them. */
function Turns({ turns, href, jumping, completeness }) {
  return useMemo(() => {
    if (!turns.length)
      return html`<div class="notice"><h3>No words</h3><p>${plain(completeness?.explanation) || "Nothing was said, or the transcript is not here."}</p></div>`;
    return html`<ol class="turns">${turns.map((turn, index) => html`<${Turn} key=${index} turn=${turn} index=${index} href=${href} jumping=${jumping} />`)}</ol>`;
  }, [turns]);
}

function Turn({ turn, index, href, jumping }) {
  const role = { agent: "Agent", user: "Caller" }[turn.role] || turn.role;
  const pressed = (event) => {
    if (event.target.closest("details") || String(getSelection()) || event.ctrlKey || event.metaKey || event.shiftKey)
      return;
    event.preventDefault();
    jumping.current(index);
  };
  return html`<li class=${`turn ${turn.role === "user" ? "user" : "agent"}`} data-turn=${index} onClick=${pressed}>
    <a href=${href(turn.at_secs)} title="Jump here"><time>${clock(turn.at_secs)}</time></a>
    <span class="role"><${Text}>${role}<//></span>
    <div class="said">
      ${turn.message && html`<p dir="auto">${plain(turn.message)}</p>`}
      ${turn.interrupted && html`<${Interrupted} turn=${turn} />`}
      ${turn.tools.map((tool, place) => html`<${Tool} key=${place} call=${tool} result=${tool.result} />`)}
    </div>
  </li>`;
}

function Interrupted({ turn }) {
  if (!turn.original_message || turn.original_message === turn.message)
    return html`<span class="tag">Interrupted</span>`;
  return html`<details><summary><span class="tag">Interrupted</span> The caller heard the text above. Show the whole sentence</summary><p dir="auto" class="muted">${plain(turn.original_message)}</p></details>`;
}

function Tool({ call, result }) {
  const state = !result ? "no result" : result.is_error ? "failed" : "";
  const took = typeof result?.latency_secs === "number" ? `${result.latency_secs} s` : "";
  return html`<details class="tool">
    <summary>Tool <b><${Text}>${call.name}<//></b> ${state && html`<span class=${`dot ${result ? "bad" : "none"}`}>${state}</span>`} <span>${took}</span></summary>
    <div>
      ${call.arguments !== undefined && html`<h4>Arguments</h4><pre dir="auto">${plain(written(call.arguments))}</pre>`}
      ${result && html`<h4>Result${result.error_type ? html`, <${Text}>${result.error_type}<//>` : ""}</h4><pre dir="auto">${plain(written(result.result))}</pre>`}
    </div>
  </details>`;
}

/** A value as text; JSON indented. */
function written(value) {
  if (typeof value !== "string") return JSON.stringify(value, null, 2) ?? "–";
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}

// ------------------------------------------------------------------ what is known of the call

function Details({ call, download }) {
  return html`<aside aria-label="About this call">
    ${call.summary && html`<section><h2>Summary</h2><p dir="auto">${plain(call.summary)}</p></section>`}
    <${Complete} call=${call} />
    <${Judged} title="Evaluation" items=${call.evaluation} value=${(each) => html`<${Outcome} value=${each.result} />`} />
    <${Judged} title="Collected data" items=${call.collected} value=${(each) => html`<${Text}>${each.value === null || each.value === undefined ? "–" : written(each.value)}<//>`} />
    <${Remembered} memories=${call.memories || []} />
    <section>
      <h2>Details</h2>
      <dl class="pairs">
        <dt>Cost</dt><dd>${call.cost ?? "–"}</dd>
        <dt>Ended</dt><dd><${Text}>${call.termination_reason || "–"}<//></dd>
        <dt>Status</dt><dd><${Text}>${call.status || "–"}<//></dd>
        <dt>Archived</dt><dd><${Time} at=${call.archived_at} /></dd>
        <dt>Id</dt><dd class="mono">${call.conversation_id}</dd>
      </dl>
    </section>
    <section>
      <h2>Files</h2>
      <p class="stack">
        ${call.may?.numbers !== false && html`<button onClick=${download("json")}><${Icon} name="down" />Call as JSON</button>`}
        ${call.audio === "archived" && call.may?.hear !== false && html`<button onClick=${download("audio")}><${Icon} name="down" />Recording, MP3</button>`}
      </p>
      <ul class="muted small">${(call.files || []).filter((file) => file.kind === "event").map((file) => html`<li><${Text}>${file.name}<//></li>`)}</ul>
    </section>
  </aside>`;
}

const TRANSCRIPT = {
  webhook: ["good", "By webhook"],
  fetched: ["good", "Fetched from ElevenLabs"],
  missing: ["bad", "Missing"],
};

function Complete({ call }) {
  const { completeness: whole } = call;
  if (!whole) return null;
  const [dot, text] = TRANSCRIPT[whole.transcript] || ["none", whole.transcript];
  return html`<section>
    <h2>Is all of it here?</h2>
    <h3 class=${`dot ${whole.is_complete ? "good" : "pending"}`}>${whole.is_complete ? "Yes" : "Not all of it"}</h3>
    <p class="muted">${whole.explanation}</p>
    <dl class="pairs">
      <dt>Transcript</dt><dd><span class=${`dot ${dot}`}>${text}</span><${Reason}>${whole.missing_reason}<//></dd>
      <dt>Audio</dt><dd><${Audio} value=${whole.audio} /><${Reason}>${whole.audio_reason}<//></dd>
    </dl>
  </section>`;
}

const Reason = ({ children }) => html`<p class="muted"><${Text}>${children}<//></p>`;

function Judged({ title, items, value }) {
  if (!items?.length) return null;
  return html`<section><h2>${title}</h2><ul class="judged">
    ${items.map((each) => html`<li><b><${Text}>${each.name || each.id}<//></b> ${value(each)}${each.rationale && html`<p dir="auto">${plain(each.rationale)}</p>`}</li>`)}
  </ul></section>`;
}

const MEMORY = { factual: "Facts", semantic: "Conversation" };
const STATES = {
  done: ["good", "Remembered"], sent: ["pending", "Sent, not confirmed yet"], sending: ["pending", "Being sent"],
  idle: ["pending", "Waiting for the next attempt"], none: ["none", "Nothing yet"],
}; // prettier-ignore

function Remembered({ memories }) {
  return html`<section><h2>What was remembered</h2>${memories.length ? html`<ul class="judged">${memories.map((each) => html`<${Receipt} key=${each.type} memory=${each} />`)}</ul>` : html`<p class="muted">Nothing was sent to Mem0.</p>`}</section>`;
}

function Receipt({ memory }) {
  const [dot, text] = STATES[memory.state] || ["none", memory.state];
  const made = memory.memory_ids || [];
  return html`<li>
    <b>${MEMORY[memory.type] || memory.type}</b> <span class=${`dot ${dot}`}>${text}</span>
    ${memory.state !== "none" && html`<p>${memory.reason && html`<${Text}>${String(memory.reason).replaceAll("_", " ")}<//>, `}${memory.count ?? made.length} ${(memory.count ?? made.length) === 1 ? "memory" : "memories"}${memory.at && html`, <${Time} at=${memory.at} />`}</p>`}
    ${made.length > 0 && html`<details><summary>Receipt</summary><ul class="mono">${made.map((each) => html`<li>${each}</li>`)}</ul></details>`}
  </li>`;
}

const HELP = [["Space", "Play or pause"], ["← →", "5 seconds back or on"], ["j k", "Next or previous turn"], ["n p", "Older or newer call"], ["/", "Search, in the list"], ["?", "Show or hide this"]]; // prettier-ignore

const Keys = ({ dialog }) => html`<dialog ref=${dialog} aria-labelledby="keys">
  <h3 id="keys">Keys</h3>
  <dl>${HELP.map(([keys, does]) => html`<dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${does}</dd>`)}</dl>
  <button onClick=${() => dialog.current.close()}>Close</button>
</dialog>`;
