"""What a model may do with the size of a width, and what it may not: ``between(h, net)`` over 12 features."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.coupling.models import Net

Between = Callable[[Tensor, Any], Tensor]

INPUT = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))


def sized(between: Between, hidden: int = 12) -> Net:
    """5 -> hidden -> 3 features with ``between(h, net)`` in between."""
    return Net(
        lambda net, x: net.b(between(torch.tanh(net.a(x)), net)),
        a=nn.Linear(5, hidden),
        b=nn.Linear(hidden, 3),
    )


def repeated(h: Tensor, times: int) -> Tensor:
    """A loop whose length is a size."""
    for _ in range(times):
        h = h * 0.9
    return h


VALUES: dict[str, Between] = {
    "quotient by the root": lambda h, net: h / h.shape[1] ** 0.5,
    "times the size": lambda h, net: h * h.size(1),
    "size on the left": lambda h, net: h.size(-1) * h,
    "math.sqrt": lambda h, net: h / math.sqrt(h.shape[1]),
    "numpy": lambda h, net: h * float(np.sqrt(h.shape[1])),
    "numel": lambda h, net: h / h.numel(),
    "len": lambda h, net: h * len(h.t()),
    "size of the weight": lambda h, net: h / net.b.weight.shape[1],
    "attribute of a layer": lambda h, net: h / math.sqrt(net.b.in_features),
    "torch.tensor": lambda h, net: h * torch.tensor(h.shape[1]),
    "new_tensor": lambda h, net: h * h.new_tensor(h.shape[1]),
    "sum of ones": lambda h, net: h / torch.ones(h.shape[1], dtype=h.dtype).sum(),
    "norm of ones": lambda h, net: h / torch.ones(h.shape[1], dtype=h.dtype).norm(),
    "largest index": lambda h, net: h / (torch.arange(h.shape[1]).max() + 1),
    "trace of the identity": lambda h, net: h * torch.eye(h.shape[1]).trace(),
    "torch.full": lambda h, net: h * torch.full((1,), float(h.shape[1])),
    "alpha": lambda h, net: torch.add(h, h, alpha=h.shape[1]),
    "at least one": lambda h, net: h / max(1, h.shape[1]),
    "a whole part": lambda h, net: h * (h.shape[1] // 5),
    "range": lambda h, net: repeated(h, h.shape[1]),
}
BRANCHES: dict[str, Between] = {
    "larger than now": lambda h, net: h * 2 if h.shape[1] > 12 else h,
    "far away": lambda h, net: h * 2 if h.shape[1] > 1000 else h,
    "from the right": lambda h, net: h * 2 if h.size(1) >= 100 else h,
    "equal later": lambda h, net: h.flip(0) if h.shape[1] == 17 else h,
    "one of several": lambda h, net: -h if h.shape[1] in (14, 16) else h,
    "a set": lambda h, net: -h if h.shape[1] in {14, 16} else h,
    "a table": lambda h, net: h * {16: 2.0}.get(h.shape[1], 1.0),
    "odd": lambda h, net: -h if h.shape[1] % 2 else h,
    "divisible": lambda h, net: -h if h.shape[1] % 3 == 0 else h,
    "minimum": lambda h, net: h[:, : min(h.shape[1], 16)],
    "an attribute": lambda h, net: h * 2 if net.b.in_features > 12 else h,
    "of the weight": lambda h, net: torch.relu(h) if net.a.weight.shape[0] > 64 else h,
}
ALLOWED: dict[str, Between] = {
    "view": lambda h, net: h.view(h.shape[0], -1),
    "a multiple": lambda h, net: h.repeat(1, 1).reshape(h.shape[0], h.shape[1] * 1),
    "a new axis": lambda h, net: h.reshape(h.shape[0], h.shape[1], 1).flatten(1),
    "a part that divides": lambda h, net: h.view(-1, 4, h.shape[1] // 4).flatten(1),
    "chunks that divide": lambda h, net: torch.cat([-part for part in h.chunk(4, 1)], 1),
    "already larger": lambda h, net: h * 2 if h.shape[1] > 4 else h,
    "an attribute that follows": lambda h, net: h if h.shape[1] == net.b.in_features else -h,
    "itself": lambda h, net: h if h.shape == torch.tanh(h).shape else -h,
    "a sum over another size": lambda h, net: h / torch.ones(h.shape[0]).sum(),
    "another size": lambda h, net: h * h.shape[0],
    "printed": lambda h, net: h if f"{h.shape}" else -h,
}
