"""The catalogue of messages: every error of the product with the input that provokes it.

A case is a small function of an empty folder, decorated with the exact message that it provokes:

    @provokes("conv2 (Conv): weights are not quantized; put a Quant on the weight input", UnsupportedModelError)
    def float_weights(tmp: Path) -> None:
        broadaxe.compile(model, tmp / "out")

`{tmp}` in a message stands for the folder, `{...}` for the words of another program, such as a compiler's. A case whose
output is refused names it `out`: nothing may be there afterwards. One module holds the cases of one part of the
product and says in COVERS which files of the package that is; `tests/test_messages.py` runs them and fails where a
file of COVERS builds a message that no case provokes.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from broadaxe.errors import BroadaxeError

OWN = ("page", "running", "sites")  # modules here that hold no cases

Provoking = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One message and what provokes it.

    Attributes:
        module: the last name of the module that it stands in.
        name: of the case.
        message: the whole text, with its placeholders.
        error: the class, exactly.
        provoke: raises the error, given an empty folder.
    """

    module: str
    name: str
    message: str
    error: type[BroadaxeError]
    provoke: Provoking

    def says(self, text: str, tmp: Path) -> bool:
        """Whether a text is the case's message, provoked in the folder `tmp`."""
        parts = self.message.replace("{tmp}", str(tmp)).split("{...}")
        return re.fullmatch(".+".join(map(re.escape, parts)), text) is not None


_cases: dict[str, list[Case]] = {}


def provokes(message: str, error: type[BroadaxeError], name: str | None = None) -> Callable[[Provoking], Provoking]:
    """Enter a function as the case of a message; `name` is for functions that have none of their own."""

    def enter(provoke: Provoking) -> Provoking:
        module = provoke.__module__.rpartition(".")[2]
        entered = Case(module, name or provoke.__name__, message, error, provoke)
        _cases.setdefault(module, []).append(entered)
        return provoke

    return enter


def modules() -> dict[str, ModuleType]:
    """The modules of cases by their last name."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in (*OWN, "__main__"))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


def cases(module: str) -> list[Case]:
    """The cases of one module, in the order of its text."""
    modules()
    return _cases.get(module, [])
