"""The neighborhood of Eq. 3: where candidates start, and the box and the ball that they stay in.

||eps||_inf <= eps (the box) and ||delta||_{2,inf} <= 1 (the ball), where delta_i is everything that
writes neuron i, over all its layers. Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture
Descent", NeurIPS 2020. How we differ: both are in units of the layer's own weights, and what enters
and what leaves a new neuron are two delta_i.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from fxgrow.rewrite import OverGrown, OvergrownLayer
from fxgrow.surgery import reshape_along

SplitPart = tuple[Tensor, Tensor, int]
"""A tensor, the candidate of each index along one of its axes (-1 for none), and that axis."""
DirectionGroup = tuple[Tensor, list[SplitPart]]
"""The eps of one kind of delta_i, and all tensors that the delta_i of this kind consist of."""


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

    The outgoing weights of new neurons become 0, so step one starts along their gradient.

    Args:
        grown: the over-grown graph, changed in place.
        eps: radius of the box.
        generator: draws the directions.
    """
    grown.candidates.split_eps.fill_(eps)
    grown.candidates.new_eps.fill_(eps)
    for layer in overgrown_layers(grown):
        for parameter in (*(layer.delta or []), *(layer.new or [])):
            # In double precision, so that the draw is the same whatever the model's dtype is.
            dtype = torch.complex128 if parameter.is_complex() else torch.float64
            noise = torch.randn(parameter.shape, generator=generator, dtype=dtype)
            parameter.copy_(noise)
        for outgoing in layer.outgoing:
            outgoing.zero_()
    for eps_of_kind, parts in (_split_group(grown), _incoming_group(grown)):
        squares = _squared_norms(eps_of_kind, parts)
        _divide(parts, squares.sqrt().clamp(min=torch.finfo(squares.dtype).tiny))


def constraint_violation(grown: OverGrown, eps: float) -> Tensor:
    """Compute a smooth penalty for leaving the box and the ball.

    sum_i 1/4 max(0, (eps_i / eps)^2 - 1)^2 + sum_i 1/4 max(0, ||delta_i||^2 - 1)^2

    Its gradient is continuous. It is 0 inside, and about v^2 where a length is 1 + v.

    Args:
        grown: the over-grown graph.
        eps: radius of the box.

    Returns:
        A scalar that can be differentiated.
    """
    candidates = grown.candidates
    squared = [(candidates.split_eps / eps).square(), (candidates.new_eps / eps).square()]
    for eps_of_kind, parts in _groups(grown):
        squared.append(_squared_norms(eps_of_kind, parts))
    penalties = [(lengths - 1).clamp(min=0).square() / 4 for lengths in squared]
    return torch.cat(penalties).sum()


@torch.no_grad()
def project_candidates(grown: OverGrown, eps: float) -> None:
    """Move every candidate to the nearest point of the box and the ball.

    Args:
        grown: the over-grown graph, changed in place.
        eps: radius of the box.
    """
    grown.candidates.split_eps.clamp_(-eps, eps)
    grown.candidates.new_eps.clamp_(-eps, eps)
    for eps_of_kind, parts in _groups(grown):
        norms = _squared_norms(eps_of_kind, parts).sqrt()
        _divide(parts, norms.clamp(min=1.0))  # dividing by 1 leaves what is inside as it is


def _divide(parts: Sequence[SplitPart], divisors: Tensor) -> None:
    """Divide each part of delta_i by ``divisors[i]``, in place."""
    if not parts:
        return
    # Looked up for all parts at once: hundreds of small tensors are common.
    index = torch.cat([part_index for _, part_index, _ in parts])
    along = torch.where(index >= 0, divisors[index.clamp(min=0)], 1.0)
    sizes = [len(part_index) for _, part_index, _ in parts]
    for (tensor, _, axis), own in zip(parts, along.split(sizes), strict=True):
        tensor /= reshape_along(own, axis, tensor.dim())


def _groups(grown: OverGrown) -> list[DirectionGroup]:
    """Return every kind of delta_i: of splits, and what enters and what leaves a new neuron."""
    return [_split_group(grown), _incoming_group(grown), _outgoing_group(grown)]


def _split_group(grown: OverGrown) -> DirectionGroup:
    return grown.candidates.split_eps, list(split_tensors(grown))


def _incoming_group(grown: OverGrown) -> DirectionGroup:
    parts = []
    for layer in overgrown_layers(grown):
        for tensor in layer.new or []:
            # The rows of all widths that the layer writes, one after the other.
            candidate = torch.cat([slots.candidate for slots in layer.rows]).to(tensor.device)
            parts.append((tensor, candidate, 0))
    return grown.candidates.new_eps, parts


def _outgoing_group(grown: OverGrown) -> DirectionGroup:
    parts = []
    for layer in overgrown_layers(grown):
        for tensor, slots in zip(layer.outgoing, layer.columns, strict=True):
            parts.append((tensor, slots.candidate.to(tensor.device), 1))
    return grown.candidates.new_eps, parts


def split_tensors(grown: OverGrown) -> Iterator[SplitPart]:
    """Yield all tensors that write the neurons that may split."""
    for layer in overgrown_layers(grown):
        for tensor in layer.delta or []:
            yield tensor, layer.split, 0  # type: ignore[misc]


def _squared_norms(like: Tensor, parts: Sequence[SplitPart]) -> Tensor:
    """Return ||delta_i||^2 of every candidate, summed over all its layers; shaped like ``like``."""
    squares = torch.zeros_like(like)
    if not parts:
        return squares
    owned = []
    for tensor, _, axis in parts:
        other_axes = [dim for dim in range(tensor.dim()) if dim != axis]
        # sum([]) would sum over everything, so a bias, which has no other axis, is left alone.
        square = _real_square(tensor)
        owned.append((square.sum(other_axes) if other_axes else square).to(squares.dtype))
    index = torch.cat([part_index for _, part_index, _ in parts])
    own = torch.where(index >= 0, torch.cat(owned), 0.0)
    return squares.index_add(0, index.clamp(min=0), own)


def _real_square(tensor: Tensor) -> Tensor:
    """|x|^2 of every entry, with a gradient at 0 for complex numbers too."""
    if tensor.is_complex():
        return tensor.real.square() + tensor.imag.square()
    return tensor.square()
