/* Versions: the history with its diffs, what two people wrote, what a file says and what is live. */

import { askPerson, tellFault } from "./dialog.js";
import { diffView } from "./editor_diff.js";
import { fill, make, moment } from "./elements.js";

/**
 * Show the versions. Returns { act: "roll-back" | "load", version, text }, or null.
 * `history`: newest first. `mine`: the text in the editor. `textOf(version)` reads one.
 */
export async function showHistory({ name, history, mine, textOf }) {
  const kept = history.filter((one) => one.version);
  let chosen = kept[0] ?? null;
  let text = "";
  const act = await askPerson({
    title: `History of ${name}`,
    wide: true,
    choices: [
      { value: "load", label: "Put into the editor" },
      { value: "roll-back", label: "Roll back to this…", kind: "danger" },
      { value: "cancel", label: "Close", kind: "primary" },
    ],
    show: ({ body, choices }) => {
      const side = make("div", { class: "history-diff" });
      const list = make("ol", { class: "picks" });
      let against = "before";
      const tellWhat = (one) => (one.version ? one.version.slice(0, 8) : "unpublished");
      const look = async () => {
        const index = history.indexOf(chosen);
        const isLive = index === 0;
        for (const button of list.querySelectorAll("button")) {
          button.setAttribute("aria-pressed", String(button.value === String(index)));
        }
        choices["roll-back"].hidden = isLive;
        const wanted = chosen;
        try {
          text = await textOf(chosen.version);
          const older = history.slice(index + 1).find((one) => one.version);
          const other = against === "mine" ? mine : older ? await textOf(older.version) : "";
          if (chosen !== wanted) return;
          const [from, to] = against === "mine" ? [text, mine] : [other, text];
          const mineLabel = "From this version to the text in the editor";
          fill(side, diffView(from, to, against === "mine" ? mineLabel : "From the previous version to this one"));
        } catch (error) {
          tellFault(side, error);
        }
      };
      if (!chosen) {
        fill(body, make("p", { class: "empty" }, "Nothing was published under this name yet."));
        choices.load.hidden = choices["roll-back"].hidden = true;
        return;
      }
      fill(
        list,
        history.map((one, index) =>
          make(
            "li",
            {},
            make(
              "button",
              { type: "button", value: String(index), disabled: !one.version, onclick: () => ((chosen = one), look()) },
              make("code", {}, tellWhat(one)),
              make("span", { class: "pick-name" }, index === 0 && one.version ? "live" : ""),
              make("time", { datetime: one.published_at }, moment(one.published_at).slice(0, 16)),
              make("span", { class: "pick-more" }, originOf(one.origin)),
            ),
          ),
        ),
      );
      const select = make(
        "select",
        { id: "history-against", onchange: () => ((against = select.value), look()) },
        make("option", { value: "before" }, "against the version before"),
        make("option", { value: "mine" }, "against the text in the editor"),
      );
      const label = make("label", { for: "history-against", class: "hidden-text" }, "Show each version");
      fill(body, make("div", { class: "history" }, list, make("div", {}, label, select, side)));
      look();
    },
  });
  return act && chosen ? { act, version: chosen.version, text } : null;
}

const ORIGINS = { file: "from its file", editor: "from the editor" };

/** How a version became live, in words. */
export function originOf(origin) {
  return ORIGINS[origin] ?? origin;
}

/** Ask what to do where somebody else was first. Returns "mine", "theirs" or null. */
export function askAboutConflict({ title, sentence, theirs, mine, keep, load }) {
  return askPerson({
    title,
    wide: true,
    choices: [
      { value: "theirs", label: load },
      { value: "mine", label: keep, kind: "primary" },
    ],
    show: ({ body }) =>
      fill(
        body,
        make("p", { class: "note", role: "alert" }, sentence),
        make("h3", {}, "From theirs to yours"),
        diffView(theirs, mine, "From their text to yours"),
      ),
  });
}

/** Ask which is right, the file or what is live. Returns "file", "live" or null. */
export function askAboutDrift({ name, file, live }) {
  return askPerson({
    title: `${name}: the file or the live version?`,
    wide: true,
    choices: [
      { value: "cancel", label: "Decide later" },
      { value: "live", label: "Keep the live version" },
      { value: "file", label: "Take the file" },
    ],
    show: ({ body }) =>
      fill(
        body,
        make("p", {}, make("b", {}, "Take the file"), " publishes the file."),
        make("p", {}, make("b", {}, "Keep the live version"), " writes the live version into the file."),
        make("h3", {}, "From the live version to the file"),
        diffView(live, file, "From the live version to the file"),
      ),
  });
}

/** Ask a short question; returns whether it was said yes to. */
export async function askWhether({ title, sentence, yes, kind = "danger" }) {
  const said = await askPerson({
    title,
    choices: [
      { value: "cancel", label: "Cancel" },
      { value: "yes", label: yes, kind },
    ],
    show: ({ body }) => fill(body, make("p", {}, sentence)),
  });
  return said === "yes";
}
