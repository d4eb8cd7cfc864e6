// What markup cannot say: keys, dialogs, and when live parts have lost the gate.
(() => {
  "use strict";
  let waiting = false;
  const isTyping = (one) => one.matches("input, textarea, select, [contenteditable]");

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (waiting) {
      waiting = false;
      const found = document.querySelector(`.side a[data-key="${CSS.escape(event.key)}"]`);
      if (found) found.click();
      return;
    }
    if (event.key === "g") {
      waiting = true;
      setTimeout(() => { waiting = false; }, 1500);
    } else if (event.key === "/") {
      const field = document.querySelector("[data-search]");
      if (field) { event.preventDefault(); field.focus(); field.select(); }
    }
  });

  // A menu that is open closes when something else is chosen.
  document.addEventListener("click", (event) => {
    for (const one of document.querySelectorAll("header details[open]")) {
      if (!one.contains(event.target)) one.open = false;
    }
  });

  const setLive = (isLive) => {
    for (const one of document.querySelectorAll("[data-live]")) {
      one.dataset.live = isLive ? "yes" : "no";
    }
  };
  document.addEventListener("htmx:sseOpen", () => setLive(true));
  document.addEventListener("htmx:sseError", () => setLive(false));
})();
