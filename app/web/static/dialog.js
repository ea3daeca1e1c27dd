/* A question that stands before the page. Keyboard, focus and Escape are the browser's own: it is a <dialog>. */

import { fill, make } from "./elements.js";

/**
 * Ask. `choices`: [{ value, label, kind }], the last one is what is usually meant. `fill(body, dialog)` puts in what it
 * is about; dialog.choices are the buttons by value.
 * Returns the value chosen, null for Escape or cancel.
 */
export function askPerson({ title, choices, wide = false, show }) {
  const heading = make("h2", { id: "dialog-title", tabindex: "-1", autofocus: true }, title);
  const body = make("div", { class: "dialog-body" });
  const toButton = ({ value, label, kind }) => make("button", { type: "submit", value, class: kind ?? null }, label);
  const buttons = choices.map(toButton);
  const form = make("form", { method: "dialog" }, heading, body, make("div", { class: "dialog-foot" }, buttons));
  const dialog = make("dialog", { class: wide ? "wide" : null, "aria-labelledby": "dialog-title" }, form);
  document.body.append(dialog);
  const byValue = Object.fromEntries(choices.map(({ value }, index) => [value, buttons[index]]));
  return new Promise((resolve) => {
    const controller = new AbortController();
    dialog.addEventListener("close", () => {
      controller.abort();
      dialog.remove();
      resolve(dialog.returnValue && dialog.returnValue !== "cancel" ? dialog.returnValue : null);
    });
    dialog.showModal();
    show({ body, choices: byValue, close: (value) => dialog.close(value), signal: controller.signal });
  });
}

/** Say in a dialog what went wrong. */
export function tellFault(body, error) {
  if (error.name === "AbortError") return;
  fill(body, make("p", { class: "alert", role: "alert" }, error.message));
}
