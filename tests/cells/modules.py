"""What the tests of this room do to modules."""

import torch
from torch import nn


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def plain(module: nn.Module) -> nn.Module:
    """Weights of one, batch norm without effect."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.ones_(part.weight)
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0
    return module.eval()


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms that have something to do."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight.data, part.bias.data, part.running_mean, part.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
    return module
