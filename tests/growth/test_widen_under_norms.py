"""Widths that norms run over: new neurons by any number, splits by whole multiples."""

import copy

import pytest
import torch
from torch import Tensor

import fxgrow
from fxgrow.errors import GrowthError
from tests.growth.streams import (
    NORMS,
    SIZE,
    WORDS,
    BarePatches,
    Both,
    Depthwise,
    Exponent,
    Mixed,
    Patches,
    PostNorm,
    Sandwich,
    Scaled,
    Stream,
    TwoKinds,
    WrittenOut,
    error,
    made,
    words,
)

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
