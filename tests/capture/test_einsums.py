"""Einsums of many operands are chains of two in the graph."""

import pytest
import torch
from torch import Tensor, nn

from fxgrow.capture import capture


class Chain(nn.Module):
    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation
        self.u, self.v = nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.randn(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum(self.equation, x, self.u, self.v, x)


@pytest.mark.parametrize(
    "equation", ["ab,bc,cd,ae->ade", "ab,bc,cd,ef", "...a,ab,bc,...c->...", "ab, bc, cd, ad"]
)
def test_a_chain_computes_the_same(equation: str) -> None:
    torch.manual_seed(0)
    model, x = Chain(equation).double(), torch.randn(3, 3, dtype=torch.float64)
    graph_module = capture(model, x).graph_module
    calls = [node for node in graph_module.graph.nodes if node.target is torch.einsum]
    assert [len(node.all_input_nodes) for node in calls] == [2, 2, 2]
    torch.testing.assert_close(graph_module(x), model(x), rtol=0, atol=1e-12)
