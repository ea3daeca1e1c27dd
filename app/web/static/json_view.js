/* JSON as people read it: indented and coloured, and always as text. */

import { fill, make } from "./elements.js";
import { parse, write } from "./json_exact.js";

// Colours cost an element each; what is longer is shown plain, and what is longer still in part.
const COLOURED = 60_000;
const SHOWN = 400_000;
const TOKEN = /("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|(-?[0-9][0-9.eE+-]*)|(true|false|null)/g;

/** Indent JSON; what is none comes back as it is. */
export function indent(text) {
  try {
    return write(parse(text));
  } catch {
    return text;
  }
}

/** Show a text of JSON in an element. */
export function showJson(element, given) {
  const text = toVisible(given);
  if (text.length <= COLOURED) return fill(element, colour(text));
  const left = text.length - SHOWN;
  return fill(element, text.slice(0, SHOWN), left > 0 ? `\n... and ${left.toLocaleString("en")} more characters` : "");
}

// As app/web/visible.py: what a browser would hide or turn around is shown as its escape, which in JSON is the same.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff]/g;

function toVisible(text) {
  return text.replace(HIDDEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function colour(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(TOKEN)) {
    const [, string, colon, number, word] = found;
    const kind = colon ? "j-key" : string ? "j-string" : number ? "j-number" : "j-word";
    parts.push(text.slice(end, found.index), make("span", { class: kind }, string ?? number ?? word), colon ?? "");
    end = found.index + found[0].length;
  }
  return [...parts, text.slice(end)];
}
