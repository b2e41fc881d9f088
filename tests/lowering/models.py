"""Small models with fused attention, and the comparison that all tests of lowering make."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxgrow import couple, widen
from fxgrow.coupling import Width

DIM, HEADS = 12, 3


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and eval mode, every parameter random (tables and biases start at zero)."""
    generator = torch.Generator().manual_seed(seed)
    module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(
                0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )
    return module


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def difference(a: nn.Module, b: nn.Module, *args: Any, **kwargs: Any) -> float:
    """The largest between the outputs, which have the same form; both draw the same random numbers."""
    outputs = []
    for module in (a, b):
        torch.manual_seed(3)
        outputs.append(tree_leaves(module(*args, **kwargs)))
    assert len(outputs[0]) == len(outputs[1])
    pairs = [(x, y) for x, y in zip(*outputs, strict=True) if x is not None or y is not None]
    assert all(x.shape == y.shape and x.dtype == y.dtype for x, y in pairs)
    return max(float((x - y).abs().max()) for x, y in pairs)


def in_train_mode(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).train()


class Tokens(nn.Module):
    """Attention on a normalized stream of tokens ``[batch, tokens, 5]``."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(5, DIM), nn.LayerNorm(DIM), nn.Linear(DIM, 2)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        return self.head(x + self.attention(x, x, x, need_weights=False)[0])


class Picture(nn.Module):
    """Attention on a normalized map ``[batch, *space, 5]``."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(5, DIM), nn.LayerNorm(DIM), nn.Linear(DIM, 2)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        return self.head(x + self.attention(x))


def heads_of(model: nn.Module, inputs: tuple[Any, ...]) -> list[Width]:
    """The growable widths whose neurons write queries."""
    found = couple(model, inputs).widths
    return [
        width
        for width in found
        if width.growable and any(s.parameter.endswith("q.weight") for s in width.sites)
    ]


def drift(model: nn.Module, inputs: tuple[Any, ...], how: Any) -> float:
    """How far the output moves when two heads are added to every attention."""
    amounts = {width.name: 2 for width in heads_of(model, inputs)}
    return difference(model, widen(model, amounts, inputs, how=how).module, *inputs)


class Patches(nn.Module):
    """A tiny vision transformer of one layer for grey images, in patches of 4 x 4."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(1, DIM, 4, stride=4), nn.Linear(DIM, classes)
        self.block = nn.TransformerEncoderLayer(DIM, HEADS, 8, batch_first=True, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


def patches(num_classes: int = 10) -> tuple[nn.Module, tuple[Tensor]]:
    """For the command line."""
    return Patches(num_classes), (torch.zeros(1, 1, 8, 8),)
