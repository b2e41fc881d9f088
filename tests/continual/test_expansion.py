"""What an expansion adds, and what it leaves alone."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from fxgrow.continual import ExpandedNetwork, ScoredExpansion
from fxgrow.continual.shared_network import SharedNetwork
from fxgrow.errors import GrowthError
from fxgrow.growth import BatchRoles, Budget, Objective
from fxgrow.methods import Auto, Firefly, GradientPool, ZeroOutgoing
from fxgrow.methods.random import RandomGrowth
from fxgrow.modes import evaluation_mode
from fxgrow.training import cross_entropy
from tests.continual.tiny import drafted
from tests.continual.zoo import EXPANSION, data
from tests.networks import NETWORKS, images, network

RANDOM = ScoredExpansion(method=RandomGrowth(new=2, draws=2))
EXACT = [ScoredExpansion(method=method) for method in (Auto(), GradientPool(new=4), ZeroOutgoing())]


def objective(module: nn.Module) -> Objective:
    return Objective.of(data("a")[:1], cross_entropy, module)


def expanded(
    name: str,
    expansion: ScoredExpansion = EXPANSION,
    *,
    neurons: int = 3,
    unlock: bool = True,
    seed: int = 0,
) -> ExpandedNetwork:
    module = network(name)
    return expansion.expand(
        module, (images(),), objective(module), Budget(neurons=neurons), unlock=unlock, seed=seed
    )


def added(one: ExpandedNetwork) -> tuple[int, int]:
    return sum(int(mask.sum()) for mask in one.unlocked.values()), sum(one.new.values())


@pytest.mark.parametrize("expansion", [EXPANSION, RANDOM, *EXACT])
@pytest.mark.parametrize("name", NETWORKS)
def test_locked_entries_keep_their_bits_and_the_loss_does_not_rise(
    name: str, expansion: ScoredExpansion
) -> None:
    """Merging raises if an entry that no fresh neuron has a part in has moved."""
    one = expanded(name, expansion)
    SharedNetwork.of(network(name), (images(),)).merged(
        drafted(one, SharedNetwork.of(network(name), (images(),)))
    )
    assert 0 < sum(added(one)) <= 3
    before = objective(network(name)).mean(network(name))
    with evaluation_mode(one.network):
        after = objective(one.network).mean(one.network)
    assert one.loss_before == pytest.approx(before, rel=1e-12)
    assert one.loss_after == pytest.approx(after, rel=1e-12)
    assert after <= before * (1 + 1e-9)


@pytest.mark.parametrize("expansion", EXACT)
def test_methods_that_keep_the_function_add_neurons_and_move_nothing(
    expansion: ScoredExpansion,
) -> None:
    one = expanded("residual", expansion)
    assert added(one) == (0, 3)
    with evaluation_mode(one.network):
        torch.testing.assert_close(one.network(images()), network("residual")(images()))


def test_an_unlocked_neuron_moves_and_no_neuron_follows_it() -> None:
    module = network("block")
    one = expanded(
        "block", ScoredExpansion(method=Firefly(new=0, steps=2, refine_steps=1, points=1))
    )
    mask, weight = one.unlocked["up"], one.network.get_submodule("up").weight
    assert mask.any() and not mask.all() and len(weight) == 6  # type: ignore[arg-type]
    moved = (weight - module.get_submodule("up").weight).abs().amax(1) > 0  # type: ignore[operator]
    assert torch.equal(moved, mask)
    assert torch.equal(
        one.network.get_submodule("down").weight, module.get_submodule("down").weight
    )  # type: ignore[arg-type]


def test_nothing_is_unlocked_unless_it_may_be() -> None:
    one = expanded("chain", unlock=False)
    assert added(one)[0] == 0 < added(one)[1]


def test_the_seed_decides() -> None:
    states = [expanded("chain", seed=seed).network.state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not all(
        states[0][n].shape == t.shape and torch.equal(states[0][n], t) for n, t in states[2].items()
    )


def test_modes_and_flags_are_as_before() -> None:
    module = network("chain").train()
    module.get_submodule("4").bias.requires_grad_(requires_grad=False)  # type: ignore[operator, union-attr]
    one = EXPANSION.expand(
        module, (images(),), objective(module), Budget(neurons=3), unlock=True, seed=0
    )
    assert all(part.training for part in one.network.modules())
    assert [name for name, p in one.network.named_parameters() if not p.requires_grad] == ["4.bias"]


class Watched:
    """A loss that counts on which of some batches gradients were taken."""

    def __init__(self, targets: list[Tensor]) -> None:
        self.numbers = {id(target): number for number, target in enumerate(targets)}
        self.counts: Counter[int] = Counter()

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        number = self.numbers[id(target)]
        if output.requires_grad:
            output.register_hook(lambda _: self.counts.update([number]))
        return cross_entropy(output, target)


def test_candidates_are_scored_on_batches_that_no_step_has_seen() -> None:
    """One batch per step, others for the scores, and the last ones decide nothing."""
    module, batches = network("chain"), data("a", 8 * 24)
    loss = Watched([target for _, target in batches])
    watched = Objective.of(batches, loss, module)
    expansion = ScoredExpansion(method=Firefly(new=2, steps=6, refine_steps=2, points=1))
    assert expansion.search_steps == 8
    one = expansion.expand(module, (images(),), watched, Budget(neurons=3), unlock=True, seed=0)
    assert [loss.counts[number] for number in range(24)] == [1] * 16 + [0] * 8
    assert one.batches == BatchRoles(8, 8, 8, steps=8, total=24)


def test_losses_are_of_scored_and_of_held_out_batches() -> None:
    before, batches = network("chain"), data("a", 8 * 8)
    one = EXPANSION.expand(
        network("chain"), (images(),), Objective.of(batches, cross_entropy, before),
        Budget(neurons=3), unlock=True, seed=0,
    )  # fmt: skip
    scored, held_out = (
        Objective.of(part, cross_entropy, before) for part in (batches[4:6], batches[6:])
    )
    after = one.network.eval()
    assert one.loss_before == pytest.approx(scored.mean(before), rel=1e-12)
    assert one.loss_after == pytest.approx(scored.mean(after), rel=1e-12)
    assert one.held_out_before == pytest.approx(held_out.mean(before), rel=1e-12)
    assert one.held_out_after == pytest.approx(held_out.mean(after), rel=1e-12)
    assert one.loss_before != one.held_out_before


class Fixed(nn.Module):
    """A head and nothing that can grow."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(108, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def test_what_cannot_grow_is_refused() -> None:
    module = Fixed().double()
    with pytest.raises(GrowthError) as caught:
        EXPANSION.expand(
            module, (images(),), objective(module), Budget(neurons=3), unlock=True, seed=0
        )
    assert caught.value.code == "no-candidates"
