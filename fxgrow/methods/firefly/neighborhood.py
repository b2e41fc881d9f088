"""The neighborhood of Eq. 3: where candidates start, and the box and the ball that they stay in.

||eps||_inf <= eps (the box) and ||delta||_{2,inf} <= 1 (the ball), where delta_i is everything that
writes neuron i, over all its layers. Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture
Descent", NeurIPS 2020. How we differ: both are in units of the layer's own weights, and what enters
and what leaves a new neuron are two delta_i.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxgrow.rewrite import OverGrown, OvergrownLayer

SplitPart = tuple[Tensor, Tensor, int]
"""A tensor, the candidate of each index along one of its axes (-1 for none), and that axis."""

_AT_ONCE = 2**18
"""Entries of tensors whose norms are computed together, which copies them."""


def overgrown_layers(grown: OverGrown) -> list[OvergrownLayer]:
    """Return the layers that hold candidates."""
    return [module for module in grown.graph_module.modules() if isinstance(module, OvergrownLayer)]


def candidate_directions(grown: OverGrown) -> list[nn.Parameter]:
    """Return everything that step one may move, except eps.

    These are the directions of splits, and new neurons with the parameters that they pass through.
    """
    eps_ids = {id(grown.candidates.split_eps), id(grown.candidates.new_eps)}
    # By id, because a parameter may be reached through several modules; a dict keeps the order.
    directions: dict[int, nn.Parameter] = {}
    for module in (*overgrown_layers(grown), grown.graph_module):
        for parameter in module.parameters():
            if parameter.requires_grad and id(parameter) not in eps_ids:
                directions[id(parameter)] = parameter
    return list(directions.values())


@torch.no_grad()
def initialize(grown: OverGrown, eps: float, generator: torch.Generator) -> None:
    """Set every eps to its largest value, and draw random directions of norm 1.

    The outgoing weights of new neurons become 0, so step one starts along their gradient. Of a
    width under norms it is the incoming ones: what eps multiplies is 0, and the other end random.

    Args:
        grown: the over-grown graph, changed in place.
        eps: radius of the box.
        generator: draws the directions.
    """
    grown.candidates.split_eps.fill_(eps)
    grown.candidates.new_eps.fill_(eps)
    for layer in overgrown_layers(grown):
        for parameter in (*(layer.delta or []), *(layer.new or [])):
            parameter.copy_(_noise(parameter, generator))
        for tensor, is_multiplied in rows_by_eps([layer]):
            tensor[is_multiplied] = 0.0
        for outgoing, slots in zip(layer.outgoing, layer.columns, strict=True):
            if slots.by_writers:
                outgoing.copy_(_noise(outgoing, generator))
            else:
                outgoing.zero_()
    drawn = [_split_directions(grown), _incoming_directions(grown)]
    if grown.candidates.under_norms:
        drawn.append(_outgoing_directions(grown))
    for directions in drawn:
        norms = directions.squared_norms().sqrt()
        directions.divide(norms.clamp(min=torch.finfo(norms.dtype).tiny))


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    # In double precision, so that the draw is the same whatever the model's dtype is.
    dtype = torch.complex128 if like.is_complex() else torch.float64
    return torch.randn(like.shape, generator=generator, dtype=dtype)


def rows_by_eps(layers: Iterable[OvergrownLayer]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what writes new neurons, with the mask of the rows that eps multiplies."""
    for layer in layers:
        if layer.eps_of_rows is not None:
            for tensor in layer.new or []:
                yield tensor, layer.eps_of_rows >= 0


@dataclass(frozen=True)
class Neighborhood:
    """The box and the ball of the candidates of one over-grown graph.

    Args:
        all_eps: the eps of all candidates.
        directions: the delta_i of splits, and what enters and what leaves a new neuron.
        radius: of the box.
    """

    all_eps: tuple[Tensor, ...]
    directions: tuple["Directions", ...]
    radius: float

    @staticmethod
    def of(grown: OverGrown, eps: float) -> "Neighborhood":
        """Find all candidates of a graph.

        Args:
            grown: the over-grown graph.
            eps: radius of the box.

        Returns:
            Their neighborhood.
        """
        directions = (
            _split_directions(grown),
            _incoming_directions(grown),
            _outgoing_directions(grown),
        )
        all_eps = (grown.candidates.split_eps, grown.candidates.new_eps)
        return Neighborhood(all_eps, directions, eps)

    def violation(self) -> Tensor:
        """Compute a smooth penalty for leaving the box and the ball.

        sum_i 1/4 max(0, (eps_i / eps)^2 - 1)^2 + sum_i 1/4 max(0, ||delta_i||^2 - 1)^2

        Its gradient is continuous. It is 0 inside, and about v^2 where a length is 1 + v.

        Returns:
            A scalar that can be differentiated.
        """
        squared = [(eps / self.radius).square() for eps in self.all_eps]
        squared += [directions.squared_norms() for directions in self.directions]
        penalties = [(lengths - 1).clamp(min=0).square() / 4 for lengths in squared]
        return torch.cat(penalties).sum()

    @torch.no_grad()
    def project(self) -> None:
        """Move every candidate to the nearest point of the box and the ball."""
        for eps in self.all_eps:
            eps.clamp_(-self.radius, self.radius)
        for directions in self.directions:
            norms = directions.squared_norms().sqrt()
            directions.divide(norms.clamp(min=1.0))  # dividing by 1 leaves what is inside


