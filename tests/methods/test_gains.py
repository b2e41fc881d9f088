"""Gains without units, and what they are beyond those of candidates that say nothing."""

import pytest
import torch
from torch.nn import functional as F

from fxgrow.growth import Objective
from fxgrow.methods.gains import Seen, beyond_noise, largest_noise


def test_the_curvature_is_that_of_single_examples() -> None:
    """Of 1/2 |z - y|^2, whose derivative by z is z - y, in two batches."""
    z, y = torch.randn(2, 6, 3).double().requires_grad_(), torch.randn(2, 6, 3).double()
    square = 0.0
    for one, target in zip(z, y, strict=True):
        loss = 0.5 * (one - target).square().sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, one)
        square += float(gradient.square().sum())
    batches = [(torch.zeros(6, 3), torch.zeros(6, 3))] * 2
    seen = Seen.of(Objective(batches, F.mse_loss))
    assert (seen.examples, seen.batches) == (12, 2)
    expected = float((z - y).detach().square().mean())
    assert seen.curvature(square, 3) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("weights", "candidates"), [(1, 8), (10, 32), (100, 32), (16, 1)])
def test_the_largest_noise_is_about_the_largest_of_random_sums(
    weights: int, candidates: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    sums = torch.randn(200, candidates, weights, generator=generator).square().sum(2)
    largest = float(sums.amax(1).mean())
    assert largest < largest_noise(weights, candidates) * 1.05
    assert largest_noise(weights, candidates) < 2.5 * largest


def test_what_says_nothing_keeps_its_order() -> None:
    kept = beyond_noise(torch.tensor([0.1, 0.3, 2.0]), 1.0)
    assert kept.argsort().tolist() == [0, 1, 2]
    assert kept[2] == pytest.approx(1.0, rel=1e-5)
    assert 0 < kept[1] < 1e-5
