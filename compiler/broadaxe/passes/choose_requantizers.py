"""Give every requantizer the cheapest form that is proven equal to it."""

from __future__ import annotations

from dataclasses import replace

from broadaxe.errors import ProofError
from broadaxe.ir import Graph, Node
from broadaxe.ops.requantize import Requantize
from broadaxe.prove.requantizers import candidates, prove
from broadaxe.staircase import staircase


def choose_requantizers(graph: Graph) -> Graph:
    """Choose and prove a form for every Requantize node.

    Requires: every Requantize reads a value with proven bounds.
    Ensures: each has a form that equals its exact staircase on those bounds, with the number of comparisons that proved
    it; the graph's integer function is unchanged.
    """
    nodes = tuple(
        replace(node, op=_with_form(graph, node, node.op)) if isinstance(node.op, Requantize) else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def _with_form(graph: Graph, node: Node, op: Requantize) -> Requantize:
    (x,) = graph.inputs_of(node)
    stairs = staircase(op.chain, op.quantizer, x.bounds)
    for form in candidates(op.chain, op.quantizer, stairs):
        try:
            proof = prove(form, op.chain, op.quantizer, stairs)
        except ProofError:
            continue
        return replace(op, form=form, comparisons=proof.comparisons)
    raise ProofError(f"{node.origin}: no form of requantizer {node.name} could be proven")
