// The page of one layer.
const boundsTable = (layer) => {
  const wanted = layer.budget;
  const rows = [
    ["data type", "datatype_bits", layer.datatype_bits, "any weights and inputs of these types"],
    ["l1", "l1_bits", layer.l1_bits, "these weights, any input of its type"],
    ["exact", "exact_bits", layer.exact_bits, "two's complement of the proven interval"],
    ["prefix", "prefix_bits", layer.prefix_bits, "every partial sum in any order"],
    ["offset", "offset_bits", layer.offset_bits, "the proven interval from the best start"],
    layer.inner_bits === null ? null : ["tile, as declared", "inner_bits", layer.inner_bits, `inner accumulator, ${layer.tile} inputs`, "chosen"],
    [layer.inner_bits === null ? "declared" : "outer, as declared", "width", layer.width, layer.mode, "chosen"],
    wanted ? [`asked, of the ${wanted.of}`, "budget", wanted.bits, "what it was quantized for", "asked"] : null,
  ].filter(Boolean);
  const most = Math.max(...rows.map((row) => row[2]));
  return el("table", { class: "bars" },
    el("caption", {}, `Accumulator bits of ${layer.name} by bound`), barColumns(),
    el("tbody", {}, rows.map(([label, field, bits, help, kind]) => {
      const bar = el("span", { class: `bar ${kind ?? ""}` });
      bar.style.width = `${(100 * bits) / most}%`;
      return el("tr", { class: kind === "chosen" ? "chosen" : null },
        el("th", { scope: "row", title: help }, label),
        el("td", { class: "number", "data-key": field }, number(bits)), el("td", {}, bar));
    })));
};

const widthsChart = (layer) => {
  const bits = layer.channel_bits;
  const tally = new Map();
  for (const own of bits) tally.set(own, (tally.get(own) ?? 0) + 1);
  const counts = [...tally].sort(([a], [b]) => b - a).map(([own, count]) => `${own} bits: ${number(count)}`).join(", ");
  const top = Math.max(layer.width, layer.budget && layer.budget.of === "sum" ? layer.budget.bits : 0, ...range(bits));
  return [el("h3", {}, "Bits of each channel's sum"), chart({
    key: "widths", title: `Bits of each channel's sum in ${layer.name}`, count: bits.length, y: [0, top], height: 150,
    summary: `Two's-complement bits that each of ${plural(bits.length, "channel")} needs by itself. ${counts}. Declared for all: ${layer.width}.`
      + (layer.mode === "offset" ? " Each sum starts at a constant of its own, so that fewer bits can be enough than from 0." : ""),
    readout: (i) => `channel ${i}: ${plural(bits[i], "bit")} by itself${layer.mode === "offset" ? " from 0" : ""}, ${layer.width} declared`
      + (layer.mode === "offset" ? `, start ${number(layer.starts[i])}` : ""),
    xLabel: "channel",
    marks: (x, y, slot) => [
      svg("path", { class: "fill-proven", d: barPath(bits.length, x, y, slot, () => 0, (i) => bits[i]) }),
      svg("path", { class: "line-range", d: across(x, y, bits.length, layer.width) }),
      layer.budget?.of === "sum" ? svg("path", { class: "line-budget", d: across(x, y, bits.length, layer.budget.bits) }) : null,
    ],
  }), legend([[swatchBox("fill-proven"), "channel's own bits"], [swatchLine("line-range"), "declared width"],
    ...(layer.budget?.of === "sum" ? [[swatchLine("line-budget"), "asked"]] : [])])];
};

