"""What fresh entries of a parameter that writes or carries neurons start from."""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fxgrow.surgery.attributes import new_entry_value


def random_entries(tensor: Tensor, axis: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` entries along ``axis``, normal, with the spread of the existing ones; 1 / sqrt(fan in) if all are 0."""
    shape = list(tensor.shape)
    shape[axis] = count
    fan_in = max(1, tensor[0].numel())
    spread = float(tensor.detach().double().std(correction=0)) or fan_in**-0.5
    return torch.randn(shape, generator=generator, dtype=torch.float64).mul(spread).to(tensor)


def carrier_entries(
    owner: nn.Module, name: str, tensor: Tensor, axis: int, count: int, generator: torch.Generator
) -> Tensor:
    """``count`` entries of a carrier: random kernels, else the neutral value of their module."""
    if isinstance(owner, _ConvNd) and tensor.dim() > 1:
        return random_entries(tensor, axis, count, generator)
    shape = list(tensor.shape)
    shape[axis] = count
    return torch.full(shape, new_entry_value(owner, name.rpartition(".")[2], tensor)).to(tensor)
