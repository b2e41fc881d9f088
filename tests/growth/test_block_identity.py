"""Which parameters have to be zero for a block to give back its input."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.growth.block_identity import identity_assignments
from fxgrow.growth.block_trace import trace_blocks
from tests.networks import randomised

SIZE = 4


class Parts(nn.Module):
    """Parts of which a forward makes a block."""

    def __init__(self, forward: Callable[["Parts", Tensor], Tensor]) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(SIZE, 6), nn.Linear(6, SIZE)
        self.flat = nn.Linear(6, SIZE, bias=False)
        self.layer_norm, self.rms_norm = nn.LayerNorm(SIZE), nn.RMSNorm(SIZE)
        self.gain, self.scale = nn.Parameter(torch.ones(SIZE)), nn.Parameter(torch.ones(SIZE, SIZE))
        self.experts = nn.ModuleList(nn.Linear(6, SIZE) for _ in range(2))
        self.made_of = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.made_of(self, x)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.up(x))


class Around(nn.Module):
    def __init__(self, block: Parts) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def in_place(m: Parts, x: Tensor) -> Tensor:
    x += m.down(m.hidden(x))
    return x


def two_branches(m: Parts, x: Tensor) -> Tensor:
    x = x + m.flat(m.hidden(x))
    return x + m.down(m.hidden(x))


def gated(m: Parts, x: Tensor) -> Tensor:
    return x + torch.sigmoid(m.flat(m.hidden(x))) * m.down(m.hidden(x))


def shifted_gate(m: Parts, x: Tensor) -> Tensor:
    """No zero of its last product makes the gate zero."""
    return x + (1.0 + m.flat(m.hidden(x))) * m.down(m.hidden(x))


def rms(x: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def one_expert(m: Parts, x: Tensor) -> Tensor:
    """Only the first one gets tokens; they are added up where they came from."""
    added = torch.zeros_like(x).index_add(0, torch.arange(len(x)), m.experts[0](m.hidden(x)))
    return x + added


BRANCHES = {
    "a bias": (lambda m, x: x + m.down(m.hidden(x)), {"down.weight": 0, "down.bias": 0}),
    "no bias": (lambda m, x: m.flat(m.hidden(x)) + x, {"flat.weight": 0}),
    "subtracted": (lambda m, x: x - m.flat(m.hidden(x)), {"flat.weight": 0}),
    "in place": (in_place, {"down.weight": 0, "down.bias": 0}),
    "two": (two_branches, {"down.weight": 0, "down.bias": 0, "flat.weight": 0}),
    "layer scale": (lambda m, x: x + m.gain * m.down(m.hidden(x)), {"gain": 0}),
    "half": (lambda m, x: x + 0.5 * m.flat(m.hidden(x)).relu(), {"flat.weight": 0}),
    "moved": (lambda m, x: x + m.flat(m.hidden(x)).t().t().view(x.shape), {"flat.weight": 0}),
    "a norm": (
        lambda m, x: x + m.layer_norm(m.down(m.hidden(x))),
        {"layer_norm.weight": 0, "layer_norm.bias": 0},
    ),
    "rms norm": (lambda m, x: x + m.rms_norm(m.down(m.hidden(x))), {"rms_norm.weight": 0}),
    "1 + gamma": (lambda m, x: x + rms(m.down(m.hidden(x))) * (1.0 + m.gain), {"gain": -1}),
    "gated": (gated, {"down.weight": 0, "down.bias": 0}),
    "a gate around 1": (shifted_gate, {"down.weight": 0, "down.bias": 0}),
    "a raw product": (lambda m, x: torch.addmm(x, m.hidden(x)[:, :SIZE], m.scale), {"scale": 0}),
    "in halves": (
        lambda m, x: x + torch.cat([m.flat(m.hidden(x))[:, :1], (m.gain * x)[:, 1:]], 1),
        {"flat.weight": 0, "gain": 0},
    ),
    "an expert": (one_expert, {f"experts.{i}.{n}": 0 for i in (0, 1) for n in ("weight", "bias")}),
}
OTHERS = {
    "post-norm": lambda m, x: m.layer_norm(x + m.down(m.hidden(x))),
    "no input": lambda m, x: m.down(m.hidden(x)),
    "scaled": lambda m, x: 0.5 * x + m.down(m.hidden(x)),
    "subtracted from": lambda m, x: m.flat(m.hidden(x)) - x,
    "a nonlinear end": lambda m, x: x + torch.sigmoid(m.down(m.hidden(x))),
    "a constant": lambda m, x: x + m.down(m.hidden(x)) + torch.ones(SIZE),
    "a softmax": lambda m, x: x + F.softmax(m.down(m.hidden(x)), -1),
}


def assignments(
    forward: Callable[[Parts, Tensor], Tensor],
) -> tuple[Parts, dict[str, float] | None]:
    block = Parts(forward)
    randomised(block)
    x = torch.randn(3, SIZE, dtype=torch.float64)
    (traces,) = trace_blocks(Around(block), ["block"], [(x,)]).values()
    return block, identity_assignments(traces, [name for name, _ in block.named_parameters()])


@pytest.mark.parametrize("name", BRANCHES)
def test_blocks_that_zeros_make_the_identity(name: str) -> None:
    forward, expected = BRANCHES[name]
    block, found = assignments(forward)
    assert found == expected
    with torch.no_grad():
        for parameter, value in found.items():
            block.get_parameter(parameter).fill_(value)
    x = torch.randn(5, SIZE, dtype=torch.float64)
    assert torch.equal(block(x.clone()), x)


@pytest.mark.parametrize("name", OTHERS)
def test_blocks_that_no_zeros_make_the_identity(name: str) -> None:
    assert assignments(OTHERS[name])[1] is None


def test_a_block_that_is_not_called() -> None:
    assert identity_assignments([], ["down.weight"]) is None
