"""Fast splitting: the lowest eigenvector of each splitting matrix without the matrix.

Reference: Wang, Li, Wu, Chandra, Liu, "Energy-Aware Neural Architecture Optimization with Fast
Splitting Steepest Descent", 2019 (arXiv 1910.03103), sections 3.1 and 3.2. The lowest eigenvector
of the splitting matrix S of a neuron (``methods.splitting``) minimizes the Rayleigh quotient

    R(v) = v^T S v / v^T v,       grad R(v) = 2 (S v - R(v) v)     at |v| = 1,

and S v is one gradient of the over-grown graph, for a v of its own for every neuron: where exact
splitting takes as many passes as a neuron has weights, this takes two for each of a few steps.

How we differ: the step along the gradient has no learning rate. R is minimized exactly over the
span of v, its gradient and, from the second step on, the direction of the last step (locally
optimal conjugate gradient, Knyazev, SIAM J. Sci. Comput. 2001), which takes two products a step.
The energy-aware choice of section 3.1, gain over added cost, is what selection within a budget does
in fxgrow for every method (``growth.select``): ``Budget(multiply_adds=...)``.
"""

from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings, limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction
from fxgrow.methods.entries import NeuronEntries
from fxgrow.methods.proposals import propose_splits
from fxgrow.methods.splitting import set_splits, splitting_product
from fxgrow.rewrite import OverGrown

_NOTHING = 1e-6
"""What is left of a vector across others below this share of it is rounding."""

Product = Callable[[Tensor], Tensor]


class FastSplitting(Settings):
    """Splitting steepest descent with eigenvectors by descent on the Rayleigh quotient.

    Args:
        eps: length of the step along the eigenvector, relative to the weights of each layer.
        step: the finite difference h of the products with splitting matrices, in the same unit.
        steps: of the descent, two forward and backward passes over the scored batches each.

    Example:
        >>> fxgrow.grow(model, batches, loss_fn, example_inputs=inputs, method=FastSplitting())
    """

    eps: float = Field(default=0.1, gt=0, le=limits.RATE)
    step: float = Field(default=0.01, gt=0, le=limits.RATE)
    steps: int = Field(default=10, ge=1, le=limits.STEPS)

    @property
    def predicts_gain(self) -> bool:
        """A score is the second-order term of the loss, with its sign changed."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose that every growable neuron may split; there are no new neurons."""
        return propose_splits(coupling)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Set the eigenvectors as directions; the gain of neuron i is -eps^2 / 2 lambda_i."""
        entries = NeuronEntries.splits(grown)
        start = torch.randn(entries.count, entries.size, generator=generator, dtype=torch.float64)
        start = entries.read(entries.spread(start.to(entries.neuron.device)))

        def product(vectors: Tensor) -> Tensor:
            return splitting_product(grown, objective, entries, vectors, self.step)

        lowest, vectors = lowest_eigenpairs(product, start, self.steps)
        return set_splits(grown, entries, lowest, vectors, self.eps)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: splits do not interact to second order."""


def lowest_eigenpairs(product: Product, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The lowest eigenvalues and vectors of many symmetric matrices at once, by descent on R.

    Args:
        product: S v of every matrix, each with a vector of its own.
        start: where the descent starts; not 0.
        steps: how many steps are taken; each takes two products, and the end one more.

    Shapes:
        start: [matrices, size].

    Returns:
        The lowest quotients that were seen, [matrices], and their vectors of norm 1.
    """
    vectors = start / start.norm(dim=1, keepdim=True).clamp(min=torch.finfo(start.dtype).tiny)
    images = product(vectors)
    lowest, best = (vectors * images).sum(1), vectors
    last = last_image = torch.zeros_like(vectors)
    for _ in range(steps):
        quotient = (vectors * images).sum(1, keepdim=True)
        descent = _across([(vectors, images)], (images - quotient * vectors,) * 2)[0]
        known = [(vectors, images), (descent, product(descent))]
        directions = [*known, _across(known, (last, last_image))]
        basis = torch.stack([direction for direction, _ in directions], 1)  # [matrices, 3, size]
        basis_images = torch.stack([image for _, image in directions], 1)
        share = _lowest_of(basis, basis_images)[:, :, None]  # [matrices, 3, 1]
        # What is added to v is the direction of the step.
        last = (share[:, 1:] * basis[:, 1:]).sum(1)
        last_image = (share[:, 1:] * basis_images[:, 1:]).sum(1)
        vectors = share[:, 0] * vectors + last
        # Anew, and not by linearity: kinks make S v nonlinear, and errors would add up.
        images = product(vectors)
        now = (vectors * images).sum(1)
        best = torch.where((now < lowest)[:, None], vectors, best)
        lowest = torch.minimum(now, lowest)
    return lowest, best


def _lowest_of(basis: Tensor, images: Tensor) -> Tensor:
    """The combination of an orthonormal basis with the lowest quotient: [matrices, vectors]."""
    small = basis @ images.mT
    small = (small + small.mT) / 2  # symmetric but for rounding and kinks
    # A direction that is 0 must not be chosen for its quotient of 0.
    is_nothing = basis.norm(dim=2) < 0.5
    above = small.abs().sum((1, 2), keepdim=True) + 1
    small = small + torch.diag_embed(is_nothing.to(small)) * above
    # In float32 eigh does not always converge (``splitting.lowest_eigenpair``).
    vectors: Tensor = torch.linalg.eigh(small.double()).eigenvectors  # columns, the lowest first
    return vectors[:, :, 0].to(small)


def _across(
    known: Sequence[tuple[Tensor, Tensor]], pair: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The part of vectors across known orthonormal ones, of norm 1; 0 where nothing is left.

    Args:
        known: vectors, and their images under a linear map.
        pair: vectors and images likewise.

    Returns:
        The part, and its image.
    """
    vectors, images = pair
    before, tiny = vectors.norm(dim=1, keepdim=True), torch.finfo(vectors.dtype).tiny
    for _ in range(2):  # once more for what rounding left
        for one, image in known:
            share = (one * vectors).sum(1, keepdim=True)
            vectors, images = vectors - share * one, images - share * image
    length = vectors.norm(dim=1, keepdim=True)
    is_left = (length > _NOTHING * before) & (length > 0)
    scale = torch.where(is_left, 1 / length.clamp(min=tiny), 0.0)
    return vectors * scale, images * scale
