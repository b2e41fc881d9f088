"""The network in which cells grow: every edge holds every operation, with few channels inside each.

Reference: Wu et al. 2020, Sec. 3, "Cell-Based Neural Architecture Search": the edges of a DARTS
cell are sums of separable and dilated convolutions and the identity; what grows is the number of
channels in each operation. How we differ: the paper has a "linear combination"; the coefficients
here are the affine scales of the batch norm that ends an operation. A dilated convolution has no
channels of its own in DARTS and gets a second pointwise convolution here.

The template is the evaluation network of the genotype that has all edges, so its capture, coupling
and growth are those of any other model.
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
from fxgrow.documents import limits
from fxgrow.errors import GrowthError, SpecError
from fxgrow.memory import counted_first

INNER = "inner"
"""The convolution inside an operation whose rows are its hidden neurons."""
GROWING = f"cells.*.nodes.*.{INNER}"
"""The widths of a template that grow, as a pattern of names."""

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
    """An operation on one edge of all cells of one kind."""

    kind: CellKind
    state: int
    source: int
    operation: Operation

    def __str__(self) -> str:
        # Stands in saved searches: ``parse`` reads it back.
        return f"{self.kind} {self.state}<-{self.source} {self.operation}"

    @staticmethod
    def parse(text: str) -> "OperationSite":
        """The site that prints as ``text``.

        Raises ``SpecError`` (``bad-value``) if there is none in any space.
        """
        match = _SITE.fullmatch(text)
        if match is None or match["operation"] not in GROWABLE:
            raise SpecError("bad-value", f"{text!r} is no place of an operation; search again")
        operation: Operation = match["operation"]  # type: ignore[assignment]
        return OperationSite(
            CellKind(match["kind"]), int(match["state"]), int(match["source"]), operation
        )


_SITE = re.compile(
    r"(?P<kind>normal|reduce) (?P<state>\d{1,2})<-(?P<source>\d{1,2}) (?P<operation>\w+)"
)


def complete_cell(space: SearchSpace) -> Genotype:
    """The genotype with every operation of the space on every edge, in both cells."""
    nodes = []
    for state in space.states:
        edges = []
        for source in range(state):
            for name in space.real:
                edges.append(Edge(operation=name, source=source))
        nodes.append(tuple(edges))
    # Both kinds hold the same operations; they differ in strides only.
    cell = Cell(nodes=tuple(nodes), concat=tuple(space.states))
    return Genotype(schema_version=GENOTYPE_VERSION, normal=cell, reduce=cell)


@counted_first("the network to search in", limits.ENTRIES)
def template(space: SearchSpace, hidden: int, num_classes: int) -> EvaluationNetwork:
    """The network to grow.

    Args:
        space: the search space.
        hidden: channels inside every operation that has some.
        num_classes: number of classes.

    Returns:
        The network, with weights drawn from torch's own generator.

    Raises:
        GrowthError: no operation of the space has channels inside (``nothing-growable``).
    """
    if not set(space.real) & GROWABLE.keys():
        raise GrowthError(
            "nothing-growable",
            f"none of {', '.join(space.real)} has channels inside; search with one of "
            f"{', '.join(GROWABLE)}",
        )
    choose = partial(_operation, hidden=hidden)
    return EvaluationNetwork(
        complete_cell(space), space.channels, space.cells, num_classes, choose=choose
    )


def _operation(edge: Edge, position: CellPosition, hidden: int) -> nn.Module:
    grow = GROWABLE.get(edge.operation)
    if grow is None:
        return known_operation(edge, position)
    return grow(position.channels, position.stride(edge.source), hidden)


def operation_sites(space: SearchSpace) -> Iterator[tuple[OperationSite, tuple[str, ...]]]:
    """Every growable operation of both kinds of cells, with its modules in the template.

    There is one module per cell of the kind.
    """
    kinds = layout(space.cells)
    for kind in CellKind:
        cells = [number for number, other in enumerate(kinds) if other is kind]
        for node, edges in enumerate(complete_cell(space).normal.nodes):
            for number, edge in enumerate(edges):
                if edge.operation not in GROWABLE:
                    continue
                site = OperationSite(kind, node + INPUT_STATES, edge.source, edge.operation)
                paths = tuple(f"cells.{cell}.nodes.{node}.{number}" for cell in cells)
                yield site, paths


def cell_ties(space: SearchSpace) -> tuple[tuple[str, ...], ...]:
    """The widths that grow alike: hidden neurons at the same site of all cells of one kind."""
    ties = []
    for _, paths in operation_sites(space):
        # The only cell of its kind grows by itself.
        if len(paths) > 1:
            ties.append(tuple(f"{path}.{INNER}" for path in paths))
    return tuple(ties)


def layer_ties(space: SearchSpace) -> tuple[tuple[str, ...], ...]:
    """The hidden widths of residual layers behind the same operation of all cells of one kind."""
    ties = []
    for _, paths in operation_sites(space):
        if len(paths) > 1:
            ties.append(tuple(map(_layer_width, paths)))
    return tuple(ties)


LAYER_PLACES = "cells.*.nodes.*.*.norm"
"""Behind these modules a search may insert layers: the last batch norms of the operations."""


def _layer_width(path: str) -> str:
    """The hidden width of the layer that is inserted behind the last batch norm of an operation."""
    return f"grown_layers.{path.replace('.', '_')}_norm.incoming"


def channels(network: nn.Module, space: SearchSpace) -> dict[OperationSite, int]:
    """The hidden channels of every growable operation of a template, grown or not.

    Args:
        network: the template.
        space: its search space.

    Returns:
        The number of channels at each site, the same in all cells of a kind.

    Raises:
        GrowthError: cells of one kind differ (``unequal-tie``).
    """
    counts = {}
    for site, paths in operation_sites(space):
        counts[site] = _only_value(site, [_hidden_channels(network, path) for path in paths])
    return counts


def _hidden_channels(network: nn.Module, path: str) -> int:
    # The weight of the inner convolution is [hidden, in, 1, 1].
    return len(network.get_parameter(f"{path}.{INNER}.weight"))


def _only_value(site: OperationSite, counts: list[int]) -> int:
    if len(set(counts)) > 1:
        raise GrowthError(
            "unequal-tie",
            f"{site} has {counts} channels in the cells of its kind; grow them with "
            "tie=cell_ties(space)",
        )
    return counts[0]
