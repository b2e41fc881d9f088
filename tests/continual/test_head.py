import pytest
import torch
from torch import Tensor, nn

from fxgrow.capture import capture
from fxgrow.continual import Master
from fxgrow.continual.head import find_head, new_head
from fxgrow.errors import GrowthError
from tests.networks import NETWORKS, images, network

LAST = {"chain": "9", "grouped": "8"}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_layer_is_found(name: str) -> None:
    assert find_head(capture(network(name), (images(),))) == LAST.get(name, "head")


class Two(nn.Module):
    """Two outputs, each from a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.body(x))
        return self.one(x), self.other(x)


def test_two_outputs_are_refused_unless_one_is_named() -> None:
    x = torch.randn(3, 4)
    with pytest.raises(GrowthError, match="one") as caught:
        Master(Two(), (x,))
    assert (
        caught.value.code == "no-head"
        and "other" in str(caught.value)
        and "head=" in str(caught.value)
    )
    assert Master(Two(), (x,), head="other").union.head == "other"


@pytest.mark.parametrize(
    ("model", "head", "named"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), None, "1"),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "1", "1"),
        (nn.Sequential(nn.Linear(4, 3)), "nowhere", "nowhere"),
        (nn.Identity(), None, "nothing"),
    ],
)
def test_what_is_no_head_is_named(model: nn.Module, head: str | None, named: str) -> None:
    with pytest.raises(GrowthError) as caught:
        find_head(capture(model, (torch.randn(3, 4),)), head)
    assert caught.value.code == "no-head" and named in str(caught.value)


def test_a_new_head_has_rows_for_the_classes_alone() -> None:
    model = network("chain")
    new_head(model, "9", 300, torch.Generator().manual_seed(0))
    layer = model.get_submodule("9")
    assert isinstance(layer, nn.Linear)
    assert (
        layer.weight.shape == (300, 5)
        and layer.out_features == 300
        and model(images()).shape == (3, 300)
    )
    for parameter in (layer.weight, layer.bias):
        assert parameter.dtype == torch.float64 and 0.9 * 5**-0.5 < parameter.abs().max() <= 5**-0.5
    again, other = network("chain"), network("chain")
    new_head(again, "9", 300, torch.Generator().manual_seed(0))
    new_head(other, "9", 300, torch.Generator().manual_seed(1))
    assert torch.equal(again.get_submodule("9").weight, layer.weight)  # type: ignore[arg-type]
    assert not torch.equal(other.get_submodule("9").weight, layer.weight)  # type: ignore[arg-type]


def test_a_convolution_can_be_a_head() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert find_head(capture(model, (torch.randn(2, 3, 4, 4),))) == "2"
    new_head(model, "2", 5, torch.Generator())
    assert model(torch.randn(2, 3, 4, 4)).shape == (2, 5)
