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
from dataclasses import dataclass

from torch import Tensor

_REST = 1e-6
"""The share of a gain that counts below the noise: candidates that say nothing keep an order."""


@dataclass
class OutputGradients:
    """What backward passes show of dl/dz, the derivative of single examples' losses.

    Args:
        batch: how many examples the batch has that is running, of whose losses L is the mean; set
            by who runs it.
        square: the sum of (dl/dz)^2 over all examples.
    """

    batch: int = 0
    square: float = 0.0

    def watch(self, z: Tensor) -> None:
        """Add what the backward pass of this batch will bring to an output."""
        if z.requires_grad:
            z.register_hook(self.add)

    def add(self, gradient: Tensor) -> None:
        """Add dL/dz, which is dl/dz by the number of examples."""
        self.square += self.batch**2 * float(gradient.abs().double().square().sum())

    def curvature(self, examples: float, outputs: int) -> float:
        """The mean of E[(dl/dz)^2] over the outputs of a layer."""
        return self.square / examples / outputs


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
