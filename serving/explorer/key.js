// Asks the reader for an API key; it is kept until the tab is closed.

import { el } from "./dom.js";

let asked = null;

// One dialog, however many calls wait for it.
export function askForKey(problem) {
  asked ??= new Promise((resolve) => open(problem, resolve)).finally(() => {
    asked = null;
  });
  return asked;
}

function open(problem, resolve) {
  const input = el("input", { type: "password", id: "api-key", required: true, autocomplete: "off" });
  const dialog = el(
    "dialog",
    { "aria-labelledby": "key-title" },
    el(
      "form",
      {
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          done();
        },
      },
      el("h2", { id: "key-title" }, "API key"),
      el("p", {}, problem || "This server answers only those who have a key."),
      el("label", { htmlFor: "api-key" }, "Key"),
      input,
      el("button", { type: "submit", class: "primary" }, "Continue"),
    ),
  );
  function done() {
    if (!input.value.trim()) return;
    dialog.close();
    dialog.remove();
    resolve(input.value.trim());
  }
  // Nothing can be shown without a key, so Esc, which a browser lets close any dialog at last, opens it again.
  dialog.addEventListener("close", () => dialog.isConnected && dialog.showModal());
  document.body.append(dialog);
  dialog.showModal();
}
