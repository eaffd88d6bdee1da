"""The operators of the integer graph. Importing this package registers all of them; adding one adds one line here."""

from __future__ import annotations

from broadaxe.ir import Op
from broadaxe.ops import conv_transpose as conv_transpose
from broadaxe.ops import elementwise as elementwise
from broadaxe.ops import linear as linear
from broadaxe.ops import movement as movement
from broadaxe.ops import multithreshold as multithreshold
from broadaxe.ops import pointwise as pointwise
from broadaxe.ops import pooling as pooling
from broadaxe.ops import reductions as reductions
from broadaxe.ops.arg_max import ArgMax
from broadaxe.ops.concat import Concat
from broadaxe.ops.dot import Dot
from broadaxe.ops.grouped import GroupedMatVec
from broadaxe.ops.loadable_grouped import LoadableGroupedMatVec
from broadaxe.ops.loadable_matvec import LoadableMatVec
from broadaxe.ops.loadable_requantize import LoadableRequantize
from broadaxe.ops.lookup import Lookup
from broadaxe.ops.mac import Mac
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.product import Product
from broadaxe.ops.rearrange import Rearrange
from broadaxe.ops.requantize import Requantize
from broadaxe.ops.scaled_add import ScaledAdd
from broadaxe.ops.select import Select
from broadaxe.ops.view import View
from broadaxe.ops.window import SlidingWindow
from broadaxe.ops.window_max import WindowMax

OPS: tuple[type[Op], ...] = (
    ArgMax,
    Concat,
    Dot,
    GroupedMatVec,
    LoadableGroupedMatVec,
    LoadableMatVec,
    LoadableRequantize,
    Lookup,
    MatVec,
    Product,
    Rearrange,
    Requantize,
    ScaledAdd,
    Select,
    SlidingWindow,
    View,
    WindowMax,
)

__all__ = [
    "OPS",
    "ArgMax",
    "Concat",
    "Dot",
    "GroupedMatVec",
    "LoadableGroupedMatVec",
    "LoadableMatVec",
    "LoadableRequantize",
    "Lookup",
    "Mac",
    "MatVec",
    "Product",
    "Rearrange",
    "Requantize",
    "ScaledAdd",
    "Select",
    "SlidingWindow",
    "View",
    "WindowMax",
]
