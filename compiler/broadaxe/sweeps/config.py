"""Settings of a sweep, as given in Python, on the command line or in a YAML file, and the runs that they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from broadaxe.configuration.complaints import Complaint, SettingsError
from broadaxe.configuration.settings import Origin, Settings, brief, checked
from broadaxe.quantization.config import (
    DEFAULT_WEIGHT_BITS,
    FLOAT_MODEL,
    WIDEST_BUDGET,
    QuantConfig,
    quant_config,
)

Name = Literal["axe", "axe-search", "best", "project", "project-search", "optq", "gpfq", "rtn"]
WITHOUT_BUDGET: dict[str, dict[str, Any]] = {
    "optq": {"preset": "axe"},
    "gpfq": {"preset": "axe", "method": "gpfq"},
    "rtn": {"preset": "rtn"},
}
"""Methods that know of no budget: they stand at the width that the compiler proves for their widest accumulator."""
OF_THE_GRID = ("preset", "method", "weight_bits", "act_bits", "acc_bits")
DEFAULT_ACT_BITS = 8
_RANGE = re.compile(r"(-?\d{1,18}):(-?\d{1,18})(?::(\d{1,18}))?")
SHAPES = "give a range such as 8:20 or 8:20:2 (both ends are in it), or a list such as 8,10,12"


def numbers(value: Any) -> tuple[int, ...]:
    """`8:20`, `8:20:2`, `8,10,12`, an int, or ints one by one: rising, each once.

    Raises:
        ValueError: it is none of these; says what is allowed.
    """
    if isinstance(value, bool | float | dict):
        raise ValueError(f"{brief(value)} is no whole number and no range; {SHAPES}")
    found: set[int] = set()
    items = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else list(value)
    for item in items:
        if isinstance(item, int) and not isinstance(item, bool):
            found.add(item)
            continue
        text = item.strip() if isinstance(item, str) else brief(item)
        match = _RANGE.fullmatch(text)
        if match:
            first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
            if not step or last < first:
                raise ValueError(f"{text} holds no number; {SHAPES}")
            if (last - first) // step >= 1000:
                raise ValueError(f"{text} holds more than 1000 numbers; {SHAPES}")
            found.update(range(first, last + 1, step))
        elif isinstance(item, str) and re.fullmatch(r"-?\d{1,18}", text):
            found.add(int(text))
        else:
            raise ValueError(f"{brief(item) if text else 'nothing'} is no whole number and no range; {SHAPES}")
    if not found:
        raise ValueError(f"holds no number; {SHAPES}")
    return tuple(sorted(found))


def _numbers(value: Any) -> Any:
    try:
        return value if value is None else numbers(value)
    except TypeError:
        raise ValueError(f"{brief(value)} is no number and no range; {SHAPES}") from None


def _names(value: Any) -> Any:
    if not isinstance(value, str | list | tuple):
        raise ValueError(f"{brief(value)} is no list of methods; give names such as [best, axe] or best,axe")
    items = value.split(",") if isinstance(value, str) else value
    stripped = [i.strip() if isinstance(i, str) else i for i in items]
    return tuple(item for at, item in enumerate(stripped) if item not in stripped[:at])


Grid = BeforeValidator(_numbers)


@dataclass(frozen=True)
class Run:
    """One quantization. `m` and `n` are None where the model's own quantizers decide, `p` where there is no budget."""

    method: str
    m: int | None
    n: int | None
    p: int | None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The first four columns of its row."""
        m, n, p = ("" if bits is None else str(bits) for bits in (self.m, self.n, self.p))
        return self.method, m, n, p

    def __str__(self) -> str:
        bits = "".join(f"{c}{b}" for c, b in (("W", self.m), ("A", self.n)) if b is not None)
        return " ".join(part for part in (self.method, bits, f"P={self.p}" if self.p is not None else "") if part)


def _grid(least: int, most: int) -> str:
    return f"whole numbers from {least} to {most}: one, a range such as 8:16 or 8:16:2, or a list such as 8,10,12"


class SweepConfig(Settings):
    """What `broadaxe sweep` can be told, beside model and data.

    Every combination is run unless `apart` or `headroom` leave it out; neither does by default.
    """

    sections = (
        ("The grid", ("acc_bits", "weight_bits", "act_bits", "methods")),
        ("What is left out of it", ("apart", "headroom")),
        ("Every run", ("quantize",)),
    )

    acc_bits: Annotated[
        tuple[Annotated[int, Field(ge=1, le=WIDEST_BUDGET)], ...],
        Grid,
        Field(
            description="accumulator widths P; needed by every method but optq, gpfq and rtn",
            examples=["8:20"],
            json_schema_extra={"unit": "bits", "takes": _grid(1, WIDEST_BUDGET), "asked": True},
        ),
    ] = ()
    weight_bits: Annotated[
        tuple[Annotated[int, Field(ge=1, le=16)], ...] | None,
        Grid,
        Field(
            description=f"widths M of weights; default: the model's own, else {DEFAULT_WEIGHT_BITS}",
            examples=["2:8"],
            json_schema_extra={"unit": "bits", "takes": _grid(1, 16)},
        ),
    ] = None
    act_bits: Annotated[
        tuple[Annotated[int, Field(ge=2, le=16)], ...] | None,
        Grid,
        Field(
            description=f"widths N of activations and inputs; default: {DEFAULT_ACT_BITS}",
            examples=["2:8"],
            json_schema_extra={"unit": "bits", "takes": _grid(2, 16), **FLOAT_MODEL},
        ),
    ] = None
    methods: Annotated[
        tuple[Name, ...],
        BeforeValidator(_names),
        Field(min_length=1, description="presets under the budget; optq, gpfq and rtn without one"),
    ] = ("axe-search", "best")
    apart: Annotated[
        int | None,
        Field(
            ge=0,
            description="only pairs with |M - N| at most this; default: all",
            examples=[2],
            json_schema_extra={"unit": "bits"},
        ),
    ] = None
    headroom: Annotated[
        tuple[int, ...] | None,
        Grid,
        Field(
            description="only where P - M - N is one of these; default: everywhere",
            examples=["2:4"],
            json_schema_extra={"unit": "bits", "takes": "a range such as 2:4, or a list such as 2,4"},
        ),
    ] = None
    quantize: Annotated[
        dict[str, Any],
        Field(
            description="settings of every run, as `broadaxe config new quantize` shows them, but for those that the grid"
            " varies",
            examples=[{"scales": "pow2", "held_out": 0.2}],
            json_schema_extra={"takes": f"settings of quantize but {', '.join(OF_THE_GRID)}"},
        ),
    ] = {}

    def contradictions(self, named: Callable[[str], str]) -> list[Complaint]:
        """See `Settings`."""
        out = [
            Complaint(("quantize", name), "is what a sweep varies; leave it out")
            for name in OF_THE_GRID
            if name in self.quantize
        ]
        try:
            checked(QuantConfig, self.quantize, Origin(alone=True))
        except SettingsError as error:
            out += [Complaint(("quantize", *c.path), c.text) for c in error.complaints if c.path[0] not in OF_THE_GRID]
        budgeted = [name for name in self.methods if name not in WITHOUT_BUDGET]
        if budgeted and not self.acc_bits:
            out.append(Complaint(("acc_bits",), f"is missing, {budgeted[0]} needs a budget; {SHAPES}"))
        return out

    def runs(self, *, floats: bool) -> tuple[Run, ...]:
        """Every run, those of one (M, N) in a row; a method without a budget has one for each (M, N).

        Args:
            floats: the model has no quantizers of its own.
        """
        return tuple(dict.fromkeys(self._every(floats)))

    def _every(self, floats: bool) -> Iterator[Run]:
        every_m: tuple[int | None, ...] = self.weight_bits or ((DEFAULT_WEIGHT_BITS,) if floats else (None,))
        every_n: tuple[int | None, ...] = (self.act_bits or (DEFAULT_ACT_BITS,)) if floats else (None,)
        for m in every_m:
            for n in every_n:
                if self.apart is not None and m is not None and n is not None and abs(m - n) > self.apart:
                    continue
                budgets = [p for p in self.acc_bits if self._fits(m, n, p)]
                free = bool(budgets) or not self.acc_bits
                for method in self.methods:
                    if method not in WITHOUT_BUDGET:
                        yield from (Run(method, m, n, p) for p in budgets)
                    elif free:
                        yield Run(method, m, n, None)

    def _fits(self, m: int | None, n: int | None, p: int) -> bool:
        return self.headroom is None or m is None or n is None or p - m - n in self.headroom

    def of(self, run: Run) -> QuantConfig:
        """Settings of one run."""
        common = dict(self.quantize)
        if run.n is not None:
            common = {"input_bits": run.n} | common | {"act_bits": run.n}
        if run.p is None:
            for name in ("tile", "budget"):
                common.pop(name, None)
            layers = common.get("layers") or {}
            common["layers"] = {
                pattern: {k: v for k, v in layer.items() if k not in ("acc_bits", "tile")}
                for pattern, layer in layers.items()
                if isinstance(layer, dict)
            }
        how = WITHOUT_BUDGET.get(run.method, {"preset": run.method})
        return quant_config("quantize", **common, **how, weight_bits=run.m, acc_bits=run.p)


def sweep_config(where: str = "settings", **values: Any) -> SweepConfig:
    """Validated settings; SettingsError names every field that is wrong."""
    return checked(SweepConfig, values, Origin(where))
