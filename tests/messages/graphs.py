"""Integer graphs and requantizers: contracts of passes, and proofs that do not hold.

An input that is refused never gets as far; these are for whoever writes a pass, an operator or a form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from unittest import mock

from models import design, small_cnn
from test_passes import VIOLATIONS, chain_graph, layer, requantize, small, value

from broadaxe.chain import Affine, Quantizer
from broadaxe.errors import GraphError, ProofError, RequestError, UnsupportedModelError
from broadaxe.ir import Graph, carrier, constant_array
from broadaxe.ops import Requantize
from broadaxe.ops.forms import Constant, Form, Shift, Table
from broadaxe.passes import run_passes
from broadaxe.passes.choose_requantizers import choose_requantizers
from broadaxe.prove.requantizers import prove
from broadaxe.staircase import staircase
from broadaxe.types import Interval, IntType

from . import provokes

COVERS = ("ir.py", "passes/choose_requantizers.py", "prove/")
QUARTERS = (Affine((Fraction(1, 4),), (Fraction(0),)),)
CODES = Quantizer((Fraction(1),), (Fraction(0),), -8, 7)


def broken(message: str, name: str, change: Callable[[Graph], Graph]) -> None:
    """A case whose pass breaks a graph."""

    def careless_pass(graph: Graph) -> Graph:
        return change(graph)

    provokes(f"after careless_pass: {message}", GraphError, name)(lambda tmp: run_passes(small(), [careless_pass]))


for _label, (_change, _message) in VIOLATIONS.items():
    broken(_message, _label, _change)
broken(
    "value v0 is missing from the graph's values; add it",
    "a value left out",
    lambda g: replace(g, values={name: v for name, v in g.values.items() if name != "v0"}),
)
broken(
    "n0 (matvec): 3 weights per output for vectors of 2; give as many",
    "another operator",
    lambda g: replace(g, nodes=(replace(g.nodes[0], op=layer([[1, 2, 3]])), *g.nodes[1:])),
)


@provokes("type ap_int<65>: is wider than 64 bits; quantize its inputs more coarsely", GraphError)
def integers_beyond_numpy(tmp: Path) -> None:
    carrier(IntType(65, signed=True))


# choosing a form


@provokes("requantizers: there is no requantizer 'quant9'; requantizers are quant0", RequestError)
def form_of_no_requantizer(tmp: Path) -> None:
    design(small_cnn(), requantizers={"quant9": "table"})


@provokes(
    "quant0, quant3 (Quant): no shift requantizer equals it exactly; proven are multiply-shift, table,"
    " threshold-search, thresholds",
    RequestError,
)
def form_that_is_not_exact(tmp: Path) -> None:
    design(small_cnn(), requantizers={"quant0": "shift"})


@provokes("choose_requantizers: n0, m0 (Op): no form of requantizer could be proven; report this as a bug", ProofError)
def no_form_at_all(tmp: Path) -> None:
    with mock.patch("broadaxe.passes.choose_requantizers.candidates", return_value=[]):
        run_passes(chain_graph(value((0, 9)), requantize()), [choose_requantizers])


@provokes(
    "m0 (Op): has 4194305 steps in 1 channels; at most 4194304 together are possible, quantize to fewer bits",
    UnsupportedModelError,
)
def steps_without_end(tmp: Path) -> None:
    """A graph that no lowering made: there the requantizer's own bounds refuse it."""
    wide = Quantizer((Fraction(1),), (Fraction(0),), 0, 1 << 22)
    graph = chain_graph(value((0, 1 << 23)), requantize())
    op = Requantize((Affine((Fraction(1),), (Fraction(0),)),), replace(wide, hi=(1 << 22) + 1))
    choose_requantizers(replace(graph, nodes=(replace(graph.nodes[0], op=op),)))


# proving it


def proving(message: str, name: str, form: Form, domain: Interval) -> None:
    """A case that proves a form of a quarter of its input."""

    def provoke(tmp: Path) -> None:
        prove(form, QUARTERS, CODES, staircase(QUARTERS, CODES, [domain]))

    provokes(message, ProofError, name)(provoke)


proving(
    "constant requantizer: channel 0, input -8: gives 3, exactly -2; choose another form",
    "a wrong constant",
    Constant(constant_array([3])),
    Interval(-8, 7),
)
proving(
    "table requantizer: channel 0: its entries rise and fall; tabulate it again",
    "a table that turns",
    Table(constant_array([[0, 1, 0]]), Interval(0, 2)),
    Interval(0, 2),
)
proving(
    "shift requantizer: its sum needs 64 bits; at most 61 are possible",
    "a shift of a wide sum",
    Shift(constant_array([1 << 62]), 2, False, -8, 7, Interval(0, 9)),
    Interval(0, 9),
)
