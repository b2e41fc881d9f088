"""Give a classifier more classes: rows of its last layer.

Reference: Rebuffi, Kolesnikov, Sperl, Lampert, "iCaRL: Incremental Classifier and Representation
Learning", CVPR 2017, section 3, for a head that grows by classes. How we differ: a new row is the
mean of the old ones (``new_rows``), and attributes and configs that count classes follow.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Seed
from fxgrow.capture import capture, require_growable_model
from fxgrow.copying import copy_with_optimizers
from fxgrow.errors import GrowthError
from fxgrow.growth.new_rows import Extended, HowNewRows, NewRows, OldOutputs, add_rows
from fxgrow.growth.output_layer import HEAD_TYPES, find_head
from fxgrow.growth.widen import model_and_examples
from fxgrow.modes import evaluation_mode, exclusive_autograd, plain_attention
from fxgrow.surgery import (
    DEFAULT_STATE,
    GivenOptimizers,
    NewEntryRate,
    StateRuleName,
    StateTreatment,
    listed_optimizers,
    named_tensors,
    parameter_shapes,
    restore_on_failure,
    update_labels,
)

_COUNTS = ("num_classes", "num_labels", "n_classes")
"""Attributes of models that count classes, which no shape of a layer repeats."""


@checked
def grow_classes(
    model: nn.Module,
    classes: NewRows,
    example_inputs: Any = None,
    *,
    head: str | None = None,
    how: HowNewRows = "mean",
    seed: Seed = 0,
    inplace: bool = False,
    examples: Sequence[Any] = (),
    optimizer: GivenOptimizers = None,
    state: StateRuleName = DEFAULT_STATE,
    new_entry_rate: NewEntryRate | None = None,
) -> Extended:
    """Give a classifier more classes; the logits of the old ones stay.

    New classes come behind the old ones. What counts classes (``num_classes``, ``num_labels``, the
    labels of a Hugging Face ``config``) follows.

    Args:
        model: any model whose last layer is linear or a convolution with a row per class.
        classes: how many more.
        example_inputs, examples: the models are compared on them.
        head: the path of the layer that gives the class scores; None: the last one.
        how, seed: what a new row is: the ``"mean"`` of the old ones, or ``"new"``: drawn.
        inplace: change model and optimizers themselves, all or nothing; else copies.
        optimizer, state, new_entry_rate: as for ``fxgrow.grow``.

    Returns:
        The model with more classes.

    Raises:
        GrowthError: ``no-head`` if the last layer has no row per class; ``broken-promise``.

    Example:
        >>> more = fxgrow.grow_classes(model, 5, images)
        >>> more.module.fc.out_features
        15
    """
    require_growable_model(model, values=True)
    _, given = model_and_examples(model, example_inputs, examples)
    treatment, optimizers = StateTreatment(state, new_entry_rate), listed_optimizers(optimizer)
    treatment.require(optimizers, model)
    with exclusive_autograd(), plain_attention():
        path = _head_path(model, given[0], head)
        size = len(model.get_submodule(path).weight)  # type: ignore[arg-type]
        before = OldOutputs(model, given, size)
        if not inplace:
            model, optimizers = copy_with_optimizers(model, optimizers)
        axes, shapes = _axes(model, path), parameter_shapes(model)
        with restore_on_failure(model, optimizers):
            add_rows(model, axes, classes, how, seed, optimizers, treatment)
            config = update_labels(model, shapes, size, size + classes)
            _recount(model, path, size, size + classes)
            error = before.require(model)
    rows = dict.fromkeys(axes, size + classes)
    return Extended(model, rows, config, error, optimizers, given[0])


def _head_path(model: nn.Module, inputs: tuple[Any, ...], head: str | None) -> str:
    if head is None:
        with evaluation_mode(model):
            head = find_head(capture(model, inputs))
    layer = dict(model.named_modules()).get(head)
    own = {} if layer is None else layer._parameters
    if not isinstance(layer, HEAD_TYPES) or own.get("weight") is None:
        raise GrowthError(
            "no-head",
            f"{head!r} of {type(model).__name__} is no linear layer or convolution with a plain "
            "weight, so classes have no rows there; name another one with head=",
        )
    return head


def _axes(model: nn.Module, head: str) -> dict[str, int]:
    """The tensors of a head, whose rows are the first axis."""
    names = {id(tensor): name for name, tensor in named_tensors(model).items()}
    # The bias has a row per class, too.
    axes = {}
    for tensor in model.get_submodule(head).parameters(recurse=False):
        axes[names[id(tensor)]] = 0
    return axes


def _recount(model: nn.Module, head: str, old: int, new: int) -> None:
    """Bring attributes that count classes in line, in the modules that hold the head."""
    # A model keeps the count beside its layers, and often reshapes the logits by it.
    path = head
    while path:
        path = path.rpartition(".")[0]
        for name in _COUNTS:
            own = vars(model.get_submodule(path))
            if type(own.get(name)) is int and own[name] == old:
                own[name] = new
