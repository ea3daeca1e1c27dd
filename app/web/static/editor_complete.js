/* Completion: JMESPath functions, and the paths that real calls hold; keys where a key is written.

   It opens as an identifier is typed, or by Ctrl-Space. Only while it is open, Tab and Enter take and Escape closes;
   else Tab leaves the field as everywhere. */

import { count, fill, make } from "./elements.js";

const SHOWN = 40;
const WORD = /(?:[A-Za-z0-9_.]|"[^"]*"?|\[(?:[0-9]+|\*)?\])+$/;
const KEY_WORD = /^(\s*(?:- )?)([A-Za-z_]*)$/;

const KEYS = {
  "": {
    description: "what the file is for, in a line",
    enabled: "false: the calls it takes are ignored",
    priority: "a whole number; the highest goes first",
    also: "true: it adds its events to those of others",
    match: "which calls it takes",
    when: "an expression; false or null ignores the call",
    each: "an expression that gives a list: one event for each item",
    input_schema: "a JSON Schema that the call must keep",
    lookup: "tables by name, for lookup()",
    event: "the event: a map of its fields, or one expression",
    examples: "calls, and what is to become of them",
  },
  match: {
    type: "track, identify, page, screen, group, alias or delete",
    event: "the name of a track call, or a list; * and ? are wild",
    source: "the projectId of a Segment source, or a list",
  },
  event: {
    event_name: "Lotus's event name, 1 to 100 characters",
    idempotency_id: "what makes the event unique",
    customer_id: "whom it is billed to",
    time_created: "when it happened",
    properties: "what is counted",
  },
  examples: {
    name: "what the example is about",
    given: "a call; only what matters of it",
    expect: "an event, a list of them, or a reason",
    received_at: "what received_at() gives",
  },
};

// Of every call, also where none is stored yet.
const USUAL = {
  event: "the name of a track call",
  properties: "what the call says",
  userId: "who did it",
  anonymousId: "who, before signing in",
  messageId: "the call's own id",
  timestamp: "when it happened",
  context: "where it was made",
  "context.groupId": "the account of the user",
  type: "track, identify, ...",
};

export class Completion {
  /** `field`: the TextField. `list`: an empty listbox. `announce`: says a sentence to a screen reader. */
  constructor(field, list, announce) {
    this.field = field;
    this.list = list;
    this.announce = announce;
    this.functions = [];
    this.paths = [];
    this.found = [];
    this.selected = -1;
    const { area } = field;
    area.setAttribute("aria-autocomplete", "list");
    area.setAttribute("aria-controls", list.id);
    area.setAttribute("aria-haspopup", "listbox");
    area.addEventListener("keydown", (event) => this.#onKey(event), { capture: true });
    area.addEventListener("input", (event) => this.#onInput(event));
    area.addEventListener("blur", () => this.close());
    area.addEventListener("pointerdown", () => this.close());
    area.closest(".code").addEventListener("scroll", () => this.close());
  }

  get isOpen() {
    return !this.list.hidden;
  }

  close() {
    if (!this.isOpen) return;
    this.list.hidden = true;
    this.field.area.removeAttribute("aria-activedescendant");
  }

  #onInput(event) {
    const typed = event.inputType === "insertText" && /^[A-Za-z0-9_."]$/.test(event.data ?? "");
    const shortened = this.isOpen && event.inputType?.startsWith("delete");
    if (typed || shortened) this.open(false);
    else this.close();
  }

  #onKey(event) {
    if (event.key === " " && event.ctrlKey) {
      event.preventDefault();
      this.open(true);
      return;
    }
    if (!this.isOpen || event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step) {
      event.preventDefault();
      const last = this.found.length - 1;
      const next = this.selected + step;
      const around = next < 0 ? last : 0;
      this.#select(next < 0 || next > last ? around : next);
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.close();
    } else if ((event.key === "Enter" || event.key === "Tab") && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      const chosen = this.found[this.selected];
      // What is there already needs no taking: Enter is a new line then.
      if (chosen && chosen.label !== this.place.word) {
        event.preventDefault();
        this.#take(chosen);
      } else {
        this.close();
      }
    } else if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
      this.close();
    }
  }

