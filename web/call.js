/** A call: its transcript beside its recording, and what is known of it. */

import {
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
  isNumber,
  link,
  listingOf,
  nameOf,
  plain,
  useEffect,
  useLoaded,
  useMemo,
  useRef,
  useState,
} from "./app.js";
import { Details } from "./details.js";
import { Player, usePlayer } from "./player.js";
import { Turns, marked, markedWords, readable, wordsOf } from "./transcript.js";

export default function Call({ id, query }) {
  const call = useLoaded(() => api(["calls", id]), id);
  const transcript = useLoaded(() => api(["calls", id, "transcript"]), id);
  useEffect(() => window.scrollTo(0, 0), []);
  const filters = query.q ? foundBy(query) : filtersIn(query);
  const body = call.error
    ? html`<${Trouble} error=${call.error} again=${call.error.status === 404 ? undefined : call.again} />`
    : call.value && (transcript.value || transcript.error)
      ? html`<${Opened} call=${call.value} transcript=${transcript} filters=${filters} at=${query.at}
          turn=${query.turn} />`
      : html`<${Busy} />`;
  const above = query.q ? html`<${Back} filters=${filters} />` : html`<${Neighbours} id=${id} filters=${filters}
    unknown=${call.error?.status === 404} />`;
  return html`${above}${body}`;
}

/** The search that found a turn of the call. */
const foundBy = ({ q, role, agent, from, to }) => ({ q, role, agent, from, to });

/** The way back to the search. */
function Back({ filters }) {
  const href = link(["search"], filters);
  useKeys({ Escape: () => go(href) });
  return html`<div class="head">
    <a class="button quiet" href=${href}><${Icon} name="left" />What was said</a>
  </div>`;
}

/** The way back to the list, and along it. */
function Neighbours({ id, filters, unknown }) {
  const [note, setNote] = useState("");
  const [end, setEnd] = useState(0); // the step that led nowhere
  const list = listingOf(filters);
  const ends = (step) => unknown || end === step || list.ends(id, step);
  const walk = async (step) => {
    if (unknown) return;
    setNote("Looking…");
    const found = await list
      .neighbour(id, step)
      .catch((problem) => setNote(problem.message) || false);
    if (found === null) setNote(step < 0 ? "No newer call in this list" : "No older call in this list");
    if (found === null) setEnd(step);
    if (found === undefined) setNote("This call is not in the newest part of this list");
    if (found) go(link(["calls", found.conversation_id], filters));
  };
  useEffect(() => void (list.opened = id), [list, id]);
  useKeys({ n: () => walk(1), p: () => walk(-1), Escape: () => go(link([""], filters)) });
  const back = Object.keys(filters).length ? "Filtered calls" : "Calls";
  return html`<div class="head">
    <a class="button quiet" href=${link([""], filters)}><${Icon} name="left" />${back}</a>
    <span class="small muted" role="status">${note}</span>
    <button title="Newer call (p)" aria-label="Newer call" disabled=${ends(-1)} onClick=${() => walk(-1)}>
      <${Icon} name="left" /><span>Newer</span>
    </button>
    <button title="Older call (n)" aria-label="Older call" disabled=${ends(1)} onClick=${() => walk(1)}>
      <span>Older</span><${Icon} name="right" />
    </button>
  </div>`;
}

const NO_AUDIO = {
  pending: "The recording has not arrived yet.",
  unavailable: "The recording could not be fetched.",
  none: "This call was not recorded.",
};

