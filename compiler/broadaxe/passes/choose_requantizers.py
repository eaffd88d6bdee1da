"""Give every requantizer the cheapest form that is proven equal to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from broadaxe.errors import ProofError, RequestError, UnsupportedModelError
from broadaxe.ir import Bounds, Graph, Node, hull
from broadaxe.ops.forms import Constant, Form, Table
from broadaxe.ops.requantize import Requantize
from broadaxe.prove.requantizers import Examination, candidates
from broadaxe.staircase import staircase, stairs_of

NOMINAL_LANES = 4
"""Lanes that the cost of a form is compared at; folding comes later."""


def choose_requantizers(graph: Graph, forced: Mapping[str, str] | None = None) -> Graph:
    """Choose and prove a form for every Requantize node.

    Requires: every Requantize reads a value with proven bounds.
    Ensures: each has a form that equals its exact staircase on those bounds, the cheapest by `Form.luts` or the one
    `forced` names for it (by node, or "*" for all that are not constant), and the number of comparisons that proved it;
    the graph's integer function is unchanged.
    """
    wishes = forced or {}
    names = [node.name for node in graph.nodes if isinstance(node.op, Requantize)]
    for name in wishes:
        if name != "*" and name not in names:
            raise RequestError(f"requantizers: there is no requantizer {name!r}; requantizers are {', '.join(names)}")
    nodes = tuple(
        replace(node, op=_with_form(graph, node, node.op, wishes)) if isinstance(node.op, Requantize) else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def examined(op: Requantize, domain: Bounds) -> tuple[Examination, list[Form]]:
    """What decides whether a form is right, and forms that may be."""
    if not op.turns(domain):
        stairs = staircase(op.chain, op.quantizer, domain)
        return Examination.of(op.chain, op.quantizer, stairs), candidates(op.chain, op.quantizer, stairs)
    rows = op.table(domain)
    found = stairs_of(rows, domain)
    forms: list[Form] = [Table(rows, hull(domain))] if found is None else candidates(op.chain, op.quantizer, found)
    return Examination.whole(rows, domain), forms


def _with_form(graph: Graph, node: Node, op: Requantize, wishes: Mapping[str, str]) -> Requantize:
    wish, wish_for_all = wishes.get(node.name, wishes.get("*")), node.name not in wishes
    (x,) = graph.inputs_of(node)
    try:
        examination, forms = examined(op, x.bounds)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{node.origin}: {error}") from None
    proven: list[Form] = []
    for form in forms:
        try:
            examination.prove(form)
        except ProofError:
            continue
        proven.append(form)
    if wish is not None:
        named = [form for form in proven if form.name == wish or (wish_for_all and form.name == Constant.name)]
        if not named:
            known = ", ".join(sorted({form.name for form in proven}))
            raise RequestError(
                f"{node.name}, {node.origin}: no {wish} requantizer equals it exactly; proven are {known}"
            )
        proven = named
    if not proven:
        raise ProofError(f"{node.name}, {node.origin}: no form of requantizer could be proven; report this as a bug")
    best = min(proven, key=lambda form: form.luts(x.dtype.width, NOMINAL_LANES))
    return replace(op, form=best, comparisons=examination.comparisons)
