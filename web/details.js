/** What is known of a call: whether all of it is here, how it was judged, what was remembered. */

import { Audio, Icon, None, Outcome, Text, Time, html, plain } from "./app.js";
import { marked, written } from "./transcript.js";

export function Details({ call, download, words }) {
  const save = (kind, label) => html`<button onClick=${download(kind)}><${Icon} name="down" />${label}</button>`;
  const value = (each) =>
    (each.value ?? "") === "" ? html`<${None} why="No value" />` : html`<${Text}>${written(each.value)}<//>`;
  const cost = typeof call.cost === "number" ? `${call.cost} credits` : html`<${None} why="Not known" />`;
  const result = (each) => html`<${Outcome} value=${each.result} />`;
  const others = (call.files || []).filter((file) => !["json", "mp3"].includes(file.kind));
  return html`<aside aria-label="About this call">
    ${
      call.summary &&
      html`<section class="summary"><h2>Summary</h2><p dir="auto">${marked(call.summary, words)}</p></section>`
    }
    <${Complete} call=${call} />
    <${Judged} title="Evaluation" items=${call.evaluation} value=${result} />
    <${Judged} title="Collected data" items=${call.collected} value=${value} />
    <${Remembered} memories=${call.memories || []} />
    <section>
      <h2>Details</h2>
      <dl class="pairs">
        <dt>Cost</dt><dd>${cost}</dd>
        <dt>Ended</dt><dd><${Text}>${call.termination_reason || "–"}<//></dd>
        <dt>Status</dt><dd><${Text}>${call.status || "–"}<//></dd>
        <dt>Archived</dt><dd><${Time} at=${call.archived_at} /></dd>
        <dt>Id</dt><dd class="mono">${call.conversation_id}</dd>
      </dl>
    </section>
    <section>
      <h2>Files</h2>
      <p class="stack">
        ${call.may?.numbers !== false && save("json", "Call as JSON")}
        ${call.audio === "archived" && call.may?.hear !== false && save("audio", "Recording, MP3")}
      </p>
      <ul class="muted small">${others.map((file) => html`<li><${Text}>${file.name}<//></li>`)}</ul>
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
    ${items.map(
      (each) => html`<li>
      <b><${Text}>${each.name || each.id}<//></b> ${value(each)}
      ${each.rationale && html`<p dir="auto">${plain(each.rationale)}</p>`}
    </li>`,
    )}
  </ul></section>`;
}

const MEMORY = { factual: "Facts", semantic: "Conversation" };
const STATES = {
  done: ["good", "Remembered"], sent: ["pending", "Sent, not confirmed yet"], sending: ["pending", "Being sent"],
  idle: ["pending", "Waiting for the next attempt"], none: ["none", "Nothing yet"],
}; // prettier-ignore

function Remembered({ memories }) {
  return html`<section>
    <h2>What was remembered</h2>
    ${
      memories.length
        ? html`<ul class="judged">${memories.map((each) => html`<${Receipt} key=${each.type} memory=${each} />`)}</ul>`
        : html`<p class="muted">Nothing was sent to Mem0.</p>`
    }
  </section>`;
}

function Receipt({ memory }) {
  const [dot, text] = STATES[memory.state] || ["none", memory.state];
  const made = memory.memory_ids || [];
  const count = memory.count ?? made.length;
  const reason = memory.reason ? `${String(memory.reason).replaceAll("_", " ")}, ` : "";
  const at = memory.at && html`, <${Time} at=${memory.at} />`;
  const told = html`<p><${Text}>${reason}<//>${count} ${count === 1 ? "memory" : "memories"}${at}</p>`;
  return html`<li>
    <b>${MEMORY[memory.type] || memory.type}</b> <span class=${`dot ${dot}`}>${text}</span>
    ${memory.state !== "none" && told}
    ${
      made.length > 0 &&
      html`<details>
        <summary>Receipt</summary>
        <ul class="mono">${made.map((each) => html`<li><${Text}>${each}<//></li>`)}</ul>
      </details>`
    }
  </li>`;
}
