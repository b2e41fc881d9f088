"""Numbers that a custom module keeps in attributes follow the neurons that its code cuts with them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth.widen import widen

Part = Callable[[Any, Tensor], Any]


class Image(nn.Module):
    """A vector becomes an image of 8 channels."""

    def __init__(self, view: Part) -> None:
        super().__init__()
        self.channels, self.shape, self.view = 8, [-1, 8, 2, 2], view
        self.fc, self.conv = nn.Linear(6, 32), nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(torch.relu(self.view(self, self.fc(x))))
        return out


class Halves(nn.Module):
    """Eight channels are cut in two, as in C2f."""

    def __init__(self, cut: Part) -> None:
        super().__init__()
        self.c, self.cut = 4, cut
        self.first, self.inner = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cut(self, self.first(x)))
        out: Tensor = self.last(torch.cat([*parts, self.inner(parts[-1])], 1))
        return out


class Parts(nn.Module):
    """Eleven channels are cut in three, two of which are multiplied."""

    def __init__(self, cut: Part) -> None:
        super().__init__()
        self.small, self.large, self.sizes, self.cut = 3, 5, (3, 3, 5), cut
        self.first, self.last = nn.Conv2d(3, 11, 1), nn.Conv2d(6, 2, 1)
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        p, q, r = self.cut(self, self.first(x))
        out: Tensor = self.last(torch.cat([self.a(p * q), self.b(r)], 1))
        return out


class Ghost(nn.Module):
    """Half of the channels are cheap ones; more than asked for are cut off."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = -(-outputs // 2)
        self.outputs = outputs
        self.primary = nn.Conv2d(inputs, half, 1)
        self.cheap = nn.Conv2d(half, half, 3, padding=1, groups=half)

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        return torch.cat([primary, self.cheap(primary)], 1)[:, : self.outputs]


class ConditionalNorm(nn.Module):
    """A batch norm whose scales and shifts depend on a class."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.norm = nn.BatchNorm2d(num_features, affine=False)
        self.scales = nn.Embedding(5, 2 * num_features)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        scale, shift = self.scales(label).chunk(2, 1)
        shape = (-1, self.num_features, 1, 1)
        out: Tensor = scale.view(shape) * self.norm(x) + shift.view(shape)
        return out


class Conditional(nn.Module):
    """Two conditional norms of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 2, 1)
        self.norm_a, self.norm_b = ConditionalNorm(6), ConditionalNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        label = torch.ones(len(x), dtype=torch.long)
        h = torch.relu(self.norm_a(self.a(x), label))
        out: Tensor = self.c(torch.relu(self.norm_b(self.b(h), label)))
        return out


