"""Running statistics of fresh channels: exact, and without effect on the function in evaluation mode."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

import fxgrow
from fxgrow import Budget, Firefly, RandomGrowth
from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth import Objective
from fxgrow.growth.statistics import (
    _BATCH_NORM_FUNCTIONS,
    BatchNormState,
    batch_statistics_gap,
    estimate_statistics,
    frozen_statistics,
    has_statistics,
    moments,
    new_channel_norms,
    refresh_statistics,
)
from fxgrow.modes import evaluation_mode
from fxgrow.rewrite import OverGrown, overgrow
from tests.networks import images, network, randomised
from tests.rewrite.rewriting import exported_capture, over_grown, randomise_candidates

BATCHES = [(images(4, seed), torch.tensor([0, 1, 0, 1])) for seed in range(2)]
OBJECTIVE = Objective(BATCHES, F.cross_entropy)


class Inverted(nn.Module):
    """Two batch norms in one lane, by a depthwise convolution; then another that depends on both through the base."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm1 = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.depth, self.norm2 = (
            nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
            nn.BatchNorm2d(6),
        )
        self.down, self.norm3 = nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm2(self.depth(F.silu(self.norm1(self.up(x))))))
        return self.head(F.silu(self.norm3(self.down(x))).mean((2, 3)))


def searched(module: nn.Module) -> OverGrown:
    grown = over_grown(module, images(), new=2)
    randomise_candidates(grown)
    with torch.no_grad():  # large: what one batch norm says then matters to the next
        grown.candidates.new_eps.fill_(2.0)
    return grown


SEARCHED = BATCHES[:1]
"""Of two batches the first is searched on: statistics are of it. The second scores."""


def seen(
    module: nn.Module, path: str, batches: list[tuple[Tensor, Tensor]] = BATCHES
) -> tuple[Tensor, Tensor]:
    """Mean and variance, over all batches, of what reaches one submodule."""
    inputs: list[Tensor] = []
    part = module.get_submodule(path)
    handle = part.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().clone()))
    for x, _ in batches:
        module(x)
    handle.remove()
    pooled = torch.cat(inputs).transpose(0, 1).flatten(1)
    return pooled.mean(1), pooled.var(1)


def carriers(grown: OverGrown) -> list[str]:
    norms = [n.target for n in new_channel_norms(grown) if n.op == "call_module"]
    assert norms
    return [str(target) for target in norms]


@pytest.mark.parametrize("preserving", [False, True])
def test_estimate_is_what_fresh_channels_see(preserving: bool) -> None:
    """Also where a batch norm depends on earlier ones, in its lane and by way of the base."""
    grown = searched(randomised(Inverted()))
    estimate_statistics(grown, OBJECTIVE, preserving)
    assert len(carriers(grown)) == 3
    for path in carriers(grown):
        mean, var = seen(grown.graph_module, path)
        norm = grown.graph_module.get_submodule(path)
        torch.testing.assert_close((norm.running_mean, norm.running_var), (mean, var))


def test_preserving_leaves_the_function_alone() -> None:
    grown = searched(randomised(Inverted()))
    before = grown.graph_module(images())
    estimate_statistics(grown, OBJECTIVE, preserving=True)
    torch.testing.assert_close(grown.graph_module(images()), before, rtol=1e-12, atol=1e-12)
    estimate_statistics(grown, OBJECTIVE)
    assert (
        grown.graph_module(images()) - before
    ).abs().max() < 1e-12  # the statistics are right already
    for norm in new_channel_norms(grown).values():
        norm.move(norm.running_mean + 1, norm.running_var * 2)
    estimate_statistics(grown, OBJECTIVE)
    torch.testing.assert_close(grown.graph_module(images()), before, rtol=1e-12, atol=1e-12)


def test_moments_are_those_of_all_batches_together() -> None:
    parts = [images(2, 1), images(5, 2)]
    pooled = torch.cat(parts).transpose(0, 1).flatten(1)
    torch.testing.assert_close(moments(parts), (pooled.mean(1), pooled.var(1)))
    torch.testing.assert_close(
        moments([p.float() + 1e4 for p in parts])[1], pooled.var(1), rtol=1e-2, atol=0
    )


