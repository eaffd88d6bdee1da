// Charts over channels, bins or steps: one path for each kind of mark, however many there are, and a cursor that reads values out.
const WIDTH = 720;
const EDGE = { left: 62, right: 12, top: 8, bottom: 24 };

// Round steps that divide [lo, hi] into at most `most` parts.
const ticks = (lo, hi, most, whole = true) => {
  const rough = (hi - lo) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let at = Math.ceil(lo / step) * step; at <= hi + step * 1e-9; at += step) found.push(Number(at.toPrecision(12)));
  return found;
};
const short = (value) => {
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) return `${Number((value / (letter === "k" ? 1e3 : unit)).toPrecision(4))}${letter}`;
  }
  return number(value);
};
const d = (value) => Number(value.toFixed(2));

const legend = (entries) => el("ul", { class: "legend" }, entries.map(([shape, text]) =>
  el("li", {}, svg("svg", { width: 22, height: 11, "aria-hidden": "true" }, shape), text)));
const swatchBox = (kind) => svg("rect", { x: 1, y: 1, width: 20, height: 9, class: kind });
const swatchLine = (kind) => svg("path", { d: "M0 5.5H22", class: kind });

/* A chart whose x axis counts from 0 to count - 1.
   y: [lo, hi]; marks(x, y, w): SVG elements, x(i) the left edge of slot i, w its width; readout(i): text of slot i;
   summary: what the chart says, for those who do not see it and for those who do. */
const chart = ({ title, summary, count, y: [lo, hi], height = 170, marks, readout, xLabel, xTicks, start = 0, key: id }) => {
  const holder = el("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": title, "aria-valuemin": 0,
    "aria-valuemax": count - 1, "aria-valuenow": start, "aria-valuetext": readout(start), "data-chart": id });
  const out = el("p", { class: "readout" }, "\u00a0");
  let at = null;
  let cursor = null;
  let geometry = null;
  const draw = () => {
    const width = Math.max(280, Math.min(1400, holder.clientWidth || WIDTH));
    const inner = width - EDGE.left - EDGE.right;
    const slot = inner / count;
    const x = (i) => EDGE.left + i * slot;
    const y = (value) => EDGE.top + ((hi - value) / (hi - lo || 1)) * (height - EDGE.top - EDGE.bottom);
    geometry = { width, slot, inner };
    const yTicks = ticks(lo, hi, 5);
    const bottom = height - EDGE.bottom;
    const labels = xTicks ?? ticks(0, count - 1, Math.max(2, Math.min(12, inner / 60))).map((i) => [i, number(i)]);
    cursor = svg("path", { class: "cursor" });
    holder.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
      svg("path", { class: "grid", d: yTicks.map((t) => `M${EDGE.left} ${d(y(t))}H${width - EDGE.right}`).join("") }),
      yTicks.map((t) => svg("text", { x: EDGE.left - 6, y: d(y(t)) + 4, "text-anchor": "end" }, short(t))),
      labels.map(([i, text]) => svg("text", { x: d(x(i) + slot / 2), y: bottom + 14, "text-anchor": "middle" }, text)),
      xLabel ? svg("text", { x: 4, y: bottom + 14 }, xLabel) : null,
      marks(x, y, slot),
      svg("path", { class: "axis", d: `M${EDGE.left} ${bottom}H${width - EDGE.right}M${EDGE.left} ${EDGE.top}V${bottom}` }),
      cursor));
    if (at !== null) show(at);
  };
  const show = (i) => {
    at = Math.max(0, Math.min(count - 1, i));
    const middle = d(EDGE.left + (at + 0.5) * geometry.slot);
    cursor.setAttribute("d", `M${middle} ${EDGE.top}V${height - EDGE.bottom}`);
    out.textContent = readout(at);
    holder.setAttribute("aria-valuenow", at);
    holder.setAttribute("aria-valuetext", readout(at));
  };
  const hide = () => {
    at = null;
    cursor?.setAttribute("d", "");
    out.textContent = "\u00a0";
  };
  holder.addEventListener("pointermove", (event) => {
    const box = holder.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * geometry.width - EDGE.left;
    if (place >= 0 && place <= geometry.inner) show(Math.floor(place / geometry.slot));
  });
  holder.addEventListener("pointerleave", () => {
    if (document.activeElement !== holder) hide();
  });
  holder.addEventListener("focus", () => show(at ?? start));
  holder.addEventListener("blur", hide);
  holder.addEventListener("keydown", (event) => {
    const far = Math.max(1, Math.round(count / 10));
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: far, PageDown: -far, Home: -count, End: count };
    if (!(event.key in steps)) return;
    event.preventDefault();
    show((at ?? start) + steps[event.key]);
  });
  resized(holder, draw);
  return el("figure", {}, el("figcaption", {}, summary), holder, out);
};

// Draw once the element has a width, and again when that changes.
const resized = (holder, draw) => {
  let last = -1;
  holder.redraw = () => {
    const width = Math.round(holder.clientWidth);
    if (width === last) return;
    last = width;
    draw();
  };
  holder.setAttribute("data-drawn", "");
  new ResizeObserver(() => requestAnimationFrame(holder.redraw)).observe(holder);
};
// What has not been drawn for want of a width: before printing, and when a view opens.
const drawAll = (root) => {
  for (const holder of root.querySelectorAll("[data-drawn]")) holder.redraw();
};

// Vertical bars from low(i) to high(i) as one path; bars that touch where there is no room for gaps.
const barPath = (count, x, y, slot, low, high) => {
  const gap = slot > 4 ? Math.min(2, slot * 0.2) : 0;
  let path = "";
  for (let i = 0; i < count; i += 1) {
    const top = d(y(high(i)));
    const bottom = Math.max(d(y(low(i))), top + 0.8);
    path += `M${d(x(i) + gap / 2)} ${top}H${d(x(i) + slot - gap / 2)}V${d(bottom)}H${d(x(i) + gap / 2)}Z`;
  }
  return path;
};
const across = (x, y, count, value) => `M${d(x(0))} ${d(y(value))}H${d(x(count))}`;
const range = (values) => [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
