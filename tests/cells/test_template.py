"""The network in which cells grow, and what is read off it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly, GrowthError
from fxgrow.cells import SearchSpace
from fxgrow.cells.derive import Derivation
from fxgrow.cells.genotype import Edge
from fxgrow.cells.stack import CellKind
from fxgrow.cells.template import (
    GROWING,
    OperationSite,
    cell_ties,
    channels,
    complete_cell,
    layer_ties,
    operation_sites,
    template,
)
from fxgrow.coupling import couple
from tests.networks import randomised

SPACE = SearchSpace(
    operations=("skip_connect", "sep_conv_3x3", "dil_conv_3x3"), nodes=2, cells=4, channels=2
)
IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def network(space: SearchSpace = SPACE) -> torch.nn.Module:
    torch.manual_seed(0)
    return randomised(template(space, 2, 3))


def grown(layers: int = 0) -> fxgrow.Growth:
    method = Firefly(
        new=1,
        layers=layers,
        at=("cells.*.nodes.*.*.norm",) if layers else (),
        steps=2,
        refine_steps=1,
    )
    tie = (*cell_ties(SPACE), *(layer_ties(SPACE) if layers else ()))
    budget = Budget(neurons=0.4, layers=12 if layers else None)
    return fxgrow.grow(
        network(), [(IMAGES, LABELS)], F.cross_entropy, example_inputs=(IMAGES[:1],), method=method, budget=budget,
        only=[GROWING], tie=tie,
        refresh_statistics=not layers,  # else splits gain so much here that no layer is chosen
    )  # fmt: skip


def test_every_operation_on_every_edge() -> None:
    cell = complete_cell(SPACE).normal
    assert [len(edges) for edges in cell.nodes] == [2 * 3, 3 * 3]
    assert set(channels(network(), SPACE).values()) == {2}
    assert len(list(operation_sites(SPACE))) == 2 * (2 + 3) * 2, (
        "kinds, edges, operations with channels inside"
    )


def test_the_hidden_channels_are_widths_of_their_own() -> None:
    widths = {
        width.name: width for width in couple(network(), (IMAGES[:1],), only=[GROWING]).widths
    }
    growable = {name for name, width in widths.items() if width.growable}
    assert growable == {name for tie in cell_ties(SPACE) for name in tie}
    assert all(widths[name].size == 2 for name in growable)


@pytest.mark.parametrize("layers", [0, 2], ids=["wider", "with layers on edges"])
def test_cells_of_a_kind_stay_the_same_and_promises_are_kept(layers: int) -> None:
    growth = grown(layers)
    found = channels(growth.module, SPACE)  # raises where cells of a kind differ
    assert sum(found.values()) > 2 * len(found)
    assert growth.report.faithful_error < 1e-12 and growth.report.preservation_error < 1e-12
    assert growth.report.loss_after <= growth.report.loss_before
    inserted = {layer.name for layer in growth.report.layers}
    assert bool(inserted) == bool(layers)
    for tie in layer_ties(SPACE):
        names = {name.removesuffix(".incoming") for name in tie}
        assert inserted >= names or not inserted & names, (
            "a layer is put behind an operation in all cells or in none"
        )


def test_cells_that_differ_are_found() -> None:
    wider = fxgrow.widen(network(), {cell_ties(SPACE)[0][0]: 1}, (IMAGES[:1],)).module
    with pytest.raises(
        GrowthError, match=r"normal 2<-0 sep_conv_3x3 has \[3, 2\] channels"
    ) as caught:
        channels(wider, SPACE)
    assert caught.value.code == "unequal-tie"


def test_a_space_without_channels_to_grow() -> None:
    with pytest.raises(GrowthError, match="none of skip_connect has channels inside") as caught:
        template(SearchSpace(operations=("skip_connect",)), 2, 10)
    assert caught.value.code == "nothing-growable"


def _table(**own: int) -> dict[OperationSite, int]:
    """Two channels everywhere but where ``state_source_operation`` says otherwise, in both kinds."""
    table = {site: 2 for site, _ in operation_sites(SPACE)}
    for words, count in own.items():
        state, source, operation = words.removeprefix("at").split("_", 2)
        for kind in CellKind:
            table[OperationSite(kind, int(state), int(source), operation)] = count  # type: ignore[arg-type]
    return table


def test_most_channels_win_and_little_growth_is_the_identity() -> None:
    table = _table(
        at2_0_sep_conv_3x3=5, at2_0_dil_conv_3x3=6, at3_0_sep_conv_3x3=4, at3_2_dil_conv_3x3=9
    )
    cell = Derivation(identity_threshold=0.5).derive(table, 2).reduce
    assert cell.nodes[0] == (
        Edge(operation="dil_conv_3x3", source=0),
        Edge(operation="skip_connect", source=1),
    )
    assert cell.nodes[1] == (
        Edge(operation="sep_conv_3x3", source=0),
        Edge(operation="dil_conv_3x3", source=2),
    )
    assert (
        Derivation(identity_threshold=1.5).derive(table, 2).normal.nodes[1][0].operation
        == "skip_connect"
    )
    assert [len(edges) for edges in Derivation(keep_all=True).derive(table, 2).normal.nodes] == [
        2,
        3,
    ]


@given(st.lists(st.integers(2, 12), min_size=20, max_size=20))
def test_what_is_derived_lies_in_the_space(counts: list[int]) -> None:
    table = dict(zip((site for site, _ in operation_sites(SPACE)), counts, strict=True))
    assert Derivation().derive(table, 2) in SPACE
