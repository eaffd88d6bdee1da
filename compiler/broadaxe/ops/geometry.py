"""Kernel, stride, dilation and padding of an operator that slides over an image, as ONNX writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broadaxe.ops.importing import ModelNode

MAX_PAD = 1 << 16


@dataclass(frozen=True)
class Geometry:
    """How a window slides over an image; a row is an image of height 1.

    Attributes:
        kernel, stride, dilation: (height, width).
        pads: (top, left, bottom, right), what ceil_mode adds included.
        declared: the same without what ceil_mode adds.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]
    declared: tuple[int, int, int, int]

    @classmethod
    def of(cls, node: ModelNode, size: tuple[int, int], axes: int, kernel: Sequence[int] | None = None) -> Geometry:
        """Read a node.

        Args:
            size: height and width of its input.
            axes: how many of the two the model knows of, 1 or 2.
            kernel: the kernel where weights give it; else the attribute kernel_shape.
        """
        shape = _positive(node, node.attribute("kernel_shape", kernel or []), "kernel_shape", axes)
        if kernel is not None and list(shape[2 - axes :]) != list(kernel):
            raise node.fail(
                f"its kernel_shape {list(shape[2 - axes :])} is not that of its weight, {list(kernel)}; repair the model"
            )
        stride = _positive(node, node.attribute("strides", [1] * axes), "strides", axes)
        dilation = _positive(node, node.attribute("dilations", [1] * axes), "dilations", axes)
        extent = ((shape[0] - 1) * dilation[0] + 1, (shape[1] - 1) * dilation[1] + 1)
        pads = _pads(node, size, extent, stride, axes)
        padded = (size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3])
        if any(e > n for n, e in zip(padded, extent, strict=True)):
            raise node.fail(
                f"its kernel {list(shape[2 - axes :])} does not fit its input of {list(size[2 - axes :])}; pad it or use a"
                " smaller kernel"
            )
        grown = pads
        if node.attribute("ceil_mode", 0) and node.attribute("auto_pad", "NOTSET") in ("NOTSET", "VALID"):
            more = [_ceiling(*given) for given in zip(size, pads[:2], pads[2:], extent, stride, strict=True)]
            grown = (*pads[:2], pads[2] + more[0], pads[3] + more[1])
        return cls(shape, stride, dilation, grown, pads)

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def trivial(self) -> bool:
        """Whether every window is one pixel, and every pixel a window."""
        return self.kernel == self.stride == (1, 1) and not any(self.pads)


def _ceiling(size: int, before: int, after: int, extent: int, stride: int) -> int:
    """Padding behind the last window that ceil_mode adds; a window has to start inside the image or the padding before it."""
    padded = size + before + after
    positions = -(-(padded - extent) // stride) + 1
    if (positions - 1) * stride >= size + before:
        positions -= 1
    return max(0, (positions - 1) * stride + extent - padded)


def whole_numbers(node: ModelNode, values: Any, role: str) -> list[int]:
    if not isinstance(values, list | tuple) or not all(isinstance(v, int) for v in values):
        raise node.fail(f"its {role} {values!r} are not a list of integers; repair the model")
    return list(values)


def _positive(node: ModelNode, values: Any, role: str, axes: int) -> tuple[int, int]:
    """Integers of an attribute as (height, width)."""
    given = whole_numbers(node, values, role)
    if len(given) != axes:
        raise node.fail(f"its {role} {given} holds {len(given)} numbers for {axes} axes; repair the model")
    if min(given) < 1:
        raise node.fail(f"its {role} {given} are not numbers from 1 up; repair the model")
    return (1, given[0]) if axes == 1 else (given[0], given[1])


def _pads(
    node: ModelNode, size: tuple[int, int], extent: tuple[int, int], stride: tuple[int, int], axes: int
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) from pads and auto_pad."""
    auto = node.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = (
            whole_numbers(node, node.attribute("pads", [0] * 2 * axes), "pads") if auto == "NOTSET" else [0] * 2 * axes
        )
        if len(pads) != 2 * axes or min(pads) < 0:
            raise node.fail(f"its pads {pads} are not {2 * axes} numbers from 0 up; only those are supported")
        if max(pads) > MAX_PAD:
            raise node.fail(f"its pads {pads} are above {MAX_PAD}; use smaller ones")
        return (0, pads[0], 0, pads[1]) if axes == 1 else (pads[0], pads[1], pads[2], pads[3])
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.fail(f"its auto_pad {auto!r} is unknown; use explicit pads")
    before, after = [], []
    for n, e, s in zip(size, extent, stride, strict=True):
        total = max(0, (-(-n // s) - 1) * s + e - n)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    if max(*before, *after) > MAX_PAD:
        raise node.fail(f"its auto_pad asks for pads of {max(*before, *after)}; at most {MAX_PAD} are supported")
    return before[0], before[1], after[0], after[1]
