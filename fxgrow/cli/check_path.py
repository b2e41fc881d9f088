"""``fxgrow check``: say whether a path holds a valid model, genotype or recipe, and describe it."""

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

from fxgrow.cells import Cell, Genotype, read_genotype
from fxgrow.cli.console import print_parts
from fxgrow.cli.schemes import example_inputs_of
from fxgrow.documents import WEIGHTS
from fxgrow.errors import SpecError
from fxgrow.report import count_text, quantity_text
from fxgrow.running import CALLED_CODE_ERRORS
from fxgrow.spec import ArchitectureSpec, load, meta_example_inputs, meta_module, read_spec
from fxgrow.training import EqualPhases, read_recipe

CheckedPathArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PATH",
        help="a run or spec directory, a genotype (.json) or a recipe (.yaml)",
        show_default=False,
    ),
]


def check_path(path: CheckedPathArgument) -> None:
    """Read PATH and describe what it holds; anything wrong is an error.

    A saved model is loaded and run once.
    """
    # Anything but a file is read as a directory, whose errors say what is missing.
    check = _FILE_CHECKS.get(path.suffix, _check_model) if _is_file(path) else _check_model
    for line in check(path):
        print_parts(Text(line))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system, which reading reports
        return False


def _check_genotype(path: Path) -> tuple[str, ...]:
    genotype = read_genotype(path)
    cells = (genotype.normal, genotype.reduce)
    nodes = " and ".join(quantity_text(len(cell.nodes), "node") for cell in cells)
    edges = " and ".join(quantity_text(_count_edges(cell), "edge") for cell in cells)
    return (
        f"sound: a genotype; its normal and reduction cell have {nodes}, {edges}",
        _fingerprint(genotype),
    )


def _count_edges(cell: Cell) -> int:
    return sum(map(len, cell.nodes))


def _check_recipe(path: Path) -> tuple[str, ...]:
    recipe = read_recipe(path)
    epochs = quantity_text(recipe.settings.epochs, "epoch")
    steps = quantity_text(recipe.settings.grow_steps, "growth step")
    trigger = recipe.settings.grow_when
    # Other triggers wait for something, which may not come.
    when = "" if isinstance(trigger, EqualPhases) else f" at most ({trigger.name})"
    return (
        f"sound: a recipe; {recipe.model} on {recipe.data.name}, {epochs}, {steps}{when} by "
        f"{recipe.method.name}",
    )


# By the suffix of the file.
_FILE_CHECKS: Mapping[str, Callable[[Path], tuple[str, ...]]] = MappingProxyType(
    {".json": _check_genotype, ".yaml": _check_recipe, ".yml": _check_recipe}
)


def _check_model(directory: Path) -> tuple[str, ...]:
    spec = read_spec(directory)
    inputs: tuple[Tensor, ...]
    # ``lexists``: a spec without weights beside a file of weights (or a broken link) is refused by
    # ``load``; only an architecture alone is run on the meta device, on shapes.
    if spec.weights is None and not os.path.lexists(directory / WEIGHTS):
        model, inputs = meta_module(spec), meta_example_inputs(spec)
    else:
        model, inputs = load(directory), example_inputs_of(spec)
    output = _run_model(model, inputs, str(directory))
    return _describe_model(spec, output)


@torch.no_grad()
def _run_model(model: fx.GraphModule, inputs: tuple[Tensor, ...], path: str) -> Any:
    try:
        return model(*inputs)
    except CALLED_CODE_ERRORS as error:
        reason = " ".join(str(error).split())
        raise SpecError(
            "not-runnable",
            f"the model does not run on its own inputs ({reason}); save it again",
            path,
        ) from error


def _describe_model(spec: ArchitectureSpec, output: Any) -> tuple[str, ...]:
    nodes = quantity_text(len(spec.nodes), "node")
    modules = quantity_text(len(spec.modules), "module")
    parameters = f"{count_text(spec.cost.parameters)} parameters"
    multiply_adds = f"{count_text(spec.cost.multiply_adds)} multiply-adds"
    widths = quantity_text(len(spec.widths), "width")
    growable = sum(width.growable for width in spec.widths)
    weights = "" if spec.weights else "; no weights"
    return (
        f"sound: {nodes}, {modules}, {parameters}, {multiply_adds}",
        f"takes {_describe_inputs(spec)}; gives {_describe_output(output)}",
        f"{widths}, {growable} can grow; {_describe_history(spec)}{weights}",
        _fingerprint(spec),
    )


def _describe_inputs(spec: ArchitectureSpec) -> str:
    descriptions = []
    for item in spec.inputs:
        descriptions.append(f"{item.name} {_shape_text(item.shape)} {item.dtype}")
    return ", ".join(descriptions)


def _describe_output(output: Any) -> str:
    descriptions = []
    for leaf in tree_leaves(output):
        # An output may hold other values than tensors, such as None.
        if isinstance(leaf, Tensor):
            dtype = str(leaf.dtype).removeprefix("torch.")
            descriptions.append(f"{_shape_text(tuple(leaf.shape))} {dtype}")
    return ", ".join(descriptions)


def _fingerprint(document: ArchitectureSpec | Genotype) -> str:
    return f"fingerprint {document.fingerprint}"


def _describe_history(spec: ArchitectureSpec) -> str:
    if not spec.history:
        return "never grown"
    neurons, blocks = 0, 0
    for step in spec.history:
        neurons += sum(change.split + change.new for change in step.widths)
        blocks += step.num_blocks
    times = quantity_text(len(spec.history), "time")
    # A dict keeps each method once, in the order of first use.
    methods = ", ".join(dict.fromkeys(step.method.name for step in spec.history))
    added = quantity_text(neurons, "neuron")
    if blocks:
        added = f"{added} and {quantity_text(blocks, 'block')}"
    return f"grown {times} by {methods}, {added} in all"


def _shape_text(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes)) or "scalar"
