"""From unions and pins to widths: ordered sets of neurons with the same sites."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

import networkx as nx
import numpy as np
from torch import nn

from fxgrow.coupling.channel_order import ChannelOrder, channel_order
from fxgrow.coupling.grids import Decision, Direction, decide
from fxgrow.coupling.keys import AnyAxisKey, AxisKey, WidthId
from fxgrow.coupling.labels import FIXED, Ints, Pin, components, touching_fixed
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.values import Axis, Context, Observed, Role
from fxgrow.errors import Refusal

REFUSAL_PRECEDENCE = (Role.READS, Role.WRITES, Role.CARRIES)
"""An axis that reads neurons somewhere is a reader: splitting must halve it."""

GRID = "seen as a grid that cannot grow along this direction"


@dataclass(frozen=True)
class Site:
    """One axis of one parameter or buffer of the user's own module, and what it does to the neurons along it."""

    parameter: str
    axis: int
    role: Role

    @property
    def key(self) -> AxisKey:
        """(parameter, axis), as IndexMaps are keyed."""
        return AxisKey(self.parameter, self.axis)


@dataclass(frozen=True)
class Width:
    """An ordered set of neurons with the same sites. ``granule`` is how many rows of its writer one neuron owns."""

    name: str
    size: int
    granule: int
    sites: tuple[Site, ...]
    refusal: Refusal | None = None

    @property
    def growable(self) -> bool:
        """Whether neurons can be added to it."""
        return self.refusal is None


@dataclass(frozen=True)
class Owners:
    """For each index of one axis: the number of the width that owns it (-1: none) and the neuron's place in it."""

    width: Ints
    neuron: Ints


@dataclass(frozen=True)
class NodeShape:
    """The shape of a graph node's value, and the dimensions along which its neurons lie."""

    size: tuple[int, ...]
    dims: frozenset[int]


@dataclass(frozen=True)
class SizeAttribute:
    """A whole number that a module of the user's own holds: ``each`` times the neurons of width number ``width``."""

    module: str
    name: str
    width: WidthId
    each: int


@dataclass(frozen=True)
class Coupling:
    """The neurons of a model.

    ``widths``: all of them, refused ones included. ``owners[parameter, axis]``: who owns each index of an axis.
    ``reads`` / ``carries`` / ``writes``: for coupling of an fx graph, the numbers of the widths per node name;
    ``shapes``: of the nodes that give one tensor. ``attributes``: numbers in the user's modules that follow a width.
    ``replay``: how the order of shuffled widths is found, if there are some.
    """

    widths: tuple[Width, ...]
    owners: Mapping[AnyAxisKey, Owners]
    reads: Mapping[str, frozenset[WidthId]]
    writes: Mapping[str, frozenset[WidthId]]
    carries: Mapping[str, frozenset[WidthId]]
    attributes: tuple[SizeAttribute, ...] = ()
    replay: ChannelOrder | None = None
    shapes: dict[str, NodeShape] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Width]:
        """The widths by name."""
        return {width.name: width for width in self.widths}

    def to_networkx(self) -> "nx.MultiGraph[str]":
        """A bipartite graph of widths and parameters; every edge is a site (attributes ``axis``, ``role``)."""
        graph: nx.MultiGraph[str] = nx.MultiGraph()
        for width in self.widths:
            graph.add_node(width.name, kind="width", size=width.size, growable=width.growable)
            for site in width.sites:
                graph.add_node(site.parameter, kind="parameter")
                graph.add_edge(width.name, site.parameter, axis=site.axis, role=site.role.value)
        return graph


@dataclass(frozen=True)
class SizeAttributeGuess:
    """A module's attribute that is taken to hold the number of the neurons ``labels``, or a multiple of it."""

    module: str
    name: str
    labels: Ints


@dataclass(frozen=True)
class Workarounds:
    """What is assumed so that more can grow: these attributes follow, and these labels' order is found by replay."""

    attributes: tuple[SizeAttributeGuess, ...] = ()
    mixed: Ints = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True)
class NeuronClasses:
    """The neurons: ``of[label]`` is a label's class; ``blame[class]`` which of ``refusals`` it has (-1: none)."""

    of: Ints
    blame: Ints
    refusals: tuple[Refusal, ...]
    decision: Decision

    def free(self, labels: Ints) -> bool:
        """Whether some neuron among these labels is not refused."""
        return bool((self.blame[self.of[labels[labels != FIXED]]] < 0).any())


