"""First-order gains of candidates of different layers, in numbers without units.

A least-squares step along weights c that read h in a layer with output z lowers the loss L, the
mean of l over the examples, by |G|^2 / (2 kappa E[h^2]), with G = dL/dc = E[dl/dz h] and the
curvature kappa of the loss in z. For kappa stands the mean of E[(dl/dz)^2] over the outputs of the
layer, a diagonal Fisher matrix (Martens and Grosse, "Optimizing Neural Networks with
Kronecker-factored Approximate Curvature", ICML 2015). Then

    |G|^2 / (kappa E[h^2])

is a sum of squared correlations between dl/dz and h: it stays the same if a layer is multiplied by
a number and the next one divided by it, so layers can be compared.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fxgrow.growth import Objective

_REST = 1e-6
"""The share of a gain that counts below the noise: candidates that say nothing keep an order."""


class Seen(NamedTuple):
    """How much the passes of a search have seen, over all processes."""

    examples: float
    batches: float

    @staticmethod
    def of(objective: Objective) -> "Seen":
        """The examples and batches of an objective."""
        sizes = torch.tensor([sum(objective.sizes), len(objective.sizes)], dtype=torch.float64)
        return Seen(*objective.ranks.sums([sizes])[0].tolist())

    def curvature(self, square: float, outputs: int) -> float:
        """The mean of E[(dl/dz)^2] over the outputs of a layer.

        Args:
            square: the sum of (dL/dz)^2 over all batches, of which L is the mean: dL/dz = dl/dz / B
                in a batch of B examples. Batches are taken as equally large.
            outputs: how many outputs the layer has at each position.
        """
        return square * self.examples / self.batches**2 / outputs


def beyond_noise(gains: Tensor, noise: float) -> Tensor:
    """What gains are beyond those of candidates that say nothing."""
    return (gains - noise).clamp(min=0.0) + _REST * gains


def largest_noise(weights: int, candidates: int) -> float:
    """About the largest sum of so many squared normal numbers among that many of them.

    Divided by the number of examples it is the gain of the best candidate that says nothing.

    Laurent and Massart, "Adaptive estimation of a quadratic functional by model selection", Annals
    of Statistics 2000, Lemma 1: K + 2 sqrt(K x) + 2 x is passed with a probability of exp(-x) at
    most.

    Args:
        weights: K, of each candidate.
        candidates: how many; x is the logarithm.
    """
    x = math.log(candidates)
    return weights + 2 * math.sqrt(weights * x) + 2 * x
