"""What a run measures for its triggers."""

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow import Budget, Firefly
from fxgrow.data import Splits
from fxgrow.errors import TrainingError
from fxgrow.training.measure import (
    activation_spectra,
    promise_of,
    set_aside,
    singular_values,
    training_multiply_adds,
)


def test_images_are_set_aside(digits: Splits) -> None:
    rest, aside = set_aside(digits, 0.2, seed=0)
    assert aside is not None and (len(rest.train), len(aside)) == (78, 19)
    both = torch.cat([rest.train.images, aside.images]).flatten(1)
    assert sorted(both.tolist()) == sorted(digits.train.images.flatten(1).tolist())
    again, other = (set_aside(digits, 0.2, seed=seed)[1] for seed in (0, 1))
    assert again is not None and torch.equal(again.images, aside.images)
    assert other is not None and not torch.equal(other.images, aside.images)
    assert set_aside(digits, 0.0, seed=0) == (digits, None)
    least = set_aside(digits, 1e-9, seed=0)[1]
    assert least is not None and len(least) == 1


def test_singular_values_are_those_of_the_activations() -> None:
    """Positions are all entries but the neurons; they divide by the root of their number."""
    torch.manual_seed(0)
    value = torch.randn(4, 3, 5, 2, dtype=torch.float64)
    matrix = value.permute(0, 2, 3, 1).reshape(-1, 3) / 40**0.5
    expected = torch.linalg.svdvals(matrix)
    torch.testing.assert_close(
        torch.tensor(singular_values(value, 1), dtype=torch.float64), expected
    )
    assert len(singular_values(torch.randn(2, 9), 1)) == 2


class Twins(nn.Module):
    """A convolution with a repeated filter, batch norm, pooling, and a flattened map read by a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.hidden, self.head = nn.Linear(16, 5), nn.Linear(5, 2)
        self.conv.weight.data[1] = self.conv.weight.data[0]
        self.conv.bias.data[1] = self.conv.bias.data[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 3)
        return self.head(self.hidden(x.flatten(1)).tanh())


def test_spectra_are_of_what_readers_see() -> None:
    torch.manual_seed(0)
    model = Twins().double().train()
    images = torch.randn(40, 1, 8, 8, dtype=torch.float64)
    spectra = activation_spectra(model, (images[:1],), (images,))
    by_width = {spectrum.width: spectrum for spectrum in spectra}
    assert by_width.keys() == {"conv", "hidden"}
    assert by_width["conv"].rank_share(1e-6) == 0.75
    assert by_width["hidden"].rank_share(1e-6) == 1.0
    assert model.training and model.norm.num_batches_tracked == 0
    model.eval()
    pooled = nn.functional.max_pool2d(model.norm(model.conv(images)).relu(), 3)
    assert by_width["conv"].values == pytest.approx(singular_values(pooled, 1))


def test_no_width_has_activations() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    images = torch.randn(4, 1, 8, 8)
    with pytest.raises(TrainingError) as caught:
        activation_spectra(model, (images[:1],), (images,))
    assert caught.value.code == "no-activations"


def test_multiply_adds_of_training() -> None:
    """Two examples take 10 in a forward pass, so one takes 15 in a training step."""
    assert training_multiply_adds(10, examples=2, images=7) == 105


def test_a_promise_is_what_scores_add_up_to() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(8, 3, generator=generator, dtype=torch.float64), torch.arange(8) % 2)
        for _ in range(6)
    ]
    report = fxgrow.grow(
        model, batches, nn.functional.cross_entropy, example_inputs=(batches[0][0][:2],),
        method=Firefly(new=2, layers=2, steps=3, refine_steps=2), budget=Budget(neurons=8),
    ).report  # fmt: skip
    assert report.widths and report.layers
    promise = promise_of(report, examples=2, batch_size=8)
    scores = [score for width in report.widths for score in width.scores]
    assert promise.gain == pytest.approx(sum(scores) + sum(layer.score for layer in report.layers))
    assert report.batches is not None and report.batches.scored == 1
    passes = 3 + 2 + 1
    assert promise.multiply_adds == 3 * report.multiply_adds_overgrown / 2 * 8 * passes
