// What the page shows is in its address, so that a link shows the same, and the back button goes back.

const LISTS = ["history", "exclude"];
const DEFAULTS = {
  view: "recommend",
  user: "",
  cold: "",
  history: [],
  exclude: [],
  filter: [],
  k: "20",
  seen: "out",
  compare: "",
  item: "",
  field: "",
};
const listeners = [];

export function read(search = location.search) {
  const query = new URLSearchParams(search);
  const state = structuredClone(DEFAULTS);
  for (const name of Object.keys(DEFAULTS)) {
    if (LISTS.includes(name)) state[name] = query.getAll(name);
    else if (name === "filter") state.filter = parsed(query.get("filter"));
    else state[name] = query.get(name) ?? DEFAULTS[name];
  }
  return state;
}

function parsed(text) {
  try {
    const value = JSON.parse(text ?? "[]");
    return Array.isArray(value) ? value.filter((each) => each && typeof each.field === "string") : [];
  } catch {
    return [];
  }
}

// The address with some of the state changed.
export function address(changes, state = read()) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...state, ...changes })) {
    if (LISTS.includes(name)) value.forEach((each) => query.append(name, each));
    else if (name === "filter") {
      if (value.length) query.set(name, JSON.stringify(value));
    } else if (value !== DEFAULTS[name]) query.set(name, value);
  }
  return query.size ? `?${query}` : location.pathname;
}

export function go(changes, { replace = false } = {}) {
  const next = address(changes);
  if (next === (location.search || location.pathname)) return;
  history[replace ? "replaceState" : "pushState"](null, "", next);
  tell();
}

export function onChange(listener) {
  listeners.push(listener);
}

function tell() {
  const state = read();
  listeners.forEach((listener) => listener(state));
}

window.addEventListener("popstate", tell);

// A link to another state; a plain click stays on the page.
export function follow(event, changes) {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  go(changes);
}
