import pytest
import torch
from torch import nn

from fxgrow.coupling import couple
from fxgrow.errors import GrowthError
from fxgrow.growth.scale import scale_widths
from tests.networks import Residual

INPUTS = (torch.zeros(2, 3, 8, 8),)


def sizes(model: nn.Module) -> list[int]:
    return [width.size for width in couple(model, INPUTS).widths if width.growable]


@pytest.mark.parametrize("factor", [0.01, 0.5, 1.0, 1.5, 3.0])
def test_every_growable_width_is_scaled(factor: float) -> None:
    model = Residual()
    before = sizes(model)
    scaled = scale_widths(model, INPUTS, factor)
    assert sizes(scaled) == [max(1, round(size * factor)) for size in before]
    assert sizes(model) == before
    assert type(scaled) is Residual
    assert scaled(*INPUTS).shape == (2, 2)


def test_attributes_follow() -> None:
    scaled = scale_widths(Residual(), INPUTS, 0.5)
    convolution, norm = scaled.get_submodule("stem"), scaled.get_submodule("norm")
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert (convolution.out_channels, norm.num_features) == (2, 2)


def test_weights_are_drawn_anew_from_the_seed_alone() -> None:
    model = Residual()
    before = torch.get_rng_state()
    first, again, other = (
        scale_widths(model, INPUTS, 1.0, seed).get_parameter("stem.weight") for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, model.stem.weight)
    assert float(first.detach().std()) == pytest.approx(
        (3 * 9 * 3) ** -0.5, rel=0.3
    )  # torch's own initial spread


def test_a_network_of_one_layer() -> None:
    with pytest.raises(GrowthError, match=r"no width of Linear can be scaled by 0\.5"):
        scale_widths(nn.Linear(3, 2), (torch.zeros(1, 3),), 0.5)
