"""Tensors of other kinds as inputs and parameters: followed as plain ones, or refused."""

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.errors import ModelError


class Image(torch.Tensor):
    """A subclass as torchvision's ``tv_tensors`` are: it says what a tensor is."""


X = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def test_inputs_of_a_subclass() -> None:
    model, x = network(), X.as_subclass(Image)
    wider = fxgrow.widen(model, {"0": 2}, x).module
    assert wider[0].out_features == 8
    torch.testing.assert_close(wider(x), model(x), rtol=1e-12, atol=1e-12)


def test_parameters_of_a_subclass() -> None:
    model = network()
    model[0].weight = nn.Parameter(model[0].weight.detach().as_subclass(Image))
    expected = model(X).detach().as_subclass(torch.Tensor)
    with pytest.raises(ModelError, match="new_empty") as caught:  # torch cannot copy it
        fxgrow.widen(model, {"0": 2}, X)
    assert caught.value.code == "uncopyable-model"
    fxgrow.widen(model, {"0": 2}, X, inplace=True)
    assert model[0].weight.shape == (8, 5)
    torch.testing.assert_close(model(X).as_subclass(torch.Tensor), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_inputs_are_refused() -> None:
    nested = torch.nested.nested_tensor([X[:3], X])
    with pytest.raises(ModelError, match="nested tensor") as caught:
        fxgrow.couple(network(), nested)
    assert caught.value.code == "bad-inputs"
