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

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings, limits
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction
from fxgrow.methods.firefly.neighborhood import split_tensors
from fxgrow.methods.gradients import mean_gradients
from fxgrow.methods.proposals import growable_widths
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
        return Proposal(frozenset(growable_widths(coupling)), {})

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
        entries = NeuronEntries.of(grown)
        matrices = splitting_matrices(grown, objective, entries, self.step)
        # eigh sorts the eigenvalues, the lowest first; the eigenvectors are columns.
        # There is no eigh in half precision.
        exact = matrices if matrices.dtype == torch.float64 else matrices.float()
        eigenvalues, eigenvectors = (result.to(matrices) for result in torch.linalg.eigh(exact))
        lowest = eigenvalues[:, 0]
        with torch.no_grad():
            entries.write(eigenvectors[:, :, 0])
            grown.candidates.split_eps.copy_(self.eps * (lowest < 0))
        return Scores(-(self.eps**2) / 2 * lowest, grown.candidates.new_eps.detach())

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: splits do not interact to second order."""


@dataclass(frozen=True)
class NeuronEntries:
    """The split directions as one vector: the neuron of each entry, and its coordinate in that u.

    A neuron may own rows of several layers, whose entries are coordinates of one u.

    Args:
        parts: the directions of all layers, whose entries in order make up the vector.
        neuron: neuron of each entry; -1 where a row belongs to no candidate.
        coordinate: coordinate of each entry in the u of its neuron.
        count: number of neurons.
        size: the largest number of coordinates of a neuron.
    """

    parts: Sequence[Tensor]
    neuron: Tensor
    coordinate: Tensor
    count: int
    size: int

    @staticmethod
    def of(grown: OverGrown) -> "NeuronEntries":
        """Number the entries of the split directions of an over-grown graph."""
        parts, neurons = [], []
        for tensor, index, _ in split_tensors(grown):
            parts.append(tensor)
            row_size = tensor[0].numel()
            neurons.append(index.repeat_interleave(row_size))
        neuron = torch.cat(neurons)
        # The coordinate of an entry is its rank among the entries of its neuron: sorted by neuron,
        # its position minus the position of the neuron's first entry.
        order = neuron.argsort(stable=True)
        first = torch.searchsorted(neuron[order], neuron[order])
        ranks = torch.arange(len(neuron), device=neuron.device) - first
        coordinate = torch.empty_like(neuron).index_copy_(0, order, ranks)
        size = int(coordinate[neuron >= 0].max()) + 1
        return NeuronEntries(parts, neuron, coordinate, len(grown.candidates.split_eps), size)

    @torch.no_grad()
    def write(self, vectors: Tensor) -> None:
        """Set all directions: ``vectors[i, c]`` is coordinate c of neuron i, [count, size]."""
        # Entries of no candidate read any vector, and are set to 0.
        neuron = self.neuron.clamp(min=0)
        coordinate = self.coordinate.clamp(max=self.size - 1)
        flat = vectors[neuron, coordinate] * (self.neuron >= 0)
        sizes = [part.numel() for part in self.parts]
        for part, values in zip(self.parts, flat.split(sizes), strict=True):
            part.copy_(values.reshape(part.shape))

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        """Arrange ``tensors``, shaped like the parts, by neuron.

        Returns:
            [count, size]; zero where a neuron has no such coordinate.
        """
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        is_candidate = self.neuron >= 0
        vectors = flat.new_zeros(self.count, self.size)
        vectors[self.neuron[is_candidate], self.coordinate[is_candidate]] = flat[is_candidate]
        return vectors


def splitting_matrices(
    grown: OverGrown, objective: Objective, entries: NeuronEntries, step: float
) -> Tensor:
    """Compute S_i of every neuron, in units of the layers' weights, with one gradient per column.

    Args:
        grown: the over-grown graph; its directions are changed.
        objective: the loss.
        entries: from ``NeuronEntries.of(grown)``.
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
    split_eps = grown.candidates.split_eps
    with torch.no_grad():
        split_eps.fill_(1.0)
    columns = []
    for unit in torch.eye(entries.size, dtype=split_eps.dtype, device=entries.neuron.device):
        # Every neuron moves along the same coordinate: there are no blocks between neurons.
        entries.write(step * unit.expand(entries.count, -1))
        gradients = mean_gradients(grown, objective.scoring, entries.parts)
        columns.append(entries.read(gradients) / step)
    matrices = torch.stack(columns, 2)
    return (matrices + matrices.mT) / 2
