"""Every attribute that repeats a parameter's size follows it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow.surgery.attributes import new_entry_value, sync_size_attributes

CASES: list[tuple[nn.Module, dict[str, tuple[int, ...]], dict[str, int]]] = [
    (nn.Linear(3, 2), {"weight": (5, 4)}, {"out_features": 5, "in_features": 4}),
    (
        nn.Bilinear(2, 3, 4),
        {"weight": (7, 5, 6)},
        {"out_features": 7, "in1_features": 5, "in2_features": 6},
    ),
    (
        nn.Conv2d(3, 2, 1),
        {"weight": (5, 4, 1, 1)},
        {"out_channels": 5, "in_channels": 4, "groups": 1},
    ),
    (
        nn.Conv2d(4, 6, 1, groups=2),
        {"weight": (8, 3, 1, 1)},
        {"out_channels": 8, "in_channels": 6, "groups": 2},
    ),
    (
        nn.Conv1d(4, 4, 1, groups=4),
        {"weight": (6, 1, 1)},
        {"out_channels": 6, "in_channels": 6, "groups": 6},
    ),
    (
        nn.Conv2d(4, 8, 1, groups=4),
        {"weight": (12, 1, 1, 1)},
        {"out_channels": 12, "in_channels": 6, "groups": 6},
    ),
    (
        nn.ConvTranspose2d(3, 2, 1),
        {"weight": (4, 5, 1, 1)},
        {"out_channels": 5, "in_channels": 4, "groups": 1},
    ),
    (
        nn.ConvTranspose2d(4, 6, 1, groups=2),
        {"weight": (6, 4, 1, 1)},
        {"out_channels": 8, "in_channels": 6, "groups": 2},
    ),
    (
        nn.ConvTranspose2d(4, 8, 1, groups=4),
        {"weight": (6, 2, 1, 1)},
        {"out_channels": 12, "in_channels": 6, "groups": 6},
    ),
    (nn.BatchNorm2d(3), {"weight": (5,)}, {"num_features": 5}),
    (nn.BatchNorm2d(3, affine=False), {"running_mean": (5,)}, {"num_features": 5}),
    (nn.Embedding(10, 3), {"weight": (10, 5)}, {"num_embeddings": 10, "embedding_dim": 5}),
    (nn.PReLU(3), {"weight": (5,)}, {"num_parameters": 5}),
]


@pytest.mark.parametrize(
    ("module", "shapes", "expected"), CASES, ids=lambda one: type(one).__name__
)
def test_attributes_follow(
    module: nn.Module, shapes: dict[str, tuple[int, ...]], expected: dict[str, int]
) -> None:
    for name, shape in shapes.items():
        getattr(module, name).data = torch.zeros(shape)
    sync_size_attributes(module)
    assert {name: getattr(module, name) for name in expected} == expected


def test_recurrent_sizes_follow() -> None:
    module = nn.LSTM(3, 4)
    module.weight_ih_l0.data, module.weight_hh_l0.data = torch.zeros(20, 6), torch.zeros(20, 5)
    sync_size_attributes(module)
    assert (module.input_size, module.hidden_size) == (6, 5)


def test_sizes_of_a_recurrent_layer_with_a_projection_follow() -> None:
    module = nn.LSTM(3, 4, proj_size=2)
    module.weight_ih_l0.data, module.weight_hh_l0.data = torch.zeros(20, 6), torch.zeros(20, 3)
    sync_size_attributes(module)
    assert (module.input_size, module.hidden_size, module.proj_size) == (6, 5, 3)


def test_unknown_modules_are_left_alone() -> None:
    module: Any = nn.Sequential()
    sync_size_attributes(module)
    assert not hasattr(module, "out_features")


VALUES: list[tuple[nn.Module, str, Tensor, float]] = [
    (nn.BatchNorm2d(2), "weight", torch.tensor([3.0, 5.0]), 1.0),
    (nn.BatchNorm2d(2), "running_var", torch.tensor([3.0, 5.0]), 1.0),
    (nn.BatchNorm2d(2), "bias", torch.tensor([3.0, 5.0]), 0.0),
    (nn.BatchNorm2d(2), "running_mean", torch.tensor([3.0, 5.0]), 0.0),
    (nn.PReLU(2), "weight", torch.tensor([0.2, 0.4]), 0.3),
]


@pytest.mark.parametrize(("module", "name", "tensor", "value"), VALUES)
def test_new_values(module: nn.Module, name: str, tensor: Tensor, value: float) -> None:
    assert new_entry_value(module, name, tensor) == pytest.approx(value)
