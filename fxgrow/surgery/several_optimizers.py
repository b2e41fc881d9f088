"""The optimizers of one model: in which form they are given, and which of them takes what is new.

Many recipes train the matrices of hidden layers by Muon and all the rest by AdamW, so a model has a
sequence of optimizers. One alone is a sequence of one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from torch import Tensor, nn
from torch.optim import Muon, Optimizer

from fxgrow.argument_types import Satisfies
from fxgrow.errors import GrowthError
from fxgrow.surgery.entry_ages import arrange_parameters
from fxgrow.surgery.entrywise import OptimizerGroup

GivenOptimizers = (
    Optimizer | Annotated[Sequence[Optimizer], Satisfies("that is not empty", bool)] | None
)
"""The optimizer of a model, or the list of those that share its parameters out; None for none."""

Optimizers = tuple[Optimizer, ...]
"""The optimizers that grow along; empty for none."""


def listed_optimizers(given: GivenOptimizers) -> Optimizers:
    """The optimizers that somebody gave, in the order in which they were given."""
    if given is None:
        return ()
    return (given,) if isinstance(given, Optimizer) else tuple(given)


def only_optimizer(optimizers: Sequence[Optimizer]) -> Optimizer | None:
    """The optimizer where there is one at most.

    Raises:
        GrowthError: ``several-optimizers``: none of them is the optimizer.
    """
    if len(optimizers) > 1:
        raise GrowthError(
            "several-optimizers",
            f"{_kinds(optimizers)} grow along, so none of them alone is the optimizer; "
            "take optimizers, which has all in their order",
        )
    return optimizers[0] if optimizers else None


class WithOptimizers:
    """A result that says which optimizers train it."""

    optimizers: Optimizers

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer if one was given; None for none.

        Raises:
            GrowthError: ``several-optimizers``: ``optimizers`` has all that were given.
        """
        return only_optimizer(self.optimizers)


def require_shared_out(optimizers: Sequence[Optimizer], model: nn.Module) -> None:
    """Check that several optimizers share the parameters of a model out among each other.

    One alone may leave out what it does not train. Who names several means all that there are, and
    one that was forgotten would keep state of the old shapes.

    Args:
        optimizers: may hold parameters of other modules, too.
        model: the model that is to grow.

    Raises:
        GrowthError: ``shared-parameter`` if two of them hold a parameter, ``missing-optimizer`` if
            none holds one that learns.
    """
    if len(optimizers) < 2:
        return
    holders: dict[int, list[Optimizer]] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                holders.setdefault(id(parameter), []).append(optimizer)
    for name, parameter in model.named_parameters():
        held_by = holders.get(id(parameter), [])
        if len(held_by) > 1:
            raise GrowthError(
                "shared-parameter",
                f"{name!r} is in {_kinds(held_by)}, which would both step what grows of it; give "
                "each parameter to one optimizer",
            )
        if not held_by and parameter.requires_grad:
            raise GrowthError(
                "missing-optimizer",
                f"{name!r} is in none of {_kinds(optimizers)}, so what grows of it would not be "
                "trained by them; name the optimizer that has it as well, give it to one of these, "
                "or set its requires_grad to False",
            )


def _kinds(optimizers: Iterable[Optimizer]) -> str:
    return " and ".join(type(optimizer).__name__ for optimizer in optimizers)


