"""New neurons chosen from a pool by one backward pass: growth that keeps the function.

Reference: the candidates and their first-order scores are those of Wu, Liu, Stone, Liu, "Firefly
Neural Architecture Descent", NeurIPS 2020, Eq. 5, at outgoing weights of 0; the choice is
orthogonal matching pursuit (Pati, Rezaiifar, Krishnaprasad 1993) over what the candidates compute.

Neuron j of the pool has a random incoming row and outgoing weights 0, so the model computes what it
did. With z = W x + c_j h_j the output of a layer that reads it, one backward pass gives

    G_j = dL/dc_j = E[dL/dz h_j]     of every candidate at once.

A least-squares step along c_j lowers the loss by |G_j|^2 / (2 kappa E[h_j^2]), where kappa is the
curvature of the loss in z. Neither kappa nor G_j is free of the units of z, but E[z^2] |G_j|^2 /
E[h_j^2] is, so that widths can be compared. Neurons that say the same lower the loss only once:
after j is chosen, the others count by what they hold beyond j,

    h_i <- h_i - h_j E[h_i h_j] / E[h_j^2],    G_i <- G_i - G_j E[h_i h_j] / E[h_j^2],

and what the neurons of the layer's own input compute is taken out of all of them first (their G is
about 0 in a trained model).

How we differ from Firefly: no step along the candidates is taken, so a pool many times the budget
costs one backward pass over the growth batches, and the next training steps move the chosen ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings, limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction, estimate_statistics
from fxgrow.methods.firefly.neighborhood import initialize, overgrown_layers
from fxgrow.methods.gradients import mean_gradients
from fxgrow.methods.proposals import growable_widths
from fxgrow.methods.writer_scores import Writing, scores_by_writers, watched_layers
from fxgrow.methods.zero_outgoing import ON
from fxgrow.ranks import Ranks
from fxgrow.rewrite import OverGrown, OvergrownLayer, Slots

POOL = 32
"""Candidates per width, where the method's settings leave the number open.

Twice as many cost twice as much and chose no better (``docs/when-to-grow.md``).
"""

_MAX_POSITIONS = 256
"""Positions (of examples, pixels, tokens) per batch that second moments are taken over."""

_LATER = 1 - 1e-6
"""What a score is at most of that before it in the order of the pursuit."""

_EXPLAINED = 1e-4
"""A candidate of whose square no more is left is explained by those before it."""


class GradientPool(Settings):
    """New neurons from a pool, by the gradient of their outgoing weights.

    The function stays as it is: what is gained comes with the training after it.

    Args:
        new: candidates per width, of which the best are kept; None: ``POOL``, and more where the
            budget can buy more.

    Example:
        >>> method = GradientPool(new=32)
        >>> fxgrow.grow(model, batches, loss_fn, example_inputs=inputs, method=method)
    """

    new: int | None = Field(default=None, ge=1, le=limits.CANDIDATES)

    @property
    def keeps_function(self) -> bool:
        """The loss stays what it is."""
        return True

    @property
    def grows_under_norms(self) -> bool:
        """There it is the gradient of their incoming weights (``methods.writer_scores``)."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose ``new`` neurons per growable width, and no splits."""
        count = POOL if self.new is None else self.new
        counts = dict.fromkeys(growable_widths(coupling), count)
        return Proposal(frozenset(), counts, follows_budget=self.new is None)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Draw the pool, and score it by one backward pass over every batch."""
        initialize(grown, ON, generator)
        estimate_statistics(grown, objective)
        readings = [
            _Reading(layer, number)
            for layer in overgrown_layers(grown)
            for number, slots in enumerate(layer.columns)
            if not slots.by_writers
        ]
        writings = Writing.all_of(grown)
        outgoing = [reading.outgoing for reading in readings]
        incoming = [tensor for writing in writings for tensor in writing.rows]
        gradients: list[Tensor] = []
        if outgoing or incoming:  # a width may be read by no layer at all
            with watched_layers([*readings, *writings]):
                gradients = mean_gradients(grown, objective, [*outgoing, *incoming])
            for reading in readings:
                reading.add_up(objective.ranks)
        candidates = grown.candidates
        new = scores_by_writers(grown, writings, gradients[len(outgoing) :])
        gradients = gradients[: len(outgoing)]
        for width, places in candidates.new.items():
            features = [
                reading.features(gradient)
                for reading, gradient in zip(readings, gradients, strict=True)
                if reading.slots.width == width
            ]
            if features:
                new[places] = pursue(features)
        return Scores(torch.zeros(len(candidates.split_eps)), new)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: training moves the chosen neurons."""


@dataclass(frozen=True)
class Features:
    """What the candidates of a width say to one layer that reads them.

    Args:
        gradient: G, one column per candidate.
        moments: E[h_i h_j] of the layer's own inputs, and of the candidates behind them.
        scale: E[z^2] of the layer.

    Shapes:
        gradient: [outgoing weights of a candidate, candidates].
        moments: [inputs + candidates, inputs + candidates].
    """

    gradient: Tensor
    moments: Tensor
    scale: float


