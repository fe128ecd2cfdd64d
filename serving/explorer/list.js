// A ranked list of items: titles, fields, scores, and what can be done with each.

import { button, el, notice } from "./dom.js";
import { address, follow } from "./state.js";

const MAX_FIELDS = 3,
  MAX_VALUES = 3,
  MANY = 12;

const given = (value) => [value].flat().filter((each) => each !== null && each !== "");

// The fields of an item as chips, a few of each; numbers say what they are.
function chips(fields) {
  return el(
    "span",
    { class: "chips" },
    ...Object.entries(fields ?? {}).flatMap(([name, value]) => {
      const values = given(value),
        shown = values.slice(0, MAX_VALUES);
      const told = shown.map((each) => chip(typeof each === "number" ? `${name} ${each}` : each, name));
      return values.length > shown.length
        ? [...told, chip(`+${values.length - shown.length}`, `${name}: ${values.join(", ")}`)]
        : told;
    }),
  );
}

function chip(text, title) {
  return el("span", { class: "chip", title }, text);
}

// All fields of an item or user, each with its name.
export function fieldTable(fields) {
  const lines = Object.entries(fields)
    .map(([name, value]) => [name, given(value)])
    .filter(([, values]) => values.length);
  return lines.length
    ? el(
        "dl",
        { class: "fields" },
        ...lines.flatMap(([name, values]) => [el("dt", {}, name), fieldValues(name, values)]),
      )
    : null;
}

// Many values are shown when they are asked for.
function fieldValues(name, values) {
  const all = values.map((each) => chip(String(each), name)),
    rest = all.splice(values.length > MANY + 1 ? MANY : Infinity);
  const more = rest.length
    ? button(`${rest.length} more`, () => more.replaceWith(...rest), {
        class: "chip",
        "aria-label": `${rest.length} more ${name}`,
      })
    : null;
  return el("dd", { class: "chips" }, ...all, more);
}

export function shownFields(bundle) {
  return bundle.item_fields.slice(0, MAX_FIELDS);
}

export function itemLink(item) {
  const changes = { view: "item", item: item.item_id };
  return el(
    "a",
    { href: address(changes), onclick: (event) => follow(event, changes), class: "title" },
    item.title ?? item.item_id,
  );
}

// actions: item -> elements; mark: (item, place) -> an element beside the rank.
export function itemList(items, { label, actions = () => [], mark = () => null, score = (value) => value.toFixed(3) }) {
  if (!items.length) return notice("No items. Loosen the filter, or leave out less.");
  const best = Math.max(...items.map((item) => item.score), 1e-9);
  return el(
    "ol",
    { class: "items", "aria-label": label },
    ...items.map((item, place) =>
      el(
        "li",
        {},
        el("span", { class: "rank" }, String(place + 1), mark(item, place)),
        el(
          "div",
          { class: "what" },
          itemLink(item),
          el("div", { class: "more" }, el("span", { class: "id" }, item.item_id), chips(item.fields)),
        ),
        scoreBar(item.score, best, score),
        el("div", { class: "actions" }, ...actions(item)),
      ),
    ),
  );
}

function scoreBar(value, best, text) {
  const bar = el("span", { class: "bar" });
  bar.style.width = `${Math.max(0, Math.min(1, value / best)) * 100}%`;
  return el(
    "span",
    { class: "score" },
    el("span", { class: "track", "aria-hidden": "true" }, bar),
    el("span", { class: "number" }, el("span", { class: "unseen" }, "score "), text(value)),
  );
}

// How an item's rank changed from one list to another.
export function rankMark(before, item, place) {
  const was = before.findIndex((other) => other.item_id === item.item_id);
  if (was < 0) return change("new", "new", "new");
  if (was === place) return change("same", "=", "same rank");
  return was > place
    ? change("up", `▲${was - place}`, `up ${was - place}`)
    : change("down", `▼${place - was}`, `down ${place - was}`);
}

export function goneMark(after, item) {
  return after.some((other) => other.item_id === item.item_id) ? null : change("gone", "gone", "not in the other list");
}

function change(kind, text, spoken) {
  return el(
    "span",
    { class: `change ${kind}`, title: spoken },
    el("span", { "aria-hidden": "true" }, text),
    el("span", { class: "unseen" }, spoken),
  );
}
