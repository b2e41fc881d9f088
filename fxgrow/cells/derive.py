"""From a grown template to a genotype: per edge the operation that grew most, per node the strongest edges.

Reference: Wu et al. 2020, Sec. 3: the operation with the most channels is selected; where all operations of an edge
grew only a little, the identity. Two incoming edges are kept per node as in Liu, Simonyan, Yang, "DARTS", Sec. 2.4; the
paper does not say how it compares edges; here the one whose operation grew most is the strongest, and among equals the
one whose operations grew most together. Identities do not grow, so they are the weakest and equally strong; of equals
the earlier edge is kept. How we differ: ``against_average`` compares the channels of an operation with
those that the same operation has elsewhere, as a kind of operation that grows more everywhere would win every edge.
"""

from collections import defaultdict
from collections.abc import Mapping

from pydantic import Field

from fxgrow.cells.genotype import GENOTYPE_VERSION, INPUT_STATES, Cell, Edge, Genotype, Operation
from fxgrow.cells.space import EDGES_PER_NODE
from fxgrow.cells.stack import CellKind
from fxgrow.cells.template import OperationSite
from fxgrow.spec import StrictModel

ChannelCounts = Mapping[OperationSite, int]


class Derivation(StrictModel):
    """How to read a grown template.

    ``little``: an edge becomes the identity if none of its operations grew by more than this share of the channels that
    it began with; ``keep_all``: every incoming edge stays, not the two strongest. ``against_average``: channels count
    in units not of those at the beginning, but of those that the operation has on average in the cells of its kind.
    """

    identity_threshold: float = Field(default=0.25, ge=0)
    keep_all: bool = False
    normalize_by_operation: bool = False

    def derive(self, channels: ChannelCounts, initial: int) -> Genotype:
        """The genotype of a template whose operations began with ``initial`` channels and have ``channels`` now."""
        cells = {kind.value: self._cell(self._grown(channels, kind, initial)) for kind in CellKind}
        return Genotype(schema_version=GENOTYPE_VERSION, **cells)

    def _grown(
        self, channels: ChannelCounts, kind: CellKind, initial: int
    ) -> dict[OperationSite, float]:
        """How often the channels in question every operation of a kind of cell has."""
        mine = {spot: count for spot, count in channels.items() if spot.kind is kind}
        units = (
            _averages(mine) if self.normalize_by_operation else defaultdict(lambda: float(initial))
        )
        return {spot: count / units[spot.operation] for spot, count in mine.items()}

    def _cell(self, grown: Mapping[OperationSite, float]) -> Cell:
        states: dict[int, dict[int, dict[Operation, float]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for spot, times in grown.items():
            states[spot.state][spot.source][spot.operation] = times
        nodes = tuple(self._node(states[state]) for state in sorted(states))
        return Cell(nodes=nodes, concat=tuple(range(INPUT_STATES, INPUT_STATES + len(nodes))))

    def _node(self, edges: Mapping[int, Mapping[Operation, float]]) -> tuple[Edge, ...]:
        """The strongest edges, in the order of their sources; of equals the earlier one, as DARTS takes them."""
        weakness = {
            source: (*(-x for x in self._strength(grown)), source)
            for source, grown in edges.items()
        }
        strongest = sorted(edges, key=weakness.__getitem__)
        kept = sorted(strongest if self.keep_all else strongest[:EDGES_PER_NODE])
        return tuple(
            Edge(operation=self._operation(edges[source]), source=source) for source in kept
        )

    def _strength(self, grown: Mapping[Operation, float]) -> tuple[float, float]:
        identity = self._operation(grown) == "skip_connect"
        return (0.0, 0.0) if identity else (max(grown.values()), sum(grown.values()))

    def _operation(self, grown: Mapping[Operation, float]) -> Operation:
        best = max(grown, key=lambda name: grown[name])
        return best if grown[best] > 1 + self.identity_threshold else "skip_connect"


def _averages(channels: ChannelCounts) -> Mapping[Operation, float]:
    """The mean channels of every operation."""
    counts: defaultdict[Operation, list[int]] = defaultdict(list)
    for spot, count in channels.items():
        counts[spot.operation].append(count)
    return {operation: sum(found) / len(found) for operation, found in counts.items()}
