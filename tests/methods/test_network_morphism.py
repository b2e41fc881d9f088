"""Random morphisms keep the function, and widths and layers are drawn whole."""

import pytest
import torch

from fxgrow import Budget
from fxgrow.errors import ArgumentError
from fxgrow.methods import NetworkMorphism
from fxgrow.methods.morphisms import draw_order
from tests.methods.growing import assert_kept, assert_seeded, chosen_widths, grown, overgrown
from tests.networks import NETWORKS, network


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_kept(name: str) -> None:
    assert_kept(NetworkMorphism(norm=True), Budget(neurons=9), name)


def test_both_kinds_are_drawn() -> None:
    """Over some seeds: growths with both, and what is drawn first is not always the same."""
    graph, choose = overgrown(NetworkMorphism(), Budget(neurons=9), network("residual"))
    generator, drawn = torch.Generator().manual_seed(0), set()
    for _ in range(20):
        widths = chosen_widths(graph, choose(draw_order(graph, generator)))
        are_layers = [name.startswith("grown_layers.") for name in widths]
        drawn.add((any(are_layers), not all(are_layers)))
    assert drawn == {(True, True), (True, False), (False, True)}


def test_a_width_is_doubled_before_the_next_one_grows() -> None:
    graph, choose = overgrown(NetworkMorphism(layers=0), Budget(neurons=8), network("residual"))
    generator, by_name = torch.Generator().manual_seed(0), graph.coupling.by_name
    for _ in range(20):
        widths = chosen_widths(graph, choose(draw_order(graph, generator)))
        partly = [name for name, new in widths.items() if new != by_name[name].size]
        assert len(partly) <= 1
        assert sum(widths.values()) == 8


def test_half_as_wide_again() -> None:
    method = NetworkMorphism(layers=0, wider=0.5)
    graph, _ = overgrown(method, Budget(neurons=1), network("residual"))
    for number, places in graph.candidates.new.items():
        assert places.stop - places.start == -(-graph.coupling.widths[number].size // 2)


def test_a_budget_beyond_the_morphisms_is_spent() -> None:
    report = grown(NetworkMorphism(layers=0), Budget(neurons=40), "residual").report
    assert sum(width.new for width in report.widths) == 40 and not report.unspent


def test_the_seed_decides() -> None:
    assert_seeded(NetworkMorphism(), Budget(neurons=5))


def test_settings_of_layers_without_layers() -> None:
    with pytest.raises(ArgumentError, match="layers=0 inserts none"):
        NetworkMorphism(layers=0, norm=True)
