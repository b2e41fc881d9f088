"""Recurrent layers in the over-grown graph: what is emitted is what was searched."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.capture import How, capture
from fxgrow.coupling import couple
from fxgrow.rewrite import overgrow
from tests.coupling.hand_written_cells import HAND_WRITTEN
from tests.coupling.models import Net
from tests.coupling.test_recurrent import CASES, sequences
from tests.rewrite.rewriting import assert_faithful, over_grown, randomise_candidates


@pytest.mark.parametrize("case", CASES)
def test_emission_is_the_graph(case: str) -> None:
    model, inputs = CASES[case]()
    captured = capture(model.eval(), inputs)
    assert captured.how is How.TRACED
    coupling, grown = assert_faithful(captured, regrows=case != "zeros")
    assert not grown.refusals
    growable = {width.name for width in coupling.widths if width.growable}
    assert growable == {"a", "rnn"} | ({"rnn#2"} if "projection" in case else set())


@pytest.mark.parametrize("case", sorted(HAND_WRITTEN))
def test_cells_written_by_hand_have_lanes(case: str) -> None:
    make, inputs, names = HAND_WRITTEN[case]
    captured = capture(make().eval(), (inputs(),))
    _, grown = assert_faithful(captured, new=2, regrows=False)
    refusals = [refusal.code for refusal in grown.refusals.values()]
    # A slice by number takes other rows of a lane than beside the old neurons.
    assert refusals == (["no-lane"] * len(names) if case == "sliced gates" else [])


@pytest.mark.parametrize("case", ["lstm", "projections", "gru cell", "packed"])
def test_nothing_changes_without_eps(case: str) -> None:
    model, inputs = CASES[case]()
    captured = capture(model.eval().requires_grad_(False), inputs)
    coupling = couple(captured)
    numbers = [n for n, width in enumerate(coupling.widths) if width.growable]
    grown = overgrow(captured, coupling, numbers, dict.fromkeys(numbers, 2), torch.Generator())
    randomise_candidates(grown)
    with torch.no_grad():
        grown.candidates.split_eps.zero_()
        grown.candidates.new_eps.zero_()
    torch.testing.assert_close(grown.graph_module(*inputs), model(*inputs), rtol=0, atol=1e-12)


def test_every_candidate_gets_a_gradient_and_no_weight_of_the_model_does() -> None:
    model, (x,) = CASES["projections"]()
    grown = over_grown(model.eval(), x, new=2)
    randomise_candidates(grown)
    grown.graph_module(x).square().sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    candidates = grown.candidates
    assert candidates.new_eps.grad is not None
    assert (candidates.new_eps.grad != 0).all()
    assert candidates.split_eps.grad is not None
    # Both halves of a neuron before a ReLU are on one side of its kink, so they cancel out.
    assert (candidates.split_eps.grad[candidates.split[1]] != 0).all()


def test_an_unlocked_neuron_has_no_second_half() -> None:
    model, inputs = CASES["two layers, two directions"]()
    captured = capture(model.eval().requires_grad_(False), inputs)
    coupling = couple(captured)
    number = coupling.number_of["rnn"]
    grown = overgrow(captured, coupling, [number], {}, torch.Generator(), halves=False)
    randomise_candidates(grown)
    weight = grown.graph_module(*inputs)
    changed = dict(model.named_parameters())
    eps = grown.candidates.split_eps
    for entry in grown.entries:
        changed[entry.parameter].data += entry.values(eps, grown.candidates.new_eps)
    torch.testing.assert_close(model(*inputs), weight, rtol=0, atol=1e-12)


def test_a_weight_that_another_layer_uses_in_its_own_way_is_refused() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(net.rnn(net.a(x))[0]) + net.c(x)

    net = Net(forward, a=nn.Linear(3, 4), rnn=nn.RNN(4, 4), b=nn.Linear(4, 4), c=nn.Linear(3, 4))
    net.rnn.weight_ih_l0 = net.b.weight
    net = net.double()
    captured = capture(net.eval(), (sequences(),))
    coupling = couple(captured)
    grown = overgrow(captured, coupling, range(len(coupling.widths)), {}, torch.Generator())
    for number, refusal in grown.refusals.items():
        assert "shared by layers" in refusal.reason, coupling.widths[number]


@pytest.mark.filterwarnings("ignore:the candidates ran out:UserWarning")  # few, to be fast
@pytest.mark.parametrize("case", ["lstm", "gru cell", "encoder and decoder"])
def test_a_recurrent_model_grows_by_descent(case: str) -> None:
    model, inputs = CASES[case]()
    target = torch.randn_like(model(*inputs))
    before = F.mse_loss(model(*inputs), target)
    growth = fxgrow.grow(
        model, [(inputs[0], target)], F.mse_loss,
        method=fxgrow.Firefly(), budget=fxgrow.Budget(neurons=6), only=["rnn"],
    )  # fmt: skip
    rnn = growth.module.get_submodule("rnn")
    assert rnn.hidden_size == 10
    assert F.mse_loss(growth.module(*inputs), target) < before
