"""Training on under an accumulator budget: every layer of a Brevitas module is kept within it, step by step.

torch and Brevitas are imported when a module is given, never before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from broadaxe.errors import ProofError, RequestError
from broadaxe.frontend.brevitas import export_brevitas
from broadaxe.quantization.config import WIDEST_BUDGET
from broadaxe.quantization.recipe import BudgetKind, Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from broadaxe.quantization.budget import Budget
    from broadaxe.quantization.layers import Layer
    from broadaxe.quantization.learned_step import LearnedStep
    from broadaxe.quantization.projection import Rounding


@dataclass(frozen=True)
class LayerWidth:
    """What a layer's weights need now, for any codes that its input's quantizer can give.

    Attributes:
        acc_bits: what was asked.
        width: of the widest channel, exact.
        broken: channels that need more than was asked.
        channels: of the layer.
    """

    acc_bits: int
    width: int
    broken: int
    channels: int

    @property
    def holds(self) -> bool:
        return not self.broken


class AccumulatorBudget:
    """Keeps every layer's sums within so many bits while a Brevitas module trains.

        budget = AccumulatorBudget(module, x[:1], acc_bits=14)
        optimizer = torch.optim.Adam(module.parameters(), 1e-3)
        optimizer.register_step_post_hook(budget)  # or budget.project() after every step
        ...
        model = budget.export()  # QONNX, proven again

    Made before the optimizer: weight scales that Brevitas derives from the weights would move when weights are projected, so
    they become parameters (their logarithms), set to the multiple of the largest weight that loses least under the budget.
    Scales that do not depend on the weights (learned, constant, from `load_weights`) stay what they are.

    Inputs of a layer are bounded by what their quantizer can give, padding included, not by what the layers before can reach
    with their weights of today; what the compiler proves of the finished model is never wider. Biases and BatchNormalization
    are requantization and outside the budget.

    Example:
        >>> budget = AccumulatorBudget(brevitas_module, x_train[:1], acc_bits=10)
        >>> [(name, found.width) for name, found in budget.check().items()]
        [('1', 10), ('4', 10), ('8', 10)]
        >>> build = broadaxe.compile(budget.export(), "trained")
    """

    def __init__(
        self,
        module: nn.Module,
        example_input: torch.Tensor | np.ndarray,
        *,
        acc_bits: int | None = None,
        budget: BudgetKind = "offset",
        layers: Mapping[str, int | None] | None = None,
        learn_scales: bool = True,
    ) -> None:
        """Bring the weights within the budget.

        Args:
            module: Brevitas; as given to `broadaxe.compile`. Its weights and their scales are changed.
            example_input: of the module's input shape, batch first; one sample is used.
            acc_bits: P of every layer.
            budget: `offset`, where the sum may start at a constant of each channel's own, or `signed`, from zero in two's
                complement. Layers whose sum meets another activation before a quantizer are counted from zero.
            layers: P by module name or pattern, None for a layer without budget; the last match wins.
            learn_scales: whether scales that become parameters ask for gradients.

        Raises:
            RequestError: names the layer that cannot have a budget, and why.
            UnsupportedModelError: the module cannot be compiled.
        """
        chosen = _checked(acc_bits, budget, dict(layers or {}))
        self.module = module
        self._example = example_input
        model = export_brevitas(module, example_input)
        self._layers = _budgeted(module, model, acc_bits, budget, chosen)
        for layer in self._layers:
            layer.require_finite()
        for layer in self._layers:
            layer.free_scale(learn_scales)
        self.project()

    def __repr__(self) -> str:
        return f"AccumulatorBudget({len(self.check())} layers)"

    def project(self) -> None:
        """Shrink the weights of every channel that is over its budget, no further than its integers need; the others stay.

        Raises:
            RequestError: weights or scales are not finite numbers. No layer is changed then.
        """
        import torch

        with torch.no_grad():
            for layer in self._layers:
                layer.require_finite(next_steps=True)
            for layer in self._layers:
                layer.project()

    def __call__(self, *_: object) -> None:
        """`project`, as a hook of the optimizer: `optimizer.register_step_post_hook(budget)`."""
        self.project()

    def check(self) -> dict[str, LayerWidth]:
        """Exact widths by layer, from the integers that the quantizers give now."""
        import torch

        with torch.no_grad():
            for layer in self._layers:
                layer.require_finite()
            return {layer.name: layer.width() for layer in self._layers}

    def export(self) -> onnx.ModelProto:
        """The module as a QONNX model that carries the budget, proven by the compiler.

        Raises:
            ProofError: names a layer that is over its budget.
        """
        from broadaxe.lower import lower
        from broadaxe.passes import run_passes
        from broadaxe.passes.divide_rows import divide_rows
        from broadaxe.prove.accumulators import accumulators
        from broadaxe.quantization.network import promises

        for layer, now in zip(self._layers, self.check().values(), strict=True):
            if not now.holds:
                raise ProofError(
                    f"{layer.where}: {now.broken} of {now.channels} channels are over the budget, width {now.width} for"
                    f" {now.acc_bits} bits; call project() after every step of the optimizer"
                )
        model = export_brevitas(self.module, self._example)
        proven = {a.origin: a for a in accumulators(run_passes(lower(model).graph, (divide_rows,)))}
        nodes = {str(node.name): node for node in model.graph.node}
        for layer in self._layers:
            budget, found = layer.budgets[0][1], proven.get(layer.where)
            width = 0 if found is None else found.offset_bits if budget.kind == "offset" else found.exact_bits
            if width > budget.bits:
                raise ProofError(
                    f"{layer.where}: needs {width} accumulator bits, {budget.bits} were asked; its input quantizer changed,"
                    " make a new AccumulatorBudget"
                )
            for key, value in promises(budget).items():
                entry = nodes[layer.node].metadata_props.add()
                entry.key, entry.value = key, value
        lower(model)
        return model


def _checked(acc_bits: int | None, budget: str, layers: dict[str, int | None]) -> dict[str, int | None]:
    if budget not in ("offset", "signed"):
        raise RequestError(f"AccumulatorBudget: budget is {budget!r}; use offset or signed")
    for where, bits in {"acc_bits": acc_bits, **{f"layers: {name}": b for name, b in layers.items()}}.items():
        if bits is not None and (type(bits) is not int or not 1 <= bits <= WIDEST_BUDGET):
            raise RequestError(f"AccumulatorBudget: {where}: {bits!r}; give bits from 1 to {WIDEST_BUDGET}")
    return layers


@dataclass(eq=False)
class _Budgeted:
    """A layer of the module under a budget.

    Attributes:
        name: of the module's layer; `node` and `where` of the exported model's.
        order: where each weight stands in the flattened tensor, shape (rows, inputs).
        budgets: rows, and what holds for them.
    """

    name: str
    node: str
    where: str
    layer: Any
    order: Tensor
    budgets: list[tuple[Tensor, Budget]]

    def quantized(self) -> tuple[Tensor, Tensor, Rounding]:
        """Values and scales that the quantizer gives now, shapes (rows, inputs) and (rows, 1), and how it rounds."""
        from broadaxe.quantization.projection import Rounding

        quantizer = self.layer.weight_quant.tensor_quant
        values, scale, _, bits = quantizer(self.layer.weight)
        inner = quantizer.int_quant
        rounding = Rounding(int(inner.min_int(bits)), int(inner.max_int(bits)), _toward_zero(inner))
        rows = len(self.order)
        return self.matrix(values), scale.reshape(-1, 1).expand(rows, 1), rounding

    def matrix(self, tensor: Tensor) -> Tensor:
        return tensor.reshape(-1)[self.order.to(tensor.device)]

    def require_finite(self, *, next_steps: bool = False) -> None:
        """Refuse weights or scales that no integers come out of; `next_steps` looks at learned steps as they will be."""
        step, weight = _learned(self.layer), self.layer.weight
        scale = step.next() if step is not None and next_steps else self.layer.weight_quant.tensor_quant(weight)[1]
        wrong = {"weights are not finite numbers": ~weight.isfinite()}
        wrong["weight scales are not positive numbers"] = ~(scale.isfinite() & (scale > 0))
        for what, bad in wrong.items():
            if bool(bad.any()):
                raise RequestError(
                    f"{self.where}: {what}, {int(bad.sum())} of {bad.numel()}; load weights from before that step, and lower"
                    " the learning rate"
                )

    def project(self) -> None:
        step = _learned(self.layer)
        if step is not None:
            step.settle()
        _, steps, rounding = self.quantized()
        weights = self.matrix(self.layer.weight)
        moved = self._projected(weights, steps, rounding)
        if moved is not weights:
            flat = self.layer.weight.detach().reshape(-1).clone()
            flat[self.order.to(flat.device)] = moved
            self.layer.weight.copy_(flat.reshape(self.layer.weight.shape))

    def _projected(self, weights: Tensor, steps: Tensor, rounding: Rounding) -> Tensor:
        from broadaxe.quantization.projection import projected

        out = weights
        for rows, budget in self.budgets:
            if len(self.budgets) == 1:
                return projected(weights, steps, rounding, budget)
            if out is weights:
                out = weights.clone()
            out[rows] = projected(weights[rows], steps[rows], rounding, budget)
        return out

    def width(self) -> LayerWidth:
        import torch

        values, steps, _ = self.quantized()
        codes = (values / steps).round().to(torch.int64).cpu()
        widths = torch.cat([budget.width(codes[rows]) for rows, budget in self.budgets])
        bits = self.budgets[0][1].bits
        return LayerWidth(bits, int(widths.max()), int((widths > bits).sum()), len(codes))

    def free_scale(self, learned: bool) -> None:
        """Put a learned step in the place of a scale that depends on the weights."""
        import torch

        from broadaxe.quantization.learned_step import LearnedStep

        if not self._scale_moves():
            return
        with torch.no_grad():
            quantizer = self.layer.weight_quant
            scale = quantizer.tensor_quant(self.layer.weight)[1]
            powers = any(type(m).__name__ == "PowerOfTwoRestrictValue" for m in quantizer.tensor_quant.modules())
            found = self._best_steps(per_channel=scale.numel() > 1, powers=powers)
            step = LearnedStep(
                found[: scale.numel()].reshape(scale.shape).to(scale), power_of_two=powers, learned=learned
            )
            # in the injector, so that loading a state_dict, which builds the quantizer anew, keeps it
            quantizer.quant_injector = quantizer.quant_injector.let(scaling_impl=step.to(scale.device))
            training = quantizer.training
            quantizer.init_tensor_quant()
            quantizer.train(training)

    def _scale_moves(self) -> bool:
        import torch

        weight, quantizer = self.layer.weight, self.layer.weight_quant.tensor_quant
        kept = weight.detach().clone()
        with torch.no_grad():
            before = quantizer(weight)[1].clone()
            try:
                weight.mul_(2).add_(1)
                return not torch.equal(before, quantizer(weight)[1])
            finally:
                weight.copy_(kept)

    def _best_steps(self, *, per_channel: bool, powers: bool) -> Tensor:
        """The multiple of max-abs steps at which the projected weights lose least; shape (rows,)."""
        import torch

        _, _, rounding = self.quantized()
        weights = self.matrix(self.layer.weight.detach())
        largest = weights.abs().amax(1) / max(rounding.high, -rounding.low)
        used = largest > 0
        usual = largest[used].mean() if bool(used.any()) else torch.ones_like(largest[0])
        top = torch.where(used, largest, usual).clamp(min=2.0**-100)
        if not per_channel:
            top = top.max().expand_as(top)
        best, least = top, torch.full_like(top, torch.inf)
        for multiple in Recipe().multiples:
            steps = top * multiple
            if powers:
                steps = steps.log2().round().exp2()
            shrunk = self._projected(weights, steps[:, None], rounding)
            error = ((rounding.codes(shrunk, steps[:, None]) * steps[:, None] - weights) ** 2).sum(1)
            if not per_channel:
                error = error.sum().expand_as(error)
            best, least = torch.where(error < least, steps, best), torch.minimum(error, least)
        return best


def _learned(layer: Any) -> LearnedStep | None:
    from broadaxe.quantization.learned_step import LearnedStep

    step = layer.weight_quant.tensor_quant.scaling_impl
    return step if isinstance(step, LearnedStep) else None


def _budgeted(
    module: nn.Module, model: onnx.ModelProto, acc_bits: int | None, kind: BudgetKind, layers: dict[str, int | None]
) -> list[_Budgeted]:
    """Layers under a budget, as the exported model shows them."""
    from broadaxe.quantization.layers import LINEAR

    names = {str(n.name): _module_name(module, str(n.name)) for n in model.graph.node if n.op_type in LINEAR}
    for pattern in layers:
        if not any(fnmatchcase(name, pattern) for name in names.values()):
            shown = ", ".join(list(names.values())[:6]) + (", ..." if len(names) > 6 else "")
            raise RequestError(
                f"AccumulatorBudget: layers: {pattern}: no layer has such a name; there are {shown or 'none'}"
            )

    found: list[_Budgeted] = []
    for node, layer, offset in _walked(model):
        name, bits = names[str(node.name)], acc_bits
        for pattern, own in layers.items():
            bits = own if fnmatchcase(name, pattern) else bits
        if bits is None:
            continue
        where = f"{node.name} ({node.op_type})"
        holder = dict(module.named_modules()).get(name)
        exempt = f"or exempt it, layers={{{name!r}: None}}"
        _check_quantizer(where, holder, exempt)
        if layer is None:
            raise RequestError(f"{where}: its input is not quantized; put a QuantIdentity in front of it, {exempt}")
        if any(other.layer.weight is holder.weight for other in found):  # type: ignore[union-attr]
            raise RequestError(
                f"{where}: shares its weights with {found[-1].name}; give it weights of its own, {exempt}"
            )
        budgets = _budgets(layer, bits, "offset" if kind == "offset" and offset else "signed")
        found.append(_Budgeted(name, str(node.name), where, holder, _order(layer, holder), budgets))
    if not found:
        raise RequestError("AccumulatorBudget: no layer has a budget; give acc_bits, or bits by layer")
    return found


def _walked(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, Layer | None, bool]]:
    """Linear nodes, with inputs bounded by their quantizers alone, and whether a start constant has a place."""
    from broadaxe.frontend.batch import symbolic_batch
    from broadaxe.quantization.draft import Draft
    from broadaxe.quantization.layers import LINEAR, absorbs_offset

    model = symbolic_batch(model)
    draft, constants = Draft(model), {t.name for t in model.graph.initializer}
    for node in model.graph.node:
        if all(i in constants for i in node.input if i):
            constants.update(node.output)
        if node.op_type in LINEAR:
            yield node, draft.layer(node, quantized=True), absorbs_offset(model, node, constants)
        draft.keep_for_any_weights(node)


def _budgets(layer: Layer, bits: int, kind: BudgetKind) -> list[tuple[Tensor, Budget]]:
    """One budget for all groups whose inputs have the same bounds; every range gets zero."""
    import torch

    from broadaxe.quantization.budget import Budget

    lo, hi = layer.lo.clamp(max=0), layer.hi.clamp(min=0)
    ranges, group = torch.unique(torch.cat([lo, hi], 1), dim=0, return_inverse=True)
    of_row = group.repeat_interleave(layer.rows // layer.groups)
    return [
        (torch.nonzero(of_row == i)[:, 0], Budget(bits, ends[: layer.inputs], ends[layer.inputs :], kind))
        for i, ends in enumerate(ranges)
    ]


def _order(layer: Layer, holder: Any) -> Tensor:
    """Places in the module's weight, which may be the transpose of the model's."""
    import torch

    shape = tuple(holder.weight.shape)
    places = np.arange(holder.weight.numel()).reshape(shape)
    if layer.output_axis == 1:
        places = places.T
    return torch.from_numpy(places.reshape(-1)[layer.places])


def _module_name(module: nn.Module, node: str) -> str:
    """Of the layer that a node of the exported model stands for; the node's own where there is none."""
    names: dict[str, str] = {
        name: path
        for path, _ in module.named_modules()
        for name in (path, f"conv_{path}", f"gemm_{path}", f"matmul_{path}")
        if path
    }
    return str(names.get(node, node))


