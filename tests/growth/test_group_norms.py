"""Widths under a group norm: they grow by whole groups, which have statistics of their own."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.methods import Firefly, Net2Wider, RandomGrowth, ZeroOutgoing
from tests.growth.group_norms import (
    GROUPS,
    NORMS,
    SIZE,
    ByFunction,
    Constant,
    Merged,
    Net,
    Two,
    error,
    images,
    made,
)
from tests.networks import randomised

EXACT = 1e-12


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("how", ["new", "split"])
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("norm", NORMS)
def test_any_number_of_groups_keeps_the_function(norm: str, count: int, how: Any) -> None:
    model = made(norm)
    width = fxgrow.couple(model, images()).by_name["up"]
    assert (width.size, width.granule) == ((SIZE, 1) if norm == "single channels" else (GROUPS, 3))
    wider = fxgrow.widen(model, {"up": count}, images(), how=how).module
    assert wider.up.weight.shape[0] == SIZE + count * width.granule
    assert error(wider, model) < EXACT


@pytest.mark.parametrize("affine", [True, False])
def test_the_sizes_of_a_module_follow(affine: bool) -> None:
    model = randomised(Net(nn.GroupNorm(GROUPS, SIZE, affine=affine)))
    norm: Any = fxgrow.widen(model, {"up": 2}, images(), how="new").module.norm
    assert (norm.num_groups, norm.num_channels) == (6, 18)


METHODS = (
    Firefly(new=3, steps=4, refine_steps=2, points=1),
    RandomGrowth(),
    RandomGrowth(split=False),
    ZeroOutgoing(),
    Net2Wider(),
)


def grown(model: Any, method: Any) -> Any:
    batches = [(images(seed), torch.tensor([0, 1])) for seed in range(6)]
    budget = fxgrow.Budget(neurons=2)
    return fxgrow.grow(model, batches, F.cross_entropy, method=method, budget=budget, **GAIN)


GAIN: dict[str, Any] = {"accept_no_gain": True}


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("norm", NORMS)
def test_groups_are_candidates_of_grow(norm: str, method: Any) -> None:
    report = (growth := grown(made(norm), method)).report
    assert [change.after - change.before for change in report.widths] == [2]
    assert report.faithful_error < EXACT
    assert report.preservation_error < EXACT
    assert type(growth.module) is Net


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_over_two_widths_grows_by_the_groups_of_each(affine: bool) -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 12, 1)
            self.norm, self.down = nn.GroupNorm(6, 18, affine=affine), nn.Conv2d(18, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            both = torch.cat([self.one(x), self.two(x)], 1)
            return self.down(self.norm(both).relu()).mean((2, 3))

    model = randomised(Beside())
    wider: Any = fxgrow.widen(model, {"one": 1, "two": 2}, images(), how="new").module
    assert (wider.one.weight.shape[0], wider.two.weight.shape[0]) == (9, 18)
    assert wider.norm.num_groups == 9
    assert error(wider, model) < EXACT
    assert grown(model, RandomGrowth(split=False)).report.faithful_error < EXACT


def test_one_group_of_all_channels_stays_one() -> None:
    model = randomised(Net(nn.GroupNorm(1, SIZE, eps=0.1)))
    with pytest.raises(GrowthError, match=r"12, 24, \.\.\. neurons more") as refusal:
        fxgrow.widen(model, {"up": 1}, images(), how="new")
    assert refusal.value.code == "normalised"
    wider: Any = fxgrow.widen(model, {"up": SIZE}, images()).module
    assert (wider.norm.num_groups, wider.norm.num_channels) == (1, 2 * SIZE)
    assert error(wider, model) < EXACT


@pytest.mark.parametrize(("norm", "code"), [(Constant, "grid"), (Two, "grid"), (Merged, "reduced")])
def test_what_cannot_follow_is_refused(norm: type[ByFunction], code: str) -> None:
    model = randomised(Net(norm()))
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(GrowthError) as refusal:
        fxgrow.widen(model, {"up": 1}, images(), how="new")
    assert refusal.value.code == code
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_channels_merged_with_space_split_alike() -> None:
    model = randomised(Net(Merged()))
    assert error(fxgrow.widen(model, {"up": SIZE}, images()).module, model) < EXACT


def test_timm() -> None:
    timm = pytest.importorskip("timm")
    model = randomised(timm.create_model("resnet50_gn", layers=(1, 1, 1, 1), num_classes=3))
    x = torch.randn(1, 3, 32, 32).double()
    widths = fxgrow.couple(model, x).widths
    assert {width.name for width in widths if not width.growable} == {"fc"}
    wider: Any = fxgrow.widen(model, {"conv1": 1, "layer2.0.conv3": 1}, x, how="new").module
    assert wider.bn1.num_groups == 33
    with torch.no_grad():
        assert (wider(x) - model(x)).abs().max() < EXACT
