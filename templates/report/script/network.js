// The network: boxes by rank and height as they were laid out, ranks broken into lines for the width that there is.
const BOX = { width: 140, height: 40, gap: 78, row: 54, line: 30, margin: 26 };
const TRACK = 14;
const NARROW = 440;
const OTHER_NAMES = { matvec: "", grouped_matvec: "grouped", scaled_add: "add", window_max: "max", requantize: "requantize" };

const network = () => {
  const holder = el("div", { class: "network", tabindex: "0", role: "region", "aria-label": "Network graph" });
  let level = REPORT.kernels.length > 60 ? "layers" : "kernels";
  let zoom = 0;
  const draw = () => {
    zoom ||= Math.max(0.7, Math.min(1, holder.clientWidth / NARROW || 1));
    const available = (holder.clientWidth || 1000) / zoom;
    holder.replaceChildren(drawn(DATA.drawings[level], available, zoom));
  };
  const levels = Object.keys(DATA.drawings).map((choice) =>
    el("button", { type: "button", "aria-pressed": String(choice === level), onclick: (event) => {
      level = choice;
      for (const other of levels) other.setAttribute("aria-pressed", String(other === event.currentTarget));
      draw();
    } }, choice));
  const scale = (factor) => () => {
    zoom = factor ? Math.max(0.3, Math.min(2.5, zoom * factor)) : 0;
    draw();
    say(`zoom ${Math.round(zoom * 100)} percent`);
  };
  resized(holder, draw);
  return [
    el("h3", {}, "Network"),
    el("div", { class: "controls" },
      el("span", { class: "soft" }, "Show"), levels,
      el("span", { class: "push controls" },
        el("button", { type: "button", "aria-label": "Zoom out", onclick: scale(1 / 1.25) }, "\u2212"),
        el("button", { type: "button", "aria-label": "Zoom in", onclick: scale(1.25) }, "+"),
        el("button", { type: "button", onclick: scale(0) }, "Fit"))),
    el("p", { class: "soft" },
      "Boxes are processes, lines FIFOs with type \u00d7 lanes. Framed boxes are layers, with their accumulator's bits; they open the layer's page."),
    holder,
  ];
};

const boxLines = (kernel) => {
  const layer = LAYERS.get(kernel.name);
  if (layer) {
    const bits = layer.inner_bits === null ? `${layer.width}` : `${layer.inner_bits}+${layer.width}`;
    return [kernel.name, `${layer.op} \u00b7 ${bits} bits`];
  }
  if (kernel.kind === "requantize" || kernel.kind === "loadable_requantize") {
    return [kernel.name, REPORT.requantizers.find((r) => r.name === kernel.name)?.form ?? kernel.kind];
  }
  // Their names are long, and say what the lines say.
  if (kernel.kind === "lanes" || kernel.kind === "copy") return [kernel.kind, kernel.name];
  return [kernel.name, OTHER_NAMES[kernel.kind] ?? kernel.kind.replaceAll("_", " ")];
};

