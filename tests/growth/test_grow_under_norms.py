"""Stream neurons as candidates of ``grow``: scored and bought beside those of all other widths."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.growth import Growth, Scope, StepOptions, grow_step, regrow
from fxgrow.growth.replay import replay
from fxgrow.methods import Firefly, GradientPool, GradMax, RandomGrowth, Splitting, ZeroOutgoing
from fxgrow.spec import describe
from tests.growth.streams import (
    NORMS,
    SIZE,
    WORDS,
    Depthwise,
    PostNorm,
    Stream,
    TwoKinds,
    WrittenOut,
    error,
    made,
    words,
)

FIREFLY = Firefly(new=6, steps=4, refine_steps=2, points=1)
EXACT = 1e-12


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def batches(count: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Words, and the word before each."""
    return [(words(seed, 4), words(seed, 4).roll(1, 1)) for seed in range(count)]


def loss(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


def grown(
    model: nn.Module,
    method: Any = FIREFLY,
    only: tuple[str, ...] = ("words",),
    neurons: int = 4,
    **options: Any,
) -> Growth:
    budget = options.pop("budget", fxgrow.Budget(neurons=neurons))
    return fxgrow.grow(model, batches(), loss, method=method, only=only, budget=budget, **options)


def sizes(growth: Growth) -> dict[str, int]:
    return {change.width: change.after for change in growth.report.widths}


METHODS = (FIREFLY, GradientPool(), ZeroOutgoing(), RandomGrowth())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("norm", ["layer norm", "RMS norm, 1 + gamma"])
def test_a_stream_grows_by_its_own_name(norm: str, tied: bool, method: Any) -> None:
    model = made(Stream(NORMS[norm], tied))
    growth = grown(model, method)
    assert sizes(growth) == {"words": SIZE + 4}
    assert type(growth.module) is Stream
    assert growth.module.words.weight.shape == (WORDS, SIZE + 4)
    assert (growth.module.head.weight is growth.module.words.weight) == tied
    assert growth.report.faithful_error < EXACT
    assert growth.report.preservation_error < EXACT
    assert growth.report.loss_after <= growth.report.loss_before + EXACT


@pytest.mark.parametrize("method", [GradientPool(), ZeroOutgoing()])
def test_methods_that_keep_the_function_keep_it(method: Any) -> None:
    model = made(Stream(NORMS["layer norm"]))
    growth = grown(model, method, only=("*", "words"))
    assert error(growth.module, model) < EXACT
    growth.module(words()).square().sum().backward()
    # What reads them is random, so that what writes them learns at once.
    assert growth.module.words.weight.grad[:, SIZE:].abs().max() > 1e-6


def test_the_budget_is_shared_with_hidden_widths() -> None:
    growth = grown(made(Stream(NORMS["layer norm"])), only=("*", "words"), neurons=14)
    after = sizes(growth)
    assert after.keys() == {"words", "up"}
    assert sum(after.values()) == SIZE + 5 + 14
    assert growth.report.faithful_error < EXACT


@pytest.mark.parametrize("only", [(), ("*",), ("word?", "up")])
def test_a_pattern_leaves_streams_alone(only: tuple[str, ...]) -> None:
    growth = grown(made(Stream(NORMS["RMS norm"])), only=only)
    assert sizes(growth).keys() == {"up"}
    assert growth.report.refusals["words"].code == "reduced"


@pytest.mark.parametrize("network", [PostNorm, Depthwise, TwoKinds])
def test_what_has_no_rule_stays_and_names_the_sizes_that_work(network: type[Stream]) -> None:
    growth = grown(made(network(NORMS["layer norm"])), only=("*", "words"))
    assert sizes(growth).keys() == {"up"}
    refusal = growth.report.refusals["words"]
    assert refusal.code == "normalised"
    assert "how='split', 6, 12, ... neurons more" in refusal.reason


@pytest.mark.parametrize("method", [GradMax(), Splitting()])
def test_a_method_that_does_not_know_norms_has_no_candidates_under_them(method: Any) -> None:
    growth = grown(made(Stream(NORMS["layer norm"])), method, only=("*", "words"), neurons=2)
    assert sizes(growth).keys() == {"up"}
    refusal = growth.report.refusals["words"]
    assert refusal.code == "method"
    assert type(method).__name__ in refusal.reason


@pytest.mark.parametrize("norm", ["layer norm", "layer norm, bare", "RMS norm, bare"])
@pytest.mark.parametrize("unit", ["parameters", "multiply_adds", "activation_memory"])
def test_costs_are_counted(norm: str, unit: str) -> None:
    budget = fxgrow.Budget(**{unit: 0.4})
    growth = grown(made(Stream(NORMS[norm])), budget=budget)
    assert growth.report.costs_unknown == ""
    spending = growth.report.plan.spending[unit]
    assert 0 < spending.spent <= spending.limit
    assert growth.report.faithful_error < EXACT


@pytest.mark.filterwarnings("ignore:the candidates ran out")
def test_a_budget_of_latency_grows_a_bare_norm() -> None:
    growth = grown(made(Stream(NORMS["RMS norm, bare"])), budget=fxgrow.Budget(latency=1.0))
    assert growth.report.faithful_error < EXACT


def test_group_by_group_in_little_memory() -> None:
    model = made(Stream(NORMS["layer norm"], tied=True))
    at_once = grown(model, only=("*", "words"), neurons=14)
    limit = at_once.report.peak_memory * 0.95
    in_turn = grown(model, only=("*", "words"), neurons=14, memory_limit=limit)
    assert in_turn.report.chunks == (("words",), ("up",))
    assert sizes(in_turn).keys() == {"words", "up"}
    assert in_turn.report.faithful_error < EXACT


def test_beside_candidate_layers() -> None:
    method = Firefly(new=6, layers=3, steps=4, refine_steps=2, points=1)
    budget = fxgrow.Budget(neurons=20, layers=1)
    model = made(Stream(NORMS["layer norm"]))
    growth = grown(model, method, only=("*", "words"), budget=budget)
    assert sizes(growth)["words"] > SIZE
    assert growth.report.layers
    assert growth.report.faithful_error < EXACT
    assert growth.report.preservation_error < EXACT


def test_the_history_grows_it_again(tmp_path: Path) -> None:
    first = made(Stream(NORMS["layer norm"], tied=True))
    both = ("*", "words")
    one = grown(first, ZeroOutgoing(), only=both)
    two = grown(one.module, ZeroOutgoing(), only=both, history=one.spec.history)
    assert [change.width for change in two.spec.history[1].widths] == ["words", "up"]
    again = regrow(copy.deepcopy(first), (words(),), two.spec.history)
    again.load_state_dict(two.module.state_dict())
    assert torch.equal(again.eval()(words(5)), two.module.eval()(words(5)))
    fxgrow.save(two, tmp_path)
    assert torch.equal(fxgrow.load(tmp_path)(words(5, 4)), two.module(words(5, 4)))
    captured = fxgrow.capture(first, batches()[0][0])
    widths = fxgrow.couple(captured).widths
    spec = describe(captured.graph_module, captured.example_inputs, widths=widths)
    assert replay(spec, two.spec.history)[-1].fingerprint == two.spec.fingerprint


def test_companions_and_optimizers_follow() -> None:
    model, average = made(Stream(NORMS["layer norm"])), made(Stream(NORMS["layer norm"]))
    before = copy.deepcopy(average)
    optimizer = torch.optim.Adam(model.parameters())
    loss(model(words()), words()).backward()
    optimizer.step()
    scope = Scope(only=("*", "words"))
    options = StepOptions((optimizer,), inplace=True, companions=[average], scope=scope)
    budget = fxgrow.Budget(neurons=14)
    grow_step(model, batches(), loss, method=FIREFLY, budget=budget, options=options)
    assert error(average, before) < EXACT
    for own, other in zip(model.parameters(), average.parameters(), strict=True):
        assert own.shape == other.shape == optimizer.state[own]["exp_avg"].shape
    # What reads the stream's new neurons is the model's, so that it can be averaged.
    assert torch.equal(average.up.weight[:5, SIZE:], model.up.weight[:5, SIZE:])
    loss(model(words()), words()).backward()
    optimizer.step()


def test_frozen_parameters_keep_a_stream_from_growing() -> None:
    model = made(Stream(NORMS["layer norm"]))
    model.head.requires_grad_(False)
    with pytest.raises(GrowthError, match=r"head\.weight reads it and is frozen"):
        grown(model)
    growth = grown(model, grow_frozen=True)
    assert sizes(growth) == {"words": SIZE + 4}


def test_tied_streams_of_two_towers_grow_alike() -> None:
    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = Stream(NORMS["RMS norm"]), Stream(NORMS["RMS norm"])

        def forward(self, x: Tensor) -> Tensor:
            return self.left(x) + self.right(x)

    names = ("left.words", "right.words")
    growth = grown(made(Towers()), only=names, tie=[names])
    assert sizes(growth) == {"left.words": SIZE + 2, "right.words": SIZE + 2}
    assert growth.report.faithful_error < EXACT


def test_a_norm_in_float32_is_excused_by_float64() -> None:
    model = made(Stream(lambda: WrittenOut(SIZE, torch.float32)))
    growth = grown(model)
    assert EXACT < growth.report.faithful_error < 1e-5
    assert growth.report.unchecked


def test_float32_may_cost_digits_though_it_costs_none_at_eps_zero() -> None:
    # Small whole numbers, doubled: sums of their squares are exact in any order.
    model = made(Stream(lambda: WrittenOut(SIZE, torch.float32)))
    with torch.no_grad():
        model.words.weight.copy_(torch.randint(1, 5, (WORDS, SIZE)))
        for parameter in (model.places, model.down.weight, model.down.bias):
            parameter.zero_()
    method = Firefly(new=3 * SIZE, steps=2, refine_steps=1, points=1)
    growth = grown(model, method, neurons=3 * SIZE)
    assert growth.report.preservation_error < EXACT < growth.report.faithful_error < 1e-5
    assert growth.report.unchecked


@contextmanager
def maybe_autocast(device_type: str, enabled: bool) -> Iterator[None]:
    """Autocast where the device has it, as Hugging Face's function of this name does."""
    if torch._C._is_autocast_available(device_type):
        with torch.autocast(device_type, enabled=enabled):
            yield
    else:
        yield


class Opaque(nn.LayerNorm):
    """A norm that torch.fx cannot trace, of Nemotron's kind: it asks for the name of a device."""

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        with maybe_autocast(device_type=kind, enabled=False):
            return super().forward(x)


def test_a_norm_inside_a_part_that_was_not_traced_is_refused() -> None:
    model = made(Stream(lambda: Opaque(SIZE, eps=0.1)))
    growth = grown(model, only=("*", "words"))
    assert sizes(growth).keys() == {"up"}
    refusal = growth.report.refusals["words"]
    assert refusal.code == "no-rewrite"
    assert "was not traced" in refusal.reason
    # ``widen`` has no graph, and needs none.
    wider = fxgrow.widen(model, {"words": 3}, words(), how="new").module
    assert error(wider, model) < EXACT


class BySize(Stream):
    """Its code computes with the size of the stream."""

    def branch(self, x: Tensor) -> Tensor:
        return super().branch(x) * math.sqrt(x.shape[-1])


class Squashed(Stream):
    """A function of the stream before its norm, which takes no mean to a mean."""

    def branch(self, x: Tensor) -> Tensor:
        return super().branch(torch.tanh(x))


@pytest.mark.parametrize("network", [BySize, Squashed])
def test_a_rule_that_does_not_keep_the_function_is_refused_before_the_search(
    network: type[Stream],
) -> None:
    model = made(network(NORMS["layer norm"]))
    growth = grown(model, only=("*", "words"))
    assert sizes(growth).keys() == {"up"}
    refusal = growth.report.refusals["words"]
    assert refusal.code in {"normalised", "size-value"}
    assert growth.report.faithful_error < EXACT
