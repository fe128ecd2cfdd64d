// One item: its fields, and its neighbours by embedding, by sessions and by titles.

import { encode, get } from "./api.js";
import { button, el, narrow, notice, plural, refill, waiting } from "./dom.js";
import { fieldTable, itemList, rankMark, shownFields } from "./list.js";
import { itemSearch } from "./look_up.js";
import { address, follow, go, read } from "./state.js";

const KINDS = {
  embedding: { name: "By embedding", about: "cosine of the model's vectors", score: (value) => value.toFixed(3) },
  session: {
    name: "By session",
    about: "sessions that hold both",
    score: (value) => String(Math.round(value * 100) / 100),
  },
  title: { name: "By title", about: "cosine of the titles' embeddings", score: (value) => value.toFixed(3) },
};
const K = 15,
  K_NARROW = 8;

export function itemView(content, bundle) {
  const card = el("section", { "aria-label": "Item" }),
    near = el("div", { class: "near" });
  content.className = "item";
  content.replaceChildren(
    itemSearch("Look up an item", (item) => go({ item: item.item_id })),
    card,
    near,
  );
  let call = null;
  return {
    leave: () => call?.abort(),
    async update(state) {
      call?.abort();
      call = new AbortController();
      near.replaceChildren();
      const { signal } = call,
        done = waiting(card);
      if (state.item) await showItem(state, bundle, card, near, signal);
      else card.replaceChildren(await popular(signal));
      done();
    },
  };
}

async function popular(signal) {
  const { items } = await get("items", { limit: 12 }, signal).catch(() => ({ items: [] }));
  return notice(
    "Look up an item by its title or id. These are popular:",
    "welcome",
    el(
      "div",
      { class: "chips" },
      ...items.map((item) => button(item.title ?? item.item_id, () => go({ item: item.item_id }))),
    ),
  );
}

async function showItem(state, bundle, card, near, signal) {
  try {
    const item = await get(`items/${encode(state.item)}`, {}, signal);
    refill(card, itemCard(item, bundle));
    document.title = `${item.title ?? item.item_id} · Explorer`;
  } catch (error) {
    if (error.name !== "AbortError") card.replaceChildren(notice(error.message, "error"));
    return;
  }
  const columns = Object.keys(KINDS).map((kind) => ({ kind, which: "served" }));
  if (bundle.compare && state.compare) columns.splice(1, 0, { kind: "embedding", which: "compare" });
  near.replaceChildren(...columns.map(({ kind, which }) => neighbours(state, bundle, kind, which, signal)));
}

function itemCard(item, bundle) {
  const onMap = { view: "map", item: item.item_id };
  const add = () => go({ view: "recommend", history: [...read().history, item.item_id] });
  const compare = () => go({ compare: read().compare ? "" : "1" });
  return el(
    "div",
    { class: "card" },
    el("h2", {}, item.title ?? item.item_id),
    el("p", { class: "id" }, item.item_id),
    fieldTable(item.fields),
    el(
      "p",
      { class: "faint" },
      plural(item.train_events, "train event"),
      item.indexed ? "" : " · not indexed: it cannot be retrieved",
    ),
    el(
      "div",
      { class: "actions" },
      button("Add to the history", add, { class: "primary" }),
      bundle.map_items
        ? el(
            "a",
            { class: "button", href: address(onMap), onclick: (event) => follow(event, onMap) },
            "Show on the map",
          )
        : null,
      bundle.compare ? button("Compare", compare, { "aria-pressed": String(Boolean(read().compare)) }) : null,
    ),
  );
}

function neighbours(state, bundle, kind, which, signal) {
  const { name, about } = KINDS[kind];
  const label = which === "compare" ? `${name}, compared bundle` : name;
  const body = el("div", {}, notice("Loading …", "loading"));
  const section = el("section", { "aria-label": label }, el("h3", {}, label), el("p", { class: "faint" }, about), body);
  if (!bundle.neighbours.includes(kind)) {
    const cure = "twotower prepare and twotower export put them there.";
    body.replaceChildren(notice("Not in this bundle.", "empty", el("p", { class: "faint" }, cure)));
    return section;
  }
  fill(state, bundle, kind, which, signal)
    .then((list) => body.replaceChildren(list))
    .catch((error) => {
      if (error.name !== "AbortError") body.replaceChildren(notice(error.message, "error"));
    });
  return section;
}

async function fill(state, bundle, kind, which, signal) {
  const ask = async (of) => {
    const asked = of === "compare" ? await get("bundle", { bundle: of }, signal) : bundle; // its fields may be others
    return get(
      `items/${encode(state.item)}/similar`,
      {
        kind,
        k: Math.min(narrow() ? K_NARROW : K, bundle.max_k),
        bundle: of,
        field: shownFields(asked).slice(0, 2),
      },
      signal,
    );
  };
  const { items } = await ask(which);
  const first = which === "compare" ? (await ask("served")).items : null;
  if (!items.length) return notice("It has none.");
  const mark = first ? (item, place) => rankMark(first, item, place) : undefined;
  return itemList(items, { label: `Neighbours ${KINDS[kind].name.toLowerCase()}`, score: KINDS[kind].score, mark });
}
