/* The call that a draft is tried on: one of the live calls, an example of the text, or one that was pasted. */

import { chip, make, moment, refill } from "./elements.js";
import { parse, write } from "./json_exact.js";
import { indent, showJson } from "./json_view.js";

const PARTS = [
  ...["live", "examples", "paste", "paste-text", "paste-said", "shown", "json", "about"],
  ...["link", "copy", "refresh", "begin"],
];

export class CallPicker {
  /**
   * `pane`: the pane of the call. `api`: of the transform. `onPick(call)`: a call was chosen or edited, or null.
   * `eventOf(event)`: whose calls to list, where it is not the transform that says so; `event` is that of the call.
   */
  constructor(pane, api, { onPick, eventOf }) {
    Object.assign(this, { api, onPick, eventOf, event: "" });
    this.chosen = null;
    this.calls = [];
    this.examples = [];
    const part = (name) => pane.querySelector(`[data-part="${name}"]`);
    this.parts = Object.fromEntries(PARTS.map((name) => [name, part(name)]));
    this.sources = [...pane.querySelectorAll("[data-source]")];
    for (const button of this.sources) button.addEventListener("click", () => this.#turnTo(button.dataset.source));
    this.parts["paste-text"].addEventListener("input", () => this.#pasted());
    this.parts.copy.addEventListener("click", () => this.editCopy());
    this.parts.refresh.addEventListener("click", () => this.load());
    this.#turnTo("live", false);
  }

  /** Read the newest calls. `wanted`: the id of one to choose; else the first is. */
  async load(wanted = "") {
    const found = wanted ? await this.#find(wanted) : null;
    this.event = this.eventOf(found?.event ?? this.chosen?.event ?? "");
    const said = await this.api.calls(this.event);
    this.calls = said.calls;
    if (found && !this.calls.some((one) => one.id === wanted)) this.calls = [found, ...this.calls];
    this.#listCalls();
    if (this.chosen && !wanted) return;
    const first = this.calls.find((one) => one.id === wanted) ?? this.calls[0];
    if (first) await this.chooseCall(first.id);
    else this.#choose(null);
  }

  /** Show the examples as the last run of the draft told them. */
  setExamples(examples) {
    this.examples = examples;
    const list = examples.map((one, index) =>
      pick(this.chosen?.example === index, () => this.chooseExample(index), [
        chip(one.passed ? "passes" : "fails", one.passed ? "ok" : "bad"),
        make("span", { class: "pick-name" }, one.name),
      ]),
    );
    const none = "The text has no examples yet. Choose a live call and save it as an example.";
    refill(this.parts.examples, list.length ? make("ul", { class: "picks" }, list) : hint(none));
  }

  /** Try the draft on a stored call. */
  async chooseCall(id) {
    this.chosen = { id, body: { call_id: id }, text: null };
    this.#listCalls();
    this.#show(null, "Loading…");
    this.onPick(this.chosen);
    const chosen = this.chosen;
    try {
      const whole = await this.api.call(id);
      if (this.chosen !== chosen) return;
      chosen.text = whole.raw;
      chosen.event = whole.event;
      chosen.steps = whole.steps;
      this.#show(whole.raw, whole.raw === null ? "Its bytes were removed, or are not text." : "");
    } catch (error) {
      if (this.chosen === chosen) this.#show(null, error.message);
    }
  }

  /** Try the draft on an example of its own text. */
  chooseExample(index) {
    const { call, name } = this.examples[index];
    const text = write(call);
    const about = `The example "${name}", with usual values filled in.`;
    this.#choose({ example: index, body: { call: text }, text }, about);
    this.setExamples(this.examples);
  }

  /** Make the call that is shown one to be edited. */
  editCopy() {
    this.parts["paste-text"].value = indent(this.chosen?.text ?? "");
    this.#turnTo("paste");
    this.parts["paste-text"].focus();
  }

  #pasted() {
    const text = this.parts["paste-text"].value;
    const said = this.parts["paste-said"];
    said.textContent = "";
    if (!text.trim()) {
      this.#choose(null);
      return;
    }
    try {
      parse(text);
    } catch (error) {
      said.textContent = `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
      return;
    }
    this.#choose({ pasted: true, body: { call: text }, text });
  }

  #turnTo(source, isAsked = true) {
    for (const button of this.sources) button.setAttribute("aria-pressed", String(button.dataset.source === source));
    for (const name of ["live", "examples", "paste"]) this.parts[name].hidden = name !== source;
    this.parts.shown.hidden = source === "paste";
    this.parts.refresh.hidden = source !== "live";
    if (source === "paste" && isAsked) this.#pasted();
  }

  #choose(call, about = "") {
    this.chosen = call;
    this.#listCalls();
    this.#show(call?.text ?? null, about);
    this.onPick(call);
  }

  #show(text, about) {
    const { json, about: said, link, copy, begin } = this.parts;
    json.hidden = text === null;
    copy.hidden = text === null;
    said.textContent = about;
    const id = this.chosen?.id;
    link.hidden = !id;
    if (id) link.setAttribute("href", `/calls/${encodeURIComponent(id)}`);
    // What no other file takes comes to _default: there it may well want a file of its own.
    if (begin) begin.hidden = !id;
    if (begin && id) begin.setAttribute("href", `/transforms/new?call=${encodeURIComponent(id)}`);
    showJson(json, text === null ? "" : indent(text));
  }

  #listCalls() {
    const list = this.calls.map((one) =>
      pick(this.chosen?.id === one.id, () => this.chooseCall(one.id), [
        chip(one.outcome),
        make("span", { class: "pick-name" }, one.customer_id ?? one.event ?? "nobody"),
        make("time", { datetime: one.received_at }, moment(one.received_at).slice(5, 16)),
        one.reason && one.reason !== one.outcome ? make("span", { class: "pick-more" }, one.reason) : null,
      ]),
    );
    const none = "There are no stored calls for this yet. Paste one, or send a test call from the setup page.";
    refill(this.parts.live, list.length ? make("ul", { class: "picks" }, list) : hint(none));
  }

  async #find(id) {
    try {
      return await this.api.call(id);
    } catch {
      return null;
    }
  }
}

function pick(isChosen, choose, inside) {
  return make("li", {}, make("button", { type: "button", "aria-pressed": String(isChosen), onclick: choose }, inside));
}

function hint(text) {
  return make("p", { class: "hint" }, text);
}
