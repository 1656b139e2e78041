/** Lists as files. It is loaded when somebody wants the first one. */

import { daysAgo, nameOf } from "./app.js";

export function save(name, type, parts) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const anchor = Object.assign(document.createElement("a"), { href: url, download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Where a spreadsheet begins a cell, also one that splits at semicolons or tabs, and what makes that cell a formula.
const FORMULA = /(^|[;\t\r\n])(?=[=+\-@\uff1d\uff0b\uff0d\uff20\t\r])/g;

/** Rows as CSV. What a spreadsheet would take for a formula gets an apostrophe. */
export function csv(columns, rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const harmless = typeof value === "string" ? text.replace(FORMULA, "$1'") : text;
    return /[",;\t\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
  };
  return [columns, ...rows.map((row) => columns.map((name) => row[name]))].map(
    (row) => `${row.map(cell).join(",")}\r\n`,
  );
}

const IDS = ["conversation_id", "started_at", "caller", "agent_id"];
const COLUMNS = [...IDS, "duration_secs", "outcome", "audio", "status", "cost", "title", "summary", "archived_at"];

const named = (call) => ({ ...call, title: nameOf(call) });

export function exportCalls(calls, kind, name = "calls") {
  const dated = `${name}-${daysAgo(0)}`;
  if (kind === "json") save(`${dated}.json`, "application/json", [JSON.stringify(calls, null, 2)]);
  else save(`${dated}.csv`, "text/csv", ["\ufeff", ...csv(COLUMNS, calls.map(named))]);
}
