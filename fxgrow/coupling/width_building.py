"""From neurons to widths: those with the same sites are grouped, named and ordered."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from fxgrow.coupling.channel_order import ChannelOrder, channel_order
from fxgrow.coupling.context import Context, Observed
from fxgrow.coupling.fixed_axes import fixed_axes
from fxgrow.coupling.keys import AnyAxisKey, AxisKey, WidthId
from fxgrow.coupling.labels import FIXED, Bools, Ints, concatenated
from fxgrow.coupling.neuron_classes import NeuronClasses
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.size_numbers import SizeAttributeGuess
from fxgrow.coupling.values import Axis, Role
from fxgrow.coupling.widths import Coupling, NodeShape, Owners, Site, SizeAttribute, Width
from fxgrow.errors import Refusal
from fxgrow.surgery import named_tensors

REFUSAL_PRECEDENCE = (Role.READS, Role.WRITES, Role.CARRIES)
"""An axis that reads neurons somewhere is a reader: splitting must halve it."""


@dataclass(frozen=True, eq=False)
class Workarounds:
    """What is assumed so that more can grow.

    Args:
        attributes: attributes of modules that follow their neurons.
        mixed: labels of neurons whose order is found by a run of the grown model.
        tied: axes of widths whose growth knows what an axis does that both writes and reads one.
    """

    attributes: tuple[SizeAttributeGuess, ...] = ()
    mixed: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    tied: frozenset[AxisKey] = frozenset()


@dataclass(frozen=True, eq=False)
class _Numbering:
    """Which width each class of neurons went to.

    ``width[class]``: the number of the width (-1: none); ``neuron[class]``: its place there.
    """

    classes: NeuronClasses
    width: Ints
    neuron: Ints

    def owners(self, labels: Ints) -> Owners:
        """Who owns the labels of an axis."""
        of = self.classes.of[labels]
        return Owners(self.width[of], self.neuron[of])

    def widths(self, labels: Ints) -> frozenset[WidthId]:
        """The numbers of the widths of these labels."""
        numbers = np.unique(self.width[self.classes.of[labels[labels != FIXED]]])
        return frozenset(WidthId(number) for number in numbers[numbers >= 0].tolist())

    def grid_dims(self, grids: Iterable[Ints]) -> dict[int, frozenset[int]]:
        """The dimensions of arrays of labels along which one neuron of a width follows another."""
        found: dict[int, frozenset[int]] = {}
        for labels in grids:
            owners = self.owners(labels)
            for dim in range(labels.ndim):
                width = owners.width.take(range(1, labels.shape[dim]), dim)
                is_same = (np.diff(owners.width, axis=dim) == 0) & (width >= 0)
                follows = is_same & (np.diff(owners.neuron, axis=dim) != 0)
                for number in np.unique(width[follows]).tolist():
                    found[number] = found.get(number, frozenset()) | {dim}
        return found


def build_widths(
    ctx: Context,
    classes: NeuronClasses,
    patterns: Patterns,
    subject: Observed,
    workarounds: Workarounds,
) -> Coupling:
    """Group the neurons with the same sites into widths, and name and order them.

    Args:
        ctx: what was observed.
        classes: the neurons.
        patterns: what the user wants left alone.
        subject: the model.
        workarounds: what is assumed so that more can grow.

    Returns:
        The widths, and what follows from them.
    """
    axes = [axis for axis in ctx.axes if axis.key in ctx.roles]
    drafts = _drafts(ctx, axes, classes, _same_sites(axes, classes))
    widths = _widths(drafts, classes, patterns, workarounds.tied)
    numbering = _numbering(drafts, classes)
    owners: dict[AnyAxisKey, Owners] = {}
    for axis in axes:
        axis_owners = numbering.owners(axis.labels)
        if (axis_owners.width >= 0).any():
            owners[axis.key] = axis_owners
    shapes = {}
    for node, shape in ctx.shapes.items():
        shapes[node] = NodeShape(*shape, numbering.grid_dims(ctx.node_grids.get(node, ())))
    owned: dict[AnyAxisKey, Bools] = {key: own.width >= 0 for key, own in owners.items()}
    return Coupling(
        widths,
        owners,
        reads=_widths_by_node(numbering, _joined(ctx.reads)),
        writes=_widths_by_node(numbering, _joined(ctx.writes)),
        carries=_widths_by_node(numbering, ctx.carried),
        attributes=size_attributes(numbering.width, widths, workarounds.attributes, classes),
        replay=_replay(ctx, numbering, subject, workarounds.mixed),
        shapes=shapes,
        fixed_axes=fixed_axes(
            ctx.axes, owned, classes.refusal, named_tensors(subject.model), set(ctx.roles)
        ),
    )


def width_of_class(
    ctx: Context, classes: NeuronClasses, owners: Mapping[AnyAxisKey, Owners]
) -> Ints:
    """The number of the width of each class; -1: none.

    Args:
        ctx: what was observed.
        classes: the neurons.
        owners: who owns each index of each axis.

    Returns:
        The numbers, by class.
    """
    width: Ints = np.full(len(classes.blame), -1)
    for axis in ctx.axes:
        of_axis = owners.get(axis.key)
        if of_axis is not None:
            known = of_axis.width >= 0
            width[classes.of[axis.labels[known]]] = of_axis.width[known]
    return width


def _widths(
    drafts: Sequence["WidthDraft"],
    classes: NeuronClasses,
    patterns: Patterns,
    tied: Set[AxisKey],
) -> tuple[Width, ...]:
    names = _names([draft.stem for draft in drafts])
    widths = []
    for draft, name in zip(drafts, names, strict=True):
        # What the model forbids is told before what the user does not want.
        refusal = _refusal(draft, classes, tied) or patterns.refusal(*_touched(draft))
        widths.append(Width(name, len(draft.neurons), draft.granule, draft.sites, refusal))
    return tuple(widths)


def _numbering(drafts: Sequence["WidthDraft"], classes: NeuronClasses) -> _Numbering:
    width = np.full(len(classes.blame), -1)
    neuron = np.full(len(classes.blame), -1)
    for number, draft in enumerate(drafts):
        width[draft.neurons] = number
        neuron[draft.neurons] = np.arange(len(draft.neurons))
    return _Numbering(classes, width, neuron)


def _joined(labels: Mapping[str, Sequence[Ints]]) -> dict[str, Ints]:
    return {node: np.concatenate(arrays) for node, arrays in labels.items() if arrays}


def _widths_by_node(
    numbering: _Numbering, labels: Mapping[str, Ints]
) -> dict[str, frozenset[WidthId]]:
    return {node: numbering.widths(array) for node, array in labels.items()}


def _replay(
    ctx: Context, numbering: _Numbering, subject: Observed, mixed: Ints
) -> ChannelOrder | None:
    """How to find the order of all widths that some of the labels ``mixed`` belong to."""
    of = numbering.classes.of
    numbers = np.unique(numbering.width[of[mixed]])
    shuffled = frozenset(WidthId(number) for number in numbers[numbers >= 0].tolist())
    if not shuffled:
        return None
    neurons = np.flatnonzero(np.isin(numbering.width, list(shuffled)))  # all their classes
    directions = {}
    for grid, direction in numbering.classes.decision.chosen.items():
        if np.isin(of[ctx.grids[grid].joint], neurons).any():
            directions[grid] = direction
    return channel_order(ctx, subject, shuffled, neurons, directions)


def size_attributes(
    width_of: Ints,
    widths: Sequence[Width],
    guesses: Sequence[SizeAttributeGuess],
    classes: NeuronClasses,
) -> tuple[SizeAttribute, ...]:
    """The attributes that follow widths.

    Args:
        width_of: the number of the width of each class (-1: none).
        widths: the widths.
        guesses: which attributes count which labels.
        classes: the neurons.

    Returns:
        The attributes that count every neuron of a width equally often.
    """
    attributes = []
    for guess in guesses:
        numbers = width_of[classes.of[guess.labels]]
        found, counts = np.unique(numbers[numbers >= 0], return_counts=True)
        each = {}
        for number, count in zip(found.tolist(), counts.tolist(), strict=True):
            each[WidthId(number)], rest = divmod(count, widths[number].size)
            if rest:
                break
        else:
            value = len(guess.labels)
            attributes.append(SizeAttribute(guess.module, guess.name, guess.keys, value, each))
    return tuple(attributes)


def _same_sites(axes: Sequence[Axis], classes: NeuronClasses) -> Ints:
    """A group number per class (-1: on no axis).

    Classes that occur on the same axes equally often are one group. Every axis gets a random
    64-bit number and a class the sum of those of its places, so equal sums mean equal sites.
    """
    keys = np.random.default_rng(0).integers(1, 1 << 63, size=len(axes), dtype=np.uint64)
    sums = np.zeros(len(classes.blame), dtype=np.uint64)
    for axis, key in zip(axes, keys, strict=True):
        # Unlike ``+=`` this counts a class as often as it occurs on the axis.
        np.add.at(sums, classes.of[axis.labels], key)
    # Sum 0 (on no axis) is the smallest, so that its group is -1.
    # With few distinct sums a search is faster than return_inverse.
    groups: Ints = np.searchsorted(np.unique(sums), sums) - 1
    return groups


@dataclass(frozen=True, eq=False)
class WidthDraft:
    """A width in the making.

    Args:
        stem: the module that first writes it.
        neurons: its classes, in that module's order.
        sites: its sites.
        granule: how many rows of its writer one neuron owns.
        first: when its first writer runs, and its first row there.
        both: the parameters of which one axis both writes and reads it.
    """

    stem: str
    neurons: Ints
    sites: tuple[Site, ...]
    granule: int
    first: tuple[int, int]
    both: tuple[str, ...]


def _drafts(
    ctx: Context, axes: Sequence[Axis], classes: NeuronClasses, groups: Ints
) -> list[WidthDraft]:
    """One draft per group that some parameter writes or begins, in the order of the first of these.

    First is what runs first: so a model and its graph, which hold their parts in another order,
    agree on the names.
    """
    # What begins neurons comes behind what writes some, in the order in which it is met.
    order = {
        **{key: len(ctx.writers) + place for place, key in enumerate(ctx.roles)},
        **ctx.writers,
    }
    drafts = []
    for group, group_axes in _axes_by_group(axes, classes, groups).items():
        writers = [axis for axis in group_axes if axis.key in ctx.writers]
        sources = writers or _beginners(ctx, group_axes)
        if not sources:
            continue
        source = min(sources, key=lambda axis: order[axis.key])
        draft = _draft(ctx, source, order[source.key], group_axes, classes, groups, group)
        # A norm of the inputs begins neurons as well, but those are listed as axes in no width.
        if writers or not (classes.blame[draft.neurons] >= 0).any():
            drafts.append(draft)
    return sorted(drafts, key=lambda draft: draft.first)


def _beginners(ctx: Context, axes: Sequence[Axis]) -> list[Axis]:
    """The learned parameters that neurons begin at which no layer writes: centers, frequencies."""
    roles = [ctx.roles.get(axis.key, set()) for axis in axes]
    if not any(Role.READS in one for one in roles):
        return []
    pairs = zip(axes, roles, strict=True)
    return [axis for axis, one in pairs if one == {Role.CARRIES} and not axis.constant]


def _axes_by_group(
    axes: Sequence[Axis], classes: NeuronClasses, groups: Ints
) -> dict[int, list[Axis]]:
    by_group: dict[int, list[Axis]] = {}
    for axis in axes:
        for group in np.unique(groups[classes.of[axis.labels]]).tolist():
            by_group.setdefault(group, []).append(axis)
    return by_group


def _draft(
    ctx: Context,
    source: Axis,
    place: int,
    axes: Sequence[Axis],
    classes: NeuronClasses,
    groups: Ints,
    group: int,
) -> WidthDraft:
    """The draft of one group, in the order in which its neurons first occur at their source."""
    along = classes.of[source.labels]
    rows = np.flatnonzero(groups[along] == group)
    _, first_occurrence = np.unique(along[rows], return_index=True)
    neurons = along[rows[np.sort(first_occurrence)]]  # in the order of rows, not of classes
    sites, both = [], []
    for axis in axes:
        roles = _roles(ctx, axis, classes, neurons)
        sites.append(Site(axis.parameter, axis.axis, _role(roles)))
        if {Role.READS, Role.WRITES} <= roles:
            both.append(axis.parameter)
    first = (place, int(rows[0]))
    granule = len(rows) // len(neurons)
    stem = _stem(source.parameter)
    return WidthDraft(stem, neurons, tuple(sites), granule, first, tuple(both))


def _roles(ctx: Context, axis: Axis, classes: NeuronClasses, neurons: Ints) -> set[Role]:
    """What an axis does to neurons: it reads a grid only if that grows along what is summed.

    The keys of attention are summed over along the size of a head, which reads no heads.
    """
    roles = ctx.roles[axis.key]
    if Role.READS not in roles or axis.key in ctx.read or axis.key not in ctx.read_lines:
        return roles
    lines = concatenated(ctx.read_lines[axis.key])
    is_read = np.isin(classes.of[lines[lines != FIXED]], neurons).any()
    return roles if is_read else roles - {Role.READS}


def _stem(parameter: str) -> str:
    """The path of the module that owns a parameter; its name if that is the model itself.

    ``conv.parametrizations.weight.original0`` is a parameter of ``conv``.
    """
    owner, parametrized, _ = parameter.partition(".parametrizations.")
    if not parametrized:
        owner = parameter.rpartition(".")[0]
    return owner or parameter


def _role(roles: Set[Role]) -> Role:
    return next(role for role in REFUSAL_PRECEDENCE if role in roles)


def _names(stems: Sequence[str]) -> list[str]:
    """Name widths after the module that first writes them; a second one of it gets ``#2``."""
    seen: dict[str, int] = {}
    names = []
    for stem in stems:
        seen[stem] = seen.get(stem, 0) + 1
        names.append(stem if seen[stem] == 1 else f"{stem}#{seen[stem]}")
    return names


def _touched(draft: WidthDraft) -> tuple[list[str], list[str], list[str]]:
    """The parameters of a width, those that write it, and those that read it."""
    touched = [site.parameter for site in draft.sites]
    written = [site.parameter for site in draft.sites if site.role is Role.WRITES]
    written += draft.both  # a tied embedding counts as a reader, and writes as well
    read = [site.parameter for site in draft.sites if site.role is Role.READS]
    return touched, written, read


def _refusal(draft: WidthDraft, classes: NeuronClasses, tied: Set[AxisKey]) -> Refusal | None:
    """Why a width cannot grow: a pin of one of its neurons, or what its parameters do."""
    # One refused neuron refuses its width, since all have the same sites.
    blamed = classes.blame[draft.neurons]
    if (blamed >= 0).any():
        return classes.refusals[int(blamed[blamed >= 0][0])]
    if draft.both and any(site.key not in tied for site in draft.sites):
        return Refusal("tied-role", "one axis both writes and reads it", draft.both)
    if all(site.role is not Role.READS for site in draft.sites):
        return Refusal("unread", "no parameter reads it", (draft.stem,))
    return None