def classify(ctx: Context, banned: Set[Direction], extra: Sequence[Pin]) -> NeuronClasses:
    """Resolve unions, pins and grids; ``banned`` grid directions and ``extra`` pins come from failed trials."""
    base = components(ctx.labels.count, ctx.labels.pairs)
    loose = Pin(
        touching_fixed(ctx.labels.pairs),
        "fixed-size",
        "combined with a value whose size there is fixed",
        "",
    )
    pins = (*ctx.labels.pins, *extra, loose)
    pinned = np.zeros(len(base), dtype=bool)
    pinned[base[np.concatenate([pin.labels for pin in pins])]] = True
    decision = decide(ctx.grids, base, pinned, banned)
    final = components(len(base) + 1, [(a + 1, b + 1) for a, b in decision.pairs])[1:]
    fixed = [Pin(classes, "grid", GRID, ctx.grids[grid].node) for grid, classes in decision.fixed]
    blamed = [
        *((final[base[pin.labels]], pin) for pin in pins),
        *((final[pin.labels], pin) for pin in fixed),
    ]
    blame = np.full(final.max() + 1, -1)
    for number, (classes, _) in reversed(
        list(enumerate(blamed))
    ):  # the first pin of a class is the one to blame
        blame[classes] = number
    refusals = (Refusal(pin.code, pin.reason, (pin.node,) if pin.node else ()) for _, pin in blamed)
    return NeuronClasses(final[base], blame, tuple(refusals), decision)


def build_widths(
    ctx: Context,
    classes: NeuronClasses,
    patterns: Patterns,
    subject: Observed,
    remedies: Workarounds,
) -> Coupling:
    """Group the classes with the same sites into widths, and name and order them."""
    axes = [axis for axis in ctx.axes if (axis.parameter, axis.axis) in ctx.roles]
    seeds = _seeds(ctx, axes, classes, _same_sites(axes, classes))
    names = _names([seed.stem for seed in seeds])
    number_of, place_of = np.full((2, len(classes.blame)), -1)
    widths = []
    for number, (seed, name) in enumerate(zip(seeds, names, strict=True)):
        number_of[seed.neurons], place_of[seed.neurons] = number, np.arange(len(seed.neurons))
        refusal = _refusal(ctx, seed, classes) or patterns.refusal(*_touched(seed))
        widths.append(Width(name, len(seed.neurons), seed.granule, seed.sites, refusal))
    owners: dict[AnyAxisKey, Owners] = {}
    for axis in axes:
        own = Owners(number_of[classes.of[axis.labels]], place_of[classes.of[axis.labels]])
        if (own.width >= 0).any():
            owners[AxisKey(axis.parameter, axis.axis)] = own
    reads, writes, carries = (
        {node: _numbers(labels, classes, number_of) for node, labels in book.items()}
        for book in (_joined(ctx.reads), _joined(ctx.writes), ctx.carried)
    )
    replay = _replay(ctx, classes, number_of, subject, remedies.mixed)
    attributes = _attributes(subject.model, classes, number_of, widths, remedies.attributes)
    shapes = {node: NodeShape(*found) for node, found in ctx.shapes.items()}
    return Coupling(tuple(widths), owners, reads, writes, carries, attributes, replay, shapes)


def _replay(
    ctx: Context, classes: NeuronClasses, number_of: Ints, subject: Observed, mixed: Ints
) -> ChannelOrder | None:
    """A replay of the whole widths that some of the labels ``mixed`` belong to."""
    numbers = np.unique(number_of[classes.of[mixed]])
    singly = frozenset(numbers[numbers >= 0].tolist())
    if not singly:
        return None
    mine = np.flatnonzero(np.isin(number_of, list(singly)))
    chosen = classes.decision.chosen.items()
    directions = {n: d for n, d in chosen if np.isin(classes.of[ctx.grids[n].joint], mine).any()}
    return channel_order(ctx, subject, singly, mine, directions)