const intervalsChart = (layer) => {
  const count = layer.lo.length;
  const lo = layer.lo.map((value, i) => value + layer.starts[i]);
  const hi = layer.hi.map((value, i) => value + layer.starts[i]);
  const seen = layer.observed && { lo: layer.observed.lo.map((v, i) => v + layer.starts[i]), hi: layer.observed.hi.map((v, i) => v + layer.starts[i]) };
  const limit = 2 ** (layer.width - 1);
  const [least, most] = [range(lo)[0], range(hi)[1]];
  const tight = Math.max(most, -least) < limit / 8;
  const bottom = Math.min(least, layer.prefix[0], tight ? least : -limit);
  const top = Math.max(most, layer.prefix[1], tight ? most : limit - 1);
  const used = seen ? layer.lo.reduce((sum, low, i) => sum + (layer.observed.hi[i] - layer.observed.lo[i]) / (layer.hi[i] - low || 1), 0) / count : 0;
  return [el("h3", {}, "Proven interval against observed range and accumulator"), chart({
    key: "intervals", title: `Proven interval of each channel in ${layer.name}`, count, y: [bottom, top], height: 230,
    summary: `What each channel's accumulator holds at the end, start included. Proven, of all channels: [${number(least)}, ${number(most)}]; `
      + `${layer.width} bits hold [${number(-limit)}, ${number(limit - 1)}]; partial sums in any order stay in [${number(layer.prefix[0])}, ${number(layer.prefix[1])}]. `
      + (seen ? `${plural(layer.observed.samples, "sample")} used ${(used * 100).toFixed(1)} % of the intervals on average.` : "No data was run, so nothing is observed."),
    readout: (i) => `channel ${i}: proven [${number(lo[i])}, ${number(hi[i])}], start ${number(layer.starts[i])}`
      + (seen ? `, observed [${number(seen.lo[i])}, ${number(seen.hi[i])}]` : ""),
    xLabel: "channel",
    marks: (x, y, slot) => [
      svg("path", { class: "fill-proven", d: barPath(count, x, y, slot, (i) => lo[i], (i) => hi[i]) }),
      seen ? svg("path", { class: "fill-observed", d: barPath(count, (i) => x(i) + slot * 0.2, y, slot * 0.6, (i) => seen.lo[i], (i) => seen.hi[i]) }) : null,
      svg("path", { class: "line-prefix", d: layer.prefix.map((value) => across(x, y, count, value)).join("") }),
      tight ? null : svg("path", { class: "line-range", d: across(x, y, count, -limit) + across(x, y, count, limit - 1) }),
      svg("path", { class: "axis", d: bottom < 0 && top > 0 ? across(x, y, count, 0) : "" }),
    ],
  }), legend([[swatchBox("fill-proven"), "proven"], ...(seen ? [[swatchBox("fill-observed"), "observed"]] : []),
    ...(tight ? [] : [[swatchLine("line-range"), "ends of the accumulator"]]), [swatchLine("line-prefix"), "partial sums in any order"]])];
};

const weightsChart = (layer) => {
  const { lo, step, counts, zeros } = layer.weights;
  const total = counts.reduce((a, b) => a + b, 0);
  const label = (i) => (step === 1 ? number(lo + i) : `${number(lo + i * step)} to ${number(lo + (i + 1) * step - 1)}`);
  const every = Math.ceil(counts.length / 12);
  return [el("h3", {}, "Weights"), chart({
    key: "weights", title: `Integer weights of ${layer.name}`, count: counts.length, y: [0, Math.max(...counts)], height: 170,
    summary: `${plural(total, "integer weight")} of ${layer.weight_bits} bits; ${number(zeros)} are 0 (${((100 * zeros) / (total || 1)).toFixed(1)} %).`,
    readout: (i) => `${label(i)}: ${plural(counts[i], "weight")}`,
    xTicks: counts.map((_, i) => [i, number(lo + i * step)]).filter(([i]) => i % every === 0),
    marks: (x, y, slot) => [svg("path", { class: "fill-solid", d: barPath(counts.length, x, y, slot, () => 0, (i) => counts[i]) })],
  })];
};

