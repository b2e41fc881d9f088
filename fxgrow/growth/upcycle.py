"""Make dense layers mixtures of experts, in the model's own class.

Reference: Komatsuzaki et al., "Sparse Upcycling: Training Mixture-of-Experts from Dense
Checkpoints", ICLR 2023, section 3: every expert starts as a copy of the dense layer, the router at
random. How we differ: the weights of the chosen experts are divided by their sum (as the authors
do for vision alone), so that copies f give sum_e w_e f(x) = f(x) whatever the router says, and the
function is kept; any model, whose layers are named by their paths.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Seed, Within
from fxgrow.capture import direct_tensors, preserve_state, require_growable_model
from fxgrow.copying import copy_module, copy_with_optimizers
from fxgrow.errors import BudgetError, GrowthError, ModelError
from fxgrow.growth.block_insertion import copies_of
from fxgrow.growth.invariants import relative_error
from fxgrow.growth.mixture import MixtureOfExperts
from fxgrow.growth.new_rows import Extended
from fxgrow.growth.preservation import Preservation
from fxgrow.growth.widen import model_and_examples
from fxgrow.memory import device_of, require_memory
from fxgrow.modes import evaluation_mode, exclusive_autograd, plain_attention
from fxgrow.running import errors_as
from fxgrow.surgery import (
    DEFAULT_TREATMENT,
    GivenOptimizers,
    Optimizers,
    join_groups,
    listed_optimizers,
    restore_on_failure,
)

MAX_EXPERTS = 2**10
_BY_TOKEN = 1e-3
"""A relative error that no rounding makes."""
Experts = Annotated[int, Within(2, MAX_EXPERTS)]
"""How many experts a layer becomes."""


@checked
def upcycle(
    model: nn.Module,
    layers: Mapping[str, Experts],
    example_inputs: Any = None,
    *,
    top_k: Annotated[int, Within(1, MAX_EXPERTS)] = 2,
    seed: Seed = 0,
    inplace: bool = False,
    examples: Sequence[Any] = (),
    optimizer: GivenOptimizers = None,
) -> Extended:
    """Put a mixture of experts in the place of dense layers; the function stays.

    Each expert is a copy of its layer, the first one the layer itself. A router that is drawn at
    random sends each token to ``top_k`` of them, which share a weight of 1. No config tells of
    these mixtures (``MixtureOfExperts``): save the model by ``fxgrow.save``, or its state.

    Args:
        model: any model.
        layers: by the path of a layer (an MLP), or a pattern, how many experts it becomes. It has
            to compute token by token, from one tensor to one.
        example_inputs, examples: the models are compared on them.
        top_k: how many experts a token is sent to.
        seed: of routers.
        inplace: change model and optimizers themselves, all or nothing; else copies.
        optimizer: one or a list; get new parameters in the groups of what they are copies of.

    Returns:
        The model with mixtures; its ``rows`` are the numbers of experts by router.

    Raises:
        GrowthError: ``bad-experts`` for a pattern that matches no layer, a layer that is no
            function of each token, or fewer experts than ``top_k``; ``broken-promise``.

    Example:
        >>> sparse = fxgrow.upcycle(model, {"model.layers.*.mlp": 8}, {"input_ids": ids})
        >>> sparse.module.model.layers[0].mlp.experts
    """
    require_growable_model(model, values=True)
    _, given = model_and_examples(model, example_inputs, examples)
    optimizers = listed_optimizers(optimizer)
    DEFAULT_TREATMENT.require(optimizers, model)
    counts = _matched(model, layers, top_k)
    with exclusive_autograd(), plain_attention():
        sizes = _features(model, list(counts), given)
        _require_memory(model, counts)
        before = Preservation.of(model, *given, leaves=direct_tensors)
        if not inplace:
            model, optimizers = copy_with_optimizers(model, optimizers)
        generator = torch.Generator().manual_seed(seed)
        with restore_on_failure(model, optimizers):
            for path, count in counts.items():
                mixture = _mixture(model.get_submodule(path), sizes[path], count, top_k, generator)
                model.set_submodule(path, mixture)
                _join(optimizers, model, mixture)
            error = before.require(model)
    rows = {f"{path}.router.weight": count for path, count in counts.items()}
    return Extended(model, rows, None, error or 0.0, optimizers, given[0], before.skipped)


def _bad(why: str, advice: str) -> GrowthError:
    return GrowthError("bad-experts", f"{why}; {advice}")


def _matched(model: nn.Module, layers: Mapping[str, int], top_k: int) -> dict[str, int]:
    """The layers by their paths; one that lies in another one that is named is left out."""
    found: dict[str, int] = {}
    for pattern, count in layers.items():
        if count < top_k:
            why = f"{pattern!r} would have {count} experts, less than top_k={top_k}"
            raise _bad(why, "ask for more, or send tokens to fewer")
        paths = [path for path, _ in model.named_modules() if path and fnmatchcase(path, pattern)]
        if not paths:
            raise _bad(
                f"{type(model).__name__} has no layer {pattern!r}", "name one by its path, or all "
                "of a kind by a pattern, as in 'model.layers.*.mlp'"
            )  # fmt: skip
        found |= dict.fromkeys(paths, count)
    if not found:
        raise BudgetError("empty-budget", "no layer is to become a mixture; name at least one")
    outer = {}
    for path, count in found.items():
        if not any(path.startswith(f"{other}.") for other in found):
            outer[path] = count
    return outer


def _features(
    model: nn.Module, paths: Sequence[str], examples: Sequence[tuple[Any, ...]]
) -> dict[str, int]:
    """How many features a token has where each layer reads it."""
    calls: dict[str, tuple[tuple[Any, ...], Any]] = {}
    what, advice = f"{type(model).__name__} does not run", "give inputs that its forward takes"
    with evaluation_mode(model), preserve_state(model), torch.no_grad():
        for path in paths:
            # Bound now, as the loop goes on.
            model.get_submodule(path).register_forward_hook(
                lambda _, arguments, output, path=path: calls.update({path: (arguments, output)})
            )
        with errors_as(ModelError, "does-not-run", what, advice):
            for inputs in examples:
                model(*inputs)
        sizes = {}
        for path in paths:
            layer = model.get_submodule(path)
            if path not in calls or not _is_by_token(layer, *calls[path]):
                what = f"{type(layer).__name__} at {path!r} is no function of each token"
                raise _bad(f"{what} that the example inputs reach", "name an MLP")
            sizes[path] = calls[path][0][0].shape[-1]
    return sizes


def _is_by_token(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> bool:
    """Whether a layer gives one tensor, and the same if its tokens come in one row."""
    is_plain = len(arguments) == 1 and isinstance(arguments[0], Tensor)
    if not is_plain or not isinstance(output, Tensor) or not output.dim():
        return False
    try:
        again = layer(arguments[0].reshape(-1, arguments[0].shape[-1]))
    except Exception:  # noqa: BLE001 - a layer of something else may raise anything
        return False
    if not isinstance(again, Tensor) or again.numel() != output.numel():
        return False
    return relative_error(again.reshape(output.shape), output) <= _BY_TOKEN


def _mixture(
    layer: nn.Module, features: int, count: int, top_k: int, generator: torch.Generator
) -> MixtureOfExperts:
    """A layer and copies of it, with a router."""
    like = next(iter(layer.parameters()), torch.zeros(()))
    router = nn.Linear(features, count, bias=False).to(like)
    with torch.no_grad():
        # As large as torch draws a linear layer, and the same numbers for every type and device.
        values = torch.randn(count, features, generator=generator, dtype=torch.float64)
        router.weight.copy_(values.mul(features**-0.5))
    experts = [layer, *(copy_module(layer) for _ in range(count - 1))]
    mixture = MixtureOfExperts(experts, router, top_k)
    mixture.training = router.training = layer.training
    return mixture


def _join(optimizers: Optimizers, model: nn.Module, mixture: MixtureOfExperts) -> None:
    """Put new parameters into the groups of those of the layer."""
    layer = mixture.experts[0]
    new: list[tuple[nn.Parameter, Iterable[nn.Parameter]]] = []
    for expert in mixture.experts[1:]:
        new += copies_of(layer, dict(expert.named_parameters()))
    new.append((mixture.router.get_parameter("weight"), layer.parameters()))
    join_groups(optimizers, model, new)


def _require_memory(model: nn.Module, counts: Mapping[str, int]) -> None:
    needed = 0  # bytes
    for path, count in counts.items():
        for tensor in model.get_submodule(path).parameters():
            needed += (count - 1) * tensor.numel() * tensor.element_size()
    require_memory(needed, "so many experts", "ask for fewer", BudgetError, device_of(model))
