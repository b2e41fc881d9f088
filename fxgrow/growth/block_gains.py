"""Which places of new blocks promise most, by the gain of one first-order step.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Eq. 5, where
the score of a candidate is how much the loss falls within its neighborhood, to first order. A
candidate is a copy of an old block behind it that is the identity. All of them are put into one
copy of the model, which computes what the model does, and one backward pass gives the gradient G_W
of the loss by every parameter W that is constant in a copy (``block_identity``). A step that moves
W by r ||W_old - W||, with r the share of the way back to the original, lowers the loss by

    gain = r sum_W ||W_old - W|| ||G_W||.

How we differ: candidates are whole blocks; nothing is relaxed. What is bought starts as the
identity, so that no step has to be halved and the function is kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.capture import direct_tensors
from fxgrow.copying import copy_module
from fxgrow.errors import BudgetError, GrowthError
from fxgrow.growth.block_insertion import (
    Zeros,
    insert_all,
    require_block_memory,
    solved,
    traced,
    update_depth_config,
)
from fxgrow.growth.block_lists import (
    BlockLayout,
    block_list,
    layout_of,
    order_after,
    own_parameters,
)
from fxgrow.growth.block_orders import BlockPlaces, bad_blocks, require_apart
from fxgrow.growth.block_reach import require_reached
from fxgrow.growth.budget import Budget
from fxgrow.growth.objective import Objective, gradients_of
from fxgrow.growth.preservation import Preservation
from fxgrow.modes import evaluation_mode

STEP_SHARE = 0.1
"""r: how far a step goes, relative to the distance between a copy and its original."""


@dataclass(frozen=True)
class BlockCandidate:
    """A copy of a block behind it.

    Args:
        blocks: the path of the list.
        number: the block.
        path: its path.
        gain: by how much one step lowers the loss, to first order.
        parameters: how many elements a copy adds to the model.
    """

    blocks: str
    number: int
    path: str
    gain: float
    parameters: int


def placed_by_gain(
    model: nn.Module,
    most: Mapping[str, int | Sequence[int]],
    budget: Budget | None,
    examples: Sequence[tuple[Any, ...]],
    objective: Objective,
) -> BlockPlaces:
    """The longer lists with copies behind the blocks where they promise most.

    Args:
        model: is left as it is.
        most: by the path of a list how many blocks it may get.
        budget: limits blocks (``layers``) and ``parameters`` of all lists together; None: no limit.
        examples: positional arguments of the model.
        objective: the loss on the growth batches.

    Raises:
        GrowthError: ``bad-blocks`` if a list cannot get so many, ``not-residual`` if no block can
            be made the identity.
        BudgetError: ``bad-budget`` for other limits, ``empty-budget`` if nothing can be bought.
    """
    _require_limits(budget)
    layouts, counts = [], {}
    for path, count in most.items():
        if not isinstance(count, int):
            raise bad_blocks(f"the places of {path!r} are chosen by gain", "give their number")
        found = block_list(model, path)
        length = len(found._modules)
        if count > length:
            message = f"{path!r} has {length} blocks, so {count} have no places by gain"
            raise bad_blocks(message, f"ask for {length} at most, and then again")
        counts[path] = count
        if count:
            layouts.append(layout_of(found, path, order_after(length, range(length))))
    require_apart(layouts)
    candidates = block_candidates(model, layouts, examples, objective)
    if budget is None:  # else numbers of blocks are limits, and fewer may be bought
        _require_enough(candidates, counts)
    chosen = _bought(candidates, counts, budget, model)
    numbers: dict[str, list[int]] = {}
    for candidate in chosen:
        numbers.setdefault(candidate.blocks, []).append(candidate.number)
    longer = []
    for path, places in numbers.items():
        found = block_list(model, path)
        order = order_after(len(found._modules), sorted(places))
        longer.append(layout_of(found, path, order))
    return BlockPlaces(tuple(longer), {each.path: each.gain for each in candidates})


def block_candidates(
    model: nn.Module,
    layouts: Sequence[BlockLayout],
    examples: Sequence[tuple[Any, ...]],
    objective: Objective,
    share: float = STEP_SHARE,
) -> list[BlockCandidate]:
    """Score a copy behind each block that has one; those that nothing makes the identity have none.

    Args:
        model: is left as it is.
        layouts: of lists with a copy behind each block.
        examples: positional arguments of the model.
        objective: the loss on the growth batches.
        share: how far the step goes, relative to the distance between a copy and its original.

    Raises:
        GrowthError: ``not-residual`` if there is no candidate, ``unreached-blocks``, ``bad-loss``.
    """
    zeros = solved(model, traced(model, layouts, examples))
    layouts = [_without(model, layout, zeros) for layout in layouts]
    # A copy of its own: all candidates at once are more blocks than are bought.
    deeper = deeper_copy(model, layouts, zeros, examples).requires_grad_(requires_grad=False)
    constants: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for layout in layouts:
        for new, old in layout.new_blocks.items():
            constants[old] = list(_constants(deeper, model, new, old, zeros))
    gradients = _mean_gradients(deeper, objective, constants)
    found = []
    for layout in layouts:
        for (new, old), number in zip(layout.new_blocks.items(), layout.copied, strict=True):
            own = own_parameters(deeper.get_submodule(new), model.get_submodule(old))
            size = sum(parameter.numel() for parameter in own.values())
            gain = share * _slope(constants[old], gradients)
            found.append(BlockCandidate(layout.path, number, old, gain, size))
    return found


def deeper_copy(
    model: nn.Module,
    layouts: Sequence[BlockLayout],
    zeros: Zeros,
    examples: Sequence[tuple[Any, ...]],
) -> nn.Module:
    """A deeper copy of a model that runs all of its new blocks.

    Args:
        model: is left as it is.
        layouts: the longer lists.
        zeros: what makes the copies the identity; none: whole copies, which are only counted.
        examples: positional arguments of the model.

    Raises:
        GrowthError: ``unreached-blocks``.
    """
    require_block_memory(model, layouts)
    deeper: nn.Module = copy_module(model)
    before = Preservation.of(model, *examples, leaves=direct_tensors)
    insert_all(deeper, layouts, zeros)
    # Some models allocate by the number of blocks in their config (a cache of keys and values).
    update_depth_config(deeper, layouts, before, exact=bool(zeros))
    require_reached(deeper, layouts, examples)
    return deeper


def _without(model: nn.Module, layout: BlockLayout, zeros: Zeros) -> BlockLayout:
    """A layout without copies of blocks that nothing makes the identity, or that cannot learn."""
    kept = []
    for number in layout.copied:
        path = layout.old_path(number)
        block = model.get_submodule(path)
        # A copy of what is frozen is frozen, and would stay the identity for ever.
        if any(block.get_parameter(name).requires_grad for name in zeros.get(path, {})):
            kept.append(number)
    if not kept:
        raise GrowthError(
            "not-residual",
            f"no block of {layout.path!r} becomes the identity by zeros that learn (a norm follows "
            "each addition: post-norm, say, or all are frozen); leave this list out",
        )
    length = len(layout.old_names)
    return layout_of(block_list(model, layout.path), layout.path, order_after(length, kept))


def _constants(
    deeper: nn.Module, model: nn.Module, new: str, old: str, zeros: Zeros
) -> Iterator[tuple[Tensor, Tensor]]:
    """The constant parameters of a copy that are to learn, each with its original."""
    for name in zeros[old]:
        parameter = deeper.get_submodule(new).get_parameter(name)
        original = model.get_submodule(old).get_parameter(name)
        if original.requires_grad:
            yield parameter.requires_grad_(), original.detach()


def _mean_gradients(
    deeper: nn.Module,
    objective: Objective,
    constants: Mapping[str, Sequence[tuple[Tensor, Tensor]]],
) -> dict[int, Tensor]:
    """The gradient of the loss by each constant parameter, by its ``id``."""
    learning = [parameter for pairs in constants.values() for parameter, _ in pairs]
    means = [torch.zeros_like(parameter) for parameter in learning]
    # The loss is the mean over examples, of which batches may have different numbers.
    sizes = objective.sizes
    total_size = objective.ranks.total(sum(sizes))
    objective.require_safe_kernels(deeper)
    with evaluation_mode(deeper), torch.enable_grad():
        for batch, size in zip(objective.batches, sizes, strict=True):
            loss = objective.on(deeper, batch)
            # A gradient penalty may not reach all of them.
            gradients = gradients_of(loss, learning, allow_unused=True, materialize_grads=True)
            for mean, gradient in zip(means, gradients, strict=True):
                mean += gradient.detach() * (size / total_size)
    means = objective.ranks.sums(means)
    return {id(parameter): mean for parameter, mean in zip(learning, means, strict=True)}


def _slope(pairs: Sequence[tuple[Tensor, Tensor]], gradients: Mapping[int, Tensor]) -> float:
    """The sum over W of ||W_old - W|| ||G_W||."""
    total = 0.0
    for parameter, original in pairs:
        distance = (original - parameter.detach()).norm()
        total += float(distance * gradients[id(parameter)].norm())
    return total


def _require_limits(budget: Budget | None) -> None:
    if budget is None:
        return
    other = budget.amounts.keys() - {"parameters"}
    if other or budget.per_width is not None or budget.round_to != 1:
        raise BudgetError(
            "bad-budget",
            "a budget of blocks limits parameters and layers (blocks) alone; leave the rest out",
        )


def _require_enough(candidates: Sequence[BlockCandidate], most: Mapping[str, int]) -> None:
    """Check that each list has as many places as it is to get blocks."""
    for path, count in most.items():
        places = sum(candidate.blocks == path for candidate in candidates)
        if places < count:
            raise bad_blocks(
                f"{path!r} has {places} blocks whose copies can start as the identity, so {count} "
                "have no places by gain",
                f"ask for {places} at most, and then again",
            )


def _bought(
    candidates: Sequence[BlockCandidate],
    most: Mapping[str, int],
    budget: Budget | None,
    model: nn.Module,
) -> list[BlockCandidate]:
    """The best candidates that fit into every limit; by gain per parameter if these are limited."""
    amount = budget.parameters if budget is not None else None
    present = sum(parameter.numel() for parameter in model.parameters())
    limit = amount * present if isinstance(amount, float) else amount
    in_all = budget.layers if budget is not None else None

    def worth(candidate: BlockCandidate) -> float:
        return candidate.gain if limit is None else candidate.gain / max(candidate.parameters, 1)

    chosen: list[BlockCandidate] = []
    # A block that is too large is passed over, since a smaller one may still fit.
    for candidate in sorted(candidates, key=worth, reverse=True):
        spent = candidate.parameters + sum(each.parameters for each in chosen)
        in_list = sum(each.blocks == candidate.blocks for each in chosen)
        is_full = in_list >= most[candidate.blocks] or len(chosen) == in_all
        if not is_full and (limit is None or spent <= limit):
            chosen.append(candidate)
    if not chosen:
        cheapest = min(candidate.parameters for candidate in candidates)
        raise BudgetError(
            "empty-budget",
            f"no block fits into the budget: the smallest adds {cheapest} parameters; ask for more",
        )
    return chosen
