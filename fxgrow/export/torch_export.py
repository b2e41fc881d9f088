"""The model as ``torch.export`` sees it, with a batch axis of any size where the graph allows it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from fxgrow.errors import ExportError
from fxgrow.export.compare import max_difference
from fxgrow.export.source_model import _RUN_ERRORS, ExportSource, example_tensors

# Batches to trace and to compare with. Sizes 0 and 1 are special to torch.export.
_TRACED, _OTHER = 2, 3
_EXPORT_ERRORS = (*_RUN_ERRORS, torch._dynamo.exc.TorchDynamoException)


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A program and the inputs to compare it on: one tuple per batch size that it takes."""

    program: ExportedProgram
    trials: tuple[tuple[Tensor, ...], ...]
    dynamic: bool

    @property
    def batch(self) -> str:
        """The batch axis in words."""
        return (
            "batches of any size"
            if self.dynamic
            else f"inputs of {', '.join(map(_shape, self.trials[0]))} only"
        )


def export_model(subject: ExportSource, dynamic: bool | None) -> ExportedModel:
    """The exported program. ``dynamic``: whether it takes any batch; None: if it can.

    Raises ``ExportError``: not-exportable.
    """
    if dynamic is not False:
        try:
            return _dynamic(subject)
        except _EXPORT_ERRORS as error:
            if dynamic:
                raise _refused("a batch of any size", error) from error
    try:
        program = torch.export.export(subject.graph_module, subject.example_inputs)
    except _EXPORT_ERRORS as error:
        raise _refused("its example inputs", error) from error
    return ExportedModel(program, (subject.example_inputs,), dynamic=False)


def _dynamic(subject: ExportSource) -> ExportedModel:
    if subject.batch is None:
        raise ValueError("its inputs have no first axis in common")
    shapes = tuple({0: Dim("batch")} for _ in subject.example_inputs)
    example, other = subject.resized(_TRACED), subject.resized(_OTHER)
    subject.run(other)
    program = torch.export.export(subject.graph_module, example, dynamic_shapes=shapes)
    return ExportedModel(program, (subject.example_inputs, example, other), dynamic=True)


def _refused(what: str, error: Exception) -> ExportError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ExportError(
        "not-exportable",
        f"torch.export does not take the model with {what} ({reason}); export it to python or hub",
    )


def largest_error(subject: ExportSource, trials: tuple[tuple[Tensor, ...], ...], run: Any) -> float:
    """The largest relative difference between the model and ``run`` over all trials."""
    return max(max_difference(example_tensors(subject.run(trial)), run(trial)) for trial in trials)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
