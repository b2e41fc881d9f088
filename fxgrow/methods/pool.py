"""New neurons chosen from a pool by one backward pass: growth that keeps the function.

Reference: the candidates and their first-order scores are those of Wu, Liu, Stone, Liu, "Firefly
Neural Architecture Descent", NeurIPS 2020, Eq. 5, at outgoing weights of 0; the choice is
orthogonal matching pursuit (Pati, Rezaiifar, Krishnaprasad 1993) over what the candidates compute.

Neuron j of the pool has a random incoming row and outgoing weights 0, so the model computes what it
did. With z = W x + c_j h_j the output of a layer that reads it, one backward pass gives

    G_j = dL/dc_j = E[dL/dz h_j]     of every candidate at once.

The score is |G_j|^2 / (kappa E[h_j^2]), kappa being the curvature of the loss in z
(``methods.gains``).

Neurons that say the same lower the loss only once: after j is chosen, the others count by what they
hold beyond j,

    h_i <- h_i - h_j E[h_i h_j] / E[h_j^2],    G_i <- G_i - G_j E[h_i h_j] / E[h_j^2],

and what the layer's own input x tells is taken out of all of them first, with G_x = dL/dW.

How we differ from Firefly: no step along the candidates is taken, so a pool many times the budget
costs one backward pass over the growth batches, and the next training steps move the chosen ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings, limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction, estimate_statistics
from fxgrow.methods.firefly.neighborhood import initialize, overgrown_layers
from fxgrow.methods.gains import OutputGradients, beyond_noise, largest_noise
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
                gradients = mean_gradients(
                    grown, objective, [*outgoing, *incoming], _told_to([*readings, *writings])
                )
            for reading in readings:
                reading.add_up(objective.ranks)
            for writing in writings:
                writing.add_up(objective.ranks)
        examples = objective.ranks.total(sum(objective.sizes))
        candidates = grown.candidates
        new = scores_by_writers(grown, writings, gradients[len(outgoing) :], examples)
        gradients = gradients[: len(outgoing)]
        for width, places in candidates.new.items():
            features = [
                reading.features(gradient, examples)
                for reading, gradient in zip(readings, gradients, strict=True)
                if reading.slots.width == width
            ]
            if features:
                new[places] = pursue(features, len(new[places]))
        return Scores(torch.zeros(len(candidates.split_eps)), new)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: training moves the chosen neurons."""


@dataclass(frozen=True)
class Features:
    """What the candidates of a width say to one layer that reads them.

    Args:
        gradient: G of the layer's own inputs and of the candidates, which are its last columns.
        moments: E[h_i h_j] of the same.
        curvature: the mean of E[(dl/dz)^2] over the outputs of the layer.
        noise: the score of a candidate that says nothing.

    Shapes:
        gradient: [outgoing weights of a candidate, inputs + candidates].
        moments: [inputs + candidates, inputs + candidates].
    """

    gradient: Tensor
    moments: Tensor
    curvature: float
    noise: float = 0.0

    @property
    def gains(self) -> Tensor:
        """What each of them adds by itself."""
        variance = self.moments.diag().clamp(min=1e-300)
        gain = self.gradient.square().sum(0) / (variance * max(self.curvature, 1e-300))
        return beyond_noise(gain, self.noise)


def pursue(features: Sequence[Features], count: int) -> Tensor:
    """Score the candidates of a width in the order in which matching pursuit would take them.

    Args:
        features: of each layer that reads them.
        count: the number of candidates.

    Returns:
        One score per candidate: what it adds to those with larger scores.
    """
    left = [_without_inputs(one, count) for one in features]
    smallest = [_EXPLAINED * one.moments.diag()[-count:] for one in features]
    scores = torch.zeros(count, dtype=torch.float64)
    is_open = torch.ones(count, dtype=torch.bool)
    last = float("inf")
    for _ in range(count):
        gains = torch.zeros(count, dtype=torch.float64)
        for one, bound in zip(left, smallest, strict=True):
            # What is explained already gains nothing, and rounding must not say otherwise.
            gains += torch.where(one.moments.diag() > bound, one.gains, 0.0)
        best = int(gains.masked_fill(~is_open, -1.0).argmax())
        # The order is the pursuit's, also where a later candidate gains more beside this one.
        last = min(last * _LATER, float(gains[best]))
        scores[best] = last
        is_open[best] = False
        left = [_without(one, best) for one in left]
    return scores


def _without_inputs(one: Features, count: int) -> Features:
    """The candidates, less what a linear function of the layer's inputs tells of them."""
    inputs = len(one.moments) - count
    own, cross = one.moments[:inputs, :inputs], one.moments[:inputs, inputs:]
    # E[x x']^-1 E[x h'], by the pseudo-inverse, since inputs may be 0 or alike.
    share = torch.linalg.pinv(own, hermitian=True, rtol=1e-6) @ cross
    gradient = one.gradient[:, inputs:] - one.gradient[:, :inputs] @ share
    moments = one.moments[inputs:, inputs:] - cross.T @ share
    return replace(one, gradient=gradient, moments=moments)


def _without(one: Features, chosen: int) -> Features:
    """The candidates, less what the chosen one tells of them."""
    variance = one.moments[chosen, chosen]
    if not variance > 0:
        return one
    share = one.moments[chosen] / variance
    gradient = one.gradient - torch.outer(one.gradient[:, chosen], share)
    moments = one.moments - torch.outer(one.moments[chosen], share)
    return replace(one, gradient=gradient, moments=moments)


