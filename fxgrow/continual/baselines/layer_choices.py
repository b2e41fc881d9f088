"""What a layer of a new task may do: reuse a version of its weight, adapt one, or have a new one (see Learn to Grow).

Every choice is a module that gives the weight when it is called; its parameters are what it adds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fxgrow.continual.baselines.common import num_parameters


class ReusedVersion(nn.Module):
    """``version`` as it is."""

    weight: Tensor

    def __init__(self, version: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", version)

    def forward(self) -> Tensor:
        return self.weight


class AdaptedVersion(nn.Module):
    """``version`` with a 1 x 1 convolution beside it, or a product of two factors where its kernel is 1 x 1 itself.

    A convolution is linear in its kernel: the one beside it adds to the middle of the kernel. It starts at zero.
    """

    weight: Tensor

    def __init__(self, version: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("weight", version)
        outputs, inputs = version.shape[:2]
        self.spatial = version[0, 0].numel() > 1
        rank = inputs if self.spatial else min(rank, outputs, inputs)
        self.out = nn.Parameter(version.new_zeros(outputs, rank))
        if not self.spatial:
            drawn = (
                torch.randn(rank, inputs, generator=generator, dtype=torch.float64) * inputs**-0.5
            )
            self.down = nn.Parameter(drawn.to(version))

    def forward(self) -> Tensor:
        if not self.spatial:
            return self.weight + (self.out @ self.down).reshape(self.weight.shape)
        kernel = self.weight.shape[2:]
        middle = self.weight.new_zeros(kernel)
        middle[tuple(size // 2 for size in kernel)] = 1
        return self.weight + self.out.reshape(*self.out.shape, *(1 for _ in kernel)) * middle


class NewVersion(nn.Module):
    """A weight that starts as ``version``."""

    def __init__(self, version: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(version.clone())

    def forward(self) -> Tensor:
        return self.weight


def layer_options(
    versions: Sequence[Tensor], rank: int, generator: torch.Generator
) -> list[nn.Module]:
    """Reuse each, adapt each, or a new one, which starts as the last."""
    adapted = [AdaptedVersion(version, rank, generator) for version in versions]
    return [*map(ReusedVersion, versions), *adapted, NewVersion(versions[-1])]


class LayerMixture(nn.Module):
    """Gives the mean of the weights of all choices by the softmax of ``preference``.

    That is the mean of what the layers would give, each with the weight of one choice.
    """

    def __init__(self, options: Sequence[nn.Module]) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        self.preference = nn.Parameter(torch.zeros(len(options)))

    def forward(self) -> Tensor:
        shares = self.preference.softmax(0)
        return torch.stack(
            [share * option() for share, option in zip(shares, self.options, strict=True)]
        ).sum(0)

    def added(self) -> Tensor:
        """The mean number of parameters that it adds."""
        return self.preference.softmax(0) @ self.preference.new_tensor(
            [num_parameters(option) for option in self.options]
        )

    @property
    def best(self) -> int:
        """The number of the preferred choice, of equal ones the first."""
        return int(self.preference.argmax())
