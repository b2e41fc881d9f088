"""``onnx``: by torch's exporter, with names from the spec and the fingerprint in the metadata; run by onnxruntime."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxgrow.errors import ExportError
from fxgrow.export.compare import check_outputs
from fxgrow.export.format import Check, Options
from fxgrow.export.source_model import ExportSource, example_tensors
from fxgrow.export.torch_export import ExportedModel, export_model, largest_error
from fxgrow.optional import require
from fxgrow.spec import stored_bytes

_TOLERANCE = 1e-4
_MAX_FILE_BYTES = 2**31 - 2**24
"""Bytes of weights that fit into one ONNX file beside its graph."""
FINGERPRINT = "fxgrow.fingerprint"


def write_onnx(subject: ExportSource, path: Path, options: Options) -> Check:
    """Write one ONNX file, check it and compare what onnxruntime computes.

    Raises ``ExportError``: missing-extra, file-limit, not-exportable, export-differs.
    """
    onnx = require("onnx", extra="export", error=ExportError)
    runtime = require("onnxruntime", extra="export", error=ExportError)
    require("onnxscript", extra="export", error=ExportError)
    _check_size(stored_bytes(subject.spec))
    found = export_model(subject, options.dynamic_batch)
    try:
        _save(subject, found, path)
        onnx.checker.check_model(str(path), full_check=True)
        error = largest_error(subject, found.trials, _runner(runtime, subject, path))
    except _errors(onnx, runtime) as reason:
        raise _refused(reason) from reason
    check_outputs(error, _TOLERANCE, "what onnxruntime computes")
    return Check(f"takes {found.batch}; compared with onnxruntime", error)


def _check_size(size: int) -> None:
    if size > _MAX_FILE_BYTES:
        raise ExportError(
            "file-limit",
            f"the model has {size} bytes of weights and one ONNX file holds 2 GiB; export it to pt2 or hub",
        )


def _save(subject: ExportSource, found: ExportedModel, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the exporter's notes on itself; the comparison below is what counts
        program = torch.onnx.export(
            found.program, (), dynamo=True, verbose=False, input_names=[item.name for item in subject.spec.inputs],
            output_names=_output_names(subject),
        )  # fmt: skip
    if program is None:
        raise RuntimeError("the exporter gave no program")
    program.model.metadata_props[FINGERPRINT] = subject.spec.fingerprint
    program.save(str(path), external_data=False)


def _output_names(subject: ExportSource) -> list[str]:
    """``output``, or ``output_0``, ``output_1`` ..., hiding no input."""
    count = len(example_tensors(subject.run(subject.example_inputs)))
    taken = {item.name for item in subject.spec.inputs}
    stem = "output" if not any(name.startswith("output") for name in taken) else "result"
    return [stem] if count == 1 else [f"{stem}_{place}" for place in range(count)]


def _runner(runtime: Any, subject: ExportSource, path: Path) -> Any:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {item.name for item in session.get_inputs()}

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        named = {
            item.name: each.numpy() for item, each in zip(subject.spec.inputs, inputs, strict=True)
        }
        found = session.run(None, {name: value for name, value in named.items() if name in taken})
        return [torch.from_numpy(each.copy()) for each in found]

    return run


def _errors(onnx: Any, runtime: Any) -> tuple[type[Exception], ...]:
    """What the exporter, the checker and the runtime raise for a model that they cannot take."""
    state = runtime.capi.onnxruntime_pybind11_state
    refusals = (
        state.Fail,
        state.InvalidGraph,
        state.NotImplemented,
        state.InvalidArgument,
        state.RuntimeException,
    )
    return (
        torch.onnx.errors.OnnxExporterError,
        onnx.checker.ValidationError,
        RuntimeError,
        TypeError,
        ValueError,
        *refusals,
    )


def _refused(error: Exception) -> ExportError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ExportError(
        "not-exportable", f"ONNX does not take the model ({reason}); export it to pt2 or python"
    )