@dataclass
class _Reading:
    """One layer that reads the candidates of one width, watched while it runs.

    Args:
        layer: the layer.
        number: which of its ``columns``.
        count: positions that second moments were taken over.
        moments: the sum over them of products of inputs and candidates.
        seen: what was seen of dl/dz.
        own: the sum of dl/dW over all examples.
    """

    layer: OvergrownLayer
    number: int
    count: float = 0
    moments: Tensor | None = None
    seen: OutputGradients = field(default_factory=OutputGradients)
    own: Tensor | None = None

    @property
    def slots(self) -> Slots:
        """The candidates, along the columns of the weight."""
        return self.layer.columns[self.number]

    @property
    def outgoing(self) -> Tensor:
        """Their outgoing weights: [out, candidates, ...]."""
        return self.layer.outgoing[self.number]

    @property
    def _candidates(self) -> int:
        return len(self.slots.candidate.unique())

    @property
    def _inputs(self) -> int:
        """The inputs that candidates are compared with, which have one column each as they do.

        None of a grouped layer, whose groups read inputs of their own.
        """
        form = self.layer.product.form
        is_comparable = form.groups == 1 and form.additive
        has_one_each = len(self.slots.candidate) == self._candidates
        return self.layer.base().weight.shape[1] if is_comparable and has_one_each else 0

    def watch(self, _: Any, inputs: Sequence[Any], output: Sequence[Tensor]) -> None:
        """Add what one pass shows to the second moments, and what goes back to the gradients."""
        plus, _, lanes, _, *more = inputs
        with torch.no_grad():
            h = self._by_candidate(self._positions(lanes[self.number]), 1)
            x = self._positions(plus) if self._inputs else h[:, :0]
            joined = _some(torch.cat([x, h], 1)).double()
            self.moments = _sum_of(self.moments, joined.T @ joined)
            self.count += len(joined)
        if output[0].requires_grad:
            output[0].register_hook(partial(self._add_gradients, plus.detach(), more))

    def _add_gradients(self, x: Tensor, more: Sequence[Any], gradient: Tensor) -> None:
        """Add dl/dz, and dl/dW = (dl/dz) x' by what the layer does with a weight."""
        self.seen.add(gradient)
        if self._inputs:
            base = self.layer.base().weight
            # A product is linear in its weight, so that any weight has the same gradient.
            weight = torch.zeros_like(base, dtype=x.dtype).requires_grad_()
            with torch.enable_grad():
                z = self.layer.product.form(x, weight, None, more)
            (own,) = torch.autograd.grad(z, weight, gradient.to(z.dtype))
            self.own = _sum_of(self.own, self.seen.batch * own.double())

    def add_up(self, ranks: Ranks) -> None:
        """Add what the other processes have seen, which may be nothing."""
        if ranks.count == 1:
            return
        size = self._inputs + self._candidates
        moments = torch.zeros(size, size) if self.moments is None else self.moments
        numbers = torch.tensor([self.count, self.seen.square], dtype=torch.float64)
        mine = [moments.double().cpu(), numbers]
        if self._inputs:
            weight = self.layer.base().weight
            own = torch.zeros(weight.shape) if self.own is None else self.own
            mine.append(own.double().cpu())
        self.moments, numbers, *own_sum = ranks.sums(mine)
        self.own = own_sum[0] if own_sum else None
        self.count, self.seen.square = numbers.tolist()

    def features(self, gradient: Tensor, examples: float) -> Features:
        """What was seen, with the gradient of the outgoing weights.

        Args:
            gradient: of ``outgoing``, which are multiplied by the layer's unit.
            examples: how many were seen.
        """
        columns = (gradient.double() / self.layer.unit_column).movedim(1, -1)  # [out, ..., columns]
        by_candidate = self._by_candidate(columns.flatten(0, -2), 1)
        noise = largest_noise(len(by_candidate), self._candidates) / examples
        if self.moments is None or not self.count:  # a layer inside a recurrent one: its weights
            return Features(by_candidate.cpu(), torch.eye(self._candidates).double(), 1.0)
        curvature = self.seen.curvature(examples, len(gradient))
        gradients = [by_candidate.cpu()]
        if self._inputs:
            own = torch.zeros_like(self.layer.base().weight) if self.own is None else self.own
            gradients.insert(0, own.double().cpu().movedim(1, -1).flatten(0, -2) / examples)
        moments = self.moments.cpu() / self.count
        return Features(torch.cat(gradients, 1), moments, curvature, noise)

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
        ordered = x.index_select(axis, order)
        by_candidate: Tensor = ordered.unflatten(axis, (self._candidates, -1))
        return by_candidate.transpose(1, 2).flatten(0, 1)


def _some(rows: Tensor) -> Tensor:
    """At most ``_MAX_POSITIONS`` rows, spread evenly."""
    step = -(-len(rows) // _MAX_POSITIONS)
    return rows[::step]


def _told_to(watching: Sequence[_Reading | Writing]) -> Callable[[int], None]:
    """Tell those that watch how many examples the next batch has."""

    def tell(size: int) -> None:
        for one in watching:
            one.seen.batch = size

    return tell


def _sum_of(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total + more
