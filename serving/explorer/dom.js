// Elements in one expression. Text is always set as text, so that no title can become markup.

export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && !name.includes("-") && name !== "list" && name !== "role") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function button(label, onclick, props = {}) {
  return el("button", { type: "button", onclick, ...props }, label);
}

// A message in the place of content: what is being waited for, what is missing, what went wrong.
export function notice(text, kind = "empty", ...more) {
  return el(
    "div",
    { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" },
    el("p", {}, text),
    ...more,
  );
}

// New children for an element. The focus stays with what is called the same, else with what is in the same place.
export function refill(element, ...children) {
  const inside = () => [...element.querySelectorAll("a[href], button, input, select, summary")];
  const held = document.activeElement,
    place = inside().indexOf(held),
    name = held?.getAttribute("aria-label");
  element.replaceChildren(...children);
  if (place < 0) return;
  const now = inside();
  const next = now.find((each) => name && each.getAttribute("aria-label") === name) ?? now[place] ?? now.at(-1);
  next?.focus({ preventScroll: true });
}

const SLOW = 150;

// Show that an element waits for its content, if that takes a while; returns what ends it.
export function waiting(element) {
  const timer = setTimeout(() => {
    if (!element.childElementCount) element.append(notice("Loading …", "loading"));
    element.setAttribute("aria-busy", "true");
  }, SLOW);
  return () => {
    clearTimeout(timer);
    element.removeAttribute("aria-busy");
  };
}

export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

// Whether there is room for one column only; as in the style sheet.
export const narrow = () => matchMedia("(max-width: 52rem)").matches;

let lastId = 0;
export const uniqueId = (prefix) => `${prefix}-${++lastId}`;
