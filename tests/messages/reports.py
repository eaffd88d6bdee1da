"""Reports: the one of a build, its page, a sweep beside it, explanations of layers, two builds side by side."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from unittest import mock

import numpy as np
from small_builds import compiled, copied, layer

import broadaxe
from broadaxe import alone
from broadaxe.auditing.reach import Reading
from broadaxe.errors import RequestError, VerificationError
from broadaxe.reports import witness as witnesses
from broadaxe.reports.compare import compare
from broadaxe.reports.explain import explain
from broadaxe.reports.html import write_html
from broadaxe.reports.pareto import read_sweep
from broadaxe.reports.reading import read_report
from broadaxe.reports.schema import End
from broadaxe.types import Interval

from . import provokes
from .running import command

COVERS = ("alone.py", "reports/")


@provokes(
    "{tmp}/build/report.json: is missing, damaged or of another version of Broadaxe; compile again",
    RequestError,
)
def report_of_another_version(tmp: Path) -> None:
    place = copied(tmp)
    (place / "report.json").write_text("{}")
    manifest = json.loads((place / "build.json").read_text())
    manifest["files"]["report.json"] = sha256(b"{}").hexdigest()
    (place / "build.json").write_text(json.dumps(manifest))
    read_report(place)


@provokes("layer matmul9: net_top has no multiply-accumulate layer of that name; did you mean matmul0?", RequestError)
def layer_misspelt(tmp: Path) -> None:
    read_report(compiled().path).layer("matmul9")


@provokes(
    "layer conv1: net_top has no multiply-accumulate layer of that name; `broadaxe report` lists those that there are",
    RequestError,
)
def layer_of_another_model(tmp: Path) -> None:
    read_report(compiled().path).layer("conv1")


# The page


@provokes("{tmp}/index.html: exists and is no report of Broadaxe; choose another file", RequestError)
def page_on_another_file(tmp: Path) -> None:
    (tmp / "index.html").write_text("<p>mine</p>")
    command("report", copied(tmp), "--html", tmp / "index.html")


@provokes("{tmp}/build/report.json: is not what certificate.json proves; compile again", VerificationError)
def page_of_figures_that_nobody_proved(tmp: Path) -> None:
    build = copied(tmp)
    report = read_report(build)
    narrower = report.layers[0].model_copy(update={"width": report.layers[0].width - 1})
    write_html(build, tmp / "report.html", report.model_copy(update={"layers": (narrower,)}))


@provokes("{tmp}/pages: is no folder; make it, or choose another file", RequestError)
def page_into_no_folder(tmp: Path) -> None:
    command("report", copied(tmp), "--html", tmp / "pages" / "report.html")


@provokes("{tmp}/report.html: cannot be written (Permission denied); choose another file", RequestError)
def page_that_may_not_be_written(tmp: Path) -> None:
    build = copied(tmp)
    with mock.patch.object(Path, "write_bytes", side_effect=PermissionError(13, "Permission denied")):
        write_html(build, tmp / "report.html", read_report(build))


@provokes(
    "{tmp}/build: certificate.json: digest: the text was changed after it was written; compile again",
    VerificationError,
)
def page_of_a_build_that_was_changed(tmp: Path) -> None:
    build = copied(tmp)
    report = read_report(build)
    certificate = build / "certificate.json"
    certificate.write_text(certificate.read_text().replace('"broadaxe', '"otheraxe', 1))
    write_html(build, tmp / "report.html", report)


@provokes("{tmp}/sweep.json: is missing or no sweep; give the folder that broadaxe sweep has written", RequestError)
def sweep_of_something_else(tmp: Path) -> None:
    (tmp / "sweep.json").write_text("{}")
    read_sweep(tmp)


# Explanations


@provokes("layer matmul: net_top has no multiply-accumulate layer of that name; did you mean matmul0?", RequestError)
def explanation_of_a_name_misspelt(tmp: Path) -> None:
    explain(compiled(), "matmul")


@provokes("layer conv7: net_top has no multiply-accumulate layer of that name; layers are matmul0", RequestError)
def explanation_of_a_layer_of_another_model(tmp: Path) -> None:
    explain(compiled(), "conv7")


@provokes("layer quant0: is a requantize, which has no accumulator; layers are matmul0", RequestError)
def explanation_of_a_requantizer(tmp: Path) -> None:
    explain(compiled(), "quant0")


@provokes("layer quant0: net_top has no multiply-accumulate layer; there is nothing to explain", RequestError)
def explanation_where_no_layer_adds_up(tmp: Path) -> None:
    explain(compiled("requantizer"), "quant0")


@provokes("matmul0: has no channel 3; its channels are 0 to 2", RequestError)
def explanation_of_channel_4_of_3(tmp: Path) -> None:
    explain(compiled(), "matmul0", 3)


@provokes("matmul0: has no channel True; its channels are 0 to 2", RequestError)
def explanation_of_a_channel_that_is_no_number(tmp: Path) -> None:
    explain(compiled(), "matmul0", True)


@provokes("layer 5: net_top has no multiply-accumulate layer of that name; layers are matmul0", RequestError)
def explanation_of_a_layer_that_is_no_text(tmp: Path) -> None:
    explain(compiled(), 5)  # type: ignore[arg-type]


@provokes("matmul0: its witnesses give 0 and 0, not -144 and 141; report it", VerificationError)
def witness_that_does_not_attain_its_end(tmp: Path) -> None:
    with mock.patch.object(witnesses, "_end", return_value=End(sum=0, operands=((), ()))):
        explain(compiled(), "matmul0", 0)


@provokes("matmul0: inputs of the network give -144 and 141, not 0 and 0; report it", VerificationError)
def inputs_that_do_not_attain_their_end(tmp: Path) -> None:
    with mock.patch.object(Reading, "bounds", return_value=(Interval(0, 0),) * 3):
        explain(compiled(), "matmul0", 0)


@provokes(
    "matmul0: does not run alone, stream s_x0: read while empty, its producer wrote too few words; compile again, and"
    " report it if it fails again",
    VerificationError,
)
def layer_that_does_not_run_alone(tmp: Path) -> None:
    failed = (1, "stream s_x0: read while empty; its producer wrote too few words\n")
    with (
        mock.patch.object(alone, "compile_sources"),
        mock.patch.object(alone, "run_program", return_value=failed),
    ):
        explain(broadaxe.load(copied(tmp)), "matmul0", 0, run=True)


@provokes(
    "{tmp}/build/sim/alone-{...}: cannot be written (Permission denied); copy the build to a folder of yours",
    RequestError,
)
def build_that_may_not_be_written(tmp: Path) -> None:
    build = broadaxe.load(copied(tmp))
    with mock.patch.object(Path, "mkdir", side_effect=PermissionError(13, "Permission denied")):
        explain(build, "matmul0", 0, run=True)


@provokes("labels: say nothing without data; give both", RequestError)
def comparison_of_labels_alone(tmp: Path) -> None:
    compare(compiled(), compiled(), labels=np.zeros(3, dtype=np.int64))


@provokes("{tmp}/x.npz: labels go from 0 to 3, A has 3 outputs; give classes 0 to 2", RequestError)
def comparison_on_labels_that_are_no_classes(tmp: Path) -> None:
    np.savez(tmp / "x.npz", x=np.zeros((4, 4), dtype=np.float32), labels=np.arange(4))
    compare(compiled(), compiled(), tmp / "x.npz")


@provokes("{tmp}/xy.npz: gives A 3 samples and B 2; give both the same", RequestError)
def comparison_on_other_counts_of_samples(tmp: Path) -> None:
    model = layer()
    model.graph.input[0].name = "y"
    for node in model.graph.node:
        node.input[:] = ["y" if name == "x" else name for name in node.input]
    broadaxe.compile(model, tmp / "other")
    rows = np.zeros((3, 4), dtype=np.float32)
    np.savez(tmp / "xy.npz", x=rows, y=rows[:2])
    compare(compiled(), tmp / "other", tmp / "xy.npz")
