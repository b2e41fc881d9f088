"""What a layer of a new task may do: reuse a version of its weight, adapt one, or have a new one.

See ``learn_to_grow`` for the paper. Every choice is a module that gives the weight when it is
called; its parameters are what it adds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fxgrow.continual.baselines.common import num_parameters


class LayerChoice(nn.Module):
    """One thing that a layer may do; ``kind`` is its name in ``TaskStats.details``."""

    kind: str


class ReusedVersion(LayerChoice):
    """A version as it is.

    Args:
        version: the weight that some earlier task ended with.
    """

    kind = "reused"
    weight: Tensor

    def __init__(self, version: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", version)

    def forward(self) -> Tensor:
        return self.weight


class AdaptedVersion(LayerChoice):
    """A version with a 1 x 1 convolution beside it, which starts at zero.

    A convolution is linear in its kernel, so one beside it adds to the middle of the kernel. Where
    the kernel is 1 x 1 itself, or the layer is linear, a product of two factors is added instead.

    Args:
        version: the weight that some earlier task ended with.
        rank: the rank of the product; less if the layer is smaller.
        generator: draws the second factor.

    Shapes:
        version: [outputs, inputs, *kernel]; out: [outputs, rank]; down: [rank, inputs].
    """

    kind = "adapted"
    weight: Tensor

    def __init__(self, version: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("weight", version)
        outputs, inputs = version.shape[:2]
        self.spatial = version[0, 0].numel() > 1
        rank = inputs if self.spatial else min(rank, outputs, inputs)
        self.out = nn.Parameter(version.new_zeros(outputs, rank))
        if not self.spatial:
            noise = torch.randn(rank, inputs, generator=generator, dtype=torch.float64)
            # Divided by the root of the fan-in: what it gives has the variance of its input.
            self.down = nn.Parameter((noise * inputs**-0.5).to(version))

    def forward(self) -> Tensor:
        if not self.spatial:
            return self.weight + (self.out @ self.down).reshape(self.weight.shape)
        kernel = self.weight.shape[2:]
        middle = self.weight.new_zeros(kernel)
        middle[tuple(size // 2 for size in kernel)] = 1
        ones = [1] * len(kernel)
        # [outputs, inputs, 1, 1] * [kH, kW]: added at the middle of each kernel alone
        return self.weight + self.out.reshape(*self.out.shape, *ones) * middle


class NewVersion(LayerChoice):
    """A new weight.

    Args:
        version: what it starts as.
    """

    kind = "new"

    def __init__(self, version: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(version.clone())

    def forward(self) -> Tensor:
        return self.weight


def layer_options(
    versions: Sequence[Tensor], rank: int, generator: torch.Generator
) -> list[LayerChoice]:
    """List what a layer may do.

    Args:
        versions: the weights that earlier tasks ended with, at least one.
        rank: the rank of low-rank adapters.
        generator: draws what adapters start with.

    Returns:
        Reuse each version, adapt each version, or a new one, which starts as the last version.
    """
    reused = [ReusedVersion(version) for version in versions]
    adapted = [AdaptedVersion(version, rank, generator) for version in versions]
    return [*reused, *adapted, NewVersion(versions[-1])]


class LayerMixture(nn.Module):
    """Gives the mean of the weights of all choices, by the softmax of ``preference``.

    A layer is linear in its weight, so that is the mean of the outputs of all choices.

    Args:
        options: the choices.
    """

    def __init__(self, options: Sequence[nn.Module]) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        self.preference = nn.Parameter(torch.zeros(len(options)))

    def forward(self) -> Tensor:
        # [choices], positive and adding up to 1
        shares = self.preference.softmax(0)
        weights = [share * option() for share, option in zip(shares, self.options, strict=True)]
        return torch.stack(weights).sum(0)

    def added(self) -> Tensor:
        """Compute the mean number of parameters that the layer adds; differentiable."""
        sizes = [num_parameters(option) for option in self.options]
        return self.preference.softmax(0) @ self.preference.new_tensor(sizes)

    @property
    def best(self) -> int:
        """The number of the preferred choice, of equal ones the first."""
        return int(self.preference.argmax())
