/** A transcript: turns, what was interrupted, and the tools that were called. */

import { Text, clock, html, plain, useMemo } from "./app.js";

/** The turns that are shown, each with its `tools`. One that holds only results of tools called earlier is not among them:
 *  its results stand with the calls. */
export function readable(turns) {
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

export const wordsOf = (text) => String(text ?? "").split(/\s+/).filter(Boolean);

/** Text of others in which `words` are marked. */
export function marked(text, words) {
  if (!words.length) return plain(text);
  const pattern = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
  return plain(text)
    .split(new RegExp(`(${pattern})`, "gi"))
    .map((part, place) => (place % 2 ? html`<mark>${part}</mark>` : part));
}

const WORD = /[\p{L}\p{M}\p{N}]+/gu;
const UNSPACED = /[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]/;

/** A text as the search compares it: without case and accents. */
const folded = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase().replace(/ß/g, "ss");

/** Text of others in which the words that a search for `query` found are marked: those that begin so. */
export function markedWords(text, query) {
  const wanted = (folded(String(query ?? "")).match(WORD) || []).map((word) => word.normalize("NFC"));
  const isMarked = (word) => {
    const seen = folded(word).normalize("NFC");
    const fits = (each) => (UNSPACED.test(each) ? seen.includes(each) : seen.startsWith(each));
    return wanted.some((each) => (each.length === 1 && !UNSPACED.test(each) ? seen === each : fits(each)));
  };
  return plain(text)
    .split(/([\p{L}\p{M}\p{N}]+)/u)
    .map((part, place) => (place % 2 && isMarked(part) ? html`<mark>${part}</mark>` : part));
}

/** All turns. They are made once: which one is heard is marked in the page itself, since an hour has 800 of them. */
export function Turns({ turns, href, jumping, completeness, audible, mark }) {
  return useMemo(() => {
    if (!turns.length)
      return html`<div class="notice">
        <h3>No words</h3>
        <p>${plain(completeness?.explanation) || "Nothing was said, or the transcript is not here."}</p>
      </div>`;
    return html`<ol class="turns">
      ${turns.map((turn, index) => html`<${Turn} key=${index} ...${{ turn, index, href, jumping, audible, mark }} />`)}
    </ol>`;
  }, [turns, audible, mark]);
}

/** Whether a turn is the caller's, or the second speaker's in a recording that Amazon Transcribe heard. */
export const isSecond = (role) => role === "user" || role === "speaker_1";

/** A role as people read it. `speaker_0` is "Speaker 1": nobody knows whether it is the agent. */
export function roleOf(role) {
  const speaker = /^speaker_(\d{1,2})$/.exec(role);
  return { agent: "Agent", user: "Caller" }[role] || (speaker ? `Speaker ${Number(speaker[1]) + 1}` : role);
}

function Turn({ turn, index, href, jumping, audible, mark }) {
  const role = roleOf(turn.role);
  const pressed = (event) => {
    const other = event.target.closest("details") || event.ctrlKey || event.metaKey || event.shiftKey;
    if (other || String(getSelection())) return; // a click in a fold or for a new tab, or the end of a selection
    event.preventDefault();
    jumping.current(index, { play: true });
  };
  return html`<li class=${`turn ${isSecond(turn.role) ? "user" : "agent"}`} data-turn=${index} onClick=${pressed}>
    <a href=${href(turn.at_secs)} title=${audible ? "Play from here" : "Jump here"}>
      <time>${clock(turn.at_secs)}</time>
    </a>
    <span class="role"><${Text}>${role}<//></span>
    <div class="said">
      ${turn.message && html`<p dir="auto">${mark(turn.message)}</p>`}
      ${turn.interrupted && html`<${Interrupted} turn=${turn} />`}
      ${turn.tools.map((tool, place) => html`<${Tool} key=${place} call=${tool} result=${tool.result} />`)}
    </div>
  </li>`;
}

function Interrupted({ turn }) {
  const tag = html`<span class="tag">Interrupted</span>`;
  if (!turn.original_message || turn.original_message === turn.message) return tag;
  return html`<details>
    <summary>${tag} The caller heard the text above. Show the whole sentence</summary>
    <p dir="auto" class="muted">${plain(turn.original_message)}</p>
  </details>`;
}

function Tool({ call, result }) {
  const state = !result ? ["none", "no result"] : result.is_error ? ["bad", "failed"] : null;
  const took = typeof result?.latency_secs === "number" ? `${result.latency_secs} s` : "";
  return html`<details class="tool">
    <summary>
      Tool <b><${Text}>${call.name}<//></b>
      ${state && html`<span class=${`dot ${state[0]}`}>${state[1]}</span>`} <span>${took}</span>
    </summary>
    <div>
      ${call.arguments !== undefined && html`<h4>Arguments</h4><pre dir="auto">${plain(written(call.arguments))}</pre>`}
      ${
        result &&
        html`<h4>Result ${result.error_type && html`(<${Text}>${result.error_type}<//>)`}</h4>
          <pre dir="auto">${plain(written(result.result))}</pre>`
      }
    </div>
  </details>`;
}

/** A value as text. An object or a list in JSON is indented, unless that would change a number in it (2.50, 1e3). */
export function written(value) {
  if (typeof value !== "string") return JSON.stringify(value, null, 2) ?? "–";
  const numbers = value.replace(/"(?:\\.|[^"\\])*"/g, "").match(/-?\d[\d.eE+-]*/g) || [];
  if (!/^\s*[{[]/.test(value) || numbers.some((number) => String(Number(number)) !== number)) return value;
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}