  /** Show what fits at the caret. `asked`: also where nothing was typed yet. */
  open(asked) {
    this.place = this.#look();
    this.found = this.place && (asked || this.place.word) ? this.place.find(this.place.word) : [];
    if (!this.found.length || (!asked && this.found.length === 1 && this.found[0].label === this.place.word)) {
      this.close();
      if (asked) this.announce("Nothing to complete here.");
      return;
    }
    fill(this.list, this.found.map((one, index) => this.#option(one, index)));
    this.list.hidden = false;
    this.#place();
    this.#select(0);
    this.announce(`${count(this.found.length, "completion")}: arrow keys choose, Tab takes, Escape closes.`);
  }

  /** What is written at the caret, and what could be. */
  #look() {
    const { line, column, before, offset } = this.field.caret();
    const told = this.field.told(line);
    if (!told) return null;
    const key = KEY_WORD.exec(before);
    if (key && told.after.block < 0) {
      const known = this.#keysAt(line, key[1].length);
      if (known) {
        const label = (one) => ({ label: one, insert: `${one}: `, detail: known[one], kind: "key" });
        return { word: key[2], offset, column, line, find: (word) => pick(Object.keys(known).map(label), word) };
      }
    }
    if (told.expression < 0 || column < told.expression) return null;
    let written = before.slice(told.expression);
    const quote = /^["']/.test(written) ? written[0] : "";
    if (/^[[{]/.test(written)) return null;
    written = written.slice(quote.length);
    if (isWithinText(written)) return null;
    const word = WORD.exec(written)?.[0] ?? "";
    return { word, quote, offset, column, line, find: (wanted) => this.#findExpressions(wanted) };
  }

  #findExpressions(word) {
    const seen = new Set(this.paths.map((one) => one.path));
    const usual = Object.keys(USUAL).filter((path) => !seen.has(path));
    const others = usual.map((path) => ({ path, sample: USUAL[path] }));
    const paths = [...this.#itemPaths(), ...this.paths, ...others].map((one) => ({
      label: one.path,
      insert: one.path,
      detail: one.sample,
      kind: "path",
    }));
    const functions = this.functions.map((one) => ({
      label: one.name,
      insert: `${one.name}(`,
      detail: one.signature,
      more: one.sentence,
      kind: "function",
    }));
    return pick([...paths, ...functions], word);
  }

  /** With `each`, `item` and `index` stand beside the call's own keys. */
  #itemPaths() {
    const each = /^each:\s*(\S+)/m.exec(this.field.text);
    if (!each) return [];
    const start = `${each[1]}[].`;
    const inner = this.paths.filter((one) => one.path.startsWith(start));
    const own = [{ path: "item", sample: "the item of each" }, { path: "index", sample: "its number, from 0" }];
    return [...inner.map((one) => ({ ...one, path: `item.${one.path.slice(start.length)}` })), ...own];
  }

  /** The keys that fit at an indent, by the key above that is less indented. */
  #keysAt(line, indent) {
    if (indent === 0) return KEYS[""];
    const lines = this.field.text.split("\n");
    for (let above = line - 1; above >= 0; above -= 1) {
      const found = /^(\s*)(- )?([A-Za-z_]+)\s*:/.exec(lines[above]);
      if (found && found[1].length < indent && !(found[2] && found[1].length + 2 === indent)) {
        return found[1] === "" ? KEYS[found[3]] : null;
      }
    }
    return null;
  }

  #option(one, index) {
    const take = () => this.#take(one);
    // The field keeps the focus.
    const stay = (event) => event.preventDefault();
    return make(
      "li",
      { role: "option", id: `completion-${index}`, class: one.kind, onpointerdown: stay, onclick: take },
      make("code", {}, one.label),
      make("span", { class: "completion-detail" }, one.detail ?? ""),
      one.more ? make("span", { class: "completion-more" }, one.more) : null,
    );
  }

  #select(index) {
    this.selected = index;
    [...this.list.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === index)));
    const option = this.list.children[index];
    option.scrollIntoView({ block: "nearest" });
    this.field.area.setAttribute("aria-activedescendant", option.id);
  }

  #take(one) {
    const { word, offset, quote } = this.place;
    this.close();
    const isCalled = one.kind === "function" && this.field.text[offset] === "(";
    let text = isCalled ? one.label : one.insert;
    if (quote === '"') text = text.replaceAll('"', '\\"');
    const start = offset - word.length;
    if (one.kind === "function" && !isCalled) this.field.replace(start, offset, `${text})`, start + text.length);
    else this.field.replace(start, offset, text);
  }

  /** Below the word, or above it where there is no room. */
  #place() {
    const { line, column, word } = this.place;
    const rect = this.field.rectOf(line, column - word.length);
    const { width, height } = this.list.getBoundingClientRect();
    const below = rect.bottom + height + 4 < window.innerHeight;
    this.list.style.left = `${Math.max(8, Math.min(rect.left, window.innerWidth - width - 8))}px`;
    this.list.style.top = `${below ? rect.bottom + 2 : Math.max(8, rect.top - height - 2)}px`;
  }
}

/** Whether the end of an expression is within '...' or `...`. */
function isWithinText(written) {
  const left = written.replace(/\\./g, "").replace(/'[^']*'|`[^`]*`/g, "");
  return /['`]/.test(left);
}

/** Those that fit a word, quotes aside, best first: that begin with it, of which a part does, that hold it. */
function pick(all, word) {
  const plain = (text) => text.toLowerCase().replaceAll('"', "");
  const wanted = plain(word);
  const score = (label) => {
    const text = plain(label);
    if (label.toLowerCase().startsWith(word.toLowerCase())) return 0;
    if (text.startsWith(wanted)) return 1;
    if (text.split(/[._]/).some((part) => part.startsWith(wanted))) return 2;
    return text.includes(wanted) ? 3 : 4;
  };
  return all
    .map((one, index) => ({ one, index, score: score(one.label) }))
    .filter((found) => found.score < 4)
    .sort((a, b) => a.score - b.score || a.index - b.index)
    .slice(0, SHOWN)
    .map((found) => found.one);
}
