// The panel that says for whom to retrieve, and what not.

import { encode, get } from "./api.js";
import { button, el, narrow, plural, refill, uniqueId } from "./dom.js";
import { filterForm, removable } from "./filters.js";
import { fieldTable, itemLink } from "./list.js";
import { itemSearch, titleOf, userSearch } from "./look_up.js";
import { go, read } from "./state.js";

const RECENT = 200,
  AT_FIRST = 5,
  AT_FIRST_NARROW = 2,
  AT_FIRST_K = 20;

// How many items to ask for: the server may allow fewer than the address says.
export const chosenK = (state, bundle) => Math.min(Number(state.k) || AT_FIRST_K, bundle.max_k);

export function queryPanel(bundle) {
  const who = el("div", { class: "who" }),
    composed = chosenItems("history", "Added to the history");
  const excluded = chosenItems("exclude", "Excluded items"),
    filter = filterForm(bundle),
    options = optionsForm(bundle),
    folded = fold([filter.element, options.element, excluded.element]);
  const element = el(
    "section",
    { class: "panel", "aria-label": "Query" },
    userSearch((user) => go({ user, cold: "" })),
    who,
    itemSearch("Add to the history", (item) => go({ history: [...read().history, item.item_id] })),
    composed.element,
    folded.element,
    button("Start again", () => go({ user: "", cold: "", history: [], exclude: [], filter: [] }), { class: "quiet" }),
  );
  let user = null;
  return {
    element,
    update(state) {
      const name = state.user || (state.cold ? "\n" : "");
      if (name !== user) showUser(who, (user = name), state);
      for (const part of [composed, excluded, filter, options, folded]) part.update(state);
    },
  };
}

// On a phone what is asked for less often is folded away, so that what is retrieved is near.
function fold(parts) {
  const summary = el("summary"),
    element = el("details", { class: "fold", open: !narrow() }, summary, el("div", {}, ...parts));
  return {
    element,
    update(state) {
      const set = state.filter.length + state.exclude.length + (state.seen === "out" ? 0 : 1) + (state.compare ? 1 : 0);
      summary.textContent = set ? `Filter and options (${set} set)` : "Filter and options";
    },
  };
}

async function showUser(who, name, state) {
  who.replaceChildren();
  if (!name) return;
  const clear = button("✕", () => go({ user: "", cold: "" }), { "aria-label": "Forget this user" });
  if (!state.user)
    return who.append(el("div", { class: "card" }, el("div", { class: "row" }, el("b", {}, "Somebody new"), clear)));
  try {
    const found = await get(`users/${encode(state.user)}`, { recent: RECENT });
    if (read().user === state.user) who.replaceChildren(userCard(found, clear));
  } catch (error) {
    const card = el(
      "div",
      { class: "card" },
      el("div", { class: "row" }, el("b", {}, `User ${state.user}`), clear),
      el(
        "p",
        { class: "error", role: "alert" },
        error.absent || error.status === 404 ? "Not in this bundle. Items added to the history count." : error.message,
      ),
    );
    if (read().user === state.user) who.replaceChildren(card);
  }
  return undefined;
}

function userCard(user, clear) {
  const recent = user.recent.toReversed();
  const line = (item) => el("li", {}, itemLink(item));
  const shown = user.history_length > RECENT ? ` of ${user.history_length.toLocaleString("en")}` : "";
  const first = narrow() ? AT_FIRST_NARROW : AT_FIRST,
    rest = recent.slice(first);
  return el(
    "div",
    { class: "card" },
    el("div", { class: "row" }, el("b", {}, `User ${user.user_id}`), clear),
    fieldTable(user.fields),
    el(
      "p",
      { class: "faint" },
      user.history_length ? `${plural(user.history_length, "item")}, the latest first` : "No history",
    ),
    el("ol", { class: "history", "aria-label": "History" }, ...recent.slice(0, first).map(line)),
    rest.length
      ? el(
          "details",
          {},
          el("summary", {}, `${rest.length} more${shown}`),
          el("ol", { class: "history" }, ...rest.map(line)),
        )
      : null,
  );
}

// The items of one list in the address, each with a button that takes it out.
function chosenItems(name, label) {
  const list = el("ul", { "aria-label": label });
  const element = el("div", { class: "chosen", hidden: true }, el("p", { class: "faint" }, label), list);
  const take = (place) => go({ [name]: read()[name].toSpliced(place, 1) });
  return {
    element,
    async update(state) {
      element.hidden = !state[name].length;
      const titles = await Promise.all(state[name].map(titleOf));
      if (read()[name].join("\n") !== state[name].join("\n")) return;
      refill(
        list,
        ...titles.map((title, place) =>
          el(
            "li",
            {},
            removable(title, () => take(place), `Remove ${title}`),
          ),
        ),
      );
    },
  };
}

function optionsForm(bundle) {
  const ids = ["k", "seen", "compare"].map(uniqueId);
  const counts = [10, AT_FIRST_K, 50, 100, 500].filter((k) => k <= bundle.max_k);
  const k = el(
    "select",
    { id: ids[0], onchange: () => go({ k: k.value }) },
    ...counts.map((each) => el("option", {}, String(each))),
  );
  const seen = el("input", { type: "checkbox", id: ids[1], onchange: () => go({ seen: seen.checked ? "out" : "in" }) });
  const compare = el("input", {
    type: "checkbox",
    id: ids[2],
    onchange: () => go({ compare: compare.checked ? "1" : "" }),
  });
  const line = (input, id, text) => el("div", { class: "row check" }, input, el("label", { htmlFor: id }, text));
  const element = el(
    "fieldset",
    {},
    el("legend", {}, "Options"),
    el("div", { class: "row" }, el("label", { htmlFor: ids[0] }, "Items to retrieve"), k),
    line(seen, ids[1], "Leave out what they have seen"),
    bundle.compare ? line(compare, ids[2], "Compare with the other bundle") : null,
  );
  return {
    element,
    update(state) {
      const value = String(chosenK(state, bundle));
      if (![...k.options].some((option) => option.value === value)) k.append(el("option", {}, value));
      k.value = value;
      seen.checked = state.seen === "out";
      compare.checked = Boolean(state.compare);
    },
  };
}
