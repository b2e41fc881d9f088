"""Whether a value can be viewed as another shape is decided as the model itself decides it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.construct_networks import network, sequences

IN, HIDDEN = 5, 4


class ReadsAValue(nn.Module):
    """Adds nothing, but only after a look at the numbers, so that shapes alone do not suffice."""

    def forward(self, x: Tensor) -> Tensor:
        return x if (x > 1e9).any() else x + 0


class Viewed(nn.Module):
    """A linear layer, an operator, and a view that needs the strides which the operator gives."""

    def __init__(self, operator: nn.Module, reads: bool, transposed: bool) -> None:
        super().__init__()
        self.first = nn.Linear(IN, HIDDEN)
        self.operator = operator
        self.look: nn.Module = ReadsAValue() if reads else nn.Identity()
        self.last = nn.Linear(HIDDEN, 2)
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.transposed:
            h = h.transpose(1, 2)
        h = self.operator(self.look(h))
        # [batch * channels, time]: for what is still laid out channels last there is no such view.
        h = h.view(h.shape[0] * h.shape[1], h.shape[2]).view(h.shape)
        return self.last(h.transpose(1, 2) if self.transposed else h)


class Function(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.function(x)  # type: ignore[operator]  # a function of one tensor
        return out


@torch.library.custom_op("fxgrow_test_strides::tidy", mutates_args=())
def tidy(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype).copy_(x)


@tidy.register_fake
def _(x: Tensor) -> Tensor:
    """What a user may have written: the strides of the argument, not those of the result."""
    return torch.empty_like(x)


fxgrow.register_rule("fxgrow_test_strides::tidy", fxgrow.coupling.rules.pointwise)

OPERATORS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm1d(HIDDEN),
    "softmax": lambda: nn.Softmax(-1),
    "log sigmoid": lambda: nn.LogSigmoid(),
    "user's": lambda: Function(tidy),
}


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_what_is_contiguous_on_the_cpu_can_be_viewed(name: str, reads: bool) -> None:
    model = Viewed(OPERATORS[name](), reads, transposed=True).eval()
    x = torch.randn(3, 6, IN)
    model(x)  # it runs
    coupling = fxgrow.couple(model, (x,))
    assert all(width.size in (HIDDEN, 2) for width in coupling.widths)


FOUND = (
    (["experts", "lstm, projected", "hook gives", "experts by einsum"], 706),
    (["containers", "experts", "rnn, two layers"], 714),
    (["experts", "gru, two ways"], 960),
    (["experts by einsum", "batch norm", "reused", "experts"], 727),
)
"""Networks of ``tools.random_search`` that were said not to run."""


@pytest.mark.parametrize(("names", "seed"), FOUND)
def test_a_network_that_chooses_experts_runs_and_grows(names: list[str], seed: int) -> None:
    model, inputs = network(names, seed).eval(), sequences(3)
    amounts = {width.name: 1 for width in fxgrow.couple(model, inputs).widths if width.growable}
    assert amounts
    wider = fxgrow.widen(model, amounts, inputs, how="split").module
    torch.testing.assert_close(wider(inputs), model(inputs))


class Padded(nn.Module):
    """A recurrent layer over packed sequences, whose padded result is reshaped."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(IN, HIDDEN, batch_first=True)
        self.last = nn.Linear(HIDDEN, 2)
        self.look = ReadsAValue()

    def forward(self, x: Tensor) -> Tensor:
        x = self.look(x)
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 4, 2]), batch_first=True)
        h, _ = nn.utils.rnn.pad_packed_sequence(self.inner(packed)[0], batch_first=True)
        h = h.transpose(0, 1)
        out: Tensor = self.last(h.view(-1, h.shape[2]))
        return out


def test_padded_sequences_are_laid_out_as_torch_does() -> None:
    x = torch.randn(3, 6, IN)
    model = Padded().eval()
    model(x)
    coupling = fxgrow.couple(model, (x,))
    assert [width.size for width in coupling.widths if width.growable] == [HIDDEN]


def test_the_numbers_of_padded_sequences_are_known() -> None:
    model = nn.Sequential(Padded(), ReadsAValue()).eval()
    coupling = fxgrow.couple(model, (torch.randn(3, 6, IN),))
    assert [width.size for width in coupling.widths if width.growable] == [HIDDEN]