@dataclass(frozen=True)
class Directions:
    """All tensors that the delta_i of one kind consist of: hundreds of small ones are common.

    Args:
        like: the eps of this kind, one per candidate.
        stacks: tensors of one shape each.
        candidate: whose each index along the axes of all tensors is, in the order of the stacks.
        is_owned: where there is a candidate; elsewhere ``candidate`` is any.
    """

    like: Tensor
    stacks: tuple["_Stack", ...]
    candidate: Tensor
    is_owned: Tensor

    @staticmethod
    def of(like: Tensor, parts: Iterable[SplitPart]) -> "Directions":
        """Put tensors of one shape beside each other."""
        by_shape: dict[tuple[object, ...], list[SplitPart]] = defaultdict(list)
        for tensor, index, axis in parts:
            by_shape[axis, tensor.shape, tensor.dtype, tensor.device].append((tensor, index, axis))
        stacks, indices = [], [torch.empty(0, dtype=torch.long, device=like.device)]
        for alike in by_shape.values():
            count = max(_AT_ONCE // max(alike[0][0].numel(), 1), 1)
            for start in range(0, len(alike), count):
                some = alike[start : start + count]
                stacks.append(_Stack([tensor for tensor, _, _ in some], some[0][2]))
                indices += [index for _, index, _ in some]
        index = torch.cat(indices)
        return Directions(like, tuple(stacks), index.clamp(min=0), index >= 0)

    def squared_norms(self) -> Tensor:
        """Return ||delta_i||^2 of every candidate, summed over all its layers."""
        squares = torch.zeros_like(self.like)
        if not self.stacks:
            return squares
        norms = torch.cat([stack.norms().flatten().to(squares.dtype) for stack in self.stacks])
        own = torch.where(self.is_owned, norms.square(), 0.0)
        return squares.index_add(0, self.candidate, own)

    def divide(self, divisors: Tensor) -> None:
        """Divide each part of delta_i by ``divisors[i]``, in place."""
        along = torch.where(self.is_owned, divisors[self.candidate], 1.0)
        parts = along.split([stack.count for stack in self.stacks])
        for stack, own in zip(self.stacks, parts, strict=True):
            stack.divide(own)


@dataclass(frozen=True)
class _Stack:
    """Tensors of one shape, along one axis of which candidates lie."""

    tensors: list[Tensor]
    axis: int

    @property
    def count(self) -> int:
        """How many indices along the axis all tensors have."""
        return len(self.tensors) * self.tensors[0].shape[self.axis]

    def norms(self) -> Tensor:
        """The norm of each tensor at each index of the axis: ``[tensors, indices]``."""
        is_alone = len(self.tensors) == 1
        stacked = self.tensors[0].unsqueeze(0) if is_alone else torch.stack(self.tensors)
        others = [dim for dim in range(1, stacked.dim()) if dim != 1 + self.axis]
        # Over no axis a norm would be over all, so a bias, which has no other one, is left alone.
        return torch.linalg.vector_norm(stacked, dim=others) if others else stacked.abs()

    def divide(self, divisors: Tensor) -> None:
        """Divide each tensor at each index of the axis, in place."""
        following = self.tensors[0].dim() - self.axis - 1
        own = divisors.reshape(len(self.tensors), -1, *[1] * following)
        # One call for all of them: they are hundreds, and small.
        torch._foreach_div_(self.tensors, own.unbind())


def _split_directions(grown: OverGrown) -> Directions:
    return Directions.of(grown.candidates.split_eps, split_tensors(grown))


def _incoming_directions(grown: OverGrown) -> Directions:
    tensors = [*incoming_tensors(overgrown_layers(grown)), *_written_parameters(grown)]
    return Directions.of(grown.candidates.new_eps, tensors)


def _written_parameters(grown: OverGrown) -> Iterator[SplitPart]:
    """Yield what parameters without a product (positions) write of new neurons."""
    for entry in grown.entries:
        if entry.unit is not None and entry.slots is not None:
            tensor = entry.parameter_itself
            yield tensor, entry.slots.candidate.to(tensor.device), entry.axis


def _outgoing_directions(grown: OverGrown) -> Directions:
    return Directions.of(grown.candidates.new_eps, outgoing_tensors(overgrown_layers(grown)))


def incoming_tensors(layers: Iterable[OvergrownLayer]) -> Iterator[SplitPart]:
    """Yield all tensors that write new neurons."""
    for layer in layers:
        for tensor in layer.new or []:
            # The rows of all widths that the layer writes, one after the other.
            candidate = torch.cat([slots.candidate for slots in layer.rows]).to(tensor.device)
            yield tensor, candidate, 0


def outgoing_tensors(layers: Iterable[OvergrownLayer]) -> Iterator[SplitPart]:
    """Yield all tensors that read new neurons."""
    for layer in layers:
        for tensor, slots in zip(layer.outgoing, layer.columns, strict=True):
            yield tensor, slots.candidate.to(tensor.device), 1


def split_tensors(grown: OverGrown) -> Iterator[SplitPart]:
    """Yield all tensors that write the neurons that may split."""
    for layer in overgrown_layers(grown):
        for tensor in layer.delta or []:
            yield tensor, layer.split, 0  # type: ignore[misc]
