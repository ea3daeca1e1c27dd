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

const PARTS = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" };

function clockOf(timeZone) {
  return new Intl.DateTimeFormat("en-CA", { ...PARTS, hourCycle: "h23", timeZone });
}

/** The clock of the page's zone; of UTC where the browser does not know that zone. */
function pageClock() {
  try {
    return clockOf(document.documentElement.dataset.zone);
  } catch {
    return clockOf("UTC");
  }
}

const clock = pageClock();

/** The time zone in which times are shown. */
export const zone = clock.resolvedOptions().timeZone;

/** A time of the API as people read it, in the zone of the page: `2026-11-23 17:30:12`. */
export function moment(text) {
  if (!text) return "";
  const part = Object.fromEntries(clock.formatToParts(new Date(text)).map(({ type, value }) => [type, value]));
  return `${part.year}-${part.month}-${part.day} ${part.hour}:${part.minute}:${part.second}`;
}

/** A button that looks like a link. */
export const link = (label, act) => make("button", { type: "button", class: "link", onclick: act }, label);

/** What became of a call: a colour and always the word. */
export const chip = (word, kind = word) => make("span", { class: `chip ${kind}` }, word);
