"""The over-grown graph: nothing at eps = 0, exact text, refusals by name."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth.result import graph_text
from fxgrow.rewrite import OvergrownLayer, overgrow
from tests.networks import NETWORKS, images, network
from tests.rewrite.rewriting import assert_rewrite, over_grown, randomise_candidates

GOLDEN = Path(__file__).parent.parent / "golden"


def test_no_candidates_change_nothing() -> None:
    module, x = network("chain"), images()
    captured = capture(module, (x,))
    expected = graph_text(captured.graph_module)
    kept = [line for line in expected.splitlines() if line]
    grown = overgrow(captured, couple(captured), [], {}, torch.Generator())
    assert [line for line in graph_text(grown.graph_module).splitlines() if line] == kept
    assert not any(isinstance(m, OvergrownLayer) for m in grown.graph_module.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_identity_at_zero(name: str) -> None:
    module, x = network(name), images()
    grown = over_grown(module, x, new=2)
    randomise_candidates(grown)
    before, moved = module(x), grown.graph_module(x)
    assert (moved - before).abs().max() > 1e-3
    with torch.no_grad():
        grown.candidates.split_eps.zero_()
        grown.candidates.new_eps.zero_()
    torch.testing.assert_close(grown.graph_module(x), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_base_parameters_get_no_gradient(name: str) -> None:
    module, x = network(name), images()
    grown = over_grown(module, x, new=2)
    randomise_candidates(grown)
    grown.graph_module(x).square().sum().backward()
    assert all(parameter.grad is None for parameter in module.parameters())
    assert (
        grown.candidates.split_eps.grad is not None
        and grown.candidates.split_eps.grad.abs().max() > 0
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_graphs(name: str) -> None:
    """A refactor leaves these texts byte-equal; write them anew with ``python -m tests.rewrite.test_overgrow``."""
    assert (
        graph_text(over_grown(network(name), images(), new=2).graph_module)
        == (GOLDEN / f"{name}.txt").read_text()
    )


def test_exact_text_and_edits() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    expected = """\
%input_1 : [num_users=1] = placeholder[target=input]
%fxgrow_candidates_split_eps : [num_users=1] = get_attr[target=fxgrow_candidates.split_eps]  # layer
%fxgrow_candidates_new_eps : [num_users=1] = get_attr[target=fxgrow_candidates.new_eps]  # layer
%scaled_candidates : [num_users=2] = call_module[target=fxgrow_scaling](args = (%fxgrow_candidates_split_eps, \
%fxgrow_candidates_new_eps), kwargs = {})  # layer
%getitem : [num_users=1] = call_function[target=operator.getitem](args = (%scaled_candidates, 0), kwargs = {})  # layer
%_0 : [num_users=2] = call_module[target=fxgrow_grown.0](args = (%input_1, None, [], %getitem), kwargs = {})  # layer
%getitem_1 : [num_users=1] = call_function[target=operator.getitem](args = (%_0, 0), kwargs = {})  # layer  plus
%getitem_2 : [num_users=1] = call_function[target=operator.getitem](args = (%_0, 1), kwargs = {})  # layer  minus
%_1 : [num_users=1] = call_module[target=1](args = (%getitem_1,), kwargs = {})  # path  plus
%_1_1 : [num_users=1] = call_module[target=1](args = (%getitem_2,), kwargs = {})  # path  minus
%getitem_3 : [num_users=1] = call_function[target=operator.getitem](args = (%scaled_candidates, 1), kwargs = {})  # layer
%_2 : [num_users=1] = call_module[target=fxgrow_grown.2](args = (%_1, %_1_1, [], %getitem_3), kwargs = {})  # layer
%getitem_4 : [num_users=1] = call_function[target=operator.getitem](args = (%_2, 0), kwargs = {})  # layer  plus
return getitem_4
"""
    assert_rewrite(
        module, torch.randn(4, 3, dtype=torch.float64), expected, {"layer": 10, "path": 2}
    )


class ChainReader(nn.Module):
    """Reads its neurons by a product that has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.write, self.read = nn.Linear(3, 4), nn.Parameter(torch.randn(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.multi_dot((torch.relu(self.write(x)), self.read.T))


def test_reader_without_rule_is_refused() -> None:
    grown = over_grown(ChainReader(), torch.randn(5, 3), new=1)
    assert not grown.candidates.split and not grown.candidates.new
    (refusal,) = grown.refusals.values()
    assert (
        refusal.code == "no-rewrite"
        and "multi_dot" in refusal.reason
        and refusal.nodes == ("linalg_multi_dot",)
    )


@torch.fx.wrap
def _clipped(sizes: list[int], largest: int) -> list[int]:
    """Changes the list that it is given, as torchvision's window sizes are."""
    sizes[0] = min(sizes[0], largest)
    return sizes


def test_functions_may_change_the_lists_that_they_are_given() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x))) * _clipped([7, 2], x.shape[0])[0]

    assert not over_grown(Windows(), torch.randn(5, 3), new=1).refusals


def test_new_neurons_that_cannot_pass_alone_are_refused() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x)) + x.new_ones(4))

    grown = over_grown(Fixed(), torch.randn(5, 3), new=1)
    assert not grown.candidates.new


if __name__ == "__main__":
    for key in NETWORKS:
        (GOLDEN / f"{key}.txt").write_text(
            graph_text(over_grown(network(key), images(), new=2).graph_module)
        )
