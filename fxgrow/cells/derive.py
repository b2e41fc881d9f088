"""From a grown template to a genotype: the operation that grew most per edge, the strongest edges.

Reference: Wu et al. 2020, Sec. 3: the operation with the most channels is selected; where all
operations of an edge grew only a little, the identity. Two incoming edges are kept per node as in
Liu, Simonyan, Yang, "DARTS", Sec. 2.4. The paper does not define how it compares edges; here the
one whose operation grew most is the strongest, and among equals the one whose operations grew most
together. Identities do not grow, so they are the weakest and equally strong; of equals the earlier
edge is kept.

How we differ: ``normalize_by_operation`` compares the channels of an operation with those that the
same operation has elsewhere; a kind of operation that grows more everywhere would win every edge.
"""

from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Count
from fxgrow.cells.genotype import GENOTYPE_VERSION, INPUT_STATES, Cell, Edge, Genotype, Operation
from fxgrow.cells.space import EDGES_PER_NODE
from fxgrow.cells.stack import CellKind
from fxgrow.cells.template import OperationSite
from fxgrow.spec import StrictModel

ChannelCounts = Mapping[OperationSite, int]
GrowthFactors = Mapping[Operation, float]
"""The channels of every operation on one edge, as a multiple of a unit."""


class Derivation(StrictModel):
    """How a genotype is derived from a grown template.

    Args:
        identity_threshold: an edge becomes the identity if none of its operations grew by more than
            this share of its unit.
        keep_all: keep every incoming edge of a node, not only the two strongest.
        normalize_by_operation: the unit is the number of channels that the operation has on average
            in the cells of its kind, not the number of channels that it began with.

    Raises:
        ArgumentError: ``bad-setting``: ``identity_threshold`` is negative.

    Example:
        >>> Derivation(identity_threshold=0.5).derive(channels(network, space), initial=2)
    """

    old_names: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"little": "identity_threshold", "against_average": "normalize_by_operation"}
    )
    identity_threshold: float = Field(default=0.25, ge=0)
    keep_all: bool = False
    normalize_by_operation: bool = False

    @checked
    def derive(self, channels: ChannelCounts, initial: Count) -> Genotype:
        """The genotype of a template whose operations have ``channels`` channels now.

        Each operation began with ``initial`` channels.
        """
        # The kinds are derived apart: what an operation has elsewhere is meant within its kind.
        cells: dict[str, Cell] = {}
        for kind in CellKind:
            growth = self._growth_factors(channels, kind, initial)
            cells[kind.value] = self._cell(growth)
        return Genotype(schema_version=GENOTYPE_VERSION, **cells)

    def _growth_factors(
        self, channels: ChannelCounts, kind: CellKind, initial: int
    ) -> dict[OperationSite, float]:
        """The channels of every operation in one kind of cell, as a multiple of its unit."""
        of_kind = {site: count for site, count in channels.items() if site.kind is kind}
        averages = _average_channels(of_kind)
        factors = {}
        for site, count in of_kind.items():
            unit = averages[site.operation] if self.normalize_by_operation else float(initial)
            factors[site] = count / unit
        return factors

    def _cell(self, growth: Mapping[OperationSite, float]) -> Cell:
        # state -> source -> operation -> growth factor
        states: dict[int, dict[int, dict[Operation, float]]] = {}
        for site, factor in growth.items():
            edges = states.setdefault(site.state, {})
            edges.setdefault(site.source, {})[site.operation] = factor
        nodes = tuple(self._node(states[state]) for state in sorted(states))
        return Cell(nodes=nodes, concat=tuple(range(INPUT_STATES, INPUT_STATES + len(nodes))))

    def _node(self, edges: Mapping[int, GrowthFactors]) -> tuple[Edge, ...]:
        """The strongest edges, in the order of their sources; of equals the earlier one."""
        earlier_first = sorted(edges)
        # Sorting is stable, in reverse order too: of equals, the earlier edge stays the first.
        strongest = sorted(
            earlier_first, key=lambda source: self._strength(edges[source]), reverse=True
        )
        sources = strongest if self.keep_all else strongest[:EDGES_PER_NODE]
        chosen = []
        for source in sorted(sources):
            chosen.append(Edge(operation=self._operation(edges[source]), source=source))
        return tuple(chosen)

    def _strength(self, growth: GrowthFactors) -> tuple[float, float]:
        """What edges are compared by: first their largest operation, then all of them together."""
        if self._operation(growth) == "skip_connect":
            return 0.0, 0.0
        return max(growth.values()), sum(growth.values())

    def _operation(self, growth: GrowthFactors) -> Operation:
        # Of equals the first, in the order of the search space.
        largest = max(growth, key=lambda name: growth[name])
        return largest if growth[largest] > 1 + self.identity_threshold else "skip_connect"


def _average_channels(channels: ChannelCounts) -> Mapping[Operation, float]:
    """The mean number of channels of every operation."""
    counts: defaultdict[Operation, list[int]] = defaultdict(list)
    for site, count in channels.items():
        counts[site.operation].append(count)
    averages = {}
    for operation, values in counts.items():
        averages[operation] = sum(values) / len(values)
    return averages
