"""The scratch control keeps the structure and nothing of the training."""

import copy

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.methods import from_scratch
from tests.methods.toys import rbf, rbf_data
from tests.networks import images, network


def test_structure_stays_and_every_weight_is_new() -> None:
    module = fxgrow.widen(network("residual"), {"a1": 3}, (images(),)).module
    before = copy.deepcopy(module.state_dict())
    fresh = from_scratch(module, seed=1)
    assert type(fresh) is type(module) and fresh.a1.out_channels == 8
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    for name, tensor in fresh.state_dict().items():
        assert tensor.shape == before[name].shape
        if tensor.is_floating_point():
            assert not (tensor == before[name]).any(), name


def test_same_as_a_new_model_of_that_seed() -> None:
    fresh = from_scratch(rbf(4, seed=0), seed=7)
    torch.testing.assert_close(
        fresh.state_dict(), from_scratch(rbf(4, seed=3), seed=7).state_dict(), rtol=0, atol=0
    )
    x, _ = rbf_data()
    assert not torch.equal(fresh(x), from_scratch(rbf(4), seed=8)(x))


def test_default_generator_is_left_alone() -> None:
    module = nn.Linear(2, 2)
    state = torch.get_rng_state()
    from_scratch(module, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_weight_that_nobody_draws_is_refused() -> None:
    with pytest.raises(GrowthError, match=r"^scale would keep trained values"):
        from_scratch(network("gate"))
