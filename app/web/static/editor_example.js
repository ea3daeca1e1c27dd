/* A call and what becomes of it, written as an example into the text of a transform. */

import { Numeral } from "./json_exact.js";

// Of a call's context: what says where it was made, and by whom, but not what is billed. As in app/transforms/starter.py.
const ABOUT_THE_SENDER = new Set(
  ("active app campaign device ip library locale location network os page referrer screen timezone traits userAgent " +
    "userAgentData protocols").split(" "),
);
const LONG = 40;
const ITEMS = 3;
const EMAIL = /[^@\s]+@[^@\s]+\.[^@\s]+/;
const PLAIN = /^[A-Za-z_/][A-Za-z0-9_/.-]*( [A-Za-z0-9_/.-]+)*$/;
const WORDS = new Set(["true", "false", "null", "yes", "no", "on", "off", "y", "n"]);

const USUAL = { messageId: "example-1", userId: "customer-1", timestamp: "2026-01-01T00:00:00Z", properties: {} };

/** Return what matters of a call, with made-up texts in the place of long ones and of e-mail addresses. */
export function toGiven(call) {
  const scrub = scrubber();
  const given = {};
  if (call.type !== "track") given.type = call.type;
  if (call.event !== undefined) given.event = call.event;
  if ("userId" in call) given.userId = scrub(call.userId);
  else given.userId = null;
  const about = Object.entries(isObject(call.context) ? call.context : {});
  const context = about.filter(([key]) => !ABOUT_THE_SENDER.has(key));
  if (context.length) given.context = scrub(Object.fromEntries(context));
  if (isObject(call.properties)) given.properties = scrub(call.properties);
  if (isObject(call.traits)) given.traits = scrub(call.traits);
  return given;
}

/** Return the whole call that an example stands for. */
export function toWhole(given) {
  return { ...USUAL, type: "track", ...given };
}

/** Return what an example expects of a run: its events without what each call has of its own, or the reason. */
export function toExpected(run) {
  if (!run.events.length) return run.reason ?? run.outcome;
  const events = run.events.map(({ event_name, customer_id, properties }) => ({ event_name, customer_id, properties }));
  return events.length === 1 ? events[0] : events;
}

/** Return where to put an example into a text, and what: { start, end, insert }. */
export function toInsertion(text, example) {
  const lines = text.split("\n");
  const head = lines.findIndex((line) => /^examples\s*:/.test(line));
  if (head < 0) {
    const gap = text === "" || text.endsWith("\n") ? "" : "\n";
    return { start: text.length, end: text.length, insert: `${gap}examples:\n${item(example, 2)}\n` };
  }
  const offset = (index) => lines.slice(0, index).reduce((sum, line) => sum + line.length + 1, 0);
  if (/^examples\s*:\s*(\[\s*\])?\s*(#.*)?$/.test(lines[head])) {
    let next = head + 1;
    // The list may stand at the margin, too.
    while (next < lines.length && /^(\s|- |-$|#|$)/.test(lines[next])) next += 1;
    while (next > head + 1 && /^(#.*|\s*)$/.test(lines[next - 1])) next -= 1;
    const dash = lines.slice(head + 1, next).map((line) => /^(\s*)-\s/.exec(line)).find(Boolean);
    const written = item(example, dash ? dash[1].length : 2);
    if (next === head + 1) {
      return { start: offset(head), end: offset(head) + lines[head].length, insert: `examples:\n${written}` };
    }
    const end = offset(next - 1) + lines[next - 1].length;
    return { start: end, end, insert: `\n${written}` };
  }
  // A list in brackets: before the last one.
  let next = head + 1;
  while (next < lines.length && /^(\s|$)/.test(lines[next])) next += 1;
  const end = text.lastIndexOf("]", offset(next));
  return { start: end, end, insert: `, ${flow(example)}` };
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Numeral);
}

function scrubber() {
  const known = new Map();
  const madeUp = (text, make) => {
    if (!known.has(text)) known.set(text, make(known.size + 1));
    return known.get(text);
  };
  const scrub = (value) => {
    if (typeof value === "string") {
      if (EMAIL.test(value)) return madeUp(value, (number) => `person-${number}@example.com`);
      return value.length > LONG ? madeUp(value, (number) => `some text ${number}`) : value;
    }
    if (Array.isArray(value)) return value.slice(0, ITEMS).map(scrub);
    return isObject(value) ? Object.fromEntries(Object.keys(value).map((key) => [key, scrub(value[key])])) : value;
  };
  return scrub;
}

/* YAML in the block style that people write, with quotes wherever there could be a doubt. */

function item(value, indent) {
  const [first, ...others] = block(value, indent + 2);
  return [`${" ".repeat(indent)}- ${first.trimStart()}`, ...others].join("\n");
}

function block(value, indent) {
  const pad = " ".repeat(indent);
  if (Array.isArray(value)) {
    return value.flatMap((one) => (isFull(one) ? item(one, indent).split("\n") : [`${pad}- ${flow(one)}`]));
  }
  return Object.keys(value).flatMap((key) =>
    isFull(value[key])
      ? [`${pad}${scalar(key)}:`, ...block(value[key], indent + 2)]
      : [`${pad}${scalar(key)}: ${flow(value[key])}`],
  );
}

function isFull(value) {
  return (Array.isArray(value) && value.length > 0) || (isObject(value) && Object.keys(value).length > 0);
}

function flow(value) {
  if (value instanceof Numeral) return value.text;
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (isObject(value)) return `{${Object.keys(value).map((key) => `${scalar(key)}: ${flow(value[key])}`).join(", ")}}`;
  return typeof value === "string" ? scalar(value) : JSON.stringify(value);
}

function scalar(text) {
  if (PLAIN.test(text) && !WORDS.has(text.toLowerCase())) return text;
  // JSON is YAML but for some characters that YAML does not take as they are.
  const escaped = (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\u007f-\u00a0\u2028\u2029\ufeff\ufffe\uffff]/g, escaped);
}
