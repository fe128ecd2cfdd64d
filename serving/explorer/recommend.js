// Recommend: somebody on the left, what is retrieved for them on the right.

import { get, post } from "./api.js";
import { button, el, narrow, notice, plural, refill, waiting } from "./dom.js";
import { asFilter } from "./filters.js";
import { goneMark, itemList, rankMark, shownFields } from "./list.js";
import { chosenK, queryPanel } from "./query.js";
import { go, read } from "./state.js";

export function recommendView(content, bundle) {
  const panel = queryPanel(bundle);
  const results = el("section", { "aria-label": "Retrieved items", class: "results" });
  content.className = "recommend";
  content.replaceChildren(panel.element, results);
  let call = null;
  const update = async (state) => {
    panel.update(state);
    call?.abort();
    const mine = (call = new AbortController());
    const done = waiting(results);
    try {
      const shown = await answer(state, bundle, mine.signal);
      if (!mine.signal.aborted) refill(results, ...shown);
    } catch (error) {
      if (error.name !== "AbortError" && !mine.signal.aborted) results.replaceChildren(notice(error.message, "error"));
    } finally {
      done();
    }
  };
  return { update, leave: () => call?.abort() };
}

async function answer(state, bundle, signal) {
  if (!state.user && !state.history.length && !state.cold) return [await welcome(signal)];
  const ask = (which, of) => post("recommend", { ...request(state, of), bundle: which }, signal);
  if (!state.compare || !bundle.compare) {
    const found = await ask("served", bundle);
    return [heading(found), list(found, "Retrieved items")];
  }
  const other = await get("bundle", { bundle: "compare" }, signal); // its items may have other fields
  const [before, after] = await Promise.all([ask("served", bundle), ask("compare", other)]);
  return side(before, after, bundle, other);
}

export function request(state, bundle) {
  const body = {
    k: chosenK(state, bundle),
    exclude_seen: state.seen === "out",
    exclude: state.exclude,
    fields: shownFields(bundle),
  };
  if (state.user) body.user_id = state.user;
  if (state.history.length || state.cold) body.history = state.history;
  const filter = asFilter(state.filter);
  return filter ? { ...body, filter } : body;
}

function heading(found) {
  const parts = [`${plural(found.items.length, "item")} for a history of ${found.history_length}`];
  if (found.fresh) parts.push(`${found.fresh} of them fresh`);
  const ignored = Object.values(found.ignored).flat();
  return el(
    "div",
    { class: "heading" },
    el("h2", {}, "Retrieved"),
    el("p", { role: "status" }, parts.join(", ")),
    ignored.length ? el("p", { class: "warning" }, `Not in this bundle, and left out: ${ignored.join(", ")}`) : null,
  );
}

function list(found, label, mark) {
  return itemList(found.items, { label, mark, actions });
}

function actions(item) {
  const name = item.title ?? item.item_id;
  return [
    button("+", () => go({ history: [...read().history, item.item_id] }), {
      "aria-label": `Add ${name} to the history`,
      title: "Add to the history",
    }),
    button("✕", () => go({ exclude: [...read().exclude, item.item_id] }), {
      "aria-label": `Exclude ${name}`,
      title: "Exclude",
    }),
  ];
}

function side(before, after, first, second) {
  const ids = new Set(before.items.map((item) => item.item_id));
  const both = after.items.filter((item) => ids.has(item.item_id)).length;
  const k = Math.max(before.items.length, after.items.length, 1);
  const column = (bundle, name, found, mark) =>
    el(
      "section",
      { "aria-label": name },
      el(
        "h3",
        {},
        name,
        el("span", { class: "faint" }, ` ${bundle.created.slice(0, 16).replace("T", " ")} · ${bundle.run.slice(4)}`),
      ),
      list(found, `${name}: retrieved items`, mark),
    );
  const served = column(first, "Served", before, (item) => goneMark(after.items, item));
  const compared = column(second, "Compared", after, (item, place) => rankMark(before.items, item, place));
  const share = el(
    "span",
    { role: "status" },
    el("b", {}, `${both} of ${k}`),
    ` in both lists, overlap@${k} = ${(both / k).toFixed(2)}`,
  );
  // On a phone the lists lie one below the other.
  const jump = narrow() ? button("To the compared list", () => compared.scrollIntoView()) : null;
  return [heading(before), el("p", { class: "overlap" }, share, jump), el("div", { class: "sides" }, served, compared)];
}

async function welcome(signal) {
  const [{ users }, { items }] = await Promise.all([
    get("users", { limit: 5 }, signal),
    get("items", { limit: 5 }, signal),
  ]);
  return notice(
    "Look up a user, or add items to a history, and see what is retrieved.",
    "welcome",
    el(
      "div",
      { class: "chips" },
      ...users.map(({ user_id }) => button(`User ${user_id}`, () => go({ user: user_id }))),
      button("Somebody new", () => go({ cold: "1" })),
    ),
    el("p", { class: "then" }, "Or begin with somebody who liked one of these:"),
    el(
      "div",
      { class: "chips" },
      ...items.map(({ item_id: id, title }) => button(title ?? id, () => go({ history: [id] }))),
    ),
  );
}
