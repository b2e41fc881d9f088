"""Splitting steepest descent: split along the lowest eigenvector of each neuron's splitting matrix.

Reference: Liu, Wu, Wang, "Splitting Steepest Descent for Growing Neural Architectures", NeurIPS
2019. With neuron i as 1/2 [ sigma(theta_i + u_i) + sigma(theta_i - u_i) ] the loss is even in every
u_i, so that

    L(u) = L(0) + 1/2 sum_i u_i^T S_i u_i + O(u^4),    S_i = E[ dL/dsigma * d2 sigma(x, theta_i) ]

and S_i is the whole second derivative: there are no blocks between neurons, and one gradient of the
over-grown graph gives a column of *every* S_i at once. As dL/du is odd in u,
dL/du_i (h e_c) / h = S_i e_c + O(h^2) is a central difference.

How we differ: u is in units of the layer's weights (S_i times unit_row^2), as in
``methods.firefly``, so that widths can be compared; and a finite h takes kinks into account, whose
second derivative is 0 everywhere (the S of a ReLU network).
"""

import torch
from pydantic import Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings, limits
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction
from fxgrow.methods.entries import NeuronEntries
from fxgrow.methods.gradients import mean_gradients
from fxgrow.methods.proposals import propose_splits
from fxgrow.rewrite import OverGrown

# Entries of all splitting matrices together: 1 GiB in float32.
_MAX_ENTRIES = 2**28


class Splitting(Settings):
    """Splitting steepest descent.

    Args:
        eps: length of the step along the eigenvector, relative to the weights of each layer.
        step: the finite difference h of the splitting matrices, in the same unit.

    Example:
        >>> fxgrow.grow(model, batches, loss_fn, example_inputs=inputs, method=Splitting())
    """

    eps: float = Field(default=0.1, gt=0, le=limits.RATE)
    step: float = Field(default=0.01, gt=0, le=limits.RATE)

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
        """Set the eigenvectors as directions; the gain of neuron i is -eps^2 / 2 lambda_i.

        A neuron with lambda_i >= 0 is stable and gets eps = 0.
        """
        entries = NeuronEntries.splits(grown)
        matrices = splitting_matrices(grown, objective, entries, self.step)
        lowest, vectors = lowest_eigenpair(matrices)
        return set_splits(grown, entries, lowest, vectors, self.eps)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: splits do not interact to second order."""


def splitting_matrices(
    grown: OverGrown, objective: Objective, entries: NeuronEntries, step: float
) -> Tensor:
    """Compute S_i of every neuron, in units of the layers' weights, with one gradient per column.

    Args:
        grown: the over-grown graph; its directions are changed.
        objective: the loss.
        entries: from ``NeuronEntries.splits(grown)``.
        step: the finite difference h.

    Returns:
        [neuron, coordinate, coordinate], symmetric.

    Raises:
        GrowthError: ``too-large`` if the matrices would not fit into memory.
    """
    if entries.count * entries.size**2 > _MAX_ENTRIES:
        raise GrowthError(
            "too-large",
            f"the splitting matrices of {entries.count} neurons with up to {entries.size} weights "
            "each do not fit into memory; split a narrower model, or choose Firefly(new=0)",
        )
    columns = []
    like = grown.candidates.split_eps
    for unit in torch.eye(entries.size, dtype=like.dtype, device=entries.neuron.device):
        # Every neuron moves along the same coordinate: there are no blocks between neurons.
        alike = unit.expand(entries.count, -1)
        columns.append(splitting_product(grown, objective, entries, alike, step))
    matrices = torch.stack(columns, 2)
    return (matrices + matrices.mT) / 2


def lowest_eigenpair(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the lowest eigenvalue of each symmetric matrix, and its vector of norm 1.

    Args:
        matrices: of any floating dtype.

    Shapes:
        matrices: [neuron, coordinate, coordinate].

    Returns:
        The eigenvalues, [neuron], and their vectors, [neuron, coordinate].
    """
    # In float32 eigh does not converge for a neuron that sees few of its inputs: a 3x3 kernel on a
    # 1x1 image has a matrix of zeros but for its center.
    eigenvalues, eigenvectors = torch.linalg.eigh(matrices.double())
    # Eigenvalues are sorted, the lowest first; eigenvectors are columns.
    return eigenvalues[:, 0].to(matrices), eigenvectors[:, :, 0].to(matrices)


def splitting_product(
    grown: OverGrown, objective: Objective, entries: NeuronEntries, vectors: Tensor, step: float
) -> Tensor:
    """Compute S_i v_i of every neuron by one gradient: dL/du_i (h v_i) / h = S_i v_i + O(h^2).

    Args:
        grown: the over-grown graph; its directions are changed.
        objective: the loss; its batches to score on count.
        entries: from ``NeuronEntries.splits(grown)``.
        vectors: a v of its own for every neuron.
        step: the finite difference h.

    Shapes:
        vectors: [neuron, coordinate].

    Returns:
        The products, [neuron, coordinate].
    """
    with torch.no_grad():
        grown.candidates.split_eps.fill_(1.0)
    entries.write(step * vectors)
    gradients = mean_gradients(grown, objective.scoring, entries.parts)
    return entries.read(gradients) / step


@torch.no_grad()
def set_splits(
    grown: OverGrown, entries: NeuronEntries, lowest: Tensor, vectors: Tensor, eps: float
) -> Scores:
    """Split neurons along the lowest eigenvectors; one with lambda_i >= 0 is stable: its eps is 0.

    Args:
        grown: the over-grown graph, changed in place.
        entries: from ``NeuronEntries.splits(grown)``.
        lowest: the eigenvalues lambda_i.
        vectors: the eigenvectors, [neuron, coordinate].
        eps: length of the step.

    Returns:
        The gains, -eps^2 / 2 lambda_i.
    """
    entries.write(vectors)
    grown.candidates.split_eps.copy_(eps * (lowest < 0))
    return Scores(-(eps**2) / 2 * lowest, grown.candidates.new_eps.detach())
