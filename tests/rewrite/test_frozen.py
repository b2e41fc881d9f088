"""Frozen batch norms."""

import pytest
import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks

from fxgrow.rewrite.frozen import FrozenNorm, freeze_norms


def norm(*, affine: bool = True) -> nn.BatchNorm2d:
    found = nn.BatchNorm2d(3, affine=affine).double()
    for tensor in found.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 2.0)
    return found.eval()


def images() -> Tensor:
    return (
        torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        .double()
        .requires_grad_()
    )


@pytest.mark.parametrize("affine", [True, False])
def test_it_computes_the_same_and_keeps_no_input(affine: bool) -> None:
    own, x = norm(affine=affine), images()
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        found = FrozenNorm(own)(x)
    torch.testing.assert_close(found, own(x), rtol=1e-13, atol=1e-13)
    assert all(tensor.numel() < x.numel() for tensor in kept)
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(own(x).square().sum(), x)[0], rtol=1e-12, atol=1e-12
    )
    assert all(parameter.grad is None for parameter in own.parameters())


def test_in_training_it_is_the_norm_itself() -> None:
    own, same = norm().train(), norm().train()
    same.load_state_dict(own.state_dict())
    assert torch.equal(FrozenNorm(own)(images()), same(images()))
    assert torch.equal(own.running_mean, same.running_mean)


def test_of_a_graph_only_the_models_own_are_frozen() -> None:
    root = nn.Sequential()
    root.add_module("own", norm())
    root.add_module("held", nn.Sequential())
    root.held.add_module("candidates", norm())
    graph = fx.Graph()
    x = graph.placeholder("x")
    once = graph.call_module("own", (x,))
    graph.output(graph.call_module("held.candidates", (graph.call_module("own", (once,)),)))
    freeze_norms(graph, root, "held")
    targets = [node.target for node in graph.nodes if node.op == "call_module"]
    assert targets == ["held.frozen_own", "held.frozen_own", "held.candidates"]
    assert root.held.frozen_own.norm is root.own
