// One frame through the design, and where its resources go.
const gantt = () => {
  const holder = el("div", { class: "gantt", tabindex: "0", role: "region", "aria-label": "Processes over the cycles of a frame" });
  const ROW = 17;
  const NAMES = 168;
  let plumbing = REPORT.kernels.length <= 60;
  const hidden = new Set(["lanes", "copy", "deal"]);
  const draw = () => {
    const kernels = REPORT.kernels.filter((kernel) => plumbing || !hidden.has(kernel.kind));
    const width = Math.max(560, (holder.clientWidth || WIDTH) - 2);
    const last = Math.max(1, ...REPORT.kernels.map((kernel) => kernel.end));
    const x = (cycle) => NAMES + (cycle / last) * (width - NAMES - 60);
    const height = 24 + kernels.length * ROW + 4;
    const marks = ticks(0, last, Math.max(2, Math.floor((width - NAMES) / 110)));
    holder.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": `Bars of ${number(kernels.length)} processes; the table of processes has their cycles` },
    svg("path", { class: "grid", d: marks.map((at) => `M${d(x(at))} 20V${height}`).join("") }),
    marks.map((at) => svg("text", { x: d(x(at)), y: 14, "text-anchor": "middle" }, short(at))),
    kernels.map((kernel, i) => {
      const y = 24 + i * ROW;
      const slow = kernel.name === REPORT.slowest;
      const long = x(kernel.end) - x(kernel.start);
      return svg("g", {},
        svg("title", {}, `${kernel.name} (${kernel.kind}): cycles ${number(kernel.start)} to ${number(kernel.end)}, ${plural(kernel.trips, "trip")}, fill ${number(kernel.fill)}`),
        svg("text", { x: NAMES - 8, y: y + 12, "text-anchor": "end", class: slow ? "strong" : null }, cut(kernel.name, 25)),
        svg("rect", { x: d(x(kernel.start)), y: y + 2, width: d(Math.max(1.5, long)), height: ROW - 5,
          class: LAYERS.has(kernel.name) ? "fill-solid" : "fill-proven" }),
        slow ? svg("text", { x: d(x(kernel.end) + 5), y: y + 12, class: "strong" }, "slowest") : null);
    })));
  };
  resized(holder, draw);
  const toggle = el("label", {}, el("input", { type: "checkbox", checked: plumbing, onchange: (event) => {
    plumbing = event.target.checked;
    draw();
  } }), "changes of lanes and copies");
  return [el("h3", {}, "One frame, design empty"),
    el("p", { class: "soft" }, "From each process' first beat to its last, in cycles, at the latest. Layers have the strong colour. The table below has the same figures."),
    REPORT.kernels.some((kernel) => hidden.has(kernel.kind)) ? el("div", { class: "controls" }, toggle) : null, holder];
};

const resourcesPanel = () => {
  const fields = [["lut", "LUT"], ["ff", "FF"], ["dsp", "DSP"], ["bram18", "BRAM18"], ["uram", "URAM"]];
  const sums = new Map();
  const add = (kind, spent) => {
    const own = sums.get(kind) ?? Object.fromEntries(fields.map(([field]) => [field, 0]));
    for (const [field] of fields) own[field] += spent[field];
    sums.set(kind, own);
  };
  for (const kernel of REPORT.kernels) add(kernel.kind.replaceAll("_", " "), kernel.resources);
  for (const fifo of REPORT.fifos) add("FIFOs", fifo.resources);
  const kinds = [...sums.keys()].sort((a, b) => sums.get(b).lut - sums.get(a).lut || (a < b ? -1 : 1));
  const color = (i) => `k${Math.min(i, 7)}`;
  const rows = fields.filter(([field]) => REPORT.resources[field] > 0).map(([field, label]) => {
    const total = REPORT.resources[field];
    let at = 0;
    const bar = svg("svg", { viewBox: "0 0 1000 22", width: "100%", height: 22, preserveAspectRatio: "none", "aria-hidden": "true" }, kinds.map((kind, i) => {
      const wide = (1000 * sums.get(kind)[field]) / total;
      at += wide;
      return wide > 0 ? svg("rect", { x: d(at - wide), y: 2, width: d(Math.max(0.5, wide - 1.5)), height: 18, class: color(i) },
        svg("title", {}, `${kind}: ${amount(sums.get(kind)[field])} ${label}, ${((100 * sums.get(kind)[field]) / total).toFixed(1)} %`)) : null;
    }));
    return el("tr", {}, el("th", { scope: "row" }, label), el("td", { class: "number" }, amount(total)), el("td", {}, bar));
  });
  return [el("h3", {}, "Resources by kind, by model"),
    el("table", { class: "bars stacked" }, el("caption", {}, "Resources by kind, stacked"), barColumns(), el("tbody", {}, rows)),
    plainTable("Resources by kind", [["kind", false], ...fields.map(([, label]) => [label, true])], kinds.map((kind, i) => [
      el("span", {}, el("span", { class: `swatch ${color(i)}`, "aria-hidden": "true" }), kind), ...fields.map(([field]) => amount(sums.get(kind)[field]))]), "table-kinds")];
};
