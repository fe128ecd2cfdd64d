// The search fields for users and items.

import { get } from "./api.js";
import { combobox } from "./combobox.js";
import { el, plural } from "./dom.js";

export function userSearch(pick) {
  return combobox({
    label: "Look up a user",
    placeholder: "User id …",
    search: async (q, signal) => (await get("users", { q, limit: 10 }, signal)).users,
    show: (user) => [user.user_id, el("span", { class: "aside" }, plural(user.history_length, "item"))],
    pick: (user) => pick(user.user_id),
  });
}

export function itemSearch(label, pick) {
  return combobox({
    label,
    placeholder: "Title or id …",
    search: async (q, signal) => (await get("items", { q, limit: 12 }, signal)).items,
    show: (item) => [item.title ?? item.item_id, el("span", { class: "aside" }, item.item_id)],
    pick,
  });
}

const titles = new Map();

// The title of an item of which the address tells the id only.
export async function titleOf(id) {
  if (!titles.has(id))
    titles.set(
      id,
      get(`items/${encodeURIComponent(id)}`).then(
        (item) => item.title ?? id,
        () => {
          titles.delete(id); // the next time it may be told
          return id;
        },
      ),
    );
  return titles.get(id);
}
