/* What a draft makes of the call: the events or why there is none, beside what is live; and its examples. */

import { chip, count, fill, link, make, refill } from "./elements.js";
import { diffView } from "./editor_diff.js";
import { write } from "./json_exact.js";
import { showJson } from "./json_view.js";

/** The outcome of a run, for a chip: a run that made events has not met the database yet. */
function outcomeOf(run) {
  if (run.events.length) return chip(count(run.events.length, "event"), "ok");
  return chip(run.outcome ?? "no event");
}

/** One line about a run: for the small screen, and for a screen reader. */
export function inShort(said) {
  const blocking = said.problems.filter((one) => one.blocking).length;
  if (blocking && !said.draft && !said.examples.length) return `${count(blocking, "problem")} to solve`;
  const passed = said.examples.filter((one) => one.passed).length;
  const examples = said.examples.length ? `, ${passed} of ${count(said.examples.length, "example")} pass` : "";
  const run = said.draft;
  if (!run) return `No call is chosen${examples}`;
  const what = run.events.length ? `makes ${count(run.events.length, "event")}` : `${run.outcome}: ${run.reason}`;
  return `${what}${examples}`;
}

/** Show an answer of `preview`. `parts`: elements by name. `onExample(index)`: an example was chosen. */
export function showResult(parts, said, hasCall, onExample) {
  showRun(parts, said, hasCall);
  showBeside(parts.beside, said);
  showExamples(parts.examples, said.examples, onExample);
}

/** Say that the text cannot be read. What the last one that could be made of the same call stays. */
export function showUnread(parts, isSameCall) {
  fill(parts.outcome, chip("cannot be read", "bad"));
  parts.sentence.className = "note";
  parts.sentence.hidden = false;
  const shown = isSameCall && parts.events.childElementCount + parts.beside.childElementCount > 0;
  const lead = "The text cannot be parsed: see the problem below it.";
  parts.sentence.textContent = shown ? `${lead} This is the result of the last text that could be parsed.` : lead;
  if (shown) return;
  refill(parts.events);
  parts.beside.hidden = true;
  fill(parts.steps).closest("details").hidden = true;
}

function showRun({ outcome, sentence, events, steps }, said, hasCall) {
  const run = said.draft;
  fill(outcome, run ? outcomeOf(run) : null, run?.reason && !run.events.length ? make("code", {}, run.reason) : null);
  if (run) sentence.textContent = run.detail ?? "";
  else sentence.textContent = hasCall ? "" : "Choose a call on the left, or paste one.";
  sentence.hidden = !sentence.textContent;
  sentence.className = run && run.outcome === "rejected" ? "alert" : "note";
  refill(events, (run?.events ?? []).map((event, index) => eventView(event, index, run.events.length)));
  fill(
    steps,
    (run?.steps ?? []).map((step) =>
      make(
        "li",
        { class: step.passed ? "passed" : "stopped" },
        make("b", {}, step.name),
        make("span", { class: "hidden-text" }, step.passed ? " passed: " : " stopped: "),
        ` ${step.sentence}`,
      ),
    ),
  );
  steps.closest("details").hidden = !run;
}

function eventView(event, index, total) {
  const { lane, ...fields } = event;
  const where = lane === "main" ? "" : `, lane ${lane}`;
  const name = total > 1 || where ? `Event ${index + 1} of ${total}${where}` : "Event";
  const json = make("pre", { tabindex: "0", role: "group", "aria-label": name });
  showJson(json, write(fields));
  return name !== "Event" ? [make("h4", {}, name), json] : json;
}

/** The lane is worth a word only where it is not the usual one. */
function withoutMain(event) {
  const { lane, ...fields } = event;
  return lane === "main" ? fields : event;
}

function showBeside(part, said) {
  const { draft, active, differences } = said;
  part.hidden = !draft;
  if (!draft) return;
  const body = [];
  if (!active) body.push(make("p", { class: "hint" }, "Nothing is live under this name."));
  else if (!active.events.length && !draft.events.length && active.detail === draft.detail) {
    body.push(make("p", { class: "hint" }, "The same as the live version."));
  } else if (!active.events.length) {
    body.push(make("p", {}, outcomeOf(active), " by the live version", active.detail ? `: ${active.detail}` : "."));
  } else if (!draft.events.length) {
    body.push(make("p", {}, "The live version makes ", outcomeOf(active), "."));
  }
  if (active?.events.length) {
    if (differences.length) body.push(differenceTable(differences));
    const [before, after] = [active, draft].map((run) => run.events.map((event) => write(withoutMain(event))).join("\n"));
    if (before === after) body.push(make("p", { class: "hint" }, "The same as from the live version."));
    else if (draft.events.length) {
      const lines = diffView(before, after, "From the live version to the draft");
      body.push(make("details", {}, make("summary", {}, "Line by line"), lines));
    }
  }
  refill(part, make("h3", {}, "Compared with the live version"), body);
}

/** A table of (path, before, after). */
export function differenceTable(differences) {
  const cell = (value, label, kind) => {
    const text = typeof value === "string" ? value : write(value);
    return make("td", { "data-label": label }, make(kind, {}, text));
  };
  const row = (one) => {
    const path = make("td", { "data-label": "Path" }, make("code", {}, one.path));
    return make("tr", {}, path, cell(one.before, "Live", "del"), cell(one.after, "Draft", "ins"));
  };
  return make(
    "table",
    { class: "stacked differences" },
    make("thead", {}, make("tr", {}, ["Path", "Live", "Draft"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, differences.map(row)),
  );
}

function showExamples(part, examples, onExample) {
  const passed = examples.filter((one) => one.passed).length;
  const heading = examples.length ? `Examples: ${passed} of ${examples.length} pass` : "Examples";
  const items = examples.map((one, index) =>
    make(
      "li",
      { class: one.passed ? "passed" : "stopped" },
      link(one.name, () => onExample(index)),
      make("span", { class: "hidden-text" }, one.passed ? " passes" : " fails"),
      one.passed || !one.message ? null : make("p", { class: "example-said" }, one.message),
    ),
  );
  const none = make("p", { class: "hint" }, "None yet. Examples show that the transform does what it should.");
  refill(part, make("h3", {}, heading), items.length ? make("ul", { class: "verdicts" }, items) : none);
}

/** Show the problems as a list; a click moves the caret there. */
export function showProblems(part, problems, goTo) {
  part.hidden = !problems.length;
  refill(
    part,
    problems.map((one) =>
      make(
        "li",
        { class: one.blocking ? "is-grave" : "is-doubtful" },
        link(`${one.line}:${one.column}`, () => goTo(one.line, one.column)),
        make("span", { class: "problem-said" }, one.message),
      ),
    ),
  );
}
