"""The network in which cells grow: every edge holds every operation of the space, with few channels inside each.

Reference: Wu et al. 2020, Sec. 3, "Cell-Based Neural Architecture Search": the edges of a DARTS cell are sums of
separable and dilated convolutions and the identity; what grows is the number of channels in each operation. How we
differ: the paper says "linear combination"; the coefficients here are the affine scales of the batch norm that ends an
operation. A dilated convolution has no channels of its own in DARTS and gets a second pointwise convolution here.

The template is the evaluation network of the genotype that has all edges, so a graph of it, coupling and growth are
those of any other model.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from torch import nn

from fxgrow.cells.cell import known_operation
from fxgrow.cells.evaluation import EvaluationNetwork
from fxgrow.cells.genotype import GENOTYPE_VERSION, INPUT_STATES, Cell, Edge, Genotype, Operation
from fxgrow.cells.operations import DilatedConvolution, SeparableConvolution
from fxgrow.cells.space import SearchSpace
from fxgrow.cells.stack import CellKind, CellPosition, layout
from fxgrow.errors import GrowthError, SpecError

INNER = "inner"
"""The convolution inside an operation whose rows are its hidden neurons."""
GROWING = f"cells.*.nodes.*.{INNER}"
"""Where the hidden neurons of a template are written."""

GrowingOperation = Callable[[int, int, int], nn.Module]
"""From channels, stride and hidden channels to an operation."""


def _separable(kernel: int) -> GrowingOperation:
    return lambda channels, stride, hidden: SeparableConvolution(
        channels, channels, kernel, stride, hidden=hidden
    )


def _dilated(kernel: int) -> GrowingOperation:
    return lambda channels, stride, hidden: DilatedConvolution(
        channels, channels, kernel, stride, hidden=hidden
    )


GROWABLE: Mapping[Operation, GrowingOperation] = MappingProxyType(
    {
        "sep_conv_3x3": _separable(3),
        "sep_conv_5x5": _separable(5),
        "sep_conv_7x7": _separable(7),
        "dil_conv_3x3": _dilated(3),
        "dil_conv_5x5": _dilated(5),
    }
)
"""The operations that have hidden channels."""


@dataclass(frozen=True, order=True)
class OperationSite:
    """The place of an operation in all cells of one kind."""

    kind: CellKind
    state: int
    source: int
    operation: Operation

    def __str__(self) -> str:
        return f"{self.kind} {self.state}<-{self.source} {self.operation}"

    @staticmethod
    def named(words: str) -> "OperationSite":
        """The spot that prints so. Raises ``SpecError`` (``bad-value``) if there is none in any space."""
        found = _SPOT.fullmatch(words)
        if found is None or found["operation"] not in GROWABLE:
            raise SpecError("bad-value", f"{words!r} is no place of an operation; search again")
        operation: Operation = found["operation"]  # type: ignore[assignment]
        return OperationSite(
            CellKind(found["kind"]), int(found["state"]), int(found["source"]), operation
        )


_SPOT = re.compile(
    r"(?P<kind>normal|reduce) (?P<state>\d{1,2})<-(?P<source>\d{1,2}) (?P<operation>\w+)"
)


def complete_cell(space: SearchSpace) -> Genotype:
    """Every operation of the space on every edge."""
    nodes = tuple(
        tuple(Edge(operation=name, source=source) for source in range(state) for name in space.real)
        for state in space.states
    )
    cell = Cell(nodes=nodes, concat=tuple(space.states))
    return Genotype(schema_version=GENOTYPE_VERSION, normal=cell, reduce=cell)


def template(space: SearchSpace, hidden: int, num_classes: int) -> EvaluationNetwork:
    """The network to grow, with ``hidden`` channels in every operation that has some.

    Raises ``GrowthError`` (``nothing-growable``) if no operation of the space has.
    """
    if not set(space.real) & GROWABLE.keys():
        raise GrowthError(
            "nothing-growable",
            f"none of {', '.join(space.real)} has channels inside; search with one of {', '.join(GROWABLE)}",
        )
    choose = partial(_operation, hidden=hidden)
    return EvaluationNetwork(
        complete_cell(space), space.channels, space.cells, num_classes, choose=choose
    )


def _operation(edge: Edge, place: CellPosition, hidden: int) -> nn.Module:
    grow = GROWABLE.get(edge.operation)
    if grow is None:
        return known_operation(edge, place)
    return grow(place.channels, place.stride(edge.source), hidden)


def operation_sites(space: SearchSpace) -> Iterator[tuple[OperationSite, tuple[str, ...]]]:
    """Every growable operation of both kinds, and its modules in the template: one per cell of its kind."""
    kinds = layout(space.cells)
    for kind in CellKind:
        cells = [number for number, other in enumerate(kinds) if other is kind]
        for node, edges in enumerate(complete_cell(space).normal.nodes):
            for place, edge in enumerate(edges):
                if edge.operation in GROWABLE:
                    spot = OperationSite(kind, node + INPUT_STATES, edge.source, edge.operation)
                    yield spot, tuple(f"cells.{cell}.nodes.{node}.{place}" for cell in cells)


def cell_ties(space: SearchSpace) -> tuple[tuple[str, ...], ...]:
    """The widths that grow alike: hidden neurons at the same place of all cells of one kind."""
    return tuple(tuple(f"{path}.{INNER}" for path in paths) for _, paths in operation_sites(space))


def layer_ties(space: SearchSpace) -> tuple[tuple[str, ...], ...]:
    """The hidden widths of the residual layers behind the same operation of all cells of one kind."""
    return tuple(
        tuple(f"grown_layers.{path.replace('.', '_')}_norm.incoming" for path in paths)
        for _, paths in operation_sites(space)
    )


def channels(network: nn.Module, space: SearchSpace) -> dict[OperationSite, int]:
    """The hidden channels of every growable operation of a template, grown or not, the same in all its cells.

    Raises ``GrowthError`` (``unequal-tie``) if cells of one kind differ.
    """
    return {
        spot: _equal(spot, [_rows(network, path) for path in paths])
        for spot, paths in operation_sites(space)
    }


def _rows(network: nn.Module, path: str) -> int:
    return len(network.get_parameter(f"{path}.{INNER}.weight"))


def _equal(spot: OperationSite, found: list[int]) -> int:
    if len(set(found)) > 1:
        raise GrowthError(
            "unequal-tie",
            f"{spot} has {found} channels in the cells of its kind; grow them with tie=ties(space)",
        )
    return found[0]
