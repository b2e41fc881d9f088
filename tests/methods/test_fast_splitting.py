"""Eigenvectors by descent are those of the splitting matrices."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget
from fxgrow.growth import Objective, Scores
from fxgrow.methods import FastSplitting, Splitting
from fxgrow.methods.entries import NeuronEntries
from fxgrow.methods.fast_splitting import lowest_eigenpairs
from fxgrow.rewrite import OverGrown
from tests.methods.firefly.test_importance import LABELS, Smooth
from tests.methods.test_splitting import not_asked
from tests.networks import images, network, randomised
from tests.rewrite.rewriting import over_grown


def searched(method: Splitting | FastSplitting) -> tuple[OverGrown, Tensor, Scores]:
    """The directions that a method sets in a smooth network: [neurons, coordinates]."""
    torch.manual_seed(0)
    grown = over_grown(randomised(Smooth()), images(4))
    objective = Objective([(images(4), LABELS)], F.cross_entropy)
    scores = method.search(grown, objective, torch.Generator().manual_seed(0), not_asked)
    entries = NeuronEntries.splits(grown)
    return grown, entries.read(entries.parts), scores


def test_eigenvectors_are_those_of_exact_splitting() -> None:
    """Neurons with rows in several layers, batch norm, depthwise carriers; 8 to 32 weights."""
    exact_grown, exact, exact_scores = searched(Splitting(step=1e-4))
    grown, found, scores = searched(FastSplitting(step=1e-4, steps=15))
    cosines = (exact * found).sum(1).abs() / (exact.norm(dim=1) * found.norm(dim=1))
    assert cosines.min() > 0.99
    torch.testing.assert_close(scores.split, exact_scores.split, rtol=1e-3, atol=1e-7)
    assert torch.equal(grown.candidates.split_eps, exact_grown.candidates.split_eps)


def symmetric(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    return matrices + matrices.mT


def test_descent_never_rises_and_ends_at_the_lowest() -> None:
    matrices = symmetric(7, 12)
    start = torch.randn(7, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def product(vectors: Tensor) -> Tensor:
        return (matrices @ vectors[:, :, None])[:, :, 0]

    quotients = [lowest_eigenpairs(product, start, steps)[0] for steps in range(40)]
    for one, next_one in pairwise(quotients):
        assert (next_one <= one + 1e-12).all()
    lowest, vectors = lowest_eigenpairs(product, start, 40)
    values, exact = torch.linalg.eigh(matrices)
    torch.testing.assert_close(lowest, values[:, 0], rtol=1e-8, atol=0)
    assert ((vectors * exact[:, :, 0]).sum(1).abs() > 1 - 1e-6).all()


def test_positive_matrices_and_those_smaller_than_the_basis() -> None:
    """Where nothing is left to descend along, no direction of 0 is taken for an eigenvalue of 0."""
    for size in (1, 2, 3):
        matrices = symmetric(4, size) + 10 * torch.eye(size, dtype=torch.float64)
        start = torch.ones(4, size, dtype=torch.float64)
        lowest, vectors = lowest_eigenpairs(
            lambda v, m=matrices: (m @ v[:, :, None])[:, :, 0], start, 12
        )
        torch.testing.assert_close(lowest, torch.linalg.eigvalsh(matrices)[:, 0])
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4).double())


def test_it_takes_two_products_for_a_step() -> None:
    losses: list[float] = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        losses.append(0.0)
        return F.cross_entropy(output, target)

    grown = over_grown(randomised(Smooth()), images(4))
    objective = Objective([(images(4), LABELS)], loss)
    FastSplitting(steps=5).search(grown, objective, torch.Generator(), not_asked)
    assert len(losses) == 2 * 5 + 1


@pytest.mark.parametrize("name", ["chain", "grouped"])
def test_grows_a_network_with_kinks_downhill(name: str) -> None:
    batch = (images(8), torch.tensor([0, 1] * 4))
    report = fxgrow.grow(
        network(name), [batch], F.cross_entropy, method=FastSplitting(), budget=Budget(neurons=2)
    ).report
    assert report.loss_after < report.loss_before
    assert sum(w.split for w in report.widths) == 2 and sum(w.new for w in report.widths) == 0


def test_where_kinks_mislead_the_descent_the_lowest_that_was_seen_stays() -> None:
    """Not linear, as gradients at a finite distance of a relu: what is returned was measured."""
    matrices = symmetric(7, 12)
    start = torch.randn(7, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def product(vectors: Tensor) -> Tensor:
        return (matrices @ vectors[:, :, None])[:, :, 0] + 4 * (20 * vectors).sin()

    quotients = [lowest_eigenpairs(product, start, steps)[0] for steps in range(12)]
    for one, next_one in pairwise(quotients):
        assert (next_one <= one).all()
    lowest, vectors = lowest_eigenpairs(product, start, 12)
    torch.testing.assert_close((vectors * product(vectors)).sum(1), lowest)
