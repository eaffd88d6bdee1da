"""The walk over a model: each layer is solved for on the inputs that the network quantized so far gives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from broadaxe.errors import ProofError, RequestError
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.standard import attribute, expand_quant, is_quantizer
from broadaxe.ir import Graph, Node
from broadaxe.lower import lower
from broadaxe.ops.importing import Array
from broadaxe.ops.linear import CANONICAL, INNER, ORDER, OUTER, START, TILE
from broadaxe.ops.mac import Mac
from broadaxe.ops.matvec import MatVec
from broadaxe.passes import run_passes
from broadaxe.passes.divide_rows import divide_rows
from broadaxe.passes.offset_accumulators import offset_accumulators
from broadaxe.quantization.budget import Budget
from broadaxe.quantization.config import DEFAULT_WEIGHT_BITS, LayerSettings, QuantConfig
from broadaxe.quantization.draft import Draft
from broadaxe.quantization.grid import WeightGrid, allowed, max_abs_steps
from broadaxe.quantization.layers import LINEAR, Layer, absorbs_offset, needs_own_steps
from broadaxe.quantization.moments import Moments, MomentSum
from broadaxe.quantization.optq import BLOCK
from broadaxe.quantization.recipe import BudgetKind, Recipe
from broadaxe.quantization.record import LayerRecord, QuantizationRecord
from broadaxe.quantization.solve import Solution, solve
from broadaxe.quantization.tape import Store, Tape
from broadaxe.version import __version__

Progress = Callable[[str], None]
LARGE_ERROR = 0.1
"""Share of the outputs' power from which on a result is worth a warning."""
FLOAT_MODELS_ONLY = {"act_bits", "input_bits", "first_weight_bits", "last_weight_bits", "ranges", "percentile"}


@dataclass(eq=False)
class _Run:
    """The state of a walk."""

    model: onnx.ModelProto
    config: QuantConfig
    draft: Draft
    floats: Tape
    quantized: Tape
    held: int
    constants: set[str]
    own_bits: bool


def quantize_model(
    model: onnx.ModelProto,
    data: Mapping[str, Array],
    config: QuantConfig,
    *,
    own_bits: bool = False,
    progress: Progress | None = None,
) -> tuple[onnx.ModelProto, QuantizationRecord]:
    """Solve for the weights of every layer of a QONNX model whose activations have their quantizers.

    Args:
        model: QONNX.
        data: calibration inputs by name, shape (samples, ...).
        config: settings.
        own_bits: the weight quantizers in the model have the bits that settings ask for, by layer.
        progress: called with what is being done.

    Returns:
        The model with new weights, each on a Quant of its own, and the record.

    Raises:
        RequestError: data or settings do not fit the model, or a budget no grid point fits.
        UnsupportedModelError: the model cannot be lowered; names the node.
        ProofError: a layer came out wider than asked; a bug in Broadaxe.
    """
    said, start = progress or (lambda _: None), time.perf_counter()
    said("checking that the model compiles")
    model = rehearsed(model, config, own_bits=own_bits)
    result, record = _quantized(model, data, config, own_bits, said)
    if config.bias_correction == "auto" and any(layer.bias_corrected for layer in record.layers):
        said("once more without bias correction, to compare")
        plain = _quantized(model, data, config.model_copy(update={"bias_correction": "off"}), own_bits, said)
        if (plain[1].output_error or 0.0) <= (record.output_error or 0.0):
            result, record = plain
    return result, record.model_copy(update={"settings": config, "seconds": time.perf_counter() - start})


