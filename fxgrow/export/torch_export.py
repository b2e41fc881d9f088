"""The model as ``torch.export`` sees it, with a batch axis of any size if the graph allows it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from fxgrow.errors import ExportError
from fxgrow.export.compare import max_difference
from fxgrow.export.source_model import ExportSource, example_tensors
from fxgrow.export.summary import shape_text
from fxgrow.running import CALLED_CODE_ERRORS

# Batches to trace and to compare with. Sizes 0 and 1 are special to torch.export.
_TRACED, _OTHER = 2, 3
_MAX_MESSAGE = 300


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A program and the inputs to compare it on: one tuple per batch size that it takes."""

    program: ExportedProgram
    trials: tuple[tuple[Tensor, ...], ...]
    dynamic: bool

    @property
    def batch(self) -> str:
        """The batch axis in words."""
        if self.dynamic:
            return "batches of any size"
        shapes = [shape_text(tensor.shape) for tensor in self.trials[0]]
        return f"inputs of {', '.join(shapes)} only"


def exported_model(source: ExportSource, dynamic: bool | None) -> ExportedModel:
    """Trace the model with ``torch.export``.

    Args:
        source: the model.
        dynamic: whether the program takes a batch of any size; None: if it can.

    Returns:
        The program, and inputs to compare it on.

    Raises:
        ExportError: ``not-exportable``.
    """
    if dynamic is not False:
        try:
            return _dynamic(source)
        except _export_errors() as error:
            # Without a demand for any batch size, a fixed one is tried below.
            if dynamic:
                raise _refused("a batch of any size", error) from error
    try:
        program = torch.export.export(source.graph_module, source.example_inputs)
    except _export_errors() as error:
        raise _refused("its example inputs", error) from error
    return ExportedModel(program, (source.example_inputs,), dynamic=False)


def _dynamic(source: ExportSource) -> ExportedModel:
    if source.batch is None:
        raise ValueError("its inputs have no first axis in common")
    shapes = tuple({0: Dim("batch")} for _ in source.example_inputs)
    example, other = source.resized(_TRACED), source.resized(_OTHER)
    # The model itself must take another batch, or the program cannot be compared on one.
    source.run(other)
    program = torch.export.export(source.graph_module, example, dynamic_shapes=shapes)
    return ExportedModel(program, (source.example_inputs, example, other), dynamic=True)


def _export_errors() -> tuple[type[Exception], ...]:
    """What a failed export may raise; torch imports its compiler, which takes a second, for it."""
    return (*CALLED_CODE_ERRORS, torch._dynamo.exc.TorchDynamoException)


def _refused(what: str, error: Exception) -> ExportError:
    reason = shortened_message(error)
    return ExportError(
        "not-exportable",
        f"torch.export does not take the model with {what} ({reason}); export it to python or hub",
    )


def shortened_message(error: Exception) -> str:
    """An error's message on one line, cut to a readable length; its class if there is none."""
    return " ".join(str(error).split())[:_MAX_MESSAGE] or type(error).__name__


def largest_error(
    source: ExportSource,
    trials: tuple[tuple[Tensor, ...], ...],
    run: Callable[[tuple[Tensor, ...]], list[Tensor]],
) -> float:
    """How far an export is from the model.

    Args:
        source: the model.
        trials: one tuple of inputs per comparison.
        run: the outputs of the export for a tuple of inputs.

    Returns:
        The largest relative difference over all trials.
    """
    errors = []
    for inputs in trials:
        expected = example_tensors(source.run(inputs))
        errors.append(max_difference(expected, run(inputs)))
    return max(errors)
