"""Growth of a network with a width whose order comes from a replay: it splits, and gets no new neurons."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly
from tests.coupling.test_channel_order import Beside


@pytest.mark.filterwarnings("ignore:the candidates ran out:UserWarning")  # few, to be fast
def test_it_splits_and_gets_no_new_neurons() -> None:
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
