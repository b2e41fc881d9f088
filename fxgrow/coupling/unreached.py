"""Parameters that no example reaches: whether they may read or write a width that grows.

An expert without tokens, the head of another task, a method other than ``forward``: if such a
module reads a width that grows, it must grow along, or the model breaks on other inputs. What is
certain is followed: a module in a list of modules does what its siblings do, if two of them were
reached, have its parameters, and agree about what they read from and write to the outside.
Otherwise a width is refused if a parameter that no example reaches has its size, and lies where
the width's values can come.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import flat_labels
from fxgrow.coupling.labels import FIXED, Ints, Pin, components
from fxgrow.coupling.neuron_classes import NeuronClasses
from fxgrow.coupling.values import Axis
from fxgrow.coupling.width_building import width_of_class
from fxgrow.coupling.widths import Coupling, Unreached

REFUSED = "no example reaches %s, which has a size of it and may read it; pass examples= that do"
INSIDE = "no example reaches it; it follows %s where it meets other modules"

_CONTAINERS = (nn.ModuleList, nn.ModuleDict)
_NEEDED_SIBLINGS = 2
"""How many siblings must agree: of one alone nobody knows whether the next one comes after it."""


def unreached_parameters(ctx: Context) -> list[str]:
    """The names of the parameters that no run took, in the model's order."""
    names = dict.fromkeys(axis.parameter for axis in ctx.axes if not axis.constant)
    return [name for name in names if name not in ctx.reached]


def unreached_buffers(ctx: Context, model: nn.Module) -> list[str]:
    """The names of the buffers of real or complex numbers that no run took, in the model's order.

    Whole numbers are indices, which are not combined with neurons.
    """
    buffers = dict(model.named_buffers())
    names = dict.fromkeys(axis.parameter for axis in ctx.axes if axis.constant)
    unreached = []
    for name in names:
        buffer = buffers.get(name)
        is_number = buffer is not None and (buffer.is_floating_point() or buffer.is_complex())
        if is_number and name not in ctx.reached:
            unreached.append(name)
    return unreached


def follow_siblings(ctx: Context, model: nn.Module) -> dict[str, str]:
    """Couple modules that no example reaches as their siblings are.

    Args:
        ctx: what was observed; it learns what the modules do.
        model: the model.

    Returns:
        The sibling that each of these modules follows, by paths.
    """
    unreached = unreached_parameters(ctx)
    if not unreached:
        return {}
    modules = dict(model.named_modules())
    axes = _axes_by_parameter(ctx)
    base = components(ctx.labels.count, ctx.labels.pairs)
    holders = _holders(ctx, base)
    followed: dict[str, str] = {}
    for path in _members(modules, unreached):
        siblings = _reached_siblings(ctx, modules, path)
        agreement = _Agreement.of(axes, base, holders, path, siblings)
        if agreement is not None:
            agreement.carry_over(ctx)
            followed[path] = agreement.sibling
    return followed


def _axes_by_parameter(ctx: Context) -> dict[str, list[Axis]]:
    axes: dict[str, list[Axis]] = defaultdict(list)
    for axis in ctx.axes:
        axes[axis.parameter].append(axis)
    return axes


def _holders(ctx: Context, base: Ints) -> dict[int, set[str]]:
    """The parameters in which the neurons of each class lie."""
    holders: dict[int, set[str]] = defaultdict(set)
    for axis in ctx.axes:
        if axis.key in ctx.roles:
            for number in np.unique(base[axis.labels]).tolist():
                holders[number].add(axis.parameter)
    return holders


def _members(modules: Mapping[str, nn.Module], unreached: Sequence[str]) -> Iterator[str]:
    """The outermost members of lists of modules all of whose parameters are unreached."""
    found: set[str] = set()
    names = set(unreached)
    for parameter in unreached:
        parts = parameter.split(".")[:-1]
        for length in range(1, len(parts) + 1):
            path = ".".join(parts[:length])
            if isinstance(modules.get(".".join(parts[: length - 1])), _CONTAINERS):
                own = [f"{path}.{name}" for name, _ in modules[path].named_parameters()]
                # A member that was reached in part is no expert without tokens.
                if names.issuperset(own):
                    if path not in found:
                        found.add(path)
                        yield path
                    break


