"""Networks with a global response norm (ConvNeXt-V2), of which every spelling occurs in one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

SIZE, CLASSES = 6, 3
IMAGE = (5, 3, 4, 4)


class Fused(nn.Module):
    """Gain and shift at once, by views of vectors, as timm writes it; neurons along ``dim``."""

    def __init__(self, size: int, dim: int = 1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.eps, self.dim = 0.1, dim
        self.space = (2, 3) if dim == 1 else (1, 2)
        self.shape = (1, -1, 1, 1) if dim == 1 else (1, 1, 1, -1)

    def forward(self, x: Tensor) -> Tensor:
        spread = x.norm(p=2, dim=self.space, keepdim=True)
        relative = spread / (spread.mean(dim=self.dim, keepdim=True) + self.eps)
        shift, gain = self.bias.view(self.shape), self.weight.view(self.shape)
        return x + torch.addcmul(shift, gain, x * relative)


class WrittenOut(nn.Module):
    """As the paper's authors write it, but for eps."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, size, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, size, 1, 1))
        self.epsilon = 0.1

    def added(self) -> float:
        return self.epsilon

    def forward(self, x: Tensor) -> Tensor:
        spread = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        relative = spread / (spread.mean(dim=1, keepdim=True) + self.added())
        return self.gamma * (x * relative) + self.beta + x


class Constant(WrittenOut):
    """The paper's own: eps is a number in the code (transformers as well)."""

    def added(self) -> float:
        return 0.1 + 0.01


class WithoutEps(WrittenOut):
    """Nothing is added to the mean."""

    def added(self) -> float:
        return 0.0


class Ambiguous(WrittenOut):
    """Two attributes hold the same number."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.momentum = 0.1


class Bare(nn.Module):
    """Without gain, shift and residual, by another norm of each map."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.eps = 0.1

    def forward(self, x: Tensor) -> Tensor:
        spread = torch.linalg.vector_norm(x, 1, dim=(-2, -1), keepdim=True)
        return (spread / (self.eps + spread.mean(dim=(1,), keepdim=True))) * x


class Rooted(WrittenOut):
    """A square root of a sum has no slope at a neuron that is 0."""

    def forward(self, x: Tensor) -> Tensor:
        spread = x.square().sum((2, 3), keepdim=True).sqrt()
        relative = spread / (spread.mean(dim=1, keepdim=True) + self.epsilon)
        return self.gamma * (x * relative) + self.beta + x


class GainFirst(WrittenOut):
    """The gain is multiplied with what no activation is."""

    def forward(self, x: Tensor) -> Tensor:
        spread = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        relative = spread / (spread.mean(dim=1, keepdim=True) + self.epsilon)
        return self.gamma * relative * x + self.beta + x


class Concatenated(WrittenOut):
    """The mean goes elsewhere as well."""

    def forward(self, x: Tensor) -> Tensor:
        spread = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        mean = spread.mean(dim=1, keepdim=True)
        both = torch.cat([mean, 2 * mean]).sum()
        return self.gamma * (x * (spread / (mean + self.epsilon))) + self.beta + x + both


Norm = Callable[[int], nn.Module]

NORMS: dict[str, Norm] = {
    "fused": Fused,
    "fused, last": lambda size: Fused(size, dim=-1),
    "written out": WrittenOut,
    "without eps": WithoutEps,
    "bare": Bare,
}


class Mlp(nn.Module):
    """A classifier of images whose hidden neurons are normalized, behind a nonlinear function."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.up = nn.Conv2d(IMAGE[1], SIZE, 1)
        self.norm = norm(SIZE)
        self.down = nn.Conv2d(SIZE, CLASSES, 1)

    def hidden(self, x: Tensor) -> Tensor:
        h = nn.functional.gelu(self.up(x))
        if isinstance(self.norm, Fused) and self.norm.dim == -1:
            return self.norm(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.norm(h)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.hidden(x)).mean((2, 3))


class Twice(Mlp):
    """The same norm again, of other neurons: its eps cannot follow both."""

    def __init__(self, norm: Norm) -> None:
        super().__init__(norm)
        self.middle = nn.Conv2d(SIZE, SIZE, 1)

    def hidden(self, x: Tensor) -> Tensor:
        h = super().hidden(x)
        return self.norm(nn.functional.gelu(self.middle(h)))


def images(seed: int = 0) -> Tensor:
    return torch.randn(IMAGE, generator=torch.Generator().manual_seed(seed)).double()