def rehearsed(model: onnx.ModelProto, config: QuantConfig, *, own_bits: bool) -> onnx.ModelProto:
    """The model that is walked over, after going through it with weights rounded to nearest: whatever will be refused is
    refused before there is any work."""
    model = _stripped(symbolic_batch(model))
    _check_layers(model, config, own_bits)
    draft, constants, recipe, found = Draft(model), _constants(model), config.recipe(), False
    for node in model.graph.node:
        layer = draft.layer(node, quantized=config.target == "quantized")
        if layer is None:
            draft.keep(node)
            continue
        found = True
        settings = config.of(layer.name)
        _budget(layer, settings, config, recipe, absorbs_offset(model, node, constants))
        weights, grid = layer.matrix(), _grid(layer, settings, own_bits)
        if not bool(torch.isfinite(weights).all()):
            raise RequestError(f"{layer.where}: weights are not finite numbers; repair the model")
        kept = _own_steps(model, layer, constants)
        steps = allowed(max_abs_steps(weights, grid), config.scales) if kept is None else kept
        draft.solved(layer, grid.nearest(weights / steps[:, None]).to(torch.int32), steps, grid, {})
    if not found:
        raise RequestError("model: has no layer whose weights could be quantized; give one with a Conv, Gemm or MatMul")
    lower(draft.finished())
    return model


def _own_steps(model: onnx.ModelProto, layer: Layer, constants: set[str]) -> Tensor | None:
    """The scale that a layer has to keep."""
    return layer.steps if needs_own_steps(model, layer.node, constants) else None


def _quantized(
    model: onnx.ModelProto, data: Mapping[str, Array], config: QuantConfig, own_bits: bool, said: Progress
) -> tuple[onnx.ModelProto, QuantizationRecord]:
    """One walk over the model."""
    samples, start = len(next(iter(data.values()))), time.perf_counter()
    held, records = held_rows(samples, config), list[LayerRecord]()
    store = Store(config.memory_gb * 1e9)
    try:
        floats = Tape(expand_quant(_reference(model, config.target)), data, store)
        quantized = Tape(expand_quant(model), data, store)
        run = _Run(model, config, Draft(model), floats, quantized, held, _constants(model), own_bits)
        total = sum(n.op_type in LINEAR for n in model.graph.node)
        for node in model.graph.node:
            layer = run.draft.layer(node, quantized=config.target == "quantized")
            if layer is None:
                run.draft.keep(node)
                continue
            shown = f"{layer.name}: layer {len(records) + 1} of {total}"
            said(f"{shown}, {layer.rows} x {layer.inputs} weights")
            records.append(_solve_layer(run, layer))
            said(f"{shown}, error {records[-1].error:.2g}")
        said("comparing outputs")
        error = _output_error(run) if held else None
        result = run.draft.finished()
    finally:
        store.close()
    said("proving accumulators")
    records = _proven(result, records)
    return result, QuantizationRecord(
        warnings=_warnings(error, records),
        broadaxe=__version__,
        settings=config,
        samples=samples - held,
        held_out_samples=held,
        layers=tuple(records),
        output_error=error,
        seconds=time.perf_counter() - start,
    )


def held_rows(samples: int, config: QuantConfig) -> int:
    """Calibration rows, the last ones, that are kept for judging."""
    return min(int(samples * config.held_out), samples - 1)


def _check_layers(model: onnx.ModelProto, config: QuantConfig, own_bits: bool) -> None:
    """Refuse settings that would silently do nothing."""
    names = [str(n.name or n.output[0]) for n in model.graph.node if n.op_type in LINEAR]
    for pattern, layer in config.layers.items():
        if not own_bits and not any(fnmatchcase(name, pattern) for name in names):
            shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            where = config.place("layers", pattern)
            raise RequestError(f"{where}: no layer has such a name; there are {shown or 'none'}")
        if not own_bits and layer.act_bits is not None:
            where = config.place("layers", pattern, "act_bits")
            raise RequestError(f"{where}: the model has quantizers of its own; leave it out")
    ignored = sorted(config.model_fields_set & FLOAT_MODELS_ONLY)
    if ignored and not own_bits:
        where = config.place(ignored[0])
        raise RequestError(f"{where}: is for float models, this one has quantizers of its own; leave it out")


def _warnings(output_error: float | None, records: list[LayerRecord]) -> tuple[str, ...]:
    if output_error is None or output_error < LARGE_ERROR:
        return ()
    worst = max(records, key=lambda r: r.held_out_error or 0.0)
    remedy = (
        "give more accumulator or weight bits" if worst.acc_bits is not None else "give more weight or activation bits"
    )
    return (
        f"the outputs are off by {100 * output_error:.0f} % of their power on held-out rows, most in {worst.name}"
        f" ({100 * (worst.held_out_error or 0.0):.0f} %); {remedy}, and check the accuracy",
    )