const endPanel = (layer, which, proven) => {
  const { sum, operands: [left, right] } = layer.witness[which];
  const products = left.map((value, k) => value * right[k] + 0);
  const computed = products.reduce((a, b) => a + b, 0);
  const partial = [];
  products.reduce((a, b, k) => (partial[k] = a + b), 0);
  const [low, high] = range([0, ...partial]);
  const values = new Map();
  for (const value of left) values.set(value, (values.get(value) ?? 0) + 1);
  const inputs = [...values].sort(([a], [b]) => a - b);
  const up = products.filter((p) => p > 0);
  const down = products.filter((p) => p < 0);
  const largest = products.map((p, k) => k).sort((a, b) => Math.abs(products[b]) - Math.abs(products[a]) || a - b).slice(0, 8);
  const columns = [["term", true], ["input", true], [layer.weights ? "weight" : "second input", true], ["product", true], ["sum so far", true]];
  const termRow = (k) => [number(k), number(left[k]), number(right[k]), number(products[k]), number(partial[k])];
  const all = el("details", {}, el("summary", {}, `All ${number(left.length)} terms`));
  all.addEventListener("toggle", () => {
    if (all.open && all.children.length === 1) {
      all.append(plainTable(`Terms of the ${which} end`, columns, left.map((_, k) => termRow(k)), `terms-${which}`));
    }
  });
  return el("div", {},
    el("h4", {}, which === "low" ? "Low end" : "High end"),
    el("p", {}, "The sum is ", el("strong", { "data-key": `witness-${which}` }, number(sum)),
      sum === proven ? ", the proven end. " : `; the proven end is ${number(proven)}. `,
      !exact(computed) ? "Numbers of this size are not added up here." : computed === sum ? `This page has added its ${plural(left.length, "product")} up: ${number(computed)}.` : `The products add up to ${number(computed)}: that differs.`),
    el("p", { class: "soft" }, `${plural(up.length, "positive product")} add up to ${number(up.reduce((a, b) => a + b, 0))}, `
      + `${number(down.length)} negative to ${number(down.reduce((a, b) => a + b, 0))}, ${number(left.length - up.length - down.length)} are 0. `
      + `Inputs: ${inputs.slice(0, 6).map(([value, times]) => `${number(value)} (${number(times)} times)`).join(", ")}${inputs.length > 6 ? ", \u2026" : ""}.`),
    chart({
      key: `terms-${which}`, title: `Sum so far, ${which} end`, count: left.length, y: [low, high], height: 110, summary: "The sum so far, term by term in the order of the hardware (kh, kw, channel).",
      readout: (k) => `term ${k}: ${number(left[k])} x ${number(right[k])} = ${number(products[k])}, sum so far ${number(partial[k])}`,
      xLabel: "term",
      marks: (x, y, slot) => [
        svg("path", { class: "fill-proven", d: barPath(left.length, x, y, slot, (k) => Math.min(0, partial[k]), (k) => Math.max(0, partial[k])) }),
        svg("path", { class: "axis", d: across(x, y, left.length, 0) })],
    }),
    plainTable(`Largest terms of the ${which} end`, columns, largest.map(termRow)),
    el("p", {}, copyButton("Copy inputs", `inputs of the ${which} end`, () => JSON.stringify(left)), " ",
      copyButton("Copy both operands as JSON", `operands of the ${which} end`, () => JSON.stringify([left, right]))),
    all);
};

const witnessPanel = (layer) => {
  if (!layer.witness) return el("div", { class: "panel" }, el("h3", {}, "Witness"), el("p", {}, "This operator has none of its own."));
  const { channel } = layer.witness;
  const node = layer.name;
  return el("div", { class: "panel" },
    el("h3", {}, layer.mode === "loadable" ? "Witness of the present weights" : "Witness: why the width cannot be less"),
    layer.mode === "loadable" ? el("p", {}, "The width is the one asked for: other weights may be loaded, and are held to it.") : null,
    el("p", {}, `Inputs that the layer can see take channel `, el("strong", { "data-key": "witness-channel" }, number(channel)),
      ` to both ends of its interval: [${number(layer.lo[channel])}, ${number(layer.hi[channel])}], start left out.`),
    el("div", { class: "columns2" }, endPanel(layer, "low", layer.lo[channel]), endPanel(layer, "high", layer.hi[channel])),
    el("h4", {}, "Run it"),
    el("pre", { tabindex: "0" }, `broadaxe explain ${DATA.build} ${node} --channel ${channel} --witness ${node}.npz --run\nbroadaxe verify ${DATA.build}`),
    el("p", { class: "soft" }, "The first writes these inputs to a file, says what one bit less would cost, and runs the layer's C++ on them with and without that bit; the second runs both ends of every layer."));
};