def pursue(features: Sequence[Features]) -> Tensor:
    """Score the candidates of a width in the order in which matching pursuit would take them.

    Args:
        features: of each layer that reads them.

    Returns:
        One score per candidate: what it adds to those with larger scores.
    """
    count = features[0].gradient.shape[1]
    left = [_without_inputs(one) for one in features]
    smallest = [_EXPLAINED * one.moments.diag()[-count:] for one in features]
    scores = torch.zeros(count, dtype=torch.float64)
    is_open = torch.ones(count, dtype=torch.bool)
    last = float("inf")
    for _ in range(count):
        gains = torch.zeros(count, dtype=torch.float64)
        for one, bound in zip(left, smallest, strict=True):
            # What is explained already gains nothing, and rounding must not say otherwise.
            variance = one.moments.diag()
            gain = one.scale * one.gradient.square().sum(0) / variance.clamp(min=1e-300)
            gains += torch.where(variance > bound, gain, 0.0)
        best = int(gains.masked_fill(~is_open, -1.0).argmax())
        # The order is the pursuit's, also where a later candidate gains more beside this one.
        last = min(last * _LATER, float(gains[best]))
        scores[best] = last
        is_open[best] = False
        left = [_without(one, best) for one in left]
    return scores


def _without_inputs(one: Features) -> Features:
    """The candidates, less what a linear function of the layer's inputs tells of them."""
    count = one.gradient.shape[1]
    inputs = len(one.moments) - count
    own, cross = one.moments[:inputs, :inputs], one.moments[:inputs, inputs:]
    # Schur complement: E[h h'] - E[h x'] E[x x']^-1 E[x h'], by the pseudo-inverse, since inputs
    # may be 0 or alike.
    explained = cross.T @ torch.linalg.pinv(own, hermitian=True, rtol=1e-6) @ cross
    return Features(one.gradient, one.moments[inputs:, inputs:] - explained, one.scale)


def _without(one: Features, chosen: int) -> Features:
    """The candidates, less what the chosen one tells of them."""
    variance = one.moments[chosen, chosen]
    if not variance > 0:
        return one
    share = one.moments[chosen] / variance
    gradient = one.gradient - torch.outer(one.gradient[:, chosen], share)
    return Features(gradient, one.moments - torch.outer(one.moments[chosen], share), one.scale)


@dataclass
class _Reading:
    """One layer that reads the candidates of one width, watched while it runs.

    Args:
        layer: the layer.
        number: which of its ``columns``.
    """

    layer: OvergrownLayer
    number: int
    count: int = 0
    outputs: int = 0
    square: float = 0.0
    products: list[Tensor] = field(default_factory=list)

    @property
    def slots(self) -> Slots:
        """The candidates, along the columns of the weight."""
        return self.layer.columns[self.number]

    @property
    def outgoing(self) -> Tensor:
        """Their outgoing weights: [out, candidates, ...]."""
        return self.layer.outgoing[self.number]

    def watch(self, _: Any, inputs: Sequence[Any], output: Sequence[Tensor]) -> None:
        """Add what one pass shows to the second moments."""
        plus, _, lanes = inputs[:3]
        with torch.no_grad():
            h = self._by_candidate(self._positions(lanes[self.number]), 1)
            # Neurons with several columns have several inputs each: no order but the same one.
            x = self._positions(plus)
            x = x if len(x) == len(h) else h[:, :0]
            joined = _some(torch.cat([x, h], 1)).double()
            self.products.append(joined.T @ joined)
            self.count += len(joined)
            self.square += float(output[0].double().square().sum())
            self.outputs += output[0].numel()

    def add_up(self, ranks: Ranks) -> None:
        """Add what the other processes have seen."""
        if ranks.count == 1 or not self.products:
            return
        numbers = torch.tensor([self.count, self.square, self.outputs], dtype=torch.float64)
        products, numbers = ranks.sums([torch.stack(self.products).sum(0), numbers])
        self.products = [products]
        self.count, self.square, self.outputs = int(numbers[0]), float(numbers[1]), int(numbers[2])

    def features(self, gradient: Tensor) -> Features:
        """What was seen, with the gradient of the outgoing weights."""
        columns = gradient.double().movedim(1, -1)  # [out, ..., columns]
        by_candidate = self._by_candidate(columns.flatten(0, -2), 1)
        if not self.products:  # a layer inside a recurrent one, which computes by its weights
            return Features(by_candidate.cpu(), torch.eye(by_candidate.shape[1]).double(), 1.0)
        moments = torch.stack(self.products).sum(0) / self.count
        return Features(by_candidate.cpu(), moments.cpu(), self.square / self.outputs)

    def _positions(self, x: Tensor) -> Tensor:
        """From an input of the layer to [positions, columns of the weight]."""
        form = self.layer.product.form
        channels = form.by_position(x)
        # The groups of a grouped convolution have columns of their own.
        by_group: Tensor = channels.unflatten(1, (form.groups, -1))
        return by_group.flatten(0, 1)

    def _by_candidate(self, x: Tensor, axis: int) -> Tensor:
        """From [..., columns] to [... times columns of a candidate, candidates]."""
        order = self.slots.candidate.argsort(stable=True).to(x.device)
        candidates = len(self.slots.candidate.unique())
        ordered = x.index_select(axis, order)
        by_candidate: Tensor = ordered.unflatten(axis, (candidates, -1))
        return by_candidate.transpose(1, 2).flatten(0, 1)


def _some(rows: Tensor) -> Tensor:
    """At most ``_MAX_POSITIONS`` rows, spread evenly."""
    step = -(-len(rows) // _MAX_POSITIONS)
    return rows[::step]
