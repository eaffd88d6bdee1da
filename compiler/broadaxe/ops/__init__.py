"""The operators of the integer graph. Importing this package registers all of them; adding one adds one line here."""

from __future__ import annotations

from broadaxe.ir import Op
from broadaxe.ops import elementwise as elementwise
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.requantize import Requantize
from broadaxe.ops.view import View
from broadaxe.ops.window import SlidingWindow
from broadaxe.ops.window_max import WindowMax

OPS: tuple[type[Op], ...] = (MatVec, Requantize, SlidingWindow, View, WindowMax)

__all__ = ["OPS", "MatVec", "Requantize", "SlidingWindow", "View", "WindowMax"]
