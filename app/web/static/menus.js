// Menus that open over everything (the browser's popovers), placed beside their button; and links that copy.

const GAP_PX = 4;

export function placeMenus(root) {
  for (const menu of root.querySelectorAll(".call-menu[popover]")) {
    menu.addEventListener("toggle", (event) => {
      if (event.newState === "open") place(menu);
    });
    if (menu.matches(":popover-open")) place(menu);
  }
}

function place(menu) {
  const button = document.querySelector(`[popovertarget="${menu.id}"]`).getBoundingClientRect();
  const height = menu.offsetHeight;
  const below = button.bottom + GAP_PX + height <= innerHeight;
  menu.style.margin = "0";
  menu.style.left = `${Math.max(GAP_PX, Math.min(button.right - menu.offsetWidth, innerWidth - menu.offsetWidth - GAP_PX))}px`;
  menu.style.top = `${below ? button.bottom + GAP_PX : Math.max(GAP_PX, button.top - GAP_PX - height)}px`;
}

// A link with data-copy leads to a text; with a script and a clipboard, the text is copied in place.
export function copyByFetch(root) {
  for (const link of root.querySelectorAll("a[data-copy]")) {
    link.addEventListener("click", async (event) => {
      if (!navigator.clipboard) return;
      event.preventDefault();
      const label = link.textContent;
      try {
        const answer = await fetch(link.href);
        if (!answer.ok) throw new Error(String(answer.status));
        await navigator.clipboard.writeText(await answer.text());
        link.textContent = "Copied";
      } catch {
        location.href = link.href;
        return;
      }
      setTimeout(() => {
        link.textContent = label;
      }, 1500);
    });
  }
}