class Spline(nn.Module):
    """A layer of a Kolmogorov-Arnold network: bases of every input, flattened."""

    def __init__(self, inputs: int, outputs: int, bases: int = 7) -> None:
        super().__init__()
        self.outputs = outputs
        self.weight = nn.Parameter(torch.randn(outputs, inputs, bases))
        self.register_buffer("grid", torch.linspace(-1, 1, bases).repeat(inputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        bases = torch.exp(-((x.unsqueeze(-1) - self.grid) ** 2))
        return F.linear(bases.view(x.size(0), -1), self.weight.view(self.outputs, -1))


class Heads(nn.Module):
    """Attention whose view says how many heads there are in its own way."""

    def __init__(self, cut: Part, heads: int = 3) -> None:
        super().__init__()
        self.heads, self.cut = heads, cut
        self.q, self.k, self.v = nn.Linear(6, 12), nn.Linear(6, 12), nn.Linear(6, 12)
        self.o = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.cut(self, f(x)).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        out: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return out


def even_heads(module: Any, h: Tensor) -> Tensor:
    """As torch's own attention checks and divides."""
    assert h.size(-1) % module.heads == 0
    size = h.size(-1) // module.heads
    assert size * module.heads == h.size(-1)
    return h.view(*h.shape[:2], module.heads, size)


SEQUENCE = torch.randn(2, 5, 6).double()
VECTOR, IMAGE = torch.randn(2, 6).double(), torch.randn(2, 3, 4, 4).double()

GROWING: dict[str, tuple[Callable[[], nn.Module], Tensor, tuple[str, ...]]] = {
    "view by shape": (lambda: Image(lambda m, h: h.view(len(h), -1, 2, 2)), VECTOR, ("fc",)),
    "view": (lambda: Image(lambda m, h: h.view(-1, m.channels, 2, 2)), VECTOR, ("fc",)),
    "view by a list": (lambda: Image(lambda m, h: h.view(m.shape)), VECTOR, ("fc",)),
    "view by a child": (
        lambda: Image(lambda m, h: h.view(-1, m.conv.in_channels, 2, 2)),
        VECTOR,
        ("fc",),
    ),
    "unflatten": (
        lambda: nn.Sequential(nn.Linear(6, 32), nn.Unflatten(1, (8, 2, 2)), nn.Conv2d(8, 2, 1)),
        VECTOR,
        ("0",),
    ),
    "last channels": (
        lambda: Image(lambda m, h: h.view(len(h), 2, 2, -1).permute(0, 3, 1, 2)),
        VECTOR,
        ("fc",),
    ),
    "split": (lambda: Halves(lambda m, h: h.split((m.c, m.c), 1)), IMAGE, ("first", "inner")),
    "split by a number": (lambda: Halves(lambda m, h: h.split(m.c, 1)), IMAGE, ("first",)),
    "slices": (lambda: Halves(lambda m, h: (h[:, : m.c], h[:, m.c :])), IMAGE, ("first",)),
    "parts": (
        lambda: Parts(lambda m, h: h.split([m.small, m.small, m.large], 1)),
        IMAGE,
        ("first", "first#2"),
    ),
    "parts by a tuple": (lambda: Parts(lambda m, h: h.split(m.sizes, 1)), IMAGE, ("first#2",)),
    "parts by others": (
        lambda: Parts(lambda m, h: h.split([m.a.in_channels, m.a.in_channels, m.b.in_channels], 1)),
        IMAGE,
        ("first", "first#2"),
    ),
    "last part": (
        lambda: Parts(lambda m, h: (h[:, :3], h[:, 3:6], h[:, 6:])),
        IMAGE,
        ("first#2",),
    ),
    "ghost": (
        lambda: nn.Sequential(Ghost(3, 8), Ghost(8, 6), nn.Conv2d(6, 2, 1)),
        IMAGE,
        ("0.primary", "1.primary"),
    ),
    "odd ghost": (
        lambda: nn.Sequential(Ghost(3, 7), Ghost(7, 5), nn.Conv2d(5, 2, 1)),
        IMAGE,
        ("0.primary", "0.primary#2", "1.primary"),
    ),
    "heads": (lambda: Heads(lambda m, h: h.view(*h.shape[:2], m.heads, -1)), SEQUENCE, ("q",)),
    "heads that any size fits": (
        lambda: Heads(lambda m, h: h.view(*h.shape[:2], m.heads, -1), heads=2),
        SEQUENCE,
        ("q",),
    ),
    "heads and a quotient": (
        lambda: Heads(lambda m, h: h.view(*h.shape[:2], m.heads, h.size(-1) // m.heads)),
        SEQUENCE,
        ("q",),
    ),
    "heads that are checked": (lambda: Heads(even_heads), SEQUENCE, ("q",)),
    "conditional norm": (Conditional, IMAGE, ("a", "b")),
    "splines": (
        lambda: nn.Sequential(Spline(6, 5), Spline(5, 4), Spline(4, 2)),
        VECTOR,
        ("0", "1"),
    ),
}


def varied(module: nn.Module) -> nn.Module:
    """In float64 and eval mode, with statistics as after training."""
    module.double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("name", GROWING)
def test_each_width_grows_by_itself_and_keeps_the_function(name: str, how: Any) -> None:
    torch.manual_seed(0)
    make, example, widths = GROWING[name]
    module = varied(make())
    expected = module(example)
    coupling = couple(module, (example,))
    assert [width for width in widths if not coupling.by_name[width].growable] == []
    for width in widths:
        wider = widen(module, {width: 3}, (example,), how=how)
        assert (wider.preservation_error or 0.0) < 1e-12
        torch.testing.assert_close(wider.module(example), expected, rtol=1e-10, atol=1e-12)


def test_a_number_in_the_code_follows_nothing() -> None:
    module = Image(lambda m, h: h.view(-1, 8, 2, 2))
    assert couple(module, (torch.zeros(2, 6),)).by_name["fc"].refusal is not None


UNEVEN: dict[str, Part] = {
    "a quotient by a number": lambda m, h: h.view(*h.shape[:2], m.heads, h.size(-1) // 3),
    "a remainder of a number": lambda m, h: (-h if h.size(-1) % 3 == 0 else h).view(
        *h.shape[:2], m.heads, -1
    ),
    "a branch on the attribute": lambda m, h: (-h if m.heads > 3 else h).view(
        *h.shape[:2], m.heads, h.size(-1) // m.heads
    ),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_an_attribute_that_follows_settles_no_other_number(name: str) -> None:
    assert couple(varied(Heads(UNEVEN[name])), (SEQUENCE,)).by_name["q"].refusal is not None


@pytest.mark.parametrize("name", ["heads", "heads and a quotient", "heads that are checked"])
def test_heads_of_a_captured_model_follow(name: str) -> None:
    module = varied(GROWING[name][0]())
    width = couple(capture(module, (SEQUENCE,))).by_name["q"]
    assert (width.size, width.growable) == (3, True)


def test_only_what_the_code_reads_is_set() -> None:
    module: Any = Halves(lambda m, h: h.split((m.c, m.c), 1))
    module.other = 4
    wider: Any = widen(module, {"first": 2}, (torch.zeros(2, 3, 4, 4),)).module
    assert (wider.c, wider.other, module.c) == (6, 4, 4)


def test_containers_are_replaced_and_not_changed() -> None:
    module = Parts(lambda m, h: h.split(m.sizes, 1))
    wider: Any = widen(module, {"first#2": 2}, (torch.zeros(2, 3, 4, 4),), inplace=False).module
    assert (wider.sizes, module.sizes) == ((3, 3, 7), (3, 3, 5))
