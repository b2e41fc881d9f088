"""Random networks of constructs on which surgery of other tools, or of this one, once went wrong.

Each construct maps ``[batch, time, d]`` to ``[batch, time, d']``. What a construct computes may be
refused; it must not come out changed. ``tools/sweep.py --zoo random`` searches thousands of them.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

IN, OUT, TIME = 3, 2, 4


def sequences(batch: int, seed: int = 0) -> Tensor:
    """Inputs of the networks, ``[batch, time, 3]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, TIME, IN, dtype=torch.float64, generator=generator)


class Function(nn.Module):
    """A function without parameters as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h)


class LengthOfWeight(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.inner = nn.Linear(d, d)

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(h) / len(self.inner.weight)


class BranchOnBatch(nn.Module):
    """Another layer for single examples, which the example inputs do not reach."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.many, self.single = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, h: Tensor) -> Tensor:
        return self.single(h) if h.shape[0] == 1 else self.many(h)


class Experts(nn.Module):
    """Each example goes to the expert that its own sign says."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(d, d) for _ in range(3))

    def forward(self, h: Tensor) -> Tensor:
        out = torch.zeros_like(h)
        number = (h.sum((1, 2)) > 0).long() + (h[:, 0].sum(1) > 0).long()
        for index, expert in enumerate(self.experts):
            chosen = number == index
            if chosen.any():
                out[chosen] = expert(h[chosen])
        return out


class TiedWeight(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, d))

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(torch.tanh(F.linear(h, self.weight)), self.weight.t())


class SelfProduct(nn.Module):
    """A weight times itself, as in Bjorck's orthogonalization."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, d))

    def forward(self, h: Tensor) -> Tensor:
        weight = 1.5 * self.weight - 0.5 * self.weight @ self.weight.t() @ self.weight
        return F.linear(h, weight)


class Reused(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.inner = nn.Linear(d, d)

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(torch.relu(self.inner(h)))


class Einsum(nn.Module):
    def __init__(self, d: int, equation: str, *shape: int) -> None:
        super().__init__()
        self.equation = equation
        self.weight = nn.Parameter(torch.randn(*shape))

    def forward(self, h: Tensor) -> Tensor:
        return torch.einsum(self.equation, h, self.weight)


class ManyExperts(nn.Module):
    """All experts at once by a batched einsum."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(2, d, 5)), nn.Parameter(torch.randn(2, 5, d))

    def forward(self, h: Tensor) -> Tensor:
        inner = torch.relu(torch.einsum("btd,edk->ebtk", h, self.up))
        return torch.einsum("ebtk,ekd->btd", inner, self.down)


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@dataclass
class State:
    hidden: Tensor
    notes: dict[str, Any]


class InContainers(nn.Module):
    """Values travel in a named tuple, a dataclass, a dict and a list."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(d, 4), nn.Linear(d, 4)

    def forward(self, h: Tensor) -> Tensor:
        pair = Pair(self.left(h), self.right(h))
        state = State(pair.left, {"gates": [torch.sigmoid(pair.right)]})
        return state.hidden * state.notes["gates"][0]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module], d: int, hidden: int, **settings: Any) -> None:
        super().__init__()
        self.inner = kind(d, hidden, batch_first=True, **settings)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.inner(h)[0]
        return out