def test_rebase_needs_weight_and_bias() -> None:
    norm = BatchNormState(torch.zeros(2), torch.ones(2), None, None, 1e-5)
    norm.rebase(torch.ones(2), torch.ones(2))
    assert norm.running_mean.tolist() == [0, 0]


def test_batch_norm_as_a_function() -> None:
    """Exported graphs call batch norm as a function whose tensors are nodes."""
    captured = exported_capture(network("chain").requires_grad_(False), (images(),))
    coupling = couple(captured)
    numbers = {n: 2 for n, width in enumerate(coupling.widths) if width.growable}
    grown = overgrow(captured, coupling, numbers, numbers, torch.Generator().manual_seed(0))
    randomise_candidates(grown)
    found = new_channel_norms(grown)
    assert found and all(node.target in _BATCH_NORM_FUNCTIONS for node in found)
    before = grown.graph_module(images())
    estimate_statistics(
        grown, Objective([(images(), torch.tensor([0, 1, 0]))], F.cross_entropy), preserving=True
    )
    torch.testing.assert_close(grown.graph_module(images()), before, rtol=1e-12, atol=1e-12)
    assert all((norm.running_mean.abs() > 1e-3).all() for norm in found.values())


@pytest.mark.parametrize(
    "method", [Firefly(split=False, new=2, steps=4), RandomGrowth(split=False, new=2)]
)
def test_grown_model_has_the_statistics_of_its_own_inputs(method: object) -> None:
    module = randomised(Inverted())
    growth = fxgrow.grow(
        module,
        BATCHES,
        F.cross_entropy,
        example_inputs=(images(),),
        method=method,
        budget=Budget(neurons=4),
    )  # type: ignore[arg-type]
    new = 0
    with evaluation_mode(growth.module):
        for path, norm in growth.module.named_modules():
            if isinstance(norm, _BatchNorm):
                old = len(module.get_submodule(path).weight)  # type: ignore[arg-type]
                mean, var = seen(growth.module, path, SEARCHED)
                new += len(norm.running_mean[old:])  # type: ignore[index]
                torch.testing.assert_close(norm.running_mean[old:], mean[old:])
                torch.testing.assert_close(norm.running_var[old:], var[old:])
    assert new >= 4 and growth.report.jump is not None


def test_gap_takes_the_batches_own_statistics() -> None:
    module = network("chain")
    state = copy.deepcopy(module.state_dict())
    running = OBJECTIVE.mean(module)
    found = batch_statistics_gap(module, OBJECTIVE, running)
    torch.testing.assert_close(module.state_dict(), state, rtol=0, atol=0)
    assert not any(part.training for part in module.modules())
    module[1].train()  # type: ignore[index]
    assert found == pytest.approx(OBJECTIVE.mean(module) - running, rel=1e-12)
    assert abs(found) > 1e-3


def test_no_gap() -> None:
    assert batch_statistics_gap(network("block"), OBJECTIVE, 0.0) is None
    assert (
        batch_statistics_gap(
            network("chain"), Objective([(images(1), torch.tensor([0]))], F.cross_entropy), 0.0
        )
        is None
    )


def test_capture_is_left_alone() -> None:
    """The batch norms of the base keep their statistics: they are the model's own."""
    module = randomised(Inverted())
    before = copy.deepcopy(module.state_dict())
    estimate_statistics(searched(module), OBJECTIVE)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    assert capture(module, (images(),)).model is module


NEW_NEURONS = {
    "method": Firefly(split=False, new=2, steps=2, refine_steps=1),
    "budget": Budget(neurons=2),
}


def test_statistics_of_the_whole_model_are_what_it_sees() -> None:
    """Every batch norm, those behind others too; in evaluation mode, as the search uses them."""
    module = randomised(Inverted()).eval()
    refresh_statistics(capture(module, (images(),)).graph_module, OBJECTIVE)
    for path in ("norm1", "norm2", "norm3"):
        mean, var = seen(module, path)
        norm = module.get_submodule(path)
        torch.testing.assert_close((norm.running_mean, norm.running_var), (mean, var))


