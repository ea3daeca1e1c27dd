/* Making elements. What a call holds goes through here as text, and never as markup. */

/**
 * Make an element. `given`: attributes, and what to do `on...` an event; null and false leave one out.
 * `inside`: texts, elements, lists of them.
 */
export function make(name, given = {}, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...inside.flat(9).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

/** Put other things in the place of what an element holds. */
export function fill(element, ...inside) {
  element.replaceChildren(...inside.flat(9).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

/** As `fill`; where one of its buttons had the focus, the one in its place has it, and what was unfolded stays so. */
export function refill(element, ...inside) {
  const stops = () => [...element.querySelectorAll("button, a, summary, [tabindex]")];
  const focused = stops().indexOf(document.activeElement);
  const unfolded = [...element.querySelectorAll("details")].map((one) => one.open);
  fill(element, ...inside);
  element.querySelectorAll("details").forEach((one, index) => (one.open = unfolded[index] ?? one.open));
  if (focused >= 0) stops()[focused]?.focus({ preventScroll: true });
  return element;
}

/** The element with an id. */
export const at = (id) => document.getElementById(id);

/** "1 event", "2 events", "1,000 events". */
export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** A time as people read it, in UTC as everywhere here: `2026-11-23 17:30:12`. */
export const moment = (text) => (text ? `${text.slice(0, 10)} ${text.slice(11, 19)}` : "");

/** A button that looks like a link. */
export const link = (label, act) => make("button", { type: "button", class: "link", onclick: act }, label);

/** What became of a call: a colour and always the word. */
export const chip = (word, kind = word) => make("span", { class: `chip ${kind}` }, word);
