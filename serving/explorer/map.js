// The items in two dimensions, coloured by a field.

import { get } from "./api.js";
import { groups } from "./colours.js";
import { button, el, notice, uniqueId, waiting } from "./dom.js";
import { itemLink } from "./list.js";
import { itemSearch } from "./look_up.js";
import { Plot } from "./plot.js";
import { go, read } from "./state.js";

const HELP =
  "Drag or use the arrow keys to pan, the wheel or + and − to zoom, 0 to see all. Click a point to open its item.";

export function mapView(content, bundle) {
  const id = uniqueId("colour");
  const select = el(
    "select",
    { id, onchange: () => go({ field: select.value }) },
    ...bundle.item_fields.map((name) => el("option", { value: name }, name)),
    el("option", { value: "-" }, "nothing"),
  );
  const stage = el("div", { class: "stage" });
  content.className = "map";
  content.replaceChildren(
    el(
      "div",
      { class: "tools" },
      el("div", {}, el("label", { htmlFor: id }, "Colour by"), select),
      itemSearch("Find an item on the map", (item) => go({ item: item.item_id })),
    ),
    stage,
  );
  const view = { bundle, select, stage, plot: null, field: null, data: null };
  return { update: (state) => update(view, state), leave: () => view.plot?.leave() };
}

async function update(view, state) {
  const field = state.field || (await firstField(view.bundle));
  if (read().view !== "map" || read().field !== state.field) return undefined;
  view.select.value = field;
  if (field !== view.field) {
    view.field = field;
    if (!view.bundle.map_items) {
      const cure = el("p", { class: "faint" }, "twotower export puts one there, with export.map_items above 0.");
      return view.stage.replaceChildren(notice("Not in this bundle.", "empty", cure));
    }
    try {
      const data = await load(view, field);
      if (view.field !== field) return;
      draw(view, data);
    } catch (error) {
      view.plot?.leave();
      view.plot = null;
      return view.stage.replaceChildren(notice(error.message, "error"));
    }
  }
  return view.plot && focusItem(view, read().item);
}

let chosen = null;

// The field with the fewest values says most in few colours.
async function firstField(bundle) {
  chosen ??= get("fields").then(
    ({ fields }) => {
      const few = Object.entries(fields)
        .filter(([, { distinct }]) => distinct > 1)
        .sort((a, b) => a[1].distinct - b[1].distinct);
      return few[0]?.[0] ?? bundle.item_fields[0] ?? "-";
    },
    () => bundle.item_fields[0] ?? "-",
  );
  return chosen;
}

async function load(view, field) {
  if (!view.plot) view.stage.replaceChildren(notice("Loading the map …", "loading"));
  return get("map", field === "-" ? {} : { field }).finally(waiting(view.stage));
}

function draw(view, data) {
  view.data = data;
  const found = groups(data.value, data.item_id.length);
  if (!view.plot) setStage(view, data);
  view.plot.dim = null;
  view.legend.replaceChildren(...found.map((group) => legendLine(view, group)));
  view.plot.show(found);
}

function setStage(view, data) {
  const tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const help = uniqueId("help");
  const canvas = el("canvas", {
    tabIndex: 0,
    role: "application",
    "aria-describedby": help,
    "aria-label": `Map of ${data.item_id.length} items`,
  });
  view.told = el("p", { class: "told", role: "status" });
  view.legend = el("ul", { class: "legend", "aria-label": "Colours" });
  const zoom = el(
    "div",
    { class: "zoom" },
    button("+", () => view.plot.zoomAt(1.5), { "aria-label": "Zoom in" }),
    button("−", () => view.plot.zoomAt(1 / 1.5), { "aria-label": "Zoom out" }),
    button("⤢", () => view.plot.reset(), { "aria-label": "See all" }),
  );
  view.stage.replaceChildren(
    el("div", { class: "canvas" }, canvas, tip, zoom),
    view.legend,
    view.told,
    el(
      "p",
      { class: "faint", id: help },
      HELP,
      ` ${data.method}: near points have near vectors; distances between far groups mean nothing.`,
    ),
  );
  view.plot = new Plot(canvas, data.x, data.y, {
    hover: (i, at) => hover(view, tip, canvas, i, at),
    pick: (i, how) => pick(view, i, how),
  });
}

const titleAt = ({ data }, i) => data.title[i] ?? data.item_id[i];

function hover(view, tip, canvas, i, at) {
  tip.hidden = i < 0;
  canvas.classList.toggle("over", i >= 0);
  if (i < 0) return;
  const value = view.data.value?.[i];
  tip.replaceChildren(
    el("b", {}, titleAt(view, i)),
    value === null || value === undefined ? "" : ` ${[value].flat().join(", ")}`,
  );
  const left = Math.min(at[0] + 14, canvas.clientWidth - tip.offsetWidth - 4);
  tip.style.transform = `translate(${Math.max(0, left)}px, ${Math.max(0, at[1] - tip.offsetHeight - 10)}px)`;
}

// With a finger the title comes first, since there is no hovering.
function pick(view, i, how) {
  if (i < 0) return;
  go(how === "touch" ? { item: view.data.item_id[i] } : { view: "item", item: view.data.item_id[i] });
}

function focusItem(view, item) {
  const i = item ? view.data.item_id.indexOf(item) : -1;
  if (i !== view.plot.marked) view.plot.mark(i, { centre: true });
  if (i >= 0) view.told.replaceChildren("Marked: ", itemLink({ item_id: item, title: view.data.title[i] }));
  else view.told.replaceChildren(item ? "That item is not among those on the map." : "");
}

function legendLine(view, group) {
  const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.background = group.colour;
  const line = el(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      onclick: () => {
        const only = view.plot.dim === group.name ? null : group.name;
        view.plot.dim = only;
        for (const other of view.legend.querySelectorAll("button"))
          other.setAttribute("aria-pressed", String(other === line && only !== null));
        view.plot.draw();
      },
    },
    swatch,
    group.name,
    el("span", { class: "aside" }, group.points.length.toLocaleString("en")),
  );
  return el("li", {}, line);
}
