"""The order in which a tensor lies in memory: it survives a growth."""

import torch
from torch import Tensor

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The memory format with the channels last, by the number of dimensions."""


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """Whether a tensor lies in memory with its channels last.

    Args:
        tensor: ``[batch, channels, ...]``.

    Returns:
        ``torch.channels_last`` or ``torch.channels_last_3d`` if its strides are exactly those of
        this format, else ``torch.contiguous_format``.
    """
    channels_last = CHANNELS_LAST.get(tensor.dim())
    if channels_last is None:
        return torch.contiguous_format
    # With one channel, or no space, a tensor is contiguous in both formats: only strides differ.
    strides = []
    for candidate in (torch.contiguous_format, channels_last):
        example = torch.empty(tensor.shape, device="meta", memory_format=candidate)
        strides.append(example.stride())
    plain, last = strides
    return channels_last if plain != tensor.stride() == last else torch.contiguous_format
