"""WindowMax: the largest element of each channel over the taps of a window; with SlidingWindow it makes MaxPool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.hardware import Resources, Trace, repeated
from broadaxe.ir import WIDEST_WORD, Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value, divisors
from broadaxe.ops import costs
from broadaxe.ops.geometry import Geometry
from broadaxe.ops.importing import (
    GraphBuilder,
    ModelNode,
    Pool,
    Scaled,
    Tensor,
    admit,
    channels_first,
    image,
    imports,
    like,
    rises,
)
from broadaxe.ops.window import SlidingWindow
from broadaxe.types import Interval, IntType


@dataclass(frozen=True)
class WindowMax(Op):
    """y[c] = max over t of x[t * C + c], with `taps` taps and C = K / taps channels, on the last axis."""

    kind = "window_max"
    taps: int

    def shape(self, *inputs: Value) -> Shape:
        (x,) = inputs
        if x.channels % self.taps:
            raise GraphError(
                f"window_max: {x.channels} elements are not {self.taps} taps of equal size; give a multiple"
            )
        return (*x.shape[:-1], x.channels // self.taps)

    def bounds(self, *inputs: Value) -> Bounds:
        (x,) = inputs
        lo, hi = (end.reshape(self.taps, -1).max(axis=0).tolist() for end in x.ends())
        return tuple(Interval(a, b) for a, b in zip(lo, hi, strict=True))

    def dtype(self, *inputs: Value) -> IntType:
        return inputs[0].dtype

    def reference(self, *inputs: IntArray) -> IntArray:
        (x,) = inputs
        taps = x.reshape(*x.shape[:-1], self.taps, -1)
        out = taps[..., 0, :]
        for tap in range(1, self.taps):
            out = np.maximum(out, taps[..., tap, :])
        return np.ascontiguousarray(out)

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        (x,) = values
        channels = x.channels // self.taps
        split = builder.constant(np.array([-1, *x.shape[:-1], self.taps, channels], dtype=np.int64))
        taps = builder.node("Reshape", inputs[0], split)
        return builder.node("ReduceMax", taps, builder.constant(np.array([-2])), keepdims=0)

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        (x,) = inputs
        lo, hi = x.ends()
        return [np.broadcast_to(lo, x.shape)], [np.broadcast_to(hi, x.shape)]

    def variants(self, inputs: Sequence[Value], output: Value) -> Sequence[Lanes]:
        """Up to all channels of one tap, in and out; or several taps of a pixel in, all its channels out."""
        widest = WIDEST_WORD // output.dtype.width
        several = [taps * output.channels for taps in divisors(self.taps)[1:]]
        return [*super().variants(inputs, output), *(Lanes(n, output.channels) for n in several if n <= widest)]

    def stages(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        """Every level of the tree of comparisons may be a stage of its own."""
        return super().stages(inputs, output, lanes) + (lanes.read // lanes.written - 1).bit_length()

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """The words of a pixel's last taps write."""
        words, pixels = inputs[0].channels // lanes.read, prod(output.shape[:-1])
        last = np.arange(words - output.channels // lanes.written, words)
        return Trace(pixels * words, (np.arange(pixels * words),), repeated(last, words, pixels))

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        return {
            "lanes": lanes.written,
            "at_once": lanes.read // lanes.written,
            "channels": output.channels,
            "taps": self.taps,
            "pixels": prod(output.shape[:-1]),
        }

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """A comparison and a choice a lane and tap; the maxima of a pixel, as registers where they are few."""
        count, bits, at_once = lanes.written, output.dtype.width, lanes.read // lanes.written
        blocks = output.channels // count
        words = self.taps // at_once
        comparisons = at_once if words > 1 else at_once - 1
        return (
            costs.times(costs.maximum(count, bits), max(1, comparisons))
            + costs.kept(count * bits, blocks)
            + Resources(lut=count * bits if blocks > 1 else 0)
            + costs.counters(prod(output.shape[:-1]) * words * blocks, blocks, words)
        )

    @classmethod
    def examples(cls) -> Iterable[Example]:
        bounds = tuple(Interval(-c, 7 - c // 3) for c in range(12))
        yield Example("2x2", cls(4), (Value("x", (3, 2, 12), IntType(5, signed=True), bounds),))
        yield Example("one tap", cls(1), (Value("x", (12,), IntType(5, signed=True), bounds),))
        unsigned = Value("x", (2, 2, 18), IntType(3, signed=False), (Interval(0, 7),) * 18)
        yield Example("3x3 unsigned", cls(9), (unsigned,))


@imports("MaxPool")
def import_max_pool(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """MaxPool on codes where the tensor is quantized, else kept until its next quantizer."""
    given = node.scaled(0)
    x = _pooled_image(graph, node, given)
    _, channels, height, width = x.shape
    slides = Geometry.of(node, (height, width), len(given.shape) - 2)
    if any(pad >= slides.kernel[axis % 2] for axis, pad in enumerate(slides.declared)):
        raise node.fail(
            f"its pads {list(slides.declared)} reach the kernel {list(slides.kernel)}; a window would hold padding alone"
        )
    window = SlidingWindow(slides.kernel, slides.stride, slides.pads, slides.dilation)
    if not window.reads_image_everywhere((height, width, channels)):
        raise node.fail("a window lies in the padding alone; shrink the pads")
    pool = Pool(slides.kernel, slides.stride, slides.pads, slides.dilation, node.where)
    return like(given, _pool(graph, node, x, pool))


@imports("GlobalMaxPool")
def import_global_max_pool(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """One window as large as the image."""
    given = node.scaled(0)
    x = _pooled_image(graph, node, given)
    pool = Pool((x.shape[2], x.shape[3]), (1, 1), (0, 0, 0, 0), (1, 1), node.where)
    return like(given, _pool(graph, node, x, pool))


def _pooled_image(graph: GraphBuilder, node: ModelNode, x: Scaled) -> Scaled:
    """x as an image; pools that wait for a quantizer have made it one already, unless its elements moved since."""
    if x.pools and len(x.shape) in (3, 4):
        still = x if len(x.shape) == 4 else replace(x, index=x.index[:, :, None])
        _, channels, height, width = still.shape
        known = graph.values[x.value].channels
        if channels == known and np.array_equal(still.index, channels_first(height, width, channels)):
            return still
    return image(graph, node, settled(graph, node, x))


def _pool(graph: GraphBuilder, node: ModelNode, x: Scaled, pool: Pool) -> Scaled:
    _, channels, height, width = x.shape
    window = SlidingWindow(pool.kernel, pool.stride, pool.pads, pool.dilation)
    out_h, out_w = window.positions((height, width, channels))
    admit(node.where, (out_h, out_w, pool.kernel[0] * pool.kernel[1] * channels))
    index = channels_first(out_h, out_w, channels)
    if x.pools or len(x.chain) > 1 or not rises(x, channels):
        return Scaled(x.value, index, x.chain, (*x.pools, pool))
    return Scaled(emit_pool(graph, pool, graph.values[x.value]).name, index, x.chain)


def settled(graph: GraphBuilder, node: ModelNode, x: Scaled) -> Scaled:
    """x without pools that wait: they work on the integers that are there, which has to be the order of its reals."""
    if not x.pools:
        return x
    value = graph.values[x.value]
    if not rises(x, value.channels):
        raise node.fail(
            f"comes after {x.pools[-1].origin}, which waits for a Quant because a constant before it turns values round;"
            " put a Quant in between"
        )
    for pool in x.pools:
        value = emit_pool(graph, pool, value)
    return replace(x, value=value.name, pools=())


def emit_pool(graph: GraphBuilder, pool: Pool, source: Value) -> Value:
    """Append a MaxPool on codes; padding is the lowest code that occurs, which never wins."""
    name = graph.fresh("maxpool")
    window = SlidingWindow(pool.kernel, pool.stride, pool.pads, pool.dilation, (source.hull.lo,))
    patches = graph.add(f"{name}_window", window, [source.name], pool.origin)
    taps = pool.kernel[0] * pool.kernel[1]
    return graph.add(name, WindowMax(taps), [patches.name], pool.origin, source.affine)