const requantizerPanel = (layer) => {
  const behind = REPORT.requantizers.filter((r) => layer.requantizers.includes(r.name));
  return el("div", { class: "panel" }, el("h3", {}, "Requantizers behind it"),
    behind.length === 0 ? el("p", {}, "None: the sums leave as they are, or another operator reads them.") : behind.map((r) =>
      el("div", {}, el("h4", {}, name(r.name), " ", name(r.node)),
        el("p", {}, `${r.form}: ${r.input} to ${r.output}, ${plural(r.channels, "channel")}. Proven equal to the model's exact arithmetic by `,
          el("strong", { "data-key": `comparisons-${r.name}` }, number(r.comparisons)), " exact integer comparisons."),
        Object.keys(r.parameters).length === 0 ? null : el("dl", { class: "facts" }, Object.entries(r.parameters).map(([label, value]) =>
          fact(label.replaceAll("_", " "), null, number(value)))))));
};

// FIFOs from the process of another node before the layer to it, and from it on.
const near = (layer) => {
  const own = KERNELS.get(layer)?.node;
  const inner = (kernel) => ["lanes", "copy"].includes(KERNELS.get(kernel)?.kind) || (KERNELS.get(kernel)?.kind === "window" && KERNELS.get(kernel).node === own);
  const walk = (ahead) => {
    const found = [];
    const waiting = [layer];
    const known = new Set(waiting);
    while (waiting.length) {
      const at = waiting.shift();
      for (const fifo of REPORT.fifos) {
        if ((ahead ? fifo.writer : fifo.reader) !== at) continue;
        found.push(fifo);
        const next = ahead ? fifo.reader : fifo.writer;
        if (inner(next) && !known.has(next)) waiting.push(next);
        known.add(next);
      }
    }
    return found;
  };
  return [walk(false).reverse(), walk(true)];
};

const fifosPanel = (layer) => {
  const [before, behind] = near(layer.name);
  const columns = [["FIFO", false], ["where", false], ["from", false], ["to", false], ["type", false], ["lanes", true], ["bits", true], ["words", true], ["least", true], ["depth", true]];
  const row = (where) => (f) => [f.name, where, f.writer, f.reader, f.type, number(f.lanes), number(f.bits), number(f.words), number(f.least), number(f.depth)];
  return el("div", { class: "panel" }, el("h3", {}, "FIFOs before and behind it"),
    plainTable(`FIFOs of ${layer.name}`, columns, [...before.map(row("before")), ...behind.map(row("behind"))]));
};

const foldingPanel = (layer) => {
  const r = layer.resources;
  const packing = layer.packing;
  return el("div", { class: "panel" }, el("h3", {}, "Folding and resources, by model"), el("dl", { class: "facts" },
    fact("PE", "pe", number(layer.pe), "output channels at once"), fact("SIMD", "simd", number(layer.simd), "inputs at once"),
    fact("products a cycle", "products", number(layer.pe * layer.simd)), fact("multiplier", "multiplier", layer.multiplier),
    fact("cycles", "cycles", number(layer.cycles), "loop trips per frame at II = 1"),
    packing ? fact("packing", "packing", `${packing.products} in a ${packing.dsp}, lanes of ${packing.lane} bits, ${number(packing.chunk)} inputs before a lane is read`) : null,
    layer.pe_bits ? fact("wraps at, by PE", "pe_bits", runs(layer.pe_bits)) : null,
    fact("LUT", "lut", amount(r.lut)), fact("FF", "ff", amount(r.ff)), fact("DSP", "dsp", number(r.dsp)),
    fact("BRAM18", "bram18", number(r.bram18)), fact("URAM", "uram", number(r.uram))));
};

// Such as 14 x 4, 13.
const runs = (values) => {
  const found = [];
  for (const value of values) {
    if (found.at(-1)?.[0] === value) found.at(-1)[1] += 1;
    else found.push([value, 1]);
  }
  return found.map(([value, times]) => (times > 1 ? `${value} bits (${times} PEs)` : `${value} bits`)).join(", ");
};

