"""The public API as text: names, signatures, and the attributes of classes with their types, as they are written."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import broadaxe

MODULES = ("broadaxe", *(f"broadaxe.{name}" for name in broadaxe._MODULES))


def public() -> Iterator[tuple[str, str, Any]]:
    """(module, name, thing) of every public function and class, the classes that their attributes lead to behind them."""
    for module in MODULES:
        found = importlib.import_module(module)
        for name in found.__all__:
            if name != "__version__":
                yield module, name, getattr(found, name)


def inner_classes() -> dict[str, type]:
    """Our classes that attributes of public result classes hold, and theirs, by module and name; not those of the compiler."""
    seen: dict[str, type] = {}
    waiting = [thing for _, _, thing in public() if inspect.isclass(thing)]
    known = set(waiting)
    while waiting:
        cls = waiting.pop()
        for written, _ in attributes(cls).values():
            for word in {node.id for node in ast.walk(ast.parse(written, mode="eval")) if isinstance(node, ast.Name)}:
                there = getattr(inspect.getmodule(cls), word, None)
                if inspect.isclass(there) and there not in known and _is_part_of_a_result(there):
                    seen[f"{there.__module__}.{there.__name__}".removeprefix("broadaxe.")] = there
                    known.add(there)
                    waiting.append(there)
    return dict(sorted(seen.items()))


def _is_part_of_a_result(cls: type) -> bool:
    places = (
        "reports.",
        "quantization.",
        "auditing.audit",
        "auditing.execute",
        "verification",
        "segments",
        "sweeps.",
        "config",
    )
    return cls.__module__.startswith(tuple(f"broadaxe.{place}" for place in places))


INTERNAL = {"Build": ("lowered", "folding", "lanes", "decided", "flow", "plan", "host")}
"""Fields that are not public, and a class says so."""


def attributes(cls: type) -> dict[str, tuple[str, str]]:
    """Public fields of a dataclass or pydantic model: their types as written, and their defaults or ""."""
    written: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("broadaxe"):
            written |= {name: str(text) for name, text in vars(base).get("__annotations__", {}).items()}
    found = {}
    if dataclasses.is_dataclass(cls):
        for one in dataclasses.fields(cls):
            if one.name in INTERNAL.get(cls.__name__, ()):
                continue
            default = one.default_factory() if one.default_factory is not dataclasses.MISSING else one.default
            found[one.name] = (bare(written[one.name]), "" if default is dataclasses.MISSING else repr(default))
    elif issubclass(cls, BaseModel):
        for name, info in cls.model_fields.items():
            default = info.get_default(call_default_factory=True)
            found[name] = (bare(written[name]), "" if default is PydanticUndefined else repr(default))
    return found


def bare(written: str) -> str:
    """A type without what Annotated says of it."""

    class Strip(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
            self.generic_visit(node)
            if isinstance(node.value, ast.Name) and node.value.id == "Annotated":
                assert isinstance(node.slice, ast.Tuple)
                return node.slice.elts[0]
            return node

    return ast.unparse(Strip().visit(ast.parse(written, mode="eval")))


SETTINGS = ("CompileSettings", "QuantConfig", "SweepConfig")
"""Of these, fields are public; what reads them is the compiler's."""


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that our classes define."""
    if cls.__name__ in SETTINGS:
        return
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("broadaxe"):
            found |= {n: m for n, m in vars(base).items() if not n.startswith("_") or n in ("__call__", "_repr_html_")}
    found.pop("model_post_init", None)  # pydantic's own
    for name, member in sorted(found.items()):
        if isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member):
            yield name, member


class _Written(str):
    """An annotation, shown as it is written."""

    def __repr__(self) -> str:
        return str(self)


def signature(function: Any) -> str:
    """As written: annotations of our modules are text."""
    made = inspect.signature(function)
    own = [p.replace(annotation=_shown(p.annotation)) for p in made.parameters.values()]
    return str(made.replace(parameters=own, return_annotation=_shown(made.return_annotation)))


def _shown(annotation: Any) -> Any:
    return _Written(annotation) if isinstance(annotation, str) else annotation


def described(cls: type) -> Iterator[str]:
    kind = "exception" if issubclass(cls, BaseException) else "class"
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base.__module__.startswith("broadaxe"))
    yield f"{kind} {cls.__name__}{f'({bases})' if bases and kind == 'exception' else ''}"
    own = attributes(cls)
    for name, (kind, default) in own.items():
        yield f"    {name}: {kind}{f' = {default}' if default else ''}"
    if not own and kind == "class" and "__init__" in vars(cls):
        yield f"    __init__{signature(cls.__init__)}"
    for name, member in members(cls):
        if isinstance(member, property):
            yield f"    {name} -> {str(inspect.signature(member.fget).return_annotation).strip(chr(39))}"
        elif name != "model_config" and name not in own:
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            yield f"    {name}{signature(function)}"


def text() -> str:
    """Everything, a module behind the other; then the classes that results hold."""
    lines, last = [], ""
    for module, name, thing in public():
        if module != last:
            lines += ["", module, "=" * len(module)]
        last = module
        lines += ["", *(described(thing) if inspect.isclass(thing) else [f"def {name}{signature(thing)}"])]
    lines += ["", "held by results", "==============="]
    last = ""
    for name, cls in inner_classes().items():
        if (place := name.rpartition(".")[0]) != last:
            lines += ["", f"of {place}"]
        last = place
        lines += ["", *described(cls)]
    return "\n".join(lines[1:]) + "\n"
