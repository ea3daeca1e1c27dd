/* The text as it is kept: what is live, the draft that is saved, and what is only in this tab. Nothing of it is lost:
   unsaved text stays in the tab's own storage, and where somebody else was first, a person sees both and chooses. */

import { askToPublish, askToUnpublish } from "./editor_publish.js";
import { askAboutConflict, askAboutDrift, askWhether, showHistory } from "./editor_history.js";
import { showNotices, showState } from "./editor_standing.js";
import { link, make, moment, zone } from "./elements.js";

/** As the form of a replay takes it; with more names it looks at all calls. */
const FIELD_CHARS_MAX = 500;

export class Draft {
  /**
   * `tell(text, kind, ...more)`: say a sentence. `onChange()`: the text is another, or what is live.
   * `findProblems()`: what keeps the text from being published.
   */
  constructor({ name, api, field, tell, onChange, findProblems }) {
    Object.assign(this, { name, api, field, tell, onChange, findProblems });
    Object.assign(this, { isReady: false, known: null, revision: 0, saved: "" });
    this.place = `draft of ${name}`;
    field.onChange(() => {
      if (!this.isReady) return;
      this.#keep();
      this.#showState();
      onChange();
    });
    window.addEventListener("beforeunload", (event) => {
      if (this.isDirty) event.preventDefault();
    });
  }

  get isDirty() {
    return this.isReady && this.field.text !== this.saved;
  }

  get liveText() {
    return this.known.live?.text ?? null;
  }

  /** Read what there is, and begin with the draft, what is live, the file, or a text to start from. */
  async begin(starter) {
    await this.#learn();
    const { live, file, draft: kept } = this.known;
    const text = kept?.text ?? live?.text ?? file?.text ?? starter;
    this.field.area.readOnly = false;
    this.field.begin(text);
    this.isReady = true;
    this.#bringBack();
    this.#showState();
  }

