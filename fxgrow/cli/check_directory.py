"""``fxgrow check``: whether a directory holds a model, and which."""

from typing import Any

import torch
from rich.text import Text
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from fxgrow.cli.arguments import Directory
from fxgrow.cli.console import show
from fxgrow.cli.schemes import example_inputs_of
from fxgrow.cli.subject import RUN_ERRORS
from fxgrow.errors import SpecError
from fxgrow.report import count
from fxgrow.report.numbers import quantity
from fxgrow.spec import ArchitectureSpec, load, read_spec
from fxgrow.spec.blank import blank, blank_inputs


def check_directory(directory: Directory) -> None:
    """Load a saved model, run it once and say what it is; anything wrong is an error.

    An architecture without weights is built and run on shapes alone.
    """
    spec = read_spec(directory)
    if spec.weights is None:
        model, inputs = blank(spec), blank_inputs(spec)
    else:
        model, inputs = load(directory), example_inputs_of(spec)
    show(*(Text(line) for line in _lines(spec, _run(model, inputs, str(directory)))))


@torch.no_grad()
def _run(model: fx.GraphModule, inputs: tuple[Tensor, ...], path: str) -> Any:
    try:
        return model(*inputs)
    except RUN_ERRORS as error:
        reason = " ".join(str(error).split())
        raise SpecError(
            "not-runnable", f"the model does not run on its own inputs ({reason}); save it again", path
        ) from error


def _lines(spec: ArchitectureSpec, output: Any) -> tuple[str, ...]:
    inputs = ", ".join(f"{item.name} {_shape(item.shape)} {item.dtype}" for item in spec.inputs)
    outputs = ", ".join(
        f"{_shape(tuple(leaf.shape))} {str(leaf.dtype).removeprefix('torch.')}"
        for leaf in tree_leaves(output)
        if isinstance(leaf, Tensor)
    )
    growable = sum(width.growable for width in spec.widths)
    return (
        f"sound: {quantity(len(spec.nodes), 'node')}, {quantity(len(spec.modules), 'module')}, "
        f"{count(spec.cost.parameters)} parameters, {count(spec.cost.multiply_adds)} multiply-adds",
        f"takes {inputs}; gives {outputs}",
        f"{quantity(len(spec.widths), 'width')}, {growable} can grow; {_history(spec)}"
        + ("" if spec.weights else "; no weights"),
        f"fingerprint {spec.fingerprint}",
    )


def _history(spec: ArchitectureSpec) -> str:
    if not spec.history:
        return "never grown"
    methods = ", ".join(dict.fromkeys(step.method.name for step in spec.history))
    neurons = sum(change.split + change.new for step in spec.history for change in step.widths)
    return f"grown {quantity(len(spec.history), 'time')} by {methods}, {quantity(neurons, 'neuron')} in all"


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes)) or "scalar"
