"""The report as one page that needs nothing else: no network, no server, no file beside it.

Everything in it is a function of the report, of what the checker said and of a sweep: the same report gives the same bytes.
Names of a model reach the page as text alone: by autoescape in HTML, and in the script's data as JSON whose `<` are escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from markupsafe import Markup

from broadaxe.errors import RequestError, VerificationError
from broadaxe.reports.columns import elements, shown, tables
from broadaxe.reports.drawing import drawings
from broadaxe.reports.pareto import Pareto, read_sweep
from broadaxe.reports.schema import Port, Report
from broadaxe.reports.words import WORDS
from broadaxe.templating import templates
from broadaxe.whole import write_files

MARK = '<meta name="generator" content="Broadaxe">'
"""In the beginning of every page of ours, so that no other file is overwritten."""
BEGINNING = 400
"""Bytes of a page that hold MARK."""


@dataclass(frozen=True)
class Proof:
    """What the independent checker, `broadaxe.prove.checker`, said of the certificate when the page was made."""

    accepted: bool
    says: str


def render_html(report: Report, *, proof: Proof | None, sweep: Pareto | None = None, build: str = "BUILD") -> str:
    """The page.

    Args:
        report: of the build.
        proof: what the checker said; None where it was not asked, which the page says, too.
        sweep: for a plot of accuracy against accumulator bits.
        build: the folder, as it stands in commands to type.
    """
    environment = templates()
    environment.filters["shown"] = shown
    style = environment.get_template("report/style.css").render()
    script = environment.get_template("report/script.js.jinja").render()
    data = {
        "report": report.model_dump(mode="json") | {"inputs": _ports(report.inputs), "outputs": _ports(report.outputs)},
        "proof": proof and asdict(proof),
        "sweep": sweep and sweep.model_dump(mode="json"),
        "drawings": {level: asdict(drawing) for level, drawing in drawings(report).items()},
        "build": quote(build),
    }
    return environment.get_template("report/page.html.jinja").render(
        mark=Markup(MARK),
        report=report,
        tables=tables(report),
        proof=proof,
        sweep=sweep,
        build=quote(build),
        words=WORDS,
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
        data=Markup(_inline(data)),
        elements=elements,
        settings=json.dumps(report.made.settings, indent=1),
    )


def write_html(
    build: Path, path: Path, report: Report, *, sweep: Path | None = None, progress: Callable[[str], None] | None = None
) -> int:
    """Check the certificate of a build folder and write its page; an earlier page there is replaced, and no other file.

    Args:
        build: the folder.
        path: of the page.
        report: of the build.
        sweep: folder of a sweep, which the page then plots.
        progress: called with what is being done.

    Returns:
        Size of the page [bytes].

    Raises:
        RequestError: what is there is no page of ours, it cannot be written, or the sweep is none.
        VerificationError: the certificate does not hold. Nothing is written in either case.
    """
    from broadaxe.prove.checker import CertificateError, check

    said = progress or (lambda _: None)
    _refuse_others(path)
    points = None if sweep is None else read_sweep(sweep, (build / "model.onnx").read_bytes())
    said("checking the certificate")
    try:
        proof = Proof(accepted=True, says=check(build))
    except CertificateError as failure:
        raise VerificationError(f"{build}: {failure}; compile again") from None
    _refuse_uncertified(build, report)
    said("writing the page")
    page = render_html(report, proof=proof, sweep=points, build=str(build)).encode()
    with _writing(path):
        write_files({path: page})
    return len(page)


CERTIFIED = (
    *("name", "mode", "tile", "inner_bits", "exact_bits", "prefix_bits", "offset_bits", "width"),
    *("multiplier", "sums", "start"),
)
"""What report and certificate both say of a layer."""


def _refuse_uncertified(build: Path, report: Report) -> None:
    """What the checker has accepted is what the page shows."""
    layers = json.loads((build / "certificate.json").read_text())["layers"]
    certified = [[layer[key] for key in CERTIFIED] for layer in layers]
    shown = [
        [
            *(getattr(layer, key) for key in CERTIFIED[:-2]),
            [*map(list, zip(layer.lo, layer.hi, strict=True))],
            [*layer.starts],
        ]
        for layer in report.layers
    ]
    if shown != certified:
        raise VerificationError(f"{build / 'report.json'}: is not what certificate.json proves; compile again")


def _refuse_others(path: Path) -> None:
    with _writing(path):
        if path.exists() and not (path.is_file() and MARK.encode() in _beginning(path)):
            raise RequestError(f"{path}: exists and is no report of Broadaxe; choose another file")
        if not path.absolute().parent.is_dir():
            raise RequestError(f"{path.parent}: is no folder; make it, or choose another file")


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BEGINNING)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the file system refuses, as an error of ours."""
    try:
        yield
    except (OSError, ValueError) as error:  # a NUL in the name
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise RequestError(f"{path}: cannot be written ({reason}); choose another file") from None


def _ports(ports: tuple[Port, ...]) -> list[dict[str, Any]]:
    """As in the report, less what has an entry for every element or channel; tables have their spans."""
    return [port.model_dump(mode="json", include={"name", "tensor", "type", "lo", "hi", "shape"}) for port in ports]


def _inline(data: object) -> str:
    """JSON that ends no script element, whatever its strings hold."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    """As a content security policy names what may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
