"""The optimizers of one model: in which form they are given, and which of them takes what is new.

Many recipes train the matrices of hidden layers by Muon and all the rest by AdamW, so a model has a
sequence of optimizers. One alone is a sequence of one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from torch import Tensor, nn
from torch.optim import Muon, Optimizer

from fxgrow.argument_checks import Satisfies
from fxgrow.errors import GrowthError
from fxgrow.surgery.entry_ages import OptimizerGroup, insert_parameter

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
    old_names = group.get("param_names")
    insert_parameter(group, position, parameter)
    if old_names is not None:  # torch keeps them where it was given names
        group["param_names"] = _renamed(group, position, old_names, names)


def _renamed(
    group: OptimizerGroup, position: int, old_names: Sequence[str], names: Mapping[int, str]
) -> list[str]:
    """The names in a group, after blocks behind a new one got other numbers.

    They may be those of a larger module, with a prefix.
    """
    with_new = [*old_names[:position], "", *old_names[position:]]
    pairs = list(zip(group["params"], with_new, strict=True))
    prefixes = [_prefix(old, names[id(held)]) for held, old in pairs if old and id(held) in names]
    prefix = next((found for found in prefixes if found is not None), "")
    return [prefix + names[id(held)] if id(held) in names else old for held, old in pairs]


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
