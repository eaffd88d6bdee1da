"""A folding for people: folding.yaml, to be edited and given back, and what `compile` says of it."""

from __future__ import annotations

from broadaxe.ir import Graph
from broadaxe.ops.mac import Accumulating
from broadaxe.schedule.dataflow import Dataflow
from broadaxe.schedule.folding import fold_of, folding_entries
from broadaxe.schedule.problem import kernel_resources
from broadaxe.schedule.resources import total_of
from broadaxe.schedule.targets import FoldingPlan, amounts, rate
from broadaxe.templating import templates


def folding_file(graph: Graph, plan: FoldingPlan, flow: Dataflow, clock_ns: float) -> str:
    """The text of folding.yaml; its figures are those of `compile` and `dataflow`, with FIFOs as deep as `flow` has them."""
    folding = {n.name: fold_of(n.op, plan.lanes[n.name]) for n in graph.nodes if isinstance(n.op, Accumulating)}
    entries = folding_entries(folding, plan.lanes)
    kernels = []
    for node in graph.nodes:
        if node.name not in plan.lanes:
            continue
        entry = entries[node.name]
        if isinstance(node.op, Accumulating):
            possible = node.op.foldings()
            allowed = {part: sorted({getattr(f, part) for f in possible}) for part in ("pe", "simd")}
            own, inputs = folding[node.name], graph.inputs_of(node)
            allowed["multiplier, at this pe and simd"] = list(node.op.multipliers(inputs, own, own.dsp))
        else:
            variants = node.op.variants(graph.inputs_of(node), graph.values[node.output])
            allowed = {"lanes": sorted({lanes.wider for lanes in variants})}
        kernels.append(
            {
                "name": node.name,
                "entry": entry,
                "allowed": {part: ", ".join(map(str, values)) for part, values in allowed.items()},
                "cycles": plan.cycles[node.name],
                "amounts": amounts(kernel_resources(graph, node, plan.lanes[node.name])),
            }
        )
    return (
        templates()
        .get_template("folding.yaml.jinja")
        .render(
            kernels=kernels,
            ii=plan.ii,
            bottleneck=plan.bottleneck,
            rate=plan.frames_per_second(clock_ns),
            clock_ns=clock_ns,
            total=amounts(total_of(graph, plan.lanes, flow)),
        )
    )


def told(plan: FoldingPlan, clock_ns: float) -> list[str]:
    """The price of the next step, as lines; none where nobody asked for a folding."""
    if plan.step is not None:
        step = plan.step
        faster = f"{step.cycles:,} cycles, {rate(step.cycles, clock_ns):,.0f} frames/s"
        return [f"next faster folding: {faster}, for {amounts(step.more, signed=True)} before FIFOs are sized"]
    if plan.optimal:
        return [f"no folding is faster: {plan.limit or plan.bottleneck} has no more lanes"]
    return []
