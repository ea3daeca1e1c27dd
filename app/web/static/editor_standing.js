/* How a transform stands: what is live, the draft, the file. */

import { originOf } from "./editor_history.js";
import { at, chip, link, make, moment, refill } from "./elements.js";

const minute = (live) => moment(live.published_at).slice(0, 16);
const soft = (...inside) => make("span", { class: "soft" }, inside);

/** Show in the head of the page what is live and what is saved, and which buttons make sense. */
export function showState({ live, draft, state }, { isDirty, isLive, isDefault, writeFile }) {
  const liveChip = live
    ? [chip("live", "ok"), soft(make("code", {}, live.version.slice(0, 8)), ` ${originOf(live.origin)}, ${minute(live)}`)]
    : chip("not live yet", "warn");
  const fileChips = {
    drift: chip("drift", "warn"),
    broken: chip("broken file", "bad"),
    no_file: link("No file: write one…", writeFile),
  };
  const savedChip = draft ? [chip("draft saved", "duplicate"), soft(moment(draft.saved_at).slice(11, 16))] : null;
  refill(at("standing"), liveChip, fileChips[state], isDirty ? chip("unsaved changes", "warn") : savedChip);
  at("save").disabled = !isDirty;
  at("publish").disabled = isLive;
  at("discard").hidden = !(draft || (isDirty && live));
  at("unpublish").hidden = !live || isDefault;
  at("history").disabled = false;
}

/** Say what a person has to know or to decide; `decide`: ask which is right, the file or what is live. */
export function showNotices({ state, live, draft, file, problems }, { name, decide }) {
  const notices = [];
  const add = (kind, text, ...more) => notices.push(make("div", { class: `${kind} said` }, make("p", {}, text), more));
  if (state === "drift") {
    const differ =
      live?.origin === "editor"
        ? `The live version was published from the editor; the file ${name}.yaml still differs.`
        : `The live version and the file ${name}.yaml differ.`;
    add("note", differ, link("Compare and decide", decide));
  }
  if (state === "broken") {
    const why = problems.length ? ` ${problems.join(" ")}` : "";
    add("alert", `The file ${name}.yaml cannot be used; ${live ? "the live version stays" : "nothing is live"}.${why}`);
  }
  if (draft && draft.base !== (live?.version ?? null)) {
    const first = "Another version went live after this draft was begun.";
    add("note", `${first} Publishing shows the difference, and then replaces it with the draft.`);
  }
  if (!live && !draft && !file) {
    add("note", `A new transform: nothing named ${name} is live yet. It takes calls once it is published.`);
  }
  refill(at("notices"), notices);
}
