"""Splitting steepest descent: split along the lowest eigenvector of each neuron's splitting matrix.

Reference: Liu, Wu, Wang, "Splitting Steepest Descent for Growing Neural Architectures", NeurIPS 2019. With neuron i as
1/2 [ sigma(theta_i + u_i) + sigma(theta_i - u_i) ] the loss is even in every u_i, so that

    L(u) = L(0) + 1/2 sum_i u_i^T S_i u_i + O(u^4),    S_i = E[ dL/dsigma * d2 sigma(x, theta_i) ]

and S_i is the whole second derivative: there are no blocks between neurons, and one gradient of the over-grown graph
gives a column of *every* S_i at once. As dL/du is odd in u, dL/du_i (h e_c) / h = S_i e_c + O(h^2)
is a central difference.

How we differ: u is in units of the layer's weights (S_i times unit_row^2), as in ``methods.firefly``, so that widths
can be compared; and a finite h lets kinks count, whose second derivative is 0 everywhere (the S of a ReLU network).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import limits
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction
from fxgrow.methods.firefly.neighborhood import split_tensors
from fxgrow.methods.gradients import mean_gradients
from fxgrow.rewrite import OverGrown

_MAX_BYTES = 2**28
"""Entries that all splitting matrices together may have (1 GiB in float32)."""


class Splitting(BaseModel):
    """Settings. ``eps``: length of the step along the eigenvector; ``step``: h above (both in units of the weights)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    eps: float = Field(default=0.1, gt=0, le=limits.RATE)
    step: float = Field(default=0.01, gt=0, le=limits.RATE)

    def propose(self, coupling: Coupling) -> Proposal:
        """Every growable neuron may split; there are no new neurons."""
        return Proposal(
            frozenset(n for n, width in enumerate(coupling.widths) if width.growable), {}
        )

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Directions and gains -eps^2/2 lambda_i; a neuron with lambda_i >= 0 is stable and gets eps = 0."""
        entries = NeuronEntries.of(grown)
        values, vectors = torch.linalg.eigh(
            splitting_matrices(grown, objective, entries, self.step)
        )
        lowest = values[:, 0]
        with torch.no_grad():
            entries.write(vectors[:, :, 0])
            grown.candidates.split_eps.copy_(self.eps * (lowest < 0))
        return Scores(-(self.eps**2) / 2 * lowest, grown.candidates.new_eps.detach())

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Nothing: splits do not interact to second order."""


@dataclass(frozen=True)
class NeuronEntries:
    """The split directions as one vector: which neuron, and which coordinate of its u, every entry is.

    ``neuron`` is -1 where a row belongs to no candidate. ``size``: the largest number of coordinates of a neuron.
    """

    parts: Sequence[Tensor]
    neuron: Tensor
    coordinate: Tensor
    count: int
    size: int

    @staticmethod
    def of(grown: OverGrown) -> "NeuronEntries":
        """The numbering of the directions of an over-grown graph; a neuron may own rows of several layers."""
        found = list(split_tensors(grown))
        neuron = torch.cat(
            [index.repeat_interleave(tensor[0].numel()) for tensor, index, _ in found]
        )
        order = neuron.argsort(stable=True)
        ranks = torch.arange(len(neuron), device=neuron.device) - torch.searchsorted(
            neuron[order], neuron[order]
        )
        coordinate = torch.empty_like(neuron).index_copy_(0, order, ranks)
        size = int(coordinate[neuron >= 0].max()) + 1
        return NeuronEntries(
            [part[0] for part in found], neuron, coordinate, len(grown.candidates.split_eps), size
        )

    @torch.no_grad()
    def write(self, vectors: Tensor) -> None:
        """Set every direction: ``vectors[i, c]`` is coordinate c of neuron i."""
        flat = vectors[self.neuron.clamp(min=0), self.coordinate.clamp(max=self.size - 1)] * (
            self.neuron >= 0
        )
        for part, values in zip(
            self.parts, flat.split([part.numel() for part in self.parts]), strict=True
        ):
            part.copy_(values.reshape(part.shape))

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        """``tensors`` like the parts as [neuron, coordinate]; zero where a neuron has no such coordinate."""
        flat, mine = torch.cat([tensor.reshape(-1) for tensor in tensors]), self.neuron >= 0
        out = flat.new_zeros(self.count, self.size)
        out[self.neuron[mine], self.coordinate[mine]] = flat[mine]
        return out


def splitting_matrices(
    grown: OverGrown, objective: Objective, entries: NeuronEntries, step: float
) -> Tensor:
    """S_i of every neuron, [neuron, coordinate, coordinate], in units of the layers' weights.

    One gradient per coordinate. Raises GrowthError if the matrices would not fit into memory.
    """
    if entries.count * entries.size**2 > _MAX_BYTES:
        raise GrowthError(
            "too-large",
            f"the splitting matrices of {entries.count} neurons with up to {entries.size} weights each do not fit into "
            "memory; split a narrower model, or choose Firefly(new=0)",
        )
    with torch.no_grad():
        grown.candidates.split_eps.fill_(1.0)
    columns = []
    for unit in torch.eye(
        entries.size, dtype=grown.candidates.split_eps.dtype, device=entries.neuron.device
    ):
        entries.write(step * unit.expand(entries.count, -1))
        columns.append(entries.read(mean_gradients(grown, objective, entries.parts)) / step)
    matrices = torch.stack(columns, 2)
    return (matrices + matrices.mT) / 2
