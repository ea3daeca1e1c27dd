// The calls page: a live tail, addresses without empty fields, and menus that stand beside their button.
// Everything here is an addition: without it the page filters, pages and opens its menus all the same.

import { copyByFetch, placeMenus } from "./menus.js";

const POLL_MS = 2000;
const ROWS_MAX = 500;
// Whoever has scrolled so far is reading, and rows that come in above would push the text away.
const SCROLLED_PX = 40;

placeMenus(document);
copyByFetch(document);

document.querySelector("form.filters").addEventListener("formdata", (event) => {
  for (const [name, value] of [...event.formData]) {
    if (value === "") event.formData.delete(name);
  }
});

const live = document.getElementById("live");
if (live) follow(live);

function follow(live) {
  const rows = document.getElementById("rows");
  const state = document.getElementById("live-state");
  const button = document.getElementById("live-button");
  const known = new Set([...rows.children].map((row) => row.dataset.id));
  const waiting = [];
  let newest = live.dataset.newest;
  let paused = false;
  let gap = false;
  live.hidden = false;

  const say = (text) => {
    if (state.textContent !== text) state.textContent = text;
  };

  const tell = () => {
    live.classList.toggle("paused", paused);
    say(paused ? "Paused" : gap ? "Live; more calls came than fit here" : "Live");
    button.textContent = !paused ? "Pause" : waiting.length ? `Resume, ${waiting.length} new` : "Resume";
  };

  const pause = () => {
    if (!paused) {
      paused = true;
      tell();
    }
  };

  const show = () => {
    if (!waiting.length) return;
    document.getElementById("list").hidden = false;
    document.getElementById("empty")?.remove();
    for (const row of waiting.splice(0)) {
      const after = [...rows.children].find((other) => isOlder(other.dataset.id, row.dataset.id));
      rows.insertBefore(row, after ?? null);
      placeMenus(row);
      copyByFetch(row);
    }
    while (rows.children.length > ROWS_MAX) rows.lastElementChild.remove();
  };

  const look = async () => {
    if (document.hidden) return;
    const separator = live.dataset.query.includes("?") ? "&" : "?";
    const answer = await fetch(`${live.dataset.query}${separator}newest=${newest}`);
    if (answer.status === 401) {
      say("Signed out: load the page again");
      clearInterval(timer);
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    const body = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("tbody");
    newest = body.dataset.newest;
    const fresh = [...body.children].filter((row) => !known.has(row.dataset.id));
    gap = "more" in body.dataset && fresh.length === body.children.length;
    for (const row of fresh) {
      known.add(row.dataset.id);
      waiting.push(document.adoptNode(row));
    }
    if (!paused) show();
    tell();
  };

  let looking = false;
  const timer = setInterval(async () => {
    if (looking) return;
    looking = true;
    try {
      await look();
    } catch {
      say("The service cannot be reached; trying again");
    }
    looking = false;
  }, POLL_MS);

  button.addEventListener("click", () => {
    if (paused) {
      paused = false;
      document.querySelectorAll(".call-menu:popover-open").forEach((menu) => menu.hidePopover());
      show();
      scrollTo({ top: Math.min(scrollY, listTop()) });
      tell();
    } else {
      pause();
    }
  });

  const listTop = () => rows.getBoundingClientRect().top + scrollY - innerHeight / 2;

  addEventListener("scroll", () => {
    if (scrollY > SCROLLED_PX && rows.getBoundingClientRect().top < 0) pause();
  }, { passive: true });
  // Whoever opens a menu, marks text or steps through the rows is busy with one of them.
  rows.addEventListener("beforetoggle", pause, { capture: true });
  rows.addEventListener("focusin", pause);
  rows.addEventListener("pointerdown", pause);
  // Somebody may have been quicker than this script.
  if (rows.querySelector(":popover-open") || rows.contains(document.activeElement)) pause();
}

// Ids have up to 19 digits, more than a number holds exactly.
function isOlder(id, than) {
  return BigInt(id) < BigInt(than);
}
