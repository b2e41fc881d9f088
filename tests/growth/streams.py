"""Small transformers, of whose streams every kind of norm and use occurs in one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks import randomised

SIZE, WORDS, TIME = 6, 9, 3


class WrittenOut(nn.Module):
    """An RMS norm of Llama's kind: its own code, in float32 in a model of any dtype or not."""

    def __init__(self, size: int, dtype: torch.dtype | None = None, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.dtype, self.offset = dtype, offset

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.dtype is None else x.to(self.dtype)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 0.1)
        return y.to(x.dtype) * (self.offset + self.weight if self.offset else self.weight)


class Divided(nn.Module):
    """An RMS norm that divides by a root."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x / ((x * x).mean(dim=-1, keepdim=True) + 0.1) ** 0.5)


class Functional(nn.Module):
    """A layer norm by function, whose eps is a constant."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, 0.1)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: nn.LayerNorm(SIZE, eps=0.1),
    "layer norm, no bias": lambda: nn.LayerNorm(SIZE, eps=0.1, bias=False),
    "layer norm, bare": lambda: nn.LayerNorm(SIZE, eps=0.1, elementwise_affine=False),
    "layer norm, functional": lambda: Functional(SIZE),
    "RMS norm": lambda: nn.RMSNorm(SIZE, eps=0.1),
    "RMS norm, bare": lambda: nn.RMSNorm(SIZE, eps=0.1, elementwise_affine=False),
    "RMS norm, written out": lambda: WrittenOut(SIZE),
    "RMS norm, 1 + gamma": lambda: WrittenOut(SIZE, offset=1.0),
    "RMS norm, divided": lambda: Divided(SIZE),
}


class Stream(nn.Module):
    """A stream of words and places with one residual branch, read behind a norm."""

    def __init__(self, norm: Callable[[], nn.Module], tied: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, SIZE)
        self.places = nn.Parameter(torch.randn(TIME, SIZE))
        self.before, self.last = norm(), norm()
        self.up, self.down = nn.Linear(SIZE, 5), nn.Linear(5, SIZE)
        self.head = nn.Linear(SIZE, WORDS, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def branch(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(self.before(x))))

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places
        return self.head(self.last(x + self.branch(x)))


class Scaled(Stream):
    """A branch with a layer scale."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__(norm)
        self.scale = nn.Parameter(torch.ones(SIZE))

    def branch(self, x: Tensor) -> Tensor:
        return super().branch(x) * self.scale


class Sandwich(Stream):
    """What a branch gives is normalized as well (Gemma 2)."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__(norm)
        self.after = norm()

    def branch(self, x: Tensor) -> Tensor:
        return self.after(super().branch(x))


class Both(Stream):
    """The stream is read behind a norm and beside it: the first word, and the mean of all."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__(norm)
        self.raw, self.head = nn.Linear(SIZE, WORDS), nn.Linear(2 * SIZE, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places
        y = self.last(x + self.branch(x))
        return self.head(torch.cat([y[:, 0], y.mean(1)], -1)) + self.raw(x).mean(1)


class Mixed(Stream):
    """One weight reads the stream before its norm and behind it."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__(norm)
        self.head = nn.Linear(2 * SIZE, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places
        x = x + self.branch(x)
        return self.head(torch.cat([self.last(x), x], -1))


class Exponent(Stream):
    """An exponent may be a tensor."""

    def branch(self, x: Tensor) -> Tensor:
        return super().branch(x) * torch.ones(1).double() ** x.new_ones(1)


def made(network: nn.Module) -> nn.Module:
    return randomised(network)


def words(seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randint(WORDS, (batch, TIME), generator=torch.Generator().manual_seed(seed))


def error(wider: nn.Module, network: nn.Module) -> float:
    """On other words than those of the check."""
    inputs = words(seed=1, batch=5)
    with torch.no_grad():
        return float((wider(inputs) - network(inputs)).abs().max())


class PostNorm(Stream):
    """The stream itself is what a layer norm gives (BERT)."""

    def forward(self, words: Tensor) -> Tensor:
        x = self.before(self.words(words) + self.places)
        return self.head(self.last(x + self.down(torch.relu(self.up(x)))))


class Patches(Stream):
    """Three neighbours are normalized together (patch merging)."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__(norm)
        self.last, self.head = nn.LayerNorm(3 * SIZE), nn.Linear(3 * SIZE, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places
        x = x + self.branch(x)
        return self.head(self.last(torch.cat([x[:, 0], x[:, 1], x[:, 2]], -1)))


class BarePatches(Patches):
    """The same without a gain."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__(norm)
        self.last = nn.LayerNorm(3 * SIZE, elementwise_affine=False)


class Depthwise(Stream):
    """A depthwise convolution lies between a writer and a norm (ConvNeXt)."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__(norm)
        self.mix = nn.Conv1d(SIZE, SIZE, 3, padding=1, groups=SIZE)

    def branch(self, x: Tensor) -> Tensor:
        return super().branch(x + self.mix(x.transpose(1, 2)).transpose(1, 2))


class TwoKinds(Stream):
    """A layer norm wants the mean in a new neuron, an RMS norm 0."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__(norm)
        self.last = nn.RMSNorm(SIZE, eps=0.1)