def _signature(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [(name, tuple(tensor.shape)) for name, tensor in tensors]


def _reached_siblings(ctx: Context, modules: Mapping[str, nn.Module], path: str) -> list[str]:
    """The members of the same list that were reached and have the same class and parameters."""
    container = path.rpartition(".")[0]
    wanted = _signature(modules[path])
    siblings = []
    for name, module in modules[container].named_children():
        sibling = f"{container}.{name}" if container else name
        parameters = {f"{sibling}.{parameter}" for parameter, _ in module.named_parameters()}
        # Alike means the same class and the same shapes, by name.
        is_alike = type(module) is type(modules[path]) and _signature(module) == wanted
        if sibling != path and is_alike and parameters <= ctx.reached:
            siblings.append(sibling)
    return siblings


@dataclass(frozen=True, eq=False)
class _Agreement:
    """What siblings agree about.

    Args:
        sibling: the one to follow.
        pairs: its axes, each with that of the module that follows.
        is_shared: for each pair which neurons lie outside of the sibling too.
        base: the class of each label.
    """

    sibling: str
    pairs: tuple[tuple[Axis, Axis], ...]
    is_shared: tuple[Ints, ...]
    base: Ints

    @staticmethod
    def of(
        axes: Mapping[str, Sequence[Axis]],
        base: Ints,
        holders: Mapping[int, set[str]],
        path: str,
        siblings: Sequence[str],
    ) -> "_Agreement | None":
        """Compare the siblings; None if there are too few, or some neuron is another in each."""
        if len(siblings) < _NEEDED_SIBLINGS:
            return None
        first = siblings[0]
        pairs: list[tuple[Axis, Axis]] = []
        shared = []
        for parameter in [name for name in axes if name.startswith(f"{path}.")]:
            for axis in axes[parameter]:
                # What all siblings share lies outside of them; the rest must lie inside.
                alike = [_same_axis(axes, axis, path, sibling) for sibling in siblings]
                classes = np.stack([base[one.labels] for one in alike])
                agree = (classes == classes[0]).all(0)
                inside = np.array([_is_inside(holders[c], first) for c in classes[0].tolist()])
                if not (agree | inside).all():
                    return None
                pairs.append((alike[0], axis))
                shared.append(agree)
        return _Agreement(first, tuple(pairs), tuple(shared), base)

    def carry_over(self, ctx: Context) -> None:
        """Unite what is shared, refuse what lies inside: no run shows that it grows rightly."""
        representatives: dict[int, int] = {}
        for (axis, follower), is_shared in zip(self.pairs, self.is_shared, strict=True):
            self._carry_roles(ctx, axis, follower)
            ctx.labels.unite(axis.labels[is_shared], follower.labels[is_shared])
            # Neurons inside: one class of the sibling becomes one class of the follower.
            own = follower.labels[~is_shared]
            classes = self.base[axis.labels[~is_shared]].tolist()
            firsts = []
            for number, label in zip(classes, own.tolist(), strict=True):
                firsts.append(representatives.setdefault(number, label))
            ctx.labels.unite(np.array(firsts, np.int64), own)
            ctx.labels.pin(own, "unreached", INSIDE % self.sibling, follower.parameter)

    def _carry_roles(self, ctx: Context, axis: Axis, follower: Axis) -> None:
        if axis.key in ctx.roles:
            ctx.roles[follower.key] = set(ctx.roles[axis.key])
        if axis.key in ctx.writers:
            ctx.writers.setdefault(follower.key, len(ctx.writers))


def _same_axis(axes: Mapping[str, Sequence[Axis]], axis: Axis, path: str, sibling: str) -> Axis:
    parameter = sibling + axis.parameter.removeprefix(path)
    return axes[parameter][axis.axis]


def _is_inside(parameters: set[str], module: str) -> bool:
    return all(name.startswith(f"{module}.") for name in parameters)


@dataclass(frozen=True)
class UnreachedReport:
    """What follows from parameters that no example reaches.

    Args:
        pins: refusals of widths that one of them may read.
        unreached: the modules, for the coupling.
    """

    pins: tuple[Pin, ...]
    unreached: tuple[Unreached, ...]


def check_unreached(
    ctx: Context,
    model: nn.Module,
    classes: NeuronClasses,
    coupling: Coupling,
    followed: Mapping[str, str],
) -> UnreachedReport:
    """Refuse the growable widths that a parameter or buffer may read which no example reaches.

    Args:
        ctx: what was observed.
        model: the model.
        classes: the neurons.
        coupling: the widths.
        followed: the modules that follow a sibling.

    Returns:
        The refusals, and the report.
    """
    by_module = _by_owner(ctx, model)
    sizes = _sizes_by_owner(ctx, by_module)
    if not by_module:
        return UnreachedReport((), ())
    of = width_of_class(ctx, classes, coupling.owners)
    places = _Places.gathered(ctx, coupling, classes, of)
    pins: list[Pin] = []
    touched: dict[str, list[str]] = defaultdict(list)
    for number, width in enumerate(coupling.widths):
        for owner in by_module:
            # A follower's part is certain, and a width that never comes near is not meant.
            if _follower(owner, followed) or not places.meets(number, owner, sizes[owner]):
                continue
            touched[owner].append(width.name)
            if width.growable:
                labels = np.flatnonzero(of[classes.of] == number)
                reason = REFUSED % by_module[owner][0]
                pins.append(Pin(labels[labels != FIXED], "unreached", reason, owner or "model"))
    buffers = set(unreached_buffers(ctx, model))
    reports = []
    for owner, parameters in by_module.items():
        # A table that nothing needs, and that no neuron comes near, is not worth a word.
        if touched[owner] or not buffers.issuperset(parameters):
            sibling = _follower(owner, followed)
            reports.append(Unreached(owner, tuple(parameters), tuple(touched[owner]), sibling))
    return UnreachedReport(tuple(pins), tuple(reports))


def _by_owner(ctx: Context, model: nn.Module) -> dict[str, list[str]]:
    """What no run took, by the module that owns it: there a value would arrive."""
    by_module: dict[str, list[str]] = defaultdict(list)
    for parameter in (*unreached_parameters(ctx), *unreached_buffers(ctx, model)):
        by_module[parameter.rpartition(".")[0]].append(parameter)
    return by_module


def _sizes_by_owner(ctx: Context, by_module: Mapping[str, list[str]]) -> dict[str, set[int]]:
    axes = _axes_by_parameter(ctx)
    sizes: dict[str, set[int]] = defaultdict(set)
    for owner, parameters in by_module.items():
        for parameter in parameters:
            sizes[owner].update(len(axis.labels) for axis in axes[parameter])
    return sizes


def _follower(owner: str, followed: Mapping[str, str]) -> str:
    """The sibling that a module follows, alone or with the module that it is a part of."""
    for path, sibling in followed.items():
        if owner == path or owner.startswith(f"{path}."):
            return sibling + owner.removeprefix(path)
    return ""


@dataclass(frozen=True)
class _Places:
    """Where the values of each width come, and with what sizes.

    Args:
        modules: by number of the width, the paths of the modules that handle its values.
        sizes: by number of the width, the sizes of dimensions that hold its neurons.
        entered: the paths of the modules that ran.
    """

    modules: Mapping[int, set[str]]
    sizes: Mapping[int, set[int]]
    entered: set[str]

    @staticmethod
    def gathered(ctx: Context, coupling: Coupling, classes: NeuronClasses, of: Ints) -> "_Places":
        """Gather the places of all widths; ``of``: the number of the width of each class."""
        modules: dict[int, set[str]] = defaultdict(set)
        sizes: dict[int, set[int]] = defaultdict(set)
        axis_sizes = {axis.key: len(axis.labels) for axis in ctx.axes}
        for number, width in enumerate(coupling.widths):
            modules[number] = {site.parameter.rpartition(".")[0] for site in width.sites}
            sizes[number] = {axis_sizes[site.key] for site in width.sites}
        for visible in ctx.visible:
            for support, field in visible.fields.items():
                labels = flat_labels(field)
                for number in np.unique(of[classes.of[labels[labels != FIXED]]]).tolist():
                    modules[number].add(visible.module)
                    sizes[number].update(field.shape[dim] for dim in support)
        return _Places(modules, sizes, ctx.entered | {""})

    def meets(self, number: int, owner: str, sizes: set[int]) -> bool:
        """Whether a width's values can come to a module that has one of its sizes."""
        # Only what the innermost module that ran handles can be passed on to one inside it.
        while owner not in self.entered:
            owner = owner.rpartition(".")[0]
        return owner in self.modules[number] and not self.sizes[number].isdisjoint(sizes)
