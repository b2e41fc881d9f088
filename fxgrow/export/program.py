"""The model as ``torch.export`` sees it, with a batch axis of any size where the graph allows it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from fxgrow.errors import ExportError
from fxgrow.export.compare import difference
from fxgrow.export.subject import RUN_ERRORS, Subject, tensors

# Batches to trace and to compare with. Sizes 0 and 1 are special to torch.export.
_TRACED, _OTHER = 2, 3
_EXPORT_ERRORS = (*RUN_ERRORS, torch._dynamo.exc.TorchDynamoException)


@dataclass(frozen=True, eq=False)
class Traced:
    """A program and the inputs to compare it on: one tuple per batch size that it takes."""

    program: ExportedProgram
    trials: tuple[tuple[Tensor, ...], ...]
    dynamic: bool

    @property
    def batch(self) -> str:
        """The batch axis in words."""
        return "batches of any size" if self.dynamic else f"inputs of {', '.join(map(_shape, self.trials[0]))} only"


def traced(subject: Subject, dynamic: bool | None) -> Traced:
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
    return Traced(program, (subject.example_inputs,), dynamic=False)


def _dynamic(subject: Subject) -> Traced:
    if subject.batch is None:
        raise ValueError("its inputs have no first axis in common")
    shapes = tuple({0: Dim("batch")} for _ in subject.example_inputs)
    example, other = subject.resized(_TRACED), subject.resized(_OTHER)
    subject.run(other)
    program = torch.export.export(subject.graph_module, example, dynamic_shapes=shapes)
    return Traced(program, (subject.example_inputs, example, other), dynamic=True)


def _refused(what: str, error: Exception) -> ExportError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ExportError(
        "not-exportable", f"torch.export does not take the model with {what} ({reason}); export it to python or hub"
    )


def largest_error(subject: Subject, trials: tuple[tuple[Tensor, ...], ...], run: Any) -> float:
    """The largest relative difference between the model and ``run`` over all trials."""
    return max(difference(tensors(subject.run(trial)), run(trial)) for trial in trials)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
