// Data of the page, and how its elements are made: text goes in as text, never as markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const REPORT = DATA.report;
const LAYERS = new Map(REPORT.layers.map((layer, index) => [layer.name, { ...layer, index }]));
const KERNELS = new Map(REPORT.kernels.map((kernel) => [kernel.name, kernel]));
const FIFOS = new Map(REPORT.fifos.map((fifo) => [fifo.name, fifo]));
const SVG = "http://www.w3.org/2000/svg";

// Attributes by name; on* are listeners; null and false leave an attribute out.
const make = (space) => (tag, attributes, ...children) => {
  const made = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};
const el = make(null);
const svg = make(SVG);

// Exact, or marked: what lies beyond 2^53 has lost its last digits here; tables that stand in the page have all of them.
const exact = (value) => !Number.isInteger(value) || Number.isSafeInteger(value);
const number = (value) => {
  if (value === null || value === undefined) return "";
  return exact(value) ? value.toLocaleString("en-US") : `\u2248 ${value.toExponential(9)}`;
};
const amount = (value) => number(Math.round(value));
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}\u2026` : text);
const name = (text) => el("bdi", {}, text);
const say = (text) => {
  document.querySelector("[data-live]").textContent = text;
};
const layerLink = (layer) => `#layer/${encodeURIComponent(layer)}`;
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

const copy = async (text, what) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`${what} copied`);
};

// A button that copies, and says so where it is seen, too.
const copyButton = (label, what, text) => {
  const button = el("button", {
    type: "button",
    onclick: async () => {
      await copy(text(), what);
      button.textContent = "Copied";
      setTimeout(() => {
        button.textContent = label;
      }, 1500);
    },
  }, label);
  return button;
};

// A table of the page's own: columns as [label, is number]; rows of cells, each text or an element.
const plainTable = (caption, columns, rows, id) =>
  el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${caption}, table` },
    el("table", { class: "plain", id: id ?? null },
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, columns.map(([label, isNumber]) =>
        el("th", { scope: "col", class: isNumber ? "number" : "text" }, label)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) =>
        el(i ? "td" : "th", { class: columns[i][1] ? "number" : "text", scope: i ? null : "row" }, cell)))))));

const fact = (label, key, value, help) =>
  el("div", { title: help ?? null }, el("dt", {}, label), el("dd", { "data-key": key }, value));

const barColumns = () => el("colgroup", {}, el("col", { class: "label" }), el("col", { class: "figure" }), el("col", {}));
