"""The record of a quantization as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from broadaxe.printing import plain
from broadaxe.quantization.record import QuantizationRecord, act_bits

if TYPE_CHECKING:
    from broadaxe.quantization.diagnose import Diagnosis

COLUMNS = ("K", "rows", "bits", "codes", "zeros", "asked", "width", "error", "held out")


class RecordTable:
    """A rich renderable of a record."""

    def __init__(self, record: QuantizationRecord) -> None:
        self.record = record

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [
            (
                f"{layer.inputs:,}",
                f"{layer.rows:,}",
                str(layer.weight_bits),
                f"±{layer.largest_code}",
                f"{100 * layer.zeros:.0f}%",
                "-" if layer.acc_bits is None else str(layer.acc_bits),
                str(layer.width) if layer.inner_width is None else f"{layer.inner_width}+{layer.width}",
                f"{layer.error:.1e}",
                "-" if layer.held_out_error is None else f"{layer.held_out_error:.1e}",
            )
            for layer in self.record.layers
        ]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
        table.add_column("layer", no_wrap=True, overflow="ellipsis")
        for name, *column in zip(COLUMNS, *rows, strict=True):
            widest = max(len(text) for text in (name, *column))
            table.add_column(name, justify="right", no_wrap=True, min_width=widest)
        for layer, cells in zip(self.record.layers, rows, strict=True):
            table.add_row(layer.name, *cells)
        kinds = sorted({layer.budget for layer in self.record.layers if layer.budget}) or ["no"]
        yield f"weights solved under {' and '.join(kinds)} accumulator budgets; errors relative to the float output"
        yield table
        for layer in self.record.layers:
            for warning in layer.warnings:
                yield f"warning: {layer.name}: {warning}"
        for warning in self.record.warnings:
            yield f"warning: {warning}"
        scores, choice = self.record.scores, self.record.choice
        if choice is not None:
            yield f"bits chosen for {choice.goal}, {len(choice.trials)} tried: {_by_layer(self.record)}"
            uniform = ""
            if choice.best_uniform_cost is not None:
                uniform = f"; {choice.best_uniform_cost:,.0f} with the same bits in every layer"
            yield f"modelled cost {choice.cost:,.0f} LUTs{uniform}"
        if scores is not None:
            yield (
                f"{scores.metric} on validation rows: {scores.quantized:.2f} %, of the float network"
                f" {scores.float_network:.2f} %"
            )
        if self.record.output_error is not None:
            yield f"output error {self.record.output_error:.2e} on {self.record.held_out_samples} held-out samples"


def _by_layer(record: QuantizationRecord) -> str:
    return ", ".join(
        f"{r.name} W{r.weight_bits}A{act_bits(r.input_codes)} in {r.inner_width or r.width} bits" for r in record.layers
    )


def text(record: QuantizationRecord) -> str:
    """The table as plain text."""
    return plain(RecordTable(record))


class DiagnosisTable:
    """A rich renderable of a diagnosis."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        self.diagnosis = diagnosis

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        d = self.diagnosis
        yield f"{d.metric} on validation rows: {d.score:.2f} %, of the float network {d.float_score:.2f} %"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
        table.add_column("layer", no_wrap=True, overflow="ellipsis")
        kinds = [k for k in ("P", "M", "N") if any(m.of == k for layer in d.layers for m in layer.more)]
        for title in ("bits", "noise", "in float", *(f"{k} + 1" for k in kinds)):
            table.add_column(title, justify="right", no_wrap=True)
        for layer in d.layers:
            more: dict[str, str] = {
                m.of: "refused" if m.score is None else f"{m.score - d.score:+.2f}" for m in layer.more
            }
            acc = "" if layer.acc_bits is None else f" P={layer.acc_bits}"
            table.add_row(
                layer.name,
                f"W{layer.weight_bits}A{layer.act_bits}{acc}",
                "-" if layer.snr is None else f"{layer.snr:.1f} dB",
                f"{layer.restored - d.score:+.2f}",
                *(more.get(k, "-") for k in kinds),
            )
        yield table
        yield "noise: power of the layer's float output over that of the difference; other columns: change in percent points"
        yield "a layer can score less in float: its weights were solved to make up for what the layers before it lose"


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """The table as plain text."""
    return plain(DiagnosisTable(diagnosis))
