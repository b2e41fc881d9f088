"""The values that new entries of a parameter that writes or carries neurons start from."""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fxgrow.surgery.attributes import NORM_TYPES, new_entry_value


def random_entries(tensor: Tensor, axis: int, count: int, generator: torch.Generator) -> Tensor:
    """Normally distributed entries with the spread of the existing ones.

    Args:
        tensor: the parameter. If all of it is zero, or it is empty, the spread is 1 / sqrt(fan in).
        axis: the axis that gains entries.
        count: how many.
        generator: draws them.

    Returns:
        A tensor with ``count`` entries along ``axis``, else of the parameter's shape.
    """
    shape = list(tensor.shape)
    shape[axis] = count
    if tensor.is_meta:  # it has no values, so there is no spread, and nothing to draw
        return torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
    fan_in = max(1, tensor.shape[1:].numel())
    # Drawn in double precision on the CPU, so that a seed gives the same numbers for every dtype
    # and device.
    dtype = torch.complex128 if tensor.is_complex() else torch.float64
    # A layer may have no rows or no columns at all, and then there is no spread either.
    existing = float(tensor.detach().to(dtype).std(correction=0)) if tensor.numel() else 0.0
    spread = existing or fan_in**-0.5
    return torch.randn(shape, generator=generator, dtype=dtype).mul(spread).to(tensor)


def carrier_entries(
    owner: nn.Module,
    name: str,
    tensor: Tensor,
    axis: int,
    count: int,
    generator: torch.Generator,
    begun: bool = False,
) -> Tensor:
    """Entries of a carrier: random kernels, else the neutral value of their module.

    Neurons that no layer writes begin at their carriers, and would all be alike by neutral values:
    these entries are drawn with the mean and the spread of the existing ones.

    Args:
        owner: the module that holds the carrier.
        name: the carrier's name, with or without the module's path.
        tensor: the carrier.
        axis: the axis that gains entries.
        count: how many.
        generator: draws random ones.
        begun: whether its neurons begin at their carriers.

    Returns:
        A tensor with ``count`` entries along ``axis``, else of the carrier's shape.
    """
    # The kernels of a depthwise convolution carry neurons, but equal ones would stay equal.
    if isinstance(owner, _ConvNd) and tensor.dim() > 1 and isinstance(tensor, nn.Parameter):
        return random_entries(tensor, axis, count, generator)
    shape = list(tensor.shape)
    shape[axis] = count
    if begun and _has_values_of_its_own(owner, tensor):
        mean = tensor.detach().mean()
        return mean + random_entries(tensor, axis, count, generator)
    return torch.full(shape, new_entry_value(owner, name.rpartition(".")[2], tensor)).to(tensor)


def _has_values_of_its_own(owner: nn.Module, tensor: Tensor) -> bool:
    """Whether a carrier is learned, and not what scales or shifts all neurons alike."""
    if isinstance(owner, NORM_TYPES) or not isinstance(tensor, nn.Parameter) or tensor.is_meta:
        return False
    return tensor.dim() > 1 or bool((tensor != tensor[:1]).any())
