"""`broadaxe.quantize`: any supported model in, a QONNX model with solved weights and its record out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
from onnx import helper

from broadaxe.build import load_model, named
from broadaxe.data import gathered
from broadaxe.errors import MissingToolError, RequestError, elements_of
from broadaxe.frontend.standard import is_quantizer
from broadaxe.ops.importing import Array
from broadaxe.quantization.config import DEFAULT_WEIGHT_BITS, QuantConfig, quant_config
from broadaxe.quantization.record import QuantizationRecord, RowsRecord, ScoreRecord
from broadaxe.whole import write_files

if TYPE_CHECKING:
    from torch import nn

    from broadaxe.evaluation import Data, Rows
    from broadaxe.frontend.insert_quantizers import QuantizerSettings

Progress = Callable[[str], None]
Calibration: TypeAlias = "Array | Mapping[str, Array] | Iterable[Any] | Rows"


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized model.

    Attributes:
        model: QONNX, ready for `broadaxe.compile`, and for FINN, hls4ml and qonnx.
        record: what was asked, chosen and reached, per layer.
    """

    model: onnx.ModelProto
    record: QuantizationRecord

    def __repr__(self) -> str:
        return f"Quantized({len(self.record.layers)} layers, output error {self.record.output_error})"

    def __str__(self) -> str:
        from broadaxe.quantization.table import text

        return text(self.record)

    def _repr_html_(self) -> str:
        from broadaxe.notebook import html
        from broadaxe.quantization.table import RecordTable

        return html(RecordTable(self.record))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, and beside it the record as PATH with `.json` for `.onnx`; both or neither.

        Raises:
            RequestError: the path does not end in .onnx or cannot be written.
        """
        target = check_target(Path(path))
        contents = {
            target: self.model.SerializeToString(),
            target.with_suffix(".json"): (self.record.model_dump_json(indent=1) + "\n").encode(),
        }
        blocked = next((final for final in contents if final.is_dir()), None)
        if blocked is not None:
            raise RequestError(f"{blocked}: is a folder; choose another place")
        try:
            write_files(contents)
        except OSError as error:
            raise RequestError(f"{target}: cannot be written ({error.strerror}); choose another place") from None


def check_target(path: Path) -> Path:
    """The path, if a model can be written there."""
    if path.suffix != ".onnx":
        raise RequestError(f"{path}: models are .onnx files; name the output *.onnx")
    if not path.absolute().parent.is_dir():
        raise RequestError(f"{path}: its folder does not exist; create it first")
    record = path.with_suffix(".json")
    if (path.exists() or record.exists()) and not _is_record(record):
        taken = path if path.exists() else record
        raise RequestError(f"{taken}: exists, and quantize did not write it; choose another name")
    return path


def _is_record(path: Path) -> bool:
    """Whether a file is the record of an earlier quantization."""
    try:
        content = json.loads(path.read_text())
        return isinstance(content, dict) and {"broadaxe", "settings", "layers"} <= set(content)
    except (OSError, ValueError):
        return False


def quantize(
    model: onnx.ModelProto | str | os.PathLike[str] | nn.Module,
    calibration: Calibration,
    config: QuantConfig | None = None,
    *,
    validation: Data | None = None,
    max_samples: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Quantized:
    """Quantize a model's weights so that no accumulator can overflow the bits it is given.

    A model that has quantizers on its activations (QONNX, a Brevitas module) keeps them and gets its weights solved for
    anew. A float model (ONNX, torch module) gets BatchNormalization folded and quantizers inserted first.

    Args:
        model: a file, an ONNX model or a torch module.
        calibration: real inputs, shape (samples, ...), for one input, or arrays by input name; or an iterable of batches,
            such as a torch DataLoader: arrays, tensors, tuples (x, label) or dicts by input name, 4 GiB at most.
        max_samples: read no more samples than this; the first ones count.
        validation: rows to choose bits by: a file, (inputs, labels), a mapping with an array `labels`, or inputs alone, which
            are scored by how close outputs are to the float network's. Needed for `search` and `max_drop`; else scored
            in the record.
        config, options: see `broadaxe.QuantConfig`; options are its fields.
        progress: called with what is being done.

    Example:
        >>> quantized = broadaxe.quantize(model, x_train, acc_bits=12, weight_bits=4, act_bits=4, preset="axe")
        >>> [(layer.acc_bits, layer.width) for layer in quantized.record.layers]
        [(12, 12), (12, 11), (12, 12)]
        >>> quantized.save("small.onnx")

    Returns:
        The QONNX model, ready for `compile`, and the record of every layer.

    Raises:
        RequestError: settings or data are wrong, or a budget fits no weights at all.
        UnsupportedModelError: names the node that cannot be compiled, why, and what would help.
    """
    if config is not None and options:
        raise RequestError(f"quantize: both a config and {', '.join(options)}; give one or the other")
    if config is not None and not isinstance(config, QuantConfig):
        raise RequestError(f"quantize: config is of type {type(config).__name__}; give broadaxe.QuantConfig(...)")
    chosen = config or quant_config(**options)
    said = progress or (lambda _: None)
    file = os.fspath(model) if isinstance(model, str | os.PathLike) else None
    said("reading the model")
    source = Source.of(model, calibration, max_samples)
    rows = None if validation is None else source.rows(validation)
    if rows is None:
        if chosen.search or chosen.max_drop is not None:
            where = chosen.place("search" if chosen.search else "max_drop")
            raise RequestError(f"{where}: there are no validation rows to choose by; give some (--val)")
        result, record = source.quantized(chosen, said)
        return Quantized(result, record.model_copy(update={"model": file, "rows": (source.calibration,)}))
    from broadaxe.evaluation import Judge, Rows, shared_rows
    from broadaxe.quantization.search import choose, pinned

    judge = Judge(rows, source.model)
    if chosen.search or chosen.max_drop is not None:
        pins = pinned(chosen, source.model, is_float=source.is_float)
        result, record = choose(source.quantized, chosen, judge, pins=pins, acts=source.is_float, said=said)
    else:
        result, record = source.quantized(chosen, said)
    notes = shared_rows({"calib": Rows(source.data, source=source.calibration.source), "val": rows})
    judged = RowsRecord(role="validation", source=rows.source, samples=len(rows), sha256=rows.digest)
    scores = ScoreRecord(metric=judge.metric, float_network=judge.float_score, quantized=judge(result))
    more = {
        "model": file,
        "rows": (source.calibration, judged),
        "scores": scores,
        "warnings": (*record.warnings, *notes),
    }
    return Quantized(result, record.model_copy(update=more))


@dataclass(frozen=True, eq=False)
class Source:
    """A model and calibration data, to be quantized any number of times.

    Attributes:
        model: QONNX, or float with BatchNormalization folded.
        data: by input name, shape (samples, ...).
        is_float: whether quantizers are inserted.
        calibration: for the record.
    """

    model: onnx.ModelProto
    data: dict[str, Array]
    is_float: bool
    calibration: RowsRecord

    @classmethod
    def of(cls, model: Any, calibration: Any, max_samples: int | None = None) -> Source:
        """Of what `quantize` takes; `Rows` keep their source."""
        from broadaxe.evaluation import Rows

        where = calibration.source if isinstance(calibration, Rows) else "calibration"
        arrays = calibration.inputs if isinstance(calibration, Rows) else gathered(calibration, max_samples)
        loaded = loaded_model(model, arrays)
        data = checked(loaded, arrays)
        rows = Rows(data, source=where)
        entry = RowsRecord(role="calibration", source=where, samples=len(rows), sha256=rows.digest)
        is_float = not quantizes_activations(loaded)
        if is_float:
            from broadaxe.frontend.fold_batchnorm import fold_batchnorm

            loaded = fold_batchnorm(loaded)
        return cls(loaded, data, is_float, entry)

    def rows(self, validation: Any) -> Rows:
        """Of a file, inputs, or inputs and labels, as `quantize` takes them."""
        from broadaxe.evaluation import rows_from

        return rows_from(validation, self.model, "validation")

    def quantized(
        self, config: QuantConfig, said: Progress = lambda _: None
    ) -> tuple[onnx.ModelProto, QuantizationRecord]:
        """The model with new weights, and the record."""
        try:
            from broadaxe.quantization.network import quantize_model
        except ModuleNotFoundError as error:
            raise MissingToolError(
                f"quantize: {error.name} is not installed; pip install 'broadaxe[brevitas]'"
            ) from None
        if not self.is_float:
            return quantize_model(self.model, self.data, config, progress=said)
        said("choosing activation ranges")
        inserted = with_quantizers(self.model, self.data, config)
        return quantize_model(inserted, self.data, config, own_bits=True, progress=said)


def quantizes_activations(model: onnx.ModelProto) -> bool:
    """Whether a quantizer stands on what an input reaches; quantized weights alone leave a model a float one."""
    constants = {t.name for t in model.graph.initializer}
    live = {i.name for i in model.graph.input} - constants
    for node in model.graph.node:
        if not live.isdisjoint(node.input):
            if is_quantizer(node):
                return True
            live.update(node.output)
    return False


def with_quantizers(model: onnx.ModelProto, data: Mapping[str, Array], config: QuantConfig) -> onnx.ModelProto:
    """A float model with BatchNormalization folded and quantizers on activations and weights; held-out rows choose nothing."""
    from broadaxe.frontend.fold_batchnorm import fold_batchnorm
    from broadaxe.frontend.insert_quantizers import insert_quantizers
    from broadaxe.quantization.network import held_rows

    held = {name: held_rows(len(array), config) for name, array in data.items()}
    seen = {name: array[: len(array) - held[name]] for name, array in data.items()}
    return insert_quantizers(fold_batchnorm(model), seen, quantizer_settings(config))


def loaded_model(model: Any, calibration: Array | Mapping[str, Array]) -> onnx.ModelProto:
    """ONNX or QONNX of a file, a model or a torch module."""
    if not hasattr(model, "state_dict"):
        return load_model(model)[0]
    arrays = list(calibration.values()) if isinstance(calibration, Mapping) else [calibration]
    first = np.asarray(arrays[0])
    if len(arrays) != 1 or first.ndim < 2 or not len(first):
        raise RequestError("calibration: a module takes one array of inputs, shape (samples, ...); give that")
    sample = first[:1].astype(np.float32)
    if any(type(part).__module__.startswith("brevitas.") for part in model.modules()):
        from broadaxe.frontend.brevitas import export_brevitas

        return export_brevitas(model, sample)
    from broadaxe.frontend.torch_float import export_torch

    return export_torch(model, sample)


def checked(
    model: onnx.ModelProto, calibration: Array | Mapping[str, Array], *, what: str = "calibration"
) -> dict[str, Array]:
    """Calibration or other data by input name, of the model's shapes and types; `what` names them in messages."""
    constants = {t.name for t in model.graph.initializer}
    infos = {i.name: i.type.tensor_type for i in model.graph.input if i.name not in constants}
    data = named(calibration, list(infos))
    samples = set()
    for name, info in infos.items():
        if name not in data:
            raise RequestError(
                f"{what}: input {name} is missing; there are {', '.join(sorted(map(str, data))) or 'none'}"
            )
        array = np.asarray(data[name])
        wanted = [d.dim_value or None for d in info.shape.dim][1:]
        shown = ", ".join("any" if n is None else str(n) for n in wanted)
        if array.dtype.kind not in "fiub":
            raise RequestError(f"{what}: input {name} holds {elements_of(array.dtype)}; numbers are needed")
        if array.ndim != len(wanted) + 1 or any(
            n is not None and n != m for n, m in zip(wanted, array.shape[1:], strict=True)
        ):
            raise RequestError(f"{what}: input {name} has shape {array.shape}; give (samples, {shown})")
        if not len(array):
            raise RequestError(f"{what}: input {name} has no samples; give at least one, some hundred are better")
        if not info.elem_type:
            raise RequestError(f"model: input {name} has no type; repair the model")
        kind = helper.tensor_dtype_to_np_dtype(info.elem_type)
        with np.errstate(over="ignore"):
            data[name] = array.astype(kind, copy=False)
        finite = np.isfinite(array) & np.isfinite(data[name])
        if not finite.all():
            bad = int((~finite.reshape(len(array), -1)).any(1).argmax())
            raise RequestError(f"{what}: input {name} is not finite in sample {bad} as {kind}; clean the data")
        if np.dtype(kind).kind in "iub" and (array != data[name]).any():
            raise RequestError(f"{what}: input {name} holds values that are no {kind}; give the model's own codes")
        samples.add(len(array))
    if len(samples) > 1:
        raise RequestError(f"{what}: inputs have {sorted(samples)} samples; give the same number for each")
    return {name: data[name] for name in infos}


def quantizer_settings(config: QuantConfig) -> QuantizerSettings:
    """What the settings say about quantizers of a float model."""
    from broadaxe.frontend.insert_quantizers import LayerBits, QuantizerSettings

    return QuantizerSettings(
        weight_bits=config.weight_bits or DEFAULT_WEIGHT_BITS,
        act_bits=config.act_bits,
        input_bits=config.input_bits,
        first_weight_bits=config.first_weight_bits,
        last_bits=config.last_weight_bits,
        ranges=config.ranges,
        percentile=config.percentile,
        scales="float" if config.scales == "float" else "pow2",
        layers={p: LayerBits(s.weight_bits, s.act_bits) for p, s in config.layers.items()},
    )
