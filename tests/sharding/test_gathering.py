"""A tensor that looks whole: what is computed with it, kept of it, and written into it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import Replicate, Shard

from fxgrow.ranks import ALONE
from fxgrow.sharding.gathering import GatheringTensor, ShardLayout, new_record


@pytest.fixture
def layout(mesh: Any) -> ShardLayout:
    return ShardLayout(mesh, (Shard(0),), ALONE, new_record())


def gathering(tensor: Tensor, layout: ShardLayout) -> Any:
    return nn.Parameter(GatheringTensor(layout.cut(tensor)))


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = [
        nn.Linear(4, 6),
        nn.ReLU(),
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 2, 3),
        nn.LayerNorm(4),
    ]
    return nn.Sequential(*parts)


def test_a_model_computes_the_same_and_keeps_nothing_that_was_gathered(layout: ShardLayout) -> None:
    plain = network()
    model = copy.deepcopy(plain)
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                setattr(module, name, gathering(parameter, layout))
    x, kept = torch.randn(3, 4, requires_grad=True), []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(x)
    for one, other in ((output, plain(x)),):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        one.square().sum().backward()
        other.square().sum().backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    # Of every weight autograd holds the tensor that gathers.
    shapes = {tuple(one.shape) for one in kept if isinstance(one, GatheringTensor)}
    assert {(4, 6), (2, 1, 3), (4,)} <= shapes
    assert not any(tuple(one.shape) == (4, 6) and type(one) is Tensor for one in kept)


def test_what_is_written_is_cut_and_the_old_part_is_left_alone(layout: ShardLayout) -> None:
    parameter = gathering(torch.zeros(4, 3), layout)
    local, before = parameter.parts.local, parameter.data
    with torch.no_grad():
        parameter.data += 1
        parameter[1].fill_(7)
        parameter.t().mul_(2)
    expected = torch.full((4, 3), 2.0)
    expected[1] = 14
    assert torch.equal(parameter.parts.whole(), expected)
    assert not local.any(), "a shard that the caller has is never written into"
    assert torch.equal(before.parts.whole(), expected), "data is a view"


def test_data_of_another_shape_takes_the_place_of_the_old(layout: ShardLayout) -> None:
    parameter = gathering(torch.zeros(4, 3), layout)
    before = parameter.data
    parameter.data = torch.ones(6, 3)
    assert parameter.shape == (6, 3) and torch.equal(parameter.parts.whole(), torch.ones(6, 3))
    assert isinstance(parameter, GatheringTensor) and isinstance(parameter, nn.Parameter)
    parameter.data = before
    assert parameter.shape == (4, 3) and not parameter.parts.whole().any()


def test_copies_have_parts_of_their_own(layout: ShardLayout) -> None:
    parameter = gathering(torch.zeros(4, 3), layout)
    copies = [copy.deepcopy(parameter), parameter.detach().clone(), parameter.double().detach()]
    with torch.no_grad():
        parameter.add_(1)
    for one in copies:
        assert isinstance(one, GatheringTensor) and not one.parts.whole().any()
    assert copies[2].dtype is torch.float64


def test_shapes_need_no_numbers(layout: ShardLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    parameter = gathering(torch.zeros(4, 3), layout)
    monkeypatch.setattr(type(parameter.parts), "gathered", None)
    made = [torch.zeros_like(parameter), parameter.new_ones(4, 3), torch.empty_like(parameter.t())]
    for one in made:
        assert type(one) is Tensor and one.device == parameter.device
    assert torch.empty_like(parameter, device="meta").is_meta and parameter.to("meta").is_meta
    assert nn.functional.linear(torch.empty(2, 3, device="meta"), parameter).shape == (2, 4)


def test_what_was_written_differs_in_the_record(mesh: Any) -> None:
    digests = set()
    for value in (1.0, 1.0, 2.0):
        layout = ShardLayout(mesh, (Shard(0),), ALONE, new_record())
        gathering(torch.full((2, 2), value), layout)
        digests.add(layout.written.digest())
    assert len(digests) == 2


def test_what_is_alike_everywhere_is_not_cut(mesh: Any) -> None:
    layout = ShardLayout(mesh, (Replicate(),), ALONE, new_record())
    assert torch.equal(gathering(torch.ones(2, 2), layout).parts.whole(), torch.ones(2, 2))
