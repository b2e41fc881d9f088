"""From unions and pins to widths: ordered sets of neurons with the same sites."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fxgrow.argument_checks import checked
from fxgrow.coupling.channel_order import ChannelOrder, channel_order
from fxgrow.coupling.fixed_axes import FixedAxis, fixed_axes
from fxgrow.coupling.grids import Decision, Direction, decide
from fxgrow.coupling.keys import AnyAxisKey, AxisKey, WidthId
from fxgrow.coupling.labels import (
    FIXED,
    Bools,
    Ints,
    Pin,
    components,
    concatenated,
    touching_fixed,
)
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.site_rules import ScaledNumber, SiteRule
from fxgrow.coupling.size_numbers import SizeAttributeGuess
from fxgrow.coupling.values import Axis, Context, Observed, Role
from fxgrow.errors import Refusal
from fxgrow.surgery import named_tensors

if TYPE_CHECKING:
    import networkx as nx

REFUSAL_PRECEDENCE = (Role.READS, Role.WRITES, Role.CARRIES)
"""An axis that reads neurons somewhere is a reader: splitting must halve it."""

GRID = "seen as a grid that cannot grow along this direction"


@dataclass(frozen=True)
class Site:
    """One axis of one parameter or buffer, and what it does to the neurons along it.

    Args:
        parameter: name of the parameter or buffer in the user's own module.
        axis: the dimension.
        role: what it does.
    """

    parameter: str
    axis: int
    role: Role

    @property
    def key(self) -> AxisKey:
        """(parameter, axis), as IndexMaps are keyed."""
        return AxisKey(self.parameter, self.axis)


@dataclass(frozen=True)
class Width:
    """An ordered set of neurons with the same sites.

    Args:
        name: the path of the module that first writes it; ``#2`` and so on if that writes several.
        size: the number of its neurons.
        granule: how many rows of its writer one neuron owns.
        sites: all axes that have its neurons.
        refusal: why it cannot grow; None if it can.

    Example:
        >>> for width in fxgrow.couple(model, (images,)).widths:
        ...     print(width.name, width.size, width.refusal)
    """

    name: str
    size: int
    granule: int
    sites: tuple[Site, ...]
    refusal: Refusal | None = None

    @property
    def growable(self) -> bool:
        """Whether neurons can be added to it."""
        return self.refusal is None


@dataclass(frozen=True, eq=False)
class Owners:
    """Who owns each index of one axis.

    Args:
        width: for each index the number of the width (-1: none).
        neuron: for each index the neuron's place in that width.
    """

    width: Ints
    neuron: Ints


@dataclass(frozen=True)
class NodeShape:
    """The shape of a graph node's value, and the dimensions along which its neurons lie.

    Args:
        size: the shape.
        dims: the dimensions along which there are neurons.
        grids: of the widths that lie along several dimensions, those along which one neuron follows
            another (the heads, and not the entries of a head).
    """

    size: tuple[int, ...]
    dims: frozenset[int]
    grids: Mapping[int, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class SizeAttribute:
    """An integer in a module that counts neurons.

    Args:
        module: path of the module.
        name: the attribute.
        keys: where the integer is inside the attribute, if that is a tuple, list or dict.
        value: what it was when the model was coupled.
        each: by how much it grows with every neuron of a width.
    """

    module: str
    name: str
    keys: tuple[int | str, ...]
    value: int
    each: Mapping[WidthId, int]


@dataclass(frozen=True)
class Unreached:
    """A module with parameters that no example reaches.

    Args:
        module: its path.
        parameters: the names of these parameters.
        widths: the names of the widths that one of them may read or write, judged by its size and
            place; none of them can grow.
        follows: the path of the module whose part in the widths it takes; "" if none is certain.

    Example:
        >>> for unreached in fxgrow.couple(model, (images,)).unreached:
        ...     print(unreached.module, unreached.widths, unreached.follows)
    """

    module: str
    parameters: tuple[str, ...]
    widths: tuple[str, ...] = ()
    follows: str = ""


@dataclass(frozen=True)
class Coupling:
    """The neurons of a model.

    Args:
        widths: all widths, refused ones included; a ``WidthId`` is a position in it.
        owners: for each axis that has neurons, who owns each of its indices.
        reads: of an fx graph, the widths that each node contracts, by the node's name.
        writes: of an fx graph, the widths that each node makes.
        carries: of an fx graph, the widths in each node's value.
        attributes: integers in the user's modules that follow a width.
        replay: how the order of shuffled widths is found, if there are some.
        shapes: of an fx graph, the shapes of the nodes that give one tensor.
        fixed_axes: the axes of parameters and buffers that are in no width, each with the reason.
            With the sites of the widths these are all axes there are.
        unreached: what no example reaches.
        under_norms: of each width that may gain new neurons although norms run over it, how each
            of its axes does.
        norm_nodes: of an fx graph, the nodes that normalize each of these.
        norm_numbers: the numbers of modules that follow each of these.

    Example:
        >>> coupling = fxgrow.couple(model, (images,))
        >>> coupling.by_name["layer1.0.conv1"].size
        64
    """

    widths: tuple[Width, ...]
    owners: Mapping[AnyAxisKey, Owners]
    reads: Mapping[str, frozenset[WidthId]]
    writes: Mapping[str, frozenset[WidthId]]
    carries: Mapping[str, frozenset[WidthId]]
    attributes: tuple[SizeAttribute, ...] = ()
    replay: ChannelOrder | None = None
    shapes: Mapping[str, NodeShape] = field(default_factory=dict)
    fixed_axes: tuple[FixedAxis, ...] = ()
    unreached: tuple[Unreached, ...] = ()
    under_norms: Mapping[WidthId, tuple[SiteRule, ...]] = field(default_factory=dict)
    norm_nodes: Mapping[WidthId, frozenset[str]] = field(default_factory=dict)
    norm_numbers: Mapping[WidthId, tuple[ScaledNumber, ...]] = field(default_factory=dict)

    @cached_property
    def site_rules(self) -> dict[AnyAxisKey, SiteRule]:
        """How each axis of the widths ``under_norms`` grows."""
        rules: dict[AnyAxisKey, SiteRule] = {}
        for of_width in self.under_norms.values():
            for rule in of_width:
                rules[rule.key] = rule
        return rules

    @cached_property
    def number_of(self) -> dict[str, int]:
        """The number of each width, by its name."""
        return {width.name: number for number, width in enumerate(self.widths)}

    @cached_property
    def by_name(self) -> dict[str, Width]:
        """The widths by name."""
        return {width.name: width for width in self.widths}

    @checked
    def widths_along(self, parameter: str, axis: int) -> frozenset[WidthId]:
        """The numbers of the widths that own indices of one axis of a parameter."""
        owners = self.owners.get((parameter, axis))
        numbers = frozenset() if owners is None else frozenset(owners.width.tolist()) - {-1}
        return frozenset(WidthId(number) for number in numbers)

    def to_networkx(self) -> "nx.MultiGraph[str]":
        """A bipartite graph of widths and parameters.

        Returns:
            A graph in which every edge is a site, with attributes ``axis`` and ``role``.
        """
        import networkx as nx

        graph: nx.MultiGraph[str] = nx.MultiGraph()
        for width in self.widths:
            graph.add_node(width.name, kind="width", size=width.size, growable=width.growable)
            for site in width.sites:
                graph.add_node(site.parameter, kind="parameter")
                graph.add_edge(width.name, site.parameter, axis=site.axis, role=site.role.value)
        return graph


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
class NeuronClasses:
    """The neurons, as classes of labels.

    Args:
        of: the class of each label.
        blame: for each class which of ``refusals`` it has (-1: none).
        refusals: the refusals of all pins.
        decision: how grids grow.
    """

    of: Ints
    blame: Ints
    refusals: tuple[Refusal, ...]
    decision: Decision

    def refusal(self, labels: Ints) -> Refusal | None:
        """The refusal of the first of these labels that has one."""
        blamed = self.blame[self.of[labels]]
        blamed = blamed[blamed >= 0]
        return self.refusals[int(blamed[0])] if len(blamed) else None

    def free(self, labels: Ints) -> bool:
        """Whether some neuron among these labels is not refused."""
        return bool((self.blame[self.of[labels[labels != FIXED]]] < 0).any())


def classify(ctx: Context, banned: Set[Direction], extra: Sequence[Pin]) -> NeuronClasses:
    """Resolve unions, pins and grids to neurons.

    Args:
        ctx: what was observed.
        banned: directions of grids that failed in a trial.
        extra: pins that come from failed trials.

    Returns:
        The neurons, each with the first refusal that it has.
    """
    touching = touching_fixed(ctx.labels.pairs)
    reason = "combined with a value whose size there is fixed"
    pins = [*ctx.labels.pins, *extra, Pin(touching, "fixed-size", reason, "")]
    # Before grids are decided, labels are united to base classes; a decision unites some of these.
    base = components(ctx.labels.count, ctx.labels.pairs)
    decision = decide(ctx.grids, base, _pinned(base, pins), _written(ctx, base), banned)
    # Class 0 is a class like any other, but 0 means FIXED to components: so count from 1 there.
    unions = [(left + 1, right + 1) for left, right in decision.pairs]
    final = components(len(base) + 1, unions)[1:]
    refused = [(final[base[pin.labels]], pin) for pin in pins]
    for grid, classes in decision.fixed:
        refused.append((final[classes], Pin(classes, "grid", GRID, ctx.grids[grid].node)))
    blame = np.full(final.max() + 1, -1)
    # Written last to first, so that the first pin of a class is the one to blame.
    for number in reversed(range(len(refused))):
        blame[refused[number][0]] = number
    refusals = [_refusal_of(pin) for _, pin in refused]
    return NeuronClasses(final[base], blame, tuple(refusals), decision)


def _pinned(base: Ints, pins: Sequence[Pin]) -> Bools:
    """For each base class whether a pin refuses it."""
    pinned = np.zeros(len(base), dtype=bool)
    pinned[base[np.concatenate([pin.labels for pin in pins])]] = True
    return pinned


def _written(ctx: Context, base: Ints) -> Bools:
    """For each base class whether some parameter writes it."""
    written = np.zeros(len(base), dtype=bool)
    for axis in ctx.axes:
        if axis.key in ctx.writers:
            written[base[axis.labels]] = True
    return written


def _refusal_of(pin: Pin) -> Refusal:
    return Refusal(pin.code, pin.reason, (pin.node,) if pin.node else ())


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
        fixed_axes=fixed_axes(ctx.axes, owned, classes.refusal, named_tensors(subject.model)),
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
    """One draft per group that some parameter writes, in the order of their first writers.

    First is what runs first: so a model and its graph, which hold their parts in another order,
    agree on the names.
    """
    drafts = []
    for group, group_axes in _axes_by_group(axes, classes, groups).items():
        writers = [axis for axis in group_axes if axis.key in ctx.writers]
        if writers:
            writer = min(writers, key=lambda axis: ctx.writers[axis.key])
            drafts.append(_draft(ctx, writer, group_axes, classes, groups, group))
    return sorted(drafts, key=lambda draft: draft.first)


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
    writer: Axis,
    axes: Sequence[Axis],
    classes: NeuronClasses,
    groups: Ints,
    group: int,
) -> WidthDraft:
    """The draft of one group, in the order in which its neurons first occur at the writer."""
    along = classes.of[writer.labels]
    rows = np.flatnonzero(groups[along] == group)
    _, first_occurrence = np.unique(along[rows], return_index=True)
    neurons = along[rows[np.sort(first_occurrence)]]  # in the order of rows, not of classes
    sites, both = [], []
    for axis in axes:
        roles = _roles(ctx, axis, classes, neurons)
        sites.append(Site(axis.parameter, axis.axis, _role(roles)))
        if {Role.READS, Role.WRITES} <= roles:
            both.append(axis.parameter)
    first = (ctx.writers[writer.key], int(rows[0]))
    granule = len(rows) // len(neurons)
    stem = _stem(writer.parameter)
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
