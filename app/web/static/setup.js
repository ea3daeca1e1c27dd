// The setup page: looks for calls that arrive, shows the secret when it is asked for, and copies.

const EVERY_MS = 2000;
const csrf = document.querySelector('meta[name="csrf"]').content;
const arrivals = document.getElementById("arrivals");
const form = document.getElementById("secret-form");

async function look() {
  try {
    const answer = await fetch("/setup/arrivals");
    if (answer.status === 401) return location.reload();
    if (answer.ok) {
      const there = new DOMParser().parseFromString(await answer.text(), "text/html").body;
      // The same words again would be read out again.
      if (there.innerHTML.trim() !== arrivals.innerHTML.trim()) arrivals.replaceChildren(...there.childNodes);
    }
  } catch {
    // The service restarts, or the network is away: look again.
  }
  setTimeout(look, EVERY_MS);
}

function withCopy(row, input) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.dataset.copy = input.id;
  row.append(button);
  prepare(button);
  return button;
}

function prepare(button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const input = document.getElementById(button.dataset.copy);
    input.select();
    try {
      await navigator.clipboard.writeText(input.value);
    } catch {
      // Without HTTPS a browser gives no clipboard; what is selected it still copies.
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    const copied = document.getElementById("copied");
    if (copied) copied.textContent = "Copied.";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

async function show(event) {
  event.preventDefault();
  const answer = await fetch("/setup/secret", {
    method: "POST",
    headers: { "X-CSRF-Token": csrf, Accept: "application/json" },
  });
  if (!answer.ok) return location.reload();
  const { secrets } = await answer.json();
  const rows = secrets.map((secret, at) => {
    const row = document.createElement("div");
    row.className = "row copying";
    const label = document.createElement("label");
    label.className = "hidden-text";
    label.htmlFor = `secret-${at + 1}`;
    label.textContent = `Shared secret ${at + 1}`;
    const input = document.createElement("input");
    input.id = `secret-${at + 1}`;
    input.className = "mono";
    input.readOnly = true;
    input.value = secret;
    row.append(label, input);
    return [row, input];
  });
  document.getElementById("secrets").replaceChildren(...rows.map(([row]) => row));
  const buttons = rows.map(([row, input]) => withCopy(row, input));
  buttons[0]?.focus();
}

document.querySelectorAll("button[data-copy]").forEach(prepare);
form?.addEventListener("submit", show);
setTimeout(look, EVERY_MS);
