"""Sizes that models write down for other code follow; numbers that are computed with do not."""

from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.growth.widen import widen

IMAGE = torch.randn(2, 3, 4, 4).double()


class Classifier(nn.Module):
    """A model in the manner of timm's."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.head_hidden_size, self.unknown = 6, 5, 6
        self.feature_info = [
            {"num_chs": 4, "module": "stem"},
            {"num_chs": 6, "module": "body"},
            {"num_chs": 4, "module": "body", "hook_type": "forward_pre"},
            {"num_chs": 9, "module": "body"},
        ]
        self.stem, self.body = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)
        self.hidden, self.fc = nn.Linear(6, 5), nn.Linear(5, 2)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(torch.relu(self.stem(x)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.relu(self.forward_features(x)).mean((2, 3))
        out: Tensor = self.fc(torch.relu(self.hidden(pooled)))
        return out


def test_records_follow_what_passes_at_their_places() -> None:
    model = Classifier().double().eval()
    wider: Any = widen(model, {"stem": 1, "body": 2, "hidden": 3}, (IMAGE,)).module
    assert (wider.num_features, wider.head_hidden_size, wider.unknown) == (8, 8, 6)
    assert [entry["num_chs"] for entry in wider.feature_info] == [5, 8, 5, 9]
    assert [entry["num_chs"] for entry in model.feature_info] == [4, 6, 4, 9]


def test_of_a_part_of_a_model_too() -> None:
    model = nn.Sequential(Classifier(), nn.ReLU(), nn.Linear(2, 3)).double().eval()
    wider: Any = widen(model, {"0.body": 2}, (IMAGE,)).module
    assert wider[0].num_features == 8


class Scaled(nn.Module):
    """A linear layer that scales by a size that it keeps."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.weight = nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T * self.in_features**-0.5


def test_what_is_computed_with_stays() -> None:
    model = nn.Sequential(Scaled(6, 4), nn.Tanh(), Scaled(4, 2)).double()
    wider: Any = widen(model, {"0": 3}, (torch.randn(2, 6).double(),)).module
    assert [(layer.in_features, layer.out_features) for layer in (wider[0], wider[2])] == [
        (6, 7),
        (4, 2),
    ]


class Mixed(nn.Module):
    """``num_features`` equals what it reads along one of two axes, and along the other."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 4
        self.mix, self.read = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.read(torch.relu(self.mix(x)))
        return out


def test_a_record_of_inputs_does_not_follow_hidden_neurons_of_its_size() -> None:
    model = nn.Sequential(nn.Linear(6, 4), Mixed()).double()
    vector = torch.randn(2, 6).double()
    hidden: Any = widen(model, {"1.mix": 3}, (vector,)).module
    inputs: Any = widen(model, {"0": 3}, (vector,)).module
    assert (hidden[1].num_features, inputs[1].num_features) == (4, 7)
