"""Widths that norms run over: new neurons by any number, splits by whole multiples."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.errors import GrowthError
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


CASES = [(Stream, norm, 7) for norm in NORMS]
for kind in (Scaled, Both, Mixed):
    CASES += [(kind, norm, 1) for norm in ("layer norm", "RMS norm, 1 + gamma")]
CASES += [(Exponent, "RMS norm", 1)]
CASES += [(Stream, norm, SIZE) for norm in ("layer norm, bare", "RMS norm")]


@pytest.mark.parametrize(("network", "norm", "count"), CASES)
def test_any_number_of_new_neurons_keeps_the_function(
    network: type[Stream], norm: str, count: int
) -> None:
    model = made(network(NORMS[norm]))
    wider = fxgrow.widen(model, {"words": count}, words(), how="new").module
    assert wider.words.weight.shape == (WORDS, SIZE + count)
    assert error(wider, model) < 1e-12


@pytest.mark.parametrize("norm", ["layer norm", "RMS norm", "RMS norm, 1 + gamma"])
def test_tied_embeddings(norm: str) -> None:
    model = made(Stream(NORMS[norm], tied=True))
    wider = fxgrow.widen(model, {"words": 7}, words(), how="new").module
    assert wider.head.weight is wider.words.weight
    assert error(wider, model) < 1e-12


@pytest.mark.parametrize("norm", ["RMS norm", "RMS norm, bare", "RMS norm, 1 + gamma"])
def test_a_branch_may_end_in_an_rms_norm(norm: str) -> None:
    model = made(Sandwich(NORMS[norm]))
    wider = fxgrow.widen(model, {"words": 7}, words(), how="new").module
    assert error(wider, model) < 1e-12


def test_a_norm_in_float32_is_excused_by_float64() -> None:
    # Inside it the error is that of float32, in which no growth could be told right from wrong.
    model = made(Stream(lambda: WrittenOut(SIZE, torch.float32)))
    wider = fxgrow.widen(model, {"words": 7}, words(), how="new")
    assert 1e-12 < error(wider.module, model) < 1e-5


@pytest.mark.parametrize("norm", ["layer norm", "RMS norm"])
def test_what_is_new_learns(norm: str) -> None:
    model = made(Stream(NORMS[norm]))
    wider = fxgrow.widen(model, {"words": 2}, words(), how="new").module
    wider(words()).square().sum().backward()
    # What reads the new neurons reads 0 so far, but is not 0: so what writes them learns.
    assert wider.up.weight[:, SIZE:].abs().min() > 0
    assert wider.words.weight.grad[:, SIZE:].abs().max() > 1e-6
    assert wider.down.weight.grad[SIZE:].abs().max() > 1e-6


def test_a_stream_and_a_hidden_width_at_once() -> None:
    model = made(Stream(NORMS["layer norm"]))
    wider = fxgrow.widen(model, {"words": 3, "up": 2}, words(), how="new").module
    assert wider.up.weight.shape == (7, 9)
    assert error(wider, model) < 1e-12


def test_of_what_was_captured() -> None:
    model = made(Stream(NORMS["RMS norm"]))
    captured = fxgrow.capture(model, words())
    wider = fxgrow.widen(captured, {"words": 3}, how="new").module
    assert error(wider, model) < 1e-12


def test_in_place_with_its_optimizer() -> None:
    model = made(Stream(NORMS["layer norm"]))
    before = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model(words()).square().sum().backward()
    weight = model.words.weight
    fxgrow.widen(model, {"words": 3}, words(), how="new", inplace=True, optimizer=optimizer)
    assert model.words.weight is weight
    assert error(model, before) < 1e-12
    optimizer.zero_grad()
    model(words()).square().sum().backward()
    optimizer.step()
    assert optimizer.state[weight]["exp_avg"].shape == weight.shape


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


@pytest.mark.parametrize("network", [PostNorm, Patches, Depthwise, TwoKinds])
def test_what_has_no_rule_is_refused_and_splits_by_whole_multiples(network: type[Stream]) -> None:
    model = made(network(NORMS["layer norm"]))
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(GrowthError, match=r"6, 12, \.\.\. neurons more") as refusal:
        fxgrow.widen(model, {"words": 1}, words(), how="new")
    assert refusal.value.code == "normalised"
    with pytest.raises(GrowthError, match="whole multiples"):
        fxgrow.widen(model, {"words": 5}, words())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    wider = fxgrow.widen(model, {"words": 2 * SIZE}, words()).module
    assert wider.words.weight.shape == (WORDS, 3 * SIZE)
    assert error(wider, model) < 1e-12


def test_the_copies_of_a_split_stream_part() -> None:
    model = made(PostNorm(NORMS["layer norm"]))
    wider = fxgrow.widen(model, {"words": SIZE}, words()).module
    halves = wider.head.weight.unflatten(1, (SIZE, 2)).unbind(-1)
    assert not torch.allclose(*halves)


class Softmax(Stream):
    """A softmax over the stream: no mean over its neurons that could be made up for."""

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.last(torch.softmax(self.words(words), -1)))


class Power(Stream):
    """The mean of squares is an activation, too."""

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places
        return super().forward(words) + x.pow(2).mean(-1, keepdim=True)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Softmax, "normalised over"),
        (PostNorm, "post-norm"),
        (BarePatches, "last normalizes it together with others"),
        (Power, "used otherwise than to normalize it"),
    ],
)
def test_the_reason_is_told(network: type[Stream], reason: str) -> None:
    model = made(network(NORMS["layer norm"]))
    with pytest.raises(GrowthError, match=reason):
        fxgrow.widen(model, {"words": 1}, words(), how="new")


def test_bare_norms_tie_nothing() -> None:
    # The head wants the embedding s times smaller, the norm s times larger.
    model = made(Stream(NORMS["RMS norm, bare"], tied=True))
    with pytest.raises(GrowthError, match="both before a norm and behind it"):
        fxgrow.widen(model, {"words": 1}, words(), how="new")


def test_a_pattern_leaves_streams_alone() -> None:
    model = made(Stream(NORMS["layer norm"]))
    wider = fxgrow.widen(model, {"*": 1}, words(), how="new").module
    assert wider.up.out_features == 6
    assert wider.words.embedding_dim == SIZE
