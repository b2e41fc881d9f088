"""Where candidates start, and the box and ball constraints of Eq. 3: ||eps||_inf <= eps, ||delta||_{2,inf} <= 1."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from fxgrow.rewrite import OverGrown, OvergrownLayer


def overgrown_layers(grown: OverGrown) -> list[OvergrownLayer]:
    """The layers that hold candidates."""
    return [module for module in grown.graph_module.modules() if isinstance(module, OvergrownLayer)]


def candidate_directions(grown: OverGrown) -> list[nn.Parameter]:
    """Everything that step one may move, apart from eps: split directions, and new neurons with their carriers."""
    held = [
        parameter
        for layer in overgrown_layers(grown)
        for parameter in layer.parameters()
        if parameter.requires_grad
    ]
    own = [parameter for parameter in grown.graph_module.parameters() if parameter.requires_grad]
    eps = {id(grown.candidates.split_eps), id(grown.candidates.new_eps)}
    return list({id(p): p for p in (*held, *own) if id(p) not in eps}.values())


@torch.no_grad()
def initialize(grown: OverGrown, eps: float, generator: torch.Generator) -> None:
    """Random directions of norm 1, outgoing weights of new neurons 0 (step one then starts from their gradient)."""
    grown.candidates.split_eps.fill_(eps)
    grown.candidates.new_eps.fill_(eps)
    for layer in overgrown_layers(grown):
        for parameter in (*(layer.delta or []), *(layer.new or [])):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise)
        for outgoing in layer.outgoing:
            outgoing.zero_()
    _normalise(grown, at_most=False)


def constraint_violation(grown: OverGrown, eps: float) -> Tensor:
    """The smooth penalty sum_i 1/4 max(0, (eps_i / eps)^2 - 1)^2 + sum_i 1/4 max(0, ||delta_i||^2 - 1)^2.

    Its gradient is continuous; it is 0 inside the box and the ball, and about v^2 where a length is 1 + v. What enters
    and what leaves a new neuron are two delta_i.
    """
    lengths = [
        (own / eps).square() for own in (grown.candidates.split_eps, grown.candidates.new_eps)
    ]
    lengths += [_squares(own, parts) for own, parts in _groups(grown)]
    return torch.cat([(squares - 1).clamp(min=0).square() / 4 for squares in lengths]).sum()


@torch.no_grad()
def project_candidates(grown: OverGrown, eps: float) -> None:
    """Back into the box and the ball."""
    grown.candidates.split_eps.clamp_(-eps, eps)
    grown.candidates.new_eps.clamp_(-eps, eps)
    _normalise(grown, at_most=True)


def _normalise(grown: OverGrown, at_most: bool) -> None:
    """Scale every delta_i (all that writes neuron i, over all its layers) to norm 1, or to norm at most 1."""
    for own, parts in _groups(grown)[: 3 if at_most else 2]:
        squares = _squares(own, parts)
        norms = squares.sqrt().clamp(min=1.0 if at_most else torch.finfo(squares.dtype).tiny)
        for tensor, index, axis in parts:
            shape = [-1 if dim == axis else 1 for dim in range(tensor.dim())]
            tensor /= torch.where(index >= 0, norms[index.clamp(min=0)], 1.0).reshape(shape)


SplitPart = tuple[Tensor, Tensor, int]
"""(tensor, candidate of each entry along its axis, that axis)."""


def _groups(grown: OverGrown) -> list[tuple[Tensor, list[SplitPart]]]:
    """The eps and the parts of every kind of delta_i: of splits, and what enters and what leaves a new neuron."""
    split_eps, new_eps = grown.candidates.split_eps, grown.candidates.new_eps
    return [
        (split_eps, list(split_tensors(grown))),
        (new_eps, list(_incoming_parts(grown))),
        (new_eps, list(_outgoing_parts(grown))),
    ]


def _squares(like: Tensor, parts: Sequence[SplitPart]) -> Tensor:
    """||delta_i||^2 of every candidate, over all its layers."""
    squares = torch.zeros_like(like)
    for tensor, index, axis in parts:
        others = [dim for dim in range(tensor.dim()) if dim != axis]
        own = tensor.square().sum(others) if others else tensor.square()
        squares = squares.index_add(0, index.clamp(min=0), torch.where(index >= 0, own, 0.0))
    return squares


def split_tensors(grown: OverGrown) -> Iterator[SplitPart]:
    """All that writes the neurons that may split."""
    for layer in overgrown_layers(grown):
        for tensor in layer.delta or []:
            yield tensor, layer.split, 0  # type: ignore[misc]


def _incoming_parts(grown: OverGrown) -> Iterator[SplitPart]:
    for layer in overgrown_layers(grown):
        for tensor in layer.new or []:
            yield tensor, torch.cat([slots.candidate for slots in layer.rows]).to(tensor.device), 0


def _outgoing_parts(grown: OverGrown) -> Iterator[SplitPart]:
    for layer in overgrown_layers(grown):
        for tensor, slots in zip(layer.outgoing, layer.columns, strict=True):
            yield tensor, slots.candidate.to(tensor.device), 1
