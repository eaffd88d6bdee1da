// Accuracy against accumulator bits: a shape and a colour for each method, a step line for its frontier.
const MARKERS = [
  (x, y) => `M${x - 4.5} ${y}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0Z`,
  (x, y) => `M${x - 4} ${y - 4}h8v8h-8Z`,
  (x, y) => `M${x} ${y - 5}l5 9h-10Z`,
  (x, y) => `M${x} ${y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5Z`,
  (x, y) => `M${x} ${y + 5}l5 -9h-10Z`,
  (x, y) => `M${x - 4.5} ${y - 4.5}l9 9m0 -9l-9 9`,
  (x, y) => `M${x - 5.5} ${y}h11m-5.5 -5.5v11`,
  (x, y) => `M${x - 5} ${y - 2.5}h10v5h-10Z`,
];

const pareto = () => {
  const sweep = DATA.sweep;
  const holder = el("div", { class: "plot" });
  const out = el("p", { class: "readout" }, "\u00a0");
  const methods = [...new Set([...sweep.frontier, ...sweep.runs].map((point) => point.method))];
  const bits = range([...sweep.frontier, ...sweep.runs].map((point) => point.bits));
  const best = [...[...sweep.frontier, ...sweep.runs].map((point) => point.score), ...(sweep.as_given === null ? [] : [sweep.as_given])];
  const floor = Math.max(0, Math.min(...sweep.frontier.map((point) => point.score)) - 4);
  const top = Math.min(100, Math.max(...best) + 1.5);
  const own = REPORT.layers.length ? Math.max(...REPORT.layers.map((layer) => layer.width)) : null;
  const describe = (point) => `${point.method}: ${point.bits} bits, ${point.score.toFixed(2)} % (W${point.weight_bits ?? "\u2013"} A${point.input_bits ?? "\u2013"}`
    + `${point.asked === null ? "" : `, ${point.asked} asked`})${point.model && point.model === sweep.mine ? "; this build" : ""}`;
  const draw = () => {
    const width = Math.max(300, Math.min(1100, holder.clientWidth || WIDTH));
    const height = Math.min(420, Math.max(260, width * 0.55));
    const [left, right] = [Math.min(bits[0], own ?? bits[0]) - 0.5, Math.max(bits[1], own ?? bits[1]) + 0.5];
    const x = (value) => EDGE.left + ((value - left) / (right - left)) * (width - EDGE.left - EDGE.right);
    const y = (value) => EDGE.top + ((top - value) / (top - floor)) * (height - EDGE.top - 40);
    const bottom = height - 40;
    const inside = (point) => point.score >= floor && point.score <= top;
    const others = sweep.runs.filter(inside);
    holder.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Accuracy against accumulator bits; the table below has the frontier" },
      svg("path", { class: "grid", d: ticks(floor, top, 6, false).map((t) => `M${EDGE.left} ${d(y(t))}H${width - EDGE.right}`).join("") }),
      ticks(floor, top, 6, false).map((t) => svg("text", { x: EDGE.left - 6, y: d(y(t)) + 4, "text-anchor": "end" }, String(t))),
      ticks(Math.ceil(left), Math.floor(right), 16).map((t) => svg("text", { x: d(x(t)), y: bottom + 15, "text-anchor": "middle" }, String(t))),
      svg("text", { x: d((EDGE.left + width) / 2), y: height - 6, "text-anchor": "middle" }, "widest accumulator [bits], proven"),
      svg("path", { class: "axis", d: `M${EDGE.left} ${d(bottom)}H${width - EDGE.right}M${EDGE.left} ${EDGE.top}V${d(bottom)}` }),
      sweep.as_given === null ? null : [svg("path", { class: "line-prefix", d: `M${EDGE.left} ${d(y(sweep.as_given))}H${width - EDGE.right}` }),
        svg("text", { x: width - EDGE.right - 4, y: d(y(sweep.as_given)) - 5, "text-anchor": "end" }, `model as given, ${sweep.as_given.toFixed(2)} %`)],
      own === null ? null : [svg("path", { class: "line-range", d: `M${d(x(own))} ${EDGE.top}V${d(bottom)}` }),
        svg("text", { x: d(x(own)) + (own > (left + right) / 2 ? -5 : 5), y: d(bottom) - 6, "text-anchor": own > (left + right) / 2 ? "end" : "start" }, `this build, ${own} bits`)],
      svg("path", { class: "fill-range", d: others.map((point) => `M${d(x(point.bits)) - 1.6} ${d(y(point.score)) - 1.6}h3.2v3.2h-3.2Z`).join(""), opacity: 0.45 }),
      methods.map((method, m) => {
        const points = sweep.frontier.filter((point) => point.method === method).sort((a, b) => a.bits - b.bits);
        if (!points.length) return null;
        const line = points.map((point, i) => (i ? `H${d(x(point.bits))}V${d(y(point.score))}` : `M${d(x(point.bits))} ${d(y(point.score))}`)).join("");
        return svg("g", {}, svg("path", { class: `s${m % 8}`, d: line, fill: "none", "stroke-width": 1.6, "stroke-opacity": 0.75 }),
          points.map((point) => {
            const mine = point.model && point.model === sweep.mine;
            return svg("g", { tabindex: "0", role: "img", "aria-label": describe(point),
              onpointerenter: () => out.replaceChildren(describe(point)), onfocus: () => out.replaceChildren(describe(point)) },
            mine ? svg("circle", { cx: d(x(point.bits)), cy: d(y(point.score)), r: 11, class: "line-range" }) : null,
            svg("path", { class: `marker s${m % 8}`, d: MARKERS[m % 8](d(x(point.bits)), d(y(point.score))) }));
          }));
      })));
  };
  resized(holder, draw);
  return [el("h3", {}, `${sweep.metric} of ${sweep.rows} rows against proven bits`),
    el("figure", {}, el("figcaption", {}, "Each line is a method's frontier: its best run within a width, chosen on validation rows. Small squares are all runs, by their validation score. "
      + (sweep.mine === null ? "This build's model is not among the frontier's." : "The ringed point is this build's model.")),
    holder, out),
    el("ul", { class: "legend" }, methods.map((method, m) => el("li", {},
      svg("svg", { width: 26, height: 13, "aria-hidden": "true" }, svg("path", { class: `s${m % 8}`, d: "M0 6.5H26", "stroke-width": 1.5 }),
        svg("path", { class: `marker s${m % 8}`, d: MARKERS[m % 8](13, 6.5) })), method)))];
};