def _check_quantizer(where: str, layer: Any, exempt: str) -> None:
    """Refuse weights whose quantizer no projection can work on."""
    if layer is None:
        raise RequestError(
            f"{where}: the module has no layer of this name; a layer that runs twice has no budget, {exempt}"
        )
    quantizer = getattr(getattr(layer, "weight_quant", None), "tensor_quant", None)
    if quantizer is None or not layer.weight_quant.is_quant_enabled:
        raise RequestError(f"{where}: its weights are not quantized; use a layer of brevitas.nn, {exempt}")
    kind = type(quantizer).__name__
    inner: Any = getattr(quantizer, "int_quant", None)
    if "Binary" in kind or (inner is not None and inner.signed and int(quantizer(layer.weight)[3]) == 1):
        raise RequestError(
            f"{where}: its weights are bipolar, every one counts in full; give them 2 bits or more, {exempt}"
        )
    if kind != "RescalingIntQuant" or type(inner).__name__ != "IntQuant":
        raise RequestError(f"{where}: its weights have a {kind}; use a plain integer quantizer, {exempt}")
    _, scale, zero_point, _ = quantizer(layer.weight)
    if bool((zero_point != 0).any()):
        raise RequestError(f"{where}: its weights have a zero point; use a symmetric quantizer, {exempt}")
    if scale.numel() not in (1, len(layer.weight)) or (scale.numel() > 1 and len(scale) != len(layer.weight)):
        raise RequestError(
            f"{where}: its weights have scales of shape {tuple(scale.shape)}; "
            f"use one per tensor or per output channel, {exempt}"
        )
    rounds = type(inner.float_to_int_impl).__name__
    if rounds not in ("RoundSte", "RoundToZeroSte"):
        raise RequestError(f"{where}: its weights are rounded by {rounds}; use ROUND or ROUND_TO_ZERO, {exempt}")


def _toward_zero(int_quant: Any) -> bool:
    return type(int_quant.float_to_int_impl).__name__ == "RoundToZeroSte"
