/* Asking the JSON API. */

import { parse } from "./json_exact.js";

/** What the service answered when it could not do what was asked. `said`: the whole answer. */
export class Refused extends Error {
  constructor(status, said) {
    super(said?.message ?? "The service did not answer.");
    this.status = status;
    this.code = said?.code ?? "";
    this.said = said ?? {};
  }
}

const SIGNED_OUT =
  "You are signed out. Sign in again in another tab, then load this page: your text is kept in this tab.";

/** Ask; `body` goes as JSON. Returns the answer, its numbers as they were written. Throws Refused, or AbortError. */
export async function ask(method, path, body, signal) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = document.querySelector('meta[name="csrf"]')?.content ?? "";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  let answer;
  let text;
  try {
    answer = await fetch(`/api/v1${path}`, { method, headers, signal, body: sent });
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { message: "The service cannot be reached. Your text is kept here; try again in a moment." });
  }
  let said;
  try {
    said = parse(text);
  } catch {
    said = undefined;
  }
  if (answer.ok && said !== undefined) return said;
  if (answer.status === 401 || answer.status === 403) said = { ...said, message: SIGNED_OUT };
  throw new Refused(answer.status, said);
}

/** The API of one transform. */
export function apiOf(name) {
  const base = `/transforms/${encodeURIComponent(name)}`;
  return {
    read: () => ask("GET", base),
    version: (version) => ask("GET", `${base}/versions/${encodeURIComponent(version)}`),
    // Of a transform that is not live yet: the calls of an event.
    calls: (event) => ask("GET", `${base}/calls?limit=20${event ? `&event=${encodeURIComponent(event)}` : ""}`),
    paths: (event) => ask("GET", `${base}/paths${event ? `?event=${encodeURIComponent(event)}` : ""}`),
    call: (id, signal) => ask("GET", `/calls/${encodeURIComponent(id)}`, undefined, signal),
    save: (text, revision) => ask("PUT", base, { text, revision }),
    discard: (revision) => ask("DELETE", `${base}/draft`, { revision }),
    preview: (body, signal) => ask("POST", `${base}/preview`, body, signal),
    impact: (text, signal) => ask("POST", `${base}/impact`, { text, last: 1000 }, signal),
    publish: (text, live, revision) => ask("POST", `${base}/publish`, { text, live, revision }),
    rollBack: (version) => ask("POST", `${base}/rollback`, { version }),
    unpublish: (live) => ask("POST", `${base}/unpublish`, { live }),
    resolve: (take) => ask("POST", `${base}/resolve`, { take }),
  };
}
