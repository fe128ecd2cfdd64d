// A filter as a list of conditions, all of which hold: {field, in: [...], not} or {field, gte, lte, not}.

import { get } from "./api.js";
import { button, el, refill, uniqueId } from "./dom.js";
import { combobox } from "./combobox.js";
import { go, read } from "./state.js";

// What the API calls a filter, or undefined for none.
export function asFilter(conditions) {
  const parts = conditions.map(({ not, ...condition }) => (not ? { not: condition } : condition));
  return parts.length > 1 ? { and: parts } : parts[0];
}

export function filterForm(bundle) {
  const told = el("ul", { class: "conditions", "aria-label": "Conditions" });
  const value = el("div");
  const id = uniqueId("field");
  const select = el(
    "select",
    { id, onchange: () => chooseField(select.value) },
    el("option", { value: "" }, "Choose a field …"),
    ...bundle.item_fields.map((name) => el("option", { value: name }, name)),
  );
  let fields = null;

  async function chooseField(name) {
    value.replaceChildren();
    if (!name) return;
    try {
      fields ??= (await get("fields")).fields;
      if (select.value === name) value.replaceChildren(valueInput(name, fields[name]));
    } catch (error) {
      value.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    }
  }

  const element = el(
    "fieldset",
    {},
    el("legend", {}, "Filter"),
    told,
    bundle.item_fields.length
      ? el("div", { class: "row" }, el("label", { htmlFor: id, class: "unseen" }, "Field"), select)
      : el("p", { class: "faint" }, "The items have no fields."),
    value,
  );
  return { element, update: (state) => refill(told, ...state.filter.map(conditionLine)) };
}

function valueInput(name, summary) {
  return summary.kind === "numeric" ? rangeInput(name, summary) : valueSearch(name, summary);
}

function valueSearch(name, summary) {
  const search = async (text) => {
    const wanted = text.trim().toLowerCase();
    const listed = summary.values.filter(({ value }) => value.toLowerCase().includes(wanted)).slice(0, 30);
    // Of a field with very many values only the frequent ones are listed; any other can be typed.
    const typed =
      wanted && summary.distinct > summary.values.length && !listed.some(({ value }) => value === text.trim());
    return typed ? [...listed, { value: text.trim(), items: null }] : listed;
  };
  return combobox({
    label: `Values of ${name}`,
    placeholder: "Type or choose a value …",
    search,
    show: ({ value, items }) => [
      value,
      el("span", { class: "aside" }, items === null ? "as typed" : items.toLocaleString("en")),
    ],
    pick: ({ value }) => addValue(name, value),
  });
}

function addValue(name, value) {
  const filter = read().filter;
  const place = filter.findIndex((each) => each.field === name && each.in);
  if (place < 0) return go({ filter: [...filter, { field: name, in: [value] }] });
  const values = new Set([...filter[place].in, value]);
  return go({ filter: filter.with(place, { ...filter[place], in: [...values] }) });
}

function rangeInput(name, { low, high }) {
  const [from, to] = ["From", "To"].map((label, place) =>
    el("input", {
      type: "number",
      step: "any",
      "aria-label": `${label}, ${name}`,
      placeholder: `${label.toLowerCase()} ${(place ? high : low) ?? ""}`,
    }),
  );
  const add = () => {
    const bounds = { ...(from.value && { gte: Number(from.value) }), ...(to.value && { lte: Number(to.value) }) };
    if (Object.keys(bounds).length) go({ filter: [...read().filter, { field: name, ...bounds }] });
  };
  return el(
    "form",
    {
      class: "row",
      onsubmit: (event) => {
        event.preventDefault();
        add();
      },
    },
    from,
    to,
    el("button", { type: "submit" }, "Add"),
  );
}

function conditionLine(condition, place) {
  const change = (next) => go({ filter: next ? read().filter.with(place, next) : read().filter.toSpliced(place, 1) });
  const not = button(condition.not ? "is not" : "is", () => change({ ...condition, not: !condition.not }), {
    class: "quiet",
    "aria-label": `${condition.field} ${condition.not ? "is not" : "is"}: change`,
    "aria-pressed": String(Boolean(condition.not)),
  });
  const values = condition.in ?? [rangeText(condition)];
  const without = (value) => {
    const rest = (condition.in ?? []).filter((other) => other !== value);
    change(rest.length ? { ...condition, in: rest } : null);
  };
  return el(
    "li",
    {},
    el("b", {}, condition.field),
    not,
    ...values.map((value) => removable(String(value), () => without(value), `Remove ${condition.field} ${value}`)),
  );
}

function rangeText({ gte, lte }) {
  if (gte === undefined) return `≤ ${lte}`;
  return lte === undefined ? `≥ ${gte}` : `${gte} – ${lte}`;
}

export function removable(text, onclick, label) {
  return el("span", { class: "chip removable" }, text, button("✕", onclick, { "aria-label": label }));
}
