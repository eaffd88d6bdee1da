"""Choosing bits on validation rows: what loses least under a budget, or what costs least within a drop.

Both go from bits that all layers share to bits by layer, one quantization a step, each judged on the rows:

    search     M and N climb to the best neighbour; then each layer tries one more and one less of either
    max drop   M, N and P fall as long as the score holds, the cheapest step first; then layer by layer, dearest first;
               then a layer gets a bit more where that lets a dearer one have less

Trials leave out the slowest steps of the solver, the setting that is chosen is solved in full.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import onnx

from broadaxe.errors import BudgetError, RequestError
from broadaxe.evaluation import Judge
from broadaxe.frontend.insert_quantizers import layer_ends
from broadaxe.quantization.config import LayerSettings, QuantConfig
from broadaxe.quantization.layers import LINEAR
from broadaxe.quantization.recipe import Recipe
from broadaxe.quantization.record import ChoiceRecord, QuantizationRecord, TrialRecord, act_bits

Progress = Callable[[str], None]
Result = tuple[onnx.ModelProto, QuantizationRecord]
Pins = Mapping[str, Mapping[str, int]]
FEWEST, MOST = 2, 8
"""Bits of weights and activations that are tried."""
USUAL_ROOM = 4
"""Bits that an accumulator has beyond M + N where a network loses least, about; the climb starts there."""


@dataclass(frozen=True)
class Bits:
    """M, N and P of a layer; N is None where the model has quantizers of its own, P where there is no budget."""

    weights: int
    acts: int | None
    acc: int | None

    def text(self) -> str:
        acts = "" if self.acts is None else f"A{self.acts}"
        return f"W{self.weights}{acts}" + ("" if self.acc is None else f" P={self.acc}")


@dataclass(frozen=True)
class Setting:
    """Bits of all layers, and those of layers that have others."""

    base: Bits
    own: Mapping[str, Bits] = field(default_factory=dict)

    def of(self, name: str) -> Bits:
        return self.own.get(name, self.base)

    def but(self, name: str, bits: Bits) -> Setting:
        return Setting(self.base, {**self.own, name: bits})


@dataclass(frozen=True, eq=False)
class Trial:
    """One quantization, or why there is none."""

    what: str
    setting: Setting
    result: Result | None
    score: float = 0.0
    refused: str | None = None

    @property
    def record(self) -> QuantizationRecord:
        assert self.result is not None
        return self.result[1]

    @property
    def error(self) -> float:
        return self.record.output_error or 0.0

    @property
    def cost(self) -> float:
        return self.record.cost

    def better(self, other: Trial) -> bool:
        """Scores more, or as much with outputs that are closer."""
        return self.result is not None and (
            other.result is None or (self.score, -self.error) > (other.score, -other.error)
        )


class Quick(QuantConfig):
    """Settings whose layers are solved without the slowest steps."""

    def recipe(self) -> Recipe:
        return replace(super().recipe(), relax=(), swaps=0)


class Trials:
    """Quantizations tried so far; each setting is run once.

    Args:
        quantize: a configuration to its result.
        config: what all have in common.
        pins: fields of `LayerSettings` that the user has set, by layer; they stay as they are.
        judge: scores networks on validation rows.
        said: called with what is being done.
    """

    def __init__(
        self, quantize: Callable[[QuantConfig], Result], config: QuantConfig, pins: Pins, judge: Judge, said: Progress
    ) -> None:
        self.quantize, self.config, self.pins, self.judge, self.said = quantize, config, pins, judge, said
        self.most = config.search_runs
        self.seen: dict[tuple[Any, ...], Trial] = {}

    def actual(self, name: str, bits: Bits) -> Bits:
        """What a layer gets where it is asked to have these."""
        pinned = self.pins.get(name, {})
        acts = None if bits.acts is None else pinned.get("act_bits", bits.acts)
        return Bits(pinned.get("weight_bits", bits.weights), acts, pinned.get("acc_bits", bits.acc))

    def ways(self, setting: Setting, name: str, moves: Callable[[Bits], Iterator[Bits]]) -> Iterator[Setting]:
        """Settings that differ in one layer's bits, and not in fields that are pinned."""
        now = setting.of(name)
        for bits in moves(now):
            if self.actual(name, bits) != self.actual(name, now):
                yield setting.but(name, bits)

    def _key(self, setting: Setting) -> tuple[Any, ...]:
        own = {n: self.actual(n, b) for n, b in setting.own.items()}
        return (setting.base, *sorted((n, b) for n, b in own.items() if b != self.actual(n, setting.base)))

    @property
    def left(self) -> int:
        return self.most - len(self.seen)

    def run(self, what: str, setting: Setting) -> Trial:
        """Quantize and score; a setting that no weights fit is a trial without a result."""
        key = self._key(setting)
        if key not in self.seen:
            if self.left <= 0:
                return Trial(what, setting, None, refused="no runs left")
            best = max((t.score for t in self.seen.values() if t.result), default=None)
            shown = "" if best is None else f", best so far {best:.2f} %"
            self.said(f"run {len(self.seen) + 1} of at most {self.most}: {what}{shown}")
            try:
                result = self.quantize(Quick(**self.settings(setting)))
                self.seen[key] = Trial(what, setting, result, self.judge(result[0]))
            except RequestError as error:
                if not isinstance(error.__cause__, BudgetError):
                    raise
                self.seen[key] = Trial(what, setting, None, refused=str(error))
        return self.seen[key]

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Of a configuration with these bits; what the user set by layer stays."""
        layers: dict[str, LayerSettings] = {}
        for name, bits in setting.own.items():
            if bits != setting.base:
                given = {"weight_bits": bits.weights, "act_bits": bits.acts, "acc_bits": bits.acc}
                free = {k: v for k, v in given.items() if k not in self.pins.get(name, {})}
                layers[glob.escape(name)] = LayerSettings(**free)
        for pattern, own in self.config.layers.items():
            under = layers.pop(pattern, LayerSettings()).model_dump()
            layers[pattern] = LayerSettings(**under | {k: v for k, v in own.model_dump().items() if v is not None})
        values = {name: getattr(self.config, name) for name in self.config.model_fields_set}
        values |= {"weight_bits": setting.base.weights, "acc_bits": setting.base.acc, "search": False, "max_drop": None}
        if setting.base.acts is not None:
            values["act_bits"] = setting.base.acts
            if "input_bits" not in values:
                values["input_bits"] = setting.base.acts
        return values | {"layers": layers}

    def finish(self, chosen: Trial, goal: str, floor: float | None = None) -> Result:
        """The chosen setting solved in full, with what was tried in its record."""
        self.said("solving the chosen setting in full")
        result = self.quantize(QuantConfig(**self.settings(chosen.setting)))
        score = self.judge(result[0])
        assert chosen.result is not None
        if score < chosen.score:
            result, score = chosen.result, chosen.score
        alike = [t.cost for t in self.seen.values() if t.result and not t.setting.own and t.score >= (floor or 0.0)]
        names = [layer.name for layer in result[1].layers]
        choice = ChoiceRecord(
            goal=goal,
            metric=self.judge.metric,
            float_score=self.judge.float_score,
            score=score,
            cost=result[1].cost,
            best_uniform_cost=None if floor is None else min(alike),
            trials=tuple(self._entry(t, names, t is chosen) for t in self.seen.values()),
        )
        return result[0], result[1].model_copy(update={"choice": choice, "settings": self.config})

    def _entry(self, trial: Trial, names: list[str], chosen: bool) -> TrialRecord:
        bits = {name: self.actual(name, trial.setting.of(name)) for name in names}
        done = trial.result is not None
        return TrialRecord(
            what=trial.what,
            bits={name: (b.weights, b.acts or 0, b.acc) for name, b in bits.items()},
            score=trial.score if done else None,
            error=trial.error if done else None,
            cost=trial.cost if done else None,
            refused=trial.refused,
            chosen=chosen,
        )


def _climbed(trials: Trials, acts: bool) -> Trial:
    """The bits for all layers that lose least under the configuration's budget, as far as neighbours show."""
    acc = trials.config.acc_bits
    assert acc is not None
    weights = min(max((acc - USUAL_ROOM) // 2, FEWEST), MOST)
    first = Bits(weights, min(max(acc - USUAL_ROOM - weights, FEWEST), MOST) if acts else None, acc)
    best = trials.run(first.text(), Setting(first))
    climbing = True
    while climbing:
        found = [trials.run(b.text(), Setting(b)) for b in _around(best.setting.base)]
        ahead = max((t for t in found if t.result), key=lambda t: (t.score, -t.error), default=best)
        climbing = ahead.better(best)
        best = ahead if climbing else best
    return best


def lose_least(trials: Trials, acts: bool) -> Result:
    """Bits that lose least under the configuration's budget."""
    best = _climbed(trials, acts)
    if best.result is None:
        raise RequestError(f"search: no bits from {FEWEST} to {MOST} fit; {best.refused}")
    if _layers(best) > 1:
        for name in sorted(_errors(best), key=_errors(best).__getitem__, reverse=True):
            for setting in trials.ways(best.setting, name, _around):
                tried = trials.run(f"{name}: {setting.of(name).text()}", setting)
                best = tried if tried.better(best) else best
    return trials.finish(best, f"least loss with {trials.config.acc_bits} accumulator bits")


def cost_least(trials: Trials, acts: bool, drop: float) -> Result:
    """The cheapest bits that score at most `drop` percent points less than the float network."""
    floor = trials.judge.float_score - drop

    def holds(trial: Trial) -> bool:
        return trial.result is not None and trial.score >= floor

    given = trials.config.acc_bits
    if given is not None:
        best = _climbed(trials, acts)
    for bits in () if given is not None and holds(best) else (4, 6, 8):
        start = Bits(bits, bits if acts else None, given)
        best = trials.run(start.text(), Setting(start))
        if holds(best):
            break
    if not holds(best):
        scores = [t.score for t in trials.seen.values() if t.result]
        lost = (
            f"the best of {len(scores)} settings loses {trials.judge.float_score - max(scores):.2f}"
            if scores
            else "none fits"
        )
        raise RequestError(
            f"max_drop: {drop:g} percent points are not enough, {lost}; allow more, or give more acc_bits or search_runs"
        )
    if given is None:  # what there is to take from
        widest = max(layer.width for layer in best.record.layers)
        limited = replace(best.setting.base, acc=widest)
        tried = trials.run(limited.text(), Setting(limited))
        best = tried if holds(tried) else best
    best = _fall(trials, best, holds, lambda s: (Setting(b) for b in _less(s.base)))
    if _layers(best) > 1:
        names = _shares(best)

        def by_layer(setting: Setting) -> Iterator[Setting]:
            return (way for name in names for way in trials.ways(setting, name, _less))

        best = _traded(trials, _fall(trials, best, holds, by_layer, patient=False), holds)
    return trials.finish(best, f"least cost with at most {drop:g} percent points less than the float network", floor)


def _fall(
    trials: Trials,
    best: Trial,
    holds: Callable[[Trial], bool],
    ways: Callable[[Setting], Iterator[Setting]],
    *,
    patient: bool = True,
) -> Trial:
    """Go to cheaper settings as long as one holds: the cheapest of all ways, or without patience the first."""
    while True:
        found: list[Trial] = []
        for setting in ways(best.setting):
            tried = trials.run(_difference(best.setting, setting), setting)
            if holds(tried) and tried.cost < best.cost:
                found.append(tried)
                if not patient:
                    break
        if not found:
            return best
        best = min(found, key=lambda t: t.cost)


def _traded(trials: Trials, best: Trial, holds: Callable[[Trial], bool]) -> Trial:
    """Give a bit to a cheap layer and take one from a dearer one, as long as that is cheaper and holds."""
    moved = True
    while moved and trials.left > 0:
        moved = False
        names = list(_shares(best))
        for cheap in reversed(names):
            for dear in names[: names.index(cheap)]:
                for more in list(trials.ways(best.setting, cheap, _more)):
                    for less in list(trials.ways(best.setting, dear, _less)):
                        setting = more.but(dear, less.of(dear))
                        what = f"{cheap}: {setting.of(cheap).text()}, {dear}: {setting.of(dear).text()}"
                        tried = trials.run(what, setting)
                        if holds(tried) and tried.cost < best.cost:
                            best, moved = tried, True
    return best


def _around(bits: Bits) -> Iterator[Bits]:
    for weights, acts in ((1, 0), (0, 1), (1, -1), (-1, 1), (-1, 0), (0, -1)):
        yield from _moved(bits, weights, acts)


def _less(bits: Bits) -> Iterator[Bits]:
    yield from _moved(bits, -1, 0)
    yield from _moved(bits, 0, -1)
    if bits.acc is not None and bits.acc > FEWEST:
        yield replace(bits, acc=bits.acc - 1)


def _more(bits: Bits) -> Iterator[Bits]:
    yield from _moved(bits, 1, 0)
    yield from _moved(bits, 0, 1)


def _moved(bits: Bits, weights: int, acts: int) -> Iterator[Bits]:
    m = bits.weights + weights
    n = None if bits.acts is None else bits.acts + acts
    if (acts and n is None) or not FEWEST <= m <= MOST or (n is not None and not FEWEST <= n <= MOST):
        return
    yield replace(bits, weights=m, acts=n)


def _difference(old: Setting, new: Setting) -> str:
    if old.base != new.base:
        return new.base.text()
    return next(f"{name}: {bits.text()}" for name, bits in new.own.items() if old.of(name) != bits)


def _layers(trial: Trial) -> int:
    return len(trial.record.layers)


def _errors(trial: Trial) -> dict[str, float]:
    return {layer.name: layer.held_out_error or layer.error for layer in trial.record.layers}


def _shares(trial: Trial) -> list[str]:
    """Layers, the dearest first."""
    return [
        layer.name
        for layer in sorted(
            trial.record.layers,
            key=lambda layer: layer.products * (layer.effective_bits + act_bits(layer.input_codes)),
            reverse=True,
        )
    ]


def choose(
    quantize: Callable[[QuantConfig], Result],
    config: QuantConfig,
    judge: Judge,
    *,
    pins: Pins,
    acts: bool,
    said: Progress,
) -> Result:
    """The quantization that the configuration's `search` or `max_drop` asks for.

    Args:
        quantize: a configuration to its result; called once a trial.
        judge: on validation rows.
        pins: see `pinned`.
        acts: whether bits of activations are free: the model is a float one.
    """
    trials = Trials(quantize, config, pins, judge, said)
    if config.max_drop is not None:
        return cost_least(trials, acts, config.max_drop)
    return lose_least(trials, acts)


def pinned(config: QuantConfig, model: onnx.ModelProto, *, is_float: bool) -> dict[str, dict[str, int]]:
    """What the configuration says of single layers, by layer: bits of the input, of first and last weights, and `layers`."""
    names = [str(node.name or node.output[0]) for node in model.graph.node if node.op_type in LINEAR]
    out: dict[str, dict[str, int]] = {name: {} for name in names}
    if is_float:
        heads, first, last = layer_ends(model)
        for some, key, bits in (
            (heads, "act_bits", config.input_bits if "input_bits" in config.model_fields_set else None),
            (first, "weight_bits", config.first_weight_bits),
            (last, "weight_bits", config.last_weight_bits),
        ):
            for name in some.intersection(out):
                out[name] |= {} if bits is None else {key: bits}
    for pattern, own in config.layers.items():
        for name in names:
            if fnmatchcase(name, pattern):
                out[name] |= {k: v for k, v in own.model_dump(exclude={"tile"}).items() if v is not None}
    return out
