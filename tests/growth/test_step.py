"""One growth step as a user calls it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly, RandomGrowth
from fxgrow.errors import BudgetError, DataError, GrowthError, SpecError
from fxgrow.growth import StepOptions, grow_step
from fxgrow.growth.invariants import full_precision, require_close
from tests.networks import NETWORKS, images, network

Batches = list[tuple[Tensor, Tensor]]


def batches(count: int = 2) -> Batches:
    labels = torch.Generator().manual_seed(3)
    return [(images(8, seed), torch.randint(0, 2, (8,), generator=labels)) for seed in range(count)]


def grown(module: nn.Module, **options: object) -> fxgrow.Growth:
    settings = {"method": Firefly(new=2, steps=4), "budget": Budget(neurons=3)} | options
    return fxgrow.grow(module, batches(), F.cross_entropy, example_inputs=(images(),), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETWORKS)
def test_promises(name: str) -> None:
    module = network(name)
    before = copy.deepcopy(module.state_dict())
    # The labels are random, so what is found on one batch need not help on another.
    growth = grown(module, accept_no_gain=True)
    report = growth.report
    assert report.loss_after <= report.loss_before
    assert report.faithful_error < 1e-12 and report.preservation_error < 1e-12
    assert type(growth.module) is type(module)
    assert (
        sum(w.after - w.before for w in report.widths)
        == 3
        == sum(w.split + w.new for w in report.widths)
    )
    assert report.multiply_adds_overgrown > report.multiply_adds_after
    assert (
        report.params_after
        == sum(p.numel() for p in growth.module.parameters())
        > report.params_before
    )
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


def test_grown_module_trains_and_keeps_its_flags() -> None:
    module = network("residual").train()
    module.stem.weight.requires_grad_(False)
    growth = grown(module)
    assert growth.module.training and not growth.module.stem.weight.requires_grad
    loss = F.cross_entropy(growth.module(images()), torch.tensor([0, 1, 0]))
    loss.backward()
    assert growth.module.stem.weight.grad is None and growth.module.head.weight.grad is not None
    assert module.stem.weight.requires_grad is False and module.head.weight.requires_grad


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_optimizer_comes_along(kind: type[torch.optim.Optimizer]) -> None:
    module = network("chain").train()
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(module.parameters(), lr=0.01, **options)
    F.cross_entropy(module(images()), torch.tensor([0, 1, 0])).backward()
    optimizer.step()
    growth = grown(module, optimizer=optimizer)
    assert growth.optimizer is not None and growth.optimizer is not optimizer
    owned = {id(p) for group in growth.optimizer.param_groups for p in group["params"]}
    assert owned == {id(p) for p in growth.module.parameters()}
    for parameter, state in growth.optimizer.state.items():
        assert all(
            v.shape == parameter.shape for v in state.values() if isinstance(v, Tensor) and v.dim()
        )
    F.cross_entropy(growth.module(images()), torch.tensor([0, 1, 0])).backward()
    growth.optimizer.step()


def test_history_and_lineage() -> None:
    first = grown(network("chain"))
    second = grown(first.module, history=first.spec.history)
    assert [step.method.name for step in second.spec.history] == ["Firefly", "Firefly"]
    assert second.spec.history[1].parent == first.spec.fingerprint != second.spec.fingerprint
    assert second.spec.history[0] == first.spec.history[0]


def test_same_seed_same_growth() -> None:
    one, two = grown(network("gate"), seed=7), grown(network("gate"), seed=7)
    assert one.spec == two.spec
    torch.testing.assert_close(one.module.state_dict(), two.module.state_dict(), rtol=0, atol=0)


def test_random_growth_never_raises_the_loss() -> None:
    report = grown(network("chain"), method=RandomGrowth(new=2, eps=3.0)).report
    assert report.loss_after <= report.loss_before and report.backtracks > 0


def test_save_and_load(tmp_path: object) -> None:
    growth = grown(network("dense"))
    fxgrow.save(growth, f"{tmp_path}/grown")
    loaded = fxgrow.load(f"{tmp_path}/grown")
    assert torch.equal(loaded(images()), growth.module(images()))
    assert [step.method.name for step in grown(loaded).spec.history] == ["Firefly", "Firefly"]


def test_graph_dumps_name_lanes_and_widths() -> None:
    graphs = grown(network("chain")).graphs
    assert "# path 0 new" in graphs["overgrown"] and "minus" in graphs["overgrown"]
    assert "fxgrow" not in graphs["emitted"]


class Normalised(nn.Module):
    """Nothing in it can grow."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x.mean((1, 2))).softmax(-1))


def test_bad_requests() -> None:
    with pytest.raises(GrowthError, match=r"no width of the model can grow .*normalised"):
        grown(Normalised().double())
    with pytest.raises(DataError, match="no growth batches"):
        fxgrow.grow(network("chain"), [], F.cross_entropy, example_inputs=(images(),))
    with pytest.raises(BudgetError):
        grown(network("chain"), budget=Budget(neurons=0.01))
    broken = network("chain")
    torch.nn.init.constant_(broken[0].weight, float("nan"))  # type: ignore[index]
    with pytest.raises(GrowthError, match="loss on the growth batches is nan"):
        grown(broken)


