"""The mean gradient weighs batches by their size."""

import torch
from torch import nn
from torch.nn import functional as F

from fxgrow.growth import Objective
from fxgrow.methods.gradients import mean_gradients
from tests.methods.toys import rbf, rbf_data
from tests.rewrite.rewriting import over_grown, randomise_candidates


def test_batches_of_unequal_size_count_by_size() -> None:
    x, y = rbf_data()
    grown = over_grown(rbf(3), x, new=2)
    randomise_candidates(grown)
    parameters = [grown.candidates.split_eps, grown.candidates.new_eps]
    whole = mean_gradients(grown, Objective([(x, y)], F.mse_loss), parameters)
    parts = mean_gradients(
        grown, Objective([(x[:7], y[:7]), (x[7:], y[7:])], F.mse_loss), parameters
    )
    for a, b in zip(parts, whole, strict=True):
        assert a.abs().min() > 0
        torch.testing.assert_close(a, b)


def test_no_dependence_is_zero() -> None:
    x, y = rbf_data()
    found = mean_gradients(
        over_grown(rbf(2), x), Objective([(x, y)], F.mse_loss), [nn.Parameter(torch.ones(3))]
    )
    assert found[0].tolist() == [0, 0, 0]