  async #learn() {
    this.known = await this.api.read();
    const { draft: kept, live, file } = this.known;
    this.revision = kept?.revision ?? 0;
    this.saved = kept?.text ?? live?.text ?? file?.text ?? "";
    if (this.isReady) this.onChange();
  }

  /** Save the draft; returns whether it is saved. */
  async save({ quiet = false } = {}) {
    if (!this.isReady) return false;
    const text = this.field.text;
    try {
      const said = await this.api.save(text, this.revision);
      this.revision = said.revision;
      this.saved = text;
      this.known.draft = { text, ...said };
      this.#keep();
      this.#showState();
      if (!quiet) this.tell("The draft is saved. Calls are still mapped by the live version.");
      return true;
    } catch (error) {
      if (error.status === 409) await this.#draftMoved(error.said.draft, text);
      else this.tell(error.message, "alert");
      return false;
    }
  }

  async #draftMoved(theirs, mine) {
    const before = { known: this.known, revision: this.revision, saved: this.saved };
    await this.#learn();
    const their = theirs?.text ?? this.saved;
    const chosen = await askAboutConflict({
      title: "Somebody else was first",
      sentence: theirs
        ? `Somebody saved another draft on ${moment(theirs.saved_at)} (${zone}), after you began. Nothing was overwritten.`
        : "Somebody published or discarded this draft after you began. Nothing was overwritten.",
      theirs: their,
      mine,
      keep: "Keep mine, on top of theirs",
      load: "Load theirs",
    });
    if (!chosen) {
      // Not decided: the next attempt asks again.
      Object.assign(this, before);
      return;
    }
    this.revision = theirs?.revision ?? 0;
    this.saved = their;
    if (chosen === "theirs") this.#load(their, mine, "Theirs is in the editor.");
    else this.#stay(their, "Yours is in the editor, on top of theirs. Save again to keep it.");
    this.#showState();
  }

  #load(their, mine, sentence) {
    this.field.replaceAll(their);
    const back = () => this.field.replaceAll(mine);
    this.tell(sentence, "note", link("Bring mine back", back));
  }

  #stay(their, sentence) {
    const load = () => this.field.replaceAll(their);
    this.tell(sentence, "note", link("Load theirs after all", load));
  }

  /** Publish what is in the editor, after showing what that changes. */
  async publish() {
    const text = this.field.text;
    if (text === this.liveText) {
      this.tell("This is the live version: there is nothing to publish.", "note");
      return;
    }
    // Saved first: whoever saved another draft meanwhile is not published over.
    if (!(await this.save({ quiet: true }))) return;
    const [problem] = await this.findProblems();
    if (problem) {
      const go = () => this.field.goTo(problem.line, problem.column);
      const place = link(`Go to ${problem.line}:${problem.column}`, go);
      this.tell(`The draft is saved, but it cannot be published yet: ${problem.message}`, "alert", place);
      return;
    }
    const { name, api } = this;
    const impact = (signal) => api.impact(text, signal);
    const isLive = this.known.live !== null;
    if ((await askToPublish({ name, isLive, impact, liveText: this.liveText, text })) !== "publish") return;
    try {
      const said = await api.publish(text, this.known.live?.version ?? null, this.revision);
      await this.#learn();
      this.#keep();
      this.#tellPublished(said);
      this.#showState();
    } catch (error) {
      if (error.status === 409) await this.#liveMoved(text);
      else this.tell(error.message, "alert");
    }
  }

  async #liveMoved(mine) {
    const before = { known: this.known, revision: this.revision, saved: this.saved };
    await this.#learn();
    const when = this.known.live ? ` on ${moment(this.known.live.published_at)} (${zone})` : "";
    const chosen = await askAboutConflict({
      title: "Somebody else published first",
      sentence: `Another version went live${when}, after you began. Nothing was overwritten.`,
      theirs: this.liveText ?? "",
      mine,
      keep: "Keep mine, on top of theirs",
      load: "Load the live version",
    });
    if (!chosen) {
      Object.assign(this, before);
      return;
    }
    if (chosen === "theirs") this.#load(this.liveText ?? "", mine, "The live version is in the editor.");
    else this.#stay(this.liveText ?? "", "Yours is in the editor. Publish again to replace theirs.");
    this.#showState();
  }

  #tellPublished({ version, inheriting, draft_kept: another }) {
    const csrf = document.querySelector('meta[name="csrf"]').content;
    const mappers = [this.name, ...(inheriting ?? [])].join(",");
    const field = (key, value) => make("input", { type: "hidden", name: key, value });
    const replay = make(
      "form",
      { method: "post", action: "/replays" },
      field("csrf", csrf),
      ...(mappers.length <= FIELD_CHARS_MAX ? [field("mapped_by", mappers)] : []),
      make("button", { type: "submit" }, "Replay what this transform maps now…"),
    );
    const others =
      (inheriting?.length ? ` With it, ${inheriting.join(", ")}: they inherit from it.` : "") +
      (another ? " Somebody saved another draft meanwhile; it is kept." : "");
    this.tell(`Published: within two seconds, calls are mapped by version ${version.slice(0, 8)}.${others}`, "good", replay);
  }

  /** Throw the draft away, after asking. */
  async discard() {
    const yes = await askWhether({
      title: "Discard the draft?",
      sentence: this.known.live ? "The editor goes back to the live version." : "Nothing is live under this name: the text is lost.",
      yes: "Discard draft",
    });
    if (!yes) return;
    const mine = this.field.text;
    try {
      if (this.known.draft) await this.api.discard(this.revision);
      await this.#learn();
      this.#load(this.saved, mine, "The draft is discarded.");
      this.#keep();
      this.#showState();
    } catch (error) {
      if (error.status === 409) await this.#draftMoved(error.said.draft, mine);
      else this.tell(error.message, "alert");
    }
  }

  /** Take the live version out of use, after asking. */
  async unpublish() {
    const { name, api } = this;
    try {
      await this.#refresh();
      const { live, file } = this.known;
      if (!live || !(await askToUnpublish({ name, isOfFile: live.origin === "file" && file !== null }))) return;
      await api.unpublish(live.version);
      await this.#refresh();
      this.tell(`${name} is unpublished: within two seconds, no call is mapped by it. Its versions are in the history.`);
    } catch (error) {
      this.tell(error.message, "alert");
    }
  }

  /** Show the versions; put one into the editor, or make it live again. */
  async showHistory() {
    const { name, api } = this;
    const texts = new Map();
    const textOf = async (version) => {
      if (!texts.has(version)) texts.set(version, (await api.version(version)).text);
      return texts.get(version);
    };
    try {
      await this.#refresh();
    } catch (error) {
      this.tell(error.message, "alert");
      return;
    }
    const asked = await showHistory({ name, history: this.known.history, mine: this.field.text, textOf });
    if (!asked) return;
    if (asked.act === "roll-back") await this.#rollBack(asked.version);
    else this.#load(asked.text, this.field.text, `Version ${asked.version.slice(0, 8)} is in the editor.`);
  }

  async #rollBack(version) {
    const short = version.slice(0, 8);
    const sentence = "It goes live on all nodes within two seconds. Stored calls and drafts stay as they are.";
    if (!(await askWhether({ title: `Roll back to version ${short}?`, sentence, yes: "Roll back" }))) return;
    try {
      await this.api.rollBack(version);
      await this.#liveChanged();
      this.tell(`Version ${short} is live again.`);
    } catch (error) {
      this.tell(error.message, "alert");
    }
  }

  async #decide() {
    const take = await askAboutDrift({ name: this.name, file: this.known.file?.text ?? "", live: this.liveText ?? "" });
    if (take) await this.#resolve(take);
  }

  async #writeFile() {
    const sentence = `The live version is written to ${this.name}.yaml in the transforms folder of this node.`;
    const yes = await askWhether({ title: "Write a file?", sentence, yes: "Write the file", kind: "primary" });
    if (yes) await this.#resolve("live");
  }

  async #resolve(take) {
    try {
      await this.api.resolve(take);
      await this.#liveChanged();
      this.tell(take === "file" ? "The file is live." : "The live version was written into the file.");
    } catch (error) {
      this.tell(error.message, "alert");
    }
  }

  /** Learn what others did. The draft stays the one that was begun from, so that saving still tells of another. */
  async #refresh() {
    const { revision, saved } = this;
    await this.#learn();
    Object.assign(this, { revision, saved });
    this.#showState();
  }

  /** Learn what is live now; where nothing was written here, the text becomes that. */
  async #liveChanged() {
    if (this.isDirty || this.known.draft) return this.#refresh();
    await this.#learn();
    this.field.begin(this.saved);
    return this.#showState();
  }

  /** Keep unsaved text in the tab's own storage: it outlives a reload and an expired session. */
  #keep() {
    try {
      const { revision } = this;
      if (this.isDirty) sessionStorage.setItem(this.place, JSON.stringify({ text: this.field.text, revision }));
      else sessionStorage.removeItem(this.place);
    } catch {
      // The storage is full or forbidden; leaving the page still asks.
    }
  }

  #bringBack() {
    let kept;
    try {
      kept = JSON.parse(sessionStorage.getItem(this.place) ?? "null");
    } catch {
      kept = null;
    }
    if (!kept || kept.text === this.saved) return;
    const stored = this.field.text;
    this.field.begin(kept.text);
    // Of the draft it was begun from: if somebody saved another since, saving says so.
    this.revision = kept.revision;
    const drop = () => {
      this.revision = this.known.draft?.revision ?? 0;
      this.field.replaceAll(stored);
    };
    this.tell("Your unsaved text is back.", "note", link("Load the saved text", drop));
  }

  #showState() {
    if (!this.isReady) return;
    const { known, isDirty, name } = this;
    const isLive = this.field.text === this.liveText;
    const isDefault = this.name === "_default";
    showState(known, { isDirty, isLive, isDefault, writeFile: () => this.#writeFile() });
    showNotices(known, { name, decide: () => this.#decide() });
  }
}