def _grid(layer: Layer, settings: LayerSettings, own_bits: bool) -> WeightGrid:
    """Bits of the settings, else of the model's own Quant, which may be narrow or not."""
    bits = (layer.bits if own_bits else settings.weight_bits or layer.bits) or DEFAULT_WEIGHT_BITS
    return WeightGrid(bits, narrow=layer.narrow if layer.bits == bits else True)


def _solve_layer(run: _Run, layer: Layer) -> LayerRecord:
    start = time.perf_counter()
    config = run.config
    settings, recipe = config.of(layer.name), config.recipe()
    grid, weights = _grid(layer, settings, run.own_bits), layer.matrix()
    seen, unseen = _moments(run, layer)
    warnings: list[str] = []
    offset = absorbs_offset(run.model, layer.node, run.constants)
    budget = _budget(layer, settings, config, recipe, offset)
    kept = _own_steps(run.model, layer, run.constants)
    if kept is not None:
        warnings.append("keeps the model's own scale: its sums meet others before a quantizer")
    try:
        solutions = _solutions(weights, seen, grid, budget, recipe, kept)
    except RequestError as error:
        raise RequestError(f"{layer.where}: {error}") from error
    codes, steps = torch.cat([s.codes for s in solutions]), torch.cat([s.steps for s in solutions])
    errors = _errors(solutions, weights, seen, unseen, layer.groups)
    correction = _bias_correction(config, solutions, weights, seen, unseen)
    written, corrected = run.draft.solved(layer, codes, steps, grid, promises(budget), correction)
    quant, *linear = written
    run.floats.constant(layer.node.input[1], layer.float_weights.astype(np.float32))
    run.quantized.constant(quant.output[0], run.draft.value(quant.output[0]))
    for key in (i for node in linear for i in node.input if i in run.draft.initializers):
        run.quantized.constant(key, run.draft.initializers[key])
    run.quantized.replace(layer.node.output[0], linear)
    figures = _code_figures(codes, grid)
    dead = sum(int((m.hessian.diagonal() == 0).sum()) for m in seen)
    if figures["zero_rows"]:
        warnings.append(f"{figures['zero_rows']} output channels are all zero")
    damping = max(s.damping for s in solutions)
    if damping > config.damping:
        warnings.append(f"damping was raised to {damping:g} to factorize the Hessian")
    if seen[0].samples < layer.inputs:
        warnings.append(f"{seen[0].samples} rows for {layer.inputs} inputs; give more calibration data")
    if budget is not None and config.budget == "offset" and budget.kind != "offset":
        warnings.append(
            "counted from zero: another activation is added to its sums, a start constant has no place there"
        )
    return LayerRecord(
        name=layer.name,
        op=layer.node.op_type,
        rows=layer.rows,
        inputs=layer.inputs,
        groups=layer.groups,
        products=layer.rows * layer.inputs * seen[0].samples // (run.floats.samples - run.held),
        weight_bits=grid.bits,
        input_codes=(int(layer.lo.min()), int(layer.hi.max())),
        budget=None if budget is None else budget.kind,
        acc_bits=None if budget is None else budget.bits,
        tile=None if budget is None else budget.tile,
        width=0,
        inner_width=None,
        **errors,
        step_multiple=float((steps / max_abs_steps(weights, grid)).median()),
        **figures,
        dead_inputs=dead,
        damping=damping,
        bias_corrected=corrected,
        seconds=time.perf_counter() - start,
        warnings=tuple(warnings),
    )


