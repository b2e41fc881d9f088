"""Give a language model more words: rows of its embedding and of its output layer.

Reference: Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021. How we
differ: see ``new_rows``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Seed
from fxgrow.capture import capture, require_growable_model
from fxgrow.copying import copy_with_optimizers
from fxgrow.errors import GrowthError
from fxgrow.growth.new_rows import Extended, HowNewRows, NewRows, OldOutputs, add_rows
from fxgrow.growth.output_layer import find_head
from fxgrow.growth.widen import model_and_examples
from fxgrow.modes import exclusive_autograd, plain_attention
from fxgrow.surgery import (
    DEFAULT_STATE,
    GivenOptimizers,
    NewEntryRate,
    StateRuleName,
    StateTreatment,
    axes_by_config,
    listed_optimizers,
    named_tensors,
    parameter_shapes,
    restore_on_failure,
    update_config,
)


@checked
def grow_vocabulary(
    model: nn.Module,
    words: NewRows,
    example_inputs: Any = None,
    *,
    embedding: str | None = None,
    output: str | None = None,
    how: HowNewRows = "mean",
    seed: Seed = 0,
    inplace: bool = False,
    examples: Sequence[Any] = (),
    optimizer: GivenOptimizers = None,
    state: StateRuleName = DEFAULT_STATE,
    new_entry_rate: NewEntryRate | None = None,
) -> Extended:
    """Give a language model more words; what it computes for the old ones stays.

    The embedding gets rows, and so does the layer that gives the logits, tied or not, with its
    bias. A ``config`` follows (``vocab_size``). New words come behind the old ones.

    Args:
        model: any model with an ``nn.Embedding``.
        words: how many more.
        example_inputs, examples: of the old words; the models are compared on them.
        embedding: its path; None: that of Hugging Face's ``get_input_embeddings()``, or the only
            one.
        output: the path of the layer that gives the logits; None: that of
            ``get_output_embeddings()``, or the last layer if it has as many rows.
        how, seed: what a new row is: the ``"mean"`` of the old ones, or ``"new"``: drawn.
        inplace: change model and optimizers themselves, all or nothing; else copies.
        optimizer, state, new_entry_rate: as for ``fxgrow.grow``.

    Returns:
        The model with more words.

    Raises:
        GrowthError: ``no-embedding`` if it is not clear where words are; ``broken-promise``.

    Example:
        >>> longer = fxgrow.grow_vocabulary(model, 16, {"input_ids": ids})
        >>> longer.module.config.vocab_size
    """
    require_growable_model(model, values=True)
    _, given = model_and_examples(model, example_inputs, examples)
    treatment, optimizers = StateTreatment(state, new_entry_rate), listed_optimizers(optimizer)
    treatment.require(optimizers, model)
    with exclusive_autograd(), plain_attention():
        size, axes = _rows_of_words(model, given[0], embedding, output, words)
        before = OldOutputs(model, given, size)
        if not inplace:
            model, optimizers = copy_with_optimizers(model, optimizers)
        shapes = parameter_shapes(model)
        with restore_on_failure(model, optimizers):
            add_rows(model, axes, words, how, seed, optimizers, treatment)
            config = update_config(model, shapes, [(size, size + words)], given[0])
            error = before.require(model)
    rows = dict.fromkeys(axes, size + words)
    return Extended(model, rows, config, error, optimizers, given[0])


def _rows_of_words(
    model: nn.Module,
    inputs: tuple[Any, ...],
    embedding: str | None,
    output: str | None,
    words: int,
) -> tuple[int, dict[str, int]]:
    """How many words there are, and by the name of each tensor the axis along which they lie."""
    path = embedding if embedding is not None else _embedding_path(model)
    table: Any = dict(model.named_modules()).get(path)
    if not isinstance(getattr(table, "weight", None), nn.Parameter):
        raise _unclear(model, f"{path!r} is no embedding with a weight")
    size = len(table.weight)
    layers = {path: table, **_output_layers(model, inputs, table, output, size)}
    axes = {}
    # A tied parameter has one name, so that it gets its rows once.
    names = {id(tensor): name for name, tensor in named_tensors(model).items()}
    for layer_path, layer in layers.items():
        for tensor in layer.parameters(recurse=False):
            if tensor.shape[:1] == (size,) and id(tensor) in names:
                axes[names[id(tensor)]] = 0
            elif output is not None and layer_path == output:
                raise _unclear(model, f"{output!r} has no row for each of {size} words")
    # What else a config says is as long: a bias of all logits that is a buffer, say.
    weight = names[id(table.weight)]
    return size, {**axes_by_config(model, weight, size, words), **axes}


def _embedding_path(model: nn.Module) -> str:
    """The path of the embedding of words."""
    # With positions there are two embeddings, and only a model can tell them apart.
    known = _called(model, "get_input_embeddings")
    if known is not None:
        return known
    modules: dict[str, nn.Module] = dict(model.named_modules())
    found = [path for path, one in modules.items() if isinstance(one, nn.Embedding)]
    if len(found) != 1:
        listed = ", ".join(map(repr, found[:8])) or "none"
        raise _unclear(model, f"its embeddings are {listed}")
    return found[0]


def _called(model: nn.Module, getter: str) -> str | None:
    """The path of the module that a getter of Hugging Face's gives; None without one."""
    get = getattr(model, getter, None)
    try:
        module = get() if callable(get) else None
    except (AttributeError, NotImplementedError):  # models without words say so like this
        return None
    paths = {id(one): path for path, one in model.named_modules()}
    return paths.get(id(module)) if isinstance(module, nn.Module) else None


def _output_layers(
    model: nn.Module,
    inputs: tuple[Any, ...],
    table: nn.Module | None,
    output: str | None,
    size: int,
) -> Mapping[str, nn.Module]:
    """The layers that give logits: the one that is named or last, and those that are tied."""
    modules = dict(model.named_modules())
    weight = getattr(table, "weight", None)
    found = {}
    for path, module in modules.items():
        if module is not table and getattr(module, "weight", None) is weight:
            found[path] = module
    path = output if output is not None else _called(model, "get_output_embeddings")
    # What is tied gives the logits itself.
    if path is None and not found:
        path = _last_layer(model, inputs, size)
    if path is None:
        return found
    if path not in modules:
        raise _unclear(model, f"there is no module {path!r}")
    return {**found, path: modules[path]}


def _last_layer(model: nn.Module, inputs: tuple[Any, ...], size: int) -> str | None:
    """The last layer, if it has a row for each word."""
    try:
        path = find_head(capture(model, inputs))
    except GrowthError:  # an encoder ends in something else
        return None
    layer: Any = model.get_submodule(path)
    return path if len(layer.weight) == size else None


def _unclear(model: nn.Module, why: str) -> GrowthError:
    return GrowthError(
        "no-embedding",
        f"it is not clear which rows of {type(model).__name__} are words, since {why}; name the "
        "embedding (embedding=) and the layer that gives the logits (output=)",
    )
