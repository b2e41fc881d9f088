"""Resizing in place: parameters, buffers, gradients, optimizer state, tied parameters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from fxgrow.surgery.index_map import NEW_INDEX, IndexMap
from fxgrow.surgery.memory_format import memory_format_of
from fxgrow.surgery.resize import apply_maps, named_tensors, resize


def split_first(size: int, scale: float = 1.0) -> IndexMap:
    """Copies the first of ``size`` entries and adds a new one at the end."""
    source = torch.tensor([0, 0, *range(1, size), NEW_INDEX])
    scales = torch.ones(len(source), dtype=torch.float64)
    scales[:2] = scale
    copy = torch.zeros(len(source)).long()
    copy[1] = 1
    return IndexMap(source, scales, copy)


def hidden(size: int = 2) -> dict[tuple[str, int], IndexMap]:
    return {
        ("0.weight", 0): split_first(size),
        ("0.bias", 0): split_first(size),
        ("1.weight", 1): split_first(size, 0.5),
    }


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).double()


def test_the_objects_stay_and_the_values_move(model: Any) -> None:
    parameters = list(model.parameters())
    first, second = model[0].weight.detach().clone(), model[1].weight.detach().clone()
    resize(model, hidden())
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    zero = torch.zeros(1, 3, dtype=torch.float64)
    assert torch.equal(model[0].weight, torch.cat([first[:1], first, zero]))
    halves = torch.stack([second[0, 0] / 2, second[0, 0] / 2, second[0, 1], zero[0, 0]])
    assert torch.equal(model[1].weight[0], halves)
    assert (model[0].out_features, model[1].in_features) == (4, 4)


def test_gradients_follow_unscaled(model: Any) -> None:
    model(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    before = model[1].weight.grad.clone()
    resize(model, hidden())
    assert model[1].weight.grad.tolist() == [[before[0, 0], before[0, 0], before[0, 1], 0]]


OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], tuple[str, ...]]] = {
    "momentum": (lambda p: SGD(p, lr=0.1, momentum=0.9), ("momentum_buffer",)),
    "adam": (lambda p: Adam(p, lr=0.1, amsgrad=True), ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state_follows_and_training_goes_on(model: Any, name: str) -> None:
    make, keys = OPTIMIZERS[name]
    optimizer = make(model.parameters())
    x = torch.ones(1, 3, dtype=torch.float64)
    model(x).sum().backward()
    optimizer.step()
    before = {key: optimizer.state[model[1].weight][key].clone() for key in keys}
    resize(model, hidden(), [optimizer])
    for key in keys:
        old = before[key][0]
        assert optimizer.state[model[1].weight][key].tolist() == [[old[0], old[0], old[1], 0]]
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


def test_buffers_and_attributes_follow() -> None:
    norm: Any = nn.BatchNorm1d(2)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    model = nn.Sequential(norm)
    resize(
        model,
        {
            (f"0.{name}", 0): split_first(2)
            for name in ("weight", "bias", "running_mean", "running_var")
        },
    )
    assert norm.num_features == 4
    assert norm.running_mean.tolist() == [1, 1, 2, 0]


def test_tied_parameters_are_resized_once_and_all_their_owners_refreshed() -> None:
    first, second = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    assert list(named_tensors(model)) == ["0.weight"]
    resize(model, {("0.weight", 0): split_first(2)})
    assert first.weight is second.weight
    assert (first.out_features, second.out_features) == (4, 4)


def test_a_parametrized_weight_refreshes_the_module_that_uses_it() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, bias=False))
    path = "0.parametrizations.weight.original"
    resize(nn.Sequential(layer), {(path + "0", 0): split_first(2), (path + "1", 0): split_first(2)})
    assert layer.out_features == 4


def test_axes_commute() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    both = apply_maps(tensor, {0: split_first(2), 1: split_first(3, 0.5)})
    assert torch.equal(
        both, apply_maps(apply_maps(tensor, {1: split_first(3, 0.5)}), {0: split_first(2)})
    )
    assert both.is_contiguous()


FORMATS = {
    torch.contiguous_format: (4, 3, 3, 3),
    torch.channels_last: (4, 3, 3, 3),
    torch.channels_last_3d: (4, 3, 3, 3, 3),
}


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_memory_format_is_kept(memory_format: torch.memory_format, axis: int) -> None:
    tensor = torch.randn(FORMATS[memory_format]).contiguous(memory_format=memory_format)
    mapped = apply_maps(tensor, {axis: split_first(tensor.shape[axis])})
    assert mapped.is_contiguous(memory_format=memory_format)
    assert memory_format_of(mapped) is memory_format


@pytest.mark.parametrize("shape", [(4, 1, 3, 3), (4, 3, 1, 1)])
def test_a_format_shows_where_a_size_is_one(shape: tuple[int, ...]) -> None:
    plain = torch.randn(shape)
    last = torch.empty(shape, memory_format=torch.channels_last).copy_(plain)
    assert memory_format_of(plain) is torch.contiguous_format
    assert memory_format_of(last) is torch.channels_last


def test_gradients_and_momentum_keep_the_format() -> None:
    conv = nn.Conv2d(3, 2, 3).to(memory_format=torch.channels_last)
    optimizer = SGD(conv.parameters(), lr=0.1, momentum=0.9)
    conv(torch.randn(1, 3, 4, 4).to(memory_format=torch.channels_last)).sum().backward()
    optimizer.step()
    resize(conv, {("weight", 0): split_first(2), ("bias", 0): split_first(2)}, [optimizer])
    momentum = optimizer.state[conv.weight]["momentum_buffer"]
    for tensor in (conv.weight, momentum):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_sparse_gradient_holds_the_same_rows_as_before(axis: int) -> None:
    """Of ``nn.Embedding(sparse=True)``: rows that were looked up, one of them with a zero gradient."""
    torch.manual_seed(0)
    model = nn.Embedding(4, 2, sparse=True).double()
    looked_up = torch.tensor([3, 1, 3])
    (model(looked_up) * torch.tensor([[1.0], [0.0], [2.0]])).sum().backward()
    gradient = model.weight.grad
    assert gradient is not None
    maps = {axis: split_first(model.weight.shape[axis])}
    expected = apply_maps(gradient.to_dense(), maps, scaled=False)
    resize(model, {("weight", axis): maps[axis]})
    grown = model.weight.grad
    assert grown is not None and grown.layout is torch.sparse_coo
    assert torch.equal(grown.to_dense(), expected) and expected.shape == model.weight.shape
    if axis == 1:
        assert grown.coalesce().indices().tolist() == [[1, 3]]
