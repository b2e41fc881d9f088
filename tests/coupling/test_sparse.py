"""Graph networks: neurons pass sparse adjacencies, in whatever form these are given."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.coupling import couple
from fxgrow.methods import Firefly
from tests.coupling.models import Net

EDGES = torch.tensor([[0, 1, 2, 3, 4, 4], [1, 2, 3, 4, 0, 1]])
with warnings.catch_warnings(action="ignore"):  # of invariants, and of a beta state
    ADJACENCY = torch.sparse_coo_tensor(EDGES, torch.arange(1.0, 7.0), (5, 5)).double()
    COMPRESSED = ADJACENCY.to_sparse_csr()
NODES = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def layers(product: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Two layers, each of which ends in the product with the adjacency."""

    def forward(net: Any, x: Tensor, adjacency: Tensor) -> Tensor:
        return product(adjacency, net.b(product(adjacency, net.a(x)).relu()))

    return forward


def added(adjacency: Tensor, x: Tensor) -> Tensor:
    return torch.sparse.addmm(torch.ones(5, x.shape[1], dtype=x.dtype), adjacency, x)


def attention(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    """The values of the adjacency are computed of the neurons."""
    h = net.a(x)
    scores = net.score(torch.cat([h[edges[0]], h[edges[1]]], 1)).exp().squeeze(1)
    weights = torch.sparse_coo_tensor(edges, scores, (len(x), len(x)))
    return net.b(torch.sparse.mm(weights, h).relu())


def made_in_forward(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    ones = torch.ones(edges.shape[1], dtype=x.dtype)
    adjacency = torch.sparse_coo_tensor(edges, ones, (x.shape[0], x.shape[0]))
    return net.b(torch.sparse.mm(adjacency, net.a(x)).relu())


def normalized(net: Any, x: Tensor, adjacency: Tensor) -> Tensor:
    rows, values = adjacency.coalesce().indices()[0], adjacency.coalesce().values()
    degrees = x.new_zeros(5).index_add(0, rows, values)
    scaled = torch.sparse_coo_tensor(adjacency.coalesce().indices(), values / degrees[rows], (5, 5))
    return net.b((scaled @ net.a(x)).relu())


CASES: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "sparse.mm": (layers(torch.sparse.mm), ADJACENCY),
    "compressed": (layers(torch.sparse.mm), COMPRESSED),
    "spmm": (layers(torch.spmm), ADJACENCY),
    "matmul": (layers(torch.matmul), COMPRESSED),
    "transposed": (layers(lambda a, x: torch.sparse.mm(a.t(), x)), ADJACENCY),
    "addmm": (layers(added), ADJACENCY),
    "dense": (layers(lambda a, x: a.to_dense() @ x), ADJACENCY),
    "made in forward": (made_in_forward, EDGES),
    "normalized": (normalized, ADJACENCY),
    "attention": (attention, EDGES),
}


def network(forward: Callable[..., Tensor]) -> Net:
    torch.manual_seed(0)
    parts = {"score": nn.Linear(12, 1)} if forward is attention else {}
    return Net(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 3), **parts).double().eval()


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("case", CASES)
def test_neurons_pass_an_adjacency(case: str, how: Any) -> None:
    forward, given = CASES[case]
    model = network(forward)
    wider = fxgrow.widen(model, {"a": 2}, (NODES, given), how=how)
    assert wider.unchecked == ""
    assert wider.module.get_submodule("a").out_features == 8
    expected = model(NODES + 1, given)
    torch.testing.assert_close(wider.module(NODES + 1, given), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kept", ["buffer", "compressed buffer", "attribute"])
def test_a_model_may_keep_its_adjacency(kept: str) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(torch.sparse.mm(net.adjacency, net.a(x)).relu())

    model = network(forward)
    adjacency = COMPRESSED if kept == "compressed buffer" else ADJACENCY
    if kept == "attribute":
        model.adjacency = adjacency
    else:
        model.register_buffer("adjacency", adjacency)
    growth = fxgrow.grow(
        model,
        [(NODES, torch.ones(5, 3, dtype=torch.float64))],
        nn.functional.mse_loss,
        method=Firefly(new=1, steps=1, refine_steps=1, points=1),
        budget=fxgrow.Budget(neurons=2),
        accept_no_gain=True,
    )
    assert growth.module.get_submodule("a").out_features == 8


def test_what_becomes_sparse_itself_does_not_grow() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(net.a(x).to_sparse().to_dense())

    refusal = couple(network(forward), (NODES,)).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "unknown-operator"
