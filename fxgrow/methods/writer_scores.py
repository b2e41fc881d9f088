"""Scores of new neurons of widths under norms, by one backward pass through what writes them.

There the incoming row r_j of a candidate is 0, and its outgoing weights are random. In each layer l
that writes the width, with input x and output z = W x, the gradient of the row is

    G_jl = dL/dr_j = E[dL/dn_j x],

and a least-squares step along it lowers the loss by |G_jl|^2 / (2 kappa E[x_i^2]), as one along the
outgoing weights of any other neuron does (``methods.pool``): there h_j is what is read, here the
inputs are. So with the same kappa, the mean of E[(dl/dz)^2] over the outputs of the layer, its
scores, summed over the layers, compare with those there.
Outgoing weights of hundreds of numbers are nearly orthogonal, so that no candidate says what
another one does.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fxgrow.methods.firefly.neighborhood import overgrown_layers
from fxgrow.methods.gains import OutputGradients, beyond_noise, largest_noise
from fxgrow.ranks import Ranks
from fxgrow.rewrite import OverGrown, OvergrownLayer


@dataclass
class Writing:
    """One layer that writes candidates of a width under norms, watched while it runs.

    Args:
        layer: the layer.
    """

    layer: OvergrownLayer
    inputs: float = 0
    input_square: float = 0.0
    outputs: int = 0
    seen: OutputGradients = field(default_factory=OutputGradients)

    @staticmethod
    def all_of(grown: OverGrown) -> "list[Writing]":
        """The layers of a graph that write such candidates."""
        layers = overgrown_layers(grown)
        return [Writing(layer) for layer in layers if layer.eps_of_rows is not None]

    @property
    def rows(self) -> list[Tensor]:
        """The rows of its weight, and of its bias, that write new neurons."""
        return list(self.layer.new or ())

    def watch(self, _: Any, inputs: Sequence[Any], output: Sequence[Tensor]) -> None:
        """Add what one pass shows to the second moments."""
        x, z = inputs[0].detach(), output[0]
        if x.is_floating_point():
            self.inputs += x.numel()
            self.input_square += float(x.double().square().sum())
        self.outputs = len(self.layer.base().weight)
        self.seen.watch(z)

    def add_up(self, ranks: Ranks) -> None:
        """Add what the other processes have seen."""
        mine = [self.inputs, self.input_square, self.outputs, self.seen.square]
        (numbers,) = ranks.sums([torch.tensor(mine, dtype=torch.float64)])
        self.inputs, self.input_square, outputs, self.seen.square = numbers.tolist()
        self.outputs = len(self.layer.base().weight) if outputs else 0

    def score(self, gradients: Sequence[Tensor], examples: float) -> Tensor:
        """The score of each row, of the gradients of ``rows``, which are multiplied by a unit."""
        if not self.outputs:
            return torch.zeros(self.layer.num_new_rows, dtype=torch.float64)
        # An embedding reads words, each one entry of 1 among zeros.
        words = self.layer.base().weight.shape[1]
        mean_square = self.input_square / self.inputs if self.inputs else 1 / words
        squares = []
        for gradient in gradients:
            by_row = gradient.double().reshape(len(gradient), -1)
            squares.append(by_row.square().sum(1).cpu())
        total = squares[0] / max(mean_square, torch.finfo(torch.float64).tiny)
        for of_bias in squares[1:]:  # it reads a constant of 1
            total = total + of_bias
        unit = float(self.layer.unit_row)
        curvature = self.seen.curvature(examples, self.outputs)
        gain = total / unit**2 / max(curvature, torch.finfo(torch.float64).tiny)
        weights = sum(gradient[0].numel() for gradient in gradients)
        return beyond_noise(gain, largest_noise(weights, len(gain)) / examples)


def scores_by_writers(
    grown: OverGrown, writings: Sequence[Writing], gradients: Sequence[Tensor], examples: float
) -> Tensor:
    """The scores of the candidates of widths under norms; 0 for all others.

    Args:
        grown: the over-grown graph.
        writings: what was watched.
        gradients: of all their ``rows``, one after the other.
        examples: how many were seen.
    """
    scores = torch.zeros(len(grown.candidates.new_eps), dtype=torch.float64)
    left = list(gradients)
    for writing in writings:
        own, left = left[: len(writing.rows)], left[len(writing.rows) :]
        place: Tensor = writing.layer.eps_of_rows.cpu()  # type: ignore[union-attr]
        is_candidate = place >= 0
        scores.index_add_(0, place[is_candidate], writing.score(own, examples)[is_candidate])
    return scores


@contextmanager
def watched_layers(watching: Sequence[Any]) -> Iterator[None]:
    """Layers show what they compute to those that watch them, inside."""
    with ExitStack() as stack:
        for one in watching:
            stack.callback(one.layer.register_forward_hook(one.watch).remove)
        yield
