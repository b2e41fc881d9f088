import pytest
import torch
from torch import nn

from fxgrow.continual.fit import train_task
from fxgrow.continual.settings import TrainSettings
from fxgrow.errors import ArgumentError
from fxgrow.training import cross_entropy


def test_the_rate_falls_along_half_a_cosine() -> None:
    settings = TrainSettings(lr=0.4)
    assert [settings.learning_rate(progress) for progress in (0, 0.5, 1)] == pytest.approx(
        [0.4, 0.2, 0.0]
    )
    assert settings.learning_rate(0.25) == pytest.approx(0.2 * (1 + 0.5**0.5))


def test_every_step_has_its_own_rate() -> None:
    """Under a constant gradient g a weight moves by -g times the sum of the rates; the second of two is half of lr."""
    layer = nn.Linear(1, 2, bias=False).double()
    nn.init.zeros_(layer.weight)
    settings = TrainSettings(epochs=1, lr=0.1, momentum=0, weight_decay=0)
    batches = [(torch.ones(2, 1).double(), torch.zeros(2, dtype=torch.long))] * 2
    free = {"weight": torch.ones(2, 1, dtype=torch.bool)}
    train_task(layer, batches, lambda output, _: output[:, 0].mean(), settings, free)
    assert layer.weight[0].item() == pytest.approx(-0.1 - 0.05)
    assert layer.weight[1].item() == 0
    assert cross_entropy(layer(batches[0][0]), batches[0][1]) > 0


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 1}, {"lr": 0}, {"momentum": 1}, {"rate": 0.1}]
)
def test_settings_are_closed(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError):
        TrainSettings(**wrong)  # type: ignore[arg-type]
