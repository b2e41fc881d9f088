"""Widths, ordered sets of neurons with the same sites, and what else a coupling holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from fxgrow.argument_checks import checked
from fxgrow.coupling.channel_order import ChannelOrder
from fxgrow.coupling.fixed_axes import FixedAxis
from fxgrow.coupling.keys import AnyAxisKey, AxisKey, WidthId
from fxgrow.coupling.labels import (
    Ints,
)
from fxgrow.coupling.site_rules import ScaledNumber, SiteRule
from fxgrow.coupling.values import Role
from fxgrow.errors import Refusal

if TYPE_CHECKING:
    import networkx as nx


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

    @property
    def begun(self) -> bool:
        """Whether no layer writes it: its neurons begin at parameters, such as centers."""
        return all(site.role is not Role.WRITES for site in self.sites)


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
