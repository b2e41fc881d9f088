from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import fxgrow
from fxgrow.surgery.new_entries import carrier_entries, random_entries


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_random_entries_have_the_spread_of_the_others() -> None:
    weight = 3 * torch.randn(50, 40, generator=generator())
    new = random_entries(weight, 0, 60, generator())
    assert new.shape == (60, 40)
    assert float(new.std()) == pytest.approx(float(weight.std()), rel=0.1)
    assert torch.equal(new, random_entries(weight, 0, 60, generator()))


def test_kernels_are_random_and_scales_neutral() -> None:
    convolution, norm = nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)
    kernels = carrier_entries(convolution, "weight", convolution.weight, 0, 2, generator())
    assert kernels.shape == (2, 1, 3, 3)
    assert float(kernels.std()) > 0
    assert carrier_entries(norm, "0.weight", norm.weight, 0, 2, generator()).tolist() == [1, 1]


@pytest.mark.parametrize("how", ["split", "new"])
def test_masks_of_pruned_layers_stay_masks(how: Any) -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 5), nn.Linear(5, 2)
    model = nn.Sequential(*layers).double().eval()
    for number in (0, 1, 3):
        prune.random_unstructured(model[number], "weight", 0.4)  # type: ignore[no-untyped-call]
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    wider = fxgrow.widen(model, {"0": 2, "3": 1}, (x,), how=how).module
    torch.testing.assert_close(wider(x), model(x), rtol=0, atol=1e-12)
    masks = {name: mask for name, mask in wider.named_buffers() if name.endswith("mask")}
    for name, mask in masks.items():
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        old = model.get_buffer(name)
        if how == "new" and old.dim() > 1:  # new rows and new columns are not pruned
            assert mask[len(old) :, : old.shape[1]].all()
            assert mask[: len(old), old.shape[1] :].all()
    assert masks["3.weight_mask"].shape == (6, 72)
