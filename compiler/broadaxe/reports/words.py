"""What the page's words mean: its glossary, in the order in which they build on each other."""

from __future__ import annotations

WORDS = {
    "accumulator": "The register that adds up a channel's products. Its width decides adders and FIFO words.",
    "MAC": "Multiply-accumulate: one product, added to a sum.",
    "K": "How many products one sum has.",
    "channel": "An output of a layer with weights, and so an accumulator interval, of its own.",
    "proven interval": "The least and the largest sum that a channel can have for any input that the layer can see. Both "
    "ends are attained: there is an input that leads to each.",
    "data type bound": "Bits that any weights and any inputs of the layer's types fit: what is left if nothing else is known.",
    "l1 bound": "Bits that these weights (by their sum of magnitudes) and any input of its type fit.",
    "exact": "Two's-complement bits of the proven interval: the least width for a sum that starts at 0 or at its bias.",
    "offset": "Bits of the proven interval where the sum starts at a constant that centres it; the requantizer behind "
    "takes the constant out again.",
    "start": "The constant that a channel's accumulator starts at: its bias, or the constant of the offset.",
    "prefix hull": "All partial sums in whatever order products are added, start included. Sums in between may leave the "
    "accumulator's range: two's complement wraps, and comes back.",
    "width P": "Accumulator bits as declared in hardware. Sums in stages have two: P_I of a tile, P_O of the whole.",
    "tile": "T inputs that are added up in a narrow inner accumulator before a wider one takes their sum.",
    "saved": "Data type bound less width: bits that the proof took away.",
    "budget": "Accumulator bits that quantization was asked to respect in this layer.",
    "margin": "What is left: in bits, budget less proven width; in counts, how far the interval may grow within the width.",
    "observed": "Least and largest sum on calibration data. It proves nothing, and shows how much of the interval is used.",
    "witness": "Inputs that take the widest channel to both ends of its interval: why the width cannot be less.",
    "requantizer": "Turns sums into codes of the next layer's type; its form is how hardware does that (thresholds, multiply "
    "and shift, a table). Each is proven equal to the model's exact real arithmetic on every sum that can occur.",
    "comparisons": "Exact integer comparisons that such a proof needed.",
    "certificate": "certificate.json in the build folder: these claims, for a checker that shares no code with the compiler.",
    "PE, SIMD": "Folding: output channels computed at once, and inputs taken at once. PE x SIMD products a cycle.",
    "packing": "Several products of one layer in one DSP block; proven to keep them apart.",
    "trips, II": "Iterations of a process' only loop for a frame; II = 1 is one iteration a cycle.",
    "fill": "Pipeline stages: cycles between an input and the output that it leads to.",
    "interval": "Cycles from one frame to the next when frames come back to back; the slowest process sets it.",
    "latency": "Cycles from a frame's first beat in to its last beat out, design empty, at most.",
    "FIFO depth": "Least: without deadlock. Declared: also without slowing down frames that come back to back.",
    "lane": "One of the integers that a FIFO's word holds side by side.",
    "LUT, FF, DSP, BRAM18, URAM": "Resources of the FPGA. Here by model, not from a tool's report.",
    "Pareto frontier": "Of many quantized variants, those that no other beats in both accuracy and bits.",
}
