"""Growth of a network with a width whose order comes from a replay: it splits, and gets no new neurons."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly
from tests.coupling.test_channel_order import Beside


def replayed() -> tuple[nn.Module, torch.Tensor]:
    """A network one of whose widths is dealt out in an order of its own, and images for it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(5, 4, 1),
        Beside(4),
        nn.ReLU(),
        nn.Conv2d(10, 6, 1, groups=2),
        nn.Flatten(),
        nn.Linear(54, 2),
    ).double()
    images = torch.randn(8, 5, 3, 3, dtype=torch.float64)
    return model, images


@pytest.mark.filterwarnings("ignore:the candidates ran out:UserWarning")  # few, to be fast
def test_it_splits_and_gets_no_new_neurons() -> None:
    model, images = replayed()
    coupling = fxgrow.couple(model, images)
    assert coupling.replay
    (number,) = coupling.replay.singly
    name = coupling.widths[number].name
    growth = fxgrow.grow(
        model,
        [(images, torch.tensor([0, 1] * 4))],
        F.cross_entropy,
        example_inputs=images,
        method=Firefly(new=3, steps=3),
        budget=Budget(neurons=9),
    )
    assert growth.report.faithful_error < 1e-12
    assert growth.report.refusals[name].code == "no-lane"
    assert {w.width: w.new for w in growth.report.widths}.get(name, 0) == 0


def test_a_budget_that_was_meant_for_it_is_a_warning() -> None:
    """Numbers in proportion are for all widths that may grow, and this one gets no new neurons."""
    model, images = replayed()
    with pytest.warns(UserWarning, match=r"ran out .* it was meant for widths that could take no"):
        fxgrow.grow(
            model,
            [(images, torch.tensor([0, 1] * 4))],
            F.cross_entropy,
            method=fxgrow.ZeroOutgoing(),
            budget=Budget(neurons=1.0),
        )
