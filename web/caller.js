/** A caller: what Mem0 remembers of them, and all their calls. */

import {
  Busy,
  CallTable,
  Icon,
  Text,
  Time,
  Trouble,
  api,
  exportCalls,
  html,
  link,
  plain,
  useEffect,
  useLoaded,
  useState,
} from "./app.js";

export default function Caller({ id: number }) {
  const first = useLoaded(() => api(["callers", number]), number);
  const [more, setMore] = useState({ calls: [] });
  useEffect(() => window.scrollTo(0, 0), []);
  if (first.error) return html`<${Trouble} error=${first.error} again=${first.again} />`;
  if (!first.value) return html`<${Busy} />`;
  const calls = [...first.value.calls, ...more.calls];
  const next = more.next === undefined ? first.value.next : more.next;
  const load = () => {
    setMore({ ...more, loading: true });
    api(["callers", number], { cursor: next }).then(
      (page) => setMore({ calls: [...more.calls, ...page.calls], next: page.next ?? null }),
      (error) => setMore({ ...more, error }),
    );
  };
  const save = (kind, label) => html`<button class="quiet"
    onClick=${() => exportCalls(calls, kind, "calls-of-a-caller")}><${Icon} name="down" />${label}</button>`;
  return html`
    <div class="head">
      <div><h1><${Text}>${first.value.caller || number}<//></h1></div>
      <a class="button" href=${link([""], { caller: number })}><${Icon} name="search" />Search these calls</a>
    </div>
    <${Memories} memories=${first.value.memories} note=${first.value.memories_note} />
    <section aria-labelledby="their-calls">
      <div class="bar">
        <h2 id="their-calls">Calls <span class="small">${calls.length}${next ? " so far" : ""}</span></h2>
        ${save("csv", "CSV")}${save("json", "JSON")}
      </div>
      ${calls.length > 0 && html`<${CallTable} calls=${calls} filters=${{ caller: number }} />`}
      ${!calls.length && !next && html`<${Nothing} />`}
      ${more.loading && html`<${Busy} />`}
      ${more.error && html`<${Trouble} error=${more.error} again=${load} />`}
      ${
        next &&
        !more.error &&
        html`<div class="more"><button onClick=${load} disabled=${more.loading}>Load more</button></div>`
      }
    </section>
  `;
}

const Nothing = () => html`<div class="notice empty">
  <h3>No calls</h3>
  <p class="muted">Nothing of this number is in the archive, or it was erased.</p>
</div>`;

const KINDS = { factual: "Summary", semantic: "From the conversation" };

function Memories({ memories, note }) {
  const told = memories ? note || "Nothing yet." : note || "The memories cannot be read now.";
  return html`<section class="memories" aria-labelledby="memories">
    <h2 id="memories">What Mem0 remembers</h2>
    ${
      memories?.length
        ? html`<ul>${memories.map((memory) => html`<${Memory} memory=${memory} />`)}</ul>`
        : html`<div class="notice"><p>${told}</p></div>`
    }
  </section>`;
}

function Memory({ memory }) {
  const { type, text, at, conversation_id: id } = memory;
  return html`<li>
    <p dir="auto">${plain(text)}</p>
    <p class="small muted">
      ${KINDS[type] || type} · <${Time} at=${at} />
      ${id && html` · <a class="link" href=${link(["calls", id])}>Open the call</a>`}
    </p>
  </li>`;
}
