"""A method that says that it keeps the function is held to its word before anything is changed."""

import copy

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective, Scores, SelectFunction
from fxgrow.methods import ZeroOutgoing
from fxgrow.rewrite import OverGrown
from tests.networks import images, network


class Boastful(ZeroOutgoing):
    """It says so, but its new neurons have effect."""

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        scores = super().search(grown, objective, generator, choose)
        with torch.no_grad():
            for name, parameter in grown.graph_module.named_parameters():
                if "outgoing" in name:
                    parameter.add_(1.0)
        return scores


def grow(model: nn.Module, method: ZeroOutgoing) -> fxgrow.Growth:
    batch = images(4), torch.zeros(4, dtype=torch.long)
    loss = nn.functional.cross_entropy
    return fxgrow.grow(
        model,
        [batch],
        loss,
        method=method,
        budget=fxgrow.Budget(neurons=3),
        refresh_statistics=False,  # which changes what the model computes
    )


def test_what_does_not_keep_its_word_is_refused() -> None:
    model = network("residual")
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(GrowthError, match="what its method promises to keep") as refusal:
        grow(model, Boastful())
    assert refusal.value.code == "broken-promise"
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_what_keeps_it_passes() -> None:
    model = network("residual")
    growth = grow(model, ZeroOutgoing())
    torch.testing.assert_close(growth.module(images()), model(images()), rtol=1e-12, atol=1e-12)