def join_groups(
    optimizers: Sequence[Optimizer],
    model: nn.Module,
    new: Iterable[tuple[nn.Parameter, Iterable[Tensor]]],
) -> None:
    """Put new parameters into the groups of their neighbors, wherever these are.

    Matrices, kernels and biases are often grouped apart (Muon takes matrices alone, biases are
    seldom decayed), so it is the nearest neighbor with as many dimensions that counts; where there
    is none, the nearest of all.

    Args:
        optimizers: are changed. A new parameter gets the place in its group that the model gives
            it: ``state_dict`` numbers parameters by their places, and an optimizer that is made for
            the grown model has them in the model's order.
        model: the model that has grown.
        new: each new parameter with its neighbors, the nearest first. What no optimizer trains is
            no neighbor; a parameter with no other neighbors is left out as well.

    Raises:
        GrowthError: ``optimizer-state``: the only optimizer near cannot train it.
    """
    places: dict[int, tuple[Optimizer, OptimizerGroup]] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for held in group["params"]:
                places[id(held)] = optimizer, group
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, neighbors in new:
        trained = [neighbor for neighbor in neighbors if id(neighbor) in places]
        alike = [neighbor for neighbor in trained if neighbor.dim() == parameter.dim()]
        for nearest in (alike or trained)[:1]:
            optimizer, group = places[id(nearest)]
            _require_trainable(optimizer, parameter)
            _insert(group, parameter, names)


def _require_trainable(optimizer: Optimizer, parameter: nn.Parameter) -> None:
    if isinstance(optimizer, Muon) and parameter.dim() != 2:
        raise GrowthError(
            "optimizer-state",
            f"a new parameter of shape {tuple(parameter.shape)} has Muon alone for a neighbor, and "
            "Muon takes matrices; give an optimizer of biases and kernels beside it, or insert no "
            "layers",
        )


def _insert(group: OptimizerGroup, parameter: nn.Parameter, names: Mapping[int, str]) -> None:
    """Put a parameter behind the one of its group that the model has before it."""
    order = {number: place for place, number in enumerate(names)}
    own, before, after = order[id(parameter)], [], []
    for position, held in enumerate(group["params"]):
        place = order.get(id(held), own)  # parameters of other modules are neither
        before += [(place, position + 1)] if place < own else []
        after += [(place, position)] if place > own else []
    last = len(group["params"])
    position = max(before)[1] if before else min(after)[1] if after else last
    _arrange(group, [*group["params"][:position], parameter, *group["params"][position:]], names)


def sort_groups(optimizers: Iterable[Optimizer], model: nn.Module) -> None:
    """Put the parameters of a model into the order of the model, group by group.

    Args:
        optimizers: are changed. Parameters of other modules keep their places.
        model: has become another module, with its parameters in another order.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    order = {number: place for place, number in enumerate(names)}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            own = [held for held in group["params"] if id(held) in order]
            in_order = iter(sorted(own, key=lambda held: order[id(held)]))
            arranged = []
            for held in group["params"]:
                arranged.append(next(in_order) if id(held) in order else held)
            _arrange(group, arranged, names)


def _arrange(group: OptimizerGroup, parameters: Sequence[Tensor], names: Mapping[int, str]) -> None:
    """Give a group its parameters in another order; names follow, where torch was given them.

    These may be the names of a larger module, with a prefix, and of blocks that have other numbers
    by now.
    """
    old_names: dict[int, str] = {}
    for held, old in zip(group["params"], group.get("param_names", ()), strict=False):
        old_names[id(held)] = old
    arrange_parameters(group, parameters)
    if "param_names" not in group:
        return
    prefixes = [_prefix(old, names[held]) for held, old in old_names.items() if held in names]
    prefix = next((found for found in prefixes if found is not None), "")
    renamed = []
    for held in parameters:
        is_own = id(held) in names
        renamed.append(prefix + names[id(held)] if is_own else old_names[id(held)])
    group["param_names"] = renamed


def _prefix(old: str, name: str) -> str | None:
    """What stands before a name in a larger module; None if it is no such name.

    Numbers of blocks may be other ones by now.
    """
    old_parts, parts = old.split("."), name.split(".")
    extra = len(old_parts) - len(parts)
    if extra < 0:
        return None
    for before, after in zip(old_parts[extra:], parts, strict=True):
        if before != after and not (before.isdigit() and after.isdigit()):
            return None
    return "".join(f"{part}." for part in old_parts[:extra])