def _solutions(
    weights: Tensor,
    moments: list[Moments],
    grid: WeightGrid,
    budget: Budget | None,
    recipe: Recipe,
    steps: Tensor | None,
) -> list[Solution]:
    """Of every group; groups of few inputs are solved for together.

    Args:
        budget: with ranges of the groups, shape (groups, inputs).
        steps: of rows that keep theirs.
    """
    count = len(moments)
    if count == 1 or weights.shape[1] > BLOCK:
        alone = [None if budget is None else replace(budget, lo=budget.lo[g], hi=budget.hi[g]) for g in range(count)]
        parts, fixed = weights.chunk(count), [None] * count if steps is None else steps.chunk(count)
        layers = zip(parts, moments, alone, fixed, strict=True)
        return [solve(w, m, grid, b, recipe, steps=s) for w, m, b, s in layers]
    owner = torch.arange(count).repeat_interleave(len(weights) // count)
    limit = None if budget is None else budget.of(owner)
    found = solve(weights, Moments.stack(moments), grid, limit, recipe, owner=owner, steps=steps)
    return [found.part(owner == g) for g in range(count)]


def _moments(run: _Run, layer: Layer) -> tuple[list[Moments], list[Moments] | None]:
    """Of calibration rows and of held-out rows, per group."""
    name = layer.node.input[0]
    x, xq = run.floats.read(name), run.quantized.read(name)
    paired = x is not xq
    out = []
    cut = len(x) - run.held
    for rows in (slice(0, cut), slice(cut, len(x))):
        if rows.start == rows.stop:
            continue
        total = MomentSum(layer.groups, layer.inputs, paired=paired)
        for quantized, floats in zip(layer.blocks(xq[rows]), layer.blocks(x[rows]), strict=True):
            total.add(quantized, floats)
        out.append(total.average())
    return out[0], out[1] if len(out) > 1 else None


def _budget(layer: Layer, settings: LayerSettings, config: QuantConfig, recipe: Recipe, offset: bool) -> Budget | None:
    if settings.acc_bits is None:
        if settings.tile is not None:
            raise RequestError(f"{layer.where}: tile {settings.tile} without acc_bits; give both")
        return None
    tile = settings.tile if settings.tile is not None and settings.tile < layer.inputs else None
    where = layer.where
    if tile is not None and layer.groups > 1:
        raise RequestError(f"{where}: tile is {tile}, but grouped layers have no tiles; leave it out for this layer")
    kind: BudgetKind = config.budget or ("signed" if recipe.published or tile is not None else "offset")
    if kind == "offset" and (tile is not None or not offset):
        if config.budget == "offset" and tile is not None:
            raise RequestError(
                f"{where}: budget offset with tile {tile}; accumulators of tiles start at zero, use signed"
            )
        kind = "signed"
    return Budget(settings.acc_bits, layer.lo, layer.hi, kind, tile, symmetric=recipe.published)


def _errors(
    solutions: list[Solution], weights: Tensor, seen: list[Moments], unseen: list[Moments] | None, groups: int
) -> dict[str, Any]:
    parts = weights.chunk(groups)

    def relative(moments: list[Moments] | None, centred: bool) -> float | None:
        if moments is None:
            return None
        triples = list(zip(moments, solutions, parts, strict=True))
        lost = sum(float(m.error(s.codes, s.steps, w, centred=centred).sum()) for m, s, w in triples)
        power = sum(float(m.power(w, centred=centred).sum()) for m, s, w in triples)
        return lost / power if power > 0 else 0.0

    return {
        "error": relative(seen, False),
        "error_centred": relative(seen, True),
        "held_out_error": relative(unseen, False),
        "held_out_centred": relative(unseen, True),
    }


def _code_figures(codes: Tensor, grid: WeightGrid) -> dict[str, Any]:
    """What integers of a layer look like."""
    largest = int(codes.abs().max())
    low, high = int(codes.min()), int(codes.max())
    return {
        "largest_code": largest,
        "effective_bits": 1 if grid.bipolar else max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1,
        "zeros": float((codes == 0).double().mean()),
        "distinct_codes": len(torch.unique(codes)),
        "zero_rows": int((codes == 0).all(1).sum()),
    }


def promises(budget: Budget | None) -> dict[str, str]:
    """Metadata that the compiler holds the layer to."""
    if budget is None:
        return {}
    if budget.tile is None:
        return {OUTER: str(budget.bits), START: "offset" if budget.kind == "offset" else "zero"}
    return {TILE: str(budget.tile), INNER: str(budget.bits), ORDER: CANONICAL}


def _bias_correction(
    config: QuantConfig,
    solutions: list[Solution],
    weights: Tensor,
    seen: list[Moments],
    unseen: list[Moments] | None,
) -> Tensor | None:
    """What to add to the bias, shape (rows,), where that is asked for and does not hurt the layer on held-out rows."""
    if config.bias_correction == "off" or (config.bias_correction == "auto" and unseen is None):
        return None
    parts = weights.chunk(len(solutions))
    means = [m.bias(s.codes, s.steps, w) for m, s, w in zip(seen, solutions, parts, strict=True)]
    if config.bias_correction == "auto" and unseen is not None:
        left = [m.bias(s.codes, s.steps, w) for m, s, w in zip(unseen, solutions, parts, strict=True)]
        if sum(float(((a - b) ** 2).sum() - (a**2).sum()) for a, b in zip(left, means, strict=True)) >= 0:
            return None
    return torch.cat(means)


def _output_error(run: _Run) -> float | None:
    """Squared error of all outputs over their power, on held-out rows."""
    lost = power = 0.0
    for name in run.quantized.outputs:
        ends = [np.asarray(tape.read(name)[-run.held :], dtype=np.float64) for tape in (run.floats, run.quantized)]
        lost += float(((ends[0] - ends[1]) ** 2).sum())
        power += float((ends[0] ** 2).sum())
    return lost / power if power else None


def _proven(model: onnx.ModelProto, records: list[LayerRecord]) -> list[LayerRecord]:
    """Records with the widths that the compiler itself proves for the finished model."""
    graph = run_passes(lower(model).graph, (divide_rows, offset_accumulators))
    waiting, out = [n for n in graph.nodes if isinstance(n.op, Mac)], []
    for record in records:
        where = f"{record.name} ({record.op})"
        found = next((n for n in waiting if n.origin == where), None)
        if found is None:  # nothing reads this layer
            out.append(record)
            continue
        waiting.remove(found)
        width, inner = _widths(graph, found)
        asked = inner if record.tile is not None else width
        if record.acc_bits is not None and (asked or 1) > record.acc_bits:
            raise ProofError(
                f"{where}: needs {asked} accumulator bits, {record.acc_bits} were asked; report this as a bug"
            )
        out.append(record.model_copy(update={"width": width, "inner_width": inner}))
    return out


def _widths(graph: Graph, node: Node) -> tuple[int, int | None]:
    inner = None
    if isinstance(node.op, MatVec) and node.op.tile is not None:
        inner = node.op.tile_sums(*graph.inputs_of(node)).signed_dtype.width
    return graph.values[node.output].dtype.width, inner


def _reference(model: onnx.ModelProto, target: str) -> onnx.ModelProto:
    """The network to aim at: without quantizers on activations, or as it is.

    A quantizer without negative codes leaves a Relu behind: tools that quantize leave the Relu before it out.
    """
    if target == "quantized":
        return model
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    constants, values = _constants(model), {t.name: t for t in model.graph.initializer}
    for node in plain.graph.node:
        if is_quantizer(node) and node.input[0] not in constants:
            source, output, name = node.input[0], node.output[0], node.name
            node.CopyFrom(helper.make_node(_left_of(node, values), [source], [output], name=name))
    return plain


def _left_of(quantizer: onnx.NodeProto, values: Mapping[str, onnx.TensorProto]) -> str:
    """The operator that stays of an activation's quantizer in float."""
    zero = values.get(quantizer.input[2]) if len(quantizer.input) > 2 else None
    unsigned = quantizer.op_type in ("Quant", "IntQuant") and not attribute(quantizer, "signed", 1)
    return "Relu" if unsigned and zero is not None and not numpy_helper.to_array(zero).any() else "Identity"


def _constants(model: onnx.ModelProto) -> set[str]:
    """Tensors that no input reaches."""
    known = {t.name for t in model.graph.initializer}
    for node in model.graph.node:
        if all(i in known for i in node.input if i):
            known.update(node.output)
    return known


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the promises of an earlier quantization."""
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if not entry.key.startswith("broadaxe.")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    return model