const channelsPanel = (layer) => {
  const panel = el("details", {}, el("summary", {}, `All ${number(layer.lo.length)} channels as a table`));
  panel.addEventListener("toggle", () => {
    if (!panel.open || panel.children.length > 1) return;
    const seen = layer.observed;
    const columns = [["channel", true], ["bits", true], ["least", true], ["largest", true], ["start", true], ...(seen ? [["observed min", true], ["observed max", true]] : [])];
    panel.append(plainTable(`Channels of ${layer.name}, sums without start`, columns, layer.lo.map((low, i) => [
      number(i), number(layer.channel_bits[i]), number(low), number(layer.hi[i]), number(layer.starts[i]),
      ...(seen ? [number(seen.lo[i]), number(seen.hi[i])] : [])]), "channels"));
  });
  return panel;
};

const layerPage = (id) => {
  const layer = LAYERS.get(id);
  const { index } = layer;
  const state = DATA.proof === null ? ["open", "not checked"] : DATA.proof.accepted ? ["good", "proof accepted"] : ["bad", "proof refused"];
  const neighbour = (by, label) => {
    const other = REPORT.layers[index + by];
    return other ? el("a", { href: layerLink(other.name), rel: by < 0 ? "prev" : "next" }, label) : el("span", { class: "soft" }, label);
  };
  const select = el("select", { "aria-label": "Go to layer", onchange: (event) => {
    location.hash = layerLink(event.target.value);
  } }, REPORT.layers.map((other) => el("option", { value: other.name, selected: other.name === id }, `${other.name}: ${cut(other.node, 40)}`)));
  return el("div", { class: "onelayer", "data-layer": id },
    el("div", { class: "layerhead" },
      el("h2", { tabindex: "-1" }, "Layer ", name(id)), el("span", { class: `chip ${state[0]}` }, state[1]),
      el("span", { class: "go" }, neighbour(-1, "\u2190 previous"), select, neighbour(1, "next \u2192"))),
    el("div", { class: "panel" }, el("dl", { class: "facts" },
      el("div", { class: "wide" }, el("dt", {}, "node of the model"), el("dd", { "data-key": "node" }, name(layer.node))),
      fact("operator", "op", layer.op), fact("output", "shape", layer.shape.join("x")),
      fact("K", "depth", number(layer.depth), "products in one sum"), fact("channels", "outputs", number(layer.outputs)),
      fact("MACs", "macs", number(layer.macs)), fact("weights", "weight_bits", `${layer.weight_bits} bits`),
      fact("activations", "input_bits", `${layer.input_bits} bits`), fact("saved", "saved_bits", `${layer.saved_bits} bits`, "against the data type bound"),
      fact("mode", "mode", layer.mode),
      layer.tile === null ? null : fact("tile", "tile", `${number(layer.tile)} inputs`),
      layer.inner === null ? null : fact("tile's sums", "inner", `[${number(layer.inner[0])}, ${number(layer.inner[1])}]`),
      layer.margin_bits === null ? null : fact("margin", "margin_bits", `${layer.margin_bits} bits`, "bits asked less bits proven"),
      fact("margin, counts", "margin", number(layer.margin), "how far the proven interval may still grow"),
      fact("prefix hull", "prefix", `[${number(layer.prefix[0])}, ${number(layer.prefix[1])}]`, "all partial sums in any order, start included"))),
    el("div", { class: "columns2" },
      el("div", { class: "panel" }, el("h3", {}, "Accumulator bits by bound"), boundsTable(layer)),
      layer.weights ? el("div", { class: "panel" }, weightsChart(layer))
        : el("div", { class: "panel" }, el("h3", {}, "Weights"), el("p", {}, "None: both operands are activations, or they are loaded at run time."))),
    el("div", { class: "panel" }, widthsChart(layer)),
    el("div", { class: "panel" }, intervalsChart(layer), channelsPanel(layer)),
    witnessPanel(layer),
    el("div", { class: "columns2" }, requantizerPanel(layer), foldingPanel(layer)),
    fifosPanel(layer));
};
