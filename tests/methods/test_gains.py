"""Gains without units, and what they are beyond those of candidates that say nothing."""

import pytest
import torch

from fxgrow.methods.gains import OutputGradients, beyond_noise, largest_noise


def test_the_curvature_is_that_of_single_examples() -> None:
    """Of 1/2 |z - y|^2, whose derivative by z is z - y, in batches of 2 and 6."""
    z, y = torch.randn(8, 3).double().requires_grad_(), torch.randn(8, 3).double()
    seen = OutputGradients()
    for part in (slice(0, 2), slice(2, 8)):
        output = z[part] * 1
        seen.batch = len(output)
        seen.watch(output)
        (0.5 * (output - y[part]).square().sum(1).mean()).backward()
    expected = float((z - y).detach().square().mean())
    assert seen.curvature(8, 3) == pytest.approx(expected, rel=1e-12)


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
