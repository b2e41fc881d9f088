"""The tables of real models name what their libraries have."""

import pytest
import torch
import torchvision

from tools.zoo.torchvision_zoo import ROWS


def test_every_name_of_torchvision_has_a_row() -> None:
    assert sorted(row.name for row in ROWS) == sorted(torchvision.models.list_models())


def test_a_row_builds_a_model_that_runs_on_its_inputs() -> None:
    row = next(row for row in ROWS if row.name == "squeezenet1_1")
    (images,) = row.inputs(torch.float32)
    assert row.factory().eval()(images).shape == (len(images), 1000)


def test_every_family_of_timm_has_a_row() -> None:
    timm = pytest.importorskip("timm")
    from tools.zoo import timm_zoo

    assert sorted(row.family for row in timm_zoo.ROWS) == sorted(timm.list_modules())
