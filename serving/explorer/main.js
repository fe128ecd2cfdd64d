// Puts the view that the address names on the page.

import { get } from "./api.js";
import { el, notice, plural } from "./dom.js";
import { itemView } from "./item.js";
import { mapView } from "./map.js";
import { recommendView } from "./recommend.js";
import { address, follow, onChange, read } from "./state.js";
import { themeButton } from "./theme.js";

const VIEWS = {
  recommend: { name: "Recommend", show: recommendView },
  item: { name: "Item", show: itemView },
  map: { name: "Map", show: mapView },
};
const content = document.getElementById("content");
let shown = null;

function tabs(state) {
  document.getElementById("views").replaceChildren(
    ...Object.entries(VIEWS).map(([view, { name }]) =>
      el(
        "a",
        {
          href: address({ view }),
          "aria-current": view === state.view ? "page" : null,
          onclick: (event) => follow(event, { view }),
        },
        name,
      ),
    ),
  );
}

function about(bundle) {
  document.getElementById("bundle").textContent =
    `${plural(bundle.items, "item")}, ${plural(bundle.users, "user")}, made ${bundle.created.slice(0, 10)}`;
}

// A view is made once and then updated, so that what the reader types in stays where it is.
function show(state, bundle) {
  const view = state.view in VIEWS ? state.view : "recommend";
  tabs({ ...state, view });
  if (shown?.view !== view) {
    shown?.leave?.();
    if (shown) content.focus({ preventScroll: true });
    shown = { view, ...VIEWS[view].show(content, bundle) };
    scrollTo(0, 0);
  }
  document.title = `${VIEWS[view].name} · Explorer`;
  shown.update(state);
}

async function start() {
  themeButton(document.getElementById("theme"));
  tabs(read());
  content.replaceChildren(notice("Loading …", "loading"));
  try {
    const bundle = await get("bundle");
    about(bundle);
    onChange((state) => show(state, bundle));
    show(read(), bundle);
  } catch (error) {
    content.replaceChildren(notice(error.message, "error"));
  }
}

start();
