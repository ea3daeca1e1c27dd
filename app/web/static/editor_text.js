/* The text area of a transform: line numbers, colours and underlines are drawn in a layer behind it.

   It stays a plain text area, so that the keyboard, undo, screen readers and input methods work as everywhere. Both
   layers have one font and one place; the box around them scrolls, so that they cannot drift apart. */

import { fill, make } from "./elements.js";
import { START, readLine } from "./editor_highlight.js";

export class TextField {
  /** `area`: the text area. `layer`: the element behind it. */
  constructor(area, layer) {
    this.area = area;
    this.layer = layer;
    this.problems = [];
    this.drawn = [];
    this.listeners = [];
    area.addEventListener("input", () => this.#changed());
    area.addEventListener("keydown", (event) => this.#onKey(event));
    this.#draw();
  }

  /** Have `listener` called after each change of the text. */
  onChange(listener) {
    this.listeners.push(listener);
  }

  get text() {
    return this.area.value;
  }

  /** Put a text in the place of all; nothing to undo. */
  begin(text) {
    this.area.value = text;
    this.area.setSelectionRange(0, 0);
    this.#changed();
  }

  /** Put a text between two places, as though it were typed: Ctrl-Z takes it back. */
  replace(start, end, text, caret = start + text.length) {
    this.area.focus();
    this.area.setSelectionRange(start, end);
    const done = text
      ? document.execCommand("insertText", false, text)
      : start === end || document.execCommand("delete");
    if (!done) {
      this.area.setRangeText(text, start, end, "end");
      this.#changed();
    }
    this.area.setSelectionRange(caret, caret);
  }

  /** Put a text in the place of all; Ctrl-Z brings the one before back. */
  replaceAll(text) {
    this.replace(0, this.text.length, text, 0);
  }

  /** Underline problems: { line, column, message, blocking }, both from 1. */
  setProblems(problems) {
    this.problems = problems;
    this.#draw();
  }

  /** Where the caret is: { offset, line, column, before: the line up to it }, lines and columns from 0. */
  caret() {
    const offset = this.area.selectionStart;
    const start = this.text.lastIndexOf("\n", offset - 1) + 1;
    const line = this.text.slice(0, start).split("\n").length - 1;
    return { offset, line, column: offset - start, before: this.text.slice(start, offset) };
  }

  /** What is known of a line, see editor_highlight. */
  told(line) {
    return this.drawn[line]?.told;
  }

  /** Move the caret to a line and column, from 1, and show it. */
  goTo(line, column) {
    const lines = this.text.split("\n");
    const row = Math.min(Math.max(line, 1), lines.length);
    const start = lines.slice(0, row - 1).reduce((sum, one) => sum + one.length + 1, 0);
    const offset = start + Math.min(Math.max(column - 1, 0), lines[row - 1].length);
    this.area.focus({ preventScroll: true });
    this.area.setSelectionRange(offset, offset);
    const box = this.area.closest(".code");
    const shown = this.rectOf(row - 1, offset - start);
    box.scrollTop += shown.top - box.getBoundingClientRect().top - box.clientHeight / 2;
    box.scrollLeft = 0;
    const over = this.rectOf(row - 1, offset - start).right - box.getBoundingClientRect().right + 40;
    if (over > 0) box.scrollLeft = over;
    // On a small screen it is the page that scrolls.
    box.scrollIntoView({ block: "nearest" });
  }

  /** Where on the screen a column of a line is. */
  rectOf(line, column) {
    const element = this.layer.children[line];
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    let left = column;
    const range = document.createRange();
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (left <= node.length) {
        range.setStart(node, left);
        range.setEnd(node, left);
        const found = range.getClientRects()[0];
        if (found) return found;
      }
      left -= node.length;
    }
    return element.getBoundingClientRect();
  }

  #changed() {
    // What is said of the text before is not true of this one; what stays on its line is.
    this.#draw();
    for (const listener of this.listeners) listener();
  }

  /** Enter keeps the indent of the line, one step deeper after a colon. */
  #onKey(event) {
    if (event.key !== "Enter" || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.defaultPrevented) return;
    const { before } = this.caret();
    const indent = /^\s*(?:- )?/.exec(before)[0].replace("-", " ");
    const deeper = /:\s*$/.test(before) ? "  " : "";
    if (!indent && !deeper) return;
    event.preventDefault();
    this.replace(this.area.selectionStart, this.area.selectionEnd, `\n${indent}${deeper}`);
  }

  /** Draw the lines that changed. */
  #draw() {
    const lines = this.text.split("\n");
    const marked = new Map();
    for (const one of this.problems) marked.set(one.line, [...(marked.get(one.line) ?? []), one]);
    let state = START;
    lines.forEach((line, index) => {
      const problems = marked.get(index + 1) ?? [];
      const about = `${line}\n${JSON.stringify([state, problems.map((one) => [one.column, one.blocking])])}`;
      let drawn = this.drawn[index];
      if (!drawn || drawn.about !== about) {
        const element = drawn?.element ?? this.layer.appendChild(make("div"));
        const told = readLine(line, state);
        drawn = this.drawn[index] = { about, element, told };
        show(element, told.parts, problems);
      }
      state = drawn.told.after;
    });
    for (const { element } of this.drawn.splice(lines.length)) element.remove();
  }
}

function show(element, parts, problems) {
  const blocking = problems.some((one) => one.blocking);
  element.className = problems.length ? `line ${blocking ? "is-grave" : "is-doubtful"}` : "line";
  const text = parts.map(([part]) => part).join("");
  const spans = problems.map((one) => [...reachOf(text, one.column - 1), one.blocking ? "p-grave" : "p-doubtful"]);
  const cuts = spans.flatMap(([from, to]) => [from, to]);
  let place = 0;
  const shown = [];
  for (const [part, kind] of parts) {
    const end = place + part.length;
    const edges = [place, ...cuts.filter((cut) => cut > place && cut < end), end].sort((a, b) => a - b);
    for (let i = 0; i + 1 < edges.length; i += 1) {
      const marks = spans.filter(([from, to]) => from <= edges[i] && edges[i + 1] <= to).map(([, , mark]) => mark);
      const classes = [kind, ...marks].filter(Boolean).join(" ");
      const piece = part.slice(edges[i] - place, edges[i + 1] - place);
      shown.push(classes ? make("span", { class: classes }, piece) : piece);
    }
    place = end;
  }
  // A problem at the end of a line has no letter to stand under.
  for (const [from, , mark] of spans) if (from >= text.length) shown.push(make("span", { class: mark }, " "));
  fill(element, shown, "\n");
}

/** From where to where to underline: the word at a column, or what is left of the line. */
function reachOf(text, column) {
  const start = Math.min(Math.max(column, 0), text.length);
  const word = /^[A-Za-z0-9_.]+|^\S+/.exec(text.slice(start));
  return [start, start + (word ? word[0].length : text.length - start)];
}