class CellLoop(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(d, 4)

    def forward(self, h: Tensor) -> Tensor:
        state = h.new_zeros(h.shape[0], self.cell.hidden_size)
        states = []
        for step in h.unbind(1):
            state = self.cell(step, state)
            states.append(state)
        return torch.stack(states, 1)


class SplitByAttribute(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.c = 3
        self.inner = nn.Linear(d, 2 * self.c)

    def forward(self, h: Tensor) -> Tensor:
        left, right = self.inner(h).split((self.c, self.c), -1)
        return left * torch.tanh(right)


class ViewByAttribute(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.c = 3
        self.inner = nn.Linear(d, 2 * self.c)

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(h).view(h.shape[0], h.shape[1], 2, self.c).sum(2)


class Attention(nn.Module):
    def __init__(self, d: int, heads: int, by_hand: bool) -> None:
        super().__init__()
        self.heads, self.by_hand = heads, by_hand
        self.qkv, self.out = nn.Linear(d, 3 * heads * 3), nn.Linear(heads * 3, d)

    def forward(self, h: Tensor) -> Tensor:
        batch, time, _ = h.shape
        split = self.qkv(h).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)
        if self.by_hand:
            scores = torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, -1)
            mixed = scores @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        return h + self.out(mixed.transpose(1, 2).flatten(2))


class LearnedQueries(nn.Module):
    """Attends from parameters, one head, so that torch's own code computes the scale."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(TIME, 3))
        self.q, self.k = nn.Linear(3, 4), nn.Linear(d, 4)
        self.v, self.out = nn.Linear(d, 4), nn.Linear(4, d)

    def forward(self, h: Tensor) -> Tensor:
        queries = self.q(self.queries).expand(h.shape[0], -1, -1)
        mixed = F.scaled_dot_product_attention(queries, self.k(h), self.v(h))
        return h + self.out(mixed)


class Grouped(nn.Module):
    """Gathers, or sums up, at times that are numbers expanded over the features."""

    def __init__(self, gathers: bool) -> None:
        super().__init__()
        self.gathers = gathers
        self.register_buffer("times", torch.arange(TIME) // 2)

    def forward(self, h: Tensor) -> Tensor:
        index = self.times[None, :, None].expand_as(h)
        if self.gathers:
            return h.gather(1, index)
        return torch.zeros_like(h).scatter_reduce(1, index, h, "mean", include_self=False)


class MaskedLinear(nn.Linear):
    """Some of its weights are switched off by its own code."""

    def __init__(self, d: int) -> None:
        super().__init__(d, d + 1)
        self.register_buffer("mask", torch.arange(d * (d + 1)).view(d + 1, d) % 3 > 0)

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight * self.mask, self.bias)


class Momentum(nn.Module):
    """A layer beside another one that follows it in training (a momentum encoder)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(d, 4), nn.Linear(d, 4)

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            pairs = zip(self.query.parameters(), self.key.parameters(), strict=True)
            for query, key in pairs:
                key.data = 0.9 * key.data + 0.1 * query.data
        return self.query(h).tanh() - self.key(h)


class Averaged(nn.Module):
    """A layer that applies a moving average of its weight in evaluation mode."""

    average: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.layer = nn.Linear(d, 4)
        self.register_buffer("average", torch.randn(4, d))

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            self.average.lerp_(self.layer.weight.detach(), 0.1)
            return self.layer(h)
        return F.linear(h, self.average, self.layer.bias)


class Distances(nn.Module):
    """How far features are from learned centers."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(4, d))

    def forward(self, h: Tensor) -> Tensor:
        return torch.cdist(h, self.centers)


class WithItself(nn.Module):
    """A bilinear layer of one input and a function of it."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.layer = nn.Bilinear(d, d, 4)

    def forward(self, h: Tensor) -> Tensor:
        return self.layer(h, h.tanh())


def normalized_by_hook(d: int) -> nn.Module:
    """A linear layer under the older weight norm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch recommends the parametrization
        return nn.utils.weight_norm(nn.Linear(d, 4))  # type: ignore[no-untyped-call,no-any-return]


class OverTime(nn.Module):
    """A layer of images or sequences, channels first."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.layer(h.transpose(1, 2)).transpose(1, 2)
        return out


def hooked(d: int, hook: str) -> nn.Module:
    """A layer with a hook that changes what it gives, takes, or that keeps it."""
    layer = nn.Linear(d, d)
    if hook == "gives":
        layer.register_forward_hook(lambda _module, _args, out: 2 * out)
    elif hook == "takes":
        layer.register_forward_pre_hook(lambda _module, args: (torch.tanh(args[0]),))
    else:
        kept: dict[str, Tensor] = {}
        layer.register_forward_hook(lambda _module, _args, out: kept.update(out=out) or None)
    return layer


def _function(function: Callable[[Tensor], Tensor]) -> Callable[[int], tuple[nn.Module, int]]:
    return lambda d: (Function(function), d)


def _loop(h: Tensor) -> Tensor:
    total = torch.zeros_like(h[..., 0])
    for index in range(h.shape[-1]):
        total = total + h[..., index] * (index + 1)
    return h + total[..., None]


def _constant_view(d: int) -> Callable[[Tensor], Tensor]:
    return lambda h: torch.tanh(h.reshape(-1, d)).view(-1, TIME, d)


CONSTRUCTS: dict[str, Callable[[int], tuple[nn.Module, int]]] = {
    # what any network has
    "linear": lambda d: (nn.Linear(d, d + 1), d + 1),
    "relu": _function(torch.relu),
    "layer norm": lambda d: (nn.LayerNorm(d), d),
    "dropout": lambda d: (nn.Dropout(0.3), d),
    "batch norm": lambda d: (OverTime(nn.BatchNorm1d(d)), d),
    "group norm": lambda d: (OverTime(nn.GroupNorm(1, d)), d),
    "convolution": lambda d: (OverTime(nn.Conv1d(d, d + 1, 3, padding=1)), d + 1),
    "depthwise": lambda d: (OverTime(nn.Conv1d(d, d, 3, padding=1, groups=d)), d),
    "transposed": lambda d: (OverTime(nn.ConvTranspose1d(d, 4, 3, padding=1)), 4),
    # numbers read off an axis that may grow
    "over root of size": _function(lambda h: h / h.shape[-1] ** 0.5),
    "mean by hand": _function(lambda h: h - h.sum(-1, keepdim=True) / h.size(-1)),
    "number of elements": _function(lambda h: h * (20 / h[0].numel())),
    "length of weight": lambda d: (LengthOfWeight(d), d),
    "ramp over features": _function(lambda h: h * torch.arange(h.shape[-1], dtype=h.dtype)),
    "clamp by size": _function(lambda h: h.clamp(max=h.shape[-1] / 5)),
    "loop over features": _function(_loop),
    # branches
    "branch on size": lambda d: (Function(lambda h: 2 * h if h.shape[-1] > d else h), d),
    "even sizes": _function(lambda h: 2 * h if h.shape[-1] % 2 else h),
    "branch on batch": lambda d: (BranchOnBatch(d), d),
    "experts": lambda d: (Experts(d), d),
    # parameters that are used more than once
    "tied": lambda d: (TiedWeight(d), d),
    "times itself": lambda d: (SelfProduct(d), 4),
    "reused": lambda d: (Reused(d), d),
    # einsum
    "einsum": lambda d: (Einsum(d, "bti,oi->bto", 4, d), 4),
    "einsum, ellipsis": lambda d: (Einsum(d, "...i, io -> ...o", d, 4), 4),
    "einsum, implicit": lambda d: (Einsum(d, "abi,ic", d, 4), 4),
    "experts by einsum": lambda d: (ManyExperts(d), d),
    # hooks
    "hook gives": lambda d: (hooked(d, "gives"), d),
    "hook takes": lambda d: (hooked(d, "takes"), d),
    "hook keeps": lambda d: (hooked(d, "keeps"), d),
    # containers
    "containers": lambda d: (InContainers(d), 4),
    # recurrent layers
    "lstm": lambda d: (Recurrent(nn.LSTM, d, 4), 4),
    "gru, two ways": lambda d: (Recurrent(nn.GRU, d, 2, bidirectional=True), 4),
    "lstm, projected": lambda d: (Recurrent(nn.LSTM, d, 5, proj_size=3), 3),
    "rnn, two layers": lambda d: (Recurrent(nn.RNN, d, 3, num_layers=2), 3),
    "cell": lambda d: (CellLoop(d), 4),
    # views, chunks and tensors made on the way
    "constant view": lambda d: (Function(_constant_view(d)), d),
    "halves": lambda d: (
        (Function(lambda h: h.chunk(2, -1)[0] * h.chunk(2, -1)[1]), d // 2)
        if d % 2 == 0
        else (nn.Identity(), d)
    ),
    "split by attribute": lambda d: (SplitByAttribute(d), 3),
    "view by attribute": lambda d: (ViewByAttribute(d), 3),
    "zeros of its size": _function(
        lambda h: h + torch.zeros(h.shape[0], 1, h.shape[-1], dtype=h.dtype)
    ),
    "ones of its size": _function(lambda h: h * h.new_ones(h.shape[-1])),
    "flipped": _function(lambda h: h + h.flip(-1)),
    "rolled": _function(lambda h: h + h.roll(1, -1)),
    "cumulative": _function(lambda h: h.cumsum(-1)),
    "softmax": _function(lambda h: torch.softmax(h, -1)),
    "sorted": _function(lambda h: h.sort(-1).values),
    "first features": _function(lambda h: h + h[..., :1]),
    # attention
    "attention": lambda d: (Attention(d, 2, by_hand=False), d),
    "learned queries": lambda d: (LearnedQueries(d), d),
    # what training mode alone combines
    "momentum encoder": lambda d: (Momentum(d), 4),
    "averaged weights": lambda d: (Averaged(d), 4),
    # layers with other products than one
    "bilinear": lambda d: (WithItself(d), 4),
    "distances": lambda d: (Distances(d), 4),
    "weight norm by a hook": lambda d: (normalized_by_hook(d), 4),
    "shaped in place": _function(
        lambda h: (2 * h).unsqueeze_(0).transpose_(-1, -2).squeeze_(0).transpose_(-1, -2)
    ),
    # numbers that are expanded over features, weights that are computed
    "gathered": lambda d: (Grouped(gathers=True), d),
    "grouped": lambda d: (Grouped(gathers=False), d),
    "masked": lambda d: (MaskedLinear(d), d + 1),
    "attention by hand": lambda d: (Attention(d, 2, by_hand=True), d),
}


def network(names: Sequence[str], seed: int) -> nn.Sequential:
    """A linear layer, the constructs, and a linear layer; no parameter or statistic is constant."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(IN, 4)]
    size = 4
    for name in names:
        layer, size = CONSTRUCTS[name](size)
        layers.append(layer)
    layers.append(nn.Linear(size, OUT))
    model = nn.Sequential(*layers).double()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5) if "var" in name else tensor.data.normal_(0, 0.5)
    return model


PLANS = st.lists(st.sampled_from(sorted(CONSTRUCTS)), min_size=1, max_size=4)
"""Names of constructs, to be given to ``network``."""
