"""The loss as a bilinear form of what enters and what leaves new neurons.

A new neuron with incoming weights w and outgoing weights c does nothing where both are 0. There

    L(w, c) = L(0, 0) + dL/dc(0, 0) c + w^T M c + ...,      M = d^2 L / dw dc,

so that M c is the gradient of the incoming weights of a neuron with w = 0, and M^T w, to first
order in w, that of the outgoing weights of a neuron with c = 0. Between two linear layers
a = w^T x and z = W h + c sigma(a),

    M = sigma'(0) E[x (dL/dz)^T],

which is the gradient of the auxiliary layer of Evci et al., "GradMax", ICLR 2022, Eqs. 8 to 10, and
the matrix N of Verbockhaven et al., "Growing Tiny Networks", TMLR 2024, Proposition 3.

How we differ: the matrix is never formed. A product with it is a second derivative of the loss of
the over-grown graph, which takes a vector of its own for *every* candidate of *all* widths in one
forward and two backward passes. Whatever lies between the layers takes part as it is: convolutions
of any kind on both ends, pooling, flattening, depthwise layers, several writers and readers.
Weights are in units of their layers, as everywhere in the over-grown graph.

sigma'(0) is the derivative from above, 1 for relu as in GradMax (torch says 0 at 0 exactly): the
neurons are evaluated at ``lift`` instead of 0.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fxgrow.documents import limits
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective
from fxgrow.methods.entries import NeuronEntries
from fxgrow.methods.firefly.neighborhood import (
    incoming_tensors,
    outgoing_tensors,
    overgrown_layers,
)
from fxgrow.rewrite import OverGrown, OvergrownLayer

_LIFT = 16
"""Smallest normal numbers that make a lift; products with it are still above 0."""

_NO_DERIVATIVE = ("not implemented", "twice", "double back")
"""What torch says of an operator that can be differentiated only once."""

Correction = Callable[[], Sequence[Tensor]]
"""Terms that are added to the loss of a batch after its forward pass."""

Metric = Callable[[Tensor], Tensor]
"""A symmetric linear map of the weights of every candidate: [candidates, size] to the same."""


def lift(like: Tensor) -> float:
    """A number above 0 that is nothing beside the numbers that a network computes with."""
    return _LIFT * torch.finfo(like.dtype).tiny


def no_correction() -> Sequence[Tensor]:
    """Add nothing to the loss."""
    return ()


def unchanged(vectors: Tensor) -> Tensor:
    """The metric of plain weights."""
    return vectors


@dataclass(frozen=True)
class BilinearForm:
    """M of all widths of an over-grown graph.

    Args:
        grown: the graph, whose new neurons have ``start``ed.
        objective: the loss; its mean over the batches counts.
        incoming: w of all candidates.
        outgoing: c of all candidates.
        correction: what is added to the loss.
    """

    grown: OverGrown
    objective: Objective
    incoming: NeuronEntries
    outgoing: NeuronEntries
    correction: Correction = no_correction

    @staticmethod
    def of(grown: OverGrown, objective: Objective) -> "BilinearForm":
        """Find both ends of all new neurons.

        Weights that are computed of parameters are no end: a weight norm of 0 has no derivative.
        Nor are complex ones.
        """
        plain: list[OvergrownLayer] = []
        for layer in overgrown_layers(grown):
            if not layer.product.is_computed and not layer.weight.is_complex():
                plain.append(layer)
        eps = grown.candidates.new_eps
        incoming = NeuronEntries.of(incoming_tensors(plain), eps)
        outgoing = NeuronEntries.of(outgoing_tensors(plain), eps)
        return BilinearForm(grown, objective, incoming, outgoing)

    @torch.no_grad()
    def start(self) -> None:
        """Set both ends to 0, and every eps to 1."""
        self.grown.candidates.new_eps.fill_(1.0)
        for part in (*self.incoming.parts, *self.outgoing.parts):
            part.zero_()

    def times(self, outgoing: Tensor) -> Tensor:
        """M c.

        Args:
            outgoing: c of every candidate.

        Shapes:
            outgoing: [candidates, coordinates of c].

        Returns:
            [candidates, coordinates of w].
        """
        return self._mixed(self.outgoing, outgoing, self.incoming)

    def transposed_times(self, incoming: Tensor) -> Tensor:
        """M^T w, with the shapes of ``times`` exchanged."""
        return self._mixed(self.incoming, incoming, self.outgoing)

    def _mixed(self, one: NeuronEntries, vectors: Tensor, other: NeuronEntries) -> Tensor:
        """The derivative by ``other`` of the derivative by ``one`` along ``vectors``."""
        self.objective.ranks.require_alone("A second derivative (GradMax, TINY, splitting)")
        sizes = self.objective.sizes
        along = one.spread(vectors)
        total = torch.zeros(other.count, other.size, dtype=torch.float64)
        if not one.size or not other.size:
            return total
        # The mean over all examples, batch by batch, as in ``mean_gradients``.
        # Fused attention has no second derivative, and gives the same numbers.
        with _lifted(self.grown), sdpa_kernel(SDPBackend.MATH):
            for batch, size in zip(self.objective.batches, sizes, strict=True):
                loss = self.objective.on(self.grown.graph_module, batch) * (size / sum(sizes))
                for term in self.correction():
                    loss = loss + term
                total += other.read(_second(loss, one.parts, along, other.parts)).double().cpu()
        return total


def _second(
    loss: Tensor, one: Sequence[Tensor], along: Sequence[Tensor], other: Sequence[Tensor]
) -> Sequence[Tensor]:
    """The derivative by ``other`` of the derivative of the loss by ``one``, along a direction."""
    slope = loss.new_zeros(())
    derivative = partial(torch.autograd.grad, allow_unused=True, materialize_grads=True)
    try:
        first = derivative(loss, one, create_graph=True)
        for gradient, direction in zip(first, along, strict=True):
            slope = slope + (gradient * direction).sum()
        if not slope.requires_grad:  # the loss depends on no neuron
            return [torch.zeros_like(part) for part in other]
        return derivative(slope, other)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[: limits.MESSAGE]
        if not any(words in reason for words in _NO_DERIVATIVE):
            raise  # no memory left, say
        raise GrowthError(
            "no-second-derivative",
            f"the loss has no second derivative here ({reason}), so no gradient of new neurons can "
            "be maximized; choose a method that needs first derivatives alone, such as "
            "GradientPool",
        ) from error


@contextmanager
def _lifted(grown: OverGrown) -> Iterator[None]:
    """What new neurons compute before their activation is a little more inside."""
    with ExitStack() as stack:
        for layer in overgrown_layers(grown):
            if layer.rows:
                handle = layer.register_forward_hook(_lift_new)
                stack.callback(handle.remove)
        yield


def _lift_new(layer: OvergrownLayer, _: Any, output: list[Tensor]) -> list[Tensor]:
    start = len(output) - len(layer.rows)  # the lanes of new neurons come last
    return output[:start] + [lane + lift(lane.real) for lane in output[start:]]


@dataclass(frozen=True)
class SingularVectors:
    """The largest singular values of M of every width, one triple per candidate.

    Args:
        values: of the candidates of a width, descending.
        incoming: left singular vectors of norm 1.
        outgoing: right singular vectors of norm 1.

    Shapes:
        values: [candidates].
        incoming: [candidates, coordinates of w].
        outgoing: [candidates, coordinates of c].
    """

    values: Tensor
    incoming: Tensor
    outgoing: Tensor


def singular_vectors(
    form: BilinearForm,
    generator: torch.Generator,
    iterations: int,
    in_metric: Metric = unchanged,
    out_metric: Metric = unchanged,
) -> SingularVectors:
    """The largest singular values and vectors of R M Q, with R ``in_metric`` and Q ``out_metric``.

    By subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4): the candidates of a width
    start as an orthonormal basis of random outgoing weights, and M and M^T turn it in turns towards
    the singular vectors. With at least as many candidates as M has rank it is exact.

    Args:
        form: M.
        generator: draws the start.
        iterations: how often both are applied; each takes 2 forward and 4 backward passes, and the
            end one product more.
        in_metric: R.
        out_metric: Q.

    Returns:
        The triples. A width of rank r has r of them; the values and vectors after them are 0.
    """
    widths = list(form.grown.candidates.new.values())
    shape = (form.outgoing.count, form.outgoing.size)
    start = torch.randn(shape, generator=generator, dtype=torch.float64)
    # What a candidate does not have (widths differ in their readers) is 0.
    right = _orthonormal(_owned(form.outgoing, start), widths)
    for _ in range(iterations):
        left = _orthonormal(in_metric(form.times(out_metric(right))), widths)
        right = _orthonormal(out_metric(form.transposed_times(in_metric(left))), widths)
    image = in_metric(form.times(out_metric(right)))
    values = torch.zeros(len(image), dtype=torch.float64)
    incoming, outgoing = torch.zeros_like(image), torch.zeros_like(right)
    for places in widths:
        # image = U S V^T holds R M Q c of every c of the basis; U turns the basis.
        turn, singular, vectors = torch.linalg.svd(image[places], full_matrices=False)
        found = places.start + torch.arange(len(singular))
        values[found], incoming[found] = singular, vectors
        outgoing[found] = turn.T @ right[places]
    return SingularVectors(values, incoming, outgoing)


def _owned(entries: NeuronEntries, vectors: Tensor) -> Tensor:
    """The vectors without coordinates that their neurons do not have."""
    return entries.read(entries.spread(vectors)).double().cpu()


def _orthonormal(vectors: Tensor, widths: Sequence[slice]) -> Tensor:
    """An orthonormal basis of what the vectors of each width span, and zeros after it."""
    basis = torch.zeros_like(vectors)
    for places in widths:
        columns = torch.linalg.qr(vectors[places].T).Q  # [coordinates, at most candidates]
        basis[places.start : places.start + columns.shape[1]] = columns.T
    return basis