const drawn = (drawing, available, zoom) => {
  const perLine = Math.max(2, Math.floor((available - 2 * BOX.margin + BOX.gap) / (BOX.width + BOX.gap)));
  const ranks = 1 + Math.max(0, ...Object.values(drawing.boxes).map(([rank]) => rank));
  const lines = Math.ceil(ranks / perLine);
  const extent = Array.from({ length: lines }, () => [Infinity, -Infinity]);
  const reach = (rank, y, half) => {
    const own = extent[Math.floor(rank / perLine)];
    own[0] = Math.min(own[0], y - half);
    own[1] = Math.max(own[1], y + half);
  };
  for (const [rank, y] of Object.values(drawing.boxes)) reach(rank, y, 0.5);
  for (const edge of drawing.edges) edge.bends.forEach((y, i) => reach(drawing.boxes[edge.source][0] + 1 + i, y, 0.3));

  // Edges from one line to the next run in the gutter between them, each on a track of its own.
  const turning = Array.from({ length: lines }, () => 0);
  const steps = drawing.edges.map((edge) => {
    const [first, y] = drawing.boxes[edge.source];
    const heights = [y, ...edge.bends, drawing.boxes[edge.target][1]];
    const spots = heights.map((height, i) => ({ rank: first + i, y: height }));
    for (const spot of spots.slice(0, -1)) {
      if ((spot.rank + 1) % perLine === 0) {
        spot.track = turning[Math.floor(spot.rank / perLine)];
        turning[Math.floor(spot.rank / perLine)] += 1;
      }
    }
    return { edge, spots };
  });
  const tops = [];
  let top = BOX.margin;
  for (let line = 0; line < lines; line += 1) {
    tops.push(top - (Number.isFinite(extent[line][0]) ? extent[line][0] : 0) * BOX.row);
    top += (Number.isFinite(extent[line][0]) ? extent[line][1] - extent[line][0] : 1) * BOX.row + BOX.line + turning[line] * TRACK;
  }
  const tracks = Math.max(0, ...turning);
  const left = BOX.margin + tracks * 7;
  // Lines are as wide as what is there, within reason.
  const gap = Math.max(BOX.gap - 8, Math.min(BOX.gap + 60, (available - 4 - 2 * left - perLine * BOX.width) / (perLine - 1)));
  const pitch = BOX.width + gap;
  const width = left * 2 + Math.min(perLine, ranks) * pitch - gap;
  const X = (rank) => left + (rank % perLine) * pitch;
  const Y = (rank, y) => tops[Math.floor(rank / perLine)] + y * BOX.row;
  const bottomOf = (line) => tops[line] + extent[line][1] * BOX.row;

  // Where edges meet a box they stand apart, in the order of their other ends.
  const spread = (end, other) => {
    const meeting = new Map();
    for (const step of steps) {
      const box = step.edge[end];
      meeting.set(box, [...(meeting.get(box) ?? []), step]);
    }
    for (const group of meeting.values()) {
      const apart = Math.min(12, 28 / group.length);
      const sorted = [...group].sort((a, b) => other(a.spots).y - other(b.spots).y);
      sorted.forEach((step, i) => {
        step[end] = { by: (i - (group.length - 1) / 2) * apart, alone: group.length === 1 };
      });
    }
  };
  spread("source", (spots) => spots[1]);
  spread("target", (spots) => spots[spots.length - 2]);

  const paths = [];
  const heads = [];
  const labels = [];
  for (const { edge, spots, source, target } of steps) {
    let path = "";
    const height = (i) => Y(spots[i].rank, spots[i].y) + (i === 0 ? source.by : i === spots.length - 1 ? target.by : 0);
    const real = (i) => i === 0 || i === spots.length - 1;
    for (let i = 0; i + 1 < spots.length; i += 1) {
      const [a, b] = [spots[i], spots[i + 1]];
      // A bend is a straight piece as wide as a box.
      const ax = X(a.rank) + BOX.width;
      const bx = X(b.rank) - (real(i + 1) ? 5 : 0);
      const [ay, by] = [height(i), height(i + 1)];
      path += real(i) ? `M${d(ax)} ${d(ay)}` : `H${d(ax)}`;
      if (a.track === undefined) {
        const middle = (ax + bx) / 2;
        path += ay === by ? `H${d(bx)}` : `C${d(middle)} ${d(ay)} ${d(middle)} ${d(by)} ${d(bx)} ${d(by)}`;
      } else {
        const line = Math.floor(a.rank / perLine);
        const gutter = bottomOf(line) + 10 + a.track * TRACK;
        path += `H${d(ax + 8 + a.track * 7)}V${d(gutter)}H${d(left - 10 - a.track * 7)}V${d(by)}H${d(bx)}`;
      }
      if (i + 2 === spots.length) heads.push(`M${d(bx + 5)} ${d(by)}l-7 -3.5v7Z`);
    }
    paths.push(svg("path", { class: "edge", d: path }, svg("title", {}, edge.fifos.map(fifoText).join("\n"))));
    const last = FIFOS.get(edge.fifos[edge.fifos.length - 1]);
    const text = `${last.type} \u00d7 ${last.lanes}`;
    // On a straight piece: a bend's, the gutter's, or the end at a box that no other edge meets.
    const bend = spots.length > 2 ? Math.floor(spots.length / 2) : 0;
    const near = spots.length - 2;
    const [start, end] = [spots[near], spots[near + 1]];
    const [ay, by] = [height(near), height(near + 1)];
    const [ax, bx] = [X(start.rank) + BOX.width, X(end.rank)];
    if (bend) labels.push([X(spots[bend].rank) + BOX.width / 2, height(bend) - 4, text, "middle"]);
    else if (start.track !== undefined) {
      labels.push([left + 4, bottomOf(Math.floor(start.rank / perLine)) + 6 + start.track * TRACK, text, "start"]);
    } else if (Math.abs(ay - by) < 1) labels.push([(ax + bx) / 2 - 2, ay - 4, text, "middle"]);
    else if (target.alone) labels.push([bx - 10, ay < by - 1 ? by + 13 : by - 4, text, "end"]);
    else if (source.alone) labels.push([ax + 4, ay > by + 1 ? ay + 13 : ay - 4, text, "start"]);
    else labels.push([(ax + bx) / 2, (ay + by) / 2 - 4, text, "middle"]);
  }
  const boxes = Object.entries(drawing.boxes).map(([id, [rank, y]]) => {
    const kernel = KERNELS.get(id);
    const [title, sub] = boxLines(kernel);
    const isLayer = LAYERS.has(id);
    const kind = isLayer ? "layer" : kernel.kind === "read" || kernel.kind === "write" ? "port" : "";
    return svg(isLayer ? "a" : "g", {
      class: `box ${kind} ${REPORT.slowest === id ? "slowest" : ""}`, href: isLayer ? layerLink(id) : null,
      transform: `translate(${d(X(rank))} ${d(Y(rank, y) - BOX.height / 2)})`,
      "aria-label": isLayer ? `${title}, ${sub}` : null,
    },
    svg("title", {}, `${id}\n${kernel.node}\n${plural(kernel.trips, "trip")}, ${amount(kernel.resources.lut)} LUT`),
    svg("rect", { width: BOX.width, height: BOX.height, rx: 4 }),
    svg("text", { class: "name", x: 8, y: 16 }, cut(title, 15)),
    svg("text", { x: 8, y: 31 }, cut(sub, 19)));
  });
  return svg("svg", {
    viewBox: `0 0 ${d(width)} ${d(top)}`, width: d(width * zoom), height: d(top * zoom), role: "group",
    "aria-label": `${number(boxes.length)} processes and ${plural(drawing.edges.length, "stream")}`,
  },
  paths, svg("path", { class: "head", d: heads.join("") }), boxes,
  labels.map(([x, y, text, anchor]) => svg("text", { class: "edge-label", x: d(x), y: d(y), "text-anchor": anchor }, text)));
};

const fifoText = (id) => {
  const fifo = FIFOS.get(id);
  return `${id}: ${fifo.type} x ${fifo.lanes} = ${fifo.bits} bits, depth ${number(fifo.depth)}`;
};
