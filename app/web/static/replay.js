// Watches a replay: moves its bar on, and loads the page anew when there is something else to do about it.

const place = document.getElementById("replay");
const bar = document.getElementById("bar");
const read = document.getElementById("read");
const said = document.getElementById("said");
const EVERY_MS = 1000;

async function look() {
  try {
    const answer = await fetch(`/api/v1/replays/${place.dataset.id}`, { headers: { Accept: "application/json" } });
    if (answer.status === 401) return location.reload();
    if (answer.ok) {
      const now = await answer.json();
      bar.value = now.total ? now.calls : 1;
      read.textContent = now.calls.toLocaleString("en-US");
      said.textContent = now.total ? `${Math.floor((100 * now.calls) / now.total)} percent` : "";
      if (now.state !== place.dataset.state) return location.reload();
    }
  } catch {
    // The service restarts, or the network is away: the replay goes on, and so does looking.
  }
  setTimeout(look, EVERY_MS);
}

setTimeout(look, EVERY_MS);
