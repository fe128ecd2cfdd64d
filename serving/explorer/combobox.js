// A search field with a list of suggestions (the ARIA combobox pattern): arrows, Enter, Esc.

import { el, uniqueId } from "./dom.js";

const PAUSE = 120;

// search: text -> a promise of options; show: option -> children of its line; pick: called with the chosen option.
export function combobox({ label, placeholder, search, show, pick, keepText = () => "" }) {
  const id = uniqueId("search");
  const input = el("input", {
    id,
    type: "search",
    role: "combobox",
    placeholder,
    autocomplete: "off",
    spellcheck: false,
    "aria-expanded": "false",
    "aria-controls": `${id}-list`,
    "aria-autocomplete": "list",
  });
  const list = el("ul", { id: `${id}-list`, role: "listbox", "aria-label": label, hidden: true, class: "options" });
  const status = el("p", { class: "options-status", role: "status", hidden: true });
  const box = { input, list, status, show, keepText, options: [], active: -1, call: null, timer: 0, search, pick };
  input.addEventListener("input", () => ask(box, PAUSE));
  input.addEventListener("focus", () => ask(box, 0));
  input.addEventListener("click", () => {
    if (list.hidden) ask(box, 0);
  });
  input.addEventListener("blur", () => close(box));
  input.addEventListener("keydown", (event) => onKey(box, event));
  return el(
    "div",
    { class: "combobox" },
    el("label", { htmlFor: id }, label),
    el("div", { class: "anchor" }, input, list, status),
  );
}

function ask(box, pause) {
  clearTimeout(box.timer);
  box.call?.abort();
  // The lines that are still there belong to another text; Enter waits for those of this one.
  box.list.setAttribute("aria-busy", "true");
  box.chosen = false;
  box.timer = setTimeout(() => run(box), pause);
}

async function run(box) {
  const call = (box.call = new AbortController());
  try {
    if (!box.options.length) say(box, "Searching …");
    const options = await box.search(box.input.value, call.signal);
    if (call.signal.aborted || document.activeElement !== box.input) return;
    fill(box, options);
  } catch (error) {
    if (error.name !== "AbortError" && !call.signal.aborted) say(box, error.message);
  }
}

function fill(box, options) {
  box.options = options;
  box.list.removeAttribute("aria-busy");
  if (box.chosen && options.length) return choose(box, 0);
  box.list.replaceChildren(
    ...options.map((option, place) =>
      el(
        "li",
        {
          id: `${box.list.id}-${place}`,
          role: "option",
          "aria-selected": "false",
          // Not on click, which comes after the field has lost the focus.
          onmousedown: (event) => {
            event.preventDefault();
            choose(box, place);
          },
        },
        ...box.show(option),
      ),
    ),
  );
  box.active = -1;
  box.list.hidden = !options.length;
  box.input.setAttribute("aria-expanded", String(options.length > 0));
  box.input.removeAttribute("aria-activedescendant");
  if (options.length) box.status.hidden = true;
  else say(box, "Nothing found.");
  return undefined;
}

function say(box, text) {
  box.list.hidden = true;
  box.input.setAttribute("aria-expanded", "false");
  box.status.textContent = text;
  box.status.hidden = false;
}

function onKey(box, event) {
  const open = !box.list.hidden;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (open) move(box, event.key === "ArrowDown" ? 1 : -1);
    else ask(box, 0);
  } else if (event.key === "Enter") {
    event.preventDefault();
    if (box.list.hasAttribute("aria-busy")) box.chosen = true;
    else if (open) choose(box, Math.max(0, box.active));
  } else if (event.key === "Escape") {
    if (open || !box.status.hidden) {
      event.preventDefault();
      close(box);
    }
  }
}

function move(box, step) {
  const lines = box.list.children;
  lines[box.active]?.setAttribute("aria-selected", "false");
  box.active = (box.active + step + (box.active < 0 && step < 0 ? 1 : 0) + lines.length) % lines.length;
  const line = lines[box.active];
  line.setAttribute("aria-selected", "true");
  line.scrollIntoView({ block: "nearest" });
  box.input.setAttribute("aria-activedescendant", line.id);
}

function choose(box, place) {
  const option = box.options[place];
  box.input.value = box.keepText(option);
  close(box);
  box.pick(option);
}

function close(box) {
  clearTimeout(box.timer);
  box.call?.abort();
  box.options = [];
  box.list.removeAttribute("aria-busy");
  box.list.hidden = true;
  box.status.hidden = true;
  box.input.setAttribute("aria-expanded", "false");
  box.input.removeAttribute("aria-activedescendant");
}