def test_without_a_description_the_growth_is_the_same() -> None:
    options = {
        "method": Firefly(new=2, steps=4),
        "budget": Budget(neurons=3),
    }
    plain, bare = (
        grow_step(
            network("residual"),
            batches(),
            F.cross_entropy,
            options=StepOptions(describe=describe),
            **options,
        )  # type: ignore[arg-type]
        for describe in (True, False)
    )
    assert bare.report.widths == plain.report.widths
    assert plain.report.multiply_adds_after and bare.report.multiply_adds_after is None
    assert "not asked for" in bare.report.costs_unknown and not plain.report.costs_unknown
    torch.testing.assert_close(bare.module.state_dict(), plain.module.state_dict(), rtol=0, atol=0)
    with pytest.raises(SpecError, match="leave out describe=False") as error:
        _ = bare.spec
    assert error.value.code == "not-described"


def test_broken_promise_is_an_error() -> None:
    with pytest.raises(GrowthError, match="not faithful"):
        require_close("faithful", torch.tensor([1.0, 1.1]), torch.tensor([1.0, 1.0]))
    assert (
        require_close("faithful", torch.tensor([1.0, 1.0 + 1e-6]), torch.tensor([1.0, 1.0])) < 2e-6
    )


def test_only_what_was_asked_for_grows() -> None:
    module = network("residual")
    growth = grown(module, only=["a1", "b1"])
    assert {change.width for change in growth.report.widths} <= {"a1", "b1"}
    assert growth.report.refusals["stem"].code == "ignored"
    assert growth.spec.widths[0].growable, "the grown model may grow anywhere next time"
    assert "a1" not in {change.width for change in grown(module, ignore=["a1"]).report.widths}


def test_layers_beside_chosen_widths() -> None:
    growth = grown(
        network("residual"),
        method=Firefly(new=2, steps=4, layers=2),
        budget=Budget(neurons=8),
        only=["a1"],
    )
    assert {change.width for change in growth.report.widths} == {"a1"}
    assert growth.report.layers


def test_promises_are_checked_in_full_precision_and_the_switches_come_back() -> None:
    cudnn: Any = torch.backends.cudnn
    switches: tuple[Any, ...] = torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
    before = [one.fp32_precision for one in switches]
    with full_precision():
        assert [one.fp32_precision for one in switches] == ["ieee"] * 3
    assert [one.fp32_precision for one in switches] == before
    assert torch.backends.cudnn.allow_tf32, "the older switch can be read again"


def frozen_backbone() -> Any:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU())
    head = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 3))
    return nn.Sequential(backbone.requires_grad_(False), head)


def test_widths_of_frozen_parameters_are_left_alone() -> None:
    """Those that they write and those that they read; carriers of a width do not count."""
    model = frozen_backbone()
    data = [(torch.randn(8, 5), torch.randint(3, (8,)))]
    budget = fxgrow.Budget(neurons=0.5)
    growth = fxgrow.grow(model, data, F.cross_entropy, budget=budget)
    assert {change.width for change in growth.report.widths} == {"1.0"}
    refusals = growth.report.refusals
    assert refusals["0.0"].code == refusals["0.2"].code == "frozen"
    assert "grow_frozen=True" in refusals["0.0"].reason
    for old, new in zip(model[0].parameters(), growth.module[0].parameters(), strict=True):
        assert torch.equal(old, new) and not new.requires_grad


def test_frozen_widths_grow_when_asked() -> None:
    model = frozen_backbone()
    data = [(torch.randn(8, 5), torch.randint(3, (8,)))]
    growth = fxgrow.grow(model, data, F.cross_entropy, only=["0.*"], grow_frozen=True)
    assert {change.width for change in growth.report.widths} <= {"0.0", "0.2"}
    assert growth.report.widths and not growth.module[0][0].weight.requires_grad
    assert fxgrow.widen(model, {"0.0": 1}, torch.randn(8, 5)).module[0][0].out_features == 7


def test_a_model_that_is_frozen_as_a_whole_is_refused() -> None:
    model = frozen_backbone().requires_grad_(False)
    data = [(torch.randn(8, 5), torch.randint(3, (8,)))]
    with pytest.raises(GrowthError, match="grow_frozen=True") as error:
        fxgrow.grow(model, data, F.cross_entropy)
    assert error.value.code == "nothing-growable"


def test_a_new_layer_beside_frozen_parameters_learns() -> None:
    model = frozen_backbone()
    data = [(torch.randn(8, 5), torch.randint(3, (8,)))]
    method = fxgrow.Firefly(new=0, split=False, layers=3, steps=2)
    budget = fxgrow.Budget(neurons=3, layers=1)
    growth = fxgrow.grow(model, data, F.cross_entropy, method=method, budget=budget)
    new = dict(growth.module.named_parameters()).keys() - dict(model.named_parameters()).keys()
    assert new and all(growth.module.get_parameter(name).requires_grad for name in new)