def _attributes(
    model: nn.Module,
    classes: NeuronClasses,
    number_of: Ints,
    widths: Sequence[Width],
    held: Iterable[SizeAttributeGuess],
) -> tuple[SizeAttribute, ...]:
    """The attributes that follow a width, as far as its neurons divide their value."""
    found = []
    for one in held:
        number = WidthId(int(number_of[classes.of[one.labels[0]]]))
        value = getattr(model.get_submodule(one.module), one.name)
        if number >= 0 and value % widths[number].size == 0:
            found.append(SizeAttribute(one.module, one.name, number, value // widths[number].size))
    return tuple(found)


def _joined(book: dict[str, list[Ints]]) -> dict[str, Ints]:
    return {node: np.concatenate(labels) for node, labels in book.items() if labels}


def _numbers(labels: Ints, classes: NeuronClasses, number_of: Ints) -> frozenset[WidthId]:
    found = np.unique(number_of[classes.of[labels[labels != FIXED]]])
    return frozenset(found[found >= 0].tolist())


def _same_sites(axes: Sequence[Axis], classes: NeuronClasses) -> Ints:
    """A group number per class (-1: on no axis): classes that occur on the same axes equally often are one group.

    Every axis gets a random 64-bit number and a class the sum of those of its places, so equal sums mean equal sites.
    """
    keys = np.random.default_rng(0).integers(1, 1 << 63, size=len(axes), dtype=np.uint64)
    sums = np.zeros(len(classes.blame), dtype=np.uint64)
    for axis, key in zip(axes, keys, strict=True):
        np.add.at(sums, classes.of[axis.labels], key)
    groups: Ints = (
        np.searchsorted(np.unique(sums), sums) - 1
    )  # few distinct sums: faster than return_inverse
    return groups


@dataclass(frozen=True)
class WidthDraft:
    """A width in the making: the module that first writes it, its classes in that module's order, its sites."""

    stem: str
    neurons: Ints
    sites: tuple[Site, ...]
    granule: int


def _seeds(
    ctx: Context, axes: Sequence[Axis], classes: NeuronClasses, groups: Ints
) -> list[WidthDraft]:
    """One seed per group that some parameter writes, in the order of their first writers and of their places there.

    First is what runs first: so a model and its graph, which hold their parts in another order, agree on the names.
    """
    number = ctx.writers
    places: dict[int, list[Axis]] = {}
    for axis in axes:
        for group in np.unique(groups[classes.of[axis.labels]]).tolist():
            places.setdefault(group, []).append(axis)
    seeds = []
    for group, found in places.items():
        sites = tuple(
            Site(a.parameter, a.axis, _role(ctx.roles[a.parameter, a.axis])) for a in found
        )
        writers = [a for a in found if (a.parameter, a.axis) in number]
        writer = min(writers, key=lambda a: number[a.parameter, a.axis], default=None)
        if writer is not None:
            along = classes.of[writer.labels]
            where = np.flatnonzero(groups[along] == group)
            mine = along[where]
            ordered = mine[np.sort(np.unique(mine, return_index=True)[1])]
            owner = writer.parameter.partition(".parametrizations.")[0]
            stem = owner.rpartition(".")[0] if owner == writer.parameter else owner
            stem = stem or writer.parameter
            first = (number[writer.parameter, writer.axis], int(where[0]))
            seeds.append((first, WidthDraft(stem, ordered, sites, len(mine) // len(ordered))))
    return [seed for _, seed in sorted(seeds, key=lambda pair: pair[0])]


def _role(roles: Iterable[Role]) -> Role:
    return next(role for role in REFUSAL_PRECEDENCE if role in roles)


def _names(stems: Sequence[str]) -> list[str]:
    """Widths are named after the module that first writes them; a second one of that module gets ``#2``."""
    seen: dict[str, int] = {}
    names = []
    for stem in stems:
        seen[stem] = seen.get(stem, 0) + 1
        names.append(stem if seen[stem] == 1 else f"{stem}#{seen[stem]}")
    return names


def _touched(seed: WidthDraft) -> tuple[list[str], list[str]]:
    """The parameters of a width, and those that write it."""
    return [site.parameter for site in seed.sites], [
        s.parameter for s in seed.sites if s.role is Role.WRITES
    ]


def _refusal(ctx: Context, seed: WidthDraft, classes: NeuronClasses) -> Refusal | None:
    blamed = classes.blame[seed.neurons]
    if (blamed >= 0).any():
        return classes.refusals[int(blamed[blamed >= 0][0])]
    roles = [ctx.roles[site.key] for site in seed.sites]
    both = [
        site.parameter
        for site, role in zip(seed.sites, roles, strict=True)
        if {Role.READS, Role.WRITES} <= role
    ]
    if both:
        return Refusal("tied-role", "one axis both writes and reads it", tuple(both))
    if not any(Role.READS in role for role in roles):
        return Refusal("unread", "no parameter reads it", (seed.stem,))
    return None
