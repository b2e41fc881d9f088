"""``onnx``: by torch's exporter, with the spec's names and fingerprint; run by onnxruntime."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxgrow.errors import ExportError
from fxgrow.export.compare import check_outputs
from fxgrow.export.format import Check, Options
from fxgrow.export.source_model import ExportSource, example_tensors
from fxgrow.export.torch_export import (
    ExportedModel,
    exported_model,
    largest_error,
    shortened_message,
)
from fxgrow.optional import require
from fxgrow.spec import stored_bytes

# Another runtime has other kernels, which sum in another order.
_TOLERANCE = 1e-4
# Bytes of weights that fit into one ONNX file, a protocol buffer of 2 GiB, beside its graph.
_MAX_FILE_BYTES = 2**31 - 2**24
FINGERPRINT = "fxgrow.fingerprint"


def write_onnx(source: ExportSource, path: Path, options: Options) -> Check:
    """Write one ONNX file, check it and compare what onnxruntime computes.

    Args:
        source: the model.
        path: the file to write.
        options: ``dynamic_batch`` is used.

    Returns:
        How it was checked.

    Raises:
        ExportError: ``missing-extra``, ``file-limit``, ``not-exportable``, ``export-differs``.
    """
    onnx = require("onnx", extra="export", error=ExportError)
    runtime = require("onnxruntime", extra="export", error=ExportError)
    require("onnxscript", extra="export", error=ExportError)
    _check_size(stored_bytes(source.spec))
    exported = exported_model(source, options.dynamic_batch)
    try:
        _save(source, exported, path)
        onnx.checker.check_model(str(path), full_check=True)
        error = largest_error(source, exported.trials, _runner(runtime, source, path))
    except _errors(onnx, runtime) as reason:
        raise _refused(reason) from reason
    check_outputs(error, _TOLERANCE, "what onnxruntime computes")
    return Check(f"takes {exported.batch}; compared with onnxruntime", error)


def _check_size(size: int) -> None:
    if size > _MAX_FILE_BYTES:
        raise ExportError(
            "file-limit",
            f"the model has {size} bytes of weights and one ONNX file holds 2 GiB; "
            "export it to pt2 or hub",
        )


def _save(source: ExportSource, exported: ExportedModel, path: Path) -> None:
    input_names = [item.name for item in source.spec.inputs]
    with warnings.catch_warnings():
        # The exporter warns about its own internals; the comparison afterwards is what counts.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            exported.program,
            (),
            dynamo=True,
            verbose=False,
            input_names=input_names,
            output_names=_output_names(source),
        )
    if program is None:
        raise RuntimeError("the exporter gave no program")
    program.model.metadata_props[FINGERPRINT] = source.spec.fingerprint
    program.save(str(path), external_data=False)


def _output_names(source: ExportSource) -> list[str]:
    """``output``, or ``output_0``, ``output_1`` ..., different from every input's name."""
    count = len(example_tensors(source.run(source.example_inputs)))
    taken = any(item.name.startswith("output") for item in source.spec.inputs)
    stem = "result" if taken else "output"
    return [stem] if count == 1 else [f"{stem}_{number}" for number in range(count)]


def _runner(
    runtime: Any, source: ExportSource, path: Path
) -> Callable[[tuple[Tensor, ...]], list[Tensor]]:
    """A function that runs the file in onnxruntime."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # The exporter drops inputs that the graph does not use.
    used = {item.name for item in session.get_inputs()}

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        arrays = {}
        for item, tensor in zip(source.spec.inputs, inputs, strict=True):
            if item.name in used:
                arrays[item.name] = tensor.numpy()
        outputs = session.run(None, arrays)
        # Copies: onnxruntime owns the memory of what it returns.
        return [torch.from_numpy(output.copy()) for output in outputs]

    return run


def _errors(onnx: Any, runtime: Any) -> tuple[type[Exception], ...]:
    """What the exporter, the checker and the runtime raise for a model that they cannot take."""
    state = runtime.capi.onnxruntime_pybind11_state
    runtime_errors = (
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
        *runtime_errors,
    )


def _refused(error: Exception) -> ExportError:
    return ExportError(
        "not-exportable",
        f"ONNX does not take the model ({shortened_message(error)}); export it to pt2 or python",
    )
