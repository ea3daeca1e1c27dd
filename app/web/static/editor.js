/* The page of one transform: a call, the text, the event. This module puts the others together. */

import { Draft } from "./editor_draft.js";
import { apiOf } from "./editor_api.js";
import { CallPicker } from "./editor_calls.js";
import { Completion } from "./editor_complete.js";
import { toExpected, toGiven, toInsertion, toWhole } from "./editor_example.js";
import { inShort, showProblems, showResult, showUnread } from "./editor_result.js";
import { TextField } from "./editor_text.js";
import { at, fill, link, make } from "./elements.js";
import { parse, writeShort } from "./json_exact.js";

const PAUSE_MILLISECONDS = 120;
const TRIES = 6;

const { name, call: wantedCall, example: wantsExample } = at("editor").dataset;
const api = apiOf(name);
const field = new TextField(at("text"), at("layer"));
const announce = (text) => (at("announced").textContent = text);
const completion = new Completion(field, at("completions"), announce);
const ids = ["outcome", "sentence", "events", "steps", "beside", "examples"];
const parts = Object.fromEntries(ids.map((id) => [id, at(id)]));
const panes = document.querySelector(".editor-panes");

/** Say what was done, or what went wrong; `more`: links and buttons that go with it. */
function tell(text, kind = "good", ...more) {
  const role = kind === "alert" ? "alert" : null;
  const close = link("Close", () => fill(at("said")));
  fill(at("said"), make("div", { class: `${kind} said`, role }, make("p", {}, text), more, close));
}

const draft = new Draft({ name, api, field, tell, onChange: () => runSoon(), findProblems });
const picker = new CallPicker(at("call-pane"), api, {
  eventOf: (event) => (draft.known.live ? "" : event || eventIn(field.text)),
  onPick: (call) => {
    at("save-example").hidden = !call;
    if (call?.id) history.replaceState(null, "", `?call=${encodeURIComponent(call.id)}`);
    run();
  },
});

/** The event that a text matches, as far as it can be seen without reading YAML. */
function eventIn(text) {
  const found = /^match:(?:\s*#.*)?\n(?:\s+.*\n)*?\s+event:\s*(.+?)\s*$/m.exec(text);
  return found && !found[1].startsWith("[") ? found[1].replace(/^(["'])(.*)\1$/, "$2") : "";
}

let timer = 0;
let running = null;
let isWanted = false;
let shownCall = null;
let problems = [];

function runSoon() {
  clearTimeout(timer);
  timer = setTimeout(run, PAUSE_MILLISECONDS);
}

/** Whether the text could be read: examples may fail, and the call may be missing. */
function isRead(said) {
  return said.draft !== null || said.examples.length > 0 || !said.problems.some((one) => one.blocking);
}

/**
 * Run the text on the call that is chosen; where a run is under way, once more after it. One at a time: a run that is
 * given up here would go on where it runs, and keep the next one waiting.
 */
async function run() {
  clearTimeout(timer);
  if (!draft.isReady) return;
  isWanted = true;
  running ??= runWhileWanted();
  await running;
}

async function runWhileWanted() {
  at("result").setAttribute("aria-busy", "true");
  for (let tries = 1; isWanted; ) {
    isWanted = false;
    const call = picker.chosen;
    try {
      const said = await api.preview({ text: field.text, ...call?.body });
      tries = 1;
      if (!isWanted) showRun(said, call);
    } catch (error) {
      if (error.status === 503 && tries < TRIES) {
        tries += 1;
        isWanted = true;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS * tries));
      } else if (!isWanted) {
        showFault(error);
      }
    }
  }
  at("result").setAttribute("aria-busy", "false");
  running = null;
}

function showRun(said, call) {
  problems = said.problems.filter((one) => one.blocking);
  field.setProblems(said.problems);
  showProblems(at("problems"), said.problems, (line, column) => field.goTo(line, column));
  if (isRead(said)) {
    showResult(parts, said, call !== null, chooseExample);
    picker.setExamples(said.examples);
    shownCall = call;
  } else {
    showUnread(parts, shownCall === call);
  }
  at("took").textContent = `Run in ${said.took_ms} ms`;
  sum(inShort(said));
}

function showFault(error) {
  fill(at("outcome"));
  parts.sentence.className = "alert";
  parts.sentence.textContent = error.message;
  parts.sentence.hidden = false;
  fill(parts.events);
  parts.beside.hidden = true;
  at("took").textContent = "";
  sum(error.message);
}

/** Say in short how the run ended; a screen reader reads what is new. */
function sum(text) {
  if (at("summary").textContent !== text) at("summary").textContent = text;
}

/** Return what keeps the text from being published. */
async function findProblems() {
  await run();
  return problems;
}

function chooseExample(index) {
  picker.chooseExample(index);
  show("call");
}

/** Write the call that is chosen, and what becomes of it, as an example into the text. */
async function saveExample() {
  const text = picker.chosen?.text;
  if (!text) {
    tell("Choose a call first, to save it as an example.", "alert");
    return;
  }
  try {
    const given = toGiven(parse(text));
    const said = await api.preview({ text: field.text, call: writeShort(toWhole(given)) });
    if (!said.draft) {
      tell("The text has a problem. Fix it first: an example needs the result for the call.", "alert");
      return;
    }
    const today = new Date().toISOString().slice(0, 10);
    const example = { name: `a call of ${today}`, given, expect: toExpected(said.draft) };
    const { start, end, insert } = toInsertion(field.text, example);
    show("text");
    field.replace(start, end, insert);
    field.goTo(field.text.slice(0, start).split("\n").length + 1, 1);
    const madeUp = "with made-up texts in place of long ones and e-mail addresses";
    tell(`The example is written into the text, ${madeUp}. Check it, and save the draft.`);
  } catch (error) {
    tell(error.message, "alert");
  }
}

/** Turn to a pane, where the screen has room for one. */
function show(pane) {
  panes.dataset.shown = pane;
  for (const button of document.querySelectorAll("[data-pane]")) {
    button.setAttribute("aria-pressed", String(button.dataset.pane === pane));
  }
}

function showCaret() {
  if (document.activeElement !== field.area) return;
  const { line, column } = field.caret();
  at("caret").textContent = `${line + 1}:${column + 1}`;
}

async function start() {
  try {
    await draft.begin(at("starter").value);
  } catch (error) {
    tell(error.message, "alert");
    return;
  }
  completion.functions = draft.known.functions;
  try {
    await picker.load(wantedCall);
    if (!picker.chosen) await run();
    completion.paths = (await api.paths(picker.event)).paths;
  } catch (error) {
    tell(error.message, "alert");
  }
  if (wantsExample && picker.chosen) {
    await saveExample();
  }
}

for (const button of document.querySelectorAll("[data-pane]")) {
  button.addEventListener("click", () => show(button.dataset.pane));
}
at("save").addEventListener("click", () => draft.save());
at("publish").addEventListener("click", () => draft.publish());
at("discard").addEventListener("click", () => draft.discard());
at("unpublish").addEventListener("click", () => draft.unpublish());
at("history").addEventListener("click", () => draft.showHistory());
at("save-example").addEventListener("click", saveExample);
document.addEventListener("selectionchange", showCaret);
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Enter") {
    event.preventDefault();
    completion.close();
    run();
  } else if (event.key.toLowerCase() === "s" && !event.shiftKey) {
    event.preventDefault();
    draft.save();
  }
});
start();
