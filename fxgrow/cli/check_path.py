"""``fxgrow check``: whether a directory holds a model, or a file a genotype or a recipe, and which."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import torch
import typer
from rich.text import Text
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from fxgrow.cells import Genotype, read_genotype
from fxgrow.cli.console import print_parts
from fxgrow.cli.model_and_data import _RUN_ERRORS
from fxgrow.cli.schemes import example_inputs_of
from fxgrow.documents import WEIGHTS
from fxgrow.errors import SpecError
from fxgrow.report import count_text, quantity_text
from fxgrow.spec import ArchitectureSpec, load, meta_example_inputs, meta_module, read_spec
from fxgrow.training import read_recipe

CheckedText = Annotated[
    Path,
    typer.Argument(
        metavar="PATH",
        help="a run or spec directory, a genotype (.json) or a recipe (.yaml)",
        show_default=False,
    ),
]


def check_path(path: CheckedText) -> None:
    """Read what lies at PATH and say what it is; anything wrong is an error. A saved model is loaded and run once."""
    lines = _CHECKED_FILES.get(path.suffix, _model) if path.is_file() else _model
    print_parts(*(Text(line) for line in lines(path)))


def _genotype(path: Path) -> tuple[str, ...]:
    genotype = read_genotype(path)
    cells = (genotype.normal, genotype.reduce)
    nodes = " and ".join(quantity_text(len(cell.nodes), "node") for cell in cells)
    edges = " and ".join(quantity_text(sum(map(len, cell.nodes)), "edge") for cell in cells)
    return (
        f"sound: a genotype; its normal and reduction cell have {nodes}, {edges}",
        _fingerprint(genotype),
    )


def _recipe(path: Path) -> tuple[str, ...]:
    recipe = read_recipe(path)
    settings = recipe.settings
    steps = quantity_text(settings.grow_steps, "growth step")
    return (
        f"sound: a recipe; {recipe.model} on {recipe.data.name}, {quantity_text(settings.epochs, 'epoch')}, "
        f"{steps} by {recipe.method.name}",
    )


_CHECKED_FILES: Mapping[str, Callable[[Path], tuple[str, ...]]] = MappingProxyType(
    {".json": _genotype, ".yaml": _recipe, ".yml": _recipe}
)
"""What a file holds, by the end of its name."""


def _model(directory: Path) -> tuple[str, ...]:
    spec = read_spec(directory)
    if spec.weights is None and not os.path.lexists(directory / WEIGHTS):
        model, inputs = (
            meta_module(spec),
            meta_example_inputs(spec),
        )  # an architecture alone is run on shapes alone
    else:
        model, inputs = load(directory), example_inputs_of(spec)
    return _lines(spec, _run(model, inputs, str(directory)))


@torch.no_grad()
def _run(model: fx.GraphModule, inputs: tuple[Tensor, ...], path: str) -> Any:
    try:
        return model(*inputs)
    except _RUN_ERRORS as error:
        reason = " ".join(str(error).split())
        raise SpecError(
            "not-runnable",
            f"the model does not run on its own inputs ({reason}); save it again",
            path,
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
        f"sound: {quantity_text(len(spec.nodes), 'node')}, {quantity_text(len(spec.modules), 'module')}, "
        f"{count_text(spec.cost.parameters)} parameters, {count_text(spec.cost.multiply_adds)} multiply-adds",
        f"takes {inputs}; gives {outputs}",
        f"{quantity_text(len(spec.widths), 'width')}, {growable} can grow; {_history(spec)}"
        + ("" if spec.weights else "; no weights"),
        _fingerprint(spec),
    )


def _fingerprint(thing: ArchitectureSpec | Genotype) -> str:
    return f"fingerprint {thing.fingerprint}"


def _history(spec: ArchitectureSpec) -> str:
    if not spec.history:
        return "never grown"
    methods = ", ".join(dict.fromkeys(step.method.name for step in spec.history))
    neurons = sum(change.split + change.new for step in spec.history for change in step.widths)
    return f"grown {quantity_text(len(spec.history), 'time')} by {methods}, {quantity_text(neurons, 'neuron')} in all"


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes)) or "scalar"
