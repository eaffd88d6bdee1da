// Views by the address' fragment, so that links, Back and Forward work; each is built when it first opens.
const VIEWS = new Map([...document.querySelectorAll(".view")].map((view) => [view.dataset.view, view]));
const PANELS = { network, gantt, resources: resourcesPanel, pareto };
const enhanced = [];
const built = new Set();

const fill = (view) => {
  if (built.has(view)) return;
  built.add(view);
  for (const panel of view.querySelectorAll("[data-panel]")) {
    panel.hidden = false;
    panel.append(...PANELS[panel.dataset.panel]().filter(Boolean));
  }
  for (const table of view.querySelectorAll("table.data")) enhanced.push(enhance(table));
};

const route = (focus) => {
  const [, wanted, rest] = /^#?([^/]*)(?:\/(.*))?$/.exec(location.hash);
  let id = VIEWS.has(wanted) ? wanted : "overview";
  let layer = null;
  if (id === "layer") {
    try {
      layer = rest ? decodeURIComponent(rest) : REPORT.layers[0]?.name;
    } catch {
      layer = null;
    }
    if (!LAYERS.has(layer)) id = "overview";
  }
  const view = VIEWS.get(id);
  for (const other of VIEWS.values()) other.hidden = other !== view;
  if (id === "layer" && view.firstElementChild?.dataset.layer !== layer) view.replaceChildren(layerPage(layer));
  fill(view);
  drawAll(view);
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.hash === `#${id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = view.querySelector("h2");
  document.title = `${heading.textContent} \u2013 ${REPORT.top}: accumulator report`;
  if (focus) {
    window.scrollTo({ top: 0, behavior: "instant" });
    heading.focus({ preventScroll: true });
  }
};

const store = (value) => {
  try {
    if (value === undefined) return localStorage.getItem("broadaxe-theme");
    localStorage.setItem("broadaxe-theme", value);
  } catch {
    // Files may have no storage: the switch still works until the page is left.
  }
  return null;
};
const THEMES = ["auto", "light", "dark"];
const theme = (chosen) => {
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  themeButton.textContent = `Theme: ${chosen}`;
  store(chosen);
};
const themeButton = el("button", { type: "button", onclick: () => {
  const now = document.documentElement.dataset.theme ?? "auto";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
} });

// On paper views follow each other, with every layer and every column.
const beforePrint = () => {
  const one = document.body.classList.contains("one-view");
  const shownView = [...VIEWS].find(([, view]) => !view.hidden)[0];
  if (!one) {
    for (const [id, view] of VIEWS) {
      view.hidden = false;
      if (id === "layer") view.replaceChildren(...REPORT.layers.map((layer) => layerPage(layer.name)));
      fill(view);
    }
  }
  for (const table of enhanced) table.onPaper();
  drawAll(document);
  document.body.dataset.printing = shownView;
};
const afterPrint = () => {
  document.body.classList.remove("one-view");
  delete document.body.dataset.printing;
  if (VIEWS.has("layer")) VIEWS.get("layer").replaceChildren();
  for (const table of enhanced) table.onScreen();
  route(false);
};
window.addEventListener("beforeprint", beforePrint);
window.addEventListener("afterprint", afterPrint);

document.querySelector("[data-tools]").append(
  themeButton,
  el("button", { type: "button", title: "Print this view alone; the browser's own command prints all of them", onclick: () => {
    document.body.classList.add("one-view");
    window.print();
  } }, "Print view"));
document.querySelector("[data-skip]").addEventListener("click", (event) => {
  event.preventDefault();
  [...VIEWS.values()].find((view) => !view.hidden).querySelector("h2").focus();
});
document.body.classList.remove("no-script");
theme(THEMES.includes(store()) ? store() : "auto");
window.addEventListener("hashchange", () => route(true));
route(false);
document.body.dataset.ready = "";
