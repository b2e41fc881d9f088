"""The specification of a model that has none yet: a wider, a deeper, or any one with its inputs."""

import warnings
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.errors import ModelError, SpecError
from fxgrow.growth.deepen import Deepened
from fxgrow.growth.lineage import Lineage
from fxgrow.growth.new_rows import Extended
from fxgrow.growth.widen import Widened
from fxgrow.spec import META_KEY, ArchitectureSpec, describe, spec_of


@dataclass(frozen=True, eq=False)
class DescribedModel:
    """A graph module and its specification.

    Args:
        graph_module: the graph of the model, with the model's own parameters.
        spec: what describes it.
    """

    graph_module: fx.GraphModule
    spec: ArchitectureSpec


def described_model(
    model: Widened | Deepened | Extended | nn.Module, example_inputs: Any = None
) -> DescribedModel:
    """Capture and describe a model, unless it was loaded with its specification.

    Args:
        model: a loaded model, any other module, or what ``widen``, ``deepen``, ``grow_classes`` or
            ``grow_vocabulary`` gave.
        example_inputs: inputs of the model; None: those that it grew with.

    Returns:
        Its graph and its specification.

    Raises:
        SpecError: ``no-spec`` if it is a module whose inputs nobody knows, and what ``describe``
            raises.
        ModelError: it does not run on its example inputs.
    """
    if isinstance(model, fx.GraphModule) and example_inputs is None and META_KEY in model.meta:
        return DescribedModel(model, spec_of(model))
    if isinstance(model, (Widened, Deepened, Extended)):
        module = model.module
        example_inputs = model.example_inputs if example_inputs is None else example_inputs
    else:
        module = model
    if example_inputs is None:
        raise SpecError(
            "no-spec",
            f"{type(model).__name__} was not loaded from a directory, so its inputs are not known "
            "and it cannot be described; give example_inputs",
        )
    captured = capture(module, example_inputs)
    widths = couple(captured).widths
    spec = describe(captured.graph_module, captured.example_inputs, widths=widths)
    # New rows are no step of a history: they are no neurons, which could be replayed.
    if isinstance(model, (Widened, Deepened)):
        spec = _with_history(spec, model.lineage, captured.example_inputs)
    return DescribedModel(captured.graph_module, spec)


def _with_history(
    spec: ArchitectureSpec, lineage: Lineage, example_inputs: tuple[Any, ...]
) -> ArchitectureSpec:
    """A specification with the steps that led to it, if the models between them can be described.

    Only their shapes are left, which is not enough for code that branches on values.
    """
    try:
        history = lineage.described(example_inputs, spec)
    except (SpecError, ModelError) as error:
        message = (
            f"saved without its growth history, as a model before cannot be described: {error}"
        )
        warnings.warn(message, UserWarning, stacklevel=4)
        return spec
    return spec.model_copy(update={"history": history})
