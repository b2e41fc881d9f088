"""Which edges are kept of a grown template, by hand."""

from fxgrow.cells.derive import Derivation
from fxgrow.cells.genotype import Edge
from fxgrow.cells.stack import CellKind
from fxgrow.cells.template import OperationSite


def edges(counts: dict[int, tuple[int, int]], **settings: object) -> tuple[Edge, ...]:
    """The edges of the second node that are kept; per source the channels of two operations, which began with 2."""
    first = {0: (2, 2), 1: (2, 2)}
    channels = {
        OperationSite(kind, state, source, operation): count
        for kind in CellKind
        for state, node in ((2, first), (3, counts))
        for source, both in node.items()
        for operation, count in zip(("sep_conv_3x3", "dil_conv_5x5"), both, strict=True)
    }
    return Derivation(**settings).derive(channels, 2).normal.nodes[1]


def kept(counts: dict[int, tuple[int, int]]) -> list[int]:
    return [edge.source for edge in edges(counts)]


def test_the_edges_with_the_largest_operation_are_kept() -> None:
    assert kept({0: (3, 3), 1: (9, 2), 2: (2, 8)}) == [1, 2]


def test_of_equal_ones_that_with_more_channels_in_all_and_then_the_earlier() -> None:
    assert kept({0: (8, 2), 1: (8, 5), 2: (9, 2)}) == [1, 2]
    assert kept({0: (8, 2), 1: (2, 8), 2: (9, 2)}) == [0, 2]


def test_little_growth_is_the_identity() -> None:
    assert [
        e.operation for e in edges({0: (4, 2), 1: (5, 2), 2: (2, 2)}, identity_threshold=1.0)
    ] == [
        "skip_connect",
        "sep_conv_3x3",
    ]
    assert [
        e.operation for e in edges({0: (4, 2), 1: (5, 2), 2: (2, 2)}, identity_threshold=0.25)
    ] == ["sep_conv_3x3"] * 2


def test_identities_are_equally_weak_and_the_earlier_ones_are_kept() -> None:
    counts = {0: (2, 3), 1: (4, 4), 2: (9, 2)}
    assert [(e.operation, e.source) for e in edges(counts, identity_threshold=1.0)] == [
        ("skip_connect", 0),
        ("sep_conv_3x3", 2),
    ]
    assert [e.source for e in edges(counts, identity_threshold=9.0)] == [0, 1]


def test_against_the_average_what_grows_more_everywhere_has_no_advantage() -> None:
    counts = {0: (4, 20), 1: (8, 21), 2: (3, 10)}
    assert [edge.operation for edge in edges(counts)] == ["dil_conv_5x5"] * 2
    relative = edges(counts, normalize_by_operation=True, identity_threshold=0.0)
    assert relative == (
        Edge(operation="dil_conv_5x5", source=0),
        Edge(operation="sep_conv_3x3", source=1),
    )
    assert [
        edge.operation
        for edge in edges(counts, normalize_by_operation=True, identity_threshold=0.9)
    ] == [
        "skip_connect",
        "sep_conv_3x3",
    ]
