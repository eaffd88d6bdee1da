// The network: boxes by rank and height as they were laid out, ranks broken into lines for the width that there is.
const BOX = { width: 132, height: 40, gap: 84, row: 54, line: 30, margin: 26 };
const OTHER_NAMES = { matvec: "", grouped_matvec: "grouped", scaled_add: "add", window_max: "max", requantize: "requantize" };

const network = () => {
  const holder = el("div", { class: "network", tabindex: "0", role: "region", "aria-label": "Network graph" });
  let level = REPORT.kernels.length > 60 ? "layers" : "kernels";
  let zoom = 1;
  const draw = () => {
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
    zoom = factor ? Math.max(0.3, Math.min(2.5, zoom * factor)) : 1;
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
        el("button", { type: "button", onclick: scale(0) }, "100 %"))),
    el("p", { class: "soft" },
      "Boxes are processes, lines are FIFOs with type and lanes; layers have a strong frame, their accumulator's bits, and open their page."),
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
  return [kernel.name, OTHER_NAMES[kernel.kind] ?? kernel.kind.replaceAll("_", " ")];
};

const drawn = (drawing, available, zoom) => {
  const pitch = BOX.width + BOX.gap;
  const perLine = Math.max(2, Math.floor((available - 2 * BOX.margin + BOX.gap) / pitch));
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
    top += (Number.isFinite(extent[line][0]) ? extent[line][1] - extent[line][0] : 1) * BOX.row + BOX.line + turning[line] * 8;
  }
  const tracks = Math.max(0, ...turning);
  const left = BOX.margin + tracks * 7;
  const width = left * 2 + Math.min(perLine, ranks) * pitch - BOX.gap;
  const X = (rank) => left + (rank % perLine) * pitch;
  const Y = (rank, y) => tops[Math.floor(rank / perLine)] + y * BOX.row;
  const bottomOf = (line) => tops[line] + extent[line][1] * BOX.row;

  const paths = [];
  const heads = [];
  const labels = [];
  for (const { edge, spots } of steps) {
    let path = "";
    const real = (i) => i === 0 || i === spots.length - 1;
    for (let i = 0; i + 1 < spots.length; i += 1) {
      const [a, b] = [spots[i], spots[i + 1]];
      // A bend is a straight piece as wide as a box.
      const ax = X(a.rank) + BOX.width;
      const bx = X(b.rank) - (real(i + 1) ? 5 : 0);
      const [ay, by] = [Y(a.rank, a.y), Y(b.rank, b.y)];
      path += real(i) ? `M${d(ax)} ${d(ay)}` : `H${d(ax)}`;
      if (a.track === undefined) {
        const middle = (ax + bx) / 2;
        path += ay === by ? `H${d(bx)}` : `C${d(middle)} ${d(ay)} ${d(middle)} ${d(by)} ${d(bx)} ${d(by)}`;
      } else {
        const line = Math.floor(a.rank / perLine);
        const gutter = bottomOf(line) + 8 + a.track * 8;
        path += `H${d(ax + 8 + a.track * 7)}V${d(gutter)}H${d(left - 10 - a.track * 7)}V${d(by)}H${d(bx)}`;
      }
      if (i + 2 === spots.length) heads.push(`M${d(bx + 5)} ${d(by)}l-7 -3.5v7Z`);
    }
    paths.push(svg("path", { class: "edge", d: path }, svg("title", {}, edge.fifos.map(fifoText).join("\n"))));
    const last = FIFOS.get(edge.fifos[edge.fifos.length - 1]);
    const text = `${last.type} \u00d7 ${last.lanes}`;
    // On the last straight piece where there is one, else in the gap before the reader.
    const bend = spots.length > 2 ? spots[Math.floor(spots.length / 2)] : null;
    const end = spots[spots.length - 1];
    const start = spots[spots.length - 2];
    if (bend) labels.push([X(bend.rank) + BOX.width / 2, Y(bend.rank, bend.y) - 5, text]);
    else if (start.track === undefined) {
      labels.push([X(end.rank) - BOX.gap / 2, (Y(start.rank, start.y) + Y(end.rank, end.y)) / 2 - 5, text]);
    } else labels.push([left + 30, bottomOf(Math.floor(start.rank / perLine)) + 5 + start.track * 8, text]);
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
    svg("text", { class: "name", x: 8, y: 16 }, cut(title, 18)),
    svg("text", { x: 8, y: 31 }, cut(sub, 21)));
  });
  return svg("svg", {
    viewBox: `0 0 ${d(width)} ${d(top)}`, width: d(width * zoom), height: d(top * zoom), role: "group",
    "aria-label": `${plural(boxes.length, "box")}es`.replace("boxs", "box").replace("boxeses", "boxes"),
  },
  paths, svg("path", { class: "head", d: heads.join("") }), boxes,
  labels.map(([x, y, text]) => svg("text", { class: "edge-label", x: d(x), y: d(y), "text-anchor": "middle" }, text)));
};

const fifoText = (id) => {
  const fifo = FIFOS.get(id);
  return `${id}: ${fifo.type} x ${fifo.lanes} = ${fifo.bits} bits, depth ${number(fifo.depth)}`;
};
