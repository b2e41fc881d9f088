"""The weights of all candidates as vectors: one per neuron, whatever layers and axes they lie in.

Methods that do linear algebra on neurons (eigenvectors of splitting matrices, singular vectors of
a gradient) compute with ``[neurons, coordinates]``, and write the result back into the layers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fxgrow.methods.firefly.neighborhood import SplitPart, split_tensors
from fxgrow.rewrite import OverGrown
from fxgrow.surgery import reshape_along


@dataclass(frozen=True)
class NeuronEntries:
    """Some tensors as one vector: the neuron of each entry, and its coordinate in that neuron.

    A neuron may own rows (or columns) of several layers, whose entries are coordinates of one
    vector.

    Args:
        parts: the tensors, whose entries in order make up the vector.
        neuron: neuron of each entry; -1 where an entry belongs to no candidate.
        coordinate: coordinate of each entry in the vector of its neuron.
        count: number of neurons.
        size: the largest number of coordinates of a neuron.
    """

    parts: Sequence[Tensor]
    neuron: Tensor
    coordinate: Tensor
    count: int
    size: int

    @staticmethod
    def splits(grown: OverGrown) -> "NeuronEntries":
        """The directions of the neurons that may split."""
        return NeuronEntries.of(split_tensors(grown), grown.candidates.split_eps)

    @staticmethod
    def of(tensors: Iterable[SplitPart], eps: Tensor) -> "NeuronEntries":
        """Number the entries of some tensors.

        Args:
            tensors: each with the candidate of every index along one of its axes.
            eps: of all candidates, one each.
        """
        parts: list[Tensor] = []
        neurons = [torch.empty(0, dtype=torch.long, device=eps.device)]
        for tensor, index, axis in tensors:
            along = reshape_along(index, axis, tensor.dim())
            parts.append(tensor)
            neurons.append(along.expand(tensor.shape).reshape(-1))
        neuron = torch.cat(neurons)
        # The coordinate of an entry is its rank among the entries of its neuron: sorted by neuron,
        # its position minus the position of the neuron's first entry.
        order = neuron.argsort(stable=True)
        first = torch.searchsorted(neuron[order], neuron[order])
        ranks = torch.arange(len(neuron), device=neuron.device) - first
        coordinate = torch.empty_like(neuron).index_copy_(0, order, ranks)
        owned = coordinate[neuron >= 0]
        size = int(owned.max()) + 1 if len(owned) else 0
        return NeuronEntries(parts, neuron, coordinate, len(eps), size)

    def spread(self, vectors: Tensor) -> list[Tensor]:
        """Arrange vectors of neurons in the shapes of the parts; 0 where no candidate is.

        Args:
            vectors: ``vectors[i, c]`` is coordinate c of neuron i, [count, size].
        """
        if not self.size:
            return [torch.zeros_like(part) for part in self.parts]
        # Entries of no candidate read any vector, and are set to 0.
        neuron = self.neuron.clamp(min=0)
        coordinate = self.coordinate.clamp(max=self.size - 1)
        here = vectors.to(neuron.device)
        flat = here[neuron, coordinate] * (self.neuron >= 0)
        pieces = flat.split([part.numel() for part in self.parts])
        spread: list[Tensor] = []
        for part, values in zip(self.parts, pieces, strict=True):
            spread.append(values.reshape(part.shape).to(part))
        return spread

    @torch.no_grad()
    def write(self, vectors: Tensor) -> None:
        """Set all parts: ``vectors[i, c]`` is coordinate c of neuron i, [count, size]."""
        for part, values in zip(self.parts, self.spread(vectors), strict=True):
            part.copy_(values)

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        """Arrange ``tensors``, shaped like the parts, by neuron.

        Returns:
            [count, size]; zero where a neuron has no such coordinate.
        """
        if not self.parts:
            return torch.zeros(self.count, 0, device=self.neuron.device)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        is_candidate = self.neuron >= 0
        vectors = flat.new_zeros(self.count, self.size)
        vectors[self.neuron[is_candidate], self.coordinate[is_candidate]] = flat[is_candidate]
        return vectors