function Opened({ call, transcript, filters, at, turn }) {
  const id = call.conversation_id;
  const turns = useMemo(() => readable(transcript.value?.turns || []), [transcript.value]);
  const words = useMemo(() => wordsOf(filters.text), [filters.text]);
  const { q } = filters;
  const mark = useMemo(() => (text) => (q ? markedWords(text, q) : marked(text, words)), [q, words]);
  const audible = call.audio === "archived" && call.may?.hear !== false;
  const total = Math.max(call.duration_secs || 0, turns.at(-1)?.at_secs || 0);
  const position = { clock: useRef(), strip: useRef(), line: useRef() };
  const list = useRef();
  const follow = useFollowing(list);
  const [trouble, setTrouble] = useState(null);
  const player = usePlayer(id, audible, (seconds) => {
    show(position, seconds, total);
    follow.mark(turnAt(turns, seconds, follow.current()), player.playing);
  });
  const jump = (index, { play = false } = {}) => {
    if (!turns[index]) return;
    follow.start();
    follow.mark(index, true);
    player.seek(turns[index].at_secs);
    if (play && audible) player.play();
    go(link(["calls", id], { ...filters, at: turns[index].at_secs }), { replace: true });
  };
  const download = (kind) => () => api(["calls", id, kind], { download: 1 }).then(({ url }) => visit(url), setTrouble);
  const copy = () => {
    const at = Math.floor(player.seconds()) || "";
    return navigator.clipboard.writeText(`${location.origin}${location.pathname}${link(["calls", id], { at })}`);
  };
  useEffect(() => {
    if (at === undefined && turn === undefined) list.current.querySelector(".turn:has(mark)")?.scrollIntoView({ block: "nearest" });
    const named = turn === undefined ? -1 : turns.findIndex((each) => each.index === Number(turn));
    const index = named < 0 && at !== undefined ? turnAt(turns, Number(at), -1) : named;
    if (index < 0) return;
    follow.mark(index, true);
    player.seek(Number(at ?? turns[index].at_secs));
  }, []);
  useKeys({
    " ": () => audible && player.toggle(),
    ArrowLeft: () => player.seek(player.seconds() - 5),
    ArrowRight: () => player.seek(Math.min(player.seconds() + 5, total)),
    j: () => jump(follow.current() + 1),
    k: () => jump(follow.current() - 1),
  });
  const note =
    call.audio === "archived" ? "You may not hear recordings." : NO_AUDIO[call.audio] || "There is no recording.";
  const jumping = useRef();
  jumping.current = jump;
  const href = (secs) => link(["calls", id], { ...filters, at: secs });
  return html`<article>
    <${Heading} call=${call} words=${words} />
    ${
      call.summary &&
      html`<details class="brief">
        <summary>Summary</summary>
        <p dir="auto">${marked(call.summary, words)}</p>
      </details>`
    }
    <${Player} player=${player} audible=${audible} note=${note} turns=${turns} total=${total} position=${position}
      download=${download("audio")} copy=${copy} />
    ${trouble && html`<${Trouble} error=${trouble} />`}
    <div class="call-page">
      <section aria-label="Transcript" ref=${list}>
        ${
          transcript.value?.source === "transcribe" &&
          html`<p class="small muted">Transcribed by Amazon Transcribe, from the recording.</p>`
        }
        ${
          transcript.error
            ? html`<${Trouble} error=${transcript.error} again=${transcript.again} />`
            : html`<${Turns} turns=${turns} href=${href} jumping=${jumping} completeness=${call.completeness}
                audible=${audible} mark=${mark} />`
        }
      </section>
      <${Details} call=${call} download=${download} words=${words} />
    </div>
    ${
      follow.lost &&
      player.playing &&
      html`<button class="follow" onClick=${follow.start}><${Icon} name="down" />Follow the recording</button>`
    }
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
      if (document.querySelector("dialog[open]")) return;
      event.preventDefault();
      act();
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, []);
}

/** Follow an address that the API signed; what is no web address is none of its. */
function visit(url) {
  const { protocol } = new URL(url, location.href);
  if (protocol.startsWith("http")) Object.assign(document.createElement("a"), { href: url }).click();
}

function Heading({ call, words }) {
  const title = nameOf(call);
  useEffect(() => void (document.title = `${plain(title)} · AgenticMemory`), [title]);
  const caller = html`<${Text}>${call.caller || "No number"}<//>`;
  const about = link(["callers", call.caller || ""]);
  return html`<header>
    <h1><bdi>${marked(title, words)}</bdi></h1>
    <div class="facts">
      ${isNumber(call.caller) ? html`<a class="link" href=${about} title="About this caller">${caller}</a>` : caller}
      <${Time} at=${call.started_at} />
      <span>${clock(call.duration_secs)}</span>
      ${call.outcome && html`<${Outcome} value=${call.outcome} />`}
      <a href=${link([""], { agent: call.agent_id })} title="Calls of this agent">${call.agent_id}</a>
      ${call.direction && html`<${Text}>${call.direction}<//>`}
      ${call.language && html`<${Text}>${call.language}<//>`}
    </div>
  </header>`;
}