def test_growth_starts_from_statistics_of_the_growth_batches() -> None:
    """The losses that are reported, and what is grown, are of the model with the new statistics."""
    module = randomised(Inverted()).eval()
    before = copy.deepcopy(module.state_dict())
    scoring = Objective(BATCHES[1:], F.cross_entropy)
    stale = scoring.mean(module)
    growth = fxgrow.grow(module, BATCHES, F.cross_entropy, **NEW_NEURONS)  # type: ignore[arg-type]
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    searched_on = Objective(SEARCHED, F.cross_entropy)
    refresh_statistics(capture(module, (images(),)).graph_module, searched_on)
    assert growth.report.stale_loss == pytest.approx(stale, rel=1e-12)
    assert growth.report.loss_before == pytest.approx(scoring.mean(module), rel=1e-12)
    assert abs(growth.report.loss_before - stale) > 1e-3
    for path in ("norm1", "norm2", "norm3"):
        old, new = module.get_submodule(path), growth.module.get_submodule(path)
        torch.testing.assert_close(new.running_mean[: len(old.weight)], old.running_mean)  # type: ignore[index, arg-type]


def test_statistics_stay_if_they_are_told_to() -> None:
    module = randomised(Inverted()).eval()
    growth = fxgrow.grow(
        module,
        BATCHES,
        F.cross_entropy,
        refresh_statistics=False,
        **NEW_NEURONS,  # type: ignore[arg-type]
    )
    assert growth.report.stale_loss is None
    before = Objective(BATCHES[1:], F.cross_entropy).mean(module)
    assert growth.report.loss_before == pytest.approx(before, rel=1e-12)
    assert torch.equal(growth.module.norm3.running_mean[:4], module.norm3.running_mean[:4])


def test_frozen_batch_norms_keep_their_statistics() -> None:
    """One is in evaluation mode in a model that learns, one has a weight that does not learn."""
    module = randomised(Inverted()).train()
    module.norm1.eval()
    module.norm2.weight.requires_grad_(False)
    growth = fxgrow.grow(module, BATCHES, F.cross_entropy, grow_frozen=True, **NEW_NEURONS)  # type: ignore[arg-type]
    assert frozen_statistics(module) == {
        id(module.norm1.running_mean),
        id(module.norm2.running_mean),
    }
    for path, stays in (("norm1", True), ("norm2", True), ("norm3", False)):
        old, new = (
            module.get_submodule(path).running_mean,
            growth.module.get_submodule(path).running_mean,
        )
        assert torch.equal(new[: len(old)], old) == stays  # type: ignore[index, arg-type]


class Wrapped(nn.Module):
    """A part that a graph shows as one node, with a batch norm in it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.part = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.part(self.first(x)).mean((2, 3)))


class KeepsParts(torch.fx.Tracer):
    """Leaves ``part`` whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == "part" or super().is_leaf_module(m, module_qualified_name)


def test_batch_norms_inside_opaque_parts_follow_too() -> None:
    module = randomised(Wrapped()).eval()
    norm = module.part[1]
    kept = norm.running_mean.detach()  # the old data, as whoever undoes a growth keeps it
    stale = kept.clone()
    graph_module = torch.fx.GraphModule(module, KeepsParts().trace(module))
    assert has_statistics(graph_module)
    refresh_statistics(graph_module, OBJECTIVE)
    mean, _ = seen(module, "part.1")  # of batches of one size, the mean of means is the mean
    torch.testing.assert_close(norm.running_mean, mean)
    assert torch.equal(kept, stale) and not torch.equal(norm.running_mean, stale)
    assert not norm.training and norm.momentum == 0.1
    assert int(norm.num_batches_tracked) == len(BATCHES)


class Twice(nn.Module):
    """One batch norm that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.norm(x).square()).mean((2, 3)))


def test_of_several_calls_the_mean_counts() -> None:
    module = randomised(Twice()).eval()
    refresh_statistics(torch.fx.symbolic_trace(module), OBJECTIVE)
    mean, var = moments([x for x, _ in BATCHES])
    weight, bias = module.norm.weight, module.norm.bias
    second = [F.batch_norm(x, mean, var, weight, bias).square() for x, _ in BATCHES]
    expected = torch.stack([mean, moments(second)[0]]).mean(0)
    torch.testing.assert_close(module.norm.running_mean, expected)


def test_statistics_come_back_when_a_growth_in_place_fails() -> None:
    module = randomised(Inverted()).eval()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(fxgrow.FxgrowError):
        fxgrow.grow(module, BATCHES, F.cross_entropy, budget=Budget(neurons=0.001), inplace=True)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
